/*
 * Convolutions on the CPU device, all three directions, against a plain loop in double: odd channel counts, strides,
 * chunks, the image input; f32 and bf16, by the direct and by the chosen (Winograd) algorithm.
 *
 * Tolerances. f32 direct: 1e-5 of the sum of the terms' magnitudes of that element (a few hundred terms, 2^-24 each,
 * added in any order). Winograd transforms before it multiplies, so its error is that of the tile, not of the element:
 * the same fraction of the largest such sum. bf16: inputs exact in bf16 and f32 accumulation, so the same, and 2^-8 of
 * a value that is stored in bf16 (half a unit of 8 significant bits).
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

#include "base/status.h"
#include "support_network.h"

enum { BATCH = 6, FORWARD = 0, BACKWARD_DATA, BACKWARD_WEIGHTS, PASSES };

/* A convolution's tensors and what they should become, NCHW and OIHW in double; `terms`: sums of the terms' magnitudes.
 */
struct problem {
    struct rdp_conv_desc desc;
    size_t x_count, y_count, w_count;
    double *x, *w, *dy, *want[PASSES], *terms[PASSES];
};

static size_t count_of(const struct problem *problem, int pass)
{
    return pass == FORWARD ? problem->y_count : pass == BACKWARD_DATA ? problem->x_count : problem->w_count;
}

static void accumulate(const struct problem *problem, int pass, size_t at, double term)
{
    problem->want[pass][at] += term;
    problem->terms[pass][at] += fabs(term);
}

/* All products of the convolution, each given to its three sums. */
static void solve(struct problem *problem)
{
    const struct rdp_conv_desc *d = &problem->desc;
    for (int n = 0; n < d->batch; n++)
        for (int o = 0; o < d->output.channels; o++)
            for (int oy = 0; oy < d->output.height; oy++)
                for (int ox = 0; ox < d->output.width; ox++)
                    for (int i = 0; i < d->input.channels; i++)
                        for (int k = 0; k < d->kernel * d->kernel; k++) {
                            const int iy = oy * d->stride + k / d->kernel - d->kernel / 2;
                            const int ix = ox * d->stride + k % d->kernel - d->kernel / 2;
                            if (iy < 0 || ix < 0 || iy >= d->input.height || ix >= d->input.width)
                                continue;
                            const size_t x =
                                (size_t)(((n * d->input.channels + i) * d->input.height + iy) * d->input.width + ix);
                            const size_t y =
                                (size_t)(((n * d->output.channels + o) * d->output.height + oy) * d->output.width + ox);
                            const size_t w = (size_t)((o * d->input.channels + i) * d->kernel * d->kernel + k);
                            accumulate(problem, FORWARD, y, problem->x[x] * problem->w[w]);
                            accumulate(problem, BACKWARD_DATA, x, problem->dy[y] * problem->w[w]);
                            accumulate(problem, BACKWARD_WEIGHTS, w, problem->dy[y] * problem->x[x]);
                        }
}

static struct problem make_problem(int in, int out, int kernel, int stride, int size, bool image, bool bf16)
{
    struct problem problem = {.desc = {.input = {in, size, size},
                                       .output = {out, (size + stride - 1) / stride, (size + stride - 1) / stride},
                                       .kernel = kernel,
                                       .stride = stride,
                                       .batch = BATCH,
                                       .chunk = BATCH,
                                       .input_is_image = image,
                                       .training = true}};
    problem.x_count = rdp_test_values(problem.desc.input, BATCH);
    problem.y_count = rdp_test_values(problem.desc.output, BATCH);
    problem.w_count = (size_t)(in * out * kernel * kernel);
    problem.x = rdp_test_fill(rdp_test_doubles(problem.x_count), problem.x_count, 1, bf16);
    problem.w = rdp_test_fill(rdp_test_doubles(problem.w_count), problem.w_count, 2, bf16);
    problem.dy = rdp_test_fill(rdp_test_doubles(problem.y_count), problem.y_count, 3, bf16);
    for (int pass = 0; pass < PASSES; pass++) {
        problem.want[pass] = rdp_test_doubles(count_of(&problem, pass));
        problem.terms[pass] = rdp_test_doubles(count_of(&problem, pass));
    }
    solve(&problem);
    return problem;
}

static void free_problem(struct problem *problem)
{
    free(problem->x);
    free(problem->w);
    free(problem->dy);
    for (int pass = 0; pass < PASSES; pass++) {
        free(problem->want[pass]);
        free(problem->terms[pass]);
    }
}

/* Worst error / (sum of magnitudes), by pass; for bf16 after the half unit of the stored value. */
enum { KIND_DIRECT, KIND_AUTO, KIND_BF16_DIRECT, KIND_BF16_AUTO, KINDS };
static const char *const kind_names[] = {"f32 direct", "f32 auto", "bf16 direct", "bf16 auto"};
static double worst_of[KINDS][PASSES];
static int winograd_count[KINDS];

static bool is_bf16(int kind)
{
    return kind >= KIND_BF16_DIRECT;
}

static bool is_auto(int kind)
{
    return kind == KIND_AUTO || kind == KIND_BF16_AUTO;
}

static void compare(const struct problem *problem, int pass, int kind, const double *got)
{
    const size_t count = count_of(problem, pass);
    const bool stored_bf16 = is_bf16(kind) && pass != BACKWARD_WEIGHTS;
    double largest = 0;
    for (size_t i = 0; i < count; i++)
        largest = fmax(largest, problem->terms[pass][i]);
    for (size_t i = 0; i < count; i++) {
        const double want = problem->want[pass][i], scale = is_auto(kind) ? largest : problem->terms[pass][i];
        const double error = fmax(0, fabs(got[i] - want) - (stored_bf16 ? 0x1p-8 * fabs(want) : 0));
        if (!(error <= 1e-5 * scale))
            fail_msg("%s, pass %d, %d to %d channels, kernel %d, stride %d, chunk %d: element %zu is %.9g, not %.9g",
                     kind_names[kind], pass, problem->desc.input.channels, problem->desc.output.channels,
                     problem->desc.kernel, problem->desc.stride, problem->desc.chunk, i, got[i], want);
        if (scale > 0)
            worst_of[kind][pass] = fmax(worst_of[kind][pass], error / scale);
    }
}

/* The device's weights: packed, unpacked to the same bits, and made ready. */
static float *load_weights(struct rdp_device *device, struct rdp_conv *conv, const struct problem *problem)
{
    float *stored = rdp_test_floats(conv->stored_count), *host = rdp_test_floats(problem->w_count);
    float *back = rdp_test_floats(problem->w_count);
    for (size_t i = 0; i < problem->w_count; i++)
        host[i] = (float)problem->w[i];
    RDP_MUST(device->ops->conv_pack(device, conv, host, stored));
    RDP_MUST(device->ops->conv_unpack(device, conv, stored, back));
    assert_memory_equal(host, back, problem->w_count * sizeof *host);
    RDP_MUST(device->ops->conv_weights(device, conv, stored, NULL, true));
    rdp_test_free(host);
    rdp_test_free(back);
    return stored;
}

/* All passes of one convolution in chunks, the last of which come first: ranges depend on no order. */
static void check_chunks(struct rdp_device *device, struct problem *problem, int chunk, int kind)
{
    const struct rdp_device_ops *ops = device->ops;
    const struct rdp_conv_desc *desc = &problem->desc;
    const bool image = desc->input_is_image;
    struct rdp_conv *conv;
    double *got = rdp_test_doubles(problem->x_count + problem->y_count + problem->w_count);
    problem->desc.chunk = chunk;
    RDP_MUST(ops->conv_create(device, &conv, desc));
    assert_true(conv->stored_count >= problem->w_count && conv->algorithms[FORWARD] != NULL);
    for (int pass = 0; pass < PASSES; pass++)
        winograd_count[kind] +=
            conv->algorithms[pass] != NULL && strcasestr(conv->algorithms[pass], "winograd") != NULL;
    float *stored = load_weights(device, conv, problem), *dw = rdp_test_floats(conv->stored_count);
    float *host = rdp_test_floats(problem->w_count);
    void *x = rdp_test_activations(device, desc->input, BATCH, image),
         *dx = rdp_test_activations(device, desc->input, BATCH, image);
    void *y = rdp_test_activations(device, desc->output, BATCH, false),
         *dy = rdp_test_activations(device, desc->output, BATCH, false);
    rdp_test_put(device, desc->input, BATCH, image, problem->x, x);
    rdp_test_put(device, desc->output, BATCH, false, problem->dy, dy);
    memset(y, 0x7f, rdp_test_bytes(device, desc->output, BATCH, false)); /* large numbers: all must be overwritten */
    memset(dx, 0x7f, rdp_test_bytes(device, desc->input, BATCH, image));
    memset(dw, 0x7f, conv->stored_count * sizeof *dw);

    for (int first = BATCH - chunk; first >= 0; first -= chunk)
        RDP_MUST(ops->conv_forward(device, conv, x, y, first, chunk));
    rdp_test_take(device, desc->output, BATCH, false, y, got);
    compare(problem, FORWARD, kind, got);
    if (!image) {
        for (int first = BATCH - chunk; first >= 0; first -= chunk)
            RDP_MUST(ops->conv_backward_data(device, conv, dy, dx, first, chunk));
        rdp_test_take(device, desc->input, BATCH, false, dx, got);
        compare(problem, BACKWARD_DATA, kind, got);
    }
    RDP_MUST(ops->conv_backward_weights(device, conv, x, dy, dw));
    RDP_MUST(ops->conv_unpack(device, conv, dw, host));
    for (size_t i = 0; i < problem->w_count; i++)
        got[i] = (double)host[i];
    compare(problem, BACKWARD_WEIGHTS, kind, got);
    void *blocks[] = {x, dx, y, dy, stored, dw, host};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        rdp_test_free(blocks[i]);
    free(got);
    ops->conv_destroy(device, conv);
}

struct shape_case {
    int in, out, size;
    bool image;
};
static const struct shape_case shapes[] = {
    {3, 16, 8, false},  {5, 3, 7, false},   {16, 5, 8, false},  {16, 16, 8, false},
    {20, 33, 8, false}, {33, 20, 5, false}, {33, 16, 4, false}, {5, 20, 1, false},
    {32, 48, 8, false}, {3, 20, 32, true},  {3, 33, 9, true},
};

static void check_all(int kind)
{
    static const int chunks[] = {6, 3, 2};
    const bool bf16 = is_bf16(kind);
    const enum rdp_kernel_algorithm algorithm = is_auto(kind) ? RDP_ALGORITHM_AUTO : RDP_ALGORITHM_DIRECT;
    for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
        for (int form = 0; form < 4; form++) {
            const int kernel = form & 1 ? 3 : 1, stride = form & 2 ? 2 : 1;
            struct problem problem =
                make_problem(shapes[s].in, shapes[s].out, kernel, stride, shapes[s].size, shapes[s].image, bf16);
            for (int threads = 1; threads <= 2; threads++) {
                struct rdp_device *device = rdp_test_device(threads, bf16, algorithm);
                if (device == NULL) {
                    free_problem(&problem);
                    print_message("skipped: no bf16 convolutions on this CPU\n");
                    skip();
                }
                for (int c = 0; c < 3; c++)
                    check_chunks(device, &problem, chunks[c], kind);
                rdp_device_close(device);
            }
            free_problem(&problem);
        }
    print_message("%s: worst error / sum of magnitudes: forward %.1e, data %.1e, weights %.1e; %d passes by Winograd\n",
                  kind_names[kind], worst_of[kind][FORWARD], worst_of[kind][BACKWARD_DATA],
                  worst_of[kind][BACKWARD_WEIGHTS], winograd_count[kind]);
    if (!is_auto(kind))
        assert_int_equal(winograd_count[kind], 0);
}

static void test_direct(void **unused)
{
    (void)unused;
    check_all(KIND_DIRECT);
}

static void test_auto(void **unused)
{
    (void)unused;
    check_all(KIND_AUTO);
}

static void test_bf16_direct(void **unused)
{
    (void)unused;
    check_all(KIND_BF16_DIRECT);
}

static void test_bf16_auto(void **unused)
{
    (void)unused;
    check_all(KIND_BF16_AUTO);
}

/* Planned for inference: the same forward pass from weights in plain form, and no backward. */
static void test_inference(void **unused)
{
    (void)unused;
    for (int bf16 = 0; bf16 < 2; bf16++) {
        struct rdp_device *device = rdp_test_device(2, bf16, RDP_ALGORITHM_DIRECT);
        if (device == NULL)
            continue;
        struct problem problem = make_problem(20, 33, 3, 1, 8, false, bf16);
        const struct rdp_conv_desc *desc = &problem.desc;
        struct rdp_conv *conv;
        problem.desc.training = false;
        RDP_MUST(device->ops->conv_create(device, &conv, desc));
        assert_null(conv->algorithms[BACKWARD_DATA]);
        assert_null(conv->algorithms[BACKWARD_WEIGHTS]);
        float *stored = load_weights(device, conv, &problem);
        void *x = rdp_test_activations(device, desc->input, BATCH, false),
             *y = rdp_test_activations(device, desc->output, BATCH, false);
        double *got = rdp_test_doubles(problem.y_count);
        rdp_test_put(device, desc->input, BATCH, false, problem.x, x);
        RDP_MUST(device->ops->conv_forward(device, conv, x, y, 0, BATCH));
        rdp_test_take(device, desc->output, BATCH, false, y, got);
        compare(&problem, FORWARD, bf16 ? KIND_BF16_DIRECT : KIND_DIRECT, got);
        free(got);
        rdp_test_free(x);
        rdp_test_free(y);
        rdp_test_free(stored);
        device->ops->conv_destroy(device, conv);
        free_problem(&problem);
        rdp_device_close(device);
    }
}

/* A range that is no whole number of chunks is a defect of the caller and is said; chunk() gives a divisor of the
 * batch. */
static void test_ranges(void **unused)
{
    struct rdp_device *device = rdp_test_device(1, false, RDP_ALGORITHM_DIRECT);
    struct rdp_conv_desc desc = {
        .input = {16, 4, 4}, .output = {16, 4, 4}, .kernel = 3, .stride = 1, .batch = 6, .chunk = 3, .training = true};
    struct rdp_conv *conv;
    static const int bad[][2] = {{1, 3}, {0, 2}, {3, 6}};
    (void)unused;
    RDP_MUST(device->ops->conv_create(device, &conv, &desc));
    void *x = rdp_test_activations(device, desc.input, 6, false),
         *y = rdp_test_activations(device, desc.output, 6, false);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(device->ops->conv_forward(device, conv, x, y, bad[i][0], bad[i][1]), RDP_EINTERNAL);
        rdp_fail_clear();
        assert_int_equal(device->ops->conv_backward_data(device, conv, y, x, bad[i][0], bad[i][1]), RDP_EINTERNAL);
        rdp_fail_clear();
    }
    device->ops->conv_destroy(device, conv);
    rdp_test_free(x);
    rdp_test_free(y);
    for (int batch = 1; batch < 300; batch += 13)
        for (int side = 4; side <= 32; side *= 2) {
            desc = (struct rdp_conv_desc){.input = {2048 / side, side, side},
                                          .output = {2048 / side, side, side},
                                          .kernel = 3,
                                          .stride = 1,
                                          .batch = batch};
            int chunk = device->ops->chunk(device, &desc);
            assert_true(chunk >= 1 && batch % chunk == 0);
        }
    rdp_device_close(device);
}

/* Winograd that was asked for is taken where it exists or refused, never replaced. */
static void test_winograd_asked(void **unused)
{
    struct rdp_device *device;
    const struct rdp_device_config config = {.threads = 1, .algorithm = RDP_ALGORITHM_WINOGRAD};
    const struct rdp_conv_desc desc = {
        .input = {64, 8, 8}, .output = {64, 8, 8}, .kernel = 3, .stride = 1, .batch = 2, .chunk = 2, .training = true};
    struct rdp_conv *conv;
    (void)unused;
    RDP_MUST(rdp_cpu_device_open(&device, &config));
    int status = device->ops->conv_create(device, &conv, &desc);
    if (status == RDP_OK) {
        for (int pass = 0; pass < PASSES; pass++)
            assert_non_null(strcasestr(conv->algorithms[pass], "winograd"));
        device->ops->conv_destroy(device, conv);
    } else {
        assert_int_equal(status, RDP_EUSAGE);
        assert_non_null(strcasestr(rdp_fail_message(), "winograd"));
        rdp_fail_clear();
    }
    rdp_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_direct),         cmocka_unit_test(test_auto),      cmocka_unit_test(test_bf16_direct),
        cmocka_unit_test(test_bf16_auto),      cmocka_unit_test(test_inference), cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_winograd_asked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
