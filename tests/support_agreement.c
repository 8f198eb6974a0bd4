/* See support_agreement.h. */
#include "support_agreement.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support_network.h"

/*
 * |got - reference| / |reference|, in the 2-norm over the array (PIXEL: the worst element's, relative to 1 and more).
 *
 * f32: rounding of sums of up to 10,000 terms in two different orders is some 1e-6; batch-norm's gradients subtract
 * means of nearly the size of the sums, which costs a digit. Convolutions may be computed by Winograd's algorithm, which
 * loses another. tf32 has 11 significant bits, which the tensor cores may cut off rather than round: two factors that
 * are off by up to 2^-10 each leave some 6e-4 of a sum of products. A value stored in bf16 is off by at most 2^-8, by
 * 1.6e-3 in the 2-norm; the second rounding of a chain adds to that. A convolution in f32 that secretly ran in tf32
 * would be off by 3e-4, and in bf16 with its sums in bf16 by more than 1e-2.
 */
static const double tolerances[RDP_AGREEMENTS][3] = {
    /*                          f32    tf32   bf16 */
    [RDP_AGREE_EXACT] = {0, 0, 0},
    [RDP_AGREE_F32] = {2e-5, 2e-5, 2e-5},
    [RDP_AGREE_SUM] = {2e-5, 2e-5, 4e-3},
    [RDP_AGREE_STORED] = {1e-5, 1e-5, 4e-3},
    [RDP_AGREE_CHAIN] = {2e-5, 2e-5, 8e-3},
    [RDP_AGREE_CONVOLUTION] = {5e-5, 2e-3, 4e-3},
    [RDP_AGREE_PIXEL] = {1e-6, 1e-6, 0x1.01p-8},
};

double rdp_agreement_tolerance(enum rdp_agreement agreement, enum rdp_kernel_precision precision)
{
    return tolerances[agreement][precision];
}

float *rdp_results_add(struct rdp_results *results, const char *name, enum rdp_agreement agreement, size_t count)
{
    assert_true(results->count < (int)(sizeof results->result / sizeof *results->result));
    const int i = results->count++;
    results->result[i].name = name;
    results->result[i].agreement = agreement;
    results->result[i].count = count;
    results->result[i].values = calloc(count, sizeof(float));
    assert_non_null(results->result[i].values);
    return results->result[i].values;
}

float *rdp_results_input(const struct rdp_results *results, size_t count, uint32_t stream, float scale)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++) {
        values[i] = scale * (float)rdp_test_value(stream, i);
        if (results->bf16_inputs)
            values[i] = rdp_bf16_value(rdp_bf16_bits(values[i]));
    }
    return values;
}

static double error_of(enum rdp_agreement agreement, const float *got, const float *want, size_t count)
{
    double worst = 0;
    if (agreement != RDP_AGREE_PIXEL)
        return rdp_test_distance(got, want, count);
    for (size_t i = 0; i < count; i++) {
        const double error = fabs((double)got[i] - (double)want[i]) / fmax(1, fabs((double)want[i]));
        worst = error <= worst ? worst : error; /* a NaN stays */
    }
    return worst;
}

static void compare(const struct rdp_case *cases, const int *arguments, struct rdp_device *device,
                    const struct rdp_results *got, const struct rdp_results *want, struct rdp_agreement_worst *worst)
{
    char text[128] = "";
    for (int i = 0, used = 0; i < RDP_CASE_ARGUMENTS && used < (int)sizeof text; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%d", i == 0 ? "" : ",", arguments[i]);
    assert_int_equal(got->count, want->count);
    for (int i = 0; i < got->count; i++) {
        const enum rdp_agreement agreement = got->result[i].agreement;
        const double tolerance = tolerances[agreement][device->config.precision];
        assert_int_equal(got->result[i].count, want->result[i].count);
        const double error = error_of(agreement, got->result[i].values, want->result[i].values, want->result[i].count);
        if (!(error <= tolerance))
            fail_msg("%s (%s = %s): %s is off by %.2e, tolerance %.1e, on %s", cases->operation, cases->arguments_text,
                     text, got->result[i].name, error, tolerance, device->description);
        worst->error[agreement] = fmax(worst->error[agreement], error);
    }
}

static void free_results(struct rdp_results *results)
{
    for (int i = 0; i < results->count; i++)
        free(results->result[i].values);
}

void rdp_agreement_check(const struct rdp_case *cases, struct rdp_device *reference, struct rdp_device *device,
                         struct rdp_agreement_worst *worst)
{
    const bool bf16 = device->config.precision == RDP_KERNEL_BF16;
    for (int i = 0; i < cases->count; i++) {
        struct rdp_results want = {.bf16_inputs = bf16}, got = {.bf16_inputs = bf16};
        cases->run(reference, cases->arguments[i], &want);
        cases->run(device, cases->arguments[i], &got);
        compare(cases, cases->arguments[i], device, &got, &want, worst);
        free_results(&want);
        free_results(&got);
    }
}
