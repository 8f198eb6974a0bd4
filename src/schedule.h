/*
 * The learning rate of every step, and one-cycle's momentum: pure functions of the step, with nothing to save or restore.
 * Only plateau has a state, a factor on top that rdp_standing carries: it is lowered when the validation loss no longer
 * falls.
 */
#ifndef RDP_SCHEDULE_H
#define RDP_SCHEDULE_H

#include <stdint.h>

#include "options.h"

struct rdp_standing;

/* --lr after --lr-scaling: x batch / base (linear; Goyal et al. 2017) or x sqrt(batch / base) (Krizhevsky 2014). */
double rdp_schedule_base_lr(const struct rdp_options *options);
/* Rate of step 0 .. total_steps - 1, without plateau's factor. As torch.optim.lr_scheduler 2.x, stepped every batch:
 * StepLR, MultiStepLR, CosineAnnealingLR (T_max: all steps, eta_min: --min-lr), PolynomialLR (total_iters: all steps;
 * to --min-lr), OneCycleLR (cos or linear). Epochs of reductions that are no whole number of steps
 * count to the nearest step. Warm-up over the first W steps as SequentialLR does it: LinearLR(start_factor = 1 / W,
 * total_iters = W - 1) up to the schedule's first rate (one-cycle: the peak / start-div), then the schedule, whose
 * steps and epochs count from there. */
double rdp_schedule_lr(const struct rdp_options *options, int64_t steps_per_epoch, int64_t total_steps, int64_t step);
/* --onecycle-momentum: the momentum, or beta1, of the step, which goes from the upper bound to the lower one while the rate
 * rises, and back; the upper one in a warm-up. As OneCycleLR with cycle_momentum=True. NAN: the schedule leaves it alone. */
double rdp_schedule_momentum(const struct rdp_options *options, int64_t steps_per_epoch, int64_t total_steps,
                             int64_t step);
/* After an evaluation: ReduceLROnPlateau(mode min, threshold_mode rel, eps 1e-8).step(loss), in plateau_* of
 * `standing`. The run begins with factor 1 and best INFINITY. A loss that is no number is no improvement. */
void rdp_schedule_plateau_step(const struct rdp_options *options, struct rdp_standing *standing, double loss);

#endif
