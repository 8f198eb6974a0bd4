/*
 * From a convolution to cuDNN execution plans. A problem (shape, precision, direction) and a target (a GPU, or only its
 * description) make a graph; the graph's heuristics name candidates; a candidate is a plan_choice, plain numbers, from
 * which a plan is built, the same way whether it was just named or comes from the plan cache. Nothing here touches
 * device memory or runs anything, so that all of it works, and is tested, without a GPU. Problems and graphs are in
 * conv_graph.c. Called by conv.c and conv_tune.c.
 */
#ifndef RDP_KERNELS_CUDA_CONV_PLAN_H
#define RDP_KERNELS_CUDA_CONV_PLAN_H

#include "kernels/cuda/cudnn_graph.h"
#include "kernels/cuda/plan_cache.h"
#include "kernels/kernels.h"

/* cuDNN 9.8 brought device properties as a descriptor and deprecated the handle as an attribute. */
#define CONV_DEVICE_PROPERTIES (CUDNN_VERSION >= 90800)

enum conv_kind {
    CONV_FORWARD,
    CONV_DATA,
    CONV_WEIGHTS,
    CONV_FUSED,  /* forward with the sums that batch-norm's statistics are made of */
    CONV_EITHER, /* that, or forward and then our kernel's statistics: whichever takes less time */
    CONV_KINDS
};

/* Unique ids of a graph's tensors. In every direction X is the layer's input (or its gradient), W the weights (or
 * theirs), Y the output (or its). PLAN_SUMS has three more, f32 [filters]: MEAN, which is subtracted from y, SUM of the
 * differences, and SQUARES, the sum of their squares. */
enum { CONV_X = 1, CONV_W = 2, CONV_Y = 3, CONV_MEAN = 4, CONV_SUM = 5, CONV_SQUARES = 6, CONV_TENSORS = 6 };

enum {
    CONV_MODES = 3,                   /* of heuristics */
    CONV_NAMED = CUDNN_BUILDER_ITEMS, /* read from each; cuDNN 9.19 names up to 80, the best first */
    CONV_CANDIDATES = CONV_MODES * CONV_NAMED
};

/* Channels as stored: multiples of 8. Padding is kernel / 2. */
struct conv_problem {
    enum conv_kind kind;
    enum rdp_kernel_precision precision;
    int batch, channels, height, width, filters, kernel, stride;
};

struct conv_target {
    char name[128];
    int major, minor, sm_count;
    cudnnHandle_t handle; /* borrowed; NULL: only a description */
    struct cudnn_builder builder;
    cudnnBackendDescriptor_t device; /* properties; NULL with cuDNN < 9.8, which asks the handle */
};

struct conv_graph {
    struct conv_problem problem;
    enum plan_family family;
    const struct conv_target *target; /* borrowed */
    struct cudnn_builder builder;
    cudnnBackendDescriptor_t operations;
};

struct conv_plan {
    struct plan_choice choice;
    struct cudnn_builder builder;
    cudnnBackendDescriptor_t plan;
    size_t workspace; /* bytes, cuDNN's own */
};

/* What became of a list of candidates, for reports and error messages. */
struct conv_census {
    int named;            /* by the heuristics, those of several modes counted again */
    int nondeterministic; /* dropped for it */
    int imprecise;        /* dropped: arithmetic below what the precision promises */
};

const char *conv_kind_name(enum conv_kind kind); /* "forward", "data", "weights", ... */
/* Whether cuDNN has PLAN_SUMS with results that do not differ from run to run: since 9.11. */
bool conv_can_sum(void);
/* Device `index`, which is current, through `handle`. */
int conv_target_open(struct conv_target *target, int index, cudnnHandle_t handle);
/* A GPU that need not be there, as text: the keys of cuDNN's device properties. RDP_EDEVICE with cuDNN < 9.11. */
int conv_target_describe(struct conv_target *target, const char *json, const char *name, int major, int minor,
                         int sm_count);
void conv_target_close(struct conv_target *target);

/* A graph's tensors are CONV_X up to this one. */
int conv_last_tensor(enum plan_family family);
/* Height (or width) of the output for that of the input. */
int conv_output_extent(const struct conv_problem *problem, int extent);
/* Bytes of a tensor (CONV_X, ...); a gradient of weights is counted as cuDNN writes it in `family`. */
size_t conv_tensor_bytes(const struct conv_problem *problem, enum plan_family family, int tensor);
/* The plan cache's key: cuDNN version, GPU, problem. */
void conv_problem_key(const struct conv_problem *problem, const struct conv_target *target, char key[PLAN_KEY]);
/* Whether `family` can compute the problem: PLAN_CAST is for gradients of weights, PLAN_SUMS for forward with sums, both
 * in bf16 alone. */
bool conv_family_applies(const struct conv_problem *problem, enum plan_family family);

/* RDP_EDEVICE if cuDNN refuses the graph as such. Clear with conv_graph_close(), also after a failure. */
int conv_graph_open(struct conv_graph *graph, const struct conv_target *target, const struct conv_problem *problem,
                    enum plan_family family);
void conv_graph_close(struct conv_graph *graph);
/*
 * The candidates for a graph, best first, without duplicates: heuristic modes A, B and FALLBACK, less the engines whose
 * results differ from run to run (a resumed run must equal one that never stopped) and those whose arithmetic is less
 * precise than asked for. Returns their number, or RDP_ENOMEM; `census` is added to.
 */
int conv_candidates(const struct conv_graph *graph, struct plan_choice choices[CONV_CANDIDATES],
                    struct conv_census *census);
/* Builds a plan. *plan is NULL if cuDNN refuses; `refusal` (may be NULL) then says why. RDP_ENOMEM. The graph must
 * outlive the plan. Owned by the caller. */
int conv_plan_create(struct conv_plan **plan, const struct conv_graph *graph, const struct plan_choice *choice,
                     cudnnStatus_t *refusal);
void conv_plan_destroy(struct conv_plan *plan); /* NULL-safe */

#endif
