/*
 * Batch normalisation on a CUDA device: keeps the memory of one batch-norm and starts the kernels of bn.cu and
 * bn_apply.cu.
 *
 * Without sync-BN a pass is two kernels each way: the reduction's last block finalises, so that the sum and finalize
 * operations have nothing left to start. With it, `sums` leaves the device in between.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launchers.h"

struct bn_state {
    struct cuda_bn view; /* its pointers into the network's arrays are filled in at each call */
    float *coefficients; /* one block for the view's seven rows */
    bool masked;         /* backward_reduce left act' in dout (or there is no activation) */
};

enum { ROWS = 7 };

static float slope_of(const struct rdp_bn_desc *desc)
{
    return desc->activation == RDP_ACT_NONE ? 1.0f : desc->activation == RDP_ACT_RELU ? 0.0f : desc->slope;
}

/* The shape of the kernels' work: channels split evenly into tiles, all multiprocessors shared among the tiles. */
static void plan(struct cuda_bn *view, const struct cuda_state *cuda, const struct rdp_bn_desc *desc)
{
    const int packs = cuda_padded(desc->shape.channels) / CUDA_LANES, most = CUDA_BN_TILE / CUDA_LANES;
    const int tiles = (packs + most - 1) / most;
    *view = (struct cuda_bn){.channels = desc->shape.channels,
                             .padded = packs * CUDA_LANES,
                             .batch = desc->batch,
                             .pixels = desc->shape.height * desc->shape.width,
                             .bf16 = cuda->bf16,
                             .synchronised = desc->synchronised,
                             .gelu = desc->activation == RDP_ACT_GELU,
                             .slope = slope_of(desc),
                             .epsilon = desc->epsilon,
                             .momentum = desc->momentum,
                             .tiles = tiles,
                             .tile = (packs + tiles - 1) / tiles * CUDA_LANES,
                             .slabs = cuda->sm_count > tiles ? cuda->sm_count / tiles : 1};
}

static int allocate(struct rdp_device *device, struct rdp_bn *bn)
{
    struct bn_state *state = bn->state;
    struct cuda_bn *view = &state->view;
    const struct rdp_device_ops *ops = device->ops;
    const size_t row = (size_t)view->padded;
    RDP_TRY(ops->alloc(device, (void **)&bn->sums, bn->sums_count * sizeof(double), "batch-norm sums"));
    RDP_TRY(ops->alloc(device, (void **)&state->coefficients, ROWS * row * sizeof(float), "batch-norm coefficients"));
    float **rows[ROWS] = {&view->mean, &view->invstd, &view->scale, &view->shift, &view->a, &view->b, &view->c};
    for (size_t i = 0; i < ROWS; i++)
        *rows[i] = state->coefficients + i * row;
    if (!bn->desc.training)
        return RDP_OK;
    const size_t slabs = (size_t)(view->slabs > view->batch ? view->slabs : view->batch), tiles = (size_t)view->tiles;
    RDP_TRY(ops->alloc(device, (void **)&view->partial, tiles * slabs * 2 * (size_t)view->tile * sizeof(float),
                       "batch-norm partial sums"));
    return ops->alloc(device, (void **)&view->tickets, 2 * tiles * sizeof(unsigned int), "batch-norm counters");
}

int cuda_bn_create(struct rdp_device *device, struct rdp_bn **bn, const struct rdp_bn_desc *desc)
{
    RDP_TRY(rdp_calloc((void **)bn, 1, sizeof **bn, "a batch-norm"));
    (*bn)->desc = *desc;
    (*bn)->sums_count = 2 * (size_t)desc->shape.channels;
    int status = rdp_calloc(&(*bn)->state, 1, sizeof(struct bn_state), "a batch-norm");
    if (status == RDP_OK) {
        struct bn_state *state = (*bn)->state;
        plan(&state->view, cuda_state(device), desc);
        status = allocate(device, *bn);
    }
    if (status != RDP_OK) {
        cuda_bn_destroy(device, *bn);
        *bn = NULL;
    }
    return status;
}

void cuda_bn_destroy(struct rdp_device *device, struct rdp_bn *bn)
{
    if (bn == NULL)
        return;
    struct bn_state *state = bn->state;
    if (state != NULL) {
        void *blocks[] = {state->coefficients, state->view.partial, state->view.tickets, bn->sums};
        for (size_t i = 0; i < sizeof blocks / sizeof *blocks; i++)
            if (blocks[i] != NULL)
                device->ops->free(device, blocks[i]);
    }
    free(state);
    free(bn);
}

static const struct cuda_bn *view_of(struct rdp_bn *bn)
{
    struct cuda_bn *view = &((struct bn_state *)bn->state)->view;
    view->gamma = bn->gamma;
    view->beta = bn->beta;
    view->running_mean = bn->running_mean;
    view->running_var = bn->running_var;
    view->dgamma = bn->dgamma;
    view->dbeta = bn->dbeta;
    view->sums = bn->sums;
    return view;
}

static size_t image_bytes(struct rdp_device *device, const struct rdp_bn *bn)
{
    const struct cuda_bn *view = &((const struct bn_state *)bn->state)->view;
    return (size_t)view->pixels * (size_t)view->padded * cuda_state(device)->element_size;
}

/* Image `first` of a tensor, which may be NULL. */
static const void *image(const void *tensor, size_t bytes, int first)
{
    return tensor == NULL ? NULL : (const char *)tensor + (size_t)first * bytes;
}

static void *image_to_write(void *tensor, size_t bytes, int first)
{
    return (char *)tensor + (size_t)first * bytes;
}

int cuda_bn_statistics(struct rdp_device *device, struct rdp_bn *bn, const void *y, int first, int count)
{
    RDP_CUDA(cuda_launch_bn_statistics(cuda_state(device)->stream, view_of(bn),
                                       image(y, image_bytes(device, bn), first), (struct cuda_range){first, count}));
    return RDP_OK;
}

/* The partial sums' place: the statistics that write there are not started. */
float *cuda_bn_own_sums(struct rdp_bn *bn)
{
    return ((struct bn_state *)bn->state)->view.partial;
}

int cuda_bn_take_sums(struct rdp_device *device, struct rdp_bn *bn)
{
    RDP_CUDA(cuda_launch_bn_take_sums(cuda_state(device)->stream, view_of(bn)));
    return RDP_OK;
}

int cuda_bn_statistics_sum(struct rdp_device *device, struct rdp_bn *bn)
{
    (void)device;
    (void)bn; /* the last block of the statistics has done it */
    return RDP_OK;
}

/* Without sync-BN the kernels have finalised over the batch's elements; any other number is a mistake of the caller. */
static int check_elements(const struct rdp_bn *bn, double elements)
{
    const double own = (double)bn->desc.batch * bn->desc.shape.height * bn->desc.shape.width;
    if (elements != own)
        return rdp_fail(RDP_EINTERNAL,
                        "batch-norm over %.0f elements per channel where the batch has %.0f: only a batch-norm created "
                        "as synchronised can take other ranks' sums",
                        elements, own);
    return RDP_OK;
}

int cuda_bn_finalize(struct rdp_device *device, struct rdp_bn *bn, double elements)
{
    if (!bn->desc.synchronised)
        return check_elements(bn, elements);
    RDP_CUDA(cuda_launch_bn_finalize(cuda_state(device)->stream, view_of(bn), elements));
    return RDP_OK;
}

int cuda_bn_use_running(struct rdp_device *device, struct rdp_bn *bn)
{
    RDP_CUDA(cuda_launch_bn_use_running(cuda_state(device)->stream, view_of(bn)));
    return RDP_OK;
}

int cuda_bn_apply(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *residual, void *out,
                  int first, int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    const size_t bytes = image_bytes(device, bn);
    RDP_CUDA(cuda_launch_bn_apply(cuda->stream, view_of(bn), cuda->sm_count, image(y, bytes, first),
                                  image(residual, bytes, first), image_to_write(out, bytes, first), count));
    return RDP_OK;
}

int cuda_bn_backward_reduce(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *joined, void *dout,
                            const void *dout2, int first, int count)
{
    struct bn_state *state = bn->state;
    const size_t bytes = image_bytes(device, bn);
    const bool activates = bn->desc.activation != RDP_ACT_NONE;
    const void *read = bn->desc.residual && activates ? joined : NULL;
    state->masked = !activates || read != NULL || dout2 != NULL;
    RDP_CUDA(cuda_launch_bn_backward_reduce(cuda_state(device)->stream, view_of(bn), image(y, bytes, first),
                                            image(read, bytes, first), image_to_write(dout, bytes, first),
                                            image(dout2, bytes, first), (struct cuda_range){first, count}));
    return RDP_OK;
}

int cuda_bn_backward_sum(struct rdp_device *device, struct rdp_bn *bn)
{
    (void)device;
    (void)bn; /* the last block of the reduction has done it */
    return RDP_OK;
}

int cuda_bn_backward_finalize(struct rdp_device *device, struct rdp_bn *bn, double elements)
{
    if (!bn->desc.synchronised)
        return check_elements(bn, elements);
    RDP_CUDA(cuda_launch_bn_backward_finalize(cuda_state(device)->stream, view_of(bn), elements));
    return RDP_OK;
}

int cuda_bn_backward_apply(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *dz, void *dy,
                           int first, int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    const struct bn_state *state = bn->state;
    const size_t bytes = image_bytes(device, bn);
    RDP_CUDA(cuda_launch_bn_backward_apply(cuda->stream, view_of(bn), cuda->sm_count, image(y, bytes, first),
                                           image(dz, bytes, first), state->masked, image_to_write(dy, bytes, first),
                                           count));
    return RDP_OK;
}
