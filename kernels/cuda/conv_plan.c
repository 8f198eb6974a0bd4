/* See conv_plan.h. Attribute names and order: NVIDIA cuDNN developer guide, "Graph API", and cudnn_graph.h. */
#include "kernels/cuda/conv_plan.h"

#include <cuda_runtime_api.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "kernels/cuda/cuda.h"

/* cuDNN 9.8 brought device properties as a descriptor and deprecated the handle as an attribute. */
#define DEVICE_PROPERTIES (CUDNN_VERSION >= 90800)

enum { NOTES = 16 };

const char *conv_kind_name(enum conv_kind kind)
{
    static const char *const names[CONV_KINDS] = {"forward", "data", "weights"};
    return names[kind];
}

static const char *precision_name(enum rdp_kernel_precision precision)
{
    return precision == RDP_KERNEL_BF16 ? "bf16" : precision == RDP_KERNEL_TF32 ? "tf32" : "f32";
}

/* ---- target ------------------------------------------------------------------------------------------------------ */

int conv_target_open(struct conv_target *target, int index, cudnnHandle_t handle)
{
    struct cudaDeviceProp properties;
    RDP_CUDA(cudaGetDeviceProperties(&properties, index));
    *target = (struct conv_target){.major = properties.major,
                                   .minor = properties.minor,
                                   .sm_count = properties.multiProcessorCount,
                                   .handle = handle};
    snprintf(target->name, sizeof target->name, "%.*s", (int)sizeof target->name - 1, properties.name);
#if DEVICE_PROPERTIES
    struct cudnn_builder *builder = &target->builder;
    int32_t device = index;
    target->device = rdp_cudnn_add(builder, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    rdp_cudnn_set(builder, target->device, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &device);
    rdp_cudnn_finalize(builder, target->device);
    return rdp_cudnn_built(builder, "the properties of the device");
#else
    return RDP_OK;
#endif
}

int conv_target_describe(struct conv_target *target, const char *json, const char *name, int major, int minor,
                         int sm_count)
{
    *target = (struct conv_target){.major = major, .minor = minor, .sm_count = sm_count};
    snprintf(target->name, sizeof target->name, "%s", name);
#if CUDNN_VERSION >= 91100
    struct cudnn_builder *builder = &target->builder;
    target->device = rdp_cudnn_add(builder, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    rdp_cudnn_set(builder, target->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                  (int64_t)strlen(json) + 1, json);
    rdp_cudnn_finalize(builder, target->device);
    return rdp_cudnn_built(builder, "the description of a device");
#else
    (void)json;
    return rdp_fail(RDP_EDEVICE, "plans for a GPU that is not there need cuDNN 9.11 or newer, this build has %d.%d",
                    CUDNN_MAJOR, CUDNN_MINOR);
#endif
}

void conv_target_close(struct conv_target *target)
{
    rdp_cudnn_clear(&target->builder);
    target->device = NULL;
}

/* ---- problem ----------------------------------------------------------------------------------------------------- */

int conv_output_extent(const struct conv_problem *problem, int extent)
{
    return (extent + 2 * (problem->kernel / 2) - problem->kernel) / problem->stride + 1;
}

bool conv_family_applies(const struct conv_problem *problem, enum plan_family family)
{
    return family == PLAN_PLAIN || (problem->kind == CONV_WEIGHTS && problem->precision == RDP_KERNEL_BF16);
}

/* Dimensions in the order cuDNN wants them, N C H W (K C R S), whatever the layout. */
static void dimensions(const struct conv_problem *problem, int tensor, int64_t dims[4])
{
    if (tensor == CONV_W) {
        dims[0] = problem->filters;
        dims[1] = problem->channels;
        dims[2] = dims[3] = problem->kernel;
        return;
    }
    bool input = tensor == CONV_X;
    dims[0] = problem->batch;
    dims[1] = input ? problem->channels : problem->filters;
    dims[2] = input ? problem->height : conv_output_extent(problem, problem->height);
    dims[3] = input ? problem->width : conv_output_extent(problem, problem->width);
}

static cudnnDataType_t data_type(const struct conv_problem *problem, enum plan_family family, int tensor)
{
    bool wide = tensor == CONV_W && family == PLAN_CAST;
    return problem->precision == RDP_KERNEL_BF16 && !wide ? CUDNN_DATA_BFLOAT16 : CUDNN_DATA_FLOAT;
}

size_t conv_tensor_bytes(const struct conv_problem *problem, enum plan_family family, int tensor)
{
    int64_t dims[4];
    dimensions(problem, tensor, dims);
    size_t element = data_type(problem, family, tensor) == CUDNN_DATA_BFLOAT16 ? 2 : 4;
    return (size_t)(dims[0] * dims[1] * dims[2] * dims[3]) * element;
}

void conv_problem_key(const struct conv_problem *problem, const struct conv_target *target, char key[PLAN_KEY])
{
    size_t version = cudnnGetVersion();
    snprintf(key, PLAN_KEY,
             "cuDNN %zu.%zu.%zu, %s, compute capability %d.%d, %d SMs, %s %s, N %d C %d H %d W %d K %d R %d stride %d",
             version / 10000, version / 100 % 100, version % 100, target->name, target->major, target->minor,
             target->sm_count, precision_name(problem->precision), conv_kind_name(problem->kind), problem->batch,
             problem->channels, problem->height, problem->width, problem->filters, problem->kernel, problem->stride);
    for (char *c = key; *c != '\0'; c++)
        if ((unsigned char)*c < ' ')
            *c = ' ';
}

/* ---- graph ------------------------------------------------------------------------------------------------------- */

static cudnnBackendDescriptor_t add_tensor(struct cudnn_builder *builder, const int64_t dims[4], cudnnDataType_t type,
                                           int64_t id, bool is_virtual)
{
    /* Channels are the fastest: N H W C, K R S C. */
    const int64_t strides[4] = {dims[1] * dims[2] * dims[3], 1, dims[1] * dims[3], dims[1]};
    cudnnBackendDescriptor_t tensor = rdp_cudnn_add(builder, CUDNN_BACKEND_TENSOR_DESCRIPTOR);
    rdp_cudnn_set(builder, tensor, CUDNN_ATTR_TENSOR_DATA_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &type);
    rdp_cudnn_set(builder, tensor, CUDNN_ATTR_TENSOR_DIMENSIONS, CUDNN_TYPE_INT64, 4, dims);
    rdp_cudnn_set(builder, tensor, CUDNN_ATTR_TENSOR_STRIDES, CUDNN_TYPE_INT64, 4, strides);
    rdp_cudnn_set_int64(builder, tensor, CUDNN_ATTR_TENSOR_UNIQUE_ID, id);
    rdp_cudnn_set_int64(builder, tensor, CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, 16);
    if (is_virtual)
        rdp_cudnn_set_bool(builder, tensor, CUDNN_ATTR_TENSOR_IS_VIRTUAL, true);
    rdp_cudnn_finalize(builder, tensor);
    return tensor;
}

static cudnnBackendDescriptor_t add_convolution(struct cudnn_builder *builder, const struct conv_problem *problem)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    const cudnnConvolutionMode_t mode = CUDNN_CROSS_CORRELATION;
    const int64_t stride[2] = {problem->stride, problem->stride};
    const int64_t padding[2] = {problem->kernel / 2, problem->kernel / 2};
    const int64_t dilation[2] = {1, 1};
    cudnnBackendDescriptor_t conv = rdp_cudnn_add(builder, CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR);
    rdp_cudnn_set(builder, conv, CUDNN_ATTR_CONVOLUTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    rdp_cudnn_set(builder, conv, CUDNN_ATTR_CONVOLUTION_CONV_MODE, CUDNN_TYPE_CONVOLUTION_MODE, 1, &mode);
    rdp_cudnn_set_int64(builder, conv, CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, 2);
    rdp_cudnn_set(builder, conv, CUDNN_ATTR_CONVOLUTION_DILATIONS, CUDNN_TYPE_INT64, 2, dilation);
    rdp_cudnn_set(builder, conv, CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, CUDNN_TYPE_INT64, 2, stride);
    rdp_cudnn_set(builder, conv, CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    rdp_cudnn_set(builder, conv, CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, CUDNN_TYPE_INT64, 2, padding);
    rdp_cudnn_finalize(builder, conv);
    return conv;
}

/* The names of one operation's attributes. */
struct operation {
    cudnnBackendDescriptorType_t type;
    cudnnBackendAttributeName_t convolution, x, w, y, alpha, beta;
};

static const struct operation operations[CONV_KINDS] = {
    [CONV_FORWARD] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA},
    [CONV_DATA] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
                   CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA},
    [CONV_WEIGHTS] = {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
                      CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA},
};

/* out = in, in out's type. */
static cudnnBackendDescriptor_t add_cast(struct cudnn_builder *builder, cudnnBackendDescriptor_t in,
                                         cudnnBackendDescriptor_t out)
{
    const cudnnPointwiseMode_t mode = CUDNN_POINTWISE_IDENTITY;
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t identity = rdp_cudnn_add(builder, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    rdp_cudnn_set(builder, identity, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    rdp_cudnn_set(builder, identity, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    rdp_cudnn_finalize(builder, identity);
    cudnnBackendDescriptor_t cast = rdp_cudnn_add(builder, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    rdp_cudnn_set_descriptor(builder, cast, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, identity);
    rdp_cudnn_set_descriptor(builder, cast, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, in);
    rdp_cudnn_set_descriptor(builder, cast, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, out);
    rdp_cudnn_finalize(builder, cast);
    return cast;
}

static void add_operations(struct conv_graph *graph, cudnnBackendDescriptor_t ops[2], int64_t *count)
{
    struct cudnn_builder *builder = &graph->builder;
    const struct conv_problem *problem = &graph->problem;
    const struct operation *names = &operations[problem->kind];
    cudnnBackendDescriptor_t tensors[CONV_TENSORS + 1], conv = add_convolution(builder, problem);
    for (int id = CONV_X; id <= CONV_TENSORS; id++) {
        int64_t dims[4];
        dimensions(problem, id, dims);
        tensors[id] = add_tensor(builder, dims, data_type(problem, graph->family, id), id, false);
    }
    cudnnBackendDescriptor_t gradient = tensors[CONV_W];
    if (graph->family == PLAN_CAST) {
        int64_t dims[4];
        dimensions(problem, CONV_W, dims);
        gradient = add_tensor(builder, dims, CUDNN_DATA_FLOAT, CONV_TENSORS + 1, true);
    }
    const float one = 1, zero = 0;
    ops[0] = rdp_cudnn_add(builder, names->type);
    rdp_cudnn_set_descriptor(builder, ops[0], names->convolution, conv);
    rdp_cudnn_set_descriptor(builder, ops[0], names->x, tensors[CONV_X]);
    rdp_cudnn_set_descriptor(builder, ops[0], names->w, gradient);
    rdp_cudnn_set_descriptor(builder, ops[0], names->y, tensors[CONV_Y]);
    rdp_cudnn_set(builder, ops[0], names->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    rdp_cudnn_set(builder, ops[0], names->beta, CUDNN_TYPE_FLOAT, 1, &zero);
    rdp_cudnn_finalize(builder, ops[0]);
    *count = 1;
    if (graph->family == PLAN_CAST)
        ops[(*count)++] = add_cast(builder, gradient, tensors[CONV_W]);
}

int conv_graph_open(struct conv_graph *graph, const struct conv_target *target, const struct conv_problem *problem,
                    enum plan_family family)
{
    *graph = (struct conv_graph){.problem = *problem, .family = family, .target = target};
    cudnnBackendDescriptor_t ops[2];
    int64_t count = 0;
    add_operations(graph, ops, &count);
    struct cudnn_builder *builder = &graph->builder;
    graph->operations = rdp_cudnn_add(builder, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    rdp_cudnn_set(builder, graph->operations, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, ops);
#if !DEVICE_PROPERTIES
    rdp_cudnn_set(builder, graph->operations, CUDNN_ATTR_OPERATIONGRAPH_HANDLE, CUDNN_TYPE_HANDLE, 1, &target->handle);
#endif
    rdp_cudnn_finalize(builder, graph->operations);
    char key[PLAN_KEY];
    conv_problem_key(problem, target, key);
    return rdp_cudnn_built(builder, key);
}

void conv_graph_close(struct conv_graph *graph)
{
    rdp_cudnn_clear(&graph->builder);
    graph->operations = NULL;
}

/* ---- candidates -------------------------------------------------------------------------------------------------- */

static bool has_note(const cudnnBackendNumericalNote_t *notes, int64_t count, cudnnBackendNumericalNote_t note)
{
    for (int64_t i = 0; i < count; i++)
        if (notes[i] == note)
            return true;
    return false;
}

/*
 * Whether the engine's numerical notes break a promise; counts it. cuDNN has no attribute that forbids tf32: what tells is
 * that an engine that feeds f32 operands to tensor cores carries TENSOR_CORE (all of those that cuDNN 9.19 names for f32)
 * or, where it converts them in a pass before, DOWN_CONVERT_INPUTS.
 */
static bool notes_refuse(const struct conv_problem *problem, const cudnnBackendNumericalNote_t *notes, int64_t count,
                         struct conv_census *census)
{
    if (has_note(notes, count, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)) {
        census->nondeterministic++;
        return true;
    }
    bool tf32 = has_note(notes, count, CUDNN_NUMERICAL_NOTE_TENSOR_CORE) ||
                has_note(notes, count, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
    if (has_note(notes, count, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION) ||
        (tf32 && problem->precision == RDP_KERNEL_F32)) {
        census->imprecise++;
        return true;
    }
    return false;
}

static int by_type(const void *a, const void *b)
{
    const struct plan_knob *first = a, *second = b;
    return (first->type > second->type) - (first->type < second->type);
}

/* An engine configuration as numbers, and its engine's numerical notes. False if cuDNN does not tell. */
static bool read_config(cudnnBackendDescriptor_t config, struct plan_choice *choice, cudnnBackendNumericalNote_t *notes,
                        int64_t *note_count)
{
    struct cudnn_builder builder = {.count = 0};
    cudnnBackendDescriptor_t engine = rdp_cudnn_add(&builder, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knobs[PLAN_KNOBS];
    rdp_cudnn_get(&builder, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
    rdp_cudnn_get(&builder, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &choice->engine);
    *note_count =
        rdp_cudnn_get(&builder, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES, notes);
    for (int i = 0; i < PLAN_KNOBS; i++)
        knobs[i] = rdp_cudnn_add(&builder, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    choice->knob_count = (int)rdp_cudnn_get(&builder, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, PLAN_KNOBS, knobs);
    for (int i = 0; i < choice->knob_count; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        rdp_cudnn_get(&builder, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        rdp_cudnn_get(&builder, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
                      &choice->knobs[i].value);
        choice->knobs[i].type = (int)type;
    }
    qsort(choice->knobs, (size_t)choice->knob_count, sizeof *choice->knobs, by_type);
    bool known = rdp_cudnn_ok(&builder);
    rdp_cudnn_clear(&builder);
    return known;
}

static bool is_listed(const struct plan_choice *choices, int count, const struct plan_choice *choice)
{
    for (int i = 0; i < count; i++)
        if (plan_choice_equal(&choices[i], choice))
            return true;
    return false;
}

/* Fills `choices` with what one heuristic mode names, best first; a mode that cuDNN does not have for the graph names
 * nothing. Returns how many. */
static int ask_mode(const struct conv_graph *graph, cudnnBackendHeurMode_t mode, struct plan_choice *choices,
                    struct conv_census *census)
{
    struct cudnn_builder query = {.count = 0}, results = {.count = 0};
    cudnnBackendDescriptor_t configs[CONV_NAMED],
        heuristics = rdp_cudnn_add(&query, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    rdp_cudnn_set_descriptor(&query, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph->operations);
    rdp_cudnn_set(&query, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
#if DEVICE_PROPERTIES
    rdp_cudnn_set_descriptor(&query, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, graph->target->device);
#endif
    rdp_cudnn_finalize(&query, heuristics);
    for (int i = 0; i < CONV_NAMED; i++)
        configs[i] = rdp_cudnn_add(&results, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    int64_t named = 0;
    if (rdp_cudnn_ok(&results))
        named = rdp_cudnn_get(&query, heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                              CONV_NAMED, configs);
    int count = 0;
    for (int64_t i = 0; i < named; i++) {
        struct plan_choice choice = {.family = graph->family};
        cudnnBackendNumericalNote_t notes[NOTES];
        int64_t note_count = 0;
        census->named++;
        if (read_config(configs[i], &choice, notes, &note_count) && !is_listed(choices, count, &choice) &&
            !notes_refuse(&graph->problem, notes, note_count, census))
            choices[count++] = choice;
    }
    rdp_cudnn_clear(&results);
    rdp_cudnn_clear(&query);
    return count;
}

/* A and B take turns: each puts its best first, and which of the two is right shows in the timing alone. FALLBACK, which
 * only promises to work, comes last. */
int conv_candidates(const struct conv_graph *graph, struct plan_choice choices[CONV_CANDIDATES],
                    struct conv_census *census)
{
    static const cudnnBackendHeurMode_t modes[CONV_MODES] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                             CUDNN_HEUR_MODE_FALLBACK};
    struct plan_choice *named = malloc(CONV_CANDIDATES * sizeof *named);
    int counts[CONV_MODES] = {0}, count = 0;
    if (named == NULL)
        return rdp_fail(RDP_ENOMEM, "no memory for the candidates of a convolution");
    for (int mode = 0; mode < CONV_MODES; mode++)
        counts[mode] = ask_mode(graph, modes[mode], named + mode * CONV_NAMED, census);
    for (int i = 0; i < 2 * CONV_NAMED + counts[2]; i++) {
        int mode = i < 2 * CONV_NAMED ? i % 2 : 2, rank = i < 2 * CONV_NAMED ? i / 2 : i - 2 * CONV_NAMED;
        const struct plan_choice *choice = named + mode * CONV_NAMED + rank;
        if (rank < counts[mode] && !is_listed(choices, count, choice))
            choices[count++] = *choice;
    }
    free(named);
    return count;
}

/* ---- plan -------------------------------------------------------------------------------------------------------- */

static void build_plan(struct conv_plan *plan, const struct conv_graph *graph)
{
    struct cudnn_builder *builder = &plan->builder;
    const struct plan_choice *choice = &plan->choice;
    cudnnBackendDescriptor_t knobs[PLAN_KNOBS], engine = rdp_cudnn_add(builder, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    rdp_cudnn_set_descriptor(builder, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph->operations);
    rdp_cudnn_set_int64(builder, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, choice->engine);
#if DEVICE_PROPERTIES
    rdp_cudnn_set_descriptor(builder, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, graph->target->device);
#endif
    rdp_cudnn_finalize(builder, engine);
    for (int i = 0; i < choice->knob_count; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)choice->knobs[i].type;
        knobs[i] = rdp_cudnn_add(builder, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        rdp_cudnn_set(builder, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        rdp_cudnn_set_int64(builder, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, choice->knobs[i].value);
        rdp_cudnn_finalize(builder, knobs[i]);
    }
    cudnnBackendDescriptor_t config = rdp_cudnn_add(builder, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    rdp_cudnn_set_descriptor(builder, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (choice->knob_count > 0)
        rdp_cudnn_set(builder, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                      choice->knob_count, knobs);
    rdp_cudnn_finalize(builder, config);
    plan->plan = rdp_cudnn_add(builder, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    rdp_cudnn_set_descriptor(builder, plan->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
#if DEVICE_PROPERTIES
    rdp_cudnn_set_descriptor(builder, plan->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, graph->target->device);
#else
    rdp_cudnn_set(builder, plan->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &graph->target->handle);
#endif
    rdp_cudnn_finalize(builder, plan->plan);
}

int conv_plan_create(struct conv_plan **plan, const struct conv_graph *graph, const struct plan_choice *choice,
                     cudnnStatus_t *refusal)
{
    void *memory;
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **plan, "a convolution plan"));
    struct conv_plan *new = memory;
    new->choice = *choice;
    build_plan(new, graph);
    int64_t workspace = 0;
    rdp_cudnn_get(&new->builder, new->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
    new->workspace = workspace > 0 ? (size_t)workspace : 0;
    *plan = new;
    if (refusal != NULL)
        *refusal = new->builder.status;
    if (!rdp_cudnn_ok(&new->builder)) {
        *plan = NULL;
        conv_plan_destroy(new);
    }
    return RDP_OK;
}

void conv_plan_destroy(struct conv_plan *plan)
{
    if (plan == NULL)
        return;
    rdp_cudnn_clear(&plan->builder);
    free(plan);
}
