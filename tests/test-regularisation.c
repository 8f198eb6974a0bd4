/*
 * Dropout's mask and the draws of mix-up and CutMix as distributions, what the options do to a network, and evaluation
 * with more views than one. Gradients: test-gradients.c and test-network.c; devices: support_agreement_regularise.c; runs:
 * test-train.sh.
 *
 * Statistical bounds are five standard deviations: with fixed seeds a test passes always or never.
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

#include "comm/launch.h"
#include "evaluator.h"
#include "mixing.h"
#include "network_plan.h"
#include "support_io.h"
#include "support_network.h"

static const int one_one[] = {1, 1, 0}, narrow[] = {8, 16, 0};

/* Which of an image's elements are kept, in PyTorch's order. */
enum { CHANNELS = 40, SIDE = 16, ELEMENTS = CHANNELS * SIDE * SIDE };

static double *mask_of(struct rdp_device *device, float probability, uint64_t seed, uint32_t layer, uint32_t step,
                       int64_t sample)
{
    const struct rdp_dropout dropout = {
        .shape = {CHANNELS, SIDE, SIDE}, .probability = probability, .seed = seed, .layer = layer};
    const struct rdp_step_values values = {.step = step};
    double *mask = rdp_test_doubles(ELEMENTS);
    void *x = rdp_test_activations(device, dropout.shape, 1, false);
    for (int i = 0; i < ELEMENTS; i++)
        mask[i] = 1;
    rdp_test_put(device, dropout.shape, 1, false, mask, x);
    RDP_MUST(device->ops->dropout_forward(device, &dropout, &values, &sample, x, x, 0, 1));
    rdp_test_take(device, dropout.shape, 1, false, x, mask);
    for (int i = 0; i < ELEMENTS; i++) {
        /* p is rounded to 2^-16 */
        assert_true(mask[i] == 0 ||
                    fabs(mask[i] * (1 - (double)probability) - 1) < 0x1p-16 / (1 - (double)probability));
        mask[i] = mask[i] != 0;
    }
    rdp_test_free(x);
    return mask;
}

static void test_rate(void **unused)
{
    static const float probabilities[] = {0.1f, 0.3f, 0.5f, 0.9f};
    struct rdp_device *device = rdp_test_device(1, false, RDP_ALGORITHM_DIRECT);
    (void)unused;
    for (int k = 0; k < 4; k++) {
        const double p = (double)probabilities[k];
        double channels[CHANNELS] = {0}, kept = 0;
        enum { SAMPLES = 20 };
        for (int64_t sample = 0; sample < SAMPLES; sample++) {
            double *mask = mask_of(device, probabilities[k], 1, 0, 5, sample);
            for (int i = 0; i < ELEMENTS; i++) {
                kept += mask[i];
                channels[i / (SIDE * SIDE)] += mask[i];
            }
            free(mask);
        }
        assert_true(fabs(kept / (SAMPLES * ELEMENTS) - (1 - p)) < 5 * sqrt(p * (1 - p) / (SAMPLES * ELEMENTS)));
        for (int c = 0; c < CHANNELS; c++)
            assert_true(fabs(channels[c] / (SAMPLES * SIDE * SIDE) - (1 - p)) <
                        5 * sqrt(p * (1 - p) / (SAMPLES * SIDE * SIDE)));
    }
    rdp_device_close(device);
}

/* Two independent masks agree in (1 - p)^2 + p^2 of their elements, equal ones in all. */
static void check_independent(const double *a, const double *b, int count, double p)
{
    const double expected = (1 - p) * (1 - p) + p * p;
    double agree = 0;
    for (int i = 0; i < count; i++)
        agree += a[i] == b[i];
    if (!(fabs(agree / count - expected) < 5 * sqrt(expected * (1 - expected) / count)))
        fail_msg("masks agree in %.4f of their elements, not %.4f", agree / count, expected);
}

static void test_independence(void **unused)
{
    const float p = 0.3f;
    struct rdp_device *device = rdp_test_device(1, false, RDP_ALGORITHM_DIRECT);
    double *base = mask_of(device, p, 1, 0, 5, 7), *again = mask_of(device, p, 1, 0, 5, 7);
    double *others[] = {mask_of(device, p, 2, 0, 5, 7), mask_of(device, p, 1, 1, 5, 7), mask_of(device, p, 1, 0, 6, 7),
                        mask_of(device, p, 1, 0, 5, 8), mask_of(device, p, 1ull << 32 | 1, 0, 5, 7)};
    (void)unused;
    assert_memory_equal(base, again, ELEMENTS * sizeof *base);
    for (int i = 0; i < 5; i++) {
        check_independent(base, others[i], ELEMENTS, (double)p);
        free(others[i]);
    }
    check_independent(base, base + 1, ELEMENTS - 1, (double)p); /* neighbours in x, y, c; eight channels on */
    check_independent(base, base + SIDE, ELEMENTS - SIDE, (double)p);
    check_independent(base, base + SIDE * SIDE, ELEMENTS - SIDE * SIDE, (double)p);
    check_independent(base, base + 8 * SIDE * SIDE, ELEMENTS - 8 * SIDE * SIDE, (double)p);
    free(base);
    free(again);
    rdp_device_close(device);
}

static int compare_doubles(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Beta(a, a) for a where its distribution function is elementary. */
static double distribution(double alpha, double x)
{
    if (alpha == 0.5)
        return 2 / acos(-1.0) * asin(sqrt(x));
    return alpha == 1 ? x : x * x * (3 - 2 * x);
}

/* Kolmogorov and Smirnov's distance, which exceeds 2 / sqrt(n) once in 1,500; mean and variance 1 / (4 (2 a + 1)),
 * whose own standard deviation is at most 1 / 4 sqrt(n). */
static void test_beta(void **unused)
{
    enum { DRAWS = 20000 };
    static const double alphas[] = {0.5, 1, 2, 0.05, 0.2, 8, 100};
    double *draws = rdp_test_doubles(DRAWS);
    (void)unused;
    for (int k = 0; k < 7; k++) {
        double mean = 0, square = 0, distance = 0;
        for (int i = 0; i < DRAWS; i++) {
            draws[i] = rdp_mixing_beta(3, i, alphas[k]);
            assert_true(draws[i] >= 0 && draws[i] <= 1);
            mean += draws[i] / DRAWS;
            square += (draws[i] - 0.5) * (draws[i] - 0.5) / DRAWS;
        }
        qsort(draws, DRAWS, sizeof *draws, compare_doubles);
        for (int i = 0; i < DRAWS && k < 3; i++)
            distance = fmax(distance, fabs(distribution(alphas[k], draws[i]) - (i + 0.5) / DRAWS));
        print_message("Beta(%g): mean %.4f, variance %.4f, distance %.4f\n", alphas[k], mean, square, distance);
        const double variance = 1 / (4 * (2 * alphas[k] + 1));
        assert_true(fabs(mean - 0.5) < 5 * sqrt(variance / DRAWS));
        assert_true(fabs(square - variance) < 5 * fmin(0.25, 2 * variance) / sqrt(DRAWS));
        assert_true(distance < 2 / sqrt(DRAWS));
    }
    assert_true(rdp_mixing_beta(3, 1, 1e-300) == rdp_mixing_beta(3, 1, 1e-300)); /* 0 or 1, no NaN */
    free(draws);
}

/* What torchvision.transforms.v2.CutMix (0.29) gives for the same lambda and centre. */
static void test_box(void **unused)
{
    static const struct {
        double lambda;
        int y, x, box[4];
        double corrected;
    } cases[] = {
        {0.5, 16, 16, {5, 5, 27, 27}, 0.52734375},
        {0.9, 0, 31, {0, 26, 5, 32}, 0.970703125},
        {0, 16, 16, {0, 0, 32, 32}, 0},
        {1, 5, 5, {5, 5, 5, 5}, 1},
        {0.25, 31, 2, {18, 0, 32, 15}, 0.794921875},
        {0.75, 3, 29, {0, 21, 11, 32}, 0.8818359375},
        {0.01, 20, 10, {5, 0, 32, 25}, 0.3408203125},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        int32_t box[4];
        assert_true(rdp_mixing_cut(cases[i].lambda, cases[i].y, cases[i].x, box) == cases[i].corrected);
        for (int k = 0; k < 4; k++)
            assert_int_equal(box[k], cases[i].box[k]);
    }
}

static bool is_cut(const struct rdp_step_values *values)
{
    return values->mix_pixels == 1;
}

static void test_draws(void **unused)
{
    enum { STEPS = 4000 };
    struct rdp_options options;
    int cuts = 0, rows[32] = {0};
    (void)unused;
    rdp_options_default(&options);
    assert_false(rdp_mixing_asked(&options));
    struct rdp_step_values values = {.mix_box = {1, 2, 3, 4}};
    rdp_mixing_draw(&options, 3, &values);
    assert_true(values.mix == 1 && values.mix_pixels == 1 && values.mix_box[2] == 0 && values.mix_box[3] == 0);
    for (int both = 0; both < 3; both++) {
        options.mixup = both == 1 ? 0 : 0.4;
        options.cutmix = both == 0 ? 0 : 1;
        assert_true(rdp_mixing_asked(&options));
        for (int step = 0; step < STEPS; step++) {
            struct rdp_step_values again = {.lr = 0};
            rdp_mixing_draw(&options, step, &values);
            rdp_mixing_draw(&options, step, &again);
            assert_true(values.mix == again.mix && values.mix_pixels == again.mix_pixels);
            assert_memory_equal(values.mix_box, again.mix_box, sizeof again.mix_box);
            const int32_t *box = values.mix_box, area = (box[2] - box[0]) * (box[3] - box[1]);
            assert_true(box[0] >= 0 && box[1] >= 0 && box[2] <= 32 && box[3] <= 32 && area >= 0);
            assert_true(is_cut(&values) ? values.mix == 1 - (float)area / 1024
                                        : area == 0 && values.mix == values.mix_pixels);
            if (both == 1)
                rows[box[0] / 2 + box[2] / 2]++; /* twice the centre, on the whole */
            if (both == 0)
                assert_true(values.mix < 1 || values.mix_pixels == 1);
            cuts += both == 2 && is_cut(&values);
        }
    }
    assert_true(abs(cuts - STEPS / 2) < 5 * sqrt(STEPS) / 2);
    for (int i = 1; i < 31; i++) /* no row of centres is missing */
        assert_true(rows[i] > 0);
    rdp_mixing_draw(&options, 0, &values);
    const float first = values.mix;
    options.seed = 2;
    rdp_mixing_draw(&options, 0, &values);
    assert_true(values.mix != first);
}

/* Dropout of 0 leaves a network as it is; other values add layers, but no parameters. */
static void test_layers(void **unused)
{
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, one_one, 8, narrow);
    struct rdp_model *plain, *dropped;
    char *text;
    size_t size;
    (void)unused;
    RDP_MUST(rdp_model_create(&plain, &setup.options, 10));
    setup.options.dropout = (struct rdp_real_list){.count = 2, .values = {0, 0}};
    RDP_MUST(rdp_model_create(&dropped, &setup.options, 10));
    assert_int_equal(dropped->layer_count, plain->layer_count);
    rdp_model_destroy(dropped);
    setup.options.dropout = (struct rdp_real_list){.count = 2, .values = {0, 0.25}};
    RDP_MUST(rdp_model_create(&dropped, &setup.options, 10));
    assert_int_equal(dropped->layer_count, plain->layer_count + 1);
    assert_int_equal(dropped->parameter_count, plain->parameter_count);
    const struct rdp_layer *layer = &dropped->layers[dropped->layer_count - 3];
    assert_int_equal(layer->kind, RDP_LAYER_DROPOUT);
    assert_string_equal(layer->name, "layer2.dropout");
    assert_true(layer->probability == 0.25 && layer->stage == 1);
    for (int i = 0; i < plain->parameter_count; i++)
        assert_string_equal(dropped->parameters[i].name, plain->parameters[i].name);
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    rdp_model_summary(dropped, out);
    fclose(out);
    assert_non_null(strstr(text, "Dropout p=0.25"));
    free(text);
    rdp_model_destroy(plain);
    rdp_model_destroy(dropped);
}

static void test_zero_init(void **unused)
{
    (void)unused;
    for (int bottleneck = 0; bottleneck < 2; bottleneck++) {
        struct rdp_test_setup setup =
            rdp_test_setup(bottleneck ? RDP_BLOCK_BOTTLENECK : RDP_BLOCK_BASIC, one_one, 8, narrow);
        struct rdp_model *model;
        int zero = 0;
        setup.options.zero_init_residual = true;
        RDP_MUST(rdp_model_create(&model, &setup.options, 10));
        for (int i = 0; i < model->parameter_count; i++) {
            const struct rdp_parameter *row = &model->parameters[i];
            const bool last = strstr(row->name, bottleneck ? "bn3.weight" : "0.bn2.weight") != NULL;
            const bool weight = strstr(row->name, "bn") != NULL && strstr(row->name, ".weight") != NULL;
            zero += last;
            if (weight)
                assert_true(row->init == (last ? 0 : 1));
        }
        assert_int_equal(zero, 2);
        rdp_model_destroy(model);
    }
}

/* What goes into a frozen stem: the passes back of its own layers, and what would bring them their gradients. */
static bool is_of_stem(const struct rdp_test_network *test, const struct rdp_operation *operation)
{
    const struct rdp_layer *layer = &test->model->layers[operation->layer];
    switch (operation->kind) {
    case RDP_OP_CONV_WEIGHTS:
    case RDP_OP_BN_REDUCE:
    case RDP_OP_BN_BACKWARD_FINALIZE:
    case RDP_OP_BN_BACKWARD_APPLY:
        return layer->frozen;
    case RDP_OP_CONV_DATA:
    case RDP_OP_PAD_BACKWARD:
        return test->model->layers[layer->input].frozen;
    default:
        return false;
    }
}

/* A frozen stem: its gradients stay zero, its operations are not there, all else is as it was. */
static void check_frozen(struct rdp_test_setup setup)
{
    struct rdp_test_network free_stem, frozen;
    assert_true(rdp_test_network_open(&free_stem, &setup));
    setup.options.freeze_stem = true;
    assert_true(rdp_test_network_open(&frozen, &setup));
    assert_true(rdp_test_network_pass(&free_stem) == rdp_test_network_pass(&frozen));
    assert_int_equal(frozen.network->boundary_count, free_stem.network->boundary_count);
    for (int row = 0; row < frozen.model->parameter_count; row++) {
        if (!rdp_test_is_trained(&frozen, row))
            continue;
        const size_t count = (size_t)frozen.model->parameters[row].count;
        float *a = rdp_test_network_row(&frozen, row, frozen.network->gradients),
              *b = rdp_test_network_row(&free_stem, row, free_stem.network->gradients);
        if (frozen.model->layers[frozen.model->parameters[row].layer].frozen)
            memset(b, 0, count * sizeof *b);
        assert_memory_equal(a, b, count * sizeof *a);
        free(a);
        free(b);
    }
    for (int i = 0; i < frozen.network->plan->operation_count; i++)
        if (frozen.network->plan->operations[i].layer != RDP_NO_LAYER)
            assert_false(is_of_stem(&frozen, &frozen.network->plan->operations[i]));
    rdp_test_network_close(&free_stem);
    rdp_test_network_close(&frozen);
}

/* Read by a block without a shortcut of its own, by one with a convolution and by one that pads. */
static void test_frozen(void **unused)
{
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, one_one, narrow[0], narrow);
    (void)unused;
    check_frozen(setup);
    setup.options.stem_width = narrow[0] / 2;
    check_frozen(setup);
    setup.options.shortcut = RDP_SHORTCUT_PAD;
    check_frozen(setup);
    setup.options.downsample = RDP_DOWNSAMPLE_MAX_POOL;
    setup.options.strides.values[0] = 2;
    check_frozen(setup);
}

/* The step chooses the mask; the same step gives the same loss again, and evaluation none. */
static void test_steps(void **unused)
{
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, one_one, 8, narrow);
    struct rdp_test_network test, plain;
    (void)unused;
    assert_true(rdp_test_network_open(&plain, &setup));
    setup.options.dropout.values[0] = 0.3;
    assert_true(rdp_test_network_open(&test, &setup));
    assert_true(rdp_test_network_loss(&test, false) == rdp_test_network_loss(&plain, false));
    const double first = rdp_test_network_loss(&test, true);
    test.values.step = 1;
    assert_true(rdp_test_network_loss(&test, true) != first);
    rdp_test_network_close(&plain);
    rdp_test_network_close(&test);
    assert_true(rdp_test_network_open(&test, &setup));
    assert_true(rdp_test_network_loss(&test, true) == first);
    rdp_test_network_close(&test);
}

/* --- --evaluate-views --- */

enum { TEST_IMAGES = 21, CLASSES = 10 };

/* The pixel that reflection puts at `at`. */
static int reflected(int at)
{
    return at < 0 ? -at : at > 31 ? 62 - at : at;
}

/* What lies at pixel (y, x) of the view was at (y + shift, x + shift), or in the mirror. */
static void make_view(const uint8_t *image, int shift, int mirrored, uint8_t *view)
{
    for (int i = 0; i < RDP_IMAGE_BYTES; i++) {
        const int y = i / 96, x = mirrored ? 31 - i / 3 % 32 : i / 3 % 32;
        view[i] = image[reflected(y + shift) * 96 + reflected(x + shift) * 3 + i % 3];
    }
}

/* The mean of the logits of each image's views, which are made by hand. */
static void mean_logits(struct rdp_test_network *test, const uint8_t *images, enum rdp_views views,
                        double logits[TEST_IMAGES][CLASSES])
{
    static const struct {
        int shift, mirrored;
        double weights[3]; /* by enum rdp_views */
    } all[] = {{0, 0, {1, 0.5, 0.25}}, {0, 1, {0, 0.5, 0.25}}, {-1, 0, {0, 0, 0.125}},
               {-1, 1, {0, 0, 0.125}}, {1, 0, {0, 0, 0.125}},  {1, 1, {0, 0, 0.125}}};
    float *batch_logits = rdp_test_floats((size_t)test->network->config.batch * CLASSES);
    memset(logits, 0, sizeof(double[TEST_IMAGES][CLASSES]));
    for (int n = 0; n < TEST_IMAGES; n++)
        for (size_t k = 0; k < sizeof all / sizeof *all; k++) {
            make_view(images + n * RDP_IMAGE_BYTES, all[k].shift, all[k].mirrored, test->images);
            rdp_test_network_loss(test, false);
            RDP_MUST(rdp_network_logits(test->network, batch_logits));
            for (int class = 0; class < CLASSES; class ++)
                logits[n][class] += all[k].weights[views] * (double)batch_logits[class];
        }
    rdp_test_free(batch_logits);
}

static void check_evaluation(const struct rdp_evaluation *got, double logits[TEST_IMAGES][CLASSES],
                             const uint8_t *labels)
{
    int64_t correct = 0;
    double loss = 0;
    for (int n = 0; n < TEST_IMAGES; n++) {
        int best = 0;
        double sum = 0;
        for (int k = 0; k < CLASSES; k++) {
            best = logits[n][k] > logits[n][best] ? k : best;
            sum += exp(logits[n][k]);
        }
        correct += best == labels[n];
        loss += (log(sum) - logits[n][labels[n]]) / TEST_IMAGES;
    }
    assert_int_equal(got->count, TEST_IMAGES);
    assert_int_equal(got->correct, correct);
    assert_true(fabs(got->loss / loss - 1) < 1e-6);
}

static void test_evaluate_views(void **unused)
{
    const struct rdp_launch launch = {.size = 1, .local_size = 1, .host_count = 1};
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, one_one, 8, narrow);
    struct rdp_dataset_content content = {.count = {TEST_IMAGES, TEST_IMAGES}, .classes = CLASSES};
    uint8_t *images = malloc((size_t)TEST_IMAGES * RDP_IMAGE_BYTES), labels[TEST_IMAGES];
    double logits[TEST_IMAGES][CLASSES];
    struct rdp_test_network test;
    struct rdp_dataset *dataset;
    struct rdp_comm *comm;
    double losses[3];
    (void)unused;
    assert_non_null(images);
    for (int i = 0; i < TEST_IMAGES * RDP_IMAGE_BYTES; i++)
        images[i] = (uint8_t)(128 + 100 * rdp_test_value(1, (uint64_t)i) + (i / 3 % 32 < 16 ? 25 : -25));
    for (int k = 0; k < CLASSES; k++)
        snprintf(content.class_names[k], sizeof content.class_names[k], "class %d", k);
    assert_true(rdp_test_network_open(&test, &setup));
    rdp_test_network_pass(&test); /* running statistics */
    test.batch.augment.enabled = false;
    mean_logits(&test, images, RDP_VIEWS_6, logits);
    for (int n = 0; n < TEST_IMAGES; n++) { /* two of three labels are what the mean of the logits says */
        int best = 0;
        for (int k = 0; k < CLASSES; k++)
            best = logits[n][k] > logits[n][best] ? k : best;
        labels[n] = (uint8_t)(n % 3 == 0 ? (best + 1) % CLASSES : best);
    }
    for (int split = 0; split < 2; split++) {
        content.images[split] = images;
        content.labels[split] = labels;
    }
    RDP_MUST(rdp_dataset_write(rdp_test_path("views.h5"), &content));
    RDP_MUST(rdp_dataset_open(&dataset, rdp_test_path("views.h5")));
    RDP_MUST(rdp_comm_create(&comm, &launch));
    for (enum rdp_views views = RDP_VIEWS_1; views <= RDP_VIEWS_6; views++) {
        struct rdp_evaluator *evaluator;
        struct rdp_evaluation evaluation;
        RDP_MUST(rdp_evaluator_create(&evaluator, dataset, RDP_SPLIT_TEST, NULL, TEST_IMAGES, RDP_EVALUATE_RANK0, views,
                                      comm, test.device));
        RDP_MUST(rdp_evaluator_run(evaluator, test.network, &test.batch.augment, &evaluation));
        losses[views] = evaluation.loss;
        mean_logits(&test, images, views, logits);
        check_evaluation(&evaluation, logits, labels);
        rdp_evaluation_free(&evaluation);
        rdp_evaluator_destroy(evaluator);
    }
    for (int k = 0; k < 3; k++)
        assert_true(fabs(losses[k] - losses[(k + 1) % 3]) > 1e-6); /* they do make a difference here */
    rdp_comm_destroy(comm);
    rdp_dataset_close(dataset);
    rdp_test_network_close(&test);
    free(images);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rate),   cmocka_unit_test(test_independence),
        cmocka_unit_test(test_beta),   cmocka_unit_test(test_box),
        cmocka_unit_test(test_draws),  cmocka_unit_test(test_layers),
        cmocka_unit_test(test_frozen), cmocka_unit_test(test_zero_init),
        cmocka_unit_test(test_steps),  cmocka_unit_test(test_evaluate_views),
    };
    return cmocka_run_group_tests(tests, rdp_test_directory_make, rdp_test_directory_remove);
}
