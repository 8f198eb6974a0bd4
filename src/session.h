/*
 * What a command that computes stands on: the launch, the communicator, the device. main() opens the first two before
 * it reads the options, so that one message tells of a wrong option however many ranks there are.
 */
#ifndef RDP_SESSION_H
#define RDP_SESSION_H

#include "comm/comm.h"
#include "comm/launch.h"
#include "comm/reducer.h"
#include "kernels/kernels.h"
#include "options.h"

struct rdp_session {
    struct rdp_launch launch;
    struct rdp_comm *comm;       /* owned */
    struct rdp_device *device;   /* owned; NULL until rdp_session_open_device */
    struct rdp_reducer *reducer; /* owned; NULL until rdp_session_open_reducer */
    int threads;
    char note[256];                /* how the threads were found, for the banner; may be empty */
    char device_note[512];         /* why there is no GPU, or which ranks share one; may be empty */
    char plan_cache[RDP_PATH_MAX]; /* of --plan-cache; "" for none */
};

/* Starts MPI if `parallel`, else a launch of one rank without it. */
int rdp_session_begin(struct rdp_session *session, bool parallel, int *argc, char ***argv);
/* Sizes the threads, opens the device that --device asks for (auto: a GPU if every rank has one), starts the watchdog.
 * Collective, agreed: all ranks return the same status. RDP_EUSAGE: a device that this build or machine does not have.
 */
int rdp_session_open_device(struct rdp_session *session, const struct rdp_options *options);
/* Opens the reducer that --comm asks for, for the open device. Collective, agreed. RDP_EUSAGE: see reducer.h. */
int rdp_session_open_reducer(struct rdp_session *session, const struct rdp_options *options);
/* The same for commands that run alone, without ranks and reducer. */
int rdp_session_lone_device(struct rdp_session *session, const struct rdp_options *options);
/* What the options say about augmentation, enabled; mean and std of the pixels divided by 255 are those in force. */
struct rdp_augment rdp_session_augment(const struct rdp_options *options, const float mean[3], const float std[3]);
/* Stops the watchdog, closes reducer and device: both can be opened again. Nothing that uses them may be left. */
void rdp_session_close_device(struct rdp_session *session);
/* Releases everything, in reverse order; MPI_Finalize last. */
void rdp_session_end(struct rdp_session *session);

#endif
