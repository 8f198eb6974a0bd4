/* Measures what bench.h says. All ranks walk through the same steps together; a rank alone has a world of one. */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "bench.h"
#include "comm/watchdog.h"
#include "io/dataset.h"
#include "kernels/common/random.h"
#include "mixing.h"
#include "optimiser.h"

enum { WARM_UP_STEPS = RDP_WARM_STEPS + 1 /* the last one is recorded */, IMAGES_LEAST = 1024 };

/*
 * Setting up.
 */

static int check_batch(const struct rdp_options *options, int ranks)
{
    if (options->batch % (ranks * options->accumulate) != 0)
        return rdp_fail(RDP_EUSAGE,
                        "--batch %d is not a multiple of %d rank%s x --accumulate %d: every rank takes the same part "
                        "of every step; use a batch that is",
                        options->batch, ranks, ranks == 1 ? "" : "s", options->accumulate);
    return RDP_OK;
}

/* Random pixels, labels and order: no data file is needed, and convolutions do not care. */
static int make_images(struct rdp_bench *bench)
{
    const int64_t slice = (int64_t)bench->local_batch * bench->options->accumulate;
    const uint64_t seed = (uint64_t)bench->options->seed;
    struct rdp_device *device = bench->session->device;
    uint8_t *pixels;
    bench->image_count = slice * ((IMAGES_LEAST + slice - 1) / slice);
    const size_t count = (size_t)bench->image_count, bytes = count * RDP_IMAGE_BYTES;
    RDP_TRY(rdp_calloc((void **)&bench->rows, count, sizeof *bench->rows, "row numbers"));
    RDP_TRY(rdp_calloc((void **)&bench->labels, count, sizeof *bench->labels, "labels"));
    RDP_TRY(device->ops->alloc(device, &bench->images, bytes, "random images"));
    RDP_TRY(rdp_calloc((void **)&pixels, count, RDP_IMAGE_BYTES, "random images"));
    for (size_t i = 0; i < bytes; i += sizeof(struct rdp_random)) {
        struct rdp_random random = rdp_random_at(seed, RDP_RANDOM_DEAL, (uint32_t)bench->session->comm->rank, i);
        memcpy(pixels + i, &random, sizeof random); /* RDP_IMAGE_BYTES is a multiple of 16 */
    }
    for (size_t i = 0; i < count; i++) {
        struct rdp_random random = rdp_random_at(seed, RDP_RANDOM_ORDER, (uint32_t)bench->session->comm->rank, i);
        bench->rows[i] = rdp_random_below(random.word[0], (uint32_t)count);
        bench->labels[i] = (uint8_t)rdp_random_below(random.word[1], (uint32_t)bench->model->classes);
    }
    int status = device->ops->upload(device, bench->images, pixels, bytes);
    free(pixels);
    return status;
}

/* That of the steps: collective, agreed. */
static int make_network(const struct rdp_bench *bench, struct rdp_network **network, struct rdp_device *device,
                        bool whole)
{
    const struct rdp_options *options = bench->options;
    /* The roofs do no batch-norm that would have to meet other ranks. */
    const bool steps = network == &bench->network;
    const struct rdp_network_config config = {.batch = bench->local_batch,
                                              .micro_batches = options->accumulate,
                                              .training = true,
                                              .whole_batch_chunks = whole,
                                              .label_smoothing = options->label_smoothing,
                                              .mixing = rdp_mixing_asked(options),
                                              .seed = (uint64_t)options->seed,
                                              .reducer = steps ? bench->session->reducer : NULL,
                                              .sync_bn = steps && options->sync_bn && bench->session->comm->size > 1};
    return rdp_network_create(network, bench->model, device, &config);
}

static int make_model(struct rdp_bench *bench)
{
    static const float mean[3] = {0.5f, 0.5f, 0.5f}, std[3] = {0.25f, 0.25f, 0.25f}; /* of random pixels, about */
    const struct rdp_options *options = bench->options;
    for (int kind = 0; kind < RDP_BENCH_KINDS; kind++)
        RDP_TRY(rdp_calloc((void **)&bench->series[kind].rates, (size_t)options->repeats, sizeof(double), "rates"));
    bench->augment = rdp_session_augment(options, mean, std);
    return rdp_model_create(&bench->model, options, 10);
}

static int make_step_of(struct rdp_bench *bench, enum rdp_bench_kind kind, struct rdp_reducer *reducer,
                        const struct rdp_options *options)
{
    struct rdp_bench_series *series = &bench->series[kind];
    series->measured = true;
    RDP_TRY(rdp_step_create(&series->step, bench->network, reducer, options));
    return rdp_updater_begin(series->step->updater);
}

static int make_step(struct rdp_bench *bench)
{
    const struct rdp_options *options = bench->options;
    RDP_TRY(rdp_network_initialise(bench->network, (uint64_t)options->seed));
    RDP_TRY(make_images(bench));
    rdp_network_algorithms(bench->network, bench->algorithms, sizeof bench->algorithms);
    return make_step_of(bench, RDP_BENCH_STEP, bench->session->reducer, options);
}

/* The slowest GPU sets the pace, as all ranks take the same part of a step. Collective, whatever device each has. */
static int find_roof(struct rdp_bench *bench)
{
    struct rdp_session *session = bench->session;
    struct rdp_comm *comm = session->comm;
    const struct rdp_device_config *config = &session->device->config;
    int status = RDP_OK;
    if (!session->device->ops->host_memory)
        status = rdp_cuda_device_identify(config->index, &bench->gpu);
    RDP_TRY(rdp_comm_agree(comm, status, "identifying the GPUs"));
    bench->peaks = rdp_gpu_peaks_of(bench->gpu.name);
    bench->roof = rdp_roof_of_step(bench->model, bench->local_batch * bench->options->accumulate, config->precision,
                                   bench->peaks);
    double slowest = bench->peaks == NULL ? 0 : bench->roof.images_per_second;
    RDP_TRY(comm->ops->allreduce_f64(comm, &slowest, 1, RDP_MIN, "the roof of the slowest GPU"));
    const bool shared = session->device_note[0] != '\0'; /* of GPUs it tells nothing else */
    bench->roof_images_per_second = slowest == 0 || shared ? NAN : slowest * comm->size;
    return RDP_OK;
}

int rdp_bench_prepare(struct rdp_bench *bench, const struct rdp_options *options, struct rdp_session *session)
{
    memset(bench, 0, sizeof *bench);
    bench->options = options;
    bench->session = session;
    bench->other_options = *options;
    bench->other_options.overlap = !options->overlap;
    RDP_TRY(rdp_comm_agree(session->comm, check_batch(options, session->comm->size), "checking the batch"));
    bench->local_batch = options->batch / session->comm->size / options->accumulate;
    RDP_TRY(rdp_session_open_device(session, options));
    RDP_TRY(rdp_session_open_reducer(session, options));
    RDP_TRY(rdp_comm_agree(session->comm, make_model(bench), "making the model"));
    RDP_TRY(make_network(bench, &bench->network, session->device, false));
    RDP_TRY(rdp_comm_agree(session->comm, make_step(bench), "making the training step"));
    return find_roof(bench);
}

/* Forward and backward once: memory that was never written would be read from one page of zeros, all in cache. */
static int touch(struct rdp_bench *bench, struct rdp_network *network)
{
    const struct rdp_batch batch = {.images = bench->images,
                                    .rows = bench->rows,
                                    .samples = bench->rows,
                                    .labels = bench->labels,
                                    .count = bench->local_batch,
                                    .valid = bench->local_batch,
                                    .augment = bench->augment};
    const struct rdp_inputs inputs = {.values = {.lr = (float)bench->options->lr}};
    RDP_TRY(rdp_network_load(network, &batch, &inputs));
    RDP_TRY(rdp_network_forward(network, 0, true, 1.0f / (float)bench->options->batch, NULL, NULL));
    RDP_TRY(rdp_network_backward(network, NULL, NULL, NULL));
    return rdp_network_convolutions_alone(network);
}

static int make_roof(struct rdp_bench *bench, enum rdp_bench_kind kind)
{
    struct rdp_bench_series *series = &bench->series[kind];
    struct rdp_device *device = bench->session->device;
    series->measured = true;
    if (kind == RDP_BENCH_CONV_DIRECT) {
        struct rdp_device_config config = device->config;
        config.algorithm = RDP_ALGORITHM_DIRECT;
        RDP_TRY(rdp_cpu_device_open(&series->device, &config));
        device = series->device;
    }
    RDP_TRY(make_network(bench, &series->network, device, true));
    RDP_TRY(rdp_network_initialise(series->network, (uint64_t)bench->options->seed));
    return touch(bench, series->network);
}

static int make_roofs(struct rdp_bench *bench)
{
    const struct rdp_options *options = bench->options;
    bench->series[RDP_BENCH_CONV_CHUNKED].measured = true;
    RDP_TRY(rdp_network_convolutions_alone(bench->network));
    RDP_TRY(make_roof(bench, RDP_BENCH_CONV_WHOLE));
    if (options->precision == RDP_FP32 && options->conv_algorithm == RDP_CONV_AUTO &&
        bench->session->device->ops->host_memory)
        RDP_TRY(make_roof(bench, RDP_BENCH_CONV_DIRECT));
    return RDP_OK;
}

/*
 * Measuring.
 */

static int run_steps(struct rdp_bench *bench, struct rdp_step *step, int count)
{
    const int slice_size = bench->local_batch * bench->options->accumulate;
    const double lr = bench->options->lr;
    struct rdp_step_result results[RDP_STEPS_AHEAD_MAX];
    for (int i = 0; i < count; i++) {
        const struct rdp_slice slice = {.images = bench->images,
                                        .rows = bench->rows + bench->window,
                                        .samples = bench->rows + bench->window,
                                        .labels = bench->labels + bench->window,
                                        .count = slice_size};
        struct rdp_step_values values = rdp_optimiser_step_values(bench->options, 0, bench->steps_started, lr, lr, NAN);
        rdp_mixing_draw(bench->options, bench->steps_started++, &values);
        RDP_TRY(rdp_step_start(step, &slice, &bench->augment, &values, false, false));
        bench->window = (bench->window + slice_size) % bench->image_count;
        int started;
        if (i == count - 1 || step->started == RDP_STEPS_AHEAD_MAX)
            RDP_TRY(rdp_step_collect(step, results, &started));
    }
    return RDP_OK;
}

static int run_roof(struct rdp_network *network, int count)
{
    for (int i = 0; i < count; i++) {
        RDP_TRY(rdp_network_convolutions_alone(network));
        rdp_watchdog_tick();
    }
    return network->device->ops->synchronize(network->device);
}

/* The rank that takes longest counts. */
static int measure(struct rdp_bench *bench, enum rdp_bench_kind kind, int repeat)
{
    struct rdp_comm *comm = bench->session->comm;
    struct rdp_bench_series *series = &bench->series[kind];
    const struct rdp_options *options = bench->options;
    const bool steps = series->step != NULL;
    /* Half as many images as the steps: convolutions alone spread less, and there are up to three roofs. */
    const int passes = (options->steps * options->accumulate + 1) / 2;
    RDP_TRY(comm->ops->barrier(comm, 0, "the start of a measurement"));
    const double begin = rdp_now();
    if (steps)
        RDP_TRY(run_steps(bench, series->step, options->steps));
    else
        RDP_TRY(run_roof(series->network == NULL ? bench->network : series->network, passes));
    double seconds = rdp_now() - begin;
    RDP_TRY(comm->ops->allreduce_f64(comm, &seconds, 1, RDP_MAX, "the time of a measurement"));
    const double images =
        steps ? (double)options->batch * options->steps : (double)bench->local_batch * passes * comm->size;
    series->rates[repeat] = images / seconds;
    return RDP_OK;
}

static void add_operation(struct rdp_bench *bench, const char *name, double seconds)
{
    int k = 0;
    while (k < bench->operation_count && strcmp(bench->operations[k].operation, name) != 0)
        k++;
    if (k == bench->operation_count)
        bench->operations[bench->operation_count++] = (struct rdp_operation_time){name, 0};
    bench->operations[k].seconds += seconds;
}

/* Where the time of a step goes: some more steps, each operation between two of the device's time stamps. */
static int time_operations(struct rdp_bench *bench)
{
    struct rdp_step *step = bench->series[RDP_BENCH_STEP].step;
    struct rdp_operation_time times[RDP_OPERATION_KINDS_MAX];
    const int steps = bench->options->steps;
    double named = 0;
    bench->network->config.timed = step->timed = true;
    RDP_TRY(run_steps(bench, step, WARM_UP_STEPS));
    rdp_network_times_reset(bench->network);
    step->exposed_seconds = step->optimizer_seconds = 0;
    const double begin = rdp_now();
    RDP_TRY(run_steps(bench, step, steps));
    bench->timed_seconds = (rdp_now() - begin) / steps;
    bench->network->config.timed = step->timed = false;
    const int count = rdp_network_times(bench->network, times);
    for (int i = 0; i < count; i++)
        add_operation(bench, times[i].operation, times[i].seconds);
    add_operation(bench, "optimiser and weights", step->optimizer_seconds);
    if (bench->session->comm->size > 1)
        add_operation(bench, "waiting for gradients", step->exposed_seconds);
    for (int i = 0; i < bench->operation_count; i++)
        named += bench->operations[i].seconds /= steps;
    if (bench->session->device->ops->host_memory)
        add_operation(bench, "everything else", bench->timed_seconds - named);
    else
        bench->timed_seconds = named; /* between the operations the device waits for the host to look at its clock */
    return RDP_OK;
}

/* -1: it is the host's. Where the reducer allocates the gradients, the device does not know of them. */
static int64_t device_bytes(const struct rdp_bench *bench)
{
    struct rdp_device *device = bench->session->device;
    const size_t gradients = (bench->network->parameter_count + RDP_TOTALS) * sizeof(float);
    if (device->ops->memory_used == NULL)
        return -1;
    return (int64_t)(device->ops->memory_used(device) + (bench->session->reducer->ops->alloc == NULL ? 0 : gradients));
}

static int measure_memory(struct rdp_bench *bench)
{
    struct rusage usage;
    struct rdp_comm *comm = bench->session->comm;
    if (getrusage(RUSAGE_SELF, &usage) != 0)
        return rdp_fail(RDP_EINTERNAL, "the peak memory of this process is not to be had");
    bench->peak_rss_bytes = bench->peak_rss_sum_bytes = (int64_t)usage.ru_maxrss * 1024;
    bench->device_bytes = device_bytes(bench);
    RDP_TRY(comm->ops->allreduce_i64(comm, &bench->device_bytes, 1, RDP_MAX, "memory of the devices"));
    RDP_TRY(comm->ops->allreduce_i64(comm, &bench->peak_rss_bytes, 1, RDP_MAX, "peak memory"));
    return comm->ops->allreduce_i64(comm, &bench->peak_rss_sum_bytes, 1, RDP_SUM, "peak memory");
}

static int compare_doubles(const void *a, const void *b)
{
    const double left = *(const double *)a, right = *(const double *)b;
    return (left > right) - (left < right);
}

static int summarise(struct rdp_bench_series *series, int count)
{
    double *sorted;
    RDP_TRY(rdp_calloc((void **)&sorted, (size_t)count, sizeof *sorted, "rates"));
    memcpy(sorted, series->rates, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_doubles);
    series->least = sorted[0];
    series->greatest = sorted[count - 1];
    series->median = 0.5 * (sorted[(count - 1) / 2] + sorted[count / 2]);
    free(sorted);
    return RDP_OK;
}

/* The step in two other ways, for several ranks. */
static int make_other_steps(struct rdp_bench *bench)
{
    const struct rdp_launch alone = {.size = 1, .local_size = 1, .host_count = 1};
    const struct rdp_reducer_config config = {.stream = bench->session->device->ops->stream(bench->session->device)};
    RDP_TRY(rdp_comm_create(&bench->lone_comm, &alone));
    RDP_TRY(rdp_reducer_create(&bench->lone_reducer, bench->lone_comm, &config));
    RDP_TRY(make_step_of(bench, RDP_BENCH_OTHER_OVERLAP, bench->session->reducer, &bench->other_options));
    return make_step_of(bench, RDP_BENCH_LOCAL, bench->lone_reducer, bench->options);
}

/* Memory is read after the step's first repeat, before anything exists that training does not need. */
static int first_round(struct rdp_bench *bench)
{
    struct rdp_comm *comm = bench->session->comm;
    RDP_TRY(run_steps(bench, bench->series[RDP_BENCH_STEP].step, WARM_UP_STEPS));
    RDP_TRY(measure(bench, RDP_BENCH_STEP, 0));
    RDP_TRY(measure_memory(bench));
    if (comm->size > 1) {
        RDP_TRY(rdp_comm_agree(comm, make_other_steps(bench), "making the steps to compare with"));
        RDP_TRY(run_steps(bench, bench->series[RDP_BENCH_OTHER_OVERLAP].step, WARM_UP_STEPS));
        RDP_TRY(run_steps(bench, bench->series[RDP_BENCH_LOCAL].step, WARM_UP_STEPS));
    }
    return rdp_comm_agree(comm, make_roofs(bench), "making the networks of the roof");
}

int rdp_bench_measure(struct rdp_bench *bench)
{
    RDP_TRY(first_round(bench));
    for (int repeat = 0; repeat < bench->options->repeats; repeat++)
        for (int kind = repeat > 0 ? RDP_BENCH_STEP : RDP_BENCH_STEP + 1; kind < RDP_BENCH_KINDS; kind++)
            if (bench->series[kind].measured)
                RDP_TRY(measure(bench, kind, repeat));
    for (int kind = 0; kind < RDP_BENCH_KINDS; kind++)
        if (bench->series[kind].measured)
            RDP_TRY(summarise(&bench->series[kind], bench->options->repeats));
    return time_operations(bench);
}

void rdp_bench_free(struct rdp_bench *bench)
{
    for (int kind = 0; kind < RDP_BENCH_KINDS; kind++) {
        rdp_step_destroy(bench->series[kind].step);
        rdp_network_destroy(bench->series[kind].network);
        rdp_device_close(bench->series[kind].device);
        free(bench->series[kind].rates);
    }
    rdp_reducer_destroy(bench->lone_reducer);
    rdp_comm_destroy(bench->lone_comm);
    rdp_network_destroy(bench->network);
    rdp_model_destroy(bench->model);
    if (bench->session->device != NULL)
        bench->session->device->ops->free(bench->session->device, bench->images);
    free(bench->rows);
    free(bench->labels);
}
