/*
 * The CPU device's smaller operations against plain loops in double: pool, fully connected layer, loss, padded
 * shortcut, flat arrays, memory. The large ones: test-convolution.c, test-normalisation.c, test-augment.c; finite
 * differences of all: test-gradients.c.
 *
 * Tolerances. f32: TIGHT = 1e-6 of the magnitudes that were added (16 roundings). bf16: inputs are exact in bf16,
 * arithmetic is f32, and a stored value adds 2^-8 of itself (half a unit of 8 significant bits).
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support_network.h"

#define TIGHT 1e-6
enum { BATCH = 6 };
static double worst;

static void check_close(double got, double want, double scale, bool bf16)
{
    const double error = fmax(0, fabs(got - want) - (bf16 ? 0x1p-8 * fabs(want) : 0));
    if (!(error <= TIGHT * scale))
        fail_msg("%.9g, not %.9g (tolerance %.3g)", got, want, TIGHT * scale);
    if (scale > 0)
        worst = fmax(worst, error / scale);
}

static void check_head(int threads)
{
    enum { CHANNELS = 33, CLASSES = 10 };
    struct rdp_device *device = rdp_test_device(threads, false, RDP_ALGORITHM_DIRECT);
    float *x = rdp_test_floats(BATCH * CHANNELS), *w = rdp_test_floats(CLASSES * CHANNELS),
          *b = rdp_test_floats(CLASSES);
    float *y = rdp_test_floats(BATCH * CLASSES), *dy = rdp_test_floats(BATCH * CLASSES),
          *dx = rdp_test_floats(BATCH * CHANNELS);
    float *dw = rdp_test_floats(CLASSES * CHANNELS), *db = rdp_test_floats(CLASSES);
    float *random[] = {x, w, b, dy, dx, dw, db};
    const int counts[] = {BATCH * CHANNELS, CLASSES * CHANNELS, CLASSES, BATCH * CLASSES,
                          BATCH * CHANNELS, CLASSES * CHANNELS, CLASSES};
    for (uint32_t i = 0; i < 7; i++)
        for (int k = 0; k < counts[i]; k++)
            random[i][k] = (float)rdp_test_value(30 + i, (uint64_t)k);
    RDP_MUST(device->ops->fc_forward(device, BATCH, CHANNELS, CLASSES, x, w, b, y));
    RDP_MUST(device->ops->fc_backward(device, BATCH, CHANNELS, CLASSES, x, w, dy, dw, db, dx));
    for (int n = 0; n < BATCH; n++)
        for (int k = 0; k < CLASSES; k++) {
            double sum = (double)b[k], terms = fabs(sum);
            for (int c = 0; c < CHANNELS; c++) {
                sum += (double)x[n * CHANNELS + c] * (double)w[k * CHANNELS + c];
                terms += fabs((double)x[n * CHANNELS + c] * (double)w[k * CHANNELS + c]);
            }
            check_close((double)y[n * CLASSES + k], sum, terms, false);
        }
    for (int c = 0; c < CHANNELS; c++) {
        for (int n = 0; n < BATCH; n++) {
            double sum = 0;
            for (int k = 0; k < CLASSES; k++)
                sum += (double)dy[n * CLASSES + k] * (double)w[k * CHANNELS + c];
            check_close((double)dx[n * CHANNELS + c], sum, CLASSES, false);
        }
        for (int k = 0; k < CLASSES; k++) {
            double sum = 0, bias = 0;
            for (int n = 0; n < BATCH; n++) {
                sum += (double)dy[n * CLASSES + k] * (double)x[n * CHANNELS + c];
                bias += (double)dy[n * CLASSES + k];
            }
            check_close((double)dw[k * CHANNELS + c], sum, BATCH, false);
            check_close((double)db[k], bias, BATCH, false);
        }
    }
    float *all[] = {x, w, b, y, dy, dx, dw, db};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        rdp_test_free(all[i]);
    rdp_device_close(device);
}

static void test_fully_connected(void **unused)
{
    (void)unused;
    check_head(1);
    check_head(2);
}

/* torch.nn.functional.cross_entropy, with padding rows, ties, large logits; sums are added to what totals hold. Mixed
 * labels: the targets are probabilities then, as torch's cross_entropy takes them too. */
static void test_loss(void **unused)
{
    enum { CLASSES = 10 };
    static const float smoothings[] = {0, 0.1f};
    struct rdp_device *device = rdp_test_device(1, false, RDP_ALGORITHM_DIRECT);
    float *logits = rdp_test_floats(BATCH * CLASSES), *gradient = rdp_test_floats(BATCH * CLASSES),
          *totals = rdp_test_floats(2);
    const uint8_t labels[BATCH] = {0, 9, 3, 3, 1, 7};
    (void)unused;
    for (int i = 0; i < BATCH * CLASSES; i++)
        logits[i] =
            (float)(4 * rdp_test_value(40, (uint64_t)i) + (i / CLASSES == 1 ? 1000 : 0)); /* exp() would overflow */
    logits[2 * CLASSES + 3] = logits[2 * CLASSES + 5] =
        20; /* the first of equals is the prediction: label 3 is right */
    const struct rdp_step_values mixed = {.mix = 0.3f};
    for (int variant = 0; variant < 10; variant++) {
        const double smoothing = (double)smoothings[variant % 2], mix = variant < 8 ? 1 : (double)mixed.mix;
        const int valid = variant & 2 || variant >= 8 ? BATCH : 4, correct_before = 3;
        double loss = 5;
        int correct = correct_before;
        totals[0] = 5;
        totals[1] = (float)correct_before;
        for (int i = 0; i < BATCH * CLASSES; i++)
            gradient[i] = 77;
        RDP_MUST(device->ops->loss(device, BATCH, valid, CLASSES, logits, labels, variant < 8 ? NULL : &mixed,
                                   smoothings[variant % 2], 0.25f,
                                   variant & 4 ? NULL : gradient, totals));
        for (int n = 0; n < BATCH; n++) {
            const float *row = logits + n * CLASSES;
            double sum = 0, largest = (double)row[0];
            int best = 0;
            for (int k = 1; k < CLASSES; k++)
                best = row[k] > row[best] ? k : best;
            largest = (double)row[best];
            for (int k = 0; k < CLASSES; k++)
                sum += exp((double)row[k] - largest);
            for (int k = 0; k < CLASSES; k++) {
                const double log_p = (double)row[k] - largest - log(sum);
                const double label = mix * (k == labels[n]) + (1 - mix) * (k == labels[BATCH - 1 - n]);
                const double target = smoothing / CLASSES + (1 - smoothing) * label;
                const double want = variant & 4 ? 77 : n < valid ? 0.25 * (exp(log_p) - target) : 0;
                loss -= n < valid ? target * log_p : 0;
                check_close((double)gradient[n * CLASSES + k], want, 1, false);
            }
            correct += n < valid && best == labels[n];
        }
        check_close((double)totals[0], loss, fabs(loss), false);
        assert_true(totals[1] == (float)correct);
    }
    rdp_test_free(logits);
    rdp_test_free(gradient);
    rdp_test_free(totals);
    rdp_device_close(device);
}

/* Global average pool and option A's shortcut, and their transposes; exact but for the pool's sum. */
static void check_pool_and_pad(struct rdp_device *device, int channels, int out_channels, int size)
{
    const struct rdp_shape in = {channels, size, size}, out = {out_channels, size / 2, size / 2};
    const bool bf16 = rdp_test_is_bf16(device);
    const size_t x_count = rdp_test_values(in, BATCH), y_count = rdp_test_values(out, BATCH),
                 pixels = (size_t)(size * size);
    const int before = (out_channels - channels) / 2;
    double *x = rdp_test_fill(rdp_test_doubles(x_count), x_count, 50, bf16),
           *y = rdp_test_fill(rdp_test_doubles(y_count), y_count, 51, bf16);
    double *got = rdp_test_doubles(x_count + y_count);
    void *dx = rdp_test_activations(device, in, BATCH, false), *dy = rdp_test_activations(device, out, BATCH, false);
    float *features = rdp_test_floats((size_t)(BATCH * channels));
    rdp_test_put(device, in, BATCH, false, x, dx);
    memset(dy, 0x7f, rdp_test_bytes(device, out, BATCH, false));
    for (int first = 0; first < BATCH; first += 2) {
        RDP_MUST(device->ops->pad_forward(device, in, out, dx, dy, first, 2));
        RDP_MUST(device->ops->pool_forward(device, in, dx, features, first, 2));
    }
    rdp_test_take(device, out, BATCH, false, dy, got);
    for (size_t i = 0; i < y_count; i++) {
        const int w = (int)i % out.width, h = (int)i / out.width % out.height,
                  o = (int)i / out.width / out.height % out_channels;
        const int n = (int)i / out.width / out.height / out_channels, c = o - before;
        const size_t from =
            (((size_t)n * (size_t)channels + (size_t)c) * (size_t)size + (size_t)(2 * h)) * (size_t)size +
            (size_t)(2 * w);
        assert_true(got[i] == (c >= 0 && c < channels ? x[from] : 0));
    }
    for (size_t i = 0; i < (size_t)(BATCH * channels); i++) {
        double sum = 0;
        for (size_t p = 0; p < pixels; p++)
            sum += x[i * pixels + p] / (double)pixels;
        check_close((double)features[i], sum, 1, false);
    }
    rdp_test_put(device, out, BATCH, false, y, dy);
    memset(dx, 0x7f, rdp_test_bytes(device, in, BATCH, false));
    RDP_MUST(device->ops->pad_backward(device, in, out, dy, dx, 0, BATCH));
    rdp_test_take(device, in, BATCH, false, dx, got);
    double sums[2] = {0, 0},
           entries = 0; /* the transpose: <dy, pad(x)> = <pad'(dy), x>, and as many entries as pixels kept */
    for (size_t i = 0; i < x_count; i++) {
        sums[0] += got[i] * x[i];
        entries += got[i] != 0;
    }
    rdp_test_put(device, in, BATCH, false, x, dx);
    RDP_MUST(device->ops->pad_forward(device, in, out, dx, dy, 0, BATCH));
    rdp_test_take(device, out, BATCH, false, dy, got);
    for (size_t i = 0; i < y_count; i++)
        sums[1] += got[i] * y[i];
    check_close(sums[0], sums[1], (double)x_count * 1e-6, false);
    assert_true(entries > 0 && entries <= (double)(BATCH * channels) * (double)pixels / 4);
    memset(dx, 0x7f, rdp_test_bytes(device, in, BATCH, false));
    for (int first = 0; first < BATCH; first += 3)
        RDP_MUST(device->ops->pool_backward(device, in, features, dx, first, 3));
    rdp_test_take(device, in, BATCH, false, dx, got);
    for (size_t i = 0; i < x_count; i++)
        check_close(got[i], (double)features[i / pixels] / (double)pixels, fabs((double)features[i / pixels]), bf16);
    rdp_test_free(dx);
    rdp_test_free(dy);
    rdp_test_free(features);
    free(x);
    free(y);
    free(got);
}

/* Max-pool and its way back, exact, against their definition; few distinct values, so that windows hold ties. */
static void check_max_pool(struct rdp_device *device, int channels, int height, int width)
{
    const struct rdp_shape in = {channels, height, width}, out = rdp_shape_strided(in, channels, 2);
    const size_t x_count = rdp_test_values(in, BATCH), y_count = rdp_test_values(out, BATCH);
    double *x = rdp_test_fill(rdp_test_doubles(x_count), x_count, 54, false),
           *dy = rdp_test_fill(rdp_test_doubles(y_count), y_count, 55, rdp_test_is_bf16(device));
    double *want = rdp_test_doubles(x_count), *got = rdp_test_doubles(x_count + y_count);
    void *tensors[4];
    for (int i = 0; i < 4; i++)
        tensors[i] = rdp_test_activations(device, i % 2 ? out : in, BATCH, false);
    for (size_t i = 0; i < x_count; i++)
        x[i] = floor(3 * x[i]) / 2;
    rdp_test_put(device, in, BATCH, false, x, tensors[0]);
    rdp_test_put(device, out, BATCH, false, dy, tensors[3]);
    memset(tensors[1], 0x7f, rdp_test_bytes(device, out, BATCH, false));
    memset(tensors[2], 0x7f, rdp_test_bytes(device, in, BATCH, false));
    for (int first = BATCH - 2; first >= 0; first -= 2) {
        RDP_MUST(device->ops->max_pool_forward(device, in, tensors[0], tensors[1], first, 2));
        RDP_MUST(device->ops->max_pool_backward(device, in, tensors[0], tensors[3], tensors[2], first, 2));
    }
    rdp_test_take(device, out, BATCH, false, tensors[1], got);
    for (size_t i = 0; i < y_count; i++) {
        const int w = (int)i % out.width, h = (int)i / out.width % out.height;
        const size_t plane = i / (size_t)(out.width * out.height) * (size_t)(height * width);
        size_t first = plane + (size_t)(2 * h * width + 2 * w);
        for (int row = 2 * h; row < height && row <= 2 * h + 1; row++)
            for (int column = 2 * w; column < width && column <= 2 * w + 1; column++)
                if (x[plane + (size_t)(row * width + column)] > x[first])
                    first = plane + (size_t)(row * width + column);
        assert_true(got[i] == x[first]);
        want[first] = dy[i];
    }
    rdp_test_take(device, in, BATCH, false, tensors[2], got);
    assert_memory_equal(got, want, x_count * sizeof *got);
    for (int i = 0; i < 4; i++)
        rdp_test_free(tensors[i]);
    free(x);
    free(dy);
    free(want);
    free(got);
}

static void test_pool_and_pad(void **unused)
{
    (void)unused;
    for (int variant = 0; variant < 4; variant++) {
        struct rdp_device *device = rdp_test_device(1 + variant % 2, variant / 2, RDP_ALGORITHM_DIRECT);
        if (device == NULL)
            continue;
        check_pool_and_pad(device, 16, 32, 8);
        check_pool_and_pad(device, 5, 20, 4);
        check_pool_and_pad(device, 20, 33, 2);
        check_max_pool(device, 16, 8, 8);
        check_max_pool(device, 21, 5, 4);
        check_max_pool(device, 3, 4, 7);
        check_max_pool(device, 33, 1, 1);
        rdp_device_close(device);
    }
}

/* Memory comes zeroed and aligned, copies are exact; add over arrays longer than the pieces that threads take. */
static void test_flat_arrays(void **unused)
{
    enum { COUNT = 100003 };
    (void)unused;
    for (int threads = 1; threads <= 2; threads++) {
        struct rdp_device *device = rdp_test_device(threads, false, RDP_ALGORITHM_DIRECT);
        float *p, *g = rdp_test_floats(COUNT), *back = rdp_test_floats(COUNT);
        RDP_MUST(device->ops->alloc(device, (void **)&p, COUNT * sizeof *p, "a test's parameters"));
        assert_int_equal((uintptr_t)p % 64, 0);
        for (size_t i = 0; i < COUNT; i++) {
            assert_true(p[i] == 0);
            g[i] = (float)rdp_test_value(60, i);
        }
        RDP_MUST(device->ops->upload(device, p, g, COUNT * sizeof *p));
        RDP_MUST(device->ops->add(device, p, g, COUNT));
        RDP_MUST(device->ops->synchronize(device));
        RDP_MUST(device->ops->download(device, back, p, COUNT * sizeof *p));
        for (size_t i = 0; i < COUNT; i++)
            assert_true(back[i] == 2 * g[i]);
        device->ops->free(device, p);
        rdp_test_free(g);
        rdp_test_free(back);
        rdp_device_close(device);
    }
    print_message("worst error / magnitudes: %.1e\n", worst);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fully_connected),
        cmocka_unit_test(test_loss),
        cmocka_unit_test(test_pool_and_pad),
        cmocka_unit_test(test_flat_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
