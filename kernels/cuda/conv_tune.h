/*
 * Which plan a convolution gets: the one the plan cache holds, or else the fastest of cuDNN's candidates, timed here on
 * scratch memory. Called by conv.c when a network is planned, never in the step.
 */
#ifndef RDP_KERNELS_CUDA_CONV_TUNE_H
#define RDP_KERNELS_CUDA_CONV_TUNE_H

#include "kernels/cuda/conv_run.h"

/* What all convolutions of a device share. */
struct cuda_library {
    cudnnHandle_t handle; /* on the device's stream */
    struct conv_target target;
    struct plan_cache *cache;
};

/* Chooses and opens `run` for the problem; it has run once on scratch memory, so that its kernels are loaded. RDP_ENOMEM
 * if the problem's tensors do not fit into the free device memory once more; RDP_EDEVICE if cuDNN has no engine. */
int conv_tune(struct cuda_library *library, cudaStream_t stream, const struct conv_problem *problem,
              struct conv_run *run);

#endif
