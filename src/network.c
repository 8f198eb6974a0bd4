/* A network's memory: its flat arrays, what goes into them and out of them. See network.h; network_plan.c plans the
 * operations, network_run.c runs them. */
#include "network.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/reducer.h"
#include "kernels/common/random.h"
#include "network_plan.h"

/* The gradients lie where the reducer likes them; then allocating them is collective. */
static bool reducer_allocates(const struct rdp_network *network)
{
    return network->config.reducer != NULL && network->config.reducer->ops->alloc != NULL;
}

static int allocate_gradients(struct rdp_network *network)
{
    struct rdp_device *device = network->device;
    struct rdp_reducer *reducer = network->config.reducer;
    const size_t count = network->config.training ? network->parameter_count : 0;
    const size_t bytes = (count + RDP_TOTALS) * sizeof(float);
    if (reducer_allocates(network))
        return reducer->ops->alloc(reducer, (void **)&network->gradients, bytes, "gradients");
    return device->ops->alloc(device, (void **)&network->gradients, bytes, "gradients");
}

static void free_gradients(struct rdp_network *network)
{
    struct rdp_reducer *reducer = network->config.reducer;
    if (reducer_allocates(network))
        reducer->ops->free(reducer, network->gradients);
    else
        network->device->ops->free(network->device, network->gradients);
}

static int allocate_flat(struct rdp_network *network)
{
    struct rdp_device *device = network->device;
    RDP_TRY(device->ops->alloc(device, (void **)&network->parameters, network->parameter_count * sizeof(float),
                               "parameters"));
    RDP_TRY(device->ops->alloc(device, (void **)&network->state, network->state_count * sizeof(float),
                               "running statistics"));
    const size_t copy_bytes = network->parameter_count * device->ops->copy_size(device);
    return copy_bytes == 0 ? RDP_OK : device->ops->alloc(device, &network->copies, copy_bytes, "copies of the weights");
}

_Static_assert(sizeof(struct rdp_inputs) % sizeof(int64_t) == 0, "rows and samples lie behind it");

/* One block, so that a step's inputs go to the device in one piece. */
static int allocate_inputs(struct rdp_network *network)
{
    struct rdp_device *device = network->device;
    struct rdp_network_plan *plan = network->plan;
    const size_t count = (size_t)network->config.batch * (size_t)network->config.micro_batches;
    const size_t bytes = sizeof *network->inputs + count * (2 * sizeof(int64_t) + 1);
    RDP_TRY(device->ops->alloc(device, (void **)&network->inputs, bytes, "inputs"));
    plan->rows = (int64_t *)(network->inputs + 1);
    plan->samples = plan->rows + count;
    plan->labels = (uint8_t *)(plan->samples + count);
    return rdp_calloc((void **)&plan->inputs_host, 1, bytes, "inputs");
}

static void bind_arrays(struct rdp_network *network)
{
    network->totals = network->gradients + (network->config.training ? network->parameter_count : 0);
    for (int i = 0; i < network->model->layer_count; i++) {
        struct rdp_bn *bn = network->plan->bns[i];
        if (bn == NULL)
            continue;
        bn->gamma = rdp_network_row(network, network->parameters, i, RDP_ROW_WEIGHT);
        bn->beta = rdp_network_row(network, network->parameters, i, RDP_ROW_BIAS);
        bn->running_mean = rdp_network_row(network, network->state, i, RDP_ROW_RUNNING_MEAN);
        bn->running_var = rdp_network_row(network, network->state, i, RDP_ROW_RUNNING_VAR);
        if (network->config.training) {
            bn->dgamma = rdp_network_row(network, network->gradients, i, RDP_ROW_WEIGHT);
            bn->dbeta = rdp_network_row(network, network->gradients, i, RDP_ROW_BIAS);
        }
    }
}

/* Ends what the ranks do alone. The wait is patient: one rank may be timing convolutions for minutes that another one
 * found in its cache. */
static int agree(struct rdp_network *network, int status)
{
    struct rdp_reducer *reducer = network->config.reducer;
    if (reducer == NULL)
        return status;
    RDP_TRY(reducer->comm->ops->barrier(reducer->comm, 1, "planning the network"));
    return rdp_comm_agree(reducer->comm, status, "planning the network");
}

int rdp_network_create(struct rdp_network **network, const struct rdp_model *model, struct rdp_device *device,
                       const struct rdp_network_config *config)
{
    RDP_TRY(rdp_calloc((void **)network, 1, sizeof **network, "the network"));
    (*network)->model = model;
    (*network)->device = device;
    (*network)->config = *config;
    if (config->micro_batches == 0)
        (*network)->config.micro_batches = 1;
    int status = rdp_network_plan_create(*network);
    if (status == RDP_OK)
        status = allocate_flat(*network);
    if (status == RDP_OK)
        status = allocate_inputs(*network);
    if (status == RDP_OK && !reducer_allocates(*network))
        status = allocate_gradients(*network);
    status = agree(*network, status);
    if (status == RDP_OK && reducer_allocates(*network))
        status = allocate_gradients(*network);
    if (status == RDP_OK)
        bind_arrays(*network);
    if (status != RDP_OK) {
        rdp_network_destroy(*network);
        *network = NULL;
    }
    return status;
}

void rdp_network_destroy(struct rdp_network *network)
{
    if (network == NULL)
        return;
    struct rdp_device *device = network->device;
    rdp_network_plan_destroy(network);
    free_gradients(network);
    device->ops->free(device, network->parameters);
    device->ops->free(device, network->state);
    device->ops->free(device, network->copies);
    device->ops->free(device, network->inputs);
    free(network->rows);
    free(network->boundaries);
    free(network);
}

int rdp_network_put(struct rdp_network *network, int row, const float *host, float *flat)
{
    struct rdp_device *device = network->device;
    const struct rdp_row *place = &network->rows[row];
    if (place->conv != NULL)
        return device->ops->conv_pack(device, place->conv, host, flat + place->offset);
    return device->ops->upload(device, flat + place->offset, host, place->stored_count * sizeof(float));
}

int rdp_network_take(struct rdp_network *network, int row, const float *flat, float *host)
{
    struct rdp_device *device = network->device;
    const struct rdp_row *place = &network->rows[row];
    if (place->conv != NULL)
        return device->ops->conv_unpack(device, place->conv, flat + place->offset, host);
    return device->ops->download(device, host, flat + place->offset, place->stored_count * sizeof(float));
}

/* As torch.nn.init.dirac_ of the first filters. */
static void set_dirac(const struct rdp_parameter *weight, float *values)
{
    const int64_t in = weight->dims[1], area = weight->dims[2] * weight->dims[3];
    const int64_t filters = weight->dims[0] < in ? weight->dims[0] : in;
    memset(values, 0, (size_t)(filters * in * area) * sizeof *values);
    for (int64_t k = 0; k < filters; k++)
        values[(k * in + k) * area + area / 2] = 1;
}

int rdp_network_initialise(struct rdp_network *network, uint64_t seed)
{
    const struct rdp_model *model = network->model;
    for (int row = 0; row < model->parameter_count; row++) {
        const struct rdp_parameter *parameter = &model->parameters[row];
        float *values, bound = (float)parameter->init;
        RDP_TRY(rdp_calloc((void **)&values, (size_t)parameter->count, sizeof *values, "initial values"));
        for (int64_t i = 0; i < parameter->count; i++) {
            if (!parameter->uniform) {
                values[i] = bound;
                continue;
            }
            struct rdp_random random = rdp_random_at(seed, RDP_RANDOM_INITIALISE, (uint32_t)row, (uint64_t)i / 4);
            values[i] = bound * (2 * rdp_random_unit(random.word[i % 4]) - 1);
        }
        if (parameter->dirac)
            set_dirac(parameter, values);
        int status = rdp_network_put(network, row, values,
                                     parameter->kind == RDP_PARAMETER_TRAINED ? network->parameters : network->state);
        free(values);
        RDP_TRY(status);
    }
    return rdp_network_weights_changed(network);
}

int rdp_network_weights_changed(struct rdp_network *network)
{
    struct rdp_device *device = network->device;
    const size_t copy_size = device->ops->copy_size(device);
    for (int i = 0; i < network->model->parameter_count; i++) {
        const struct rdp_row *row = &network->rows[i];
        if (row->conv == NULL)
            continue;
        void *copy = copy_size == 0 ? NULL : (char *)network->copies + row->offset * copy_size;
        RDP_TRY(device->ops->conv_weights(device, row->conv, network->parameters + row->offset, copy,
                                          network->config.training));
    }
    return RDP_OK;
}

/* How many convolutions sum the statistics of their batch-norms. */
static void add_fused(const struct rdp_network *network, char *text, size_t size)
{
    int all = 0, fused = 0;
    for (int i = 0; i < network->model->layer_count; i++) {
        const struct rdp_conv *conv = network->plan->convs[i];
        all += conv != NULL;
        fused += conv != NULL && conv->algorithms[RDP_CONV_STATISTICS] != NULL;
    }
    snprintf(text, size, "; %d of %d with batch-norm statistics", fused, all);
}

void rdp_network_algorithms(const struct rdp_network *network, char *text, size_t size)
{
    const char *names[16];
    int counts[16], kinds = 0;
    for (int i = 0; i < network->model->layer_count; i++)
        for (int pass = 0; network->plan->convs[i] != NULL && pass < RDP_CONV_ALGORITHMS; pass++) {
            const char *name = network->plan->convs[i]->algorithms[pass];
            int k = 0;
            while (name != NULL && k < kinds && strcmp(names[k], name) != 0)
                k++;
            if (name == NULL || k == 16)
                continue;
            if (k == kinds) {
                names[kinds] = name;
                counts[kinds++] = 0;
            }
            counts[k]++;
        }
    size_t used = 0;
    text[0] = '\0';
    for (int k = 0; k < kinds && used < size; k++)
        used += (size_t)snprintf(text + used, size - used, "%s%s x %d", k > 0 ? ", " : "", names[k], counts[k]);
    if (network->device->config.fuse_statistics != RDP_FUSE_NEVER && used < size)
        add_fused(network, text + used, size - used);
}
