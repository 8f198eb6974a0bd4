/* The training step; see step.h. */
#include "step.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "comm/watchdog.h"

static int compare_ranges(const void *a, const void *b)
{
    const struct range *left = a, *right = b;
    return (left->begin > right->begin) - (left->begin < right->begin);
}

/* Neighbours with the same decay become one range; gaps between rows are zeros, which the update keeps zero. */
static int make_ranges(struct rdp_step *step)
{
    const struct rdp_network *network = step->network;
    const struct rdp_model *model = network->model;
    int rows = 0;
    RDP_TRY(rdp_calloc((void **)&step->ranges, (size_t)model->parameter_count, sizeof *step->ranges,
                       "the optimiser's ranges"));
    for (int i = 0; i < model->parameter_count; i++)
        if (model->parameters[i].kind == RDP_PARAMETER_TRAINED)
            step->ranges[rows++] =
                (struct range){network->rows[i].offset, network->rows[i].offset + network->rows[i].stored_count,
                               model->parameters[i].decays};
    qsort(step->ranges, (size_t)rows, sizeof *step->ranges, compare_ranges);
    for (int i = 0; i < rows; i++) {
        if (step->range_count > 0 && step->ranges[step->range_count - 1].decays == step->ranges[i].decays)
            step->ranges[step->range_count - 1].end = step->ranges[i].end;
        else
            step->ranges[step->range_count++] = step->ranges[i];
    }
    return RDP_OK;
}

static int create(struct rdp_step *step)
{
    struct rdp_network *network = step->network;
    struct rdp_device *device = network->device;
    size_t bytes = network->parameter_count * sizeof(float);
    RDP_TRY(make_ranges(step));
    RDP_TRY(device->ops->alloc(device, (void **)&step->momentum, bytes, "momentum"));
    if (step->options->accumulate > 1)
        RDP_TRY(device->ops->alloc(device, (void **)&step->accumulated, bytes, "accumulated gradients"));
    return rdp_buckets_create(&step->buckets, step->comm, network->gradients, network->parameter_count + RDP_TOTALS,
                              network->boundaries, network->boundary_count,
                              (size_t)(step->options->bucket_mb * 1024 * 1024), step->options->overlap);
}

int rdp_step_create(struct rdp_step **step, struct rdp_network *network, struct rdp_comm *comm,
                    const struct rdp_options *options)
{
    RDP_TRY(rdp_calloc((void **)step, 1, sizeof **step, "the training step"));
    (*step)->network = network;
    (*step)->comm = comm;
    (*step)->options = options;
    int status = create(*step);
    if (status != RDP_OK) {
        rdp_step_destroy(*step);
        *step = NULL;
    }
    return status;
}

void rdp_step_destroy(struct rdp_step *step)
{
    if (step == NULL)
        return;
    struct rdp_device *device = step->network->device;
    rdp_buckets_destroy(step->buckets);
    device->ops->free(device, step->momentum);
    device->ops->free(device, step->accumulated);
    free(step->ranges);
    free(step);
}

static int tick(void *context)
{
    struct rdp_step *step = context;
    rdp_watchdog_tick();
    return step->last_micro ? rdp_buckets_progress(step->buckets) : RDP_OK;
}

/* Gradients [0, watermark) of this micro-batch are final: add them to the others' or send them on their way. */
static int ready(void *context, size_t watermark)
{
    struct rdp_step *step = context;
    const size_t end = watermark < step->network->parameter_count ? watermark : step->network->parameter_count;
    float *gradients = step->network->gradients;
    struct rdp_device *device = step->network->device;
    if (step->accumulated != NULL && end > step->ready) {
        if (step->last_micro)
            RDP_TRY(
                device->ops->add(device, gradients + step->ready, step->accumulated + step->ready, end - step->ready));
        else
            RDP_TRY(
                device->ops->add(device, step->accumulated + step->ready, gradients + step->ready, end - step->ready));
    }
    step->ready = end;
    return step->last_micro ? rdp_buckets_ready(step->buckets, watermark) : RDP_OK;
}

static int clear_accumulated(struct rdp_step *step)
{
    struct rdp_device *device = step->network->device;
    return step->accumulated == NULL
               ? RDP_OK
               : device->ops->zero(device, step->accumulated, step->network->parameter_count * sizeof(float));
}

static int run_micro_batch(struct rdp_step *step, const struct rdp_slice *slice, const struct rdp_augment *augment,
                           int micro)
{
    const int count = step->network->config.batch;
    const int64_t first = (int64_t)micro * count;
    const struct rdp_batch batch = {.images = slice->images,
                                    .rows = slice->rows + first,
                                    .samples = slice->samples + first,
                                    .labels = slice->labels + first,
                                    .valid = count,
                                    .augment = *augment};
    step->last_micro = micro == step->options->accumulate - 1;
    step->ready = 0;
    /* The gradient of the global batch's mean loss: summing over micro-batches and ranks then needs no further factor.
     */
    const float scale = 1.0f / (float)step->options->batch;
    RDP_TRY(rdp_network_forward(step->network, &batch, true, scale, tick, step));
    return rdp_network_backward(step->network, ready, tick, step);
}

static int update(struct rdp_step *step, double lr)
{
    struct rdp_network *network = step->network;
    struct rdp_device *device = network->device;
    const struct rdp_options *options = step->options;
    const double begin = rdp_now();
    for (int i = 0; i < step->range_count; i++) {
        const struct range *range = &step->ranges[i];
        struct rdp_sgd sgd = {.lr = (float)lr,
                              .momentum = (float)options->momentum,
                              .nesterov = options->nesterov,
                              .weight_decay = range->decays ? (float)options->weight_decay : 0};
        RDP_TRY(device->ops->sgd(device, &sgd, network->parameters + range->begin, network->gradients + range->begin,
                                 step->momentum + range->begin, range->end - range->begin));
    }
    RDP_TRY(rdp_network_weights_changed(network));
    step->optimizer_seconds += rdp_now() - begin;
    return RDP_OK;
}

int rdp_step_run(struct rdp_step *step, const struct rdp_slice *slice, const struct rdp_augment *augment, double lr,
                 bool stop, bool save, struct rdp_step_result *result)
{
    struct rdp_network *network = step->network;
    struct rdp_device *device = network->device;
    float totals[RDP_TOTALS] = {[RDP_TOTAL_STOP] = stop, [RDP_TOTAL_SAVE] = save};
    if (slice->count != network->config.batch * step->options->accumulate)
        return rdp_fail(RDP_EINTERNAL, "a step got %d samples for %d micro-batches of %d", slice->count,
                        step->options->accumulate, network->config.batch);
    RDP_TRY(device->ops->upload(device, network->totals, totals, sizeof totals));
    RDP_TRY(clear_accumulated(step));
    rdp_buckets_begin_step(step->buckets);
    for (int micro = 0; micro < step->options->accumulate; micro++)
        RDP_TRY(run_micro_batch(step, slice, augment, micro));
    RDP_TRY(rdp_buckets_finish(step->buckets, &step->exposed_seconds));
    RDP_TRY(device->ops->download(device, totals, network->totals, sizeof totals));
    *result = (struct rdp_step_result){totals[RDP_TOTAL_LOSS], (int64_t)totals[RDP_TOTAL_CORRECT],
                                       totals[RDP_TOTAL_STOP] > 0, totals[RDP_TOTAL_SAVE] > 0};
    if (!isfinite(result->loss_sum))
        return rdp_fail(RDP_ENUMERIC,
                        "the loss is %g: training has diverged; use a smaller --lr (it is %g) or --warmup-epochs",
                        result->loss_sum / step->options->batch, lr);
    return update(step, lr);
}
