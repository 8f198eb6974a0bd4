/*
 * Which plan a convolution gets: the one the plan cache holds, or else the fastest of cuDNN's candidates, timed here on
 * scratch memory. Called by conv.c and conv_statistics.c when a network is planned, never in the
 * step.
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

/* What belongs to every run of a CONV_FUSED or CONV_EITHER convolution: the statistics. */
struct conv_sequel {
    /* Started after the convolution, and timed with it. */
    int (*start)(void *context, const struct conv_run *run, const struct conv_pointers *pointers);
    /* After both: whether the results are right. May wait for the device. */
    int (*check)(void *context, const struct conv_run *run, const struct conv_pointers *pointers, bool *right);
    void *context;
    float *mean, *sums; /* as conv_pointers has them */
};

/* Chooses and opens `run` for the problem; it has run once on scratch memory, so that its kernels are loaded. `sequel`:
 * NULL for the three directions. RDP_ENOMEM if the problem's tensors do not fit into the free device memory once more;
 * RDP_EDEVICE if cuDNN has no engine, but for CONV_FUSED, where run->plan is NULL then. */
int conv_tune(struct cuda_library *library, cudaStream_t stream, const struct conv_problem *problem,
              const struct conv_sequel *sequel, struct conv_run *run);

#endif
