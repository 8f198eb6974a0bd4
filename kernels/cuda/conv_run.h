/*
 * One direction of a convolution, ready to run: its graph, its plan, and the packs of pointers it was called with, which
 * repeat from step to step, so that the step allocates nothing. Used by conv_tune.c, which times such runs, and conv.c,
 * which keeps the best.
 */
#ifndef RDP_KERNELS_CUDA_CONV_RUN_H
#define RDP_KERNELS_CUDA_CONV_RUN_H

#include <cuda_runtime_api.h>

#include "kernels/cuda/conv_plan.h"

/* Device memory, 16-byte aligned: X and Y are activations, W the weights as the direction reads them, or their gradient
 * (f32 always). The workspace holds conv_run_workspace() bytes. PLAN_SUMS alone reads mean f32 [filters] and writes sums
 * f32 [2][filters]: of y - mean, and of its square. */
struct conv_pointers {
    void *x, *w, *y, *workspace;
    float *mean, *sums;
};

struct conv_run {
    struct conv_graph graph;
    struct conv_plan *plan; /* NULL: not planned */
    char description[64];   /* "cuDNN engine 62", "cuDNN engine 1 with statistics" */
    struct conv_pack *packs;
    int pack_count, pack_capacity;
};

/* Opens the graph for choice->family and builds the plan; run->plan is NULL if cuDNN refuses it. Close it also after a
 * failure. */
int conv_run_open(struct conv_run *run, const struct conv_target *target, const struct conv_problem *problem,
                  const struct plan_choice *choice);
void conv_run_close(struct conv_run *run);
/* Drops the packs: memory they point to is about to be freed. */
void conv_run_forget(struct conv_run *run);
size_t conv_run_workspace(const struct conv_run *run);
/* Starts the convolution on `stream`, which is the handle's. */
int conv_run_start(struct conv_run *run, cudnnHandle_t handle, cudaStream_t stream,
                   const struct conv_pointers *pointers);

#endif
