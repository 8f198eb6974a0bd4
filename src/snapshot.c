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

/* Everything that a snapshot has an array for: the network's two and the updater's. */
enum { ARRAYS_MAX = RDP_UPDATER_ARRAYS_MAX + 2 };
static int all_arrays(const struct rdp_updater *updater, struct rdp_updater_array arrays[ARRAYS_MAX])
{
    const struct rdp_network *network = updater->network;
    arrays[0] = (struct rdp_updater_array){"parameters", network->parameters, false};
    arrays[1] = (struct rdp_updater_array){"state", network->state, true};
    return 2 + rdp_updater_arrays(updater, arrays + 2);
}

static int checksum(struct rdp_network *network, const float *flat, int64_t *sum)
{
    float *host;
    size_t bytes = network->parameter_count * sizeof(float);
    RDP_TRY(rdp_calloc((void **)&host, network->parameter_count, sizeof(float), "a copy of the parameters"));
    int status = network->device->ops->download(network->device, host, flat, bytes);
    *sum = (int64_t)rdp_crc32c(0, host, bytes);
    free(host);
    return status;
}

/* Data-parallel training stands on equal weights: a difference means a defect or a broken machine, and must not be
 * saved. Agreed. */
static int check_equal(const struct rdp_updater *updater, struct rdp_comm *comm)
{
    struct rdp_updater_array arrays[ARRAYS_MAX];
    const int count = all_arrays(updater, arrays);
    int64_t sums[2 * ARRAYS_MAX] = {0};
    int status = RDP_OK;
    if (comm->size == 1)
        return RDP_OK;
    for (int i = 0; i < count && status == RDP_OK; i++) {
        if (!arrays[i].of_state)
            status = checksum(updater->network, arrays[i].flat, &sums[2 * i]);
        sums[2 * i + 1] = -sums[2 * i];
    }
    RDP_TRY(rdp_comm_agree(comm, status, "reading the parameters"));
    RDP_TRY(comm->ops->allreduce_i64(comm, sums, 2 * (size_t)count, RDP_MAX, "comparison of the ranks' parameters"));
    for (int i = 0; i < count && status == RDP_OK; i++)
        if (sums[2 * i] != -sums[2 * i + 1])
            status = rdp_fail(RDP_EINTERNAL,
                              "the ranks' arrays of %s are no longer equal (CRC32C %08llx and %08llx): nothing is "
                              "saved; start again from the last checkpoint and suspect the hardware or network",
                              arrays[i].group, (long long)sums[2 * i], (long long)-sums[2 * i + 1]);
    return rdp_comm_agree(comm, status, "comparing the ranks' parameters");
}

/* Whether row `row` of the model's table belongs into the array. */
static bool holds(const struct rdp_updater_array *array, const struct rdp_network *network, int row)
{
    return array->of_state == (network->model->parameters[row].kind == RDP_PARAMETER_STATE);
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

static int add_arrays(struct rdp_checkpoint *checkpoint, const struct rdp_updater *updater)
{
    struct rdp_updater_array arrays[ARRAYS_MAX];
    const int count = all_arrays(updater, arrays);
    for (int row = 0; row < updater->network->model->parameter_count; row++)
        for (int i = 0; i < count; i++)
            if (holds(&arrays[i], updater->network, row))
                RDP_TRY(add_row(checkpoint, updater->network, row, arrays[i].group, arrays[i].flat));
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
    RDP_TRY(rdp_checkpoint_add_text(checkpoint, "device", device->rounding));
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

/* The group that holds an array's values of every rank. */
static const char *rank_group(const struct rdp_updater_array *array, char name[64])
{
    snprintf(name, 64, "rank_%s", array->group);
    return name;
}

/* With local batch-norm each rank has running statistics of its own. A resumed run needs them to go on bit for bit;
 * whoever evaluates needs their mean. The flat arrays of all ranks become one array; the rows get the mean. */
static int gather_states(struct rdp_checkpoint *checkpoint, struct rdp_network *network,
                         const struct rdp_updater_array *state, struct rdp_comm *comm, float *own)
{
    size_t bytes = network->state_count * sizeof(float);
    float *all = NULL;
    char group[64];
    int64_t dims[2] = {comm->size, (int64_t)network->state_count};
    RDP_TRY(network->device->ops->download(network->device, own, state->flat, bytes));
    if (checkpoint != NULL)
        RDP_TRY(rdp_checkpoint_add_array(checkpoint, rank_group(state, group), "flat", 2, dims, &all));
    RDP_TRY(comm->ops->gather(comm, own, bytes, all, 0, "running statistics"));
    if (checkpoint == NULL)
        return RDP_OK;
    for (int row = 0; row < network->model->parameter_count; row++) {
        const struct rdp_parameter *parameter = &network->model->parameters[row];
        if (!holds(state, network, row))
            continue;
        const struct rdp_checkpoint_array *array = rdp_checkpoint_array(checkpoint, state->group, parameter->name);
        for (int64_t i = 0; i < parameter->count; i++) {
            double sum = 0;
            for (int r = 0; r < comm->size; r++)
                sum += (double)all[(size_t)r * network->state_count + network->rows[row].offset + (size_t)i];
            array->data[i] = (float)(sum / comm->size);
        }
    }
    return RDP_OK;
}

static int gather_all_states(struct rdp_checkpoint *checkpoint, const struct rdp_updater *updater,
                             struct rdp_comm *comm)
{
    struct rdp_updater_array arrays[ARRAYS_MAX];
    const int count = all_arrays(updater, arrays);
    float *own;
    int status = rdp_calloc((void **)&own, updater->network->state_count, sizeof *own, "running statistics");
    for (int i = 0; i < count && status == RDP_OK; i++)
        if (arrays[i].of_state)
            status = gather_states(checkpoint, updater->network, &arrays[i], comm, own);
    free(own);
    return status;
}

static int take(struct rdp_checkpoint **checkpoint, const struct rdp_updater *updater,
                const struct rdp_standing *standing, const struct rdp_options *options,
                const struct rdp_dataset_info *info, struct rdp_comm *comm)
{
    RDP_TRY(rdp_checkpoint_create(checkpoint));
    RDP_TRY(add_arrays(*checkpoint, updater));
    return add_facts(*checkpoint, standing, options, info, comm, updater->network->device);
}

int rdp_snapshot_take(struct rdp_checkpoint **checkpoint, const struct rdp_updater *updater,
                      const struct rdp_standing *standing, const struct rdp_options *options,
                      const struct rdp_dataset_info *info, struct rdp_comm *comm)
{
    *checkpoint = NULL;
    RDP_TRY(check_equal(updater, comm));
    int status = comm->rank == 0 ? take(checkpoint, updater, standing, options, info, comm) : RDP_OK;
    status = rdp_comm_agree(comm, status, "collecting the checkpoint");
    if (status == RDP_OK && comm->size > 1 && !updater->network->config.sync_bn)
        status = gather_all_states(*checkpoint, updater, comm);
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

/* The rows of an array from the group `group`. */
static int restore_array(const struct rdp_checkpoint *checkpoint, struct rdp_network *network,
                         const struct rdp_updater_array *array, const char *group)
{
    for (int row = 0; row < network->model->parameter_count; row++)
        if (holds(array, network, row))
            RDP_TRY(restore_row(checkpoint, network, row, group, array->flat));
    return RDP_OK;
}

/* This rank's own values, if the checkpoint has those of as many ranks as there are. */
static int restore_own(const struct rdp_checkpoint *checkpoint, struct rdp_network *network,
                       const struct rdp_updater_array *array, const struct rdp_comm *comm)
{
    char group[64];
    const struct rdp_checkpoint_array *all = rdp_checkpoint_array(checkpoint, rank_group(array, group), "flat");
    if (all == NULL || all->dims_count != 2 || all->dims[0] != comm->size ||
        all->dims[1] != (int64_t)network->state_count)
        return RDP_OK;
    return network->device->ops->upload(network->device, array->flat,
                                        all->data + (size_t)comm->rank * network->state_count,
                                        network->state_count * sizeof(float));
}

int rdp_snapshot_restore(const struct rdp_checkpoint *checkpoint, struct rdp_updater *updater,
                         struct rdp_standing *standing, const struct rdp_comm *comm)
{
    struct rdp_updater_array arrays[ARRAYS_MAX];
    const int count = all_arrays(updater, arrays);
    for (int i = 0; i < count; i++) {
        RDP_TRY(restore_array(checkpoint, updater->network, &arrays[i], arrays[i].group));
        if (arrays[i].of_state)
            RDP_TRY(restore_own(checkpoint, updater->network, &arrays[i], comm));
    }
    RDP_TRY(restore_standing(checkpoint, standing));
    return rdp_network_weights_changed(updater->network);
}

int rdp_snapshot_weights(const struct rdp_checkpoint *checkpoint, struct rdp_network *network, bool averages)
{
    const struct rdp_updater_array parameters = {"parameters", network->parameters, false};
    const struct rdp_updater_array state = {"state", network->state, true};
    if (averages && rdp_checkpoint_array(checkpoint, "average", network->model->parameters[0].name) == NULL)
        return rdp_fail(RDP_EUSAGE, "the checkpoint holds no averaged weights, as runs with --ema or --optimizer asgd "
                                    "keep them: take --evaluate-weights trained");
    RDP_TRY(restore_array(checkpoint, network, &parameters, averages ? "average" : parameters.group));
    RDP_TRY(restore_array(checkpoint, network, &state, averages ? "average_state" : state.group));
    return rdp_network_weights_changed(network);
}

int rdp_snapshot_options(const struct rdp_checkpoint *checkpoint, struct rdp_options *options)
{
    const char *recipe = rdp_checkpoint_text(checkpoint, "recipe");
    const char *program = rdp_checkpoint_text(checkpoint, "program");
    int64_t version;
    if (recipe == NULL)
        return rdp_fail(RDP_EUSAGE, "the checkpoint holds no recipe: it was not made by train");
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "snapshot_version", &version));
    if (version != SNAPSHOT_VERSION)
        return rdp_fail(RDP_EUSAGE,
                        "the checkpoint is of version %lld, and this program reads version %d: use the program that "
                        "made it, %s",
                        (long long)version, SNAPSHOT_VERSION, program == NULL ? "another resnet-dp" : program);
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
