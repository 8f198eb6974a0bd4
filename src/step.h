/*
 * One training step on one rank: forward and backward of its micro-batches, gradients all-reduced in buckets while
 * backward goes on, one optimiser pass, weights ready for the next step. Used by the trainer and by bench.
 */
#ifndef RDP_STEP_H
#define RDP_STEP_H

#include <stdbool.h>

#include "comm/bucket.h"
#include "comm/comm.h"
#include "network.h"
#include "options.h"
#include "sampler.h"

struct rdp_step {
    struct rdp_network *network;       /* the caller's */
    struct rdp_comm *comm;             /* the caller's */
    struct rdp_buckets *buckets;       /* owned */
    const struct rdp_options *options; /* the caller's */
    float *momentum;                   /* device, like network->parameters; owned */
    float *accumulated;                /* device: sum over micro-batches; NULL without accumulation; owned */
    struct range {
        size_t begin, end;
        bool decays;
    } * ranges; /* the parameter array in runs of equal weight decay; owned */
    int range_count;
    bool last_micro;                           /* the micro-batch that runs is the step's last */
    size_t ready;                              /* watermark of the step that runs */
    double exposed_seconds, optimizer_seconds; /* summed over the steps so far */
};

/* What a step found, the same on every rank. */
struct rdp_step_result {
    double loss_sum; /* over the global batch */
    int64_t correct;
    bool stop, save; /* some rank was told to stop; rank 0 wants a checkpoint */
};

int rdp_step_create(struct rdp_step **step, struct rdp_network *network, struct rdp_comm *comm,
                    const struct rdp_options *options);
void rdp_step_destroy(struct rdp_step *step);
/* `slice` holds network->config.batch x options->accumulate samples. Collective. RDP_ENUMERIC if the loss is not
 * finite. */
int rdp_step_run(struct rdp_step *step, const struct rdp_slice *slice, const struct rdp_augment *augment, double lr,
                 bool stop, bool save, struct rdp_step_result *result);

#endif
