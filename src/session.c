/* Launch, communicator, device and reducer of a command; see session.h. */
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/status.h"
#include "comm/device_choice.h"
#include "comm/watchdog.h"

int rdp_session_begin(struct rdp_session *session, bool parallel, int *argc, char ***argv)
{
    memset(session, 0, sizeof *session);
    session->launch.size = session->launch.local_size = session->launch.host_count = 1;
    if (!parallel)
        return RDP_OK;
    RDP_TRY(rdp_launch_begin(&session->launch, argc, argv));
    return rdp_comm_create(&session->comm, &session->launch);
}

/* The folder of --plan-cache auto, made if need be: $XDG_CACHE_HOME/resnet-dp or ~/.cache/resnet-dp. Without a home, or
 * where none can be made, there is no cache: plans are then timed at every start. */
static void default_plan_cache(char *path, size_t size)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    char folder[RDP_PATH_MAX - 32];
    int length;
    path[0] = '\0';
    if (cache != NULL && cache[0] == '/')
        length = snprintf(folder, sizeof folder, "%s", cache);
    else if (home != NULL && home[0] == '/')
        length = snprintf(folder, sizeof folder, "%s/.cache", home);
    else
        return;
    if (length < 0 || (size_t)length + sizeof "/resnet-dp" > sizeof folder)
        return;
    if (mkdir(folder, 0777) != 0 && errno != EEXIST)
        return;
    strcat(folder, "/resnet-dp");
    if (mkdir(folder, 0777) == 0 || errno == EEXIST)
        snprintf(path, size, "%s/convolutions", folder);
}

static void choose_plan_cache(struct rdp_session *session, const struct rdp_options *options)
{
    if (strcmp(options->plan_cache, "none") == 0)
        session->plan_cache[0] = '\0';
    else if (strcmp(options->plan_cache, "auto") == 0)
        default_plan_cache(session->plan_cache, sizeof session->plan_cache);
    else
        snprintf(session->plan_cache, sizeof session->plan_cache, "%s", options->plan_cache);
}

static struct rdp_device_config device_config(const struct rdp_session *session, const struct rdp_options *options)
{
    return (struct rdp_device_config){
        .precision = options->precision == RDP_BF16   ? RDP_KERNEL_BF16
                     : options->precision == RDP_TF32 ? RDP_KERNEL_TF32
                                                      : RDP_KERNEL_F32,
        .threads = session->threads,
        .algorithm = options->conv_algorithm == RDP_CONV_DIRECT     ? RDP_ALGORITHM_DIRECT
                     : options->conv_algorithm == RDP_CONV_WINOGRAD ? RDP_ALGORITHM_WINOGRAD
                                                                    : RDP_ALGORITHM_AUTO,
        .plan_cache = session->plan_cache,
        .fuse_statistics = options->fuse_statistics == RDP_FUSE_STATISTICS_YES    ? RDP_FUSE_ALWAYS
                           : options->fuse_statistics == RDP_FUSE_STATISTICS_AUTO ? RDP_FUSE_FASTER
                                                                                  : RDP_FUSE_NEVER,
    };
}

/* Visible GPUs, 0 where --device says cpu; the reason for none is kept for the banner of --device auto. */
static int count_gpus(struct rdp_session *session, const struct rdp_options *options)
{
    return options->device == RDP_DEVICE_CPU ? 0
                                             : rdp_cuda_device_count(session->device_note, sizeof session->device_note);
}

static int open_device(struct rdp_session *session, const struct rdp_options *options, int gpus)
{
    struct rdp_device_config config = device_config(session, options);
    if (options->device == RDP_DEVICE_CPU || (options->device == RDP_DEVICE_AUTO && gpus == 0)) {
        if (options->fuse_statistics == RDP_FUSE_STATISTICS_YES)
            return rdp_fail(RDP_EUSAGE,
                            "--fuse-statistics yes: only GPUs can, and this run uses the CPU; take no or auto");
        return rdp_cpu_device_open(&session->device, &config);
    }
    if (gpus == 0)
        return rdp_fail(RDP_EUSAGE, "--device cuda: %s; use --device cpu or auto", session->device_note);
    RDP_TRY(rdp_device_choose(&session->launch, gpus, &config.index));
    choose_plan_cache(session, options);
    return rdp_cuda_device_open(&session->device, &config);
}

int rdp_session_open_device(struct rdp_session *session, const struct rdp_options *options)
{
    int64_t gpus = count_gpus(session, options);
    int status =
        rdp_launch_threads(&session->launch, options->threads, &session->threads, session->note, sizeof session->note);
    /* --device auto: the same kind on all ranks; an explicit cuda fails on the rank that has none. */
    if (options->device == RDP_DEVICE_AUTO) {
        const int64_t own = gpus;
        RDP_TRY(session->comm->ops->allreduce_i64(session->comm, &gpus, 1, RDP_MIN, "number of GPUs"));
        if (gpus == 0 && own > 0)
            snprintf(session->device_note, sizeof session->device_note,
                     "another rank has no GPU that can be used, so all use CPUs (--device cuda says which, and why)");
    }
    if (status == RDP_OK)
        status = open_device(session, options, (int)gpus);
    RDP_TRY(rdp_comm_agree(session->comm, status, "opening the device"));
    return rdp_comm_agree(session->comm, rdp_watchdog_start(&session->launch, options->comm_timeout),
                          "starting the watchdog");
}

/* Which ranks drive one GPU together, told in the banner. Collective, whatever device each of them has. */
static int find_sharing(struct rdp_session *session, bool *shared)
{
    struct rdp_cuda_identity identity = {.pci_bus = ""};
    char text[sizeof session->device_note];
    int status = RDP_OK;
    if (session->device->ops->stream(session->device) != NULL)
        status = rdp_cuda_device_identify(session->device->config.index, &identity);
    RDP_TRY(rdp_comm_agree(session->comm, status, "identifying the GPUs"));
    RDP_TRY(rdp_device_sharing(session->comm, &session->launch, identity.pci_bus, shared, text, sizeof text));
    if (*shared)
        memcpy(session->device_note, text, sizeof text);
    return RDP_OK;
}

int rdp_session_open_reducer(struct rdp_session *session, const struct rdp_options *options)
{
    struct rdp_reducer_config config = {
        .kind = options->transport == RDP_COMM_NCCL  ? RDP_REDUCER_NCCL
                : options->transport == RDP_COMM_MPI ? RDP_REDUCER_MPI
                                                     : RDP_REDUCER_AUTO,
        .stream = session->device->ops->stream(session->device),
        .timeout_seconds = options->comm_timeout,
    };
    RDP_TRY(find_sharing(session, &config.shared_device));
    return rdp_reducer_create(&session->reducer, session->comm, &config);
}

int rdp_session_lone_device(struct rdp_session *session, const struct rdp_options *options)
{
    RDP_TRY(
        rdp_launch_threads(&session->launch, options->threads, &session->threads, session->note, sizeof session->note));
    return open_device(session, options, count_gpus(session, options));
}

struct rdp_augment rdp_session_augment(const struct rdp_options *options, const float mean[3], const float std[3])
{
    struct rdp_augment augment = {
        .crop = options->crop == RDP_CROP_ZERO      ? RDP_PAD_ZERO
                : options->crop == RDP_CROP_REFLECT ? RDP_PAD_REFLECT
                                                    : RDP_PAD_NONE,
        .padding = options->crop_padding,
        .flip = options->flip == RDP_FLIP_MODE_RANDOM        ? RDP_FLIP_RANDOM
                : options->flip == RDP_FLIP_MODE_ALTERNATING ? RDP_FLIP_ALTERNATING
                                                             : RDP_FLIP_NONE,
        .rotation_min = (float)options->rotation_min,
        .rotation_max = (float)options->rotation_max,
        .interpolation = options->rotation_interpolation == RDP_INTERPOLATE_BILINEAR ? RDP_BILINEAR : RDP_NEAREST,
        .brightness = (float)options->jitter_brightness,
        .contrast = (float)options->jitter_contrast,
        .saturation = (float)options->jitter_saturation,
        .hue = (float)options->jitter_hue,
        .erase_probability = (float)options->erase_probability,
        .erase_scale = {(float)options->erase_scale_min, (float)options->erase_scale_max},
        .erase_ratio = {(float)options->erase_ratio_min, (float)options->erase_ratio_max},
        .cutout = options->cutout,
        .erase_mean = options->erase_fill == RDP_FILL_MEAN,
        .seed = (uint64_t)options->seed,
        .enabled = true,
    };
    memcpy(augment.mean, mean, sizeof augment.mean);
    memcpy(augment.std, std, sizeof augment.std);
    return augment;
}

void rdp_session_close_device(struct rdp_session *session)
{
    rdp_watchdog_stop();
    rdp_reducer_destroy(session->reducer);
    session->reducer = NULL;
    rdp_device_close(session->device);
    session->device = NULL;
    session->note[0] = session->device_note[0] = '\0';
}

void rdp_session_end(struct rdp_session *session)
{
    rdp_session_close_device(session);
    rdp_comm_destroy(session->comm);
    session->comm = NULL;
    rdp_launch_end(&session->launch);
}
