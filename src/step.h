/*
 * The training step on one rank: forward and backward of its micro-batches, gradients all-reduced in buckets while
 * backward goes on, one optimiser pass, weights ready for the next step. Used by the trainer and by bench.
 *
 * Steps are started with rdp_step_start and looked at with rdp_step_collect. On a device that runs asynchronously the
 * host is ahead of it in between, by as many steps as the caller lets it. On a device that can record (and with a
 * reducer that can be recorded) a step is run as it is twice, then recorded, then replayed: everything that changes
 * from step to step lies in device memory.
 */
#ifndef RDP_STEP_H
#define RDP_STEP_H

#include <stdbool.h>

#include "comm/bucket.h"
#include "comm/reducer.h"
#include "network.h"
#include "options.h"
#include "sampler.h"
#include "updater.h"

enum {
    RDP_STEPS_AHEAD_MAX = 256, /* steps started between two collects */
    RDP_WARM_STEPS = 2         /* run as they are before one is recorded */
};

struct rdp_step {
    struct rdp_network *network;       /* the caller's */
    struct rdp_reducer *reducer;       /* the caller's */
    struct rdp_buckets *buckets;       /* owned */
    const struct rdp_options *options; /* the caller's */
    struct rdp_updater *updater;       /* owned */
    float *accumulated;                /* device: sum over micro-batches; NULL without accumulation; owned */
    float *history;                    /* device f32 [RDP_STEPS_AHEAD_MAX][RDP_TOTALS]: of the steps started; owned */
    struct rdp_recording *recording;   /* owned; NULL: none yet, or never */
    int started;                       /* steps since the last collect */
    int warm;                          /* steps run as they are */
    bool last_micro;                   /* the micro-batch that runs is the step's last */
    size_t ready;                      /* watermark of the step that runs */
    bool timed; /* device time of the phases is wanted: steps then run as they are, and each is waited for */
    double exposed_seconds, optimizer_seconds; /* summed over the steps so far; the device's time if timed, else the
                                                  host's, which is the same where the host computes */
};

/* What a step found, the same on every rank. */
struct rdp_step_result {
    double loss_sum; /* over the global batch */
    int64_t correct;
    bool stop, save; /* some rank was told to stop; rank 0 wants a checkpoint */
};

int rdp_step_create(struct rdp_step **step, struct rdp_network *network, struct rdp_reducer *reducer,
                    const struct rdp_options *options);
void rdp_step_destroy(struct rdp_step *step);
/* `slice` holds network->config.batch x options->accumulate samples. Collective. */
int rdp_step_start(struct rdp_step *step, const struct rdp_slice *slice, const struct rdp_augment *augment,
                   const struct rdp_step_values *values, bool stop, bool save);
/* Waits for the steps started since the last collect; results[0 .. *count) are theirs, in order. RDP_ENUMERIC if a loss
 * is not finite: the results are then of the steps before it. Collective. */
int rdp_step_collect(struct rdp_step *step, struct rdp_step_result results[RDP_STEPS_AHEAD_MAX], int *count);

#endif
