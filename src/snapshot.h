/*
 * A snapshot is what a checkpoint of training holds: parameters, running statistics (each rank's own, if they differ),
 * the updater's arrays under their own names, where the run stands, and the recipe. Written by rank 0
 * (io/checkpoint.h), read by every rank.
 */
#ifndef RDP_SNAPSHOT_H
#define RDP_SNAPSHOT_H

#include <stdint.h>

#include "comm/comm.h"
#include "io/checkpoint.h"
#include "io/dataset.h"
#include "network.h"
#include "options.h"
#include "updater.h"

/* Where a run stands: everything that is not an array. */
struct rdp_standing {
    int64_t epoch;         /* finished epochs */
    int64_t step;          /* finished steps of the whole run */
    int64_t epoch_step;    /* finished steps of the epoch that is under way; 0 at its start */
    double loss_sum;       /* over the samples of the epoch that is under way */
    int64_t correct, seen; /* likewise */
    int64_t stale;         /* evaluations since the best measure; for --early-stopping */
    double plateau_factor; /* --schedule plateau: what the rate is multiplied by, and where the watch stands */
    double plateau_best;
    int64_t plateau_bad, plateau_cooldown;
    double best; /* the best measure so far (validation loss, or 1 - test accuracy without a validation set) */
};

/* Collects on all ranks (collective), on rank 0 into *checkpoint (NULL elsewhere), owned by the caller. Fails with
 * RDP_EINTERNAL if the ranks' arrays differ that must be equal: all but running statistics and their averages. */
int rdp_snapshot_take(struct rdp_checkpoint **checkpoint, const struct rdp_updater *updater,
                      const struct rdp_standing *standing, const struct rdp_options *options,
                      const struct rdp_dataset_info *info, struct rdp_comm *comm);
/* Puts a checkpoint's arrays into the updater and its network, to go on with training. RDP_EUSAGE if a name or shape
 * does not fit. */
int rdp_snapshot_restore(const struct rdp_checkpoint *checkpoint, struct rdp_updater *updater,
                         struct rdp_standing *standing, const struct rdp_comm *comm);
/* Puts only its weights and running statistics into a network, or the averages of both, to use them. RDP_EUSAGE as
 * above, and if averages are wanted and there are none. */
int rdp_snapshot_weights(const struct rdp_checkpoint *checkpoint, struct rdp_network *network, bool averages);
/* The options that the run had, from the checkpoint's recipe. RDP_EUSAGE if another version of this program made it, with
 * other options and arrays: who reads a checkpoint asks this first. */
int rdp_snapshot_options(const struct rdp_checkpoint *checkpoint, struct rdp_options *options);
/* Class names of the data that the run was trained on, mean and std that it normalised with; counts are 0. */
int rdp_snapshot_data(const struct rdp_checkpoint *checkpoint, struct rdp_dataset_info *info);

#endif
