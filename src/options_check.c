/* What options must fulfil together: what one row of the table cannot say. See options.h. */
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "options.h"
#include "schedule.h"

int rdp_options_profile(const struct rdp_options *options, int64_t *first, int64_t *last)
{
    const char *text = options->profile_steps;
    char *colon, *end;
    *first = *last = 0;
    if (text[0] == '\0')
        return RDP_OK;
    *first = strtoll(text, &colon, 10);
    *last = *colon == ':' ? strtoll(colon + 1, &end, 10) : 0;
    if (*colon != ':' || end == colon + 1 || *end != '\0' || *first < 1 || *last < *first)
        return rdp_fail(RDP_EUSAGE, "--profile-steps %s: give the first and the last step, from 1, as in 100:110",
                        text);
    return RDP_OK;
}

/* An option-A shortcut can only add channels. */
static int check_pad_shortcut(const struct rdp_options *options)
{
    int before = options->stem_width;
    for (int i = 0; i < options->widths.count; i++) {
        int output = options->widths.values[i] * (options->block == RDP_BLOCK_BOTTLENECK ? 4 : 1);
        if (output < before)
            return rdp_fail(RDP_EUSAGE,
                            "--shortcut pad: stage %d narrows from %d to %d channels, and padding can only add some; "
                            "raise --widths or use --shortcut conv",
                            i + 1, before, output);
        before = output;
    }
    return RDP_OK;
}

static int check_validation(const struct rdp_options *options)
{
    const char *watcher = options->schedule == RDP_SCHEDULE_PLATEAU ? "--schedule plateau"
                          : options->early_stopping > 0             ? "--early-stopping"
                                                                    : NULL;
    const char *what = watcher == NULL && options->final_test == RDP_FINAL_BEST ? "--final-test best" : watcher;
    if (what != NULL && options->val_fraction == 0)
        return rdp_fail(RDP_EUSAGE,
                        "%s goes by the validation loss, and there is no validation set: take one with --val-fraction "
                        "0.1, say",
                        what);
    if (watcher != NULL && options->evaluate_every == 0)
        return rdp_fail(RDP_EUSAGE,
                        "%s goes by the validation loss, and --evaluate-every 0 measures it only when the run ends: "
                        "take --evaluate-every 1",
                        watcher);
    if (options->final_test == RDP_FINAL_BEST && options->checkpoint_epochs == 0 && options->checkpoint_steps == 0 &&
        options->checkpoint_minutes == 0)
        return rdp_fail(RDP_EUSAGE, "--final-test best takes the best weights from their checkpoint, and checkpoints "
                                    "are off: take --checkpoint-epochs 1, or --final-test last");
    return RDP_OK;
}

static int check_onecycle_momentum(const struct rdp_options *options)
{
    const struct rdp_real_list *bounds = &options->onecycle_momentum;
    /* Beside it --momentum does nothing but say that there is one. */
    const bool keeps_momentum = options->optimizer == RDP_OPTIMIZER_SGD || options->optimizer == RDP_OPTIMIZER_LARS ||
                                options->optimizer == RDP_OPTIMIZER_RMSPROP;
    if (bounds->count == 1 && bounds->values[0] == 0)
        return RDP_OK;
    if (bounds->count != 2 || bounds->values[0] > bounds->values[1])
        return rdp_fail(RDP_EUSAGE, "--onecycle-momentum takes the lower and the upper bound, as in 0.85,0.95, or 0");
    if (options->momentum == 0 && keeps_momentum && rdp_options_missing(options, "onecycle-momentum") == NULL)
        return rdp_fail(RDP_EUSAGE,
                        "--onecycle-momentum beside --momentum 0 (rmsprop's default): there is none to change; "
                        "give a --momentum above 0, or --onecycle-momentum 0");
    return RDP_OK;
}

static int check_schedule(const struct rdp_options *options)
{
    RDP_TRY(check_onecycle_momentum(options));
    const bool lowers = options->schedule == RDP_SCHEDULE_COSINE || options->schedule == RDP_SCHEDULE_POLYNOMIAL ||
                        options->schedule == RDP_SCHEDULE_PLATEAU;
    if (lowers && options->min_lr > rdp_schedule_base_lr(options))
        return rdp_fail(RDP_EUSAGE,
                        "--min-lr %g is above the learning rate %g that the schedule begins with: lower it or raise "
                        "--lr",
                        options->min_lr, rdp_schedule_base_lr(options));
    for (int i = 1; i < options->milestones.count; i++)
        if (options->milestones.values[i] <= options->milestones.values[i - 1])
            return rdp_fail(RDP_EUSAGE, "--milestones: %g does not come after %g: give them in ascending order",
                            options->milestones.values[i], options->milestones.values[i - 1]);
    return RDP_OK;
}

static int check_training(const struct rdp_options *options)
{
    if (options->optimizer == RDP_OPTIMIZER_SGD && options->nesterov && options->momentum == 0)
        return rdp_fail(RDP_EUSAGE,
                        "--nesterov beside --momentum 0: give a --momentum above 0, as 0.9, or --no-nesterov");
    if (options->ema > 0 && options->optimizer == RDP_OPTIMIZER_ASGD)
        return rdp_fail(RDP_EUSAGE,
                        "--ema with --optimizer asgd: asgd keeps an average of its own; drop one of the two");
    if (options->evaluate_weights == RDP_WEIGHTS_AVERAGED && options->ema == 0 &&
        options->optimizer != RDP_OPTIMIZER_ASGD)
        return rdp_fail(RDP_EUSAGE, "--evaluate-weights averaged: nothing averages them; add --ema 0.999, say, or "
                                    "--optimizer asgd");
    if (options->dropout.count != 1 && options->dropout.count != options->blocks.count)
        return rdp_fail(RDP_EUSAGE,
                        "--dropout has %d values, --blocks has %d stages: give one for all or one per stage",
                        options->dropout.count, options->blocks.count);
    RDP_TRY(rdp_options_check_augmentation(options));
    RDP_TRY(check_schedule(options));
    return check_validation(options);
}

int rdp_options_check(const struct rdp_options *options)
{
    int64_t first, last;
    RDP_TRY(rdp_options_profile(options, &first, &last));
    if (options->blocks.count != options->widths.count)
        return rdp_fail(RDP_EUSAGE, "--blocks has %d stages, --widths has %d: give both one number per stage",
                        options->blocks.count, options->widths.count);
    if (options->strides.count > options->blocks.count && options->strides.count > 2)
        return rdp_fail(RDP_EUSAGE, "--strides has %d values, --blocks has %d stages: give at most one per stage",
                        options->strides.count, options->blocks.count);
    if (options->shortcut == RDP_SHORTCUT_NONE && options->zero_init_residual)
        return rdp_fail(RDP_EUSAGE,
                        "--zero-init-residual lets each block start as its shortcut, and --shortcut none has "
                        "none: nothing would pass; leave one of them out");
    if (options->shortcut == RDP_SHORTCUT_PAD)
        RDP_TRY(check_pad_shortcut(options));
    if (options->batch % options->accumulate != 0)
        return rdp_fail(RDP_EUSAGE,
                        "--batch %d is not a multiple of --accumulate %d: micro-batches must be of one size",
                        options->batch, options->accumulate);
    if (options->warmup_epochs >= options->epochs)
        return rdp_fail(RDP_EUSAGE, "--warmup-epochs %g leaves nothing of --epochs %d: choose a shorter warm-up",
                        options->warmup_epochs, options->epochs);
    if (options->fuse_statistics == RDP_FUSE_STATISTICS_YES && options->precision != RDP_BF16)
        return rdp_fail(RDP_EUSAGE,
                        "--fuse-statistics yes with --precision %s: only bf16 convolutions can; take "
                        "--precision bf16 or --fuse-statistics no",
                        rdp_precision_text(options));
    return check_training(options);
}
