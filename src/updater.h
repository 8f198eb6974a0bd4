/*
 * The updater owns the arrays that an optimiser keeps besides the network's (its state, averages of the weights and
 * running statistics, lookahead's slow weights) and turns summed gradients into new weights: update, lookahead,
 * average, in this order. Used by the step, saved and restored with a checkpoint (snapshot.c), lent to the network for
 * an evaluation (trainer.c).
 *
 * All arrays are device f32, laid out like network->parameters or network->state. A run allocates nothing and reads all
 * that changes from network->inputs->values, so that it can be recorded.
 */
#ifndef RDP_UPDATER_H
#define RDP_UPDATER_H

#include <stdbool.h>

#include "kernels/kernels.h"
#include "network.h"
#include "options.h"

struct rdp_updater {
    struct rdp_network *network; /* the caller's; for training */
    struct rdp_optimiser optimiser;
    struct rdp_update update; /* state, rows, row_of and workspace are owned, the rest is the network's */
    const char *state_names[RDP_OPTIMISER_ARRAYS];
    float *average, *average_state; /* NULL: nothing is averaged; owned */
    float *slow;                    /* NULL: no lookahead; owned */
    float *trained_state;           /* the running statistics while the averages stand in for them; owned */
};

/* An array of the updater, by the name of its group in a checkpoint. */
struct rdp_updater_array {
    const char *group;
    float *flat;
    bool of_state; /* like network->state, each rank's own with local batch-norm; else like network->parameters */
};
enum { RDP_UPDATER_ARRAYS_MAX = RDP_OPTIMISER_ARRAYS + 3 };

int rdp_updater_create(struct rdp_updater **updater, struct rdp_network *network, const struct rdp_options *options);
void rdp_updater_destroy(struct rdp_updater *updater); /* NULL-safe */
/* Before the first step of a run, with the weights that it begins with: slow weights and averages become them. */
int rdp_updater_begin(struct rdp_updater *updater);
/* One update by network->gradients (which it may overwrite) and network->inputs->values; the weights are then ready for
 * the next forward pass. */
int rdp_updater_run(struct rdp_updater *updater);
/* The arrays to save and to restore, into `arrays`; returns how many. */
int rdp_updater_arrays(const struct rdp_updater *updater, struct rdp_updater_array arrays[RDP_UPDATER_ARRAYS_MAX]);
/* Puts the averages into the network for an evaluation, and the trained weights and running statistics back, bit for
 * bit; the gradients are zero then. In between the trained weights lie where the gradients were: no step may run,
 * nothing may be saved. */
int rdp_updater_show_averages(struct rdp_updater *updater);
int rdp_updater_hide_averages(struct rdp_updater *updater);

#endif
