/*
 * Each differentiable operation of the CPU device against central finite differences of itself: L(x) = <projection,
 * op(x)>, summed in double, along random directions v: (L(x + h v) - L(x - h v)) / 2h = <dL/dx, v>.
 *
 * Tolerances, relative to |dL/dx| |v| / sqrt(n), the size of such a product: h is chosen so that f32's rounding of L,
 * about 1e-7 |L| / h, and the third-order term, h^2 times the curvature, are both near 1e-4; LINEAR operations have no
 * such term and take h = 1/2. A wrong formula shows as 0.1 to 1.
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

enum { BATCH = 4, DIRECTIONS = 3, INPUTS_MAX = 4 };
#define LINEAR_STEP      0.5
#define LINEAR_TOLERANCE 1e-5
#define CURVED_STEP      4e-3
#define CURVED_TOLERANCE 2e-3

/* An operation with its inputs, to be differentiated by any of them. */
struct subject {
    const char *name;
    struct rdp_device *device;
    struct rdp_shape in, out;
    int input_count;
    size_t counts[INPUTS_MAX], output_count;
    double *inputs[INPUTS_MAX], *gradients[INPUTS_MAX], *projection;
    double (*value)(struct subject *subject);  /* L at `inputs` */
    void (*gradient)(struct subject *subject); /* fills `gradients` at `inputs` */
    int kernel, stride, channels;
    struct rdp_bn_desc bn;
    float smoothing;
    const struct rdp_step_values *values; /* of mixed labels and of dropout's mask; NULL: none */
};

static double dot(const double *a, const double *b, size_t count)
{
    double sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

static double *copy_to_double(const float *values, size_t count, double *to)
{
    for (size_t i = 0; i < count; i++)
        to[i] = (double)values[i];
    return to;
}

static float *floats_of(const double *values, size_t count)
{
    float *floats = rdp_test_floats(count);
    for (size_t i = 0; i < count; i++)
        floats[i] = (float)values[i];
    return floats;
}

static void *activations_of(struct subject *subject, struct rdp_shape shape, const double *values)
{
    void *data = rdp_test_activations(subject->device, shape, BATCH, false);
    if (values != NULL)
        rdp_test_put(subject->device, shape, BATCH, false, values, data);
    return data;
}

/* <projection, output> of activations, which are freed. */
static double project(struct subject *subject, void *data)
{
    double *out = rdp_test_doubles(subject->output_count);
    rdp_test_take(subject->device, subject->out, BATCH, false, data, out);
    double value = dot(out, subject->projection, subject->output_count);
    free(out);
    rdp_test_free(data);
    return value;
}

static void check_subject(struct subject *subject, double step, double tolerance)
{
    double worst = 0;
    subject->projection = rdp_test_fill(rdp_test_doubles(subject->output_count), subject->output_count, 90, false);
    for (uint32_t k = 0; k < (uint32_t)subject->input_count; k++) {
        if (subject->inputs[k] == NULL)
            subject->inputs[k] = rdp_test_fill(rdp_test_doubles(subject->counts[k]), subject->counts[k], 70 + k, false);
        subject->gradients[k] = rdp_test_doubles(subject->counts[k]);
    }
    subject->gradient(subject);
    for (uint32_t k = 0; k < (uint32_t)subject->input_count; k++) {
        const size_t count = subject->counts[k];
        double *base = rdp_test_doubles(count), *v = rdp_test_doubles(count), *x = subject->inputs[k];
        memcpy(base, x, count * sizeof *base);
        for (uint32_t d = 0; d < DIRECTIONS; d++) {
            double values[2];
            rdp_test_fill(v, count, 100 + 10 * k + d, false);
            for (int side = 0; side < 2; side++) {
                for (size_t i = 0; i < count; i++)
                    x[i] = base[i] + (side == 0 ? step : -step) * v[i];
                values[side] = subject->value(subject);
            }
            memcpy(x, base, count * sizeof *base);
            const double difference = (values[0] - values[1]) / (2 * step),
                         product = dot(subject->gradients[k], v, count);
            const double scale =
                sqrt(dot(subject->gradients[k], subject->gradients[k], count) * dot(v, v, count) / (double)count);
            worst = fmax(worst, fabs(difference - product) / scale);
            if (!(fabs(difference - product) <= tolerance * scale))
                fail_msg("%s, input %u, direction %u: difference quotient %.7g, gradient %.7g (scale %.3g)",
                         subject->name, k, d, difference, product, scale);
        }
        free(base);
        free(v);
    }
    print_message("%-42s worst relative error %.1e\n", subject->name, worst);
    for (int k = 0; k < subject->input_count; k++) {
        free(subject->inputs[k]);
        free(subject->gradients[k]);
    }
    free(subject->projection);
}

/* Convolution of inputs[0] with weights inputs[1] (OIHW). */
static struct rdp_conv *open_conv(struct subject *subject, float **stored)
{
    const struct rdp_conv_desc desc = {.input = subject->in,
                                       .output = subject->out,
                                       .kernel = subject->kernel,
                                       .stride = subject->stride,
                                       .batch = BATCH,
                                       .chunk = 2,
                                       .training = true};
    struct rdp_conv *conv;
    RDP_MUST(subject->device->ops->conv_create(subject->device, &conv, &desc));
    float *host = floats_of(subject->inputs[1], subject->counts[1]);
    *stored = rdp_test_floats(conv->stored_count);
    RDP_MUST(subject->device->ops->conv_pack(subject->device, conv, host, *stored));
    RDP_MUST(subject->device->ops->conv_weights(subject->device, conv, *stored, NULL, true));
    rdp_test_free(host);
    return conv;
}

static double conv_value(struct subject *subject)
{
    float *stored;
    struct rdp_conv *conv = open_conv(subject, &stored);
    void *x = activations_of(subject, subject->in, subject->inputs[0]),
         *y = activations_of(subject, subject->out, NULL);
    RDP_MUST(subject->device->ops->conv_forward(subject->device, conv, x, y, 0, BATCH));
    rdp_test_free(x);
    rdp_test_free(stored);
    subject->device->ops->conv_destroy(subject->device, conv);
    return project(subject, y);
}

static void conv_gradient(struct subject *subject)
{
    const struct rdp_device_ops *ops = subject->device->ops;
    float *stored;
    struct rdp_conv *conv = open_conv(subject, &stored);
    void *x = activations_of(subject, subject->in, subject->inputs[0]),
         *dx = activations_of(subject, subject->in, NULL);
    void *dy = activations_of(subject, subject->out, subject->projection);
    float *dw = rdp_test_floats(conv->stored_count), *host = rdp_test_floats(subject->counts[1]);
    RDP_MUST(ops->conv_backward_data(subject->device, conv, dy, dx, 0, BATCH));
    RDP_MUST(ops->conv_backward_weights(subject->device, conv, x, dy, dw));
    RDP_MUST(ops->conv_unpack(subject->device, conv, dw, host));
    rdp_test_take(subject->device, subject->in, BATCH, false, dx, subject->gradients[0]);
    copy_to_double(host, subject->counts[1], subject->gradients[1]);
    void *blocks[] = {x, dx, dy, dw, host, stored};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        rdp_test_free(blocks[i]);
    ops->conv_destroy(subject->device, conv);
}

/* Batch-norm of inputs[0] with gamma inputs[1], beta inputs[2] and, if any, residual inputs[3]. */
struct bn_run {
    struct rdp_bn *bn;
    void *y, *residual, *out;
    float *gamma, *beta, *mean, *var;
};

static struct bn_run bn_forward(struct subject *subject)
{
    struct rdp_device *device = subject->device;
    const size_t channels = subject->counts[1];
    const double elements = (double)(BATCH * subject->in.height * subject->in.width);
    struct bn_run run = {.y = activations_of(subject, subject->in, subject->inputs[0]),
                         .out = activations_of(subject, subject->in, NULL),
                         .residual =
                             subject->bn.residual ? activations_of(subject, subject->in, subject->inputs[3]) : NULL,
                         .gamma = floats_of(subject->inputs[1], channels),
                         .beta = floats_of(subject->inputs[2], channels),
                         .mean = rdp_test_floats(channels),
                         .var = rdp_test_floats(channels)};
    RDP_MUST(device->ops->bn_create(device, &run.bn, &subject->bn));
    run.bn->gamma = run.gamma;
    run.bn->beta = run.beta;
    run.bn->running_mean = run.mean;
    run.bn->running_var = run.var;
    RDP_MUST(device->ops->bn_statistics(device, run.bn, run.y, 0, BATCH));
    RDP_MUST(device->ops->bn_statistics_sum(device, run.bn));
    RDP_MUST(device->ops->bn_finalize(device, run.bn, elements));
    RDP_MUST(device->ops->bn_apply(device, run.bn, run.y, run.residual, run.out, 0, BATCH));
    return run;
}

static void bn_free(struct subject *subject, struct bn_run *run)
{
    void *blocks[] = {run->y, run->gamma, run->beta, run->mean, run->var};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        rdp_test_free(blocks[i]);
    if (run->residual != NULL)
        rdp_test_free(run->residual);
    subject->device->ops->bn_destroy(subject->device, run->bn);
}

static double bn_value(struct subject *subject)
{
    struct bn_run run = bn_forward(subject);
    bn_free(subject, &run);
    return project(subject, run.out);
}

static void bn_gradient(struct subject *subject)
{
    struct rdp_device *device = subject->device;
    struct bn_run run = bn_forward(subject);
    const bool gelu = subject->bn.activation == RDP_ACT_GELU;
    const double elements = (double)(BATCH * subject->in.height * subject->in.width);
    void *dz = activations_of(subject, subject->in, subject->projection),
         *dy = activations_of(subject, subject->in, NULL);
    float *dgamma = rdp_test_floats(subject->counts[1]), *dbeta = rdp_test_floats(subject->counts[1]);
    run.bn->dgamma = dgamma;
    run.bn->dbeta = dbeta;
    RDP_MUST(device->ops->bn_backward_reduce(device, run.bn, run.y, gelu ? run.residual : run.out, dz, NULL, 0, BATCH));
    RDP_MUST(device->ops->bn_backward_sum(device, run.bn));
    RDP_MUST(device->ops->bn_backward_finalize(device, run.bn, elements));
    RDP_MUST(device->ops->bn_backward_apply(device, run.bn, run.y, dz, dy, 0, BATCH));
    rdp_test_take(device, subject->in, BATCH, false, dy, subject->gradients[0]);
    copy_to_double(dgamma, subject->counts[1], subject->gradients[1]);
    copy_to_double(dbeta, subject->counts[1], subject->gradients[2]);
    if (subject->bn.residual)
        rdp_test_take(device, subject->in, BATCH, false, dz, subject->gradients[3]);
    void *blocks[] = {dz, dy, dgamma, dbeta, run.out};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        rdp_test_free(blocks[i]);
    bn_free(subject, &run);
}

static double pad_value(struct subject *subject)
{
    void *x = activations_of(subject, subject->in, subject->inputs[0]),
         *y = activations_of(subject, subject->out, NULL);
    RDP_MUST(subject->device->ops->pad_forward(subject->device, subject->in, subject->out, x, y, 0, BATCH));
    rdp_test_free(x);
    return project(subject, y);
}

static void pad_gradient(struct subject *subject)
{
    void *dx = activations_of(subject, subject->in, NULL),
         *dy = activations_of(subject, subject->out, subject->projection);
    RDP_MUST(subject->device->ops->pad_backward(subject->device, subject->in, subject->out, dy, dx, 0, BATCH));
    rdp_test_take(subject->device, subject->in, BATCH, false, dx, subject->gradients[0]);
    rdp_test_free(dx);
    rdp_test_free(dy);
}

static double max_pool_value(struct subject *subject)
{
    void *x = activations_of(subject, subject->in, subject->inputs[0]),
         *y = activations_of(subject, subject->out, NULL);
    RDP_MUST(subject->device->ops->max_pool_forward(subject->device, subject->in, x, y, 0, BATCH));
    rdp_test_free(x);
    return project(subject, y);
}

static void max_pool_gradient(struct subject *subject)
{
    void *x = activations_of(subject, subject->in, subject->inputs[0]),
         *dx = activations_of(subject, subject->in, NULL),
         *dy = activations_of(subject, subject->out, subject->projection);
    RDP_MUST(subject->device->ops->max_pool_backward(subject->device, subject->in, x, dy, dx, 0, BATCH));
    rdp_test_take(subject->device, subject->in, BATCH, false, dx, subject->gradients[0]);
    rdp_test_free(x);
    rdp_test_free(dx);
    rdp_test_free(dy);
}

/* The four values of a window lie at least 1.5 apart, so that no step makes another one the largest. */
static void keep_windows_apart(struct subject *subject)
{
    const size_t height = (size_t)subject->in.height, width = (size_t)subject->in.width;
    double *x = rdp_test_fill(rdp_test_doubles(subject->counts[0]), subject->counts[0], 70, false);
    for (size_t i = 0; i < subject->counts[0]; i++) {
        const size_t row = i / width % height, column = i % width, plane = i / width / height;
        x[i] = x[i] / 4 + 2 * (double)((row % 2 * 2 + column % 2 + plane + row / 2 + column / 2) % 4);
    }
    subject->inputs[0] = x;
}

/* Outputs that are plain f32: projected, freed. */
static double project_floats(struct subject *subject, float *values)
{
    double sum = 0;
    for (size_t i = 0; i < subject->output_count; i++)
        sum += (double)values[i] * subject->projection[i];
    rdp_test_free(values);
    return sum;
}

static double pool_value(struct subject *subject)
{
    void *x = activations_of(subject, subject->in, subject->inputs[0]);
    float *features = rdp_test_floats(subject->output_count);
    RDP_MUST(subject->device->ops->pool_forward(subject->device, subject->in, x, features, 0, BATCH));
    rdp_test_free(x);
    return project_floats(subject, features);
}

static void pool_gradient(struct subject *subject)
{
    void *dx = activations_of(subject, subject->in, NULL);
    float *dfeatures = floats_of(subject->projection, subject->output_count);
    RDP_MUST(subject->device->ops->pool_backward(subject->device, subject->in, dfeatures, dx, 0, BATCH));
    rdp_test_take(subject->device, subject->in, BATCH, false, dx, subject->gradients[0]);
    rdp_test_free(dx);
    rdp_test_free(dfeatures);
}

enum { CLASSES = 10 };

static double fc_value(struct subject *subject)
{
    float *x[3], *logits = rdp_test_floats(subject->output_count);
    for (int k = 0; k < 3; k++)
        x[k] = floats_of(subject->inputs[k], subject->counts[k]);
    RDP_MUST(
        subject->device->ops->fc_forward(subject->device, BATCH, subject->channels, CLASSES, x[0], x[1], x[2], logits));
    for (int k = 0; k < 3; k++)
        rdp_test_free(x[k]);
    return project_floats(subject, logits);
}

static void fc_gradient(struct subject *subject)
{
    float *x = floats_of(subject->inputs[0], subject->counts[0]),
          *w = floats_of(subject->inputs[1], subject->counts[1]);
    float *dy = floats_of(subject->projection, subject->output_count), *d[3];
    for (int k = 0; k < 3; k++)
        d[k] = rdp_test_floats(subject->counts[k]);
    RDP_MUST(subject->device->ops->fc_backward(subject->device, BATCH, subject->channels, CLASSES, x, w, dy, d[1], d[2],
                                               d[0]));
    for (int k = 0; k < 3; k++) {
        copy_to_double(d[k], subject->counts[k], subject->gradients[k]);
        rdp_test_free(d[k]);
    }
    rdp_test_free(x);
    rdp_test_free(w);
    rdp_test_free(dy);
}

static const uint8_t loss_labels[BATCH] = {3, 0, 9, 3};

/* The loss itself is the scalar, in f32; 10 times the logits' step makes up for that. */
static double loss_value(struct subject *subject)
{
    float *logits = floats_of(subject->inputs[0], subject->counts[0]), totals[2] = {0, 0};
    RDP_MUST(subject->device->ops->loss(subject->device, BATCH, BATCH, CLASSES, logits, loss_labels, subject->values,
                                        subject->smoothing, 1, NULL, totals));
    rdp_test_free(logits);
    return (double)totals[0];
}

static void loss_gradient(struct subject *subject)
{
    float *logits = floats_of(subject->inputs[0], subject->counts[0]), *d = rdp_test_floats(subject->counts[0]),
          totals[2] = {0, 0};
    RDP_MUST(subject->device->ops->loss(subject->device, BATCH, BATCH, CLASSES, logits, loss_labels, subject->values,
                                        subject->smoothing, 1, d, totals));
    copy_to_double(d, subject->counts[0], subject->gradients[0]);
    rdp_test_free(logits);
    rdp_test_free(d);
}

/* Two inputs, which dropout's way back adds: so the mask and the sum are tested in both directions. */
static const int64_t samples[BATCH] = {7, 40000, 3, 1};
static const struct rdp_step_values dropout_values = {.epoch = 2, .step = 11};

static struct rdp_dropout dropout_of(const struct subject *subject)
{
    return (struct rdp_dropout){.shape = subject->in, .probability = 0.3f, .seed = 5, .layer = 1};
}

static double dropout_value(struct subject *subject)
{
    const struct rdp_dropout dropout = dropout_of(subject);
    const struct rdp_device_ops *ops = subject->device->ops;
    void *x = activations_of(subject, subject->in, subject->inputs[0]),
         *y = activations_of(subject, subject->in, NULL);
    for (int first = 0; first < BATCH; first += 2)
        RDP_MUST(ops->dropout_forward(subject->device, &dropout, &dropout_values, samples, x, y, first, 2));
    rdp_test_free(x);
    return project(subject, y);
}

/* <projection, M x> has the gradient M projection, which comes in two parts here. */
static void dropout_gradient(struct subject *subject)
{
    const struct rdp_dropout dropout = dropout_of(subject);
    const size_t count = subject->output_count;
    double *parts[2] = {rdp_test_doubles(count), rdp_test_doubles(count)};
    for (size_t i = 0; i < count; i++) {
        parts[0][i] = rdp_test_value(200, i);
        parts[1][i] = subject->projection[i] - parts[0][i];
    }
    void *dy = activations_of(subject, subject->in, parts[0]), *dy2 = activations_of(subject, subject->in, parts[1]);
    RDP_MUST(subject->device->ops->dropout_backward(subject->device, &dropout, &dropout_values, samples, dy, dy2, dy,
                                                    0, BATCH));
    rdp_test_take(subject->device, subject->in, BATCH, false, dy, subject->gradients[0]);
    rdp_test_free(dy);
    rdp_test_free(dy2);
    free(parts[0]);
    free(parts[1]);
}

static void test_dropout(void **unused)
{
    (void)unused;
    for (int threads = 1; threads <= 2; threads++) {
        struct rdp_device *device = rdp_test_device(threads, false, RDP_ALGORITHM_DIRECT);
        struct subject dropout = {.name = "dropout",
                                  .device = device,
                                  .in = {21, 8, 8},
                                  .out = {21, 8, 8},
                                  .input_count = 1,
                                  .counts = {21 * 64 * BATCH},
                                  .output_count = 21 * 64 * BATCH,
                                  .value = dropout_value,
                                  .gradient = dropout_gradient};
        check_subject(&dropout, LINEAR_STEP, LINEAR_TOLERANCE);
        rdp_device_close(device);
    }
}

static void test_convolution(void **unused)
{
    static const int forms[][4] = {{20, 33, 3, 1}, {16, 16, 3, 1}, {5, 16, 3, 2}, {16, 5, 1, 2}, {33, 20, 1, 1}};
    (void)unused;
    for (int variant = 0; variant < 4; variant++) {
        struct rdp_device *device =
            rdp_test_device(1 + variant % 2, false, variant / 2 ? RDP_ALGORITHM_AUTO : RDP_ALGORITHM_DIRECT);
        for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
            const int *f = forms[i];
            struct subject subject = {.name = variant / 2 ? "convolution, auto" : "convolution, direct",
                                      .device = device,
                                      .in = {f[0], 8, 8},
                                      .out = {f[1], 8 / f[3], 8 / f[3]},
                                      .kernel = f[2],
                                      .stride = f[3],
                                      .input_count = 2,
                                      .value = conv_value,
                                      .gradient = conv_gradient};
            subject.counts[0] = rdp_test_values(subject.in, BATCH);
            subject.counts[1] = (size_t)(f[0] * f[1] * f[2] * f[2]);
            subject.output_count = rdp_test_values(subject.out, BATCH);
            check_subject(&subject, LINEAR_STEP, LINEAR_TOLERANCE);
        }
        rdp_device_close(device);
    }
}

/* Inputs for which no value before the activation comes within 0.15 of zero: |xhat| > 0.6, gamma > 0.7, |beta| < 0.1,
 * |residual| < 0.2. An element that crossed the kink on the way would change the difference quotient by its whole
 * share. */
static void keep_clear_of_the_kink(struct subject *subject)
{
    static const double least[INPUTS_MAX] = {0.5, 0.7, 0, 0}, spread[INPUTS_MAX] = {0.5, 0.6, 0.1, 0.2};
    for (uint32_t k = 0; k < (uint32_t)subject->input_count; k++) {
        subject->inputs[k] = rdp_test_fill(rdp_test_doubles(subject->counts[k]), subject->counts[k], 70 + k, false);
        for (size_t i = 0; i < subject->counts[k]; i++) {
            const double u = subject->inputs[k][i], sign = k == 0 && u < 0 ? -1 : 1;
            subject->inputs[k][i] = sign * (least[k] + spread[k] * (k < 2 ? fabs(u) : u));
        }
    }
}

static void test_batch_norm(void **unused)
{
    static const char *const names[] = {"batch-norm",
                                        "batch-norm + residual",
                                        "batch-norm + ReLU",
                                        "batch-norm + residual + ReLU",
                                        "batch-norm + LeakyReLU",
                                        "batch-norm + residual + LeakyReLU",
                                        "batch-norm + GELU",
                                        "batch-norm + residual + GELU"};
    (void)unused;
    for (int variant = 0; variant < 16; variant++) {
        struct rdp_device *device = rdp_test_device(1 + variant / 8, false, RDP_ALGORITHM_DIRECT);
        const int form = variant % 8;
        struct subject subject = {.name = names[form],
                                  .device = device,
                                  .in = {20, 8, 8},
                                  .out = {20, 8, 8},
                                  .input_count = form % 2 ? 4 : 3,
                                  .value = bn_value,
                                  .gradient = bn_gradient,
                                  .bn = {.shape = {20, 8, 8},
                                         .batch = BATCH,
                                         .epsilon = 1e-5,
                                         .momentum = 0.1,
                                         .slope = 0.1f,
                                         .activation = (enum rdp_kernel_activation)(form / 2),
                                         .residual = form % 2,
                                         .training = true}};
        subject.counts[0] = subject.counts[3] = subject.output_count = rdp_test_values(subject.in, BATCH);
        subject.counts[1] = subject.counts[2] = 20;
        keep_clear_of_the_kink(&subject);
        check_subject(&subject, CURVED_STEP, CURVED_TOLERANCE);
        rdp_device_close(device);
    }
}

static void test_pad_pool(void **unused)
{
    (void)unused;
    for (int threads = 1; threads <= 2; threads++) {
        struct rdp_device *device = rdp_test_device(threads, false, RDP_ALGORITHM_DIRECT);
        struct subject pad = {.name = "padded shortcut",
                              .device = device,
                              .in = {5, 8, 8},
                              .out = {20, 4, 4},
                              .input_count = 1,
                              .counts = {5 * 64 * BATCH},
                              .output_count = 20 * 16 * BATCH,
                              .value = pad_value,
                              .gradient = pad_gradient};
        struct subject pool = {.name = "pool",
                               .device = device,
                               .in = {20, 4, 4},
                               .input_count = 1,
                               .counts = {20 * 16 * BATCH},
                               .output_count = 20 * BATCH,
                               .value = pool_value,
                               .gradient = pool_gradient};
        check_subject(&pad, LINEAR_STEP, LINEAR_TOLERANCE);
        check_subject(&pool, LINEAR_STEP, LINEAR_TOLERANCE);
        struct subject max_pool = {.name = "max-pool",
                                   .device = device,
                                   .in = {20, 7, 8},
                                   .out = {20, 4, 4},
                                   .input_count = 1,
                                   .counts = {20 * 56 * BATCH},
                                   .output_count = 20 * 16 * BATCH,
                                   .value = max_pool_value,
                                   .gradient = max_pool_gradient};
        keep_windows_apart(&max_pool);
        check_subject(&max_pool, LINEAR_STEP, LINEAR_TOLERANCE);
        rdp_device_close(device);
    }
}

static void test_head(void **unused)
{
    static const float smoothings[] = {0, 0.1f, 0, 0.1f};
    static const char *const names[] = {"cross-entropy", "cross-entropy, smoothing 0.1", "mixed cross-entropy",
                                        "mixed cross-entropy, smoothing 0.1"};
    static const struct rdp_step_values mixed = {.mix = 0.7f};
    struct rdp_device *device = rdp_test_device(2, false, RDP_ALGORITHM_DIRECT);
    struct subject fc = {.name = "fully connected",
                         .device = device,
                         .channels = 33,
                         .input_count = 3,
                         .counts = {33 * BATCH, 33 * CLASSES, CLASSES},
                         .output_count = CLASSES * BATCH,
                         .value = fc_value,
                         .gradient = fc_gradient};
    (void)unused;
    check_subject(&fc, LINEAR_STEP, LINEAR_TOLERANCE);
    for (int i = 0; i < 4; i++) {
        struct subject loss = {.name = names[i],
                               .values = i < 2 ? NULL : &mixed,
                               .device = device,
                               .input_count = 1,
                               .counts = {CLASSES * BATCH},
                               .output_count = 1,
                               .value = loss_value,
                               .gradient = loss_gradient,
                               .smoothing = smoothings[i]};
        check_subject(&loss, 10 * CURVED_STEP, CURVED_TOLERANCE);
    }
    rdp_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_convolution),
        cmocka_unit_test(test_batch_norm),
        cmocka_unit_test(test_pad_pool),
        cmocka_unit_test(test_head),
        cmocka_unit_test(test_dropout),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
