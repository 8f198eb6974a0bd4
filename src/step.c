/* The training step; see step.h. */
#include "step.h"

#include <math.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/watchdog.h"

/* The step's stamps, behind the network's. */
enum { STAMP_BACKWARD = RDP_STAMPS - 3, STAMP_REDUCED, STAMP_UPDATED };

static int create(struct rdp_step *step)
{
    struct rdp_network *network = step->network;
    struct rdp_device *device = network->device;
    size_t bytes = network->parameter_count * sizeof(float);
    RDP_TRY(rdp_updater_create(&step->updater, network, step->options));
    RDP_TRY(device->ops->alloc(device, (void **)&step->history, RDP_STEPS_AHEAD_MAX * RDP_TOTALS * sizeof(float),
                               "the steps' totals"));
    if (step->options->accumulate > 1)
        RDP_TRY(device->ops->alloc(device, (void **)&step->accumulated, bytes, "accumulated gradients"));
    return rdp_buckets_create(&step->buckets, step->reducer, network->gradients, network->parameter_count + RDP_TOTALS,
                              network->boundaries, network->boundary_count,
                              (size_t)(step->options->bucket_mb * 1024 * 1024), step->options->overlap);
}

int rdp_step_create(struct rdp_step **step, struct rdp_network *network, struct rdp_reducer *reducer,
                    const struct rdp_options *options)
{
    RDP_TRY(rdp_calloc((void **)step, 1, sizeof **step, "the training step"));
    (*step)->network = network;
    (*step)->reducer = reducer;
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
    if (device->ops->recording_destroy != NULL)
        device->ops->recording_destroy(device, step->recording);
    rdp_updater_destroy(step->updater);
    device->ops->free(device, step->accumulated);
    device->ops->free(device, step->history);
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
        float *sum = step->accumulated + step->ready, *own = gradients + step->ready;
        RDP_TRY(step->last_micro ? device->ops->add(device, own, sum, end - step->ready)
                                 : device->ops->add(device, sum, own, end - step->ready));
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

static int run_micro_batch(struct rdp_step *step, int micro)
{
    step->last_micro = micro == step->options->accumulate - 1;
    step->ready = 0;
    /* The gradient of the global batch's mean loss: summing over micro-batches and ranks then needs no further factor.
     */
    const float scale = 1.0f / (float)step->options->batch;
    RDP_TRY(rdp_network_forward(step->network, micro, true, scale, tick, step));
    return rdp_network_backward(step->network, ready, tick, step);
}

static int stamp(const struct rdp_step *step, int i)
{
    struct rdp_device *device = step->network->device;
    return step->timed ? device->ops->stamp(device, i) : RDP_OK;
}

/* Everything of a step that the device does, from its inputs to its totals. */
static int run(struct rdp_step *step)
{
    struct rdp_device *device = step->network->device;
    RDP_TRY(rdp_network_begin_totals(step->network));
    RDP_TRY(clear_accumulated(step));
    rdp_buckets_begin_step(step->buckets);
    for (int micro = 0; micro < step->options->accumulate; micro++)
        RDP_TRY(run_micro_batch(step, micro));
    RDP_TRY(stamp(step, STAMP_BACKWARD));
    rdp_device_range_push(device, "all-reduce");
    double exposed = 0;
    RDP_TRY(rdp_buckets_finish(step->buckets, &exposed));
    rdp_device_range_pop(device);
    RDP_TRY(stamp(step, STAMP_REDUCED));
    rdp_device_range_push(device, "optimiser");
    const double begin = rdp_now();
    RDP_TRY(rdp_updater_run(step->updater));
    rdp_device_range_pop(device);
    RDP_TRY(stamp(step, STAMP_UPDATED));
    if (!step->timed) {
        step->exposed_seconds += exposed;
        step->optimizer_seconds += rdp_now() - begin;
        return RDP_OK;
    }
    double optimizer;
    RDP_TRY(device->ops->stamp_seconds(device, STAMP_BACKWARD, STAMP_REDUCED, &exposed));
    RDP_TRY(device->ops->stamp_seconds(device, STAMP_REDUCED, STAMP_UPDATED, &optimizer));
    step->exposed_seconds += exposed;
    step->optimizer_seconds += optimizer;
    return RDP_OK;
}

/* bench's step for one rank alone has a reducer of its own, its network that of all ranks. */
static bool records(const struct rdp_step *step)
{
    const struct rdp_network_config *config = &step->network->config;
    return step->options->graph && !step->timed && step->network->device->ops->record_begin != NULL &&
           step->reducer->ops->recordable && (!config->sync_bn || config->reducer->ops->recordable);
}

static int record(struct rdp_step *step)
{
    struct rdp_device *device = step->network->device;
    RDP_TRY(device->ops->record_begin(device));
    int status = run(step);
    if (status == RDP_OK)
        return device->ops->record_end(device, &step->recording);
    device->ops->record_end(device, NULL);
    return status;
}

static int run_or_replay(struct rdp_step *step)
{
    struct rdp_device *device = step->network->device;
    if (step->warm < RDP_WARM_STEPS || !records(step)) {
        step->warm++;
        return run(step);
    }
    if (step->recording == NULL)
        RDP_TRY(record(step));
    return device->ops->replay(device, step->recording);
}

int rdp_step_start(struct rdp_step *step, const struct rdp_slice *slice, const struct rdp_augment *augment,
                   const struct rdp_step_values *values, bool stop, bool save)
{
    struct rdp_network *network = step->network;
    struct rdp_device *device = network->device;
    const struct rdp_inputs inputs = {.values = *values, .totals = {[RDP_TOTAL_STOP] = stop, [RDP_TOTAL_SAVE] = save}};
    const struct rdp_batch batch = {.images = slice->images,
                                    .rows = slice->rows,
                                    .samples = slice->samples,
                                    .labels = slice->labels,
                                    .count = slice->count,
                                    .valid = network->config.batch,
                                    .augment = *augment};
    if (slice->count != network->config.batch * step->options->accumulate || step->started == RDP_STEPS_AHEAD_MAX)
        return rdp_fail(RDP_EINTERNAL, "a step got %d samples for %d micro-batches of %d, after %d others",
                        slice->count, step->options->accumulate, network->config.batch, step->started);
    rdp_device_range_push(device, "step");
    int status = rdp_network_load(network, &batch, &inputs);
    if (status == RDP_OK)
        status = run_or_replay(step);
    if (status == RDP_OK)
        status = device->ops->copy(device, step->history + (size_t)step->started++ * RDP_TOTALS, network->totals,
                                   RDP_TOTALS * sizeof(float));
    rdp_device_range_pop(device);
    return status;
}

static int idle(void *context, bool *idle)
{
    struct rdp_device *device = context;
    return device->ops->idle(device, idle);
}

int rdp_step_collect(struct rdp_step *step, struct rdp_step_result results[RDP_STEPS_AHEAD_MAX], int *count)
{
    struct rdp_device *device = step->network->device;
    float totals[RDP_STEPS_AHEAD_MAX][RDP_TOTALS];
    const int started = step->started;
    *count = 0;
    /* Polls rather than blocks: what the device waits for may be a rank that is gone. */
    RDP_TRY(rdp_reducer_wait_device(step->reducer, idle, device, "the device's steps"));
    RDP_TRY(device->ops->download(device, totals, step->history, (size_t)started * sizeof totals[0]));
    step->started = 0;
    for (int i = 0; i < started; i++) {
        results[i] = (struct rdp_step_result){totals[i][RDP_TOTAL_LOSS], (int64_t)totals[i][RDP_TOTAL_CORRECT],
                                              totals[i][RDP_TOTAL_STOP] > 0, totals[i][RDP_TOTAL_SAVE] > 0};
        if (!isfinite(results[i].loss_sum))
            return rdp_fail(RDP_ENUMERIC,
                            "the loss is %g: training has diverged; use a smaller --lr (it is %g) or --warmup-epochs",
                            results[i].loss_sum / step->options->batch, step->options->lr);
        *count = i + 1;
    }
    return RDP_OK;
}
