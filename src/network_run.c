/* Runs a planned network: the loops over its operations, chunk by chunk. See network.h and network_plan.h. */
#include "network.h"

#include <string.h>

#include "base/status.h"
#include "comm/comm.h"
#include "comm/reducer.h"
#include "network_plan.h"

static void *data_of(const struct rdp_network *network, int tensor)
{
    return tensor == RDP_NO_TENSOR ? NULL : network->plan->tensors[tensor].data;
}

/* How many values a channel's statistics cover. */
static int synchronise_sums(struct rdp_network *network, struct rdp_bn *bn, double *elements)
{
    struct rdp_reducer *reducer = network->config.reducer;
    *elements = (double)network->config.batch * bn->desc.shape.height * bn->desc.shape.width;
    if (!network->config.sync_bn)
        return RDP_OK;
    *elements *= reducer->comm->size;
    return reducer->ops->sum_f64(reducer, bn->sums, bn->sums_count, "batch-norm statistics");
}

static int finalize_bn(struct rdp_network *network, struct rdp_bn *bn, bool training)
{
    const struct rdp_device_ops *ops = network->device->ops;
    double elements;
    if (!training)
        return ops->bn_use_running(network->device, bn);
    RDP_TRY(ops->bn_statistics_sum(network->device, bn));
    RDP_TRY(synchronise_sums(network, bn, &elements));
    return ops->bn_finalize(network->device, bn, elements);
}

static int backward_finalize_bn(struct rdp_network *network, struct rdp_bn *bn)
{
    const struct rdp_device_ops *ops = network->device->ops;
    double elements;
    RDP_TRY(ops->bn_backward_sum(network->device, bn));
    RDP_TRY(synchronise_sums(network, bn, &elements));
    return ops->bn_backward_finalize(network->device, bn, elements);
}

static struct rdp_dropout dropout_of(const struct rdp_network *network, const struct rdp_layer *layer)
{
    return (struct rdp_dropout){.shape = layer->out,
                                .probability = (float)layer->probability,
                                .seed = network->config.seed,
                                .layer = (uint32_t)layer->stage};
}

static int drop(struct rdp_network *network, const struct rdp_layer *layer, void *x, bool training, int first,
                int count)
{
    const struct rdp_network_plan *plan = network->plan;
    const struct rdp_dropout dropout = dropout_of(network, layer);
    if (!training)
        return RDP_OK;
    return network->device->ops->dropout_forward(network->device, &dropout, &network->inputs->values,
                                                 plan->samples + plan->micro * network->config.batch, x, x, first,
                                                 count);
}

static int drop_backward(struct rdp_network *network, const struct rdp_layer *layer, void *dy, const void *dy2,
                         int first, int count)
{
    const struct rdp_network_plan *plan = network->plan;
    const struct rdp_dropout dropout = dropout_of(network, layer);
    return network->device->ops->dropout_backward(network->device, &dropout, &network->inputs->values,
                                                  plan->samples + plan->micro * network->config.batch, dy, dy2, dy,
                                                  first, count);
}

static int run_operation(struct rdp_network *network, const struct rdp_operation *op, bool training, int first,
                         int count)
{
    struct rdp_device *device = network->device;
    const struct rdp_device_ops *ops = device->ops;
    struct rdp_network_plan *plan = network->plan;
    const struct rdp_batch *batch = &plan->batch;
    const int skip = plan->micro * network->config.batch;
    const struct rdp_layer *layer = op->layer == RDP_NO_LAYER ? NULL : &network->model->layers[op->layer];
    struct rdp_conv *conv = layer == NULL ? NULL : plan->convs[op->layer];
    struct rdp_bn *bn = layer == NULL ? NULL : plan->bns[op->layer];
    const int size = network->config.batch, classes = network->model->classes;
    void *t0 = data_of(network, op->t[0]), *t1 = data_of(network, op->t[1]);
    void *t2 = data_of(network, op->t[2]), *t3 = data_of(network, op->t[3]);

    switch (op->kind) {
    case RDP_OP_AUGMENT:
        return ops->augment(device, &batch->augment, &network->inputs->values, batch->images, plan->rows + skip,
                            plan->samples + skip, t0, first, count);
    case RDP_OP_MIX:
        return training ? ops->mix(device, &network->inputs->values, t0, size) : RDP_OK;
    case RDP_OP_CONV_FORWARD:
        return ops->conv_forward(device, conv, t0, t1, first, count);
    case RDP_OP_CONV_STATISTICS:
        return training ? ops->conv_forward_statistics(device, conv, plan->bns[op->bn], t0, t1)
                        : ops->conv_forward(device, conv, t0, t1, first, count);
    case RDP_OP_BN_STATISTICS:
        return training ? ops->bn_statistics(device, bn, t0, first, count) : RDP_OK;
    case RDP_OP_BN_FINALIZE:
        return finalize_bn(network, bn, training);
    case RDP_OP_BN_APPLY:
        return ops->bn_apply(device, bn, t0, t1, t2, first, count);
    case RDP_OP_MAX_POOL_FORWARD:
        return ops->max_pool_forward(device, layer->in, t0, t1, first, count);
    case RDP_OP_PAD_FORWARD:
        return ops->pad_forward(device, layer->in, layer->out, t0, t1, first, count);
    case RDP_OP_DROPOUT:
        return drop(network, layer, t0, training, first, count);
    case RDP_OP_DROPOUT_BACKWARD:
        return drop_backward(network, layer, t0, t1, first, count);
    case RDP_OP_POOL_FORWARD:
        return ops->pool_forward(device, layer->in, t0, plan->features, first, count);
    case RDP_OP_FC_FORWARD:
        return ops->fc_forward(device, size, layer->in.channels, classes, plan->features,
                               rdp_network_row(network, network->parameters, op->layer, RDP_ROW_WEIGHT),
                               rdp_network_row(network, network->parameters, op->layer, RDP_ROW_BIAS), plan->logits);
    case RDP_OP_LOSS:
        return ops->loss(device, size, batch->valid, classes, plan->logits, plan->labels + skip,
                         training && network->config.mixing ? &network->inputs->values : NULL,
                         training ? (float)network->config.label_smoothing : 0, plan->loss_scale,
                         training ? plan->dlogits : NULL, network->totals);
    case RDP_OP_FC_BACKWARD:
        return ops->fc_backward(device, size, layer->in.channels, classes, plan->features,
                                rdp_network_row(network, network->parameters, op->layer, RDP_ROW_WEIGHT), plan->dlogits,
                                rdp_network_row(network, network->gradients, op->layer, RDP_ROW_WEIGHT),
                                rdp_network_row(network, network->gradients, op->layer, RDP_ROW_BIAS), plan->dfeatures);
    case RDP_OP_POOL_BACKWARD:
        return ops->pool_backward(device, layer->in, plan->dfeatures, t0, first, count);
    case RDP_OP_BN_REDUCE:
        return ops->bn_backward_reduce(device, bn, t0, t1, t2, t3, first, count);
    case RDP_OP_BN_BACKWARD_FINALIZE:
        return backward_finalize_bn(network, bn);
    case RDP_OP_BN_BACKWARD_APPLY:
        return ops->bn_backward_apply(device, bn, t0, t1, t2, first, count);
    case RDP_OP_MAX_POOL_BACKWARD:
        return ops->max_pool_backward(device, layer->in, t0, t1, t2, first, count);
    case RDP_OP_PAD_BACKWARD:
        return ops->pad_backward(device, layer->in, layer->out, t0, t1, first, count);
    case RDP_OP_CONV_DATA:
        return ops->conv_backward_data(device, conv, t0, t1, first, count);
    case RDP_OP_CONV_WEIGHTS:
        return ops->conv_backward_weights(device, conv, t0, t1,
                                          rdp_network_row(network, network->gradients, op->layer, RDP_ROW_WEIGHT));
    case RDP_OP_KINDS:
        break;
    }
    return rdp_fail(RDP_EINTERNAL, "operation %d of the network's plan is unknown", (int)op->kind);
}

struct run {
    bool training;
    rdp_network_tick tick;
    rdp_network_ready ready;
    void *context;
};

/* Adds what the stamps say to the operations' times. */
static int sum_up_stamps(struct rdp_network *network)
{
    struct rdp_network_plan *plan = network->plan;
    struct rdp_device *device = network->device;
    for (int i = 1; i < plan->stamp_count; i++) {
        double seconds;
        RDP_TRY(device->ops->stamp_seconds(device, i - 1, i, &seconds));
        plan->seconds[plan->stamped[i]] += seconds;
    }
    plan->stamp_count = 0;
    return RDP_OK;
}

static int stamp(struct rdp_network *network, enum rdp_operation_kind kind)
{
    struct rdp_network_plan *plan = network->plan;
    plan->stamped[plan->stamp_count] = kind;
    return network->device->ops->stamp(network->device, plan->stamp_count++);
}

static int run_timed(struct rdp_network *network, const struct rdp_operation *op, const struct run *run, int first,
                     int count)
{
    const bool timed = network->config.timed;
    if (timed && network->plan->stamp_count == RDP_NETWORK_STAMPS)
        RDP_TRY(sum_up_stamps(network));
    if (timed && network->plan->stamp_count == 0)
        RDP_TRY(stamp(network, RDP_OP_KINDS));
    RDP_TRY(run_operation(network, op, run->training, first, count));
    if (timed)
        RDP_TRY(stamp(network, op->kind));
    return run->tick == NULL ? RDP_OK : run->tick(run->context);
}

/* Segment by segment; inside one, chunk by chunk through all its operations. */
static int run_operations(struct rdp_network *network, int begin, int limit, const struct run *run)
{
    const struct rdp_network_plan *plan = network->plan;
    while (begin < limit) {
        const int end = rdp_network_segment_end(plan, begin, limit),
                  chunk = rdp_network_segment_chunk(network, begin, end);
        for (int first = 0; first < network->config.batch; first += chunk)
            for (int i = begin; i < end; i++)
                RDP_TRY(run_timed(network, &plan->operations[i], run, first, chunk));
        if (run->ready != NULL && plan->operations[end - 1].watermark > 0)
            RDP_TRY(run->ready(run->context, plan->operations[end - 1].watermark));
        begin = end;
    }
    return RDP_OK;
}

int rdp_network_load(struct rdp_network *network, const struct rdp_batch *batch, const struct rdp_inputs *inputs)
{
    struct rdp_network_plan *plan = network->plan;
    const size_t count = (size_t)batch->count, indices = count * sizeof(int64_t);
    const size_t all = (size_t)network->config.batch * (size_t)network->config.micro_batches;
    if (count > all || count % (size_t)network->config.batch != 0)
        return rdp_fail(RDP_EINTERNAL, "%d samples for passes of %d, at most %d at once; please report this",
                        batch->count, network->config.batch, network->config.micro_batches);
    char *host = plan->inputs_host, *rows = host + sizeof *inputs, *samples = rows + all * sizeof(int64_t),
         *labels = samples + all * sizeof(int64_t);
    memcpy(host, inputs, sizeof *inputs);
    memcpy(rows, batch->rows, indices);
    memcpy(samples, batch->samples, indices);
    memcpy(labels, batch->labels, count);
    plan->batch = *batch;
    return network->device->ops->feed(network->device, network->inputs, host, (size_t)(labels - host) + count);
}

int rdp_network_begin_totals(struct rdp_network *network)
{
    return network->device->ops->copy(network->device, network->totals, network->inputs->totals,
                                      sizeof network->inputs->totals);
}

/* A pass's stamps do not follow the last pass's: what lay between was not the network's. */
static int run_pass(struct rdp_network *network, int begin, int limit, const struct run *run, const char *name)
{
    struct rdp_device *device = network->device;
    rdp_device_range_push(device, name);
    int status = run_operations(network, begin, limit, run);
    rdp_device_range_pop(device);
    RDP_TRY(status);
    return network->config.timed ? sum_up_stamps(network) : RDP_OK;
}

int rdp_network_forward(struct rdp_network *network, int micro, bool training, float loss_scale, rdp_network_tick tick,
                        void *context)
{
    struct run run = {.training = training, .tick = tick, .context = context};
    network->plan->micro = micro;
    network->plan->loss_scale = loss_scale;
    return run_pass(network, 0, network->plan->forward_count, &run, "forward");
}

int rdp_network_backward(struct rdp_network *network, rdp_network_ready ready, rdp_network_tick tick, void *context)
{
    struct run run = {.training = true, .tick = tick, .ready = ready, .context = context};
    return run_pass(network, network->plan->forward_count, network->plan->operation_count, &run, "backward");
}

int rdp_network_logits(struct rdp_network *network, float *host)
{
    return network->device->ops->download(network->device, host, network->plan->logits,
                                          (size_t)network->config.batch * (size_t)network->model->classes *
                                              sizeof(float));
}

void rdp_network_times_reset(struct rdp_network *network)
{
    memset(network->plan->seconds, 0, sizeof network->plan->seconds);
}

int rdp_network_times(const struct rdp_network *network, struct rdp_operation_time times[RDP_OPERATION_KINDS_MAX])
{
#define RDP_OPERATION_TEXT(name, whole, text) text,
    static const char *const texts[] = {RDP_OPERATION_MAP(RDP_OPERATION_TEXT)};
#undef RDP_OPERATION_TEXT
    int count = 0;
    for (int kind = 0; kind < RDP_OP_KINDS; kind++)
        if (network->plan->seconds[kind] > 0)
            times[count++] = (struct rdp_operation_time){texts[kind], network->plan->seconds[kind]};
    return count;
}

/* As in evaluation: then a convolution leaves the statistics out. */
int rdp_network_convolutions_alone(struct rdp_network *network)
{
    const struct rdp_network_plan *plan = network->plan;
    for (int i = 0; i < plan->operation_count; i++) {
        const struct rdp_operation *op = &plan->operations[i];
        if (op->kind == RDP_OP_CONV_FORWARD || op->kind == RDP_OP_CONV_STATISTICS || op->kind == RDP_OP_CONV_DATA ||
            op->kind == RDP_OP_CONV_WEIGHTS)
            RDP_TRY(run_operation(network, op, false, 0, network->config.batch));
    }
    return RDP_OK;
}
