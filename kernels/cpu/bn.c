/*
 * Batch normalisation in two passes each way, see rdp_bn_desc. Sums are kept per image (f32, at most 1,024 pixels each)
 * and then added over images in f64 in a fixed order: the result depends on neither threads nor chunks.
 *
 * A range may be a chunk that is still in cache; threads share it by image and channel block.
 */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "kernels/cpu/cpu.h"

struct cpu_bn {
    int blocks, padded; /* channel blocks; blocks * lanes */
    float *partial[2];  /* (batch, padded): an image's sums */
    /* All (padded), zero in the missing channels, so that those stay zero: */
    float *mean, *scale, *shift; /* z = y * scale + shift */
    float *invstd;
    float *a, *b, *c; /* dy = a * dz + b * y + c */
};

int cpu_bn_create(struct rdp_device *device, struct rdp_bn **bn, const struct rdp_bn_desc *desc)
{
    RDP_TRY(rdp_calloc((void **)bn, 1, sizeof **bn, "a batch-norm"));
    (*bn)->desc = *desc;
    (*bn)->sums_count = 2 * (size_t)desc->shape.channels;
    int status = rdp_calloc((void **)&(*bn)->sums, (*bn)->sums_count, sizeof(double), "batch-norm sums");
    if (status == RDP_OK)
        status = rdp_calloc(&(*bn)->state, 1, sizeof(struct cpu_bn), "a batch-norm");
    if (status == RDP_OK) {
        struct cpu_bn *state = (*bn)->state;
        state->blocks = cpu_blocks(device, desc->shape.channels);
        state->padded = state->blocks * cpu_state(device)->lanes;
        size_t row = (size_t)state->padded * sizeof(float);
        float **vectors[] = {&state->mean, &state->scale, &state->shift, &state->invstd,
                             &state->a,    &state->b,     &state->c};
        for (size_t i = 0; i < sizeof vectors / sizeof *vectors && status == RDP_OK; i++)
            status = rdp_alloc_aligned((void **)vectors[i], row, "batch-norm coefficients");
        for (int i = 0; i < 2 && status == RDP_OK && desc->training; i++)
            status =
                rdp_alloc_aligned((void **)&state->partial[i], (size_t)desc->batch * row, "batch-norm partial sums");
    }
    if (status != RDP_OK) {
        cpu_bn_destroy(device, *bn);
        *bn = NULL;
    }
    return status;
}

void cpu_bn_destroy(struct rdp_device *device, struct rdp_bn *bn)
{
    (void)device;
    if (bn == NULL)
        return;
    struct cpu_bn *state = bn->state;
    if (state != NULL) {
        float *vectors[] = {state->mean, state->scale, state->shift,      state->invstd,    state->a,
                            state->b,    state->c,     state->partial[0], state->partial[1]};
        for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++)
            free(vectors[i]);
    }
    free(state);
    free(bn->sums);
    free(bn);
}

static struct rdp_vector_activation activation_of(const struct rdp_bn_desc *desc)
{
    return (struct rdp_vector_activation){
        .gelu = desc->activation == RDP_ACT_GELU,
        .slope = desc->activation == RDP_ACT_NONE   ? 1.0f
                 : desc->activation == RDP_ACT_RELU ? 0.0f
                                                    : desc->slope,
    };
}

/* A walk over the blocks of a range: `offset` in bytes into an activation tensor, `channel` and `partial` in elements.
 */
#define FOR_BLOCKS(device, bn, first, count) \
    const struct cpu_state *cpu = cpu_state(device); \
    struct cpu_bn *state = (bn)->state; \
    const size_t pixels = (size_t)(bn)->desc.shape.height * (size_t)(bn)->desc.shape.width; \
    const size_t block_bytes = pixels * (size_t)cpu->lanes * cpu->element_size; \
    const int64_t begin_ = (int64_t)(first)*state->blocks, end_ = (int64_t)((first) + (count)) * state->blocks; \
    _Pragma("omp parallel for schedule(static)") for (int64_t i = begin_; i < end_; i++)

int cpu_bn_statistics(struct rdp_device *device, struct rdp_bn *bn, const void *y, int first, int count)
{
    struct cpu_bn *own = bn->state;
    for (int c = 0; c < bn->desc.shape.channels; c++)
        own->mean[c] = bn->running_mean[c];
    FOR_BLOCKS(device, bn, first, count)
    {
        size_t channel = (size_t)(i % state->blocks) * (size_t)cpu->lanes, partial = (size_t)i * (size_t)cpu->lanes;
        cpu->loops->statistics((const char *)y + (size_t)i * block_bytes, pixels, state->mean + channel,
                               state->partial[0] + partial, state->partial[1] + partial);
    }
    return RDP_OK;
}

/* bn->sums = the two partial sums, added over images in order. */
static void add_partials(struct rdp_bn *bn)
{
    const struct cpu_bn *state = bn->state;
    int channels = bn->desc.shape.channels;
#pragma omp parallel for schedule(static)
    for (int c = 0; c < channels; c++) {
        double sum = 0, second = 0;
        for (int n = 0; n < bn->desc.batch; n++) {
            sum += (double)state->partial[0][(size_t)n * (size_t)state->padded + (size_t)c];
            second += (double)state->partial[1][(size_t)n * (size_t)state->padded + (size_t)c];
        }
        bn->sums[c] = sum;
        bn->sums[channels + c] = second;
    }
}

int cpu_bn_statistics_sum(struct rdp_device *device, struct rdp_bn *bn)
{
    (void)device;
    add_partials(bn);
    return RDP_OK;
}

static void set_scale(struct cpu_bn *state, int c, double mean, double variance, double epsilon, float gamma,
                      float beta)
{
    double invstd = 1.0 / sqrt(variance + epsilon);
    state->mean[c] = (float)mean;
    state->invstd[c] = (float)invstd;
    state->scale[c] = (float)(gamma * invstd);
    state->shift[c] = (float)(beta - mean * gamma * invstd);
}

int cpu_bn_finalize(struct rdp_device *device, struct rdp_bn *bn, double elements)
{
    (void)device;
    struct cpu_bn *state = bn->state;
    const double momentum = bn->desc.momentum;
    int channels = bn->desc.shape.channels;
    for (int c = 0; c < channels; c++) {
        double shifted = bn->sums[c] / elements, shift = (double)bn->running_mean[c];
        double variance = bn->sums[channels + c] / elements - shifted * shifted;
        double mean = shift + shifted;
        if (variance < 0)
            variance = 0;
        set_scale(state, c, mean, variance, bn->desc.epsilon, bn->gamma[c], bn->beta[c]);
        double unbiased = elements > 1 ? variance * elements / (elements - 1) : variance;
        bn->running_mean[c] = (float)((1 - momentum) * shift + momentum * mean);
        bn->running_var[c] = (float)((1 - momentum) * (double)bn->running_var[c] + momentum * unbiased);
    }
    return RDP_OK;
}

int cpu_bn_use_running(struct rdp_device *device, struct rdp_bn *bn)
{
    (void)device;
    for (int c = 0; c < bn->desc.shape.channels; c++)
        set_scale(bn->state, c, (double)bn->running_mean[c], (double)bn->running_var[c], bn->desc.epsilon, bn->gamma[c],
                  bn->beta[c]);
    return RDP_OK;
}

int cpu_bn_apply(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *residual, void *out,
                 int first, int count)
{
    const struct rdp_vector_activation activation = activation_of(&bn->desc);
    FOR_BLOCKS(device, bn, first, count)
    {
        size_t channel = (size_t)(i % state->blocks) * (size_t)cpu->lanes, offset = (size_t)i * block_bytes;
        cpu->loops->apply((const char *)y + offset, residual == NULL ? NULL : (const char *)residual + offset,
                          (char *)out + offset, pixels, state->scale + channel, state->shift + channel, activation);
    }
    return RDP_OK;
}

int cpu_bn_backward_reduce(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *joined, void *dout,
                           const void *dout2, int first, int count)
{
    const struct rdp_vector_activation activation = activation_of(&bn->desc);
    const bool joins = bn->desc.residual;
    FOR_BLOCKS(device, bn, first, count)
    {
        size_t channel = (size_t)(i % state->blocks) * (size_t)cpu->lanes, partial = (size_t)i * (size_t)cpu->lanes;
        size_t offset = (size_t)i * block_bytes;
        cpu->loops->backward_reduce((const char *)y + offset, joins ? (const char *)joined + offset : NULL,
                                    (char *)dout + offset, dout2 == NULL ? NULL : (const char *)dout2 + offset, pixels,
                                    state->scale + channel, state->shift + channel, state->mean + channel, activation,
                                    state->partial[0] + partial, state->partial[1] + partial);
    }
    return RDP_OK;
}

int cpu_bn_backward_sum(struct rdp_device *device, struct rdp_bn *bn)
{
    (void)device;
    const struct cpu_bn *state = bn->state;
    int channels = bn->desc.shape.channels;
    add_partials(bn);
    for (int c = 0; c < channels; c++) {
        bn->dbeta[c] = (float)bn->sums[c];
        bn->dgamma[c] = (float)(bn->sums[channels + c] * (double)state->invstd[c]);
    }
    return RDP_OK;
}

/* dy = gamma * invstd * (dz - mean(dz) - xhat * mean(dz * xhat)), Ioffe & Szegedy 2015 section 3, as a * dz + b * y +
 * c. */
int cpu_bn_backward_finalize(struct rdp_device *device, struct rdp_bn *bn, double elements)
{
    (void)device;
    struct cpu_bn *state = bn->state;
    int channels = bn->desc.shape.channels;
    for (int c = 0; c < channels; c++) {
        double invstd = (double)state->invstd[c], a = bn->gamma[c] * invstd;
        double mean_dz = bn->sums[c] / elements, mean_dz_xhat = bn->sums[channels + c] * invstd / elements;
        double b = -a * invstd * mean_dz_xhat;
        state->a[c] = (float)a;
        state->b[c] = (float)b;
        state->c[c] = (float)(-a * mean_dz - b * (double)state->mean[c]);
    }
    return RDP_OK;
}

int cpu_bn_backward_apply(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *dz, void *dy,
                          int first, int count)
{
    FOR_BLOCKS(device, bn, first, count)
    {
        size_t channel = (size_t)(i % state->blocks) * (size_t)cpu->lanes, offset = (size_t)i * block_bytes;
        cpu->loops->backward_apply((const char *)y + offset, (const char *)dz + offset, (char *)dy + offset, pixels,
                                   state->a + channel, state->b + channel, state->c + channel);
    }
    return RDP_OK;
}
