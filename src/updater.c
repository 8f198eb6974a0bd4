/* The optimiser's arrays and its run; see updater.h. */
#include "updater.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/status.h"
#include "optimiser.h"

static int make_rows(struct rdp_updater *updater, const struct rdp_options *options)
{
    const struct rdp_network *network = updater->network;
    struct rdp_device *device = network->device;
    struct rdp_optimiser_rows rows;
    void *device_rows, *row_of;
    RDP_TRY(rdp_optimiser_rows(&rows, network, options));
    const size_t bytes = (size_t)rows.count * sizeof *rows.rows;
    const size_t of_bytes = network->parameter_count / RDP_ROW_BLOCK * sizeof *rows.row_of;
    int status = device->ops->alloc(device, &device_rows, bytes, "the optimiser's rows");
    if (status == RDP_OK) {
        updater->update.rows = device_rows;
        status = device->ops->upload(device, device_rows, rows.rows, bytes);
    }
    if (status == RDP_OK)
        status = device->ops->alloc(device, &row_of, of_bytes, "the optimiser's rows");
    if (status == RDP_OK) {
        updater->update.row_of = row_of;
        status = device->ops->upload(device, row_of, rows.row_of, of_bytes);
    }
    updater->update.row_count = rows.count;
    free(rows.rows);
    free(rows.row_of);
    RDP_TRY(status);
    return device->ops->alloc(device, (void **)&updater->update.workspace,
                              rdp_update_workspace(network->parameter_count, rows.count) * sizeof(double),
                              "the gradient's norms");
}

static int create(struct rdp_updater *updater, const struct rdp_options *options)
{
    struct rdp_network *network = updater->network;
    struct rdp_device *device = network->device;
    const size_t bytes = network->parameter_count * sizeof(float), state_bytes = network->state_count * sizeof(float);
    updater->optimiser = rdp_optimiser_of(options);
    updater->update.count = network->parameter_count;
    updater->update.parameters = network->parameters;
    updater->update.copies = network->copies;
    updater->update.gradients = network->gradients;
    RDP_TRY(make_rows(updater, options));
    rdp_optimiser_state_names(options, updater->state_names);
    for (int i = 0; i < RDP_OPTIMISER_ARRAYS; i++)
        if (updater->state_names[i] != NULL)
            RDP_TRY(device->ops->alloc(device, (void **)&updater->update.state[i], bytes, updater->state_names[i]));
    if (options->lookahead > 0)
        RDP_TRY(device->ops->alloc(device, (void **)&updater->slow, bytes, "lookahead's slow weights"));
    if (!rdp_optimiser_averages(options))
        return RDP_OK;
    RDP_TRY(device->ops->alloc(device, (void **)&updater->average, bytes, "averages of the weights"));
    RDP_TRY(device->ops->alloc(device, (void **)&updater->average_state, state_bytes, "averages of the statistics"));
    return device->ops->alloc(device, (void **)&updater->trained_state, state_bytes, "running statistics");
}

int rdp_updater_create(struct rdp_updater **updater, struct rdp_network *network, const struct rdp_options *options)
{
    RDP_TRY(rdp_calloc((void **)updater, 1, sizeof **updater, "the updater"));
    (*updater)->network = network;
    int status = create(*updater, options);
    if (status != RDP_OK) {
        rdp_updater_destroy(*updater);
        *updater = NULL;
    }
    return status;
}

void rdp_updater_destroy(struct rdp_updater *updater)
{
    if (updater == NULL)
        return;
    struct rdp_device *device = updater->network->device;
    for (int i = 0; i < RDP_OPTIMISER_ARRAYS; i++)
        device->ops->free(device, updater->update.state[i]);
    device->ops->free(device, (void *)updater->update.rows);
    device->ops->free(device, (void *)updater->update.row_of);
    device->ops->free(device, updater->update.workspace);
    device->ops->free(device, updater->average);
    device->ops->free(device, updater->average_state);
    device->ops->free(device, updater->slow);
    device->ops->free(device, updater->trained_state);
    free(updater);
}

static int copy_parameters(struct rdp_updater *updater, float *to, const float *from)
{
    struct rdp_device *device = updater->network->device;
    return device->ops->copy(device, to, from, updater->network->parameter_count * sizeof(float));
}

static int copy_state(struct rdp_updater *updater, float *to, const float *from)
{
    struct rdp_device *device = updater->network->device;
    return device->ops->copy(device, to, from, updater->network->state_count * sizeof(float));
}

int rdp_updater_begin(struct rdp_updater *updater)
{
    if (updater->slow != NULL)
        RDP_TRY(copy_parameters(updater, updater->slow, updater->network->parameters));
    if (updater->average == NULL)
        return RDP_OK;
    RDP_TRY(copy_parameters(updater, updater->average, updater->network->parameters));
    return copy_state(updater, updater->average_state, updater->network->state);
}

int rdp_updater_run(struct rdp_updater *updater)
{
    struct rdp_network *network = updater->network;
    struct rdp_device *device = network->device;
    const struct rdp_step_values *values = &network->inputs->values;
    RDP_TRY(device->ops->update(device, &updater->optimiser, values, &updater->update));
    if (updater->slow != NULL)
        RDP_TRY(device->ops->lookahead(device, values, updater->slow, network->parameters, network->copies,
                                       network->parameter_count));
    if (network->copies == NULL)
        RDP_TRY(rdp_network_weights_changed(network));
    if (updater->average == NULL)
        return RDP_OK;
    RDP_TRY(device->ops->average(device, values, updater->average, network->parameters, network->parameter_count));
    return device->ops->average(device, values, updater->average_state, network->state, network->state_count);
}

int rdp_updater_arrays(const struct rdp_updater *updater, struct rdp_updater_array arrays[RDP_UPDATER_ARRAYS_MAX])
{
    const struct rdp_updater_array others[] = {{"average", updater->average, false},
                                               {"average_state", updater->average_state, true},
                                               {"lookahead", updater->slow, false}};
    int count = 0;
    for (int i = 0; i < RDP_OPTIMISER_ARRAYS; i++)
        if (updater->update.state[i] != NULL)
            arrays[count++] = (struct rdp_updater_array){updater->state_names[i], updater->update.state[i], false};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        if (others[i].flat != NULL)
            arrays[count++] = others[i];
    return count;
}

int rdp_updater_show_averages(struct rdp_updater *updater)
{
    struct rdp_network *network = updater->network;
    RDP_TRY(copy_parameters(updater, network->gradients, network->parameters));
    RDP_TRY(copy_parameters(updater, network->parameters, updater->average));
    RDP_TRY(copy_state(updater, updater->trained_state, network->state));
    RDP_TRY(copy_state(updater, network->state, updater->average_state));
    return rdp_network_weights_changed(network);
}

int rdp_updater_hide_averages(struct rdp_updater *updater)
{
    struct rdp_network *network = updater->network;
    RDP_TRY(copy_parameters(updater, network->parameters, network->gradients));
    RDP_TRY(copy_state(updater, network->state, updater->trained_state));
    /* Backward overwrites all but a frozen row's, and what stays there is summed over ranks in every step. */
    RDP_TRY(network->device->ops->zero(network->device, network->gradients, network->parameter_count * sizeof(float)));
    return rdp_network_weights_changed(network);
}
