/*
 * See conv_plan.h: problems and their graphs. Attribute names and order: NVIDIA cuDNN developer guide, "Graph API", and
 * cudnn_graph.h.
 *
 *   PLAN_PLAIN  x, w -> convolution -> y, in any direction
 *   PLAN_CAST   the gradient of weights, converted to f32 before it is stored
 *   PLAN_SUMS   x, w -> convolution -> y; y, mean -> y - mean -> its sum and the sum of its square
 */
#include "kernels/cuda/conv_plan.h"

#include <stdio.h>

#include "base/status.h"

/* Unique ids of tensors that are never stored, behind those of conv_plan.h. */
enum { NARROW_GRADIENT = CONV_TENSORS + 1, DIFFERENCE, DIFFERENCE_SQUARED };
enum { OPERATIONS = 5 /* of a graph, at most */ };

const char *conv_kind_name(enum conv_kind kind)
{
    static const char *const names[CONV_KINDS] = {"forward", "data", "weights", "forward with sums",
                                                  "forward, with sums if faster"};
    return names[kind];
}

static const char *precision_name(enum rdp_kernel_precision precision)
{
    return precision == RDP_KERNEL_BF16 ? "bf16" : precision == RDP_KERNEL_TF32 ? "tf32" : "f32";
}

/* ---- problem ----------------------------------------------------------------------------------------------------- */

int conv_last_tensor(enum plan_family family)
{
    return family == PLAN_SUMS ? CONV_SQUARES : CONV_Y;
}

/* Before, cuDNN adds up by atomic additions, in whatever order blocks come. */
bool conv_can_sum(void)
{
    return CUDNN_VERSION >= 91100 && cudnnGetVersion() >= 91100;
}

int conv_output_extent(const struct conv_problem *problem, int extent)
{
    return (extent + 2 * (problem->kernel / 2) - problem->kernel) / problem->stride + 1;
}

bool conv_family_applies(const struct conv_problem *problem, enum plan_family family)
{
    const bool bf16 = problem->precision == RDP_KERNEL_BF16;
    if (family == PLAN_SUMS)
        return (problem->kind == CONV_FUSED || problem->kind == CONV_EITHER) && bf16 && conv_can_sum();
    if (family == PLAN_CAST)
        return problem->kind == CONV_WEIGHTS && bf16;
    return problem->kind != CONV_FUSED;
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
    if (tensor >= CONV_MEAN) {
        dims[0] = dims[2] = dims[3] = 1;
        dims[1] = problem->filters;
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
    bool wide = tensor >= CONV_MEAN || (tensor == CONV_W && family == PLAN_CAST);
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

static const struct operation operations[] = {
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

static const struct operation *operation_of(enum conv_kind kind)
{
    return &operations[kind == CONV_FUSED || kind == CONV_EITHER ? CONV_FORWARD : kind];
}

/* y = x, or x `mode` b where there is a b, each in its tensor's type. */
static cudnnBackendDescriptor_t add_pointwise(struct cudnn_builder *builder, cudnnPointwiseMode_t mode,
                                              cudnnBackendDescriptor_t x, cudnnBackendDescriptor_t b,
                                              cudnnBackendDescriptor_t y)
{
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t pointwise = rdp_cudnn_add(builder, CUDNN_BACKEND_POINTWISE_DESCRIPTOR);
    rdp_cudnn_set(builder, pointwise, CUDNN_ATTR_POINTWISE_MODE, CUDNN_TYPE_POINTWISE_MODE, 1, &mode);
    rdp_cudnn_set(builder, pointwise, CUDNN_ATTR_POINTWISE_MATH_PREC, CUDNN_TYPE_DATA_TYPE, 1, &compute);
    rdp_cudnn_finalize(builder, pointwise);
    cudnnBackendDescriptor_t operation = rdp_cudnn_add(builder, CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR);
    rdp_cudnn_set_descriptor(builder, operation, CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, pointwise);
    rdp_cudnn_set_descriptor(builder, operation, CUDNN_ATTR_OPERATION_POINTWISE_XDESC, x);
    if (b != NULL)
        rdp_cudnn_set_descriptor(builder, operation, CUDNN_ATTR_OPERATION_POINTWISE_BDESC, b);
    rdp_cudnn_set_descriptor(builder, operation, CUDNN_ATTR_OPERATION_POINTWISE_YDESC, y);
    rdp_cudnn_finalize(builder, operation);
    return operation;
}

/* sum = x summed over images and pixels. */
static cudnnBackendDescriptor_t add_sum(struct cudnn_builder *builder, cudnnBackendDescriptor_t x,
                                        cudnnBackendDescriptor_t sum)
{
    const cudnnReduceTensorOp_t mode = CUDNN_REDUCE_TENSOR_ADD;
    const cudnnDataType_t compute = CUDNN_DATA_FLOAT;
    cudnnBackendDescriptor_t reduction = rdp_cudnn_add(builder, CUDNN_BACKEND_REDUCTION_DESCRIPTOR);
    rdp_cudnn_set(builder, reduction, CUDNN_ATTR_REDUCTION_OPERATOR, CUDNN_TYPE_REDUCTION_OPERATOR_TYPE, 1, &mode);
    rdp_cudnn_set(builder, reduction, CUDNN_ATTR_REDUCTION_COMP_TYPE, CUDNN_TYPE_DATA_TYPE, 1, &compute);
#if CUDNN_VERSION >= 91100
    rdp_cudnn_set_bool(builder, reduction, CUDNN_ATTR_REDUCTION_IS_DETERMINISTIC, true);
#endif
    rdp_cudnn_finalize(builder, reduction);
    cudnnBackendDescriptor_t operation = rdp_cudnn_add(builder, CUDNN_BACKEND_OPERATION_REDUCTION_DESCRIPTOR);
    rdp_cudnn_set_descriptor(builder, operation, CUDNN_ATTR_OPERATION_REDUCTION_DESC, reduction);
    rdp_cudnn_set_descriptor(builder, operation, CUDNN_ATTR_OPERATION_REDUCTION_XDESC, x);
    rdp_cudnn_set_descriptor(builder, operation, CUDNN_ATTR_OPERATION_REDUCTION_YDESC, sum);
    rdp_cudnn_finalize(builder, operation);
    return operation;
}

/* A tensor like `like` that no memory holds, in f32. */
static cudnnBackendDescriptor_t add_virtual(struct conv_graph *graph, int like, int64_t id)
{
    int64_t dims[4];
    dimensions(&graph->problem, like, dims);
    return add_tensor(&graph->builder, dims, CUDNN_DATA_FLOAT, id, true);
}

/* The graph's operations, in `ops`; returns how many. */
static int64_t add_operations(struct conv_graph *graph, cudnnBackendDescriptor_t ops[OPERATIONS])
{
    struct cudnn_builder *builder = &graph->builder;
    const struct conv_problem *problem = &graph->problem;
    const struct operation *names = operation_of(problem->kind);
    cudnnBackendDescriptor_t tensors[CONV_TENSORS + 1], conv = add_convolution(builder, problem);
    for (int id = CONV_X; id <= conv_last_tensor(graph->family); id++) {
        int64_t dims[4];
        dimensions(problem, id, dims);
        tensors[id] = add_tensor(builder, dims, data_type(problem, graph->family, id), id, false);
    }
    cudnnBackendDescriptor_t w = tensors[CONV_W];
    if (graph->family == PLAN_CAST)
        w = add_virtual(graph, CONV_W, NARROW_GRADIENT);
    const float one = 1, zero = 0;
    int64_t count = 0;
    ops[count] = rdp_cudnn_add(builder, names->type);
    rdp_cudnn_set_descriptor(builder, ops[count], names->convolution, conv);
    rdp_cudnn_set_descriptor(builder, ops[count], names->x, tensors[CONV_X]);
    rdp_cudnn_set_descriptor(builder, ops[count], names->w, w);
    rdp_cudnn_set_descriptor(builder, ops[count], names->y, tensors[CONV_Y]);
    rdp_cudnn_set(builder, ops[count], names->alpha, CUDNN_TYPE_FLOAT, 1, &one);
    rdp_cudnn_set(builder, ops[count], names->beta, CUDNN_TYPE_FLOAT, 1, &zero);
    rdp_cudnn_finalize(builder, ops[count++]);
    if (graph->family == PLAN_CAST)
        ops[count++] = add_pointwise(builder, CUDNN_POINTWISE_IDENTITY, w, NULL, tensors[CONV_W]);
    if (graph->family == PLAN_SUMS) {
        cudnnBackendDescriptor_t difference = add_virtual(graph, CONV_Y, DIFFERENCE),
                                 squared = add_virtual(graph, CONV_Y, DIFFERENCE_SQUARED);
        ops[count++] = add_pointwise(builder, CUDNN_POINTWISE_SUB, tensors[CONV_Y], tensors[CONV_MEAN], difference);
        ops[count++] = add_pointwise(builder, CUDNN_POINTWISE_MUL, difference, difference, squared);
        ops[count++] = add_sum(builder, difference, tensors[CONV_SUM]);
        ops[count++] = add_sum(builder, squared, tensors[CONV_SQUARES]);
    }
    return count;
}

int conv_graph_open(struct conv_graph *graph, const struct conv_target *target, const struct conv_problem *problem,
                    enum plan_family family)
{
    *graph = (struct conv_graph){.problem = *problem, .family = family, .target = target};
    cudnnBackendDescriptor_t ops[OPERATIONS];
    const int64_t count = add_operations(graph, ops);
    struct cudnn_builder *builder = &graph->builder;
    graph->operations = rdp_cudnn_add(builder, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    rdp_cudnn_set(builder, graph->operations, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, ops);
#if !CONV_DEVICE_PROPERTIES
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
