/* `resnet-dp train`: sets a run up and lets trainer.c run it. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "comm/watchdog.h"
#include "commands.h"
#include "io/durable.h"
#include "mixing.h"
#include "run_dir.h"
#include "signals.h"
#include "trainer.h"

/* Rows of the training images, and of those kept for validation, among the first --train-images; the caller's, also
 * after an error. */
static int split(struct rdp_trainer *trainer, int64_t **training, int64_t **validation)
{
    const struct rdp_options *options = &trainer->options;
    const int64_t all = trainer->data.count[RDP_SPLIT_TRAIN];
    const int64_t count = options->train_images > 0 ? options->train_images : all;
    RDP_TRY(rdp_sampler_check(options, all, trainer->session->comm->size));
    return rdp_sampler_split((uint64_t)options->seed, count, options->val_fraction, training, &trainer->training_count,
                             validation, &trainer->validation_count);
}

/* Each rank opens the file and reads its part: sampler, validation, test. */
static int load_data(struct rdp_trainer *trainer, struct rdp_dataset *dataset)
{
    const struct rdp_options *options = &trainer->options;
    struct rdp_comm *comm = trainer->session->comm;
    struct rdp_device *device = trainer->session->device;
    int64_t *training = NULL, *validation = NULL;
    int status = split(trainer, &training, &validation);
    RDP_TRY_GOTO(status, rdp_comm_agree(comm, status, "splitting the training data"), done);
    RDP_TRY_GOTO(
        status,
        rdp_sampler_create(&trainer->sampler, options, dataset, training, trainer->training_count, comm, device), done);
    if (options->stem_init == RDP_STEM_WHITEN)
        RDP_TRY_GOTO(status, rdp_whiten_read(dataset, training, trainer->training_count, comm, trainer->patches), done);
    if (trainer->validation_count > 0)
        RDP_TRY_GOTO(status,
                     rdp_evaluator_create(&trainer->validation, dataset, RDP_SPLIT_TRAIN, validation,
                                          trainer->validation_count, options->evaluate_on, options->evaluate_views,
                                          comm, device),
                     done);
    status = rdp_evaluator_create(&trainer->test, dataset, RDP_SPLIT_TEST, NULL, trainer->data.count[RDP_SPLIT_TEST],
                                  options->evaluate_on, options->evaluate_views, comm, device);
done:
    free(training);
    free(validation);
    return status;
}

static int open_data(struct rdp_trainer *trainer)
{
    struct rdp_dataset *dataset = NULL;
    struct rdp_comm *comm = trainer->session->comm;
    int status = rdp_comm_agree(comm, rdp_dataset_open(&dataset, trainer->options.data), "opening the data set");
    if (status == RDP_OK) {
        trainer->data = *rdp_dataset_info(dataset);
        status = rdp_options_normalisation(&trainer->options, trainer->data.mean, trainer->data.std);
        if (status == RDP_OK)
            status = load_data(trainer, dataset);
    }
    rdp_dataset_close(dataset);
    return status;
}

/* Collective, agreed. */
static int make_network(struct rdp_trainer *trainer)
{
    const struct rdp_options *options = &trainer->options;
    struct rdp_session *session = trainer->session;
    int status;
    struct rdp_network_config config = {
        .batch = options->batch / session->comm->size / options->accumulate,
        .micro_batches = options->accumulate,
        .training = true,
        .label_smoothing = options->label_smoothing,
        .mixing = rdp_mixing_asked(options),
        .seed = (uint64_t)options->seed,
        .reducer = session->reducer,
        .sync_bn = options->sync_bn && session->comm->size > 1,
    };
    status = rdp_model_create(&trainer->model, options, trainer->data.classes);
    RDP_TRY(rdp_comm_agree(session->comm, status, "making the model"));
    RDP_TRY(rdp_network_create(&trainer->network, trainer->model, session->device, &config));
    status = rdp_step_create(&trainer->step, trainer->network, session->reducer, options);
    if (status == RDP_OK)
        status = rdp_network_initialise(trainer->network, (uint64_t)options->seed);
    return rdp_comm_agree(session->comm, status, "making the training step");
}

/* A run that ended by --max-steps has a row for the part of an epoch in which it did; resumed, it still ends there. */
static bool ended_within_epoch(const struct rdp_trainer *trainer)
{
    return trainer->standing.step >= trainer->total_steps && trainer->standing.epoch_step > 0;
}

/* Rank 0: the files that describe the run. There is no summary of a run that goes on: it says how one ended. */
static int open_report(struct rdp_trainer *trainer)
{
    char path[RDP_PATH_MAX + 32], *text;
    const bool active = trainer->session->comm->rank == 0;
    const bool resumes = trainer->resumed_from[0] != '\0';
    const struct rdp_report_options options = {
        .active = active,
        .progress = trainer->options.progress,
        .steps = trainer->options.step_log,
        .resume_epoch = resumes ? trainer->standing.epoch + ended_within_epoch(trainer) : -1,
        .resume_step = resumes ? trainer->standing.step : -1,
    };
    RDP_TRY(rdp_report_open(&trainer->report, trainer->options.run_dir, &options));
    if (!active)
        return RDP_OK;
    rdp_run_dir_path(&trainer->options, "summary.json", path, sizeof path);
    if (unlink(path) != 0 && errno != ENOENT)
        return rdp_fail(RDP_EUSAGE, "%s: cannot delete this summary of an earlier run: %s; choose another --run-dir",
                        path, strerror(errno));
    RDP_TRY(rdp_options_to_text(&trainer->options, &text));
    rdp_run_dir_path(&trainer->options, "recipe.ini", path, sizeof path);
    struct rdp_bytes piece = {text, strlen(text)};
    int status = rdp_durable_write(path, &piece, 1);
    free(text);
    return status;
}

/* When the host looks at what the device does: not after every step where that would keep the device waiting. */
static int plan_looks(struct rdp_trainer *trainer)
{
    const struct rdp_options *options = &trainer->options;
    const struct rdp_device_ops *ops = trainer->session->device->ops;
    trainer->report_every = options->report_every > 0 ? options->report_every : 1;
    RDP_TRY(rdp_options_profile(options, &trainer->profile_first, &trainer->profile_last));
    if (trainer->profile_first > 0 && ops->profile == NULL)
        return rdp_fail(RDP_EUSAGE, "--profile-steps: a profiler's window is for GPUs, and this run uses the %s device",
                        ops->name);
    return RDP_OK;
}

/* Of a new run; a resumed one takes its weights from the checkpoint. Agreed. */
static int initialise_stem(struct rdp_trainer *trainer)
{
    if (trainer->options.stem_init != RDP_STEM_WHITEN)
        return RDP_OK;
    int status = rdp_whiten_stem(trainer->network, (const double(*)[RDP_PATCH])trainer->patches, trainer->augment.std);
    return rdp_comm_agree(trainer->session->comm, status, "making the stem's filters");
}

static int set_up(struct rdp_trainer *trainer)
{
    struct rdp_comm *comm = trainer->session->comm;
    RDP_TRY(rdp_session_open_device(trainer->session, &trainer->options));
    RDP_TRY(rdp_session_open_reducer(trainer->session, &trainer->options));
    RDP_TRY(rdp_comm_agree(comm, plan_looks(trainer), "reading --profile-steps"));
    RDP_TRY(open_data(trainer));
    RDP_TRY(make_network(trainer));
    RDP_TRY(rdp_run_dir_open(&trainer->options, comm, &trainer->lock));
    trainer->augment = rdp_session_augment(&trainer->options, trainer->data.mean, trainer->data.std);
    RDP_TRY(initialise_stem(trainer));
    trainer->standing.best = trainer->standing.plateau_best = INFINITY;
    trainer->standing.plateau_factor = 1;
    trainer->steps_per_epoch = rdp_sampler_steps(trainer->sampler);
    trainer->total_steps = trainer->steps_per_epoch * trainer->options.epochs;
    if (trainer->options.max_steps > 0 && trainer->options.max_steps < trainer->total_steps)
        trainer->total_steps = trainer->options.max_steps;
    RDP_TRY(rdp_trainer_resume(trainer));
    RDP_TRY(rdp_comm_agree(comm, open_report(trainer), "opening the run's files"));
    return rdp_trainer_banner(trainer);
}

static void tear_down(struct rdp_trainer *trainer)
{
    rdp_evaluation_free(&trainer->last_test);
    rdp_evaluation_free(&trainer->best_test);
    rdp_report_close(trainer->report);
    rdp_evaluator_destroy(trainer->test);
    rdp_evaluator_destroy(trainer->validation);
    rdp_sampler_destroy(trainer->sampler);
    rdp_step_destroy(trainer->step);
    rdp_network_destroy(trainer->network);
    rdp_model_destroy(trainer->model);
    if (trainer->lock >= 0)
        close(trainer->lock);
}

int rdp_cmd_train(const struct rdp_options *options, struct rdp_session *session)
{
    struct rdp_trainer trainer;
    memset(&trainer, 0, sizeof trainer);
    trainer.options = *options;
    trainer.session = session;
    trainer.lock = -1;
    rdp_signals_catch();
    int status = set_up(&trainer);
    if (status == RDP_OK)
        status = rdp_trainer_run(&trainer);
    if (status == RDP_OK)
        status = rdp_trainer_report_result(&trainer);
    /* An error of this rank alone, upon which main() ends all ranks. To free a GPU's memory is to wait for its kernels,
     * which may be waiting for ranks that are gone: nothing here, and no message, is worth that. */
    if (status != RDP_OK && session->comm->size > 1 && status != RDP_ENUMERIC && rdp_fail_message()[0] != '\0') {
        rdp_report_close(trainer.report);
        return status;
    }
    if (status == RDP_ENUMERIC)
        status = rdp_trainer_report_divergence(&trainer);
    tear_down(&trainer);
    return status;
}
