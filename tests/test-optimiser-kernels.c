/*
 * The operations `update`, `average` and `lookahead` of the CPU device: every optimiser for 20 steps against PyTorch
 * (reference/make_optimisers.py); and by themselves: the first step goes downhill by as much as it should, a quadratic is
 * minimised, threads do not change a bit, what is frozen or lies between rows is left alone.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/common/optimiser.h"
#include "support_network.h"
#include "support_training.h"
#include "support_update.h"

/* Relative, in the norm of each row. What is computed in f32 is off by a rounding (6e-8) of each of 20 steps, and of the
 * sums that momentum makes of them; a wrong formula by far more than this. */
#define TOLERANCE 1e-5
/* Likewise of an optimiser's state, where 1 - 0.999 in f32 makes 1.3e-5 (which its correction takes out again). */
#define STATE_TOLERANCE 2e-5
/* What lies between rows; no value that the arrays hold. */
#define GAP 77.0f

enum { ARRAYS = 5, PARAMETERS = 0, STATE = 1, SLOW = 3, AVERAGE = 4 };

/* ---- Against PyTorch ---- */

/* `config` of a run, in the file's order. */
enum {
    KIND,
    LR,
    MOMENTUM,
    NESTEROV,
    BETA1,
    BETA2,
    EPSILON,
    ALPHA,
    ASGD_LAMBDA,
    ASGD_ALPHA,
    ASGD_T0,
    ADAGRAD_LR_DECAY,
    TRUST_COEFFICIENT,
    CLIP_VALUE,
    CLIP_NORM,
    WEIGHT_DECAY,
    MULTIPLES,
    LOOKAHEAD,
    LOOKAHEAD_ALPHA,
    EMA,
    CONFIG_COUNT
};

enum { ROWS = 6, FROZEN = 5, STEPS = 20, COUNT = RDP_UPDATE_SLICE + 512 };

/* Where the rows lie: with gaps of less and of more than a block, and one across the border of two slices. */
static const uint64_t offsets[ROWS] = {16, 32, 64, 128, RDP_UPDATE_SLICE - 64, RDP_UPDATE_SLICE + 256};

struct run {
    const struct rdp_reference *reference;
    const float *config, *counts, *adapts;
    char name[32];
    struct rdp_test_rows rows;
    struct rdp_update_row table[ROWS];
    float *gradients, *array[ARRAYS];
};

static const float *need(const struct run *run, const char *group, const char *name, size_t want)
{
    char full[RDP_REFERENCE_NAME_MAX];
    size_t count = 0;
    snprintf(full, sizeof full, "%s%s%s", group, group[0] == '\0' ? "" : "/", name);
    const float *values = rdp_reference_array(run->reference, full, &count);
    if (values == NULL || count != want)
        fail_msg("the reference has no %s of %zu values", full, want);
    return values;
}

static size_t row_count(const struct run *run, int row)
{
    return (size_t)run->counts[row];
}

static size_t all_rows(const struct run *run)
{
    size_t sum = 0;
    for (int row = 0; row < ROWS; row++)
        sum += row_count(run, row);
    return sum;
}

/* Rows one after the other, as the file has them, to their places. */
static void put_rows(const struct run *run, const float *packed, float *flat)
{
    for (int row = 0; row < ROWS; packed += row_count(run, row++))
        memcpy(flat + offsets[row], packed, row_count(run, row) * sizeof *flat);
}

static void fill(float *values, size_t count, float value)
{
    for (size_t i = 0; i < count; i++)
        values[i] = value;
}

static void open_run(struct run *run, struct rdp_device *device)
{
    static const float multiples[ROWS] = {1, 2, 1, 0.5f, 1, 0}, decays[ROWS] = {1, 1, 0, 1, 0.5f, 1};
    const float *initial;
    run->counts = need(run, "", "counts", ROWS);
    run->adapts = need(run, "", "adapts", ROWS);
    run->config = need(run, run->name, "config", CONFIG_COUNT);
    initial = need(run, "", "initial", all_rows(run));
    for (int row = 0; row < ROWS; row++)
        run->table[row] =
            (struct rdp_update_row){.offset = offsets[row],
                                    .count = row_count(run, row),
                                    .weight_decay = decays[row] * run->config[WEIGHT_DECAY],
                                    .lr = run->config[MULTIPLES] == 0 && row != FROZEN ? 1 : multiples[row],
                                    .adapts = run->adapts[row] != 0};
    run->rows = rdp_test_rows_of(device, run->table, ROWS, COUNT);
    run->gradients = rdp_test_floats(COUNT);
    fill(run->gradients, COUNT, GAP);
    for (int i = 0; i < ARRAYS; i++) {
        run->array[i] = rdp_test_floats(COUNT);
        fill(run->array[i], COUNT, GAP);
        for (int row = 0; row < ROWS; row++)
            memset(run->array[i] + offsets[row], 0, row_count(run, row) * sizeof(float));
        if (i == PARAMETERS || i == SLOW || i == AVERAGE)
            put_rows(run, initial, run->array[i]);
    }
    run->rows.update.parameters = run->array[PARAMETERS];
    run->rows.update.gradients = run->gradients;
    run->rows.update.state[0] = run->array[STATE];
    run->rows.update.state[1] = run->array[STATE + 1];
}

static void close_run(struct run *run)
{
    rdp_test_rows_free(&run->rows);
    rdp_test_free(run->gradients);
    for (int i = 0; i < ARRAYS; i++)
        rdp_test_free(run->array[i]);
}

static struct rdp_optimiser optimiser_of(const float *config)
{
    return (struct rdp_optimiser){.kind = (enum rdp_optimiser_kind)config[KIND],
                                  .momentum = config[MOMENTUM],
                                  .beta1 = config[BETA1],
                                  .beta2 = config[BETA2],
                                  .epsilon = config[EPSILON],
                                  .alpha = config[ALPHA],
                                  .lambda = config[ASGD_LAMBDA],
                                  .trust_coefficient = config[TRUST_COEFFICIENT],
                                  .nesterov = config[NESTEROV] != 0,
                                  .clip_value = config[CLIP_VALUE],
                                  .clip_norm = config[CLIP_NORM]};
}

/* torch.optim.ASGD averages with the mu that the step before has set: 1 / max(1, t - t0). */
static float average_weight(const float *config, int step)
{
    if (config[KIND] == RDP_ASGD)
        return (float)(1 / fmax(1, step - (double)config[ASGD_T0]));
    return config[EMA] > 0 ? step == 0 ? 1 : 1 - config[EMA] : 0;
}

static void take_step(const struct run *run, struct rdp_device *device, int step)
{
    const float *config = run->config, *rates = need(run, "", "rates", STEPS);
    const struct rdp_optimiser optimiser = optimiser_of(config);
    const struct rdp_optimiser_decay decay = {.adagrad_lr_decay = (double)config[ADAGRAD_LR_DECAY],
                                              .asgd_lambda = (double)config[ASGD_LAMBDA],
                                              .asgd_alpha = (double)config[ASGD_ALPHA]};
    const double lr = (double)config[LR], now = lr * (double)rates[step];
    const int period = (int)config[LOOKAHEAD];
    struct rdp_step_values values = {.lr = (float)now,
                                     .average = average_weight(config, step),
                                     .lookahead = period > 0 && (step + 1) % period == 0 ? config[LOOKAHEAD_ALPHA] : 0};
    rdp_optimiser_values(&optimiser, &decay, step, now, step == 0 ? NAN : lr * (double)rates[step - 1],
                         values.optimiser);
    put_rows(run, need(run, "", "gradients", STEPS * all_rows(run)) + (size_t)step * all_rows(run), run->gradients);
    RDP_MUST(device->ops->update(device, &optimiser, &values, &run->rows.update));
    RDP_MUST(device->ops->lookahead(device, &values, run->array[SLOW], run->array[PARAMETERS], NULL, COUNT));
    RDP_MUST(device->ops->average(device, &values, run->array[AVERAGE], run->array[PARAMETERS], COUNT));
}

/* An array that the reference may have, row by row; nothing between rows may have changed. */
static void check_array(const struct run *run, const char *name, const float *flat, double tolerance, double *worst)
{
    char full[RDP_REFERENCE_NAME_MAX];
    size_t i = 0;
    for (int row = 0; row <= ROWS; row++) {
        for (size_t end = row < ROWS ? offsets[row] : COUNT; i < end; i++)
            assert_true(flat[i] == GAP);
        i += row < ROWS ? row_count(run, row) : 0;
    }
    snprintf(full, sizeof full, "%s/%s", run->name, name);
    if (rdp_reference_find(run->reference, full) == NULL)
        return;
    const float *want = need(run, run->name, name, all_rows(run));
    for (int row = 0; row < ROWS; want += row_count(run, row++)) {
        const double error = rdp_test_distance(flat + offsets[row], want, row_count(run, row));
        if (row == FROZEN)
            assert_memory_equal(flat + offsets[row], want, row_count(run, row) * sizeof *want);
        else if (!(error <= tolerance))
            fail_msg("%s, row %d: relative error %.2e", full, row, error);
        else
            *worst = fmax(*worst, error);
    }
}

static bool is_state(int array)
{
    return array == STATE || array == STATE + 1;
}

static void test_reference(void **unused)
{
    static const char *const names[ARRAYS] = {"final", "state0", "state1", "slow", "average"};
    struct rdp_device *device = rdp_test_device(2, false, RDP_ALGORITHM_DIRECT);
    struct rdp_reference reference;
    bool seen[RDP_LAMB + 1] = {false};
    double worst[2] = {0, 0};
    (void)unused;
    rdp_training_reference("optimisers", &reference);
    for (int i = 0; i < reference.count; i++) {
        struct run run = {.reference = &reference};
        const char *slash = strstr(reference.entries[i].name, "/config");
        if (slash == NULL)
            continue;
        snprintf(run.name, sizeof run.name, "%.*s", (int)(slash - reference.entries[i].name),
                 reference.entries[i].name);
        open_run(&run, device);
        for (int step = 0; step < STEPS; step++)
            take_step(&run, device, step);
        for (int k = 0; k < ARRAYS; k++)
            check_array(&run, names[k], run.array[k], is_state(k) ? STATE_TOLERANCE : TOLERANCE, &worst[is_state(k)]);
        seen[(int)run.config[KIND]] = true;
        close_run(&run);
    }
    for (int kind = 0; kind <= RDP_LAMB; kind++)
        assert_true(seen[kind]);
    rdp_reference_free(&reference);
    rdp_device_close(device);
    print_message("worst relative error of a row after %d steps: %.1e, of its state: %.1e\n", STEPS, worst[0],
                  worst[1]);
}

/* ---- By themselves ---- */

/* Each kind's usual values, with and without momentum where it has one, and a rate that suits the quadratic below. */
static const struct {
    struct rdp_optimiser optimiser;
    double lr;
} kinds[] = {
    {{.kind = RDP_SGD}, 0.3},
    {{.kind = RDP_SGD, .momentum = 0.9f}, 0.05},
    {{.kind = RDP_SGD, .momentum = 0.9f, .nesterov = true}, 0.05},
    {{.kind = RDP_ADAM, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f}, 0.05},
    {{.kind = RDP_ADAMW, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f}, 0.05},
    {{.kind = RDP_ADAMAX, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f}, 0.05},
    {{.kind = RDP_ADAGRAD, .epsilon = 1e-10f}, 0.5},
    {{.kind = RDP_RMSPROP, .alpha = 0.99f, .epsilon = 1e-8f}, 0.01},
    {{.kind = RDP_RMSPROP, .alpha = 0.99f, .epsilon = 1e-8f, .momentum = 0.9f}, 0.001},
    {{.kind = RDP_ASGD, .lambda = 1e-4f}, 0.3},
    {{.kind = RDP_LARS, .trust_coefficient = 0.02f, .epsilon = 1e-8f}, 1},
    {{.kind = RDP_LARS, .trust_coefficient = 0.02f, .epsilon = 1e-8f, .momentum = 0.9f}, 0.2},
    {{.kind = RDP_LAMB, .beta1 = 0.9f, .beta2 = 0.999f, .epsilon = 1e-6f}, 0.02},
};
enum { KINDS = sizeof kinds / sizeof *kinds };
static const struct rdp_optimiser_decay decay = {.asgd_lambda = 1e-4, .asgd_alpha = 0.75};

/* One row of the values that a test gives, and three arrays of states and gradients. */
struct toy {
    struct rdp_device *device;
    struct rdp_test_rows rows;
    float *parameters, *gradients, *state[RDP_OPTIMISER_ARRAYS];
};

static struct toy toy_open(int threads, const struct rdp_update_row *rows, int count, size_t elements)
{
    struct toy toy = {.device = rdp_test_device(threads, false, RDP_ALGORITHM_DIRECT)};
    toy.rows = rdp_test_rows_of(toy.device, rows, count, elements);
    toy.rows.update.parameters = toy.parameters = rdp_test_floats(elements);
    toy.rows.update.gradients = toy.gradients = rdp_test_floats(elements);
    for (int i = 0; i < RDP_OPTIMISER_ARRAYS; i++)
        toy.rows.update.state[i] = toy.state[i] = rdp_test_floats(elements);
    return toy;
}

static void toy_close(struct toy *toy)
{
    rdp_test_rows_free(&toy->rows);
    rdp_test_free(toy->parameters);
    rdp_test_free(toy->gradients);
    for (int i = 0; i < RDP_OPTIMISER_ARRAYS; i++)
        rdp_test_free(toy->state[i]);
    rdp_device_close(toy->device);
}

static void toy_step(const struct toy *toy, const struct rdp_optimiser *optimiser, int step, double lr)
{
    struct rdp_step_values values = {.lr = (float)lr};
    rdp_optimiser_values(optimiser, &decay, step, lr, lr, values.optimiser);
    RDP_MUST(toy->device->ops->update(toy->device, optimiser, &values, &toy->rows.update));
}

/* sum of a (p - c)^2 / 2, a in 0.5 .. 1.5 and c in 1 .. 3; its gradient where that is asked for. */
static double quadratic(const float *p, float *gradient, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++) {
        const double a = 1 + rdp_test_value(70, i) / 2, d = (double)p[i] - (2 + rdp_test_value(71, i));
        sum += a * d * d / 2;
        if (gradient != NULL)
            gradient[i] = (float)(a * d);
    }
    return sum;
}

static void test_descent(void **unused)
{
    enum { ELEMENTS = 320 };
    static const struct rdp_update_row row = {.count = ELEMENTS, .lr = 1, .adapts = 1};
    (void)unused;
    for (int k = 0; k < KINDS; k++) {
        struct toy toy = toy_open(2, &row, 1, ELEMENTS);
        float before[ELEMENTS], slope[ELEMENTS];
        double expected = 0;
        for (size_t i = 0; i < ELEMENTS; i++)
            before[i] = toy.parameters[i] = (float)rdp_test_value(72, i);
        const double start = quadratic(toy.parameters, slope, ELEMENTS);
        memcpy(toy.gradients, slope, sizeof slope);
        /* So small a step that the decrease is gradient x step, but for a few per cent. */
        toy_step(&toy, &kinds[k].optimiser, 0, kinds[k].lr * 0.01);
        for (size_t i = 0; i < ELEMENTS; i++)
            expected -= (double)slope[i] * ((double)toy.parameters[i] - (double)before[i]);
        const double decrease = start - quadratic(toy.parameters, NULL, ELEMENTS);
        if (!(decrease > 1e-5 * start && fabs(decrease / expected - 1) < 0.05))
            fail_msg("kind %d: fell by %g, not %g, from %g", (int)kinds[k].optimiser.kind, decrease, expected, start);
        for (int step = 1; step <= 500; step++) {
            quadratic(toy.parameters, toy.gradients, ELEMENTS);
            toy_step(&toy, &kinds[k].optimiser, step, kinds[k].lr);
        }
        const double end = quadratic(toy.parameters, NULL, ELEMENTS);
        if (!(end < 0.01 * start))
            fail_msg("kind %d: %g after 500 steps, from %g", (int)kinds[k].optimiser.kind, end, start);
        toy_close(&toy);
    }
}

/* Rows of many sizes over several slices: every seventh frozen, every third not adapting. */
static int many_rows(struct rdp_update_row *rows, int most, size_t elements)
{
    uint64_t offset = 0;
    int count = 0;
    for (; count < most; count++) {
        const uint64_t size = (uint64_t)count * count * 37 % 9001 + 1;
        if (offset + size > elements)
            break;
        rows[count] = (struct rdp_update_row){.offset = offset,
                                              .count = size,
                                              .weight_decay = count % 2 == 0 ? 0.01f : 0,
                                              .lr = count % 7 == 6 ? 0 : 1 + (float)(count % 5) / 4,
                                              .adapts = count % 3 != 0};
        offset = (offset + size + RDP_ROW_BLOCK - 1) / RDP_ROW_BLOCK * RDP_ROW_BLOCK;
    }
    return count;
}

/* Three clipped steps, then everything into `out`: parameters and states. */
static void run_many(int threads, struct rdp_optimiser optimiser, size_t elements, float *out)
{
    struct rdp_update_row rows[64] = {0};
    const int row_count = many_rows(rows, 64, elements);
    struct toy toy = toy_open(threads, rows, row_count, elements);
    optimiser.clip_value = 0.7f;
    optimiser.clip_norm = 20;
    for (size_t i = 0; i < elements; i++)
        toy.parameters[i] = (float)rdp_test_value(73, i);
    for (int step = 0; step < 3; step++) {
        for (size_t i = 0; i < elements; i++)
            toy.gradients[i] = (float)rdp_test_value(74 + (uint32_t)step, i);
        toy_step(&toy, &optimiser, step, 0.1);
    }
    memcpy(out, toy.parameters, elements * sizeof *out);
    for (int i = 0; i < RDP_OPTIMISER_ARRAYS; i++)
        memcpy(out + (size_t)(i + 1) * elements, toy.state[i], elements * sizeof *out);
    toy_close(&toy);
}

static void test_threads(void **unused)
{
    enum { ELEMENTS = 1 << 17 };
    float *one = rdp_test_floats(3 * ELEMENTS), *more = rdp_test_floats(3 * ELEMENTS);
    (void)unused;
    for (int k = 0; k < KINDS; k++) {
        run_many(1, kinds[k].optimiser, ELEMENTS, one);
        for (size_t i = 0; i < ELEMENTS; i++)
            assert_true(isfinite(one[i]));
        for (int threads = 2; threads <= 3; threads++) {
            run_many(threads, kinds[k].optimiser, ELEMENTS, more);
            assert_memory_equal(one, more, 3 * ELEMENTS * sizeof *one);
        }
    }
    rdp_test_free(one);
    rdp_test_free(more);
}

/* Weights 0, 1 and between; whatever the average was, weight 1 makes it the array. */
static void test_averages(void **unused)
{
    enum { ELEMENTS = 100003 };
    struct rdp_device *device = rdp_test_device(2, false, RDP_ALGORITHM_DIRECT);
    float *a = rdp_test_floats(ELEMENTS), *b = rdp_test_floats(ELEMENTS);
    (void)unused;
    for (int k = 0; k < 4; k++) {
        const float weight = (float[]){0, 1, 0.25f, 1}[k];
        const struct rdp_step_values values = {.average = weight, .lookahead = weight};
        for (int lookahead = 0; lookahead < 2; lookahead++) {
            for (size_t i = 0; i < ELEMENTS; i++) {
                a[i] = k == 3 && !lookahead ? NAN : (float)rdp_test_value(77, i);
                b[i] = (float)rdp_test_value(78, i);
            }
            RDP_MUST(lookahead ? device->ops->lookahead(device, &values, a, b, NULL, ELEMENTS)
                               : device->ops->average(device, &values, a, b, ELEMENTS));
            for (size_t i = 0; i < ELEMENTS; i++) {
                const double was = (double)(float)rdp_test_value(77, i), other = (double)(float)rdp_test_value(78, i);
                const double want = was + (double)weight * (other - was);
                assert_true(fabs((double)a[i] - want) <= (weight == 1 && !lookahead ? 0 : 0x1p-22));
                assert_true(lookahead && weight > 0 ? b[i] == a[i] : (double)b[i] == other);
                if (weight == 0)
                    assert_true((double)a[i] == was);
            }
        }
    }
    rdp_test_free(a);
    rdp_test_free(b);
    rdp_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reference),
        cmocka_unit_test(test_descent),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_averages),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
