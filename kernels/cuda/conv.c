/*
 * The convolutions of the CUDA device (kernels.h, cuda.h) and what they share, the library: cuDNN's handle, the device's
 * properties, the plan cache. A convolution is up to three runs (conv_run.h), one per direction, chosen when it is made
 * (conv_tune.h), and perhaps a fourth, forward together with batch-norm statistics (conv_statistics.h). Weights are stored as (K,R,S,C) with K and C padded to CUDA_LANES; a bf16 device computes with a bf16
 * copy of the same shape.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cuda/conv_statistics.h"
#include "kernels/cuda/conv_tune.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launchers.h"

_Static_assert((int)CONV_FUSED == (int)RDP_CONV_STATISTICS, "rdp_conv.algorithms goes by enum conv_kind");

struct conv_state {
    struct conv_run runs[RDP_CONV_ALGORITHMS]; /* as rdp_conv.algorithms */
    const void *weights; /* device: what forward and backward data read; NULL until conv_weights */
};

/* ---- library ----------------------------------------------------------------------------------------------------- */

const char *cuda_library_version(void)
{
    static char text[32];
    size_t version = cudnnGetVersion();
    snprintf(text, sizeof text, "cuDNN %zu.%zu.%zu", version / 10000, version / 100 % 100, version % 100);
    return text;
}

static int check_fuse(const struct rdp_device *device)
{
    if (device->config.fuse_statistics != RDP_FUSE_ALWAYS || conv_can_sum())
        return RDP_OK;
    return rdp_fail(RDP_EUSAGE,
                    "--fuse-statistics yes: cuDNN 9.11 or newer sums in an order that does not change from run to run, "
                    "this is %s, built against %d.%d; take --fuse-statistics no",
                    cuda_library_version(), CUDNN_MAJOR, CUDNN_MINOR);
}

int cuda_library_open(struct rdp_device *device)
{
    struct cuda_state *state = cuda_state(device);
    void *memory;
    RDP_TRY(check_fuse(device));
    RDP_TRY(rdp_calloc(&memory, 1, sizeof(struct cuda_library), "the cuDNN library's state"));
    struct cuda_library *library = state->library = memory;
    RDP_CUDNN(cudnnCreate(&library->handle));
    RDP_CUDNN(cudnnSetStream(library->handle, state->stream));
    int ordinal; /* not config.index, which counts the devices that this build has code for */
    RDP_CUDA(cudaGetDevice(&ordinal));
    RDP_TRY(conv_target_open(&library->target, ordinal, library->handle));
    return plan_cache_open(&library->cache, device->config.plan_cache != NULL ? device->config.plan_cache : "");
}

void cuda_library_close(struct rdp_device *device)
{
    struct cuda_state *state = cuda_state(device);
    struct cuda_library *library = state->library;
    if (library == NULL)
        return;
    plan_cache_close(library->cache);
    conv_target_close(&library->target);
    if (library->handle != NULL)
        cudnnDestroy(library->handle);
    free(library);
    state->library = NULL;
}

int cuda_chunk(struct rdp_device *device, const struct rdp_conv_desc *desc)
{
    (void)device; /* smaller pieces than the batch would leave multiprocessors idle */
    return desc->batch;
}

/* ---- making ------------------------------------------------------------------------------------------------------ */

static struct conv_problem problem_of(struct rdp_device *device, const struct rdp_conv_desc *desc, enum conv_kind kind)
{
    return (struct conv_problem){.kind = kind,
                                 .precision = device->config.precision,
                                 .batch = kind == CONV_WEIGHTS ? desc->batch : desc->chunk,
                                 .channels = cuda_padded(desc->input.channels),
                                 .height = desc->input.height,
                                 .width = desc->input.width,
                                 .filters = cuda_padded(desc->output.channels),
                                 .kernel = desc->kernel,
                                 .stride = desc->stride};
}

static int plan_direction(struct rdp_device *device, struct rdp_conv *conv, enum conv_kind kind)
{
    struct cuda_state *state = cuda_state(device);
    struct conv_state *own = conv->state;
    const struct rdp_conv_desc *desc = &conv->desc;
    const struct conv_problem problem = problem_of(device, desc, kind);
    if (conv_output_extent(&problem, desc->input.height) != desc->output.height ||
        conv_output_extent(&problem, desc->input.width) != desc->output.width)
        return rdp_fail(RDP_EINTERNAL, "a %dx%d convolution of stride %d cannot make %dx%d of %dx%d", desc->kernel,
                        desc->kernel, desc->stride, desc->output.height, desc->output.width, desc->input.height,
                        desc->input.width);
    struct conv_run *run = &own->runs[kind];
    RDP_TRY(conv_tune(state->library, state->stream, &problem, NULL, run));
    conv->algorithms[kind] = run->description;
    return cuda_workspace_reserve(device, conv_run_workspace(run));
}

/* Needs the whole batch in one call, and running means without padding behind them. */
static int plan_statistics(struct rdp_device *device, struct rdp_conv *conv)
{
    const enum rdp_kernel_fuse fuse = device->config.fuse_statistics;
    const struct rdp_conv_desc *desc = &conv->desc;
    const struct conv_problem problem = problem_of(device, desc, fuse == RDP_FUSE_ALWAYS ? CONV_FUSED : CONV_EITHER);
    struct conv_run *run = &((struct conv_state *)conv->state)->runs[RDP_CONV_STATISTICS];
    if (fuse == RDP_FUSE_NEVER || !desc->statistics || !conv_family_applies(&problem, PLAN_SUMS) ||
        desc->chunk != desc->batch || desc->output.channels % CUDA_LANES != 0)
        return RDP_OK;
    RDP_TRY(conv_statistics_tune(device, &problem, run));
    if (run->plan == NULL)
        return RDP_OK;
    conv->algorithms[RDP_CONV_STATISTICS] = run->description;
    return cuda_workspace_reserve(device, conv_run_workspace(run));
}

int cuda_conv_create(struct rdp_device *device, struct rdp_conv **conv, const struct rdp_conv_desc *desc)
{
    void *memory, *state;
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **conv, "a convolution"));
    struct rdp_conv *new = memory;
    new->desc = *desc;
    new->stored_count = (size_t)cuda_padded(desc->output.channels) *
                        (size_t)desc->kernel *(size_t)desc->kernel *(size_t)cuda_padded(desc->input.channels);
    int status = rdp_calloc(&state, 1, sizeof(struct conv_state), "a convolution");
    if (status == RDP_OK) {
        new->state = state;
        status = plan_direction(device, new, CONV_FORWARD);
    }
    if (status == RDP_OK && desc->training && !desc->input_is_image)
        status = plan_direction(device, new, CONV_DATA);
    if (status == RDP_OK && desc->training)
        status = plan_direction(device, new, CONV_WEIGHTS);
    if (status == RDP_OK)
        status = plan_statistics(device, new);
    if (status != RDP_OK) {
        cuda_conv_destroy(device, new);
        return status;
    }
    *conv = new;
    return RDP_OK;
}

void cuda_conv_destroy(struct rdp_device *device, struct rdp_conv *conv)
{
    (void)device;
    if (conv == NULL)
        return;
    struct conv_state *own = conv->state;
    for (int i = 0; own != NULL && i < RDP_CONV_ALGORITHMS; i++)
        conv_run_close(&own->runs[i]);
    free(own);
    free(conv);
}

/* ---- weights ----------------------------------------------------------------------------------------------------- */

/* Where element (k, c, r, s) of the plain weights lies in the stored ones. */
static size_t stored_index(const struct rdp_conv_desc *desc, int k, int c, int r, int s)
{
    size_t kernel = (size_t)desc->kernel, channels = (size_t)cuda_padded(desc->input.channels);
    return (((size_t)k * kernel + (size_t)r) * kernel + (size_t)s) * channels + (size_t)c;
}

/* Copies between the plain form and a host copy of the stored form, whichever way `pack` says. */
static void rearrange(const struct rdp_conv_desc *desc, float *plain, float *stored, bool pack)
{
    for (int k = 0; k < desc->output.channels; k++)
        for (int c = 0; c < desc->input.channels; c++)
            for (int r = 0; r < desc->kernel; r++)
                for (int s = 0; s < desc->kernel; s++, plain++) {
                    float *there = stored + stored_index(desc, k, c, r, s);
                    if (pack)
                        *there = *plain;
                    else
                        *plain = *there;
                }
}

int cuda_conv_pack(struct rdp_device *device, struct rdp_conv *conv, const float *host_oihw, float *stored)
{
    void *memory;
    RDP_TRY(rdp_calloc(&memory, conv->stored_count, sizeof(float), "the weights of a convolution"));
    rearrange(&conv->desc, (float *)host_oihw, memory, true);
    int status = device->ops->upload(device, stored, memory, conv->stored_count * sizeof(float));
    free(memory);
    return status;
}

int cuda_conv_unpack(struct rdp_device *device, struct rdp_conv *conv, const float *stored, float *host_oihw)
{
    void *memory;
    RDP_TRY(rdp_calloc(&memory, conv->stored_count, sizeof(float), "the weights of a convolution"));
    int status = device->ops->download(device, memory, stored, conv->stored_count * sizeof(float));
    if (status == RDP_OK)
        rearrange(&conv->desc, host_oihw, memory, false);
    free(memory);
    return status;
}

int cuda_conv_weights(struct rdp_device *device, struct rdp_conv *conv, const float *stored, void *copy, bool backward)
{
    (void)backward; /* both directions read the same form */
    struct cuda_state *state = cuda_state(device);
    struct conv_state *own = conv->state;
    own->weights = state->bf16 ? copy : stored;
    if (state->bf16)
        RDP_CUDA(cuda_launch_f32_to_bf16(state->stream, stored, copy, conv->stored_count, state->sm_count));
    return RDP_OK;
}

/* ---- running ----------------------------------------------------------------------------------------------------- */

static int start(struct rdp_device *device, struct rdp_conv *conv, int which, struct conv_pointers pointers)
{
    struct cuda_state *state = cuda_state(device);
    struct conv_run *run = &((struct conv_state *)conv->state)->runs[which];
    if (run->plan == NULL || pointers.w == NULL)
        return rdp_fail(RDP_EINTERNAL, "convolution, %s: %s", conv_kind_name((enum conv_kind)which),
                        run->plan == NULL ? "was not planned" : "has no weights yet");
    pointers.workspace = state->workspace;
    return conv_run_start(run, state->library->handle, state->stream, &pointers);
}

/* The casts drop const: cuDNN takes all pointers alike and writes only to the direction's result. */
static int run_direction(struct rdp_device *device, struct rdp_conv *conv, enum conv_kind kind, const void *x,
                         const void *w, const void *y)
{
    return start(device, conv, kind, (struct conv_pointers){.x = (void *)x, .w = (void *)w, .y = (void *)y});
}

/* Forward and backward data are planned for ranges of `chunk` images, which the plans need to be whole. */
static int check_range(const struct rdp_conv *conv, int first, int count)
{
    if (count == conv->desc.chunk && first >= 0 && first % count == 0 && first + count <= conv->desc.batch)
        return RDP_OK;
    return rdp_fail(RDP_EINTERNAL, "a convolution planned for %d of %d images at a time was called for images %d to %d",
                    conv->desc.chunk, conv->desc.batch, first, first + count);
}

static const void *image(struct rdp_device *device, struct rdp_shape shape, const void *tensor, int first)
{
    const size_t bytes = (size_t)cuda_padded(shape.channels) * (size_t)shape.height * (size_t)shape.width *
                         cuda_state(device)->element_size;
    return (const char *)tensor + (size_t)first * bytes;
}

int cuda_conv_forward(struct rdp_device *device, struct rdp_conv *conv, const void *x, void *y, int first, int count)
{
    RDP_TRY(check_range(conv, first, count));
    return run_direction(device, conv, CONV_FORWARD, image(device, conv->desc.input, x, first),
                         ((struct conv_state *)conv->state)->weights, image(device, conv->desc.output, y, first));
}

int cuda_conv_forward_statistics(struct rdp_device *device, struct rdp_conv *conv, struct rdp_bn *bn, const void *x,
                                 void *y)
{
    const struct conv_pointers pointers = {.x = (void *)x,
                                           .w = (void *)((struct conv_state *)conv->state)->weights,
                                           .y = y,
                                           .mean = bn->running_mean,
                                           .sums = cuda_bn_own_sums(bn)};
    RDP_TRY(start(device, conv, RDP_CONV_STATISTICS, pointers));
    return cuda_bn_take_sums(device, bn);
}

int cuda_conv_backward_data(struct rdp_device *device, struct rdp_conv *conv, const void *dy, void *dx, int first,
                            int count)
{
    RDP_TRY(check_range(conv, first, count));
    return run_direction(device, conv, CONV_DATA, image(device, conv->desc.input, dx, first),
                         ((struct conv_state *)conv->state)->weights, image(device, conv->desc.output, dy, first));
}

/* Always the whole batch. */
int cuda_conv_backward_weights(struct rdp_device *device, struct rdp_conv *conv, const void *x, const void *dy,
                               float *dw)
{
    return run_direction(device, conv, CONV_WEIGHTS, x, dw, dy);
}
