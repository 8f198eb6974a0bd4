/* Learning-rate schedules; see schedule.h. */
#include "schedule.h"

#include <math.h>

#include "snapshot.h"

static const double pi = 3.14159265358979323846;

double rdp_schedule_base_lr(const struct rdp_options *options)
{
    double ratio = (double)options->batch / options->lr_base_batch;
    switch (options->lr_scaling) {
    case RDP_LR_SCALING_LINEAR:
        return options->lr * ratio;
    case RDP_LR_SCALING_SQRT:
        return options->lr * sqrt(ratio);
    case RDP_LR_SCALING_NONE:
        break;
    }
    return options->lr;
}

/* Cosine from `from` (share 0) to `to` (share 1). */
static double cosine(double from, double to, double share)
{
    return to + (from - to) / 2 * (1 + cos(pi * share));
}

static double anneal(enum rdp_anneal kind, double from, double to, double share)
{
    return kind == RDP_ANNEAL_LINEAR ? from + (to - from) * share : cosine(from, to, share);
}

/* Smith & Topin 2018, in PyTorch's form: up to "step" pct * total - 1, which need not be whole, then down to the last
 * step. */
static double cycle(const struct rdp_options *options, double initial, double peak, double last, int64_t total_steps,
                    int64_t step)
{
    const enum rdp_anneal kind = options->onecycle_anneal;
    double peak_step = options->onecycle_peak * (double)total_steps - 1, last_step = (double)total_steps - 1;
    if ((double)step <= peak_step)
        return peak_step > 0 ? anneal(kind, initial, peak, (double)step / peak_step) : peak;
    return anneal(kind, peak, last, ((double)step - peak_step) / (last_step - peak_step));
}

static double onecycle(const struct rdp_options *options, double peak_lr, int64_t total_steps, int64_t step)
{
    const double initial = peak_lr / options->onecycle_start_div;
    return cycle(options, initial, peak_lr, initial / options->onecycle_final_div, total_steps, step);
}

/* How often the rate has been reduced when `step` begins: at the step nearest to each of the points. */
static double reductions(const struct rdp_options *options, int64_t steps_per_epoch, int64_t step)
{
    const double per_epoch = (double)steps_per_epoch, begun = (double)step + 0.5;
    int count = 0;
    if (options->schedule == RDP_SCHEDULE_STEP)
        return options->step_steps > 0 ? (double)(step / options->step_steps)
                                       : floor(begun / (options->step_epochs * per_epoch));
    for (int i = 0; i < options->milestones.count; i++)
        count += begun >= options->milestones.values[i] * per_epoch;
    return count;
}

/* The schedule without warm-up. */
static double scheduled(const struct rdp_options *options, int64_t steps_per_epoch, int64_t total_steps, int64_t step)
{
    const double lr = rdp_schedule_base_lr(options), low = options->min_lr, share = (double)step / (double)total_steps;
    switch (options->schedule) {
    case RDP_SCHEDULE_STEP:
    case RDP_SCHEDULE_MULTISTEP:
        return lr * pow(options->step_gamma, reductions(options, steps_per_epoch, step));
    case RDP_SCHEDULE_COSINE:
        return cosine(lr, low, share);
    case RDP_SCHEDULE_POLYNOMIAL:
        return low + (lr - low) * pow(1 - share, options->polynomial_power);
    case RDP_SCHEDULE_ONECYCLE:
        return onecycle(options, lr, total_steps, step);
    case RDP_SCHEDULE_CONSTANT:
    case RDP_SCHEDULE_PLATEAU:
        break;
    }
    return lr;
}

static int64_t warmup_steps(const struct rdp_options *options, int64_t steps_per_epoch, int64_t total_steps)
{
    const int64_t warmup = (int64_t)llround(options->warmup_epochs * (double)steps_per_epoch);
    return warmup < total_steps ? warmup : total_steps - 1; /* less than the whole run, but rounded to it */
}

double rdp_schedule_lr(const struct rdp_options *options, int64_t steps_per_epoch, int64_t total_steps, int64_t step)
{
    const int64_t warmup = warmup_steps(options, steps_per_epoch, total_steps);
    total_steps -= warmup;
    if (step < warmup)
        return scheduled(options, steps_per_epoch, total_steps, 0) * (double)(step + 1) / (double)warmup;
    return scheduled(options, steps_per_epoch, total_steps, step - warmup);
}

double rdp_schedule_momentum(const struct rdp_options *options, int64_t steps_per_epoch, int64_t total_steps,
                             int64_t step)
{
    const struct rdp_real_list *bounds = &options->onecycle_momentum;
    if (options->schedule != RDP_SCHEDULE_ONECYCLE || bounds->count != 2)
        return NAN;
    const int64_t warmup = warmup_steps(options, steps_per_epoch, total_steps);
    return cycle(options, bounds->values[1], bounds->values[0], bounds->values[1], total_steps - warmup,
                 step < warmup ? 0 : step - warmup);
}

void rdp_schedule_plateau_step(const struct rdp_options *options, struct rdp_standing *standing, double loss)
{
    const double smallest = 1e-8; /* reduction, of the rate */
    const double lr = rdp_schedule_base_lr(options) * standing->plateau_factor;
    const bool cooling = standing->plateau_cooldown > 0;
    if (loss < standing->plateau_best * (1 - options->plateau_threshold)) {
        standing->plateau_best = loss;
        standing->plateau_bad = 0;
    } else {
        standing->plateau_bad++;
    }
    if (cooling) {
        standing->plateau_cooldown--;
        standing->plateau_bad = 0;
    }
    if (standing->plateau_bad <= options->plateau_patience)
        return;
    const double lowered = fmax(lr * options->plateau_factor, options->min_lr);
    if (lr - lowered > smallest)
        standing->plateau_factor = lowered / rdp_schedule_base_lr(options);
    standing->plateau_cooldown = options->plateau_cooldown;
    standing->plateau_bad = 0;
}
