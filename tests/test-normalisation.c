/*
 * Batch normalisation on the CPU device against its formulas in double: with and without residual and activation,
 * training and evaluation, forward and backward, running statistics, odd channel counts, chunks, threads, a large mean.
 *
 * Tolerances. f32: TIGHT = 1e-5 of the magnitudes that were added. An element's own dozen roundings make 1e-6 of them;
 * the rest is the variance's error, which the distance of batch mean and running mean, by which the sums are shifted,
 * amplifies. bf16: inputs are exact in bf16, arithmetic is f32, and a stored value adds 2^-8 of itself (half a unit of
 * 8 significant bits). Its inputs lie on a coarse grid, so that the roundings of a sum may all have one sign: 512 terms
 * in a chain make 512 x 2^-24 = 3e-5, GRID takes 1e-4.
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

#define TIGHT 1e-5
#define GRID  1e-4
enum { BATCH = 6, STATISTICS = 0, OUT, BACKWARD, KINDS };
static double worst[2][KINDS]; /* f32, bf16 */

/* `stored`: the value was rounded to bf16. */
static void check_close(const struct rdp_device *device, int kind, double got, double want, double scale, bool stored)
{
    const bool bf16 = rdp_test_is_bf16(device);
    const double error = fmax(0, fabs(got - want) - (bf16 && stored ? 0x1p-8 * fabs(want) : 0));
    const double tolerance = (bf16 ? GRID : TIGHT) * scale;
    if (!(error <= tolerance))
        fail_msg("kind %d: %.9g, not %.9g (tolerance %.3g)", kind, got, want, tolerance);
    if (scale > 0)
        worst[bf16][kind] = fmax(worst[bf16][kind], error / scale);
}

/* A batch-norm with its tensors: on the device, and in double. */
struct bench {
    struct rdp_device *device;
    struct rdp_bn *bn;
    struct rdp_bn_desc desc;
    size_t count, pixels;
    double *y, *residual, *dout, *dout2, *out; /* NCHW; out as the device stored it */
    void *d_y, *d_residual, *d_out, *d_dout, *d_dout2;
    float *gamma, *beta, *mean, *var, *dgamma, *dbeta;
};

static void *device_copy(struct bench *bench, const double *values)
{
    void *data = rdp_test_activations(bench->device, bench->desc.shape, BATCH, false);
    rdp_test_put(bench->device, bench->desc.shape, BATCH, false, values, data);
    return data;
}

static void open_bench(struct bench *bench, struct rdp_device *device, int channels, int size, bool residual,
                       enum rdp_kernel_activation activation)
{
    const bool bf16 = rdp_test_is_bf16(device);
    *bench = (struct bench){.device = device,
                            .desc = {.shape = {channels, size, size},
                                     .batch = BATCH,
                                     .epsilon = 1e-5,
                                     .momentum = 0.1,
                                     .activation = activation,
                                     .slope = 0.01f,
                                     .residual = residual,
                                     .training = true},
                            .count = (size_t)(BATCH * channels * size * size),
                            .pixels = (size_t)(size * size)};
    double **values[] = {&bench->y, &bench->residual, &bench->dout, &bench->dout2, &bench->out};
    float **vectors[] = {&bench->gamma, &bench->beta, &bench->mean, &bench->var, &bench->dgamma, &bench->dbeta};
    for (uint32_t i = 0; i < 5; i++)
        *values[i] = rdp_test_fill(rdp_test_doubles(bench->count), bench->count, 10 + i, bf16);
    for (uint32_t i = 0; i < 6; i++) {
        *vectors[i] = rdp_test_floats((size_t)channels);
        for (int c = 0; c < channels; c++)
            (*vectors[i])[c] = (float)(1.5 + rdp_test_value(20 + i, (uint64_t)c));
    }
    for (int c = 0; c < channels; c++) {
        bench->beta[c] -= 1.5f;
        bench->mean[c] -= 1.5f;
    }
    bench->d_y = device_copy(bench, bench->y);
    bench->d_residual = device_copy(bench, bench->residual);
    bench->d_out = device_copy(bench, bench->out);
    bench->d_dout = device_copy(bench, bench->dout);
    bench->d_dout2 = device_copy(bench, bench->dout2);
    RDP_MUST(device->ops->bn_create(device, &bench->bn, &bench->desc));
    assert_int_equal(bench->bn->sums_count, 2 * channels);
    bench->bn->gamma = bench->gamma;
    bench->bn->beta = bench->beta;
    bench->bn->running_mean = bench->mean;
    bench->bn->running_var = bench->var;
    bench->bn->dgamma = bench->dgamma;
    bench->bn->dbeta = bench->dbeta;
}

static void close_bench(struct bench *bench)
{
    double *values[] = {bench->y, bench->residual, bench->dout, bench->dout2, bench->out};
    void *blocks[] = {bench->d_y,  bench->d_residual, bench->d_out, bench->d_dout, bench->d_dout2, bench->gamma,
                      bench->beta, bench->mean,       bench->var,   bench->dgamma, bench->dbeta};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++)
        free(values[i]);
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        rdp_test_free(blocks[i]);
    bench->device->ops->bn_destroy(bench->device, bench->bn);
}

/* Forward in chunks; `frozen`: by the running statistics. */
static void forward(struct bench *bench, int chunk, bool frozen)
{
    const struct rdp_device_ops *ops = bench->device->ops;
    if (frozen) {
        RDP_MUST(ops->bn_use_running(bench->device, bench->bn));
    } else {
        for (int first = BATCH - chunk; first >= 0; first -= chunk)
            RDP_MUST(ops->bn_statistics(bench->device, bench->bn, bench->d_y, first, chunk));
        RDP_MUST(ops->bn_statistics_sum(bench->device, bench->bn));
        RDP_MUST(ops->bn_finalize(bench->device, bench->bn, (double)(BATCH * bench->pixels)));
    }
    for (int first = BATCH - chunk; first >= 0; first -= chunk)
        RDP_MUST(ops->bn_apply(bench->device, bench->bn, bench->d_y, bench->desc.residual ? bench->d_residual : NULL,
                               bench->d_out, first, chunk));
    rdp_test_take(bench->device, bench->desc.shape, BATCH, false, bench->d_out, bench->out);
}

static void backward(struct bench *bench, int chunk, bool two)
{
    const struct rdp_device_ops *ops = bench->device->ops;
    for (int first = BATCH - chunk; first >= 0; first -= chunk)
        RDP_MUST(ops->bn_backward_reduce(bench->device, bench->bn, bench->d_y,
                                         !bench->desc.residual                    ? NULL
                                         : bench->desc.activation == RDP_ACT_GELU ? bench->d_residual
                                                                                  : bench->d_out,
                                         bench->d_dout, two ? bench->d_dout2 : NULL, first, chunk));
    RDP_MUST(ops->bn_backward_sum(bench->device, bench->bn));
    RDP_MUST(ops->bn_backward_finalize(bench->device, bench->bn, (double)(BATCH * bench->pixels)));
    for (int first = BATCH - chunk; first >= 0; first -= chunk)
        RDP_MUST(
            ops->bn_backward_apply(bench->device, bench->bn, bench->d_y, bench->d_dout, bench->d_dout2, first, chunk));
}

/* The slope below zero of what has a kink there. */
static double slope_of(const struct bench *bench)
{
    return bench->desc.activation == RDP_ACT_NONE   ? 1
           : bench->desc.activation == RDP_ACT_RELU ? 0
                                                    : (double)bench->desc.slope;
}

static double activated(const struct bench *bench, double z)
{
    if (bench->desc.activation == RDP_ACT_GELU)
        return 0.5 * z * erfc(-z / sqrt(2));
    return z > 0 ? z : slope_of(bench) * z;
}

/* d times the derivative at z, of which but for GELU only the sign matters: `out` has it, rounded. */
static double differentiated(const struct bench *bench, double z, double out, double d)
{
    if (bench->desc.activation == RDP_ACT_GELU)
        return d * (0.5 * erfc(-z / sqrt(2)) + z * exp(-z * z / 2) / sqrt(2 * acos(-1)));
    return (bench->desc.residual ? out : z) > 0 ? d : slope_of(bench) * d;
}

#define AT(bench, n, c, p) (((size_t)(n) * (size_t)(bench)->desc.shape.channels + (size_t)(c)) * (bench)->pixels + (p))

/* Mean and variance of a channel, two passes in double. */
static void moments(const struct bench *bench, int c, double *mean, double *variance)
{
    const double elements = (double)(BATCH * bench->pixels);
    *mean = *variance = 0;
    for (int n = 0; n < BATCH; n++)
        for (size_t p = 0; p < bench->pixels; p++)
            *mean += bench->y[AT(bench, n, c, p)] / elements;
    for (int n = 0; n < BATCH; n++)
        for (size_t p = 0; p < bench->pixels; p++)
            *variance += pow(bench->y[AT(bench, n, c, p)] - *mean, 2) / elements;
}

static void check_out(const struct bench *bench, int c, double mean, double variance)
{
    const double invstd = 1 / sqrt(variance + 1e-5), scale = (double)bench->gamma[c] * invstd,
                 beta = (double)bench->beta[c];
    for (int n = 0; n < BATCH; n++)
        for (size_t p = 0; p < bench->pixels; p++) {
            const size_t i = AT(bench, n, c, p);
            const double residual = bench->desc.residual ? bench->residual[i] : 0;
            const double z = (bench->y[i] - mean) * scale + beta + residual;
            check_close(bench->device, OUT, bench->out[i], activated(bench, z),
                        (fabs(bench->y[i]) + fabs(mean)) * fabs(scale) + fabs(beta) + fabs(residual), true);
        }
}

/* Ioffe & Szegedy 2015, section 3, for channel c, from the dz that the device stored (bf16 rounds it). */
static void check_backward(const struct bench *bench, int c, double mean, double variance, bool two, const double *dz,
                           const double *dy)
{
    const double elements = (double)(BATCH * bench->pixels), invstd = 1 / sqrt(variance + 1e-5);
    double sum = 0, product = 0, terms = 0, terms_product = 0;
    for (int n = 0; n < BATCH; n++)
        for (size_t p = 0; p < bench->pixels; p++) {
            const size_t i = AT(bench, n, c, p);
            const double d = bench->dout[i] + (two ? bench->dout2[i] : 0), xhat = (bench->y[i] - mean) * invstd;
            const double residual = bench->desc.residual ? bench->residual[i] : 0;
            const double z = xhat * (double)bench->gamma[c] + (double)bench->beta[c] + residual;
            double want = differentiated(bench, z, bench->out[i], d);
            if (bench->desc.activation != RDP_ACT_GELU &&
                fabs(z) < 1e-5) /* rounding may choose either side of the kink */
                want = fabs(dz[i] - d) < fabs(dz[i] - slope_of(bench) * d) ? d : slope_of(bench) * d;
            check_close(bench->device, BACKWARD, dz[i], want, fabs(d), true);
            sum += want;
            product += want * xhat;
            terms += fabs(d);
            terms_product += fabs(d) * (fabs(xhat) + fabs(mean) * invstd);
        }
    check_close(bench->device, BACKWARD, (double)bench->dbeta[c], sum, terms, false);
    check_close(bench->device, BACKWARD, (double)bench->dgamma[c], product, terms_product, false);
    for (int n = 0; n < BATCH; n++)
        for (size_t p = 0; p < bench->pixels; p++) {
            const size_t i = AT(bench, n, c, p);
            const double xhat = (bench->y[i] - mean) * invstd, factor = (double)bench->gamma[c] * invstd;
            check_close(bench->device, BACKWARD, dy[i], factor * (dz[i] - sum / elements - xhat * product / elements),
                        fabs(factor) *
                            (fabs(dz[i]) + (terms + (fabs(xhat) + fabs(mean) * invstd) * terms_product) / elements),
                        true);
        }
}

static void check_bn(struct rdp_device *device, int channels, int size, int chunk, bool residual,
                     enum rdp_kernel_activation activation, bool two)
{
    struct bench bench;
    double mean, variance;
    open_bench(&bench, device, channels, size, residual, activation);
    double *dz = rdp_test_doubles(bench.count), *dy = rdp_test_doubles(bench.count);
    float *before[2] = {rdp_test_floats((size_t)channels), rdp_test_floats((size_t)channels)};
    memcpy(before[0], bench.mean, (size_t)channels * sizeof(float));
    memcpy(before[1], bench.var, (size_t)channels * sizeof(float));
    forward(&bench, chunk, true);
    for (int c = 0; c < channels; c++)
        check_out(&bench, c, (double)bench.mean[c], (double)bench.var[c]);
    assert_memory_equal(bench.mean, before[0], (size_t)channels * sizeof(float));
    assert_memory_equal(bench.var, before[1], (size_t)channels * sizeof(float));
    forward(&bench, chunk, false);
    backward(&bench, chunk, two);
    rdp_test_take(device, bench.desc.shape, BATCH, false, bench.d_dout, dz);
    rdp_test_take(device, bench.desc.shape, BATCH, false, bench.d_dout2, dy);
    const double elements = (double)(BATCH * bench.pixels);
    for (int c = 0; c < channels; c++) {
        moments(&bench, c, &mean, &variance);
        check_close(device, STATISTICS, (double)bench.mean[c], 0.9 * (double)before[0][c] + 0.1 * mean, 2, false);
        check_close(device, STATISTICS, (double)bench.var[c],
                    0.9 * (double)before[1][c] + 0.1 * variance * elements / (elements - 1), 4, false);
        check_out(&bench, c, mean, variance);
        check_backward(&bench, c, mean, variance, two, dz, dy);
    }
    free(dz);
    free(dy);
    rdp_test_free(before[0]);
    rdp_test_free(before[1]);
    close_bench(&bench);
}

static void test_batch_norm(void **unused)
{
    static const struct {
        int channels, size, chunk;
    } shapes[] = {{16, 8, 6}, {5, 7, 3}, {33, 4, 2}, {3, 32, 1}, {20, 1, 2}};
    (void)unused;
    for (int variant = 0; variant < 4; variant++) { /* threads, precision */
        struct rdp_device *device = rdp_test_device(1 + variant % 2, variant / 2, RDP_ALGORITHM_DIRECT);
        if (device == NULL)
            continue;
        for (size_t s = 0; s < sizeof shapes / sizeof *shapes; s++)
            for (int form = 0; form < 16; form++)
                check_bn(device, shapes[s].channels, shapes[s].size, shapes[s].chunk, form & 1,
                         (enum rdp_kernel_activation)(form / 4), form & 2);
        rdp_device_close(device);
    }
    for (int i = 0; i < 2; i++)
        print_message("%s: worst error / magnitudes: running statistics %.1e, output %.1e, gradients %.1e\n",
                      i ? "bf16" : "f32", worst[i][STATISTICS], worst[i][OUT], worst[i][BACKWARD]);
}

/* The same bits whatever the chunks and threads: batch-norm's output, gradients and statistics. */
static void test_chunks_are_exact(void **unused)
{
    static const int chunks[] = {6, 3, 2, 1};
    struct bench benches[8];
    (void)unused;
    for (int k = 0; k < 8; k++) {
        struct rdp_device *device = rdp_test_device(1 + k / 4, false, RDP_ALGORITHM_DIRECT);
        open_bench(&benches[k], device, 20, 8, true, RDP_ACT_RELU);
        forward(&benches[k], chunks[k % 4], false);
        backward(&benches[k], chunks[k % 4], true);
        const size_t bytes = rdp_test_bytes(device, benches[k].desc.shape, BATCH, false);
        assert_memory_equal(benches[k].d_out, benches[0].d_out, bytes);
        assert_memory_equal(benches[k].d_dout, benches[0].d_dout, bytes);
        assert_memory_equal(benches[k].d_dout2, benches[0].d_dout2, bytes);
        assert_memory_equal(benches[k].mean, benches[0].mean, 20 * sizeof(float));
        assert_memory_equal(benches[k].var, benches[0].var, 20 * sizeof(float));
        assert_memory_equal(benches[k].dgamma, benches[0].dgamma, 20 * sizeof(float));
        assert_memory_equal(benches[k].dbeta, benches[0].dbeta, 20 * sizeof(float));
    }
    for (int k = 0; k < 8; k++) {
        struct rdp_device *device = benches[k].device;
        close_bench(&benches[k]);
        rdp_device_close(device);
    }
}

/*
 * Small variance on a large mean. The sums are shifted by the running mean: once that is near, the variance is as exact
 * as the data. Before, from a running mean of 0, the squares cancel: the relative error is about (mean / deviation)^2 x
 * 2^-24 times the few units that summing adds. Shown for mean = 16 deviations; a network's first steps have less
 * than 5.
 */
static void test_large_mean(void **unused)
{
    struct rdp_device *device = rdp_test_device(1, false, RDP_ALGORITHM_DIRECT);
    static const double means[] = {100, 16}, deviations[] = {0.01, 1}, tolerances[] = {1e-5, 256 * 16 * 0x1p-24};
    double relative[2] = {0, 0};
    (void)unused;
    for (int k = 0; k < 2; k++) {
        struct bench bench;
        double mean, variance;
        open_bench(&bench, device, 16, 8, false, RDP_ACT_NONE);
        for (size_t i = 0; i < bench.count; i++)
            bench.y[i] = (double)(float)(means[k] + deviations[k] * sqrt(3.0) * bench.y[i]);
        rdp_test_put(device, bench.desc.shape, BATCH, false, bench.y, bench.d_y);
        for (int c = 0; c < 16; c++) {
            bench.mean[c] = k == 0 ? 100.003f : 0;
            bench.var[c] = 0;
        }
        forward(&bench, 6, false);
        const double elements = (double)(BATCH * bench.pixels);
        for (int c = 0; c < 16; c++) {
            moments(&bench, c, &mean, &variance);
            relative[k] =
                fmax(relative[k], fabs((double)bench.var[c] / (0.1 * variance * elements / (elements - 1)) - 1));
        }
        print_message("variance, mean = %g deviations, running mean %s: relative error %.1e\n",
                      means[k] / deviations[k], k == 0 ? "near" : "0", relative[k]);
        assert_true(relative[k] <= tolerances[k]);
        close_bench(&bench);
    }
    rdp_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batch_norm),
        cmocka_unit_test(test_chunks_are_exact),
        cmocka_unit_test(test_large_mean),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
