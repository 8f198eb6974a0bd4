/* What bench found, as a table and as JSON; see bench.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/log.h"
#include "base/status.h"
#include "base/text.h"
#include "bench.h"
#include "host.h"
#include "io/durable.h"
#include "io/versions.h"

static const char *kind_text(const struct rdp_bench *bench, int kind)
{
    switch (kind) {
    case RDP_BENCH_STEP:
        return bench->session->comm->size == 1 ? "training step"
               : bench->options->overlap       ? "training step (overlap)"
                                               : "training step (no overlap)";
    case RDP_BENCH_OTHER_OVERLAP:
        return bench->options->overlap ? "... with --overlap no" : "... with --overlap yes";
    case RDP_BENCH_LOCAL:
        return "... without the all-reduce";
    case RDP_BENCH_CONV_CHUNKED:
        return "convolutions alone, in chunks";
    case RDP_BENCH_CONV_WHOLE:
        return "convolutions alone, whole batch";
    default:
        return "convolutions alone, direct";
    }
}

/* The faster way to run the algorithms that the step uses. */
static double roof_of(const struct rdp_bench *bench)
{
    return fmax(bench->series[RDP_BENCH_CONV_CHUNKED].median, bench->series[RDP_BENCH_CONV_WHOLE].median);
}

static double rate_of(const struct rdp_bench *bench, bool overlap)
{
    return bench->series[bench->options->overlap == overlap ? RDP_BENCH_STEP : RDP_BENCH_OTHER_OVERLAP].median;
}

/* What the all-reduce adds to a step, in seconds: its exposed part. */
static double exposed(const struct rdp_bench *bench, bool overlap)
{
    const double images = bench->options->batch;
    return images / rate_of(bench, overlap) - images / bench->series[RDP_BENCH_LOCAL].median;
}

/* What of the all-reduce runs under backward instead, in seconds. */
static double hidden(const struct rdp_bench *bench)
{
    const double images = bench->options->batch;
    return images / rate_of(bench, false) - images / rate_of(bench, true);
}

static void print_head(const struct rdp_bench *bench)
{
    const struct rdp_options *options = bench->options;
    const struct rdp_launch *launch = &bench->session->launch;
    char count[32], parameters[32], activations[32];
    rdp_say("%s; %d rank%s on %d host%s\n", bench->session->device->description, launch->size,
            launch->size == 1 ? "" : "s", launch->host_count, launch->host_count == 1 ? "" : "s");
    if (bench->session->note[0] != '\0')
        rdp_say("threads: %s\n", bench->session->note);
    rdp_say("%s parameters, %s, batch %d = %d rank%s x %d micro-batch%s x %d images\n",
            rdp_format_thousands(count, sizeof count, rdp_model_parameters(bench->model)), rdp_precision_text(options),
            options->batch, launch->size, launch->size == 1 ? "" : "s", options->accumulate,
            options->accumulate == 1 ? "" : "es", bench->local_batch);
    rdp_say("convolutions: %s\n", bench->algorithms);
    rdp_say("memory per rank: parameters %s, activations %s, ",
            rdp_format_bytes(parameters, sizeof parameters, (double)bench->network->parameter_count * sizeof(float)),
            rdp_format_bytes(activations, sizeof activations, (double)bench->network->activation_bytes));
    if (bench->device_bytes >= 0)
        rdp_say("in all on the GPU %s, ", rdp_format_bytes(count, sizeof count, (double)bench->device_bytes));
    rdp_say("peak of the process %s\n", rdp_format_bytes(count, sizeof count, (double)bench->peak_rss_bytes));
}

/* What follows from the GPU's data sheet, not from a measurement. */
static void print_roof(const struct rdp_bench *bench)
{
    const struct rdp_session *session = bench->session;
    const double roof = bench->roof_images_per_second;
    char rate[32];
    if (session->device->ops->host_memory)
        return;
    rdp_say("roof of separate convolution and batch-norm kernels: ");
    if (session->device_note[0] != '\0')
        rdp_say("none, %s\n", session->device_note);
    else if (isnan(roof))
        rdp_say("none, the peaks of %s are not known\n",
                bench->peaks == NULL ? bench->gpu.name : "another rank's device");
    else
        rdp_say("%s images/s; the step reaches %.1f %%\n", rdp_format_thousands(rate, sizeof rate, llround(roof)),
                100 * bench->series[RDP_BENCH_STEP].median / roof);
}

static void print_rates(const struct rdp_bench *bench)
{
    const double step = bench->series[RDP_BENCH_STEP].median;
    rdp_say("\n%-34s %10s %10s %10s   %s\n", "Images/s", "median", "least", "greatest", "the step reaches");
    for (int kind = 0; kind < RDP_BENCH_KINDS; kind++) {
        const struct rdp_bench_series *series = &bench->series[kind];
        if (!series->measured)
            continue;
        rdp_say("%-34s %10.1f %10.1f %10.1f", kind_text(bench, kind), series->median, series->least, series->greatest);
        if (kind >= RDP_BENCH_CONV_CHUNKED)
            rdp_say("   %.1f %%", 100 * step / series->median);
        rdp_say("\n");
    }
    print_roof(bench);
}

static void print_operations(const struct rdp_bench *bench)
{
    rdp_say("\n%-34s %10s %10s%s\n", "One step", "ms", "share", bench->session->comm->size > 1 ? "   (rank 0)" : "");
    for (int i = 0; i < bench->operation_count; i++)
        rdp_say("%-34s %10.2f %8.1f %%\n", bench->operations[i].operation, 1e3 * bench->operations[i].seconds,
                100 * bench->operations[i].seconds / bench->timed_seconds);
    rdp_say("%-34s %10.2f\n", "all", 1e3 * bench->timed_seconds);
}

static void print_communication(const struct rdp_bench *bench)
{
    char bytes[32];
    if (bench->session->comm->size == 1)
        return;
    rdp_say("\nCommunication: %s of gradients per step in %zu bucket%s\n",
            rdp_format_bytes(bytes, sizeof bytes, (double)bench->network->parameter_count * sizeof(float)),
            rdp_buckets_count(bench->series[RDP_BENCH_STEP].step->buckets),
            rdp_buckets_count(bench->series[RDP_BENCH_STEP].step->buckets) == 1 ? "" : "s");
    rdp_say("by %s; exposed %.2f ms of a step, hidden by the overlap %.2f ms (exposed without it %.2f ms)\n",
            bench->session->reducer->description, 1e3 * exposed(bench, true), 1e3 * hidden(bench),
            1e3 * exposed(bench, false));
    rdp_say("overlap makes the step %.1f %% %s\n", fabs(100 * (rate_of(bench, true) / rate_of(bench, false) - 1)),
            rate_of(bench, true) >= rate_of(bench, false) ? "faster" : "slower");
}

void rdp_bench_print(const struct rdp_bench *bench)
{
    print_head(bench);
    print_rates(bench);
    print_operations(bench);
    print_communication(bench);
}

static void put_series(struct rdp_json *json, const char *key, const struct rdp_bench *bench, int kind)
{
    const struct rdp_bench_series *series = &bench->series[kind];
    char repeats[96];
    if (!series->measured)
        return;
    rdp_json_real(json, key, series->median);
    snprintf(repeats, sizeof repeats, "%s_repeats", key);
    rdp_json_array(json, repeats);
    for (int i = 0; i < bench->options->repeats; i++)
        rdp_json_real(json, NULL, series->rates[i]);
    rdp_json_array_end(json);
}

static void put_rates(struct rdp_json *json, const struct rdp_bench *bench)
{
    const double step = bench->series[RDP_BENCH_STEP].median;
    put_series(json, "images_per_second", bench, RDP_BENCH_STEP);
    rdp_json_real(json, "convolutions_alone_images_per_second", roof_of(bench));
    rdp_json_real(json, "share_of_convolutions_alone", step / roof_of(bench));
    put_series(json, "without_all_reduce_images_per_second", bench, RDP_BENCH_LOCAL);
    put_series(json, "convolutions_alone_chunked_images_per_second", bench, RDP_BENCH_CONV_CHUNKED);
    put_series(json, "convolutions_alone_whole_batch_images_per_second", bench, RDP_BENCH_CONV_WHOLE);
    put_series(json, "convolutions_alone_direct_images_per_second", bench, RDP_BENCH_CONV_DIRECT);
}

static void put_machine(struct rdp_json *json, const struct rdp_bench *bench)
{
    const struct rdp_session *session = bench->session;
    struct rdp_library_version libraries[RDP_IO_LIBRARIES];
    struct rdp_host host;
    char date[32];
    rdp_host_read(&host);
    rdp_io_versions(libraries);
    rdp_json_text(json, "date", rdp_utc_now(date));
    rdp_json_text(json, "host", session->launch.host);
    rdp_json_text(json, "cpu", host.cpu);
    rdp_json_text(json, "instructions", host.instructions);
    rdp_json_text(json, "system", host.kernel);
    rdp_json_text(json, "device", session->device->description);
    rdp_json_integer(json, "ranks", session->launch.size);
    rdp_json_integer(json, "hosts", session->launch.host_count);
    rdp_json_integer(json, "threads", session->threads);
    rdp_json_object(json, "versions");
    rdp_json_text(json, "resnet-dp", RDP_VERSION);
    rdp_json_text(json, "git", RDP_GIT_ID);
    rdp_json_text(json, "compiler", rdp_build_description());
    rdp_json_text(json, "MPI", session->launch.mpi_version);
    for (int i = 0; i < RDP_IO_LIBRARIES; i++)
        rdp_json_text(json, libraries[i].name, libraries[i].running);
    rdp_json_object_end(json);
}

static void put_memory(struct rdp_json *json, const struct rdp_bench *bench)
{
    rdp_json_integer(json, "peak_rss_bytes", bench->peak_rss_bytes);
    rdp_json_integer(json, "peak_rss_bytes_all_ranks", bench->peak_rss_sum_bytes);
    rdp_json_integer(json, "parameter_bytes", (int64_t)(bench->network->parameter_count * sizeof(float)));
    rdp_json_integer(json, "activation_bytes", (int64_t)bench->network->activation_bytes);
    if (bench->device_bytes >= 0)
        rdp_json_integer(json, "device_memory_bytes", bench->device_bytes);
}

/* null for what is not known. */
static void put_roof(struct rdp_json *json, const struct rdp_bench *bench)
{
    const struct rdp_session *session = bench->session;
    const double images = (double)bench->local_batch * bench->options->accumulate;
    const struct rdp_gpu_peaks *peaks = bench->peaks;
    if (session->device->ops->host_memory)
        return;
    rdp_json_object(json, "roof");
    rdp_json_real(json, "images_per_second", bench->roof_images_per_second);
    rdp_json_real(json, "share", bench->series[RDP_BENCH_STEP].median / bench->roof_images_per_second);
    rdp_json_real(json, "operations_per_image", bench->roof.operations / images);
    rdp_json_real(json, "bytes_per_image", bench->roof.bytes / images);
    rdp_json_text(json, "gpu", bench->gpu.name);
    rdp_json_real(json, "gpu_operations_per_second",
                  peaks == NULL ? NAN : peaks->operations_per_second[session->device->config.precision]);
    rdp_json_real(json, "gpu_bytes_per_second", peaks == NULL ? NAN : peaks->bytes_per_second);
    rdp_json_object_end(json);
}

static void put_operations(struct rdp_json *json, const struct rdp_bench *bench)
{
    rdp_json_real(json, "milliseconds_per_step", 1e3 * bench->options->batch / bench->series[RDP_BENCH_STEP].median);
    rdp_json_real(json, "timed_milliseconds_per_step", 1e3 * bench->timed_seconds);
    rdp_json_array(json, "operations");
    for (int i = 0; i < bench->operation_count; i++) {
        rdp_json_object(json, NULL);
        rdp_json_text(json, "name", bench->operations[i].operation);
        rdp_json_real(json, "milliseconds_per_step", 1e3 * bench->operations[i].seconds);
        rdp_json_real(json, "share", bench->operations[i].seconds / bench->timed_seconds);
        rdp_json_object_end(json);
    }
    rdp_json_array_end(json);
}

/* With one rank nothing is sent: null instead of figures. */
static void put_communication(struct rdp_json *json, const struct rdp_bench *bench)
{
    const bool several = bench->session->comm->size > 1;
    rdp_json_object(json, "communication");
    rdp_json_text(json, "transport", bench->session->reducer->ops->name);
    rdp_json_boolean(json, "overlap", bench->options->overlap);
    rdp_json_integer(json, "buckets", (int64_t)rdp_buckets_count(bench->series[RDP_BENCH_STEP].step->buckets));
    rdp_json_integer(json, "gradient_bytes", (int64_t)(bench->network->parameter_count * sizeof(float)));
    rdp_json_real(json, "exposed_milliseconds_per_step_overlap_yes", several ? 1e3 * exposed(bench, true) : NAN);
    rdp_json_real(json, "exposed_milliseconds_per_step_overlap_no", several ? 1e3 * exposed(bench, false) : NAN);
    rdp_json_real(json, "hidden_milliseconds_per_step", several ? 1e3 * hidden(bench) : NAN);
    rdp_json_real(json, "images_per_second_overlap_yes", several ? rate_of(bench, true) : NAN);
    rdp_json_real(json, "images_per_second_overlap_no", several ? rate_of(bench, false) : NAN);
    rdp_json_object_end(json);
}

static int put_all(FILE *out, const struct rdp_bench *bench)
{
    struct rdp_json json;
    char *options;
    RDP_TRY(rdp_options_to_text(bench->options, &options));
    rdp_json_begin(&json, out, 1);
    rdp_json_object(&json, NULL);
    put_rates(&json, bench);
    rdp_json_text(&json, "precision", rdp_precision_text(bench->options));
    rdp_json_integer(&json, "batch", bench->options->batch);
    rdp_json_integer(&json, "batch_per_rank", bench->local_batch);
    rdp_json_integer(&json, "accumulate", bench->options->accumulate);
    rdp_json_integer(&json, "parameters", rdp_model_parameters(bench->model));
    rdp_json_integer(&json, "steps", bench->options->steps);
    rdp_json_integer(&json, "repeats", bench->options->repeats);
    put_roof(&json, bench);
    put_memory(&json, bench);
    put_operations(&json, bench);
    put_communication(&json, bench);
    rdp_json_text(&json, "algorithms", bench->algorithms);
    put_machine(&json, bench);
    rdp_json_text(&json, "options", options);
    rdp_json_object_end(&json);
    free(options);
    return RDP_OK;
}

int rdp_bench_write_json(const struct rdp_bench *bench, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return rdp_fail(RDP_ENOMEM, "--json %s: no memory for the results: %s", path, strerror(errno));
    int status = put_all(out, bench);
    if (fclose(out) != 0 && status == RDP_OK)
        status = rdp_fail(RDP_ENOMEM, "--json %s: no memory for the results: %s", path, strerror(errno));
    const struct rdp_bytes piece = {text, size};
    if (status == RDP_OK)
        status = rdp_durable_write(path, &piece, 1);
    free(text);
    return status;
}
