/*
 * What optimisers need from options (src/optimiser.c) and what they keep (src/updater.c, src/snapshot.c): names, rows
 * and the values of each step against PyTorch's own loops; averages shown to the network and hidden again; a run that was
 * saved and restored against one that was not, for every optimiser. All comparisons of arrays are of bits. The updates
 * themselves are test-pytorch.c's and test-optimiser-kernels.c's.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/launch.h"
#include "optimiser.h"
#include "options_table.h"
#include "snapshot.h"
#include "support_network.h"
#include "support_training.h"

enum { BATCH = 4 };

static struct rdp_options options_of(const char *text)
{
    struct rdp_options options;
    rdp_options_begin(&options);
    RDP_MUST(
        rdp_options_read_text(&options, "blocks = 1,1\nstem-width = 16\nwidths = 16,16\nbatch = 4\n", "the model"));
    RDP_MUST(rdp_options_read_text(&options, text, text));
    rdp_options_resolve(&options);
    return options;
}

static void check_names(const char *text, const char *first, const char *second)
{
    const struct rdp_options options = options_of(text);
    const char *want[RDP_OPTIMISER_ARRAYS] = {first, second}, *names[RDP_OPTIMISER_ARRAYS];
    rdp_optimiser_state_names(&options, names);
    for (int i = 0; i < RDP_OPTIMISER_ARRAYS; i++) {
        if (want[i] == NULL)
            assert_null(names[i]);
        else
            assert_string_equal(names[i], want[i]);
    }
}

static void test_names(void **unused)
{
    (void)unused;
    check_names("optimizer = sgd\n", "momentum_buffer", NULL);
    check_names("optimizer = sgd\nmomentum = 0\n", NULL, NULL);
    check_names("optimizer = adam\n", "exp_avg", "exp_avg_sq");
    check_names("optimizer = adam\nmomentum = 0\n", "exp_avg", "exp_avg_sq");
    check_names("optimizer = adamw\n", "exp_avg", "exp_avg_sq");
    check_names("optimizer = adamax\n", "exp_avg", "exp_inf");
    check_names("optimizer = adagrad\n", "sum", NULL);
    check_names("optimizer = rmsprop\n", "square_avg", NULL);
    check_names("optimizer = rmsprop\nmomentum = 0.5\n", "square_avg", "momentum_buffer");
    check_names("optimizer = asgd\n", NULL, NULL);
    check_names("optimizer = lars\n", "momentum_buffer", NULL);
    check_names("optimizer = lamb\n", "exp_avg", "exp_avg_sq");
}

static void test_averages(void **unused)
{
    static const struct {
        const char *text;
        bool averages, evaluates;
    } cases[] = {
        {"optimizer = sgd\n", false, false},
        {"ema = 0.9\n", true, true},
        {"ema = 0.9\nevaluate-weights = trained\n", true, false},
        {"ema = 0.9\nevaluate-weights = averaged\n", true, true},
        {"optimizer = asgd\n", true, false},
        {"optimizer = asgd\nevaluate-weights = averaged\n", true, true},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct rdp_options options = options_of(cases[i].text);
        assert_int_equal(rdp_optimiser_averages(&options), cases[i].averages);
        assert_int_equal(rdp_optimiser_evaluates_averages(&options), cases[i].evaluates);
    }
}

/* What the row of a parameter says, found by where the parameter lies. */
static const struct rdp_update_row *find_row(const struct rdp_optimiser_rows *rows, const struct rdp_network *network,
                                             const char *name)
{
    for (int i = 0; i < network->model->parameter_count; i++)
        if (strcmp(network->model->parameters[i].name, name) == 0) {
            const struct rdp_row *place = &network->rows[i];
            const struct rdp_update_row *row = rows->rows + rows->row_of[place->offset / RDP_ROW_BLOCK];
            assert_true(row->offset == place->offset && row->count == place->stored_count);
            assert_int_equal(row->adapts, network->model->parameters[i].dims_count > 1);
            const size_t last = (place->offset + place->stored_count - 1) / RDP_ROW_BLOCK;
            assert_ptr_equal(rows->rows + rows->row_of[last], row);
            return row;
        }
    fail_msg("no parameter %s", name);
    return NULL;
}

static void check_row(const struct rdp_optimiser_rows *rows, const struct rdp_network *network, const char *name,
                      float lr, float weight_decay)
{
    const struct rdp_update_row *row = find_row(rows, network, name);
    if (row->lr != lr || row->weight_decay != weight_decay)
        fail_msg("%s: lr x %g and decay %g, not %g and %g", name, (double)row->lr, (double)row->weight_decay,
                 (double)lr, (double)weight_decay);
}

static void test_rows(void **unused)
{
    struct rdp_device *device = rdp_test_device(1, false, RDP_ALGORITHM_DIRECT);
    struct rdp_training training;
    struct rdp_optimiser_rows rows;
    struct rdp_options options = options_of("weight-decay = 0.125\nbn-bias-lr = 4\nbn-weight-lr = 0.5\n");
    (void)unused;
    rdp_training_open(&training, device, &options, BATCH);
    const struct rdp_network *network = training.network;
    RDP_MUST(rdp_optimiser_rows(&rows, network, &options));
    size_t end = 0;
    for (int i = 0; i < rows.count; i++) {
        assert_true(rows.rows[i].offset >= end);
        end = rows.rows[i].offset + rows.rows[i].count;
    }
    assert_true(end <= network->parameter_count);
    for (int i = 0; i < network->model->parameter_count; i++)
        if (network->model->parameters[i].kind == RDP_PARAMETER_TRAINED)
            find_row(&rows, network, network->model->parameters[i].name);
    check_row(&rows, network, "conv1.weight", 1, 0.125f);
    check_row(&rows, network, "bn1.weight", 0.5f, 0.25f);
    check_row(&rows, network, "bn1.bias", 4, 0.03125f);
    check_row(&rows, network, "layer2.0.downsample.1.bias", 4, 0.03125f);
    check_row(&rows, network, "fc.bias", 1, 0.125f);
    free(rows.rows);
    free(rows.row_of);
    rdp_training_close(&training);

    options = options_of("weight-decay = 0.125\ndecay-bn = no\nfreeze-stem = yes\nbn-bias-lr = 0\n");
    rdp_training_open(&training, device, &options, BATCH);
    network = training.network;
    RDP_MUST(rdp_optimiser_rows(&rows, network, &options));
    check_row(&rows, network, "conv1.weight", 0, 0);
    check_row(&rows, network, "bn1.weight", 0, 0);
    check_row(&rows, network, "bn1.bias", 0, 0);
    check_row(&rows, network, "layer1.0.bn1.weight", 1, 0);
    check_row(&rows, network, "layer1.0.bn1.bias", 0, 0);
    check_row(&rows, network, "layer1.0.conv1.weight", 1, 0.125f);
    check_row(&rows, network, "fc.weight", 1, 0.125f);
    check_row(&rows, network, "fc.bias", 1, 0);
    free(rows.rows);
    free(rows.row_of);
    rdp_training_close(&training);

    options = options_of("weight-decay = 0.125\nbn-weight-lr = 0\n");
    rdp_training_open(&training, device, &options, BATCH);
    RDP_MUST(rdp_optimiser_rows(&rows, training.network, &options));
    check_row(&rows, training.network, "bn1.weight", 0, 0);
    check_row(&rows, training.network, "bn1.bias", 1, 0.125f);
    free(rows.rows);
    free(rows.row_of);
    rdp_training_close(&training);
    rdp_device_close(device);
}

/* Some rates, each step's another. */
static double rate_of(int64_t step)
{
    return 0.1 / (double)(1 + step % 3);
}

static struct rdp_step_values values_of(const struct rdp_options *options, int64_t step)
{
    return rdp_optimiser_step_values(options, 7, step, rate_of(step), rate_of(step > 0 ? step - 1 : 0), NAN);
}

/* f32 of a double: half a unit in the last place. */
static void check_value(float got, double want)
{
    if (!(fabs((double)got - want) <= 1e-7 * fabs(want)))
        fail_msg("%.9g, not %.9g", (double)got, want);
}

static void test_values(void **unused)
{
    struct rdp_options options = options_of("lookahead = 3\nlookahead-alpha = 0.75\n");
    (void)unused;
    for (int64_t step = 0; step < 8; step++) {
        const struct rdp_step_values values = values_of(&options, step);
        assert_int_equal(values.epoch, 7);
        assert_int_equal(values.step, step);
        check_value(values.lr, rate_of(step));
        assert_true(values.lookahead == (step % 3 == 2 ? 0.75f : 0.0f));
        assert_true(values.average == 0 && values.mix == 1 && values.mix_pixels == 1);
        assert_true(values.mix_box[2] == values.mix_box[0]);
    }
    options = options_of("ema = 0.9\n");
    assert_true(values_of(&options, 0).average == 1);
    check_value(values_of(&options, 1).average, 1 - 0.9);
    check_value(values_of(&options, 1000).average, 1 - 0.9);
    options = options_of("optimizer = adamw\nbeta1 = 0.5\nbeta2 = 0.75\n"); /* exact in f32 */
    for (int64_t step = 0; step < 5; step++) {
        const struct rdp_step_values values = values_of(&options, step);
        assert_true(values.average == 0 && values.lookahead == 0);
        check_value(values.optimiser[0], 1 / (1 - pow(0.5, (double)(step + 1))));
        check_value(values.optimiser[1], 1 / sqrt(1 - pow(0.75, (double)(step + 1))));
    }
    options = options_of("optimizer = adagrad\nadagrad-lr-decay = 0.5\n");
    check_value(values_of(&options, 4).optimiser[0], 1 / (1 + 4 * 0.5));
}

/* torch.optim.ASGD as its loop is written: eta and mu are state, set at the end of a step for the next one. */
static void test_asgd(void **unused)
{
    const struct rdp_options options =
        options_of("optimizer = asgd\nasgd-lambda = 0.5\nasgd-alpha = 0.6\nasgd-t0 = 4\n");
    const double lambda = 0.5, alpha = 0.6, t0 = 4;
    double eta = rate_of(0), mu = 1;
    (void)unused;
    for (int64_t step = 0; step < 12; step++) {
        const struct rdp_step_values values = values_of(&options, step);
        check_value(values.optimiser[0], eta);
        check_value(values.average, mu);
        const double lr = rate_of(step), count = (double)(step + 1);
        eta = lr / pow(1 + lambda * lr * count, alpha);
        mu = 1 / fmax(1, count - t0);
    }
}

/*
 * Training and what it keeps.
 */

/* The network's two arrays and the updater's, each with its rows in PyTorch's layout one after the other: what only
 * pads a row is no part of it (Adamax's exp_inf is epsilon there, and 0 in an array that was restored). */
enum { ARRAYS_MAX = RDP_UPDATER_ARRAYS_MAX + 2 };
struct kept {
    int count;
    size_t counts[ARRAYS_MAX];
    float *values[ARRAYS_MAX];
};

static struct kept keep(const struct rdp_training *training)
{
    struct rdp_network *network = training->network;
    struct rdp_updater_array arrays[ARRAYS_MAX] = {{"parameters", network->parameters, false},
                                                   {"state", network->state, true}};
    struct kept kept = {.count = 2 + rdp_updater_arrays(training->updater, arrays + 2)};
    for (int i = 0; i < kept.count; i++) {
        const size_t most = arrays[i].of_state ? network->state_count : network->parameter_count;
        RDP_MUST(rdp_calloc((void **)&kept.values[i], most, sizeof(float), "kept values"));
        for (int row = 0; row < network->model->parameter_count; row++) {
            const struct rdp_parameter *parameter = &network->model->parameters[row];
            if ((parameter->kind == RDP_PARAMETER_STATE) != arrays[i].of_state)
                continue;
            RDP_MUST(rdp_network_take(network, row, arrays[i].flat, kept.values[i] + kept.counts[i]));
            kept.counts[i] += (size_t)parameter->count;
        }
    }
    return kept;
}

static void free_kept(struct kept *kept)
{
    for (int i = 0; i < kept->count; i++)
        free(kept->values[i]);
}

static void check_kept(struct kept *kept, const struct rdp_training *training, bool equal)
{
    struct kept now = keep(training);
    assert_int_equal(now.count, kept->count);
    for (int i = 0; i < now.count; i++)
        if ((memcmp(now.values[i], kept->values[i], now.counts[i] * sizeof(float)) == 0) != equal)
            fail_msg("optimiser %d, array %d: %s", (int)training->options.optimizer, i, equal ? "differs" : "is equal");
    free_kept(&now);
}

/* Steps first .. end - 1. */
static void train(struct rdp_training *training, int first, int end)
{
    for (int step = first; step < end; step++) {
        training->steps = step;
        rdp_training_load(training, (int64_t)step * BATCH);
        rdp_training_step(training);
    }
}

static void test_shown_averages(void **unused)
{
    struct rdp_device *device = rdp_test_device(1, false, RDP_ALGORITHM_DIRECT);
    const struct rdp_options options = options_of("optimizer = adamw\nema = 0.5\nlookahead = 2\n");
    struct rdp_training straight, shown;
    (void)unused;
    rdp_training_open(&straight, device, &options, BATCH);
    rdp_training_open(&shown, device, &options, BATCH);
    struct rdp_network *network = shown.network;
    const size_t bytes = network->parameter_count * sizeof(float), state_bytes = network->state_count * sizeof(float);
    assert_memory_equal(shown.updater->slow, network->parameters, bytes);
    assert_memory_equal(shown.updater->average, network->parameters, bytes);
    assert_memory_equal(shown.updater->average_state, network->state, state_bytes);
    train(&straight, 0, 1);
    assert_memory_equal(straight.updater->average, straight.network->parameters, bytes); /* the first is a copy */
    train(&straight, 1, 5);
    train(&shown, 0, 3);
    struct kept before = keep(&shown);
    RDP_MUST(rdp_updater_show_averages(shown.updater));
    assert_memory_equal(network->parameters, shown.updater->average, bytes);
    assert_memory_equal(network->state, shown.updater->average_state, state_bytes);
    /* The forms that convolutions read are the averages' too: the loss is another. */
    const struct rdp_step_values values = values_of(&options, 3);
    rdp_training_load(&shown, 0);
    network->inputs->values = values;
    RDP_MUST(rdp_network_begin_totals(network));
    RDP_MUST(rdp_network_forward(network, 0, false, 0, NULL, NULL));
    const double averaged = rdp_training_loss(&shown);
    RDP_MUST(rdp_updater_hide_averages(shown.updater));
    check_kept(&before, &shown, true);
    /* A frozen row's has to be 0, and nobody else would clear it. The CPU's memory is the host's. */
    for (size_t i = 0; i < network->parameter_count; i++)
        assert_true(network->gradients[i] == 0);
    RDP_MUST(rdp_network_begin_totals(network));
    RDP_MUST(rdp_network_forward(network, 0, false, 0, NULL, NULL));
    assert_true(fabs(averaged - rdp_training_loss(&shown)) > 1e-4);
    train(&shown, 3, 5);
    struct kept end = keep(&straight);
    check_kept(&end, &shown, true);
    free_kept(&before);
    free_kept(&end);
    rdp_training_close(&straight);
    rdp_training_close(&shown);
    rdp_device_close(device);
}

static struct rdp_comm *lone_comm(void)
{
    const struct rdp_launch launch = {.size = 1, .local_size = 1, .host_count = 1};
    struct rdp_comm *comm;
    RDP_MUST(rdp_comm_create(&comm, &launch));
    return comm;
}

static struct rdp_checkpoint *take(const struct rdp_training *training, struct rdp_comm *comm, int step)
{
    const struct rdp_standing standing = {.step = step, .best = 1, .plateau_factor = 1, .plateau_best = 1};
    const struct rdp_dataset_info info = {.classes = 10, .std = {1, 1, 1}};
    struct rdp_checkpoint *checkpoint;
    RDP_MUST(rdp_snapshot_take(&checkpoint, training->updater, &standing, &training->options, &info, comm));
    return checkpoint;
}

static void restore_and_compare(struct rdp_device *device, const char *text)
{
    const struct rdp_options options = options_of(text);
    struct rdp_comm *comm = lone_comm();
    struct rdp_standing standing;
    struct rdp_training straight, resumed;
    rdp_training_open(&straight, device, &options, BATCH);
    train(&straight, 0, 3);
    struct rdp_checkpoint *checkpoint = take(&straight, comm, 3);
    rdp_training_open(&resumed, device, &options, BATCH);
    RDP_MUST(rdp_snapshot_restore(checkpoint, resumed.updater, &standing, comm));
    assert_int_equal(standing.step, 3);
    struct kept middle = keep(&straight);
    check_kept(&middle, &resumed, true);
    train(&straight, 3, 6);
    train(&resumed, 3, 6);
    struct kept end = keep(&straight);
    check_kept(&end, &resumed, true);
    check_kept(&middle, &resumed, false);
    rdp_checkpoint_destroy(checkpoint);
    free_kept(&middle);
    free_kept(&end);
    rdp_training_close(&straight);
    rdp_training_close(&resumed);
    rdp_comm_destroy(comm);
}

static void test_resume(void **unused)
{
    /* Every array is one that the next three steps change. */
    static const char *const texts[] = {
        "optimizer = sgd\n",
        "optimizer = sgd\nmomentum = 0\nema = 0.9\n",
        "optimizer = adam\nlookahead = 2\n",
        "optimizer = adamw\nlookahead = 2\nema = 0.9\n",
        "optimizer = adamax\n",
        "optimizer = adagrad\nadagrad-lr-decay = 0.1\n",
        "optimizer = rmsprop\n",
        "optimizer = rmsprop\nmomentum = 0.5\n",
        "optimizer = asgd\nasgd-t0 = 1\n",
        "optimizer = asgd\n",
        "optimizer = lars\nclip-norm = 1\n",
        "optimizer = lamb\nclip-value = 0.1\n",
    };
    struct rdp_device *device = rdp_test_device(1, false, RDP_ALGORITHM_DIRECT);
    (void)unused;
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        restore_and_compare(device, texts[i]);
    rdp_device_close(device);
}

/* What eval takes from a checkpoint: the trained weights or their averages; and what it cannot take. */
static void test_weights(void **unused)
{
    struct rdp_device *device = rdp_test_device(1, false, RDP_ALGORITHM_DIRECT);
    const struct rdp_options plain = options_of("optimizer = sgd\n"), averaging = options_of("ema = 0.5\n");
    struct rdp_comm *comm = lone_comm();
    struct rdp_training training, other;
    struct rdp_standing standing;
    (void)unused;
    rdp_training_open(&training, device, &averaging, BATCH);
    train(&training, 0, 3);
    struct rdp_checkpoint *checkpoint = take(&training, comm, 3);
    rdp_training_open(&other, device, &plain, BATCH);
    struct rdp_network *network = other.network;
    const size_t bytes = network->parameter_count * sizeof(float), state_bytes = network->state_count * sizeof(float);
    RDP_MUST(rdp_snapshot_weights(checkpoint, network, true));
    assert_memory_equal(network->parameters, training.updater->average, bytes);
    assert_memory_equal(network->state, training.updater->average_state, state_bytes);
    RDP_MUST(rdp_snapshot_weights(checkpoint, network, false));
    assert_memory_equal(network->parameters, training.network->parameters, bytes);
    assert_memory_equal(network->state, training.network->state, state_bytes);
    rdp_checkpoint_destroy(checkpoint);

    checkpoint = take(&other, comm, 3);
    assert_int_equal(rdp_snapshot_weights(checkpoint, network, true), RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "no averaged weights"));
    rdp_fail_clear();
    assert_int_equal(rdp_snapshot_restore(checkpoint, training.updater, &standing, comm), RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "average/"));
    rdp_fail_clear();
    rdp_checkpoint_destroy(checkpoint);
    rdp_training_close(&training);
    rdp_training_close(&other);
    rdp_comm_destroy(comm);
    rdp_device_close(device);
}

/* A checkpoint of another version has other options, so none of its recipe is read. */
static void test_other_version(void **unused)
{
    struct rdp_checkpoint *checkpoint;
    struct rdp_options options;
    (void)unused;
    RDP_MUST(rdp_checkpoint_create(&checkpoint));
    RDP_MUST(rdp_checkpoint_add_text(checkpoint, "recipe", "flip = yes\n"));
    RDP_MUST(rdp_checkpoint_add_text(checkpoint, "program", "resnet-dp 0.0.9"));
    RDP_MUST(rdp_checkpoint_add_integer(checkpoint, "snapshot_version", 1));
    assert_int_equal(rdp_snapshot_options(checkpoint, &options), RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "of version 1, and this program reads version 2"));
    assert_non_null(strstr(rdp_fail_message(), "resnet-dp 0.0.9"));
    rdp_fail_clear();
    rdp_checkpoint_destroy(checkpoint);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_other_version),  cmocka_unit_test(test_names),  cmocka_unit_test(test_averages),
        cmocka_unit_test(test_rows),           cmocka_unit_test(test_values), cmocka_unit_test(test_asgd),
        cmocka_unit_test(test_shown_averages), cmocka_unit_test(test_resume), cmocka_unit_test(test_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
