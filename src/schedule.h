/* The learning rate of every step, a pure function of the step: nothing to save, nothing to restore. */
#ifndef RDP_SCHEDULE_H
#define RDP_SCHEDULE_H

#include <stdint.h>

#include "options.h"

/* --lr after --lr-scaling: x batch / base (linear; Goyal et al. 2017) or x sqrt(batch / base) (Krizhevsky 2014). */
double rdp_schedule_base_lr(const struct rdp_options *options);
/* Rate of step 0 .. total_steps - 1. As torch.optim.lr_scheduler: StepLR, CosineAnnealingLR (to 0), OneCycleLR (cos, no
 * momentum cycling), stepped every batch; warm-up over W steps as LinearLR(start_factor = 1 / W, total_iters = W - 1),
 * then the schedule. */
double rdp_schedule_lr(const struct rdp_options *options, int64_t steps_per_epoch, int64_t total_steps, int64_t step);

#endif
