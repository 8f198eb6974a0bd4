/*
 * The speed that no training step with separate convolution and batch-norm kernels can exceed on a GPU: every kernel
 * takes at least its operations at the GPU's sustained rate and at least its bytes at the GPU's sustained bandwidth,
 * one kernel after the other (Williams, Waterman and Patterson 2009, "Roofline"). bench holds the step against it.
 * Nothing here needs a GPU.
 */
#ifndef RDP_ROOF_H
#define RDP_ROOF_H

#include "kernels/kernels.h"
#include "model.h"

/* What a GPU sustains. */
struct rdp_gpu_peaks {
    const char *gpu;                 /* as CUDA calls it: "NVIDIA H200" */
    double operations_per_second[3]; /* of convolutions, by enum rdp_kernel_precision; a multiply-add is two */
    double bytes_per_second;         /* of its memory */
};

/* A training step of one GPU. */
struct rdp_roof {
    double operations, bytes;          /* of all its kernels */
    double seconds, images_per_second; /* NAN where the peaks are not known */
};

/* NULL: a GPU whose peaks are not known. */
const struct rdp_gpu_peaks *rdp_gpu_peaks_of(const char *gpu);
/* The roof of a step of `batch` images; peaks may be NULL. */
struct rdp_roof rdp_roof_of_step(const struct rdp_model *model, int batch, enum rdp_kernel_precision precision,
                                 const struct rdp_gpu_peaks *peaks);

#endif
