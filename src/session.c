/* Launch, communicator and device of a command; see session.h. */
#include "session.h"

#include <string.h>

#include "base/status.h"
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

static int open_device(struct rdp_device **device, const struct rdp_options *options, int threads)
{
    if (options->device == RDP_DEVICE_CUDA)
        return rdp_fail(RDP_EUSAGE, "--device cuda: this resnet-dp was built without CUDA; use --device cpu or auto");
    struct rdp_device_config config = {
        .threads = threads,
        .bf16 = options->precision == RDP_BF16,
        .algorithm = options->conv_algorithm == RDP_CONV_DIRECT     ? RDP_ALGORITHM_DIRECT
                     : options->conv_algorithm == RDP_CONV_WINOGRAD ? RDP_ALGORITHM_WINOGRAD
                                                                    : RDP_ALGORITHM_AUTO,
    };
    return rdp_cpu_device_open(device, &config);
}

int rdp_session_open_device(struct rdp_session *session, const struct rdp_options *options)
{
    int status =
        rdp_launch_threads(&session->launch, options->threads, &session->threads, session->note, sizeof session->note);
    if (status == RDP_OK)
        status = open_device(&session->device, options, session->threads);
    RDP_TRY(rdp_comm_agree(session->comm, status, "opening the device"));
    return rdp_comm_agree(session->comm, rdp_watchdog_start(&session->launch, options->comm_timeout),
                          "starting the watchdog");
}

int rdp_session_lone_device(struct rdp_device **device, const struct rdp_options *options)
{
    struct rdp_launch launch = {.size = 1, .local_size = 1, .host_count = 1};
    char note[256];
    int threads;
    RDP_TRY(rdp_launch_threads(&launch, options->threads, &threads, note, sizeof note));
    return open_device(device, options, threads);
}

struct rdp_augment rdp_session_augment(const struct rdp_options *options, const float mean[3], const float std[3])
{
    struct rdp_augment augment = {
        .crop = options->crop == RDP_CROP_ZERO      ? RDP_PAD_ZERO
                : options->crop == RDP_CROP_REFLECT ? RDP_PAD_REFLECT
                                                    : RDP_PAD_NONE,
        .padding = options->crop_padding,
        .flip = options->flip,
        .seed = (uint64_t)options->seed,
        .enabled = true,
    };
    memcpy(augment.mean, mean, sizeof augment.mean);
    memcpy(augment.std, std, sizeof augment.std);
    return augment;
}

void rdp_session_end(struct rdp_session *session)
{
    rdp_watchdog_stop();
    rdp_device_close(session->device);
    session->device = NULL;
    rdp_comm_destroy(session->comm);
    session->comm = NULL;
    rdp_launch_end(&session->launch);
}
