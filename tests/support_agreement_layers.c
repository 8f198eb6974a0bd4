/* The cases of convolution and batch normalisation; see support_agreement.h. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support_agreement.h"
#include "support_network.h"

static const double epsilon = 1e-5;

/* What the padding of stored weights holds must be zero, or the optimiser would carry it into the convolution: the
 * plain array's magnitudes are all there are. */
static void check_padding(const struct rdp_guarded *stored, const float *plain, size_t count)
{
    float *raw = malloc(stored->bytes);
    double all = 0, real = 0;
    assert_non_null(raw);
    rdp_guarded_take(stored, raw);
    for (size_t i = 0; i < stored->bytes / sizeof *raw; i++)
        all += fabs((double)raw[i]);
    for (size_t i = 0; i < count; i++)
        real += fabs((double)plain[i]);
    if (!(fabs(all - real) <= 1e-12 * real)) /* f64 sums in two orders */
        fail_msg("the padding of stored weights or their gradient is not zero: %g of %g", all - real, real);
    free(raw);
}

enum { IN, OUT, SIZE, KERNEL, STRIDE, BATCH, CHUNK, IMAGE, TRAINING };
static const int convolutions[][RDP_CASE_ARGUMENTS] = {
    {3, 8, 32, 3, 1, 3, 3, 1, 1},   {3, 64, 32, 3, 1, 8, 4, 1, 1},  {3, 30, 32, 1, 1, 1, 1, 1, 1},
    {8, 12, 16, 3, 1, 8, 8, 0, 1},  {12, 30, 16, 3, 2, 3, 1, 0, 1}, {30, 64, 8, 1, 2, 8, 2, 0, 1},
    {64, 64, 8, 3, 1, 8, 8, 0, 1},  {64, 30, 4, 3, 1, 3, 3, 0, 1},  {64, 12, 8, 1, 1, 1, 1, 0, 1},
    {30, 3, 4, 1, 1, 3, 1, 0, 1},   {64, 64, 16, 3, 2, 8, 8, 0, 1}, {12, 12, 32, 3, 1, 8, 2, 0, 1},
    {8, 8, 4, 3, 2, 1, 1, 0, 1},    {64, 128, 8, 3, 2, 3, 3, 0, 1}, {30, 12, 32, 1, 2, 3, 3, 0, 1},
    {12, 64, 16, 3, 1, 8, 4, 0, 0}, {3, 12, 32, 3, 1, 3, 3, 1, 0},  {128, 64, 4, 1, 1, 8, 8, 0, 0},
};

/* Forward and, when training, both gradients, from chunks in descending order. */
static void run_convolution(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const struct rdp_device_ops *ops = device->ops;
    const struct rdp_conv_desc desc = {.input = {a[IN], a[SIZE], a[SIZE]},
                                       .output = {a[OUT], a[SIZE] / a[STRIDE], a[SIZE] / a[STRIDE]},
                                       .kernel = a[KERNEL],
                                       .stride = a[STRIDE],
                                       .batch = a[BATCH],
                                       .chunk = a[CHUNK],
                                       .input_is_image = a[IMAGE],
                                       .training = a[TRAINING]};
    const size_t x_count = rdp_activations_count(desc.input, desc.batch),
                 y_count = rdp_activations_count(desc.output, desc.batch),
                 w_count = (size_t)(a[IN] * a[OUT] * a[KERNEL] * a[KERNEL]);
    float *x_host = rdp_results_input(results, x_count, 1, 1), *dy_host = rdp_results_input(results, y_count, 2, 1);
    float *w_host = rdp_results_input(results, w_count, 3, 1), *w_again = calloc(w_count, sizeof *w_again);
    struct rdp_conv *conv;
    RDP_MUST(ops->conv_create(device, &conv, &desc));
    assert_non_null(conv->algorithms[0]);
    struct rdp_guarded stored = rdp_guarded_make(device, conv->stored_count * sizeof(float));
    struct rdp_guarded copy = rdp_guarded_make(device, conv->stored_count * ops->copy_size(device));
    RDP_MUST(ops->conv_pack(device, conv, w_host, stored.data));
    RDP_MUST(ops->conv_unpack(device, conv, stored.data, w_again));
    assert_memory_equal(w_host, w_again, w_count * sizeof *w_host);
    check_padding(&stored, w_host, w_count);
    RDP_MUST(ops->conv_weights(device, conv, stored.data, copy.bytes > 0 ? copy.data : NULL, desc.training));

    struct rdp_activations x = rdp_activations_make(device, desc.input, desc.batch, desc.input_is_image),
                           y = rdp_activations_make(device, desc.output, desc.batch, false);
    rdp_activations_put(&x, x_host);
    for (int first = desc.batch - desc.chunk; first >= 0; first -= desc.chunk)
        RDP_MUST(ops->conv_forward(device, conv, x.block.data, y.block.data, first, desc.chunk));
    rdp_activations_take(&y, rdp_results_add(results, "y", RDP_AGREE_CONVOLUTION, y_count));
    if (desc.training) {
        struct rdp_activations dy = rdp_activations_make(device, desc.output, desc.batch, false);
        struct rdp_guarded dw = rdp_guarded_make(device, conv->stored_count * sizeof(float));
        rdp_activations_put(&dy, dy_host);
        if (!desc.input_is_image) {
            struct rdp_activations dx = rdp_activations_make(device, desc.input, desc.batch, false);
            for (int first = desc.batch - desc.chunk; first >= 0; first -= desc.chunk)
                RDP_MUST(ops->conv_backward_data(device, conv, dy.block.data, dx.block.data, first, desc.chunk));
            rdp_activations_take(&dx, rdp_results_add(results, "dx", RDP_AGREE_CONVOLUTION, x_count));
            rdp_activations_free(&dx);
        }
        float *dw_host = rdp_results_add(results, "dw", RDP_AGREE_CONVOLUTION, w_count);
        RDP_MUST(ops->conv_backward_weights(device, conv, x.block.data, dy.block.data, dw.data));
        RDP_MUST(ops->conv_unpack(device, conv, dw.data, dw_host));
        check_padding(&dw, dw_host, w_count);
        rdp_guarded_free(&dw);
        rdp_activations_free(&dy);
    }
    rdp_activations_free(&x);
    rdp_activations_free(&y);
    rdp_guarded_free(&stored);
    rdp_guarded_free(&copy);
    ops->conv_destroy(device, conv);
    free(x_host);
    free(dy_host);
    free(w_host);
    free(w_again);
}

const struct rdp_case rdp_convolution_cases = {"convolution", "in,out,size,kernel,stride,batch,chunk,image,training",
                                               run_convolution, convolutions,
                                               sizeof convolutions / sizeof *convolutions};

enum { BN_CHANNELS, BN_SIZE, BN_BATCH, BN_CHUNK, BN_RESIDUAL, BN_ACTIVATION, BN_TWO, BN_ALIAS, BN_SYNCHRONISED };
enum { NONE = RDP_ACT_NONE, RELU = RDP_ACT_RELU, LEAKY = RDP_ACT_LEAKY_RELU, GELU = RDP_ACT_GELU };
static const int batch_norms[][RDP_CASE_ARGUMENTS] = {
    {3, 32, 3, 3, 0, RELU, 0, 0, 0},   {8, 16, 8, 4, 0, RELU, 1, 0, 0},  {12, 8, 8, 2, 1, RELU, 1, 1, 0},
    {30, 8, 3, 1, 1, RELU, 0, 0, 1},   {64, 8, 8, 8, 1, RELU, 1, 0, 0},  {64, 4, 1, 1, 0, NONE, 0, 1, 0},
    {12, 16, 3, 3, 0, NONE, 1, 0, 1},  {30, 4, 8, 8, 1, NONE, 0, 0, 0},  {3, 4, 8, 1, 1, NONE, 1, 1, 0},
    {64, 32, 3, 3, 0, LEAKY, 0, 1, 1}, {8, 8, 1, 1, 0, LEAKY, 1, 0, 0},  {30, 16, 8, 4, 1, LEAKY, 0, 1, 0},
    {12, 32, 8, 8, 1, LEAKY, 1, 0, 1}, {256, 4, 8, 8, 0, RELU, 0, 0, 0}, {520, 8, 3, 3, 1, RELU, 1, 0, 1},
    {30, 16, 8, 4, 0, GELU, 0, 1, 0},  {64, 8, 3, 1, 0, GELU, 1, 0, 1},  {12, 16, 8, 8, 1, GELU, 0, 0, 1},
    {96, 8, 6, 2, 1, GELU, 1, 1, 0},
};

/* A batch-norm on a device, with its tensors and vectors. */
struct bench {
    struct rdp_device *device;
    struct rdp_bn_desc desc;
    struct rdp_bn *bn;
    int chunk;
    struct rdp_activations y, residual, out, dout, dout2, dy;
    struct rdp_guarded gamma, beta, mean, variance, dgamma, dbeta;
    float *values[4];  /* host: y, residual, dout, dout2 */
    float *vectors[4]; /* host: gamma, beta, running mean, running variance */
};

/*
 * Moves values of y until no pre-activation is within 1e-4 of the kink, where the rounding of one device would choose
 * the other branch's gradient. Batch statistics in double, as PyTorch's.
 */
static void avoid_kink(const struct bench *bench)
{
    const struct rdp_shape shape = bench->desc.shape;
    const int pixels = shape.height * shape.width;
    const double elements = (double)bench->desc.batch * pixels;
    for (int c = 0; c < shape.channels; c++)
        for (int near = 1, round = 0; near > 0; round++) {
            double mean = 0, square = 0;
            near = 0;
            assert_true(round < 100);
            for (int n = 0; n < bench->desc.batch; n++)
                for (int p = 0; p < pixels; p++) {
                    const double y = (double)bench->values[0][(n * shape.channels + c) * pixels + p];
                    mean += y / elements;
                    square += y * y / elements;
                }
            const double scale = (double)bench->vectors[0][c] / sqrt(square - mean * mean + epsilon);
            for (int n = 0; n < bench->desc.batch; n++)
                for (int p = 0; p < pixels; p++) {
                    const int i = (n * shape.channels + c) * pixels + p;
                    const double residual = bench->desc.residual ? (double)bench->values[1][i] : 0;
                    const double z =
                        ((double)bench->values[0][i] - mean) * scale + (double)bench->vectors[1][c] + residual;
                    if (fabs(z) < 1e-4) {
                        near++;
                        bench->values[0][i] = rdp_bf16_value(rdp_bf16_bits(bench->values[0][i] + 0.25f));
                    }
                }
        }
}

static void open_bench(struct bench *bench, struct rdp_device *device, const int *a, const struct rdp_results *results)
{
    *bench = (struct bench){.device = device,
                            .chunk = a[BN_CHUNK],
                            .desc = {.shape = {a[BN_CHANNELS], a[BN_SIZE], a[BN_SIZE]},
                                     .batch = a[BN_BATCH],
                                     .epsilon = epsilon,
                                     .momentum = 0.1,
                                     .activation = (enum rdp_kernel_activation)a[BN_ACTIVATION],
                                     .slope = 0.01f,
                                     .residual = a[BN_RESIDUAL],
                                     .synchronised = a[BN_SYNCHRONISED],
                                     .training = true}};
    const size_t channels = (size_t)a[BN_CHANNELS], count = rdp_activations_count(bench->desc.shape, a[BN_BATCH]);
    struct rdp_activations *tensors[] = {&bench->y,     &bench->residual, &bench->dout,
                                         &bench->dout2, &bench->out,      &bench->dy};
    struct rdp_guarded *vectors[] = {&bench->gamma,    &bench->beta,   &bench->mean,
                                     &bench->variance, &bench->dgamma, &bench->dbeta};
    for (uint32_t i = 0; i < 4; i++) {
        bench->values[i] = rdp_results_input(results, count, 10 + i, 1);
        bench->vectors[i] = rdp_results_input(results, channels, 20 + i, 0.5f);
        for (size_t c = 0; c < channels; c++)
            bench->vectors[i][c] += i == 0 || i == 3 ? 1.0f : 0; /* gamma and variance are about 1 */
    }
    avoid_kink(bench);
    for (int i = 0; i < 6; i++) {
        *tensors[i] = rdp_activations_make(device, bench->desc.shape, bench->desc.batch, false);
        *vectors[i] = rdp_guarded_make(device, channels * sizeof(float));
        if (i < 4)
            rdp_activations_put(tensors[i], bench->values[i]);
        if (i < 4)
            rdp_guarded_put(vectors[i], bench->vectors[i]);
    }
    RDP_MUST(device->ops->bn_create(device, &bench->bn, &bench->desc));
    assert_int_equal(bench->bn->sums_count, 2 * channels);
    bench->bn->gamma = bench->gamma.data;
    bench->bn->beta = bench->beta.data;
    bench->bn->running_mean = bench->mean.data;
    bench->bn->running_var = bench->variance.data;
    bench->bn->dgamma = bench->dgamma.data;
    bench->bn->dbeta = bench->dbeta.data;
}

static void close_bench(struct bench *bench)
{
    struct rdp_activations *tensors[] = {&bench->y,     &bench->residual, &bench->dout,
                                         &bench->dout2, &bench->out,      &bench->dy};
    struct rdp_guarded *vectors[] = {&bench->gamma,    &bench->beta,   &bench->mean,
                                     &bench->variance, &bench->dgamma, &bench->dbeta};
    for (int i = 0; i < 6; i++) {
        rdp_activations_free(tensors[i]);
        rdp_guarded_free(vectors[i]);
    }
    for (int i = 0; i < 4; i++) {
        free(bench->values[i]);
        free(bench->vectors[i]);
    }
    bench->device->ops->bn_destroy(bench->device, bench->bn);
}

/* With synchronised statistics the sums are a result, which is then doubled, as two ranks with the same batch would.
 * Without, a device need not have them. */
static void share_sums(struct bench *bench, struct rdp_results *results, const char *names[2],
                       enum rdp_agreement agreement)
{
    const size_t channels = (size_t)bench->desc.shape.channels, bytes = 2 * channels * sizeof(double);
    if (!bench->desc.synchronised)
        return;
    double *sums = malloc(bytes);
    assert_non_null(sums);
    RDP_MUST(bench->device->ops->download(bench->device, sums, bench->bn->sums, bytes));
    for (size_t half = 0; half < 2; half++) {
        float *values = rdp_results_add(results, names[half], agreement, channels);
        for (size_t c = 0; c < channels; c++)
            values[c] = (float)sums[half * channels + c];
    }
    for (size_t i = 0; i < 2 * channels; i++)
        sums[i] *= 2;
    RDP_MUST(bench->device->ops->upload(bench->device, bench->bn->sums, sums, bytes));
    free(sums);
}

static double elements_of(const struct bench *bench)
{
    return (double)rdp_activations_count(bench->desc.shape, bench->desc.batch) / bench->desc.shape.channels *
           (bench->desc.synchronised ? 2 : 1);
}

static void apply(struct bench *bench, struct rdp_results *results, const char *name)
{
    for (int first = bench->desc.batch - bench->chunk; first >= 0; first -= bench->chunk)
        RDP_MUST(bench->device->ops->bn_apply(bench->device, bench->bn, bench->y.block.data,
                                              bench->desc.residual ? bench->residual.block.data : NULL,
                                              bench->out.block.data, first, bench->chunk));
    rdp_activations_take(&bench->out, rdp_results_add(results, name, RDP_AGREE_STORED,
                                                      rdp_activations_count(bench->desc.shape, bench->desc.batch)));
}

static void forward(struct bench *bench, struct rdp_results *results)
{
    static const char *names[2] = {"sum of y", "sum of squares of y"};
    const struct rdp_device_ops *ops = bench->device->ops;
    const size_t channels = (size_t)bench->desc.shape.channels;
    RDP_MUST(ops->bn_use_running(bench->device, bench->bn));
    apply(bench, results, "out by running statistics");
    for (int first = bench->desc.batch - bench->chunk; first >= 0; first -= bench->chunk)
        RDP_MUST(ops->bn_statistics(bench->device, bench->bn, bench->y.block.data, first, bench->chunk));
    RDP_MUST(ops->bn_statistics_sum(bench->device, bench->bn));
    share_sums(bench, results, names, RDP_AGREE_F32);
    RDP_MUST(ops->bn_finalize(bench->device, bench->bn, elements_of(bench)));
    apply(bench, results, "out");
    rdp_guarded_take(&bench->mean, rdp_results_add(results, "running mean", RDP_AGREE_F32, channels));
    rdp_guarded_take(&bench->variance, rdp_results_add(results, "running variance", RDP_AGREE_F32, channels));
}

static void backward(struct bench *bench, struct rdp_results *results, bool two, bool alias)
{
    static const char *names[2] = {"sum of dz", "sum of dz (y - mean)"};
    const struct rdp_device_ops *ops = bench->device->ops;
    const size_t channels = (size_t)bench->desc.shape.channels,
                 count = rdp_activations_count(bench->desc.shape, bench->desc.batch);
    struct rdp_activations *dy = alias ? &bench->dout : &bench->dy;
    const struct rdp_activations *joined = bench->desc.activation == RDP_ACT_GELU ? &bench->residual : &bench->out;
    for (int first = bench->desc.batch - bench->chunk; first >= 0; first -= bench->chunk)
        RDP_MUST(ops->bn_backward_reduce(bench->device, bench->bn, bench->y.block.data,
                                         !bench->desc.residual ? NULL : joined->block.data, bench->dout.block.data,
                                         two ? bench->dout2.block.data : NULL, first, bench->chunk));
    RDP_MUST(ops->bn_backward_sum(bench->device, bench->bn));
    share_sums(bench, results, names, RDP_AGREE_SUM);
    RDP_MUST(ops->bn_backward_finalize(bench->device, bench->bn, elements_of(bench)));
    if (bench->desc.residual || two) /* otherwise dout may have stayed as it was */
        rdp_activations_take(&bench->dout, rdp_results_add(results, "dz", RDP_AGREE_STORED, count));
    for (int first = bench->desc.batch - bench->chunk; first >= 0; first -= bench->chunk)
        RDP_MUST(ops->bn_backward_apply(bench->device, bench->bn, bench->y.block.data, bench->dout.block.data,
                                        dy->block.data, first, bench->chunk));
    rdp_activations_take(dy, rdp_results_add(results, "dy", RDP_AGREE_CHAIN, count));
    rdp_guarded_take(&bench->dgamma, rdp_results_add(results, "dgamma", RDP_AGREE_SUM, channels));
    rdp_guarded_take(&bench->dbeta, rdp_results_add(results, "dbeta", RDP_AGREE_SUM, channels));
}

static void run_batch_norm(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    struct bench bench;
    open_bench(&bench, device, a, results);
    forward(&bench, results);
    backward(&bench, results, a[BN_TWO], a[BN_ALIAS]);
    close_bench(&bench);
}

const struct rdp_case rdp_batch_norm_cases = {
    "batch-norm", "channels,size,batch,chunk,residual,activation,two gradients,in place,synchronised", run_batch_norm,
    batch_norms, sizeof batch_norms / sizeof *batch_norms};
