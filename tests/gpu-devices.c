/*
 * The devices agree: the CUDA device in f32, tf32 and bf16 against the CPU device in f32, by the cases and tolerances of
 * support_agreement.h; and with statistics fused into convolutions against itself without. Exit 77 without a GPU.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "support_agreement.h"

static const struct rdp_case *const all_cases[] = {
    &rdp_convolution_cases, &rdp_batch_norm_cases, &rdp_augment_cases, &rdp_pad_cases,
    &rdp_max_pool_cases,    &rdp_pool_cases,       &rdp_fc_cases,      &rdp_loss_cases,
    &rdp_flat_cases,        &rdp_dropout_cases,    &rdp_mix_cases,
};

/* One test per operation and precision: where one fails, the others still run. */
struct agreement {
    enum rdp_kernel_precision precision;
    size_t operation;
};

static void test_agreement(void **state)
{
    const struct agreement *agreement = *state;
    struct rdp_agreement_worst worst = {{0}};
    struct rdp_device *device = rdp_open_cuda(agreement->precision);
    if (device == NULL) /* there is a GPU, but without this precision */
        skip();
    struct rdp_device *reference = rdp_open_cpu(RDP_KERNEL_F32, RDP_ALGORITHM_DIRECT);
    rdp_agreement_check(all_cases[agreement->operation], reference, device, &worst);
    rdp_device_close(reference);
    rdp_device_close(device);
    print_message("worst error: stored %.1e, chains %.1e, convolutions %.1e, sums %.1e, f32 %.1e\n",
                  worst.error[RDP_AGREE_STORED], worst.error[RDP_AGREE_CHAIN], worst.error[RDP_AGREE_CONVOLUTION],
                  worst.error[RDP_AGREE_SUM], worst.error[RDP_AGREE_F32]);
}

static void test_fused(void **unused)
{
    (void)unused;
    struct rdp_agreement_worst worst = {{0}};
    struct rdp_device *fused = rdp_open_cuda_fused();
    if (fused == NULL)
        skip();
    struct rdp_device *separate = rdp_open_cuda(RDP_KERNEL_BF16);
    rdp_agreement_check(&rdp_fused_cases, separate, fused, &worst);
    rdp_device_close(separate);
    rdp_device_close(fused);
    print_message("worst error: chains %.1e, convolutions %.1e, sums %.1e\n", worst.error[RDP_AGREE_CHAIN],
                  worst.error[RDP_AGREE_CONVOLUTION], worst.error[RDP_AGREE_SUM]);
}

int main(void)
{
    enum { PRECISIONS = 3, OPERATIONS = sizeof all_cases / sizeof *all_cases };
    static const char *const precision_names[PRECISIONS] = {"f32", "tf32", "bf16"};
    static struct agreement agreements[PRECISIONS * OPERATIONS];
    static char names[PRECISIONS * OPERATIONS][64];
    struct CMUnitTest tests[PRECISIONS * OPERATIONS + 1] = {{0}};
    char why[256];
    if (rdp_cuda_device_count(why, sizeof why) == 0) {
        print_message("skipped: %s\n", why);
        return 77;
    }
    for (int i = 0; i < PRECISIONS * OPERATIONS; i++) {
        agreements[i] = (struct agreement){(enum rdp_kernel_precision)(i / OPERATIONS), (size_t)(i % OPERATIONS)};
        snprintf(names[i], sizeof names[i], "%s, %s", all_cases[i % OPERATIONS]->operation,
                 precision_names[i / OPERATIONS]);
        tests[i] = (struct CMUnitTest){.name = names[i], .test_func = test_agreement, .initial_state = &agreements[i]};
    }
    tests[PRECISIONS * OPERATIONS] = (struct CMUnitTest){.name = "fused, bf16", .test_func = test_fused};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
