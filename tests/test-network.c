/*
 * The planned network as a whole: its gradient against finite differences of its loss, bf16 against f32, cache chunks
 * against the whole batch, evaluation, inference, initialisation, and that no two tensors that are needed at the same
 * time share memory. That it computes what PyTorch does: test-pytorch.c.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "network_plan.h"
#include "support_network.h"
#include "support_reference.h"

static const int one_one[] = {1, 1, 0}, two_one_one[] = {2, 1, 1, 0}, one_two[] = {1, 2, 0};

static struct rdp_test_setup basic(void)
{
    static const int widths[] = {16, 32, 0};
    return rdp_test_setup(RDP_BLOCK_BASIC, one_one, 16, widths);
}

static struct rdp_test_setup bottleneck(void)
{
    static const int widths[] = {5, 7, 0};
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BOTTLENECK, one_two, 6, widths);
    setup.options.activation = RDP_LEAKY_RELU;
    setup.options.leaky_slope = 0.1;
    setup.options.label_smoothing = 0.1;
    return setup;
}

static struct rdp_test_setup padded(void)
{
    static const int widths[] = {9, 20, 33, 0};
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, two_one_one, 5, widths);
    setup.options.shortcut = RDP_SHORTCUT_PAD;
    return setup;
}

/* Each stage halves the image by a max-pool, the first one too. */
static struct rdp_test_setup pooled(void)
{
    static const int blocks[] = {1, 1, 2, 0}, widths[] = {9, 20, 17, 0};
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, blocks, 5, widths);
    setup.options.strides = (struct rdp_int_list){.count = 1, .values = {2}};
    setup.options.downsample = RDP_DOWNSAMPLE_MAX_POOL;
    return setup;
}

/* Every kind of join behind GELU, whose backward reads the residual: block input, a convolution's, and one that dropout
 * works on in place. */
static struct rdp_test_setup smooth(void)
{
    static const int blocks[] = {1, 1, 2, 0}, widths[] = {9, 9, 12, 0};
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, blocks, 9, widths);
    setup.options.activation = RDP_GELU;
    setup.options.strides = (struct rdp_int_list){.count = 3, .values = {1, 1, 2}};
    setup.options.dropout = (struct rdp_real_list){.count = 3, .values = {0.3, 0, 0}};
    return setup;
}

/* No shortcuts. */
static struct rdp_test_setup plain(void)
{
    struct rdp_test_setup setup = pooled();
    setup.options.shortcut = RDP_SHORTCUT_NONE;
    setup.options.activation = RDP_GELU;
    return setup;
}

/* Dropout behind two of three stages, the last one among them; its output has two readers, one with a shortcut. */
static struct rdp_test_setup dropped(void)
{
    static const int widths[] = {9, 20, 33, 0};
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, two_one_one, 5, widths);
    setup.options.dropout = (struct rdp_real_list){.count = 3, .values = {0.3, 0, 0.5}};
    setup.options.activation = RDP_LEAKY_RELU;
    setup.options.leaky_slope = 0.1;
    return setup;
}

static void open_network(struct rdp_test_network *test, const struct rdp_test_setup *setup)
{
    assert_true(rdp_test_network_open(test, setup));
}

/* Mean loss of a training forward pass, summed in double from the logits; the running statistics stay. */
static double exact_loss(struct rdp_test_network *test, const float *state)
{
    struct rdp_network *network = test->network;
    const int batch = network->config.batch, classes = test->model->classes;
    const double smoothing = network->config.label_smoothing;
    const double mix = network->config.mixing ? (double)test->values.mix : 1;
    float *logits = rdp_test_floats((size_t)(batch * classes));
    double loss = 0;
    memcpy(network->state, state, network->state_count * sizeof *state);
    rdp_test_network_loss(test, true);
    RDP_MUST(rdp_network_logits(network, logits));
    for (int n = 0; n < batch; n++) {
        double sum = 0;
        for (int k = 0; k < classes; k++)
            sum += exp((double)logits[n * classes + k]);
        for (int k = 0; k < classes; k++) {
            const double label =
                mix * (k == test->labels[n]) + (1 - mix) * (k == test->labels[batch - 1 - n]);
            const double target = smoothing / classes + (1 - smoothing) * label;
            loss += target * (log(sum) - (double)logits[n * classes + k]) / batch;
        }
    }
    rdp_test_free(logits);
    return loss;
}

/* Loss with row += step * direction. */
static double loss_along(struct rdp_test_network *test, const float *state, int row, const float *base,
                         const double *direction, double step)
{
    const size_t count = (size_t)test->model->parameters[row].count;
    float *moved = rdp_test_floats(count);
    for (size_t i = 0; i < count; i++)
        moved[i] = (float)((double)base[i] + step * direction[i]);
    RDP_MUST(rdp_network_put(test->network, row, moved, test->network->parameters));
    RDP_MUST(rdp_network_weights_changed(test->network));
    rdp_test_free(moved);
    return exact_loss(test, state);
}

/*
 * Each row's gradient g against (L(p + h v) - L(p - h v)) / 2h, for v along g itself (all of its length must be there)
 * and v random. Large h crosses ReLU's kinks, whose share follows no power of h; small h drowns in f32's rounding of
 * the logits, 1e-7 of a loss that h moves by 1e-3 at most. So one of four steps must agree: with a gradient that is
 * wrong, none does. Tolerance 2 % of |g|; one with a part missing or doubled is off by 10 % and more.
 */
static double check_row(struct rdp_test_network *test, const float *state, const float *gradients, int row)
{
    const struct rdp_parameter *parameter = &test->model->parameters[row];
    const size_t count = (size_t)parameter->count;
    float *g = rdp_test_network_row(test, row, gradients),
          *base = rdp_test_network_row(test, row, test->network->parameters);
    double *v = rdp_test_doubles(count), norm = 0, size = 0, worst = 0;
    for (size_t i = 0; i < count; i++) {
        norm += (double)g[i] * (double)g[i];
        size += (double)base[i] * (double)base[i];
    }
    norm = sqrt(norm);
    size = sqrt(size) + 0.1 * sqrt((double)count);
    for (int kind = 0; kind < 2; kind++) {
        double length = 0, product = 0;
        for (size_t i = 0; i < count; i++) {
            v[i] = kind == 0 ? (double)g[i] / norm : rdp_test_value((uint32_t)row, i);
            length += v[i] * v[i];
        }
        for (size_t i = 0; i < count; i++) {
            v[i] /= sqrt(length);
            product += v[i] * (double)g[i];
        }
        double step = fmin(1e-3 / norm, 5e-3 * size), error = HUGE_VAL;
        for (int attempt = 0; attempt < 4 && error > 0.02; attempt++, step /= 4) {
            const double up = loss_along(test, state, row, base, v, step),
                         down = loss_along(test, state, row, base, v, -step);
            error = fmin(error, fabs((up - down) / (2 * step) - product) / norm);
        }
        worst = fmax(worst, error);
        if (!(error <= 0.02))
            fail_msg("%s, direction %d: gradient %.6g of norm %.3g is off by %.3g of that", parameter->name, kind,
                     product, norm, error);
    }
    RDP_MUST(rdp_network_put(test->network, row, base, test->network->parameters));
    RDP_MUST(rdp_network_weights_changed(test->network));
    free(g);
    free(base);
    free(v);
    return worst;
}

static void test_gradient(void **unused)
{
    static const char *const names[] = {"basic",           "bottleneck",  "padded shortcut",      "dropout, mix-up",
                                        "dropout, CutMix", "max-pool",    "max-pool, bottleneck", "GELU",
                                        "no shortcut",     "GELU, padded"};
    struct rdp_test_setup setups[] = {basic(),  bottleneck(), padded(), dropped(), dropped(),
                                      pooled(), bottleneck(), smooth(), plain(),   padded()};
    (void)unused;
    setups[3].options.mixup = setups[4].options.cutmix = 2;
    setups[4].options.shortcut = RDP_SHORTCUT_PAD;
    setups[6].options.downsample = RDP_DOWNSAMPLE_MAX_POOL;
    setups[9].options.activation = RDP_GELU;
    for (size_t k = 0; k < sizeof setups / sizeof *setups; k++) {
        struct rdp_test_network test;
        double worst = 0;
        setups[k].batch = 2;
        setups[k].threads = 1 + k % 2;
        open_network(&test, &setups[k]);
        const size_t count = test.network->parameter_count;
        float *state = rdp_test_floats(test.network->state_count), *gradients = rdp_test_floats(count);
        memcpy(state, test.network->state, test.network->state_count * sizeof *state);
        rdp_test_network_pass(&test);
        memcpy(gradients, test.network->gradients, count * sizeof *gradients);
        for (int row = 0; row < test.model->parameter_count; row++)
            if (rdp_test_is_trained(&test, row))
                worst = fmax(worst, check_row(&test, state, gradients, row));
        print_message("%s: worst error of a row's gradient, of its norm: %.1e\n", names[k], worst);
        rdp_test_free(state);
        rdp_test_free(gradients);
        rdp_test_network_close(&test);
    }
}

/*
 * bf16 keeps 8 significant bits: an activation is off by 2^-9 at random, a loss, which averages thousands, by far less
 * than the 2 % allowed. Gradients pass through twice as many roundings, each changing some ReLU's side: cosine above
 * 0.99 per row of at least 1,000 weights, relative distance below 0.15. Ten steps at a moderate rate add up such
 * differences: 5 %.
 */
static void test_bf16(void **unused)
{
    struct rdp_test_setup setup = basic();
    struct rdp_test_network full, half;
    double cosine = 1, distance = 0, loss_error = 0;
    (void)unused;
    setup.batch = 32;
    setup.options.lr = 0.02;
    setup.options.momentum = 0.9;
    setup.threads = 2;
    setup.bf16 = true;
    if (!rdp_test_network_open(&half, &setup)) {
        print_message("skipped: no bf16 convolutions on this CPU\n");
        skip();
    }
    setup.bf16 = false;
    open_network(&full, &setup);
    for (int step = 0; step < 10; step++) {
        rdp_test_network_load(&full, 32 * step);
        rdp_test_network_load(&half, 32 * step);
        const double want = rdp_test_network_pass(&full), got = rdp_test_network_pass(&half),
                     error = fabs(got / want - 1);
        loss_error = fmax(loss_error, error);
        if (step == 0)
            assert_true(error < 0.02);
        assert_true(error < 0.05);
        for (int row = 0; step == 0 && row < full.model->parameter_count; row++) {
            const size_t count = (size_t)full.model->parameters[row].count;
            if (!rdp_test_is_trained(&full, row) || count < 1000)
                continue;
            float *a = rdp_test_network_row(&half, row, half.network->gradients),
                  *b = rdp_test_network_row(&full, row, full.network->gradients);
            cosine = fmin(cosine, rdp_test_cosine(a, b, count));
            distance = fmax(distance, rdp_test_distance(a, b, count));
            free(a);
            free(b);
        }
        rdp_test_network_update(&full, &setup.options);
        rdp_test_network_update(&half, &setup.options);
    }
    print_message("bf16 against f32: gradient cosine %.5f, relative distance %.3f; losses of ten steps within %.2e\n",
                  cosine, distance, loss_error);
    assert_true(cosine > 0.99 && distance < 0.15);
    rdp_test_network_close(&full);
    rdp_test_network_close(&half);
}

/* A network with chunks smaller than its batch, and the same with whole-batch calls: one sum of a weight gradient may
 * be added in another order (5e-6 of the row's norm, after two steps), nothing else differs. Threads as well. */
static void test_chunks(void **unused)
{
    struct rdp_test_network chunked, whole;
    (void)unused;
    for (int variant = 0; variant < 4; variant++) {
        struct rdp_test_setup setup = basic();
        double worst = 0;
        int smaller = 0;
        setup.batch = 24;
        setup.options.dropout.values[0] = variant % 2 ? 0.2 : 0;
        setup.threads = 1 + variant % 2;
        setup.algorithm = variant / 2 ? RDP_ALGORITHM_AUTO : RDP_ALGORITHM_DIRECT;
        open_network(&chunked, &setup);
        setup.whole_batch_chunks = true;
        setup.threads = 1;
        open_network(&whole, &setup);
        for (int i = 0; i < chunked.model->layer_count; i++)
            if (chunked.network->plan->convs[i] != NULL) {
                smaller += chunked.network->plan->convs[i]->desc.chunk < setup.batch;
                assert_int_equal(whole.network->plan->convs[i]->desc.chunk, setup.batch);
            }
        assert_true(smaller > 0);
        for (int step = 0; step < 2; step++) {
            const double a = rdp_test_network_pass(&chunked), b = rdp_test_network_pass(&whole);
            assert_true(fabs(a / b - 1) < 1e-6);
            for (int row = 0; row < whole.model->parameter_count; row++) {
                const bool trained = rdp_test_is_trained(&whole, row);
                float *x =
                    rdp_test_network_row(&chunked, row, trained ? chunked.network->gradients : chunked.network->state);
                float *y = rdp_test_network_row(&whole, row, trained ? whole.network->gradients : whole.network->state);
                worst = fmax(worst, rdp_test_distance(x, y, (size_t)whole.model->parameters[row].count));
                free(x);
                free(y);
            }
        }
        print_message("chunks against whole batch, %s, %d threads: worst relative distance %.1e\n",
                      variant / 2 ? "auto" : "direct", 1 + variant % 2, worst);
        assert_true(worst < 5e-6);
        rdp_test_network_close(&chunked);
        rdp_test_network_close(&whole);
    }
}

/* Evaluation normalises by the running statistics and leaves them, counts the valid rows only, and its logits do not
 * depend on what else is in the batch. */
static void test_evaluation(void **unused)
{
    struct rdp_test_setup setup = bottleneck();
    struct rdp_test_network test;
    const struct rdp_inputs inputs = {0};
    float logits[2][8 * 10];
    (void)unused;
    open_network(&test, &setup);
    for (int step = 0; step < 3; step++)
        rdp_test_network_pass(&test);
    struct rdp_network *network = test.network;
    float *state = rdp_test_floats(network->state_count);
    memcpy(state, network->state, network->state_count * sizeof *state);
    rdp_test_network_loss(&test, false);
    assert_memory_equal(state, network->state, network->state_count * sizeof *state);
    RDP_MUST(rdp_network_logits(network, logits[0]));
    rdp_reference_images(100, 5, test.images + 3 * 3072); /* other images in rows 3 .. 7 */
    test.batch.valid = 3;
    memset(network->totals, 0, RDP_TOTALS * sizeof(float));
    RDP_MUST(rdp_network_load(network, &test.batch, &inputs));
    RDP_MUST(rdp_network_forward(network, 0, false, 0, NULL, NULL));
    RDP_MUST(rdp_network_logits(network, logits[1]));
    assert_memory_equal(logits[0], logits[1], 3 * 10 * sizeof(float));
    assert_true(memcmp(logits[0] + 30, logits[1] + 30, 50 * sizeof(float)) != 0);
    double loss = 0, correct = 0;
    for (int n = 0; n < 3; n++) { /* without label smoothing */
        double sum = 0;
        int best = 0;
        for (int k = 0; k < 10; k++) {
            sum += exp((double)logits[1][n * 10 + k]);
            best = logits[1][n * 10 + k] > logits[1][n * 10 + best] ? k : best;
        }
        loss += log(sum) - (double)logits[1][n * 10 + test.labels[n]];
        correct += best == test.labels[n];
    }
    assert_true(fabs((double)network->totals[RDP_TOTAL_LOSS] - loss) < 1e-5 * loss);
    assert_true((double)network->totals[RDP_TOTAL_CORRECT] == correct);
    for (size_t i = 0; i < network->state_count; i++) /* other statistics, other logits */
        network->state[i] += 0.5f;
    rdp_test_network_loss(&test, false);
    RDP_MUST(rdp_network_logits(network, logits[0]));
    assert_true(memcmp(logits[0], logits[1], 30 * sizeof(float)) != 0);
    rdp_test_free(state);
    rdp_test_network_close(&test);
}

/* The network planned for inference, with the training network's rows, gives its evaluation logits: the same bits if
 * chunks and algorithms are the same. */
static void test_inference(void **unused)
{
    struct rdp_test_setup setups[] = {basic(), bottleneck(), padded(), dropped()};
    (void)unused;
    setups[3].options.mixup = 1;
    for (int k = 0; k < 8; k++) {
        struct rdp_test_setup setup = setups[k % 4];
        struct rdp_test_network training, inference;
        float logits[2][8 * 10];
        bool same = true;
        setup.algorithm = k < 4 ? RDP_ALGORITHM_DIRECT : RDP_ALGORITHM_AUTO;
        open_network(&training, &setup);
        setup.inference = true;
        open_network(&inference, &setup);
        assert_true(inference.network->activation_bytes < training.network->activation_bytes);
        rdp_test_network_pass(&training);
        for (int row = 0; row < training.model->parameter_count; row++) {
            const bool trained = rdp_test_is_trained(&training, row);
            float *values =
                rdp_test_network_row(&training, row, trained ? training.network->parameters : training.network->state);
            RDP_MUST(rdp_network_put(inference.network, row, values,
                                     trained ? inference.network->parameters : inference.network->state));
            free(values);
        }
        RDP_MUST(rdp_network_weights_changed(inference.network));
        const double a = rdp_test_network_loss(&training, false), b = rdp_test_network_loss(&inference, false);
        RDP_MUST(rdp_network_logits(training.network, logits[0]));
        RDP_MUST(rdp_network_logits(inference.network, logits[1]));
        for (int i = 0; i < training.model->layer_count; i++) {
            const struct rdp_conv *t = training.network->plan->convs[i], *f = inference.network->plan->convs[i];
            same = same &&
                   (t == NULL || (t->desc.chunk == f->desc.chunk && strcmp(t->algorithms[0], f->algorithms[0]) == 0));
        }
        assert_true(same);
        assert_memory_equal(logits[0], logits[1], sizeof logits[0]);
        assert_true(a == b);
        rdp_test_network_close(&training);
        rdp_test_network_close(&inference);
    }
}

/* Uniform rows: within the bound, mean and variance as they should be (5 standard deviations), other rows and seeds
 * other values. */
static void test_initialise(void **unused)
{
    struct rdp_test_setup setup = basic();
    struct rdp_test_network test;
    float *before = NULL;
    (void)unused;
    open_network(&test, &setup);
    for (int row = 0; row < test.model->parameter_count; row++) {
        const struct rdp_parameter *parameter = &test.model->parameters[row];
        float *flat = rdp_test_is_trained(&test, row) ? test.network->parameters : test.network->state;
        float *values = rdp_test_network_row(&test, row, flat);
        const double n = (double)parameter->count, bound = parameter->init;
        double mean = 0, square = 0;
        for (int64_t i = 0; i < parameter->count; i++) {
            mean += (double)values[i] / n;
            square += (double)values[i] * (double)values[i] / n;
            assert_true(parameter->uniform ? fabs((double)values[i]) <= bound : (double)values[i] == bound);
        }
        if (parameter->uniform) {
            assert_true(fabs(mean) < 5 * bound / sqrt(3 * n));
            assert_true(fabs(square - bound * bound / 3) < 5 * bound * bound * sqrt(4.0 / 45 / n));
            assert_true(before == NULL || memcmp(before, values, 10 * sizeof *values) != 0);
            free(before);
            before = values;
            RDP_MUST(rdp_network_initialise(test.network, 1));
            float *again = rdp_test_network_row(&test, row, flat);
            assert_memory_equal(again, values, (size_t)parameter->count * sizeof *values);
            free(again);
            RDP_MUST(rdp_network_initialise(test.network, 2));
            again = rdp_test_network_row(&test, row, flat);
            assert_true(memcmp(again, values, (size_t)parameter->count * sizeof *values) != 0);
            free(again);
            RDP_MUST(rdp_network_initialise(test.network, 1));
        } else {
            free(values);
        }
    }
    free(before);
    rdp_test_network_close(&test);
}

/* A bank of (out, in, 3, 3) filters with the identity in it: as many filters as there are input channels, or fewer, pass
 * on theirs; the filters beyond them are those of the default. */
static void test_dirac(void **unused)
{
    struct rdp_test_setup setup = basic();
    struct rdp_test_network test, plain;
    int banks = 0, left = 0;
    (void)unused;
    open_network(&plain, &setup);
    setup.options.conv_init = RDP_CONV_INIT_DIRAC;
    open_network(&test, &setup);
    for (int row = 0; row < test.model->parameter_count; row++) {
        const struct rdp_parameter *parameter = &test.model->parameters[row];
        float *flat = rdp_test_is_trained(&test, row) ? test.network->parameters : test.network->state;
        float *flat_plain = rdp_test_is_trained(&plain, row) ? plain.network->parameters : plain.network->state;
        float *values = rdp_test_network_row(&test, row, flat), *before = rdp_test_network_row(&plain, row, flat_plain);
        const bool bank =
            parameter->dims_count == 4 && parameter->dims[2] == 3 && strcmp(parameter->name, "conv1.weight");
        const int64_t area = 9, in = bank ? parameter->dims[1] : 1;
        banks += bank;
        for (int64_t i = 0; i < parameter->count; i++) {
            const int64_t filter = i / (in * area), channel = i / area % in;
            const bool identity = bank && filter < in;
            left += bank && !identity;
            assert_true(values[i] == (identity ? (float)(channel == filter && i % area == 4) : before[i]));
        }
        free(values);
        free(before);
    }
    assert_int_equal(banks, 4);
    assert_true(left > 0);
    rdp_test_network_close(&test);
    rdp_test_network_close(&plain);
}

/* Which of an operation's tensors it writes: the last of them, but for what rewrites one (t[2] of reduce, t[0]). */
static int written(const struct rdp_operation *op)
{
    switch (op->kind) {
    case RDP_OP_AUGMENT:
    case RDP_OP_POOL_BACKWARD:
    case RDP_OP_MIX:
    case RDP_OP_DROPOUT:
    case RDP_OP_DROPOUT_BACKWARD:
        return 0;
    case RDP_OP_CONV_FORWARD:
    case RDP_OP_CONV_STATISTICS:
    case RDP_OP_PAD_FORWARD:
    case RDP_OP_PAD_BACKWARD:
    case RDP_OP_MAX_POOL_FORWARD:
    case RDP_OP_CONV_DATA:
        return 1;
    case RDP_OP_BN_APPLY:
    case RDP_OP_BN_BACKWARD_APPLY:
    case RDP_OP_BN_REDUCE:
    case RDP_OP_MAX_POOL_BACKWARD:
        return 2;
    default:
        return RDP_NO_TENSOR;
    }
}

static bool rewrites(const struct rdp_operation *op)
{
    return op->kind == RDP_OP_BN_REDUCE || op->kind == RDP_OP_MIX || op->kind == RDP_OP_DROPOUT ||
           op->kind == RDP_OP_DROPOUT_BACKWARD;
}

/* The plan, walked: every tensor that is read was written before, and since then nobody wrote to its memory; tensors of
 * one slot have lives (in segments, since chunks interleave inside one) that do not touch. */
static void check_plan(const struct rdp_network *network)
{
    const struct rdp_network_plan *plan = network->plan;
    int *owner = malloc((size_t)plan->slot_count * sizeof *owner);
    assert_non_null(owner);
    memset(owner, 0xff, (size_t)plan->slot_count * sizeof *owner);
    for (int a = 0; a < plan->tensor_count; a++)
        for (int b = 0; b < a; b++)
            if (plan->tensors[a].data == plan->tensors[b].data)
                assert_true(plan->tensors[a].first > plan->tensors[b].last ||
                            plan->tensors[b].first > plan->tensors[a].last);
    for (int i = 0; i < plan->operation_count; i++) {
        const struct rdp_operation *op = &plan->operations[i];
        for (int pass = 0; pass < 2; pass++) /* reads, then the write */
            for (int k = 0; k < 4; k++) {
                int slot = 0;
                if (op->t[k] == RDP_NO_TENSOR || (pass == 1) != (k == written(op)))
                    continue;
                const struct rdp_tensor *tensor = &plan->tensors[op->t[k]];
                assert_true(tensor->first <= op->segment && op->segment <= tensor->last);
                while (slot < plan->slot_count && plan->slots[slot] != tensor->data)
                    slot++;
                assert_true(slot < plan->slot_count);
                if (pass == 0 || rewrites(op))
                    assert_int_equal(owner[slot], op->t[k]);
                owner[slot] = op->t[k];
            }
    }
    free(owner);
}

static void test_memory_plan(void **unused)
{
    static const int deep[] = {3, 4, 6, 3, 0}, widths[] = {8, 16, 24, 32, 0};
    struct rdp_test_setup setups[] = {basic(),
                                      bottleneck(),
                                      padded(),
                                      rdp_test_setup(RDP_BLOCK_BOTTLENECK, deep, 8, widths),
                                      rdp_test_setup(RDP_BLOCK_BASIC, deep, 8, widths),
                                      dropped(),
                                      pooled(),
                                      smooth(),
                                      plain()};
    enum { SETUPS = sizeof setups / sizeof *setups };
    (void)unused;
    setups[3].options.dropout.values[0] = 0.1;
    setups[3].options.freeze_stem = true;
    setups[4].options.shortcut = RDP_SHORTCUT_PAD;
    setups[5].options.cutmix = 1;
    for (int k = 0; k < 2 * SETUPS; k++) {
        struct rdp_test_network test;
        setups[k % SETUPS].batch = 2;
        setups[k % SETUPS].inference = k >= SETUPS;
        open_network(&test, &setups[k % SETUPS]);
        check_plan(test.network);
        for (size_t i = 0; i < test.network->boundary_count; i++)
            assert_true(i == 0 || test.network->boundaries[i] > test.network->boundaries[i - 1]);
        if (k < SETUPS)
            assert_int_equal(test.network->boundaries[test.network->boundary_count - 1],
                             test.network->parameter_count + RDP_TOTALS);
        rdp_test_network_close(&test);
    }
}

/* What is announced as final is final: it has the value that it has at the end; watermarks rise to the end of the
 * totals. */
struct announced {
    struct rdp_network *network;
    float *seen;
    size_t watermark;
};

static int note_ready(void *context, size_t watermark)
{
    struct announced *announced = context;
    assert_true(watermark > announced->watermark);
    memcpy(announced->seen + announced->watermark, announced->network->gradients + announced->watermark,
           (watermark - announced->watermark) * sizeof(float));
    announced->watermark = watermark;
    return 0;
}

static void test_announcements(void **unused)
{
    struct rdp_test_setup setups[] = {basic(), bottleneck(), padded(), dropped()};
    (void)unused;
    for (int k = 0; k < 4; k++) {
        struct rdp_test_network test;
        open_network(&test, &setups[k]);
        const size_t count = test.network->parameter_count + RDP_TOTALS;
        struct announced announced = {.network = test.network, .seen = rdp_test_floats(count)};
        rdp_test_network_loss(&test, true);
        for (size_t i = 0; i < test.network->parameter_count; i++)
            test.network->gradients[i] = 1e30f;
        RDP_MUST(rdp_network_backward(test.network, note_ready, NULL, &announced));
        assert_int_equal(announced.watermark, count);
        assert_memory_equal(announced.seen, test.network->gradients, count * sizeof(float));
        for (int row = 0; row < test.model->parameter_count; row++)
            for (size_t i = 0; rdp_test_is_trained(&test, row) && i < test.network->rows[row].stored_count; i++)
                assert_true(fabsf(test.network->gradients[test.network->rows[row].offset + i]) <
                            1e6f); /* each was written */
        rdp_test_free(announced.seen);
        rdp_test_network_close(&test);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gradient),   cmocka_unit_test(test_bf16),        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_evaluation), cmocka_unit_test(test_inference),   cmocka_unit_test(test_initialise),
        cmocka_unit_test(test_dirac),      cmocka_unit_test(test_memory_plan), cmocka_unit_test(test_announcements),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
