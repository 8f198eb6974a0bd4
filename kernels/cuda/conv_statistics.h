/*
 * Convolution and batch-norm statistics in one: which plan does it, if any. Called by conv.c when a network is planned,
 * never in the step.
 */
#ifndef RDP_KERNELS_CUDA_CONV_STATISTICS_H
#define RDP_KERNELS_CUDA_CONV_STATISTICS_H

#include "kernels/cuda/conv_tune.h"

/*
 * conv_tune() for a problem of kind CONV_FUSED or CONV_EITHER, whose sums are proven as they are timed. run->plan is NULL
 * where cuDNN has no engine that does it right or, with CONV_EITHER, none that takes less time than convolution and
 * statistics one after the other. Errors as conv_tune()'s.
 */
int conv_statistics_tune(struct rdp_device *device, const struct conv_problem *problem, struct conv_run *run);

#endif
