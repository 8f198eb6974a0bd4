/* Learning-rate schedules; see schedule.h. */
#include "schedule.h"

#include <math.h>

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
static double anneal(double from, double to, double share)
{
    return to + (from - to) / 2 * (1 + cos(pi * share));
}

/* Smith & Topin 2018, in PyTorch's form: up to step pct * total - 1, then down to the last step. */
static double onecycle(const struct rdp_options *options, double peak_lr, int64_t total_steps, int64_t step)
{
    double initial = peak_lr / options->onecycle_start_div, last = initial / options->onecycle_final_div;
    double peak_step = options->onecycle_peak * (double)total_steps - 1, last_step = (double)total_steps - 1;
    if ((double)step <= peak_step)
        return peak_step > 0 ? anneal(initial, peak_lr, (double)step / peak_step) : peak_lr;
    return anneal(peak_lr, last, ((double)step - peak_step) / (last_step - peak_step));
}

double rdp_schedule_lr(const struct rdp_options *options, int64_t steps_per_epoch, int64_t total_steps, int64_t step)
{
    const double lr = rdp_schedule_base_lr(options);
    const int64_t warmup = (int64_t)llround(options->warmup_epochs * (double)steps_per_epoch);
    int reductions = 0;
    if (step < warmup)
        return lr * (double)(step + 1) / (double)warmup;
    step -= warmup;
    total_steps -= warmup;
    switch (options->schedule) {
    case RDP_SCHEDULE_STEP:
        if (options->step_steps > 0)
            return lr * pow(options->step_gamma, floor((double)step / (double)options->step_steps));
        return lr * pow(options->step_gamma, floor((double)step / (options->step_epochs * (double)steps_per_epoch)));
    case RDP_SCHEDULE_MULTISTEP:
        for (int i = 0; i < options->milestones.count; i++)
            if ((double)step >= options->milestones.values[i] * (double)steps_per_epoch)
                reductions++;
        return lr * pow(options->step_gamma, reductions);
    case RDP_SCHEDULE_COSINE:
        return anneal(lr, options->min_lr, (double)step / (double)total_steps);
    case RDP_SCHEDULE_POLYNOMIAL:
        return options->min_lr +
               (lr - options->min_lr) * pow(1 - (double)step / (double)total_steps, options->polynomial_power);
    case RDP_SCHEDULE_ONECYCLE:
        return onecycle(options, lr, total_steps, step);
    case RDP_SCHEDULE_CONSTANT:
    case RDP_SCHEDULE_PLATEAU:
        break;
    }
    return lr;
}
