/*
 * The devices agree: support_agreement.h's cases, here between forms of the CPU device, which every machine has: chosen
 * (Winograd) against direct convolutions in f32, and bf16 against f32. gpu-devices.c does the same with CUDA.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "support_agreement.h"

static const struct rdp_case *const all_cases[] = {
    &rdp_convolution_cases, &rdp_batch_norm_cases, &rdp_augment_cases, &rdp_pad_cases,
    &rdp_max_pool_cases,    &rdp_pool_cases,       &rdp_fc_cases,      &rdp_loss_cases,
    &rdp_flat_cases,        &rdp_dropout_cases,    &rdp_mix_cases,
};

static struct rdp_agreement_worst check_all(enum rdp_kernel_precision precision, enum rdp_kernel_algorithm algorithm)
{
    struct rdp_agreement_worst worst = {{0}};
    struct rdp_device *reference = rdp_open_cpu(RDP_KERNEL_F32, RDP_ALGORITHM_DIRECT),
                      *device = rdp_open_cpu(precision, algorithm);
    if (device == NULL) {
        rdp_device_close(reference);
        skip();
    }
    for (size_t i = 0; i < sizeof all_cases / sizeof *all_cases; i++)
        rdp_agreement_check(all_cases[i], reference, device, &worst);
    rdp_device_close(reference);
    rdp_device_close(device);
    return worst;
}

static void test_f32(void **unused)
{
    (void)unused;
    const struct rdp_agreement_worst worst = check_all(RDP_KERNEL_F32, RDP_ALGORITHM_AUTO);
    print_message("f32: convolutions within %.1e\n", worst.error[RDP_AGREE_CONVOLUTION]);
}

/* bf16 agrees within its own tolerances, and would not within f32's: the measure tells them apart. */
static void test_bf16(void **unused)
{
    static const enum rdp_agreement rounded[] = {RDP_AGREE_STORED, RDP_AGREE_CHAIN, RDP_AGREE_CONVOLUTION,
                                                 RDP_AGREE_PIXEL};
    (void)unused;
    const struct rdp_agreement_worst worst = check_all(RDP_KERNEL_BF16, RDP_ALGORITHM_AUTO);
    for (size_t i = 0; i < sizeof rounded / sizeof *rounded; i++)
        assert_true(worst.error[rounded[i]] > 10 * rdp_agreement_tolerance(rounded[i], RDP_KERNEL_F32));
    print_message("bf16: stored within %.1e, chains %.1e, convolutions %.1e, sums %.1e, f32 %.1e\n",
                  worst.error[RDP_AGREE_STORED], worst.error[RDP_AGREE_CHAIN], worst.error[RDP_AGREE_CONVOLUTION],
                  worst.error[RDP_AGREE_SUM], worst.error[RDP_AGREE_F32]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
