/* Learning rates: every step of every schedule, alone and behind a warm-up, against torch.optim.lr_scheduler
 * (tests/reference/schedules.ref), and what PyTorch has no word for: scaling with the batch, reductions at fractions of
 * epochs, plateau on top of a warm-up, a run that is stopped at any step. */
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
#include "snapshot.h"
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

typedef double (*schedule_function)(const struct rdp_options *options, int64_t steps_per_epoch, int64_t total_steps,
                                    int64_t step);

/* The reference holds floats: an exact rate is off by half a unit in their last place. */
static void check_schedule(const char *name, schedule_function value, const struct rdp_options *options,
                           int64_t steps_per_epoch)
{
    size_t count;
    const float *expected = rdp_reference_array(&reference, name, &count);
    assert_non_null(expected);
    for (size_t step = 0; step < count; step++) {
        double rate = value(options, steps_per_epoch, (int64_t)count, (int64_t)step);
        if (!(fabs(rate - (double)expected[step]) <= 1e-7 * (double)expected[step] + 1e-12))
            fail_msg("%s, step %zu: %.9g, PyTorch has %.9g", name, step, rate, (double)expected[step]);
    }
}

static void check_all(const char *name, const struct rdp_options *options, int64_t steps_per_epoch)
{
    check_schedule(name, rdp_schedule_lr, options, steps_per_epoch);
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
    struct rdp_options options = options_of(RDP_SCHEDULE_ONECYCLE, 0.2), linear = options;
    (void)unused;
    options.onecycle_peak = 0.3;
    options.onecycle_start_div = 25;
    options.onecycle_final_div = 1e4;
    check_all("onecycle", &options, 39);
    options.warmup_epochs = 0.7; /* of 10 steps: 7 */
    check_all("warmup_onecycle", &options, 10);
    linear.onecycle_anneal = RDP_ANNEAL_LINEAR;
    linear.onecycle_peak = 0.25; /* of 391 steps: the peak is between two */
    linear.onecycle_start_div = 10;
    linear.onecycle_final_div = 100;
    check_all("onecycle_linear", &linear, 17);
}

static void test_onecycle_momentum(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_ONECYCLE, 0.2);
    (void)unused;
    assert_true(isnan(rdp_schedule_momentum(&options, 39, 390, 0)));
    options.onecycle_momentum = (struct rdp_real_list){2, {0.85, 0.95}};
    check_schedule("momentum", rdp_schedule_momentum, &options, 39);
    options.warmup_epochs = 0.7; /* of 10 steps: 7 */
    check_schedule("warmup_momentum", rdp_schedule_momentum, &options, 10);
    options.warmup_epochs = 0;
    options.onecycle_momentum = (struct rdp_real_list){2, {0.7, 0.9}};
    options.onecycle_anneal = RDP_ANNEAL_LINEAR;
    options.onecycle_peak = 0.25;
    check_schedule("momentum_linear", rdp_schedule_momentum, &options, 17);
    options.schedule = RDP_SCHEDULE_COSINE;
    assert_true(isnan(rdp_schedule_momentum(&options, 39, 390, 0)));
}

/* Where PyTorch divides by zero, or begins behind the peak. */
static void test_short_onecycle(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_ONECYCLE, 0.2);
    (void)unused;
    for (int64_t total = 1; total < 12; total++)
        for (int64_t step = 0; step < total; step++) {
            const double rate = rdp_schedule_lr(&options, 1, total, step);
            assert_true(rate > 0 && rate <= 0.2);
        }
    options.onecycle_peak = 0.5;
    assert_true(rdp_schedule_lr(&options, 1, 2, 0) == 0.2); /* the peak is step 0.5 * 2 - 1 */
}

static void test_cosine(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_COSINE, 0.1);
    (void)unused;
    check_all("cosine", &options, 30);
    options.warmup_epochs = 2; /* of 10 steps each */
    check_all("warmup_cosine", &options, 10);
    options.warmup_epochs = 0;
    options.min_lr = 1e-3;
    check_all("cosine_min", &options, 7);
}

static void test_polynomial(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_POLYNOMIAL, 0.1);
    (void)unused;
    options.polynomial_power = 2;
    check_all("polynomial", &options, 10);
    options.warmup_epochs = 0.7;
    check_all("warmup_polynomial", &options, 10);
    options.warmup_epochs = 0;
    options.polynomial_power = 0.9;
    options.min_lr = 1e-3;
    check_all("polynomial_min", &options, 10);
}

static void test_multistep(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_MULTISTEP, 0.1);
    (void)unused;
    options.step_gamma = 0.2;
    options.milestones = (struct rdp_real_list){3, {2, 4.5, 4.6}};
    check_all("multistep", &options, 10);
    options.step_gamma = 0.1;
    options.milestones = (struct rdp_real_list){2, {2, 4}};
    options.warmup_epochs = 0.7;
    check_all("warmup_multistep", &options, 10);
    options.warmup_epochs = 0;
    options.milestones = (struct rdp_real_list){1, {0.07}}; /* of 100 steps: 7, though 0.07 x 100 is above it */
    assert_true(rdp_schedule_lr(&options, 100, 1000, 6) == 0.1 && rdp_schedule_lr(&options, 100, 1000, 7) < 0.02);
}

static void test_step(void **unused)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_STEP, 0.1);
    (void)unused;
    options.step_gamma = 0.1;
    options.step_epochs = 3; /* of 10 steps each: StepLR(30) */
    check_all("step", &options, 10);
    options.step_epochs = 2;
    options.warmup_epochs = 0.7;
    check_all("warmup_step", &options, 10);
    options.warmup_epochs = 0;
    options.step_epochs = 0.5;
    options.step_gamma = 0.5;
    assert_true(fabs(rdp_schedule_lr(&options, 10, 100, 4) - 0.1) < 1e-15);
    assert_true(fabs(rdp_schedule_lr(&options, 10, 100, 5) - 0.05) < 1e-15);
    assert_true(fabs(rdp_schedule_lr(&options, 10, 100, 99) - 0.1 * pow(0.5, 19)) < 1e-15);
    options.lr = 0.3; /* by steps, whatever the epochs say */
    options.step_steps = 8;
    options.step_gamma = 0.2;
    check_all("step_steps", &options, 10);
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
    options.lr = 0.1;
    options.warmup_epochs = 0.7;
    check_all("warmup_constant", &options, 10);
    options.warmup_epochs = 2.9; /* rounds to all three steps, and yet something is left */
    options.schedule = RDP_SCHEDULE_COSINE;
    for (int64_t step = 0; step < 3; step++)
        assert_true(rdp_schedule_lr(&options, 1, 3, step) > 0);
}

static const struct {
    const char *name;
    double factor, threshold, min_lr;
    int patience, cooldown;
} plateaus[] = {
    {"plateau", 0.5, 1e-2, 1e-3, 2, 3},
    {"plateau_default", 0.1, 1e-4, 0, 10, 0},
    {"plateau_eager", 0.1, 0, 0, 0, 0}, /* down to where a reduction is below 1e-8 */
};

static struct rdp_options plateau_options(size_t index)
{
    struct rdp_options options = options_of(RDP_SCHEDULE_PLATEAU, 0.1);
    options.plateau_factor = plateaus[index].factor;
    options.plateau_threshold = plateaus[index].threshold;
    options.plateau_patience = plateaus[index].patience;
    options.plateau_cooldown = plateaus[index].cooldown;
    options.min_lr = plateaus[index].min_lr;
    return options;
}

static void test_plateau(void **unused)
{
    size_t losses_count, count;
    const float *losses = rdp_reference_array(&reference, "plateau_losses", &losses_count);
    (void)unused;
    assert_non_null(losses);
    for (size_t p = 0; p < sizeof plateaus / sizeof *plateaus; p++) {
        const struct rdp_options options = plateau_options(p);
        const float *expected = rdp_reference_array(&reference, plateaus[p].name, &count);
        struct rdp_standing standing = {.plateau_factor = 1, .plateau_best = INFINITY};
        assert_true(expected != NULL && count == losses_count);
        for (size_t i = 0; i < count; i++) {
            rdp_schedule_plateau_step(&options, &standing, (double)losses[i]);
            const double rate = standing.plateau_factor * rdp_schedule_lr(&options, 10, 1200, 1199);
            if (!(fabs(rate - (double)expected[i]) <= 1e-7 * (double)expected[i]))
                fail_msg("%s, loss %zu: %.9g, PyTorch has %.9g", plateaus[p].name, i + 1, rate, (double)expected[i]);
        }
        assert_true(standing.plateau_factor < 0.1);
    }
}

/* A loss that is no number is no improvement; --min-lr holds for the rate after scaling. */
static void test_plateau_edges(void **unused)
{
    struct rdp_options options = plateau_options(0);
    struct rdp_standing standing = {.plateau_factor = 1, .plateau_best = INFINITY};
    (void)unused;
    options.plateau_patience = 0;
    options.plateau_cooldown = 0;
    options.batch = 256;
    options.lr_scaling = RDP_LR_SCALING_LINEAR;
    options.min_lr = 0.15; /* of 0.2 */
    rdp_schedule_plateau_step(&options, &standing, NAN);
    assert_true(standing.plateau_factor == 0.15 / 0.2);
    rdp_schedule_plateau_step(&options, &standing, 1);
    assert_true(standing.plateau_best == 1);
    rdp_schedule_plateau_step(&options, &standing, 1);
    assert_true(standing.plateau_factor == 0.15 / 0.2);
    options.warmup_epochs = 1; /* the factor is on top */
    assert_true(fabs(standing.plateau_factor * rdp_schedule_lr(&options, 10, 100, 4) - 0.075) < 1e-15);
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
        cmocka_unit_test(test_onecycle),       cmocka_unit_test(test_onecycle_momentum),
        cmocka_unit_test(test_short_onecycle), cmocka_unit_test(test_cosine),
        cmocka_unit_test(test_polynomial),     cmocka_unit_test(test_multistep),
        cmocka_unit_test(test_step),           cmocka_unit_test(test_constant),
        cmocka_unit_test(test_plateau),        cmocka_unit_test(test_plateau_edges),
        cmocka_unit_test(test_scaling),
    };
    return cmocka_run_group_tests(tests, read_reference, free_reference);
}
