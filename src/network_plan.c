/*
 * Plans a network: which operations, in which order, on which memory. Made once; network_run.c runs the result.
 *
 * Forward. Layers come in an order in which they can be computed. A batch-norm is split: its statistics follow the
 * convolution at once (or are part of it, where the device planned it so), its coefficients are finalised when the
 * whole batch is done, and it is applied only when a reader needs its output, so that applying, convolving and summing
 * share a chunk.
 *
 * Backward. The forward list, read backwards: apply becomes reduce (gradient through the activation and the two sums),
 * finalise becomes finalise, a convolution becomes batch-norm backward apply and backward data; its weight gradient
 * works on the whole batch and waits for the segment to end. A tensor with two readers gets two gradients, which reduce
 * adds.
 *
 * Dropout works in place, forward and backward: nobody but it reads what it reads, and what batch-norm's backward wants
 * to know of its output (with GELU nothing) is the sign, which is the same where something was kept and does not matter
 * where nothing was. So a pass that evaluates leaves it out.
 */
#include "network_plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/watchdog.h"

/* What is known about a layer while planning. */
struct progress {
    bool computed;    /* its output tensor is written by now */
    int gradients[2]; /* tensors that hold parts of its output's gradient */
    int gradient_count;
    int bn; /* CONV, MAX_POOL: the batch-norm that reads it; RDP_NO_LAYER: a max-pool is between */
    int dz; /* BN: gradient before the activation */
};

struct planner {
    struct rdp_network *network;
    struct rdp_network_plan *plan;
    const struct rdp_model *model;
    struct progress *layers;
    int image;                     /* tensor of the augmented input */
    int pending[4], pending_count; /* convolutions whose weight gradient waits for the segment's end */
    size_t offset;                 /* of the next parameter in the flat arrays */
};

static bool is_whole(enum rdp_operation_kind kind)
{
#define RDP_OPERATION_WHOLE(name, whole, text) whole,
    static const bool whole[] = {RDP_OPERATION_MAP(RDP_OPERATION_WHOLE)};
#undef RDP_OPERATION_WHOLE
    return whole[kind];
}

static int reserve(void **array, int count, int *capacity, size_t size)
{
    if (count < *capacity)
        return RDP_OK;
    int wanted = *capacity == 0 ? 128 : 2 * *capacity;
    void *larger = realloc(*array, (size_t)wanted * size);
    if (larger == NULL)
        return rdp_fail(RDP_ENOMEM, "the network's plan: out of memory");
    *array = larger;
    *capacity = wanted;
    return RDP_OK;
}

static int new_tensor(struct planner *planner, size_t image_bytes, int *tensor)
{
    struct rdp_network_plan *plan = planner->plan;
    RDP_TRY(reserve((void **)&plan->tensors, plan->tensor_count, &plan->tensor_capacity, sizeof *plan->tensors));
    *tensor = plan->tensor_count++;
    plan->tensors[*tensor] = (struct rdp_tensor){.image_bytes = image_bytes, .first = -1, .last = -1};
    return RDP_OK;
}

static size_t activation_bytes(struct planner *planner, struct rdp_shape shape)
{
    struct rdp_device *device = planner->network->device;
    return device->ops->image_bytes(device, shape, false);
}

static int new_activation(struct planner *planner, struct rdp_shape shape, int *tensor)
{
    return new_tensor(planner, activation_bytes(planner, shape), tensor);
}

static int emit(struct planner *planner, enum rdp_operation_kind kind, int layer, int t0, int t1, int t2, int t3)
{
    struct rdp_network_plan *plan = planner->plan;
    RDP_TRY(reserve((void **)&plan->operations, plan->operation_count, &plan->operation_capacity,
                    sizeof *plan->operations));
    const struct rdp_operation *previous =
        plan->operation_count > 0 ? &plan->operations[plan->operation_count - 1] : NULL;
    int segment = previous == NULL ? 0 : previous->segment + (is_whole(kind) || is_whole(previous->kind));
    struct rdp_operation operation = {.kind = kind, .layer = layer, .t = {t0, t1, t2, t3}, .segment = segment};
    for (int i = 0; i < 4; i++)
        if (operation.t[i] != RDP_NO_TENSOR) {
            struct rdp_tensor *tensor = &plan->tensors[operation.t[i]];
            if (tensor->first < 0)
                tensor->first = segment;
            tensor->last = segment;
        }
    plan->operations[plan->operation_count++] = operation;
    return RDP_OK;
}

static int input_tensor(const struct planner *planner, int layer)
{
    return layer == RDP_NO_LAYER ? planner->image : planner->plan->out[layer];
}

/* Emits what writes `layer`'s output, if nothing did so far. */
static int need(struct planner *planner, int layer)
{
    struct rdp_network_plan *plan = planner->plan;
    if (layer == RDP_NO_LAYER) {
        if (planner->image != RDP_NO_TENSOR)
            return RDP_OK;
        struct rdp_device *device = planner->network->device;
        RDP_TRY(
            new_tensor(planner, device->ops->image_bytes(device, planner->model->layers[0].in, true), &planner->image));
        RDP_TRY(emit(planner, RDP_OP_AUGMENT, RDP_NO_LAYER, planner->image, -1, -1, -1));
        const bool mixes = planner->network->config.mixing && planner->network->config.training;
        return mixes ? emit(planner, RDP_OP_MIX, RDP_NO_LAYER, planner->image, -1, -1, -1) : RDP_OK;
    }
    const struct rdp_layer *description = &planner->model->layers[layer];
    if (planner->layers[layer].computed)
        return RDP_OK;
    planner->layers[layer].computed = true;
    if (description->kind == RDP_LAYER_PAD || description->kind == RDP_LAYER_DROPOUT)
        RDP_TRY(need(planner, description->input));
    if (description->kind == RDP_LAYER_DROPOUT) {
        plan->out[layer] = plan->out[description->input];
        if (!planner->network->config.training)
            return RDP_OK;
        return emit(planner, RDP_OP_DROPOUT, layer, plan->out[layer], -1, -1, -1);
    }
    if (description->residual != RDP_NO_LAYER)
        RDP_TRY(need(planner, description->residual));
    RDP_TRY(new_activation(planner, description->out, &plan->out[layer]));
    int from = plan->out[description->input];
    if (description->kind == RDP_LAYER_PAD)
        return emit(planner, RDP_OP_PAD_FORWARD, layer, from, plan->out[layer], -1, -1);
    int residual = description->residual == RDP_NO_LAYER ? RDP_NO_TENSOR : plan->out[description->residual];
    return emit(planner, RDP_OP_BN_APPLY, layer, from, residual, plan->out[layer], -1);
}

/* Of the batch-norm that reads `layer`, if one does. */
static int plan_statistics(struct planner *planner, int layer)
{
    const int bn = planner->layers[layer].bn;
    if (bn == RDP_NO_LAYER || !planner->network->config.training)
        return RDP_OK;
    return emit(planner, RDP_OP_BN_STATISTICS, bn, planner->plan->out[layer], -1, -1, -1);
}

static int plan_forward_layer(struct planner *planner, int layer)
{
    struct rdp_network_plan *plan = planner->plan;
    const struct rdp_layer *description = &planner->model->layers[layer];
    switch (description->kind) {
    case RDP_LAYER_CONV:
        RDP_TRY(need(planner, description->input));
        RDP_TRY(new_activation(planner, description->out, &plan->out[layer]));
        planner->layers[layer].computed = true;
        const int bn = planner->layers[layer].bn;
        const bool fused = plan->convs[layer]->algorithms[RDP_CONV_STATISTICS] != NULL;
        RDP_TRY(emit(planner, fused ? RDP_OP_CONV_STATISTICS : RDP_OP_CONV_FORWARD, layer,
                     input_tensor(planner, description->input), plan->out[layer], -1, -1));
        plan->operations[plan->operation_count - 1].bn = bn;
        return fused ? RDP_OK : plan_statistics(planner, layer);
    case RDP_LAYER_MAX_POOL:
        RDP_TRY(new_activation(planner, description->out, &plan->out[layer]));
        RDP_TRY(emit(planner, RDP_OP_MAX_POOL_FORWARD, layer, plan->out[description->input], plan->out[layer], -1, -1));
        return plan_statistics(planner, layer);
    case RDP_LAYER_BN:
        return emit(planner, RDP_OP_BN_FINALIZE, layer, -1, -1, -1, -1);
    case RDP_LAYER_PAD:
    case RDP_LAYER_DROPOUT:
        return RDP_OK; /* written when its reader needs it */
    case RDP_LAYER_POOL:
        RDP_TRY(need(planner, description->input));
        return emit(planner, RDP_OP_POOL_FORWARD, layer, plan->out[description->input], -1, -1, -1);
    case RDP_LAYER_FC:
        RDP_TRY(emit(planner, RDP_OP_FC_FORWARD, layer, -1, -1, -1, -1));
        return emit(planner, RDP_OP_LOSS, layer, -1, -1, -1, -1);
    }
    return rdp_fail(RDP_EINTERNAL, "layer %s has no forward plan", description->name);
}

static int plan_forward(struct planner *planner)
{
    const struct rdp_model *model = planner->model;
    for (int i = 0; i < model->layer_count; i++)
        planner->layers[i].bn = RDP_NO_LAYER;
    for (int i = 0; i < model->layer_count; i++)
        if (model->layers[i].kind == RDP_LAYER_BN)
            planner->layers[model->layers[i].input].bn = i;
    for (int i = 0; i < model->layer_count; i++)
        RDP_TRY(plan_forward_layer(planner, i));
    planner->plan->forward_count = planner->plan->operation_count;
    return RDP_OK;
}

/* Whether backward goes on into `layer`: not into the image or a frozen stem. */
static bool wants_gradient(const struct planner *planner, int layer)
{
    return layer != RDP_NO_LAYER && !planner->model->layers[layer].frozen;
}

static int add_gradient(struct planner *planner, int layer, int tensor)
{
    struct progress *progress = &planner->layers[layer];
    if (progress->gradient_count == 2)
        return rdp_fail(RDP_EINTERNAL, "layer %s has more than two readers", planner->model->layers[layer].name);
    progress->gradients[progress->gradient_count++] = tensor;
    return RDP_OK;
}

/* Places a row in the flat arrays: 64-byte aligned, in the order of these calls. */
static void place(struct planner *planner, int row)
{
    struct rdp_row *place = &planner->network->rows[row];
    place->offset = planner->offset;
    planner->offset += rdp_align(place->stored_count * sizeof(float)) / sizeof(float);
}

/* The trained rows of a layer get their place; the operation emitted last finishes their gradients. */
static void place_layer(struct planner *planner, int layer)
{
    struct rdp_network *network = planner->network;
    const struct rdp_layer *description = &planner->model->layers[layer];
    for (int i = 0; i < description->parameter_count; i++)
        if (planner->model->parameters[description->first_parameter + i].kind == RDP_PARAMETER_TRAINED)
            place(planner, description->first_parameter + i);
    planner->plan->operations[planner->plan->operation_count - 1].watermark = planner->offset;
    network->boundaries[network->boundary_count++] = planner->offset;
}

static int flush_weight_gradients(struct planner *planner)
{
    for (int i = 0; i < planner->pending_count; i++) {
        int layer = planner->pending[i];
        const struct rdp_layer *description = &planner->model->layers[layer];
        if (!description->frozen)
            RDP_TRY(emit(planner, RDP_OP_CONV_WEIGHTS, layer, input_tensor(planner, description->input),
                         planner->layers[layer].gradients[0], -1, -1));
        place_layer(planner, layer);
    }
    planner->pending_count = 0;
    return RDP_OK;
}

/* The gradient of `layer`, which a batch-norm reads. With a residual, dz is also the residual's gradient and must stay;
 * without, dy takes its place. */
static int plan_backward_normalised(struct planner *planner, int layer)
{
    const int bn = planner->layers[layer].bn, dz = planner->layers[bn].dz;
    int dy = dz;
    if (planner->model->layers[bn].residual != RDP_NO_LAYER)
        RDP_TRY(new_activation(planner, planner->model->layers[layer].out, &dy));
    RDP_TRY(emit(planner, RDP_OP_BN_BACKWARD_APPLY, bn, planner->plan->out[layer], dz, dy, -1));
    return add_gradient(planner, layer, dy);
}

static int plan_backward_conv(struct planner *planner, int layer)
{
    const struct rdp_layer *description = &planner->model->layers[layer];
    struct progress *own = &planner->layers[layer];
    if (description->frozen) { /* nobody needs its gradients: that of its weights stays zero */
        planner->pending[planner->pending_count++] = layer;
        return RDP_OK;
    }
    if (own->bn != RDP_NO_LAYER)
        RDP_TRY(plan_backward_normalised(planner, layer));
    const int dy = own->gradients[0];
    int dx;
    if (wants_gradient(planner, description->input)) {
        RDP_TRY(new_activation(planner, description->in, &dx));
        RDP_TRY(emit(planner, RDP_OP_CONV_DATA, layer, dy, dx, -1, -1));
        RDP_TRY(add_gradient(planner, description->input, dx));
    }
    planner->pending[planner->pending_count++] = layer;
    return RDP_OK;
}

static int plan_backward_apply(struct planner *planner, int layer)
{
    const struct rdp_layer *description = &planner->model->layers[layer];
    struct progress *own = &planner->layers[layer];
    int second = own->gradient_count == 2 ? own->gradients[1] : RDP_NO_TENSOR;
    int joined = RDP_NO_TENSOR;
    if (description->residual != RDP_NO_LAYER)
        joined = planner->plan->out[description->activation == RDP_ACT_GELU ? description->residual : layer];
    if (description->frozen)
        return RDP_OK;
    own->dz = own->gradients[0];
    RDP_TRY(emit(planner, RDP_OP_BN_REDUCE, layer, planner->plan->out[description->input], joined, own->dz, second));
    return wants_gradient(planner, description->residual) ? add_gradient(planner, description->residual, own->dz)
                                                          : RDP_OK;
}

/* The backward counterpart of one forward operation. */
static int plan_backward_operation(struct planner *planner, const struct rdp_operation *forward)
{
    const int layer = forward->layer;
    int dx;
    switch (forward->kind) {
    case RDP_OP_FC_FORWARD:
        RDP_TRY(emit(planner, RDP_OP_FC_BACKWARD, layer, -1, -1, -1, -1));
        place_layer(planner, layer);
        return RDP_OK;
    case RDP_OP_POOL_FORWARD:
        RDP_TRY(new_activation(planner, planner->model->layers[layer].in, &dx));
        RDP_TRY(emit(planner, RDP_OP_POOL_BACKWARD, layer, dx, -1, -1, -1));
        return add_gradient(planner, planner->model->layers[layer].input, dx);
    case RDP_OP_BN_APPLY:
        return plan_backward_apply(planner, layer);
    case RDP_OP_MAX_POOL_FORWARD: {
        const int x = forward->t[0];
        RDP_TRY(plan_backward_normalised(planner, layer));
        RDP_TRY(new_activation(planner, planner->model->layers[layer].in, &dx));
        RDP_TRY(emit(planner, RDP_OP_MAX_POOL_BACKWARD, layer, x, planner->layers[layer].gradients[0], dx, -1));
        return add_gradient(planner, planner->model->layers[layer].input, dx);
    }
    case RDP_OP_PAD_FORWARD:
        if (!wants_gradient(planner, planner->model->layers[layer].input))
            return RDP_OK;
        RDP_TRY(new_activation(planner, planner->model->layers[layer].in, &dx));
        RDP_TRY(emit(planner, RDP_OP_PAD_BACKWARD, layer, planner->layers[layer].gradients[0], dx, -1, -1));
        return add_gradient(planner, planner->model->layers[layer].input, dx);
    case RDP_OP_DROPOUT: {
        const struct progress *own = &planner->layers[layer];
        const int second = own->gradient_count == 2 ? own->gradients[1] : RDP_NO_TENSOR;
        RDP_TRY(emit(planner, RDP_OP_DROPOUT_BACKWARD, layer, own->gradients[0], second, -1, -1));
        return add_gradient(planner, planner->model->layers[layer].input, own->gradients[0]);
    }
    case RDP_OP_BN_FINALIZE:
        RDP_TRY(flush_weight_gradients(planner));
        if (!planner->model->layers[layer].frozen)
            RDP_TRY(emit(planner, RDP_OP_BN_BACKWARD_FINALIZE, layer, -1, -1, -1, -1));
        place_layer(planner, layer);
        return RDP_OK;
    case RDP_OP_CONV_FORWARD:
    case RDP_OP_CONV_STATISTICS:
        return plan_backward_conv(planner, layer);
    case RDP_OP_AUGMENT:
        return flush_weight_gradients(planner);
    default:
        return RDP_OK; /* statistics and loss have nothing to do on the way back */
    }
}

static int plan_backward(struct planner *planner)
{
    for (int i = planner->plan->forward_count - 1; i >= 0; i--) {
        struct rdp_operation forward = planner->plan->operations[i]; /* a copy: emit may move the array */
        RDP_TRY(plan_backward_operation(planner, &forward));
    }
    return RDP_OK;
}

/* Convolutions that read one tensor run in one segment and so need one chunk. */
static int chunk_for(struct rdp_network *network, int layer, const struct rdp_conv_desc *desc)
{
    const struct rdp_model *model = network->model;
    if (network->config.whole_batch_chunks)
        return network->config.batch;
    int chunk = network->device->ops->chunk(network->device, desc);
    for (int i = 0; i < layer; i++)
        if (model->layers[i].kind == RDP_LAYER_CONV && model->layers[i].input == model->layers[layer].input)
            chunk = network->plan->convs[i]->desc.chunk;
    return chunk;
}

/* Whether a batch-norm reads the layer's output, and not a max-pool. */
static bool is_normalised(const struct rdp_model *model, int layer)
{
    for (int i = layer + 1; i < model->layer_count; i++)
        if (model->layers[i].kind == RDP_LAYER_BN && model->layers[i].input == layer)
            return true;
    return false;
}

static int create_layers(struct rdp_network *network)
{
    const struct rdp_model *model = network->model;
    struct rdp_device *device = network->device;
    for (int i = 0; i < model->layer_count; i++) {
        const struct rdp_layer *layer = &model->layers[i];
        if (layer->kind == RDP_LAYER_CONV) {
            struct rdp_conv_desc desc = {.input = layer->in,
                                         .output = layer->out,
                                         .kernel = layer->kernel,
                                         .stride = layer->stride,
                                         .batch = network->config.batch,
                                         .input_is_image = layer->input == RDP_NO_LAYER,
                                         .training = network->config.training,
                                         .statistics = network->config.training && is_normalised(model, i)};
            desc.chunk = chunk_for(network, i, &desc);
            RDP_TRY(device->ops->conv_create(device, &network->plan->convs[i], &desc));
            rdp_watchdog_tick(); /* a GPU may have timed dozens of plans */
        } else if (layer->kind == RDP_LAYER_BN) {
            struct rdp_bn_desc desc = {.shape = layer->in,
                                       .batch = network->config.batch,
                                       .epsilon = 1e-5,
                                       .momentum = 0.1,
                                       .activation = layer->activation,
                                       .slope = layer->slope,
                                       .residual = layer->residual != RDP_NO_LAYER,
                                       .synchronised = network->config.sync_bn,
                                       .training = network->config.training};
            RDP_TRY(device->ops->bn_create(device, &network->plan->bns[i], &desc));
        }
    }
    for (int i = 0; i < model->parameter_count; i++) {
        struct rdp_conv *conv = network->plan->convs[model->parameters[i].layer];
        network->rows[i].conv = conv;
        network->rows[i].stored_count = conv != NULL ? conv->stored_count : (size_t)model->parameters[i].count;
    }
    return RDP_OK;
}

/* Running statistics and, without a backward pass, parameters: in the table's order. */
static void place_rest(struct planner *planner)
{
    struct rdp_network *network = planner->network;
    const struct rdp_model *model = planner->model;
    if (!network->config.training)
        for (int i = 0; i < model->parameter_count; i++)
            if (model->parameters[i].kind == RDP_PARAMETER_TRAINED)
                place(planner, i);
    network->parameter_count = planner->offset;
    planner->offset = 0;
    for (int i = 0; i < model->parameter_count; i++)
        if (model->parameters[i].kind == RDP_PARAMETER_STATE)
            place(planner, i);
    network->state_count = planner->offset;
    /* The step's totals travel behind the gradients, in the last bucket. */
    if (network->boundary_count > 0) {
        network->boundaries[network->boundary_count - 1] += RDP_TOTALS;
        struct rdp_network_plan *plan = network->plan;
        plan->operations[plan->operation_count - 1].watermark += RDP_TOTALS;
    }
}

int rdp_network_plan_create(struct rdp_network *network)
{
    const struct rdp_model *model = network->model;
    size_t layers = (size_t)model->layer_count;
    int status;
    RDP_TRY(rdp_calloc((void **)&network->plan, 1, sizeof *network->plan, "the network's plan"));
    struct rdp_network_plan *plan = network->plan;
    struct planner planner = {.network = network, .plan = plan, .model = model, .image = RDP_NO_TENSOR};
    RDP_TRY(rdp_calloc((void **)&plan->convs, layers, sizeof(struct rdp_conv *), "the network's plan"));
    RDP_TRY(rdp_calloc((void **)&plan->bns, layers, sizeof(struct rdp_bn *), "the network's plan"));
    RDP_TRY(rdp_calloc((void **)&plan->out, layers, sizeof(int), "the network's plan"));
    RDP_TRY(rdp_calloc((void **)&network->rows, (size_t)model->parameter_count, sizeof *network->rows,
                       "the network's plan"));
    RDP_TRY(rdp_calloc((void **)&network->boundaries, layers, sizeof(size_t), "the network's plan"));
    RDP_TRY(create_layers(network));
    RDP_TRY(rdp_calloc((void **)&planner.layers, layers, sizeof *planner.layers, "the network's plan"));
    status = plan_forward(&planner);
    if (status == RDP_OK && network->config.training)
        status = plan_backward(&planner);
    if (status == RDP_OK)
        place_rest(&planner);
    free(planner.layers);
    RDP_TRY(status);
    return rdp_network_memory_create(network);
}

void rdp_network_plan_destroy(struct rdp_network *network)
{
    struct rdp_network_plan *plan = network->plan;
    struct rdp_device *device = network->device;
    if (plan == NULL)
        return;
    for (int i = 0; i < network->model->layer_count; i++) {
        if (plan->convs != NULL)
            device->ops->conv_destroy(device, plan->convs[i]);
        if (plan->bns != NULL)
            device->ops->bn_destroy(device, plan->bns[i]);
    }
    rdp_network_memory_destroy(network);
    free(plan->inputs_host);
    free(plan->convs);
    free(plan->bns);
    free(plan->out);
    free(plan->operations);
    free(plan->tensors);
    free(plan);
    network->plan = NULL;
}

int rdp_network_segment_end(const struct rdp_network_plan *plan, int begin, int limit)
{
    int end = begin + 1;
    while (end < limit && plan->operations[end].segment == plan->operations[begin].segment)
        end++;
    return end;
}

int rdp_network_segment_chunk(const struct rdp_network *network, int begin, int end)
{
    const struct rdp_network_plan *plan = network->plan;
    for (int i = begin; i < end; i++)
        if (plan->operations[i].kind == RDP_OP_CONV_FORWARD || plan->operations[i].kind == RDP_OP_CONV_STATISTICS ||
            plan->operations[i].kind == RDP_OP_CONV_DATA)
            return plan->convs[plan->operations[i].layer]->desc.chunk;
    return network->config.batch;
}
