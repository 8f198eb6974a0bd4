/* See conv_run.h. */
#include "kernels/cuda/conv_run.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launchers.h"

struct conv_pack {
    struct conv_pointers pointers; /* the caller's */
    struct cudnn_builder builder;
    cudnnBackendDescriptor_t pack;
};

enum { WORKSPACE_ALIGNMENT = 256 /* as cudaMalloc aligns */ };

int conv_run_open(struct conv_run *run, const struct conv_target *target, const struct conv_problem *problem,
                  const struct plan_choice *choice)
{
    *run = (struct conv_run){.plan = NULL};
    RDP_TRY(conv_graph_open(&run->graph, target, problem, choice->family));
    snprintf(run->description, sizeof run->description, "cuDNN engine %" PRId64 "%s", choice->engine,
             choice->family == PLAN_CAST   ? " with cast"
             : choice->family == PLAN_SUMS ? " with statistics"
                                           : "");
    return conv_plan_create(&run->plan, &run->graph, choice, NULL);
}

void conv_run_forget(struct conv_run *run)
{
    while (run->pack_count > 0)
        rdp_cudnn_clear(&run->packs[--run->pack_count].builder);
}

void conv_run_close(struct conv_run *run)
{
    conv_run_forget(run);
    free(run->packs);
    conv_plan_destroy(run->plan);
    conv_graph_close(&run->graph);
    *run = (struct conv_run){.plan = NULL};
}

/* Bytes at the workspace's start for a gradient in bf16, before it is converted; 0: cuDNN writes the f32 itself. */
static size_t narrow_gradient(const struct conv_run *run)
{
    const struct conv_problem *problem = &run->graph.problem;
    if (problem->kind != CONV_WEIGHTS || problem->precision != RDP_KERNEL_BF16 || run->graph.family != PLAN_PLAIN)
        return 0;
    size_t bytes = conv_tensor_bytes(problem, PLAN_PLAIN, CONV_W);
    return (bytes + WORKSPACE_ALIGNMENT - 1) / WORKSPACE_ALIGNMENT * WORKSPACE_ALIGNMENT;
}

size_t conv_run_workspace(const struct conv_run *run)
{
    return narrow_gradient(run) + run->plan->workspace;
}

/* Makes the pack for pointers that are seen for the first time. */
static int add_pack(struct conv_run *run, const struct conv_pointers *pointers)
{
    if (run->pack_count == run->pack_capacity) {
        int capacity = run->pack_capacity == 0 ? 2 : 2 * run->pack_capacity;
        struct conv_pack *packs = realloc(run->packs, (size_t)capacity * sizeof *packs);
        if (packs == NULL)
            return rdp_fail(RDP_ENOMEM, "no memory for the pointers of a convolution");
        run->packs = packs;
        run->pack_capacity = capacity;
    }
    size_t narrow = narrow_gradient(run);
    struct conv_pack *pack = &run->packs[run->pack_count++];
    *pack = (struct conv_pack){.pointers = *pointers};
    const int tensors = conv_last_tensor(run->graph.family);
    const int64_t ids[CONV_TENSORS] = {CONV_X, CONV_W, CONV_Y, CONV_MEAN, CONV_SUM, CONV_SQUARES};
    void *data[CONV_TENSORS] = {pointers->x, narrow > 0 ? pointers->workspace : pointers->w, pointers->y};
    if (run->graph.family == PLAN_SUMS) {
        data[CONV_MEAN - 1] = pointers->mean;
        data[CONV_SUM - 1] = pointers->sums;
        data[CONV_SQUARES - 1] = pointers->sums + run->graph.problem.filters;
    }
    void *workspace = run->plan->workspace == 0 ? NULL : pointers->workspace;
    if (workspace != NULL)
        workspace = (char *)workspace + narrow; /* behind the gradient that is still to be converted */
    struct cudnn_builder *builder = &pack->builder;
    pack->pack = rdp_cudnn_add(builder, CUDNN_BACKEND_VARIANT_PACK_DESCRIPTOR);
    rdp_cudnn_set(builder, pack->pack, CUDNN_ATTR_VARIANT_PACK_UNIQUE_IDS, CUDNN_TYPE_INT64, tensors, ids);
    rdp_cudnn_set(builder, pack->pack, CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS, CUDNN_TYPE_VOID_PTR, tensors, data);
    rdp_cudnn_set(builder, pack->pack, CUDNN_ATTR_VARIANT_PACK_WORKSPACE, CUDNN_TYPE_VOID_PTR, 1, &workspace);
    rdp_cudnn_finalize(builder, pack->pack);
    int status = rdp_cudnn_built(builder, "the pointers of a convolution");
    if (status != RDP_OK) {
        rdp_cudnn_clear(builder);
        run->pack_count--;
    }
    return status;
}

static bool same_pointers(const struct conv_pointers *a, const struct conv_pointers *b)
{
    return a->x == b->x && a->w == b->w && a->y == b->y && a->workspace == b->workspace && a->mean == b->mean &&
           a->sums == b->sums;
}

static int find_pack(struct conv_run *run, const struct conv_pointers *pointers, const struct conv_pack **pack)
{
    int i = 0;
    while (i < run->pack_count && !same_pointers(&run->packs[i].pointers, pointers))
        i++;
    if (i == run->pack_count)
        RDP_TRY(add_pack(run, pointers));
    *pack = &run->packs[i];
    return RDP_OK;
}

int conv_run_start(struct conv_run *run, cudnnHandle_t handle, cudaStream_t stream,
                   const struct conv_pointers *pointers)
{
    const struct conv_pack *pack;
    RDP_TRY(find_pack(run, pointers, &pack));
    RDP_CUDNN(cudnnBackendExecute(handle, run->plan->plan, pack->pack));
    if (narrow_gradient(run) > 0) {
        size_t count = conv_tensor_bytes(&run->graph.problem, PLAN_CAST, CONV_W) / sizeof(float);
        RDP_CUDA(cuda_launch_bf16_to_f32(stream, pointers->workspace, pointers->w, count, run->graph.target->sm_count));
    }
    return RDP_OK;
}
