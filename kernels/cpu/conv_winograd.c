/* Winograd convolutions as conv.c uses them; see conv_winograd.h. */
#include "kernels/cpu/conv_winograd.h"

#include <stdlib.h>

#include "base/memory.h"
#include "kernels/cpu/winograd.h"

struct cpu_winograd {
    struct rdp_winograd plan;
    int chunk, batch;          /* images: forward and backward data work on chunks, backward weights on the batch */
    float *forward, *backward; /* transformed weights; backward is NULL unless training */
};

int cpu_winograd_wanted(struct rdp_device *device, const struct rdp_conv_desc *desc, bool *wanted)
{
    const enum rdp_kernel_algorithm algorithm = device->config.algorithm;
    *wanted = algorithm != RDP_ALGORITHM_DIRECT && desc->kernel == 3 && desc->stride == 1 && !desc->input_is_image;
    if (!*wanted || rdp_winograd_supported())
        return RDP_OK;
    *wanted = false;
    if (algorithm == RDP_ALGORITHM_WINOGRAD)
        return rdp_fail(RDP_EUSAGE, "--conv-algorithm winograd: needs a CPU with AVX-512; use --conv-algorithm auto");
    return RDP_OK;
}

int cpu_winograd_create(struct rdp_device *device, struct cpu_winograd **winograd, const struct rdp_conv_desc *desc)
{
    RDP_TRY(rdp_calloc((void **)winograd, 1, sizeof **winograd, "a convolution"));
    struct cpu_winograd *own = *winograd;
    own->chunk = desc->chunk;
    own->batch = desc->batch;
    rdp_winograd_plan(&own->plan, desc->input.height, desc->input.width, desc->input.channels, desc->output.channels,
                      cpu_is_bf16(device), device->config.threads);
    int status = rdp_alloc_aligned((void **)&own->forward, own->plan.transformed_bytes, "transformed weights");
    if (status == RDP_OK && desc->training)
        status = rdp_alloc_aligned((void **)&own->backward, own->plan.transformed_bytes, "transformed weights");
    if (status == RDP_OK)
        status = cpu_scratchpad_reserve(device, own->plan.workspace_bytes);
    if (status != RDP_OK) {
        cpu_winograd_destroy(own);
        *winograd = NULL;
    }
    return status;
}

void cpu_winograd_destroy(struct cpu_winograd *winograd)
{
    if (winograd == NULL)
        return;
    free(winograd->forward);
    free(winograd->backward);
    free(winograd);
}

void cpu_winograd_weights(struct cpu_winograd *winograd, const float *stored, bool backward)
{
    rdp_winograd_weights(&winograd->plan, stored, winograd->forward, backward ? winograd->backward : NULL);
}

void cpu_winograd_forward(struct rdp_device *device, const struct cpu_winograd *winograd, const void *x, void *y)
{
    rdp_winograd_forward(&winograd->plan, x, winograd->forward, y, winograd->chunk, cpu_state(device)->scratchpad);
}

void cpu_winograd_backward_data(struct rdp_device *device, const struct cpu_winograd *winograd, const void *dy,
                                void *dx)
{
    rdp_winograd_backward_data(&winograd->plan, dy, winograd->backward, dx, winograd->chunk,
                               cpu_state(device)->scratchpad);
}

void cpu_winograd_backward_weights(struct rdp_device *device, const struct cpu_winograd *winograd, const void *x,
                                   const void *dy, float *dw)
{
    rdp_winograd_backward_weights(&winograd->plan, x, dy, dw, winograd->batch, cpu_state(device)->scratchpad);
}
