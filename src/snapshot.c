/* What a checkpoint of training holds; see snapshot.h. */
#include "snapshot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/durable.h"

enum { SNAPSHOT_VERSION = 2 };

static int checksum(struct rdp_network *network, int64_t *sum)
{
    float *host;
    size_t bytes = network->parameter_count * sizeof(float);
    RDP_TRY(rdp_calloc((void **)&host, network->parameter_count, sizeof(float), "a copy of the parameters"));
    int status = network->device->ops->download(network->device, host, network->parameters, bytes);
    *sum = (int64_t)rdp_crc32c(0, host, bytes);
    free(host);
    return status;
}

/* Data-parallel training stands on equal weights: a difference means a defect or a broken machine, and must not be
 * saved. Agreed. */
static int check_equal(struct rdp_network *network, struct rdp_comm *comm)
{
    int64_t sum[2];
    if (comm->size == 1)
        return RDP_OK;
    RDP_TRY(rdp_comm_agree(comm, checksum(network, sum), "reading the parameters"));
    sum[1] = -sum[0];
    RDP_TRY(comm->ops->allreduce_i64(comm, sum, 2, RDP_MAX, "comparison of the ranks' parameters"));
    int status = RDP_OK;
    if (sum[0] != -sum[1])
        status = rdp_fail(RDP_EINTERNAL,
                          "the ranks' parameters are no longer equal (CRC32C %08llx and %08llx): nothing is saved; "
                          "start again from the last checkpoint and suspect the hardware or network",
                          (long long)sum[0], (long long)-sum[1]);
    return rdp_comm_agree(comm, status, "comparing the ranks' parameters");
}

static int add_row(struct rdp_checkpoint *checkpoint, struct rdp_network *network, int row, const char *group,
                   const float *flat)
{
    const struct rdp_parameter *parameter = &network->model->parameters[row];
    float *data;
    RDP_TRY(
        rdp_checkpoint_add_array(checkpoint, group, parameter->name, parameter->dims_count, parameter->dims, &data));
    RDP_TRY(rdp_network_take(network, row, flat, data));
    for (int64_t i = 0; i < parameter->count; i++)
        if (!isfinite(data[i]))
            return rdp_fail(RDP_ENUMERIC,
                            "%s/%s holds %g: training has diverged and is not saved; go on from an earlier checkpoint "
                            "with a smaller --lr",
                            group, parameter->name, (double)data[i]);
    return RDP_OK;
}

static int add_arrays(struct rdp_checkpoint *checkpoint, struct rdp_network *network, const float *momentum)
{
    const struct rdp_model *model = network->model;
    for (int row = 0; row < model->parameter_count; row++) {
        bool trained = model->parameters[row].kind == RDP_PARAMETER_TRAINED;
        RDP_TRY(add_row(checkpoint, network, row, trained ? "parameters" : "state",
                        trained ? network->parameters : network->state));
        if (trained && momentum != NULL)
            RDP_TRY(add_row(checkpoint, network, row, "momentum", momentum));
    }
    return RDP_OK;
}

static int add_facts(struct rdp_checkpoint *checkpoint, const struct rdp_standing *standing,
                     const struct rdp_options *options, const struct rdp_dataset_info *info,
                     const struct rdp_comm *comm, const struct rdp_device *device)
{
    char *recipe, name[64];
    RDP_TRY(rdp_options_to_text(options, &recipe));
    int status = rdp_checkpoint_add_text(checkpoint, "recipe", recipe);
    free(recipe);
    RDP_TRY(status);
    RDP_TRY(rdp_checkpoint_add_text(checkpoint, "program", "resnet-dp " RDP_VERSION " (" RDP_GIT_ID ")"));
    RDP_TRY(rdp_checkpoint_add_text(checkpoint, "data_source", info->source));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "data_crc32c", info->content_crc32c));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "snapshot_version", SNAPSHOT_VERSION));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "ranks", comm->size));
    RDP_TRY(rdp_checkpoint_add_text(checkpoint, "device", device->ops->name));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "threads", device->config.threads));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "epoch", standing->epoch));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "step", standing->step));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "epoch_step", standing->epoch_step));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "correct", standing->correct));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "seen", standing->seen));
    RDP_TRY(rdp_checkpoint_add_real(checkpoint, "loss_sum", standing->loss_sum));
    RDP_TRY(rdp_checkpoint_add_real(checkpoint, "best", standing->best));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "stale", standing->stale));
    RDP_TRY(rdp_checkpoint_add_real(checkpoint, "plateau_factor", standing->plateau_factor));
    RDP_TRY(rdp_checkpoint_add_real(checkpoint, "plateau_best", standing->plateau_best));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "plateau_bad", standing->plateau_bad));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "plateau_cooldown", standing->plateau_cooldown));
    RDP_TRY(rdp_checkpoint_add_integer(checkpoint, "classes", info->classes));
    for (int c = 0; c < RDP_IMAGE_CHANNELS; c++) {
        snprintf(name, sizeof name, "mean_%d", c);
        RDP_TRY(rdp_checkpoint_add_real(checkpoint, name, (double)info->mean[c]));
        snprintf(name, sizeof name, "std_%d", c);
        RDP_TRY(rdp_checkpoint_add_real(checkpoint, name, (double)info->std[c]));
    }
    for (int k = 0; k < info->classes; k++) {
        snprintf(name, sizeof name, "class_%d", k);
        RDP_TRY(rdp_checkpoint_add_text(checkpoint, name, info->class_names[k]));
    }
    return RDP_OK;
}

/* With local batch-norm each rank has running statistics of its own. A resumed run needs them to go on bit for bit;
 * whoever evaluates needs their mean. The flat arrays of all ranks become one array; `state` gets the mean. */
static int gather_states(struct rdp_checkpoint *checkpoint, struct rdp_network *network, struct rdp_comm *comm,
                         float *own)
{
    size_t bytes = network->state_count * sizeof(float);
    float *all = NULL;
    int64_t dims[2] = {comm->size, (int64_t)network->state_count};
    RDP_TRY(network->device->ops->download(network->device, own, network->state, bytes));
    if (checkpoint != NULL)
        RDP_TRY(rdp_checkpoint_add_array(checkpoint, "rank_state", "flat", 2, dims, &all));
    RDP_TRY(comm->ops->gather(comm, own, bytes, all, 0, "running statistics"));
    if (checkpoint == NULL)
        return RDP_OK;
    for (int row = 0; row < network->model->parameter_count; row++) {
        const struct rdp_parameter *parameter = &network->model->parameters[row];
        if (parameter->kind != RDP_PARAMETER_STATE)
            continue;
        const struct rdp_checkpoint_array *array = rdp_checkpoint_array(checkpoint, "state", parameter->name);
        for (int64_t i = 0; i < parameter->count; i++) {
            double sum = 0;
            for (int r = 0; r < comm->size; r++)
                sum += (double)all[(size_t)r * network->state_count + network->rows[row].offset + (size_t)i];
            array->data[i] = (float)(sum / comm->size);
        }
    }
    return RDP_OK;
}

static int take(struct rdp_checkpoint **checkpoint, struct rdp_network *network, const float *momentum,
                const struct rdp_standing *standing, const struct rdp_options *options,
                const struct rdp_dataset_info *info, struct rdp_comm *comm)
{
    RDP_TRY(rdp_checkpoint_create(checkpoint));
    RDP_TRY(add_arrays(*checkpoint, network, momentum));
    return add_facts(*checkpoint, standing, options, info, comm, network->device);
}

int rdp_snapshot_take(struct rdp_checkpoint **checkpoint, struct rdp_network *network, const float *momentum,
                      const struct rdp_standing *standing, const struct rdp_options *options,
                      const struct rdp_dataset_info *info, struct rdp_comm *comm)
{
    *checkpoint = NULL;
    RDP_TRY(check_equal(network, comm));
    int status = comm->rank == 0 ? take(checkpoint, network, momentum, standing, options, info, comm) : RDP_OK;
    status = rdp_comm_agree(comm, status, "collecting the checkpoint");
    if (status == RDP_OK && comm->size > 1 && !network->config.sync_bn) {
        float *own;
        status = rdp_calloc((void **)&own, network->state_count, sizeof *own, "running statistics");
        if (status == RDP_OK)
            status = gather_states(*checkpoint, network, comm, own);
        free(own);
    }
    if (status != RDP_OK) {
        rdp_checkpoint_destroy(*checkpoint);
        *checkpoint = NULL;
    }
    return status;
}

static int restore_row(const struct rdp_checkpoint *checkpoint, struct rdp_network *network, int row, const char *group,
                       float *flat)
{
    const struct rdp_parameter *parameter = &network->model->parameters[row];
    const struct rdp_checkpoint_array *array = rdp_checkpoint_array(checkpoint, group, parameter->name);
    if (array == NULL)
        return rdp_fail(RDP_EUSAGE, "the checkpoint has no %s/%s: it belongs to another model or was not made by train",
                        group, parameter->name);
    bool fits = array->dims_count == parameter->dims_count;
    for (int i = 0; fits && i < array->dims_count; i++)
        fits = array->dims[i] == parameter->dims[i];
    if (!fits)
        return rdp_fail(
            RDP_EUSAGE,
            "the checkpoint's %s/%s has another shape than the model's: use the options it was trained with", group,
            parameter->name);
    return rdp_network_put(network, row, array->data, flat);
}

static int restore_standing(const struct rdp_checkpoint *checkpoint, struct rdp_standing *standing)
{
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "epoch", &standing->epoch));
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "step", &standing->step));
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "epoch_step", &standing->epoch_step));
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "correct", &standing->correct));
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "seen", &standing->seen));
    RDP_TRY(rdp_checkpoint_real(checkpoint, "loss_sum", &standing->loss_sum));
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "stale", &standing->stale));
    RDP_TRY(rdp_checkpoint_real(checkpoint, "plateau_factor", &standing->plateau_factor));
    RDP_TRY(rdp_checkpoint_real(checkpoint, "plateau_best", &standing->plateau_best));
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "plateau_bad", &standing->plateau_bad));
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "plateau_cooldown", &standing->plateau_cooldown));
    return rdp_checkpoint_real(checkpoint, "best", &standing->best);
}

int rdp_snapshot_restore(const struct rdp_checkpoint *checkpoint, struct rdp_network *network, float *momentum,
                         struct rdp_standing *standing, const struct rdp_comm *comm)
{
    const struct rdp_model *model = network->model;
    for (int row = 0; row < model->parameter_count; row++) {
        bool trained = model->parameters[row].kind == RDP_PARAMETER_TRAINED;
        RDP_TRY(restore_row(checkpoint, network, row, trained ? "parameters" : "state",
                            trained ? network->parameters : network->state));
        if (trained && momentum != NULL)
            RDP_TRY(restore_row(checkpoint, network, row, "momentum", momentum));
    }
    const struct rdp_checkpoint_array *states = rdp_checkpoint_array(checkpoint, "rank_state", "flat");
    if (momentum != NULL && states != NULL && states->dims_count == 2 && states->dims[0] == comm->size &&
        states->dims[1] == (int64_t)network->state_count)
        RDP_TRY(network->device->ops->upload(network->device, network->state,
                                             states->data + (size_t)comm->rank * network->state_count,
                                             network->state_count * sizeof(float)));
    if (standing != NULL)
        RDP_TRY(restore_standing(checkpoint, standing));
    return rdp_network_weights_changed(network);
}

int rdp_snapshot_options(const struct rdp_checkpoint *checkpoint, struct rdp_options *options)
{
    const char *recipe = rdp_checkpoint_text(checkpoint, "recipe");
    if (recipe == NULL)
        return rdp_fail(RDP_EUSAGE, "the checkpoint holds no recipe: it was not made by train");
    rdp_options_default(options);
    return rdp_options_read_text(options, recipe, "the checkpoint's recipe");
}

int rdp_snapshot_data(const struct rdp_checkpoint *checkpoint, struct rdp_dataset_info *info)
{
    char name[64];
    int64_t classes;
    memset(info, 0, sizeof *info);
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "classes", &classes));
    if (classes < 1 || classes > RDP_CLASSES_MAX)
        return rdp_fail(RDP_EUSAGE, "the checkpoint says it has %lld classes: valid are 1 to %d", (long long)classes,
                        RDP_CLASSES_MAX);
    info->classes = (int)classes;
    for (int c = 0; c < RDP_IMAGE_CHANNELS; c++) {
        double mean, std;
        snprintf(name, sizeof name, "mean_%d", c);
        RDP_TRY(rdp_checkpoint_real(checkpoint, name, &mean));
        snprintf(name, sizeof name, "std_%d", c);
        RDP_TRY(rdp_checkpoint_real(checkpoint, name, &std));
        info->mean[c] = (float)mean;
        info->std[c] = (float)std;
    }
    for (int k = 0; k < info->classes; k++) {
        snprintf(name, sizeof name, "class_%d", k);
        const char *text = rdp_checkpoint_text(checkpoint, name);
        if (text == NULL)
            return rdp_fail(RDP_EUSAGE, "the checkpoint does not name class %d", k);
        snprintf(info->class_names[k], sizeof info->class_names[k], "%s", text);
    }
    const char *source = rdp_checkpoint_text(checkpoint, "data_source");
    snprintf(info->source, sizeof info->source, "%s", source == NULL ? "" : source);
    return RDP_OK;
}
