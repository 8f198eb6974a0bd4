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
 * `previous_lr` (anything at step 0; read by ASGD alone). Momentum and beta1 are the step's: a schedule may change them.
 * Host only, in f64. With t = step + 1:
 *
 *   adam, adamw, lamb  [0] = 1 / (1 - beta1^t), [1] = 1 / sqrt(1 - beta2^t): the betas as the device has them, in f32
 *   adamax             [0] = 1 / (1 - beta1^t)
 *   adagrad            [0] = 1 / (1 + step x lr_decay), a factor of the rate
 *   asgd               [0] = eta, which takes the rate's place. PyTorch sets it at the end of the step before, from
 *                      that one's rate: previous_lr / (1 + lambda previous_lr step)^alpha; lr at step 0
 *   all                [2] = momentum; of adam, adamw, adamax and lamb beta1
 *
 * What is not named is 0. Adam's corrections are of the present beta1, as PyTorch's are.
 */
static inline void rdp_optimiser_values(const struct rdp_optimiser *optimiser, const struct rdp_optimiser_decay *decay,
                                        int64_t step, double lr, double previous_lr, float values[3])
{
    const double t = (double)step + 1;
    values[0] = values[1] = 0;
    values[2] = optimiser->momentum;
    switch (optimiser->kind) {
    case RDP_ADAM:
    case RDP_ADAMW:
    case RDP_LAMB:
        values[0] = (float)(1 / (1 - pow((double)optimiser->beta1, t)));
        values[1] = (float)(1 / sqrt(1 - pow((double)optimiser->beta2, t)));
        values[2] = optimiser->beta1;
        break;
    case RDP_ADAMAX:
        values[0] = (float)(1 / (1 - pow((double)optimiser->beta1, t)));
        values[2] = optimiser->beta1;
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

enum rdp_update_rule {
    RDP_RULE_GRADIENT,        /* SGD without momentum, LARS likewise, ASGD; LAMB's second */
    RDP_RULE_MOMENTUM,        /* SGD, LARS */
    RDP_RULE_SQUARE,          /* Adagrad, RMSprop without momentum */
    RDP_RULE_SQUARE_MOMENTUM, /* RMSprop */
    RDP_RULE_ADAM,            /* Adam, AdamW */
    RDP_RULE_ADAMAX,
    RDP_RULE_LAMB,
    RDP_UPDATE_RULES
};

RDP_DEVICE_FUNCTION enum rdp_update_rule rdp_update_rule_of(const struct rdp_optimiser *optimiser)
{
    switch (optimiser->kind) {
    case RDP_SGD:
    case RDP_LARS:
        return optimiser->momentum > 0 ? RDP_RULE_MOMENTUM : RDP_RULE_GRADIENT;
    case RDP_ADAM:
    case RDP_ADAMW:
        return RDP_RULE_ADAM;
    case RDP_ADAMAX:
        return RDP_RULE_ADAMAX;
    case RDP_ADAGRAD:
        return RDP_RULE_SQUARE;
    case RDP_RMSPROP:
        return optimiser->momentum > 0 ? RDP_RULE_SQUARE_MOMENTUM : RDP_RULE_SQUARE;
    case RDP_LAMB:
        return RDP_RULE_LAMB;
    case RDP_ASGD:
        break;
    }
    return RDP_RULE_GRADIENT;
}

/*
 * How many of rdp_update's state arrays a rule uses, from the first on; PyTorch's names of them:
 *
 *   RDP_RULE_MOMENTUM         momentum_buffer
 *   RDP_RULE_SQUARE           Adagrad: sum, RMSprop: square_avg
 *   RDP_RULE_SQUARE_MOMENTUM  square_avg, momentum_buffer
 *   RDP_RULE_ADAM, _LAMB      exp_avg, exp_avg_sq
 *   RDP_RULE_ADAMAX           exp_avg, exp_inf
 */
RDP_DEVICE_FUNCTION int rdp_update_arrays(enum rdp_update_rule rule)
{
    return rule == RDP_RULE_GRADIENT ? 0 : rule == RDP_RULE_MOMENTUM || rule == RDP_RULE_SQUARE ? 1 : 2;
}

/* The factors of a row's elements; each rule reads those that it names below, and all read the first four. */
struct rdp_update_terms {
    float clip_value, clip_scale; /* infinity, 1: no clipping */
    float decay, trust;           /* g = trust (g + decay p) */
    float rate, shrink;           /* p -= rate direction + shrink p */
    float keep1, add1;            /* m = keep1 m + add1 g */
    float keep2, add2;            /* v = keep2 v + add2 g^2 */
    float correct1, correct2;     /* m_hat = correct1 m, sqrt(v_hat) = correct2 sqrt(v) */
    float epsilon;
    float decoupled; /* LAMB: r = ... + decoupled p */
    int nesterov;
};

/* Of a step along what already lies in the gradient's place. */
RDP_DEVICE_FUNCTION struct rdp_update_terms rdp_update_along(float rate)
{
    struct rdp_update_terms terms;
    terms.clip_value = INFINITY;
    terms.clip_scale = terms.trust = 1;
    terms.decay = terms.shrink = 0;
    terms.rate = rate;
    terms.keep1 = terms.keep2 = 0;
    terms.add1 = terms.add2 = terms.correct1 = terms.correct2 = 1;
    terms.epsilon = terms.decoupled = 0;
    terms.nesterov = 0;
    return terms;
}

/* `clip_scale` and `ratio` (LARS's) as the sums have decided; 1 where nothing has. */
RDP_DEVICE_FUNCTION struct rdp_update_terms rdp_update_terms_of(const struct rdp_optimiser *optimiser,
                                                                const struct rdp_step_values *values,
                                                                const struct rdp_update_row *row, float clip_scale,
                                                                float ratio)
{
    struct rdp_update_terms terms = rdp_update_along(values->lr * row->lr);
    if (optimiser->clip_value > 0)
        terms.clip_value = optimiser->clip_value;
    terms.clip_scale = clip_scale;
    if (optimiser->kind == RDP_ADAMW)
        terms.shrink = terms.rate * row->weight_decay;
    else if (optimiser->kind == RDP_LAMB)
        terms.decoupled = row->weight_decay;
    else
        terms.decay = row->weight_decay;
    terms.epsilon = optimiser->epsilon;
    switch (optimiser->kind) {
    case RDP_LARS:
        terms.trust = ratio;
        terms.keep1 = values->optimiser[2];
        break;
    case RDP_SGD:
        terms.keep1 = values->optimiser[2];
        terms.nesterov = optimiser->nesterov;
        break;
    case RDP_ASGD:
        terms.rate = values->optimiser[0] * row->lr;
        terms.shrink = terms.rate * optimiser->lambda;
        break;
    case RDP_ADAGRAD:
        terms.rate *= values->optimiser[0];
        terms.keep2 = 1;
        break;
    case RDP_RMSPROP:
        terms.keep1 = values->optimiser[2];
        terms.keep2 = optimiser->alpha;
        terms.add2 = 1 - optimiser->alpha;
        break;
    case RDP_ADAM:
    case RDP_ADAMW:
    case RDP_ADAMAX:
    case RDP_LAMB:
        terms.keep1 = values->optimiser[2];
        terms.add1 = 1 - values->optimiser[2];
        terms.keep2 = optimiser->beta2;
        terms.add2 = 1 - optimiser->beta2;
        terms.correct1 = values->optimiser[0];
        terms.correct2 = values->optimiser[1];
        break;
    }
    return terms;
}

RDP_DEVICE_FUNCTION float rdp_update_clip(float gradient, float limit)
{
    gradient = gradient > limit ? limit : gradient;
    return gradient < -limit ? -limit : gradient;
}

/* One element. `first` and `second` are the state arrays', not read by rules that have none. */
RDP_DEVICE_FUNCTION void rdp_update_element(enum rdp_update_rule rule, const struct rdp_update_terms *t,
                                            float *parameter, float *gradient, float *first, float *second)
{
    const float p = *parameter;
    const float g = t->trust * (t->clip_scale * rdp_update_clip(*gradient, t->clip_value) + t->decay * p);
    float direction = g;
    if (rule == RDP_RULE_MOMENTUM) {
        *first = t->keep1 * *first + g;
        direction = t->nesterov ? g + t->keep1 * *first : *first;
    } else if (rule == RDP_RULE_SQUARE || rule == RDP_RULE_SQUARE_MOMENTUM) {
        *first = t->keep2 * *first + t->add2 * (g * g);
        direction = g / (sqrtf(*first) + t->epsilon);
        if (rule == RDP_RULE_SQUARE_MOMENTUM)
            direction = *second = t->keep1 * *second + direction;
    } else if (rule == RDP_RULE_ADAM || rule == RDP_RULE_LAMB) {
        *first = t->keep1 * *first + t->add1 * g;
        *second = t->keep2 * *second + t->add2 * (g * g);
        direction = t->correct1 * *first / (t->correct2 * sqrtf(*second) + t->epsilon);
    } else if (rule == RDP_RULE_ADAMAX) {
        const float least = fabsf(g) + t->epsilon, kept = t->keep2 * *second;
        *first = t->keep1 * *first + t->add1 * g;
        *second = kept > least ? kept : least;
        direction = t->correct1 * *first / *second;
    }
    if (rule == RDP_RULE_LAMB)
        *gradient = direction + t->decoupled * p;
    else
        *parameter = p - (t->rate * direction + t->shrink * p);
}

/* Whether a step has to know sums of squares before its first element, and what they are of. */
RDP_DEVICE_FUNCTION int rdp_update_measures(const struct rdp_optimiser *optimiser)
{
    return optimiser->clip_norm > 0 || optimiser->kind == RDP_LARS;
}

/* What the whole gradient is multiplied by; `square` is the sum of its elements' squares. torch's clip_grad_norm_. */
RDP_DEVICE_FUNCTION double rdp_update_clip_scale(const struct rdp_optimiser *optimiser, double square)
{
    if (!(optimiser->clip_norm > 0))
        return 1;
    const double scale = (double)optimiser->clip_norm / (sqrt(square) + 1e-6);
    return scale >= 1 ? 1 : scale; /* what is not a number stays that */
}

/* LARS: trust, LAMB: |p| / |r|, from the sums of squares of p and of g or r; `scale` is what g will be multiplied by.
 */
RDP_DEVICE_FUNCTION double rdp_update_ratio(const struct rdp_optimiser *optimiser, const struct rdp_update_row *row,
                                            double scale, double parameter_square, double direction_square)
{
    const double p = sqrt(parameter_square), d = scale * sqrt(direction_square);
    if (!row->adapts || p == 0 || d == 0)
        return 1;
    if (optimiser->kind == RDP_LAMB)
        return p / d;
    return (double)optimiser->trust_coefficient * p / (d + (double)row->weight_decay * p + (double)optimiser->epsilon);
}

/* Where rdp_update's workspace keeps what: the scale of clipping, row r's ratio, the two sums of a piece. */
RDP_DEVICE_FUNCTION double *rdp_update_ratio_of(const struct rdp_update *update, int row)
{
    return update->workspace + 1 + row;
}
RDP_DEVICE_FUNCTION double *rdp_update_sums_of(const struct rdp_update *update, size_t slice, int row)
{
    return update->workspace + 1 + update->row_count + 2 * (slice + (size_t)row);
}

/* A row's piece in a slice: `count` elements from `begin` on; it may be empty. */
struct rdp_update_piece {
    size_t begin, count;
};
RDP_DEVICE_FUNCTION struct rdp_update_piece rdp_update_piece_of(const struct rdp_update_row *row, size_t slice)
{
    const size_t slice_begin = slice * RDP_UPDATE_SLICE, slice_end = slice_begin + RDP_UPDATE_SLICE,
                 row_end = row->offset + row->count, end = row_end < slice_end ? row_end : slice_end;
    struct rdp_update_piece piece;
    piece.begin = row->offset > slice_begin ? row->offset : slice_begin;
    piece.count = end > piece.begin ? end - piece.begin : 0;
    return piece;
}

#endif
