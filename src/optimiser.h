/*
 * From options to what the optimiser's device operations need: everything that does not touch a device. The formulas
 * are kernels/common/optimiser.h's; the arrays they work on are the updater's (updater.h).
 *
 * All that changes from step to step is a pure function of the step and the learning rates, so a resumed run needs
 * nothing but its step and its arrays.
 */
#ifndef RDP_OPTIMISER_H
#define RDP_OPTIMISER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "network.h"
#include "options.h"

struct rdp_optimiser rdp_optimiser_of(const struct rdp_options *options);
/* The names of the state arrays, as PyTorch's optimisers call them in state_dict(): that of rdp_update.state[i] in
 * names[i], NULL where these options need no such array (momentum_buffer with --momentum 0). */
void rdp_optimiser_state_names(const struct rdp_options *options, const char *names[RDP_OPTIMISER_ARRAYS]);
/* Whether a run keeps averages of its weights (--ema, asgd), and whether it is by them that it is evaluated. */
bool rdp_optimiser_averages(const struct rdp_options *options);
bool rdp_optimiser_evaluates_averages(const struct rdp_options *options);

/* The rows of the network's parameters in the order of the flat arrays, and the row of each block of RDP_ROW_BLOCK
 * elements: host arrays, the caller's (free). */
struct rdp_optimiser_rows {
    struct rdp_update_row *rows;
    uint16_t *row_of; /* [parameter_count / RDP_ROW_BLOCK] */
    int count;
};
/* The network is one for training. On failure there is nothing to free. */
int rdp_optimiser_rows(struct rdp_optimiser_rows *rows, const struct rdp_network *network,
                       const struct rdp_options *options);

/*
 * What step `step` (from 0, of the whole run) with learning rate `lr` works with; the step before it had `previous_lr`
 * (asgd's decay and averages follow one step behind; step 0 has none before it). `momentum` takes the place of momentum
 * and beta1; NAN: the options' own. Nothing is mixed.
 *
 * Average: torch.optim.swa_utils.AveragedModel with get_ema_avg_fn(ema), use_buffers: a copy in the first step, then
 * average = ema average + (1 - ema) new; asgd: torch.optim.ASGD's mu = 1 / max(1, steps before this one - t0).
 * Lookahead: at the end of every k-th step.
 */
struct rdp_step_values rdp_optimiser_step_values(const struct rdp_options *options, int64_t epoch, int64_t step,
                                                 double lr, double previous_lr, double momentum);

#endif
