/* What a run says before its first step: the effective value of everything; see trainer.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "base/text.h"
#include "optimiser.h"
#include "schedule.h"
#include "trainer.h"

static void say_data(const struct rdp_trainer *trainer)
{
    char train[32], validation[32], test[32], skipped[32];
    int64_t unused = trainer->training_count - trainer->steps_per_epoch * trainer->options.batch;
    rdp_say("Data        %s: %s training, %s validation, %s test images (%s)\n", trainer->options.data,
            rdp_format_thousands(train, sizeof train, trainer->training_count),
            rdp_format_thousands(validation, sizeof validation, trainer->validation_count),
            rdp_format_thousands(test, sizeof test, trainer->data.count[RDP_SPLIT_TEST]), trainer->data.source);
    if (unused > 0)
        rdp_say("            %s training images do not fill a last batch: each epoch leaves others out\n",
                rdp_format_thousands(skipped, sizeof skipped, unused));
}

static void say_model(const struct rdp_trainer *trainer)
{
    char parameters[32], activations[32], arrays[32], algorithms[512];
    struct rdp_updater_array kept[RDP_UPDATER_ARRAYS_MAX];
    const int count = 2 + rdp_updater_arrays(trainer->step->updater, kept); /* those of statistics are small */
    rdp_network_algorithms(trainer->network, algorithms, sizeof algorithms);
    rdp_say("Model       %d layers, %s parameters\n", trainer->model->layer_count,
            rdp_format_thousands(parameters, sizeof parameters, rdp_model_parameters(trainer->model)));
    rdp_say("Memory      %s activations, %s parameters, gradients and what the optimiser keeps, per rank\n",
            rdp_format_bytes(activations, sizeof activations, (double)trainer->network->activation_bytes),
            rdp_format_bytes(arrays, sizeof arrays, count * 4.0 * (double)trainer->network->parameter_count));
    rdp_say("Convolution %s\n", algorithms);
    if (strstr(algorithms, "ref:") != NULL && trainer->session->comm->rank == 0)
        rdp_log_warning("some convolutions have no fast kernel in oneDNN for these widths and run its slow reference "
                        "code: use widths "
                        "that are multiples of 16");
}

static void say_optimiser(const struct rdp_trainer *trainer)
{
    const struct rdp_options *options = &trainer->options;
    char name[32], lookahead[64] = "", average[64] = "", kept[512];
    rdp_options_choice(options, "optimizer", name, sizeof name);
    if (options->lookahead > 0)
        snprintf(lookahead, sizeof lookahead, "; Lookahead every %d steps", options->lookahead);
    if (options->ema > 0)
        snprintf(average, sizeof average, "; moving average of the weights, decay %g", options->ema);
    rdp_say("Optimiser   %s, weight decay %g%s%s; the %s weights are evaluated\n", name, options->weight_decay,
            lookahead, average, rdp_optimiser_evaluates_averages(options) ? "averaged" : "trained");
    if (rdp_options_of_recipe(options, kept, sizeof kept)[0] != '\0')
        rdp_say("            from the recipe, which is for another optimiser: %s\n", kept);
    if (options->optimizer == RDP_OPTIMIZER_ASGD && rdp_optimiser_evaluates_averages(options) &&
        options->asgd_t0 >= (double)trainer->total_steps)
        rdp_say("            asgd begins to average after step %g, which this run does not reach: lower --asgd-t0\n",
                options->asgd_t0);
}

static void say_rate(const struct rdp_trainer *trainer)
{
    const struct rdp_options *options = &trainer->options;
    const int64_t whole = trainer->steps_per_epoch * options->epochs;
    char schedule[32], scaled[96] = "", warmup[64] = "";
    rdp_options_choice(options, "schedule", schedule, sizeof schedule);
    if (options->lr_scaling != RDP_LR_SCALING_NONE)
        snprintf(scaled, sizeof scaled, " (%g for a batch of %d, scaled to %d)", options->lr, options->lr_base_batch,
                 options->batch);
    if (options->warmup_epochs > 0)
        snprintf(warmup, sizeof warmup, " after a warm-up of %g epochs", options->warmup_epochs);
    rdp_say("Rate        %g%s, schedule %s%s: %g in step 1", rdp_schedule_base_lr(options), scaled, schedule, warmup,
            rdp_schedule_lr(options, trainer->steps_per_epoch, whole, 0));
    if (options->schedule == RDP_SCHEDULE_PLATEAU)
        rdp_say("; x %g after %d evaluation%s in a row without a lower validation loss\n", options->plateau_factor,
                options->plateau_patience + 1, options->plateau_patience == 0 ? "" : "s");
    else
        rdp_say(", %g in the last\n",
                rdp_schedule_lr(options, trainer->steps_per_epoch, whole, trainer->total_steps - 1));
}

static void say_training(const struct rdp_trainer *trainer)
{
    const struct rdp_options *options = &trainer->options;
    const struct rdp_comm *comm = trainer->session->comm;
    rdp_say("Batch       %d = %d rank%s x %d micro-batch%s x %d images; %lld steps an epoch, %lld in all\n",
            options->batch, comm->size, comm->size == 1 ? "" : "s", options->accumulate,
            options->accumulate == 1 ? "" : "es", trainer->network->config.batch, (long long)trainer->steps_per_epoch,
            (long long)trainer->total_steps);
    say_optimiser(trainer);
    say_rate(trainer);
    if (comm->size > 1)
        rdp_say("Gradients   %zu bucket%s over %s, %s backward; batch-norm statistics %s\n",
                rdp_buckets_count(trainer->step->buckets), rdp_buckets_count(trainer->step->buckets) == 1 ? "" : "s",
                trainer->session->reducer->description, options->overlap ? "all-reduced during" : "all-reduced after",
                options->sync_bn ? "of all ranks" : "of each rank");
}

static void warn_of_idle_options(const struct rdp_options *options)
{
    const char *name, *needs;
    for (size_t next = 0; (name = rdp_options_idle(options, &next, &needs)) != NULL;)
        rdp_log_warning("--%s does nothing in this run: it needs %s", name, needs);
}

/* A run that ends before the first reduction is one at a constant rate. */
static void warn_of_constant_rate(const struct rdp_trainer *trainer)
{
    const struct rdp_options *options = &trainer->options;
    const char *lower = options->schedule == RDP_SCHEDULE_MULTISTEP ? "milestones"
                        : options->step_steps > 0                   ? "step-steps"
                                                                    : "step-epochs";
    if ((options->schedule != RDP_SCHEDULE_STEP && options->schedule != RDP_SCHEDULE_MULTISTEP) ||
        options->step_gamma == 1)
        return;
    if (rdp_schedule_lr(options, trainer->steps_per_epoch, trainer->steps_per_epoch * options->epochs,
                        trainer->total_steps - 1) >= rdp_schedule_base_lr(options))
        rdp_log_warning("the rate never falls: the run ends before its first reduction; lower --%s or raise --%s",
                        lower, options->max_steps == trainer->total_steps ? "max-steps" : "epochs");
}

int rdp_trainer_banner(const struct rdp_trainer *trainer)
{
    struct rdp_session *session = trainer->session;
    char *text;
    rdp_say("resnet-dp %s (%s)\n", RDP_VERSION, RDP_GIT_ID);
    rdp_say("Device      %s, %s\n", session->device->description, rdp_precision_text(&trainer->options));
    if (session->device_note[0] != '\0')
        rdp_say("            %s\n", session->device_note);
    if (!session->device->ops->host_memory)
        rdp_say("Plans       %s\n", session->plan_cache[0] != '\0'
                                        ? session->plan_cache
                                        : "not kept: timed at every start, and a resumed run may round in other ways");
    if (session->note[0] != '\0')
        rdp_say("            %s\n", session->note);
    RDP_TRY(rdp_launch_print(&session->launch, session->threads));
    say_data(trainer);
    say_model(trainer);
    say_training(trainer);
    rdp_say("Run         %s%s%s\n", trainer->options.run_dir, trainer->resumed_from[0] ? ", resumed from " : "",
            trainer->resumed_from);
    RDP_TRY(rdp_options_in_force(&trainer->options, &text));
    rdp_say("Options in force; %s/recipe.ini has all\n%s\n", trainer->options.run_dir, text);
    free(text);
    if (session->comm->rank == 0) {
        warn_of_idle_options(&trainer->options);
        warn_of_constant_rate(trainer);
    }
    return RDP_OK;
}
