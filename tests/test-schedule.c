/* Learning rates: every step of four schedules against torch.optim.lr_scheduler (tests/reference/schedules.ref), and
 * what PyTorch has no word for: scaling with the batch, step schedules in fractions of epochs. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/status.h"
#include "schedule.h"
#include "support_reference.h"

static struct rdp_reference reference;

static int read_reference(void **unused)
{
    char path[4096];
    const char *source = getenv("SOURCE_DIR");
    (void)unused;
    snprintf(path, sizeof path, "%s/tests/reference/schedules.ref", source != NULL ? source : ".");
    if (rdp_reference_read(path, &reference) == RDP_OK)
        return 0;
    rdp_fail_print();
    return 1;
}

static int free_reference(void **unused)
{
    (void)unused;
    rdp_reference_free(&reference);
    return 0;
}

/* The reference holds floats: an exact rate is off by half a unit in their last place. */
static void check_all(const char *name, const struct rdp_options *options, int64_t steps_per_epoch)
{
    size_t count;
    const float *expected = rdp_reference_array(&reference, name, &count);
    assert_non_null(expected);
    for (size_t step = 0; step < count; step++) {
        double rate = rdp_schedule_lr(options, steps_per_epoch, (int64_t)count, (int64_t)step);
        if (!(fabs(rate - (double)expected[step]) <= 1e-7 * (double)expected[step] + 1e-12))
            fail_msg("%s, step %zu: %.9g, PyTorch has %.9g", name, step, rate, (double)expected[step]);
    }
}

static struct rdp_options options_of(enum rdp_schedule_kind schedule, double lr)
{
    struct rdp_options options;
    rdp_options_default(&options);
    options.schedule = schedule;
    options.lr = lr;
    return options;
}

static void test_onecycle(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_ONECYCLE, 0.2);
    (void)unused;
    options.onecycle_peak = 0.3;
    options.onecycle_start_div = 25;
    options.onecycle_final_div = 1e4;
    check_all("onecycle", &options, 39);
}

static void test_cosine(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_COSINE, 0.1);
    (void)unused;
    check_all("cosine", &options, 30);
    options.warmup_epochs = 2; /* of 10 steps each */
    check_all("warmup_cosine", &options, 10);
}

static void test_step(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_STEP, 0.1);
    (void)unused;
    options.step_gamma = 0.1;
    options.step_epochs = 3; /* of 10 steps each: StepLR(30) */
    check_all("step", &options, 10);
    options.step_epochs = 0.5;
    options.step_gamma = 0.5;
    assert_true(fabs(rdp_schedule_lr(&options, 10, 100, 4) - 0.1) < 1e-15);
    assert_true(fabs(rdp_schedule_lr(&options, 10, 100, 5) - 0.05) < 1e-15);
    assert_true(fabs(rdp_schedule_lr(&options, 10, 100, 99) - 0.1 * pow(0.5, 19)) < 1e-15);
}

static void test_constant(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_CONSTANT, 0.3);
    (void)unused;
    for (int step = 0; step < 50; step++)
        assert_true(rdp_schedule_lr(&options, 10, 50, step) == 0.3);
    options.warmup_epochs = 0.5;
    for (int step = 0; step < 5; step++)
        assert_true(fabs(rdp_schedule_lr(&options, 10, 50, step) - 0.3 * (step + 1) / 5) < 1e-15);
    assert_true(rdp_schedule_lr(&options, 10, 50, 5) == 0.3);
}

static void test_scaling(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_CONSTANT, 0.1);
    (void)unused;
    options.batch = 1024;
    options.lr_base_batch = 256;
    options.lr_scaling = RDP_LR_SCALING_NONE;
    assert_true(rdp_schedule_base_lr(&options) == 0.1);
    options.lr_scaling = RDP_LR_SCALING_LINEAR;
    assert_true(fabs(rdp_schedule_base_lr(&options) - 0.4) < 1e-15);
    assert_true(fabs(rdp_schedule_lr(&options, 10, 100, 7) - 0.4) < 1e-15);
    options.lr_scaling = RDP_LR_SCALING_SQRT;
    assert_true(fabs(rdp_schedule_base_lr(&options) - 0.2) < 1e-15);
    options.batch = 64;
    assert_true(fabs(rdp_schedule_base_lr(&options) - 0.05) < 1e-15);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_onecycle), cmocka_unit_test(test_cosine),  cmocka_unit_test(test_step),
        cmocka_unit_test(test_constant), cmocka_unit_test(test_scaling),
    };
    return cmocka_run_group_tests(tests, read_reference, free_reference);
}
