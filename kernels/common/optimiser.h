/*
 * One step of each optimiser, element by element: what `update` (kernels.h) does on both devices, and the one function
 * of the host's that it needs (rdp_optimiser_values). Defined by torch.optim 2.x (SGD with dampening 0, Adam and AdamW
 * without amsgrad, Adamax, Adagrad, RMSprop not centered, ASGD) and, with p the parameters and g the gradient of a row:
 *
 *   LARS (You et al. 2017)  g = trust x (g + decay p); then as SGD with momentum
 *                           trust = trust_coefficient |p| / (|g| + decay |p| + epsilon)
 *   LAMB (You et al. 2020)  m, v as Adam's; r = m_hat / (sqrt(v_hat) + epsilon) + decay p; p -= lr (|p| / |r|) r
 *
 * where the ratio is 1 if a norm is 0 or the row does not adapt. Before all that the gradient is clipped as
 * torch.nn.utils.clip_grad_value_ and then clip_grad_norm_ do; frozen rows have no gradient, so it is not in the norm.
 *
 * Optimisers that differ only in factors share a rule, which is one loop on each device; the factors of a row are its
 * terms. LAMB takes two: one that leaves r in the gradient's place, and, once |r| is known, a plain step along it.
 */
#ifndef RDP_KERNELS_COMMON_OPTIMISER_H
#define RDP_KERNELS_COMMON_OPTIMISER_H

#include <math.h>

#include "kernels/common/function.h"
#include "kernels/kernels.h"

/* What the step number decides, as far as struct rdp_optimiser does not say it. */
struct rdp_optimiser_decay {
    double adagrad_lr_decay; /* Adagrad: the rate is divided by 1 + steps x this */
    double asgd_lambda, asgd_alpha;
};

/*
 * rdp_step_values.optimiser of step `step` (from 0), whose learning rate is `lr`; that of the step before it was
 * `previous_lr` (anything at step 0; read by ASGD alone). Host only, in f64. With t = step + 1:
 *
 *   adam, adamw, lamb  [0] = 1 / (1 - beta1^t), [1] = 1 / sqrt(1 - beta2^t): the betas as the device has them, in f32
 *   adamax             [0] = 1 / (1 - beta1^t)
 *   adagrad            [0] = 1 / (1 + step x lr_decay), a factor of the rate
 *   asgd               [0] = eta: the rate itself. PyTorch sets it at the end of the step before, from that one's rate:
 *                      previous_lr / (1 + lambda previous_lr step)^alpha; lr at step 0
 *   others             nothing
 *
 * What is not named is 0.
 */
static inline void rdp_optimiser_values(const struct rdp_optimiser *optimiser, const struct rdp_optimiser_decay *decay,
                                        int64_t step, double lr, double previous_lr, float values[3])
{
    const double t = (double)step + 1;
    values[0] = values[1] = values[2] = 0;
    switch (optimiser->kind) {
    case RDP_ADAM:
    case RDP_ADAMW:
    case RDP_LAMB:
        values[0] = (float)(1 / (1 - pow((double)optimiser->beta1, t)));
        values[1] = (float)(1 / sqrt(1 - pow((double)optimiser->beta2, t)));
        break;
    case RDP_ADAMAX:
        values[0] = (float)(1 / (1 - pow((double)optimiser->beta1, t)));
        break;
    case RDP_ADAGRAD:
        values[0] = (float)(1 / (1 + (double)step * decay->adagrad_lr_decay));
        break;
    case RDP_ASGD:
        values[0] = (float)(step == 0 ? lr
                                      : previous_lr / pow(1 + decay->asgd_lambda * previous_lr * (double)step,
                                                          decay->asgd_alpha));
        break;
    case RDP_SGD:
    case RDP_RMSPROP:
    case RDP_LARS:
        break;
    }
}

#endif
