/*
 * The cases of a convolution together with the statistics of its batch-norm; see support_agreement.h. A device that was
 * opened to fuse them must do so wherever the channels are multiples of 8; others do one after the other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support_agreement.h"
#include "support_network.h"

enum { IN, OUT, SIZE, KERNEL, STRIDE, BATCH, IMAGE, SYNCHRONISED };
static const int cases[][RDP_CASE_ARGUMENTS] = {
    {3, 64, 32, 3, 1, 4, 1, 0},   {64, 64, 16, 3, 1, 8, 0, 0}, {64, 128, 16, 3, 2, 3, 0, 1},
    {64, 128, 16, 1, 2, 3, 0, 0}, {256, 64, 8, 1, 1, 5, 0, 1}, {8, 8, 32, 3, 1, 1, 0, 0},
    {24, 40, 4, 3, 1, 7, 0, 0},   {12, 30, 8, 3, 1, 4, 0, 0},
};

/* Device f32 of these, the caller's. */
static struct rdp_guarded vector(struct rdp_device *device, struct rdp_results *results, size_t count, uint32_t stream,
                                 float offset)
{
    float *host = rdp_results_input(results, count, stream, 0.5f);
    for (size_t i = 0; i < count; i++)
        host[i] += offset;
    struct rdp_guarded block = rdp_guarded_of(device, host, count * sizeof *host);
    free(host);
    return block;
}

/* The weights, stored; a bf16 device reads their copy. */
struct weights {
    struct rdp_guarded stored, copy;
};

static struct weights weights_of(struct rdp_device *device, struct rdp_conv *conv, struct rdp_results *results,
                                 size_t count)
{
    const struct rdp_device_ops *ops = device->ops;
    float *host = rdp_results_input(results, count, 3, 0.25f);
    struct weights weights = {rdp_guarded_make(device, conv->stored_count * sizeof(float)),
                              rdp_guarded_make(device, conv->stored_count * ops->copy_size(device))};
    RDP_MUST(ops->conv_pack(device, conv, host, weights.stored.data));
    RDP_MUST(
        ops->conv_weights(device, conv, weights.stored.data, weights.copy.bytes > 0 ? weights.copy.data : NULL, true));
    free(host);
    return weights;
}

/* Forward and statistics. With synchronised ones, which leave the running mean as it is, twice: what the first time leaves
 * behind must not count. */
static void convolve(struct rdp_device *device, struct rdp_conv *conv, struct rdp_bn *bn,
                     const struct rdp_activations *x, const struct rdp_activations *y)
{
    const struct rdp_device_ops *ops = device->ops;
    const int batch = conv->desc.batch;
    for (int i = 0; i < (bn->desc.synchronised ? 2 : 1); i++) {
        if (conv->algorithms[RDP_CONV_STATISTICS] != NULL) {
            RDP_MUST(ops->conv_forward_statistics(device, conv, bn, x->block.data, y->block.data));
        } else {
            RDP_MUST(ops->conv_forward(device, conv, x->block.data, y->block.data, 0, batch));
            RDP_MUST(ops->bn_statistics(device, bn, y->block.data, 0, batch));
        }
        RDP_MUST(ops->bn_statistics_sum(device, bn));
    }
}

static void take_sums(struct rdp_device *device, struct rdp_bn *bn, struct rdp_results *results)
{
    static const char *const names[2] = {"sum of y", "sum of squares of y"};
    const size_t channels = bn->sums_count / 2;
    double *sums = calloc(bn->sums_count, sizeof *sums);
    assert_non_null(sums);
    RDP_MUST(device->ops->download(device, sums, bn->sums, bn->sums_count * sizeof *sums));
    for (size_t half = 0; half < 2; half++) {
        float *values = rdp_results_add(results, names[half], RDP_AGREE_SUM, channels);
        for (size_t c = 0; c < channels; c++)
            values[c] = (float)sums[half * channels + c];
    }
    free(sums);
}

static struct rdp_shape input_of(const int *a)
{
    return (struct rdp_shape){a[IN], a[SIZE], a[SIZE]};
}

static struct rdp_shape output_of(const int *a)
{
    return (struct rdp_shape){a[OUT], a[SIZE] / a[STRIDE], a[SIZE] / a[STRIDE]};
}

static void make_layers(struct rdp_device *device, const int *a, struct rdp_conv **conv, struct rdp_bn **bn)
{
    const struct rdp_conv_desc conv_desc = {.input = input_of(a),
                                            .output = output_of(a),
                                            .kernel = a[KERNEL],
                                            .stride = a[STRIDE],
                                            .batch = a[BATCH],
                                            .chunk = a[BATCH],
                                            .input_is_image = a[IMAGE],
                                            .training = true,
                                            .statistics = true};
    const struct rdp_bn_desc bn_desc = {.shape = output_of(a),
                                        .batch = a[BATCH],
                                        .epsilon = 1e-5,
                                        .momentum = 0.1,
                                        .activation = RDP_ACT_RELU,
                                        .synchronised = a[SYNCHRONISED],
                                        .training = true};
    RDP_MUST(device->ops->conv_create(device, conv, &conv_desc));
    RDP_MUST(device->ops->bn_create(device, bn, &bn_desc));
    const bool fused = (*conv)->algorithms[RDP_CONV_STATISTICS] != NULL;
    if (fused != (device->config.fuse_statistics == RDP_FUSE_ALWAYS && a[OUT] % 8 == 0))
        fail_msg("convolution of %d to %d channels: %s", a[IN], a[OUT], fused ? "was fused" : "no engine sums");
}

static void run(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const struct rdp_device_ops *ops = device->ops;
    const struct rdp_shape in = input_of(a), out = output_of(a);
    const size_t channels = (size_t)a[OUT], count = rdp_activations_count(out, a[BATCH]);
    struct rdp_conv *conv;
    struct rdp_bn *bn;
    make_layers(device, a, &conv, &bn);
    struct weights weights = weights_of(device, conv, results, (size_t)(a[IN] * a[OUT] * a[KERNEL] * a[KERNEL]));
    struct rdp_guarded gamma = vector(device, results, channels, 4, 1), beta = vector(device, results, channels, 5, 0),
                       mean = vector(device, results, channels, 6, 0),
                       variance = vector(device, results, channels, 7, 1);
    struct rdp_activations x = rdp_activations_make(device, in, a[BATCH], a[IMAGE]),
                           y = rdp_activations_make(device, out, a[BATCH], false),
                           normalised = rdp_activations_make(device, out, a[BATCH], false);
    float *x_host = rdp_results_input(results, rdp_activations_count(in, a[BATCH]), 1, 1);
    rdp_activations_put(&x, x_host);
    bn->gamma = gamma.data;
    bn->beta = beta.data;
    bn->running_mean = mean.data;
    bn->running_var = variance.data;
    convolve(device, conv, bn, &x, &y);
    rdp_activations_take(&y, rdp_results_add(results, "y", RDP_AGREE_CONVOLUTION, count));
    if (a[SYNCHRONISED])
        take_sums(device, bn, results);
    RDP_MUST(ops->bn_finalize(device, bn, (double)count / a[OUT]));
    rdp_guarded_take(&mean, rdp_results_add(results, "running mean", RDP_AGREE_SUM, channels));
    rdp_guarded_take(&variance, rdp_results_add(results, "running variance", RDP_AGREE_SUM, channels));
    RDP_MUST(ops->bn_apply(device, bn, y.block.data, NULL, normalised.block.data, 0, a[BATCH]));
    rdp_activations_take(&normalised, rdp_results_add(results, "out", RDP_AGREE_CHAIN, count));
    struct rdp_guarded *blocks[] = {&gamma, &beta, &mean, &variance, &weights.stored, &weights.copy};
    struct rdp_activations *tensors[] = {&x, &y, &normalised};
    for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
        rdp_guarded_free(blocks[i]);
    for (size_t i = 0; i < sizeof tensors / sizeof *tensors; i++)
        rdp_activations_free(tensors[i]);
    free(x_host);
    ops->conv_destroy(device, conv);
    ops->bn_destroy(device, bn);
}

const struct rdp_case rdp_fused_cases = {"convolution with statistics",
                                         "in,out,size,kernel,stride,batch,image,synchronised", run, cases,
                                         sizeof cases / sizeof *cases};
