/*
 * What a run tells and leaves when it is over: the table of classes with the confusion matrix, the files of the run
 * directory that sum it up, the plots, and the line with its accuracy; see trainer.h. All by rank 0.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/status.h"
#include "class_tables.h"
#include "io/durable.h"
#include "plot.h"
#include "plot_confusion.h"
#include "run_dir.h"
#include "trainer.h"

static double accuracy_of(const struct rdp_evaluation *evaluation)
{
    return evaluation->count > 0 ? (double)evaluation->correct / (double)evaluation->count : NAN;
}

/* What summary.json is about. `state`: "done", or "diverged" for a run that has no result. */
struct summary {
    const struct rdp_trainer *trainer;
    const char *state;
};

static void put_summary(FILE *out, const void *what)
{
    const struct summary *summary = what;
    const struct rdp_trainer *trainer = summary->trainer;
    const struct rdp_evaluation *test = rdp_trainer_result(trainer), *last = &trainer->last_test;
    const bool best = trainer->best_epoch > 0;
    struct rdp_json json;
    rdp_json_begin(&json, out, 1);
    rdp_json_object(&json, NULL);
    rdp_json_text(&json, "program", "resnet-dp " RDP_VERSION " (" RDP_GIT_ID ")");
    rdp_json_text(&json, "state", summary->state);
    rdp_json_text(&json, "device", trainer->session->device->description);
    rdp_json_integer(&json, "ranks", trainer->session->comm->size);
    rdp_json_text(&json, "data", trainer->data.source);
    rdp_json_integer(&json, "data_crc32c", trainer->data.content_crc32c);
    rdp_json_integer(&json, "parameters", rdp_model_parameters(trainer->model));
    rdp_json_integer(&json, "epochs", trainer->standing.epoch);
    rdp_json_integer(&json, "steps", trainer->standing.step);
    rdp_json_integer(&json, "test_images", test->count);
    rdp_json_integer(&json, "test_correct", test->correct);
    rdp_json_real(&json, "test_accuracy", accuracy_of(test));
    rdp_json_real(&json, "test_loss", test->count > 0 ? test->loss : NAN);
    rdp_json_text(&json, "tested_weights", best ? "best" : "last");
    rdp_json_integer(&json, "tested_epoch",
                     best ? trainer->best_epoch : trainer->standing.epoch + (trainer->standing.epoch_step > 0));
    rdp_json_real(&json, "best_validation_loss", trainer->validation != NULL ? trainer->standing.best : NAN);
    rdp_json_integer(&json, "last_test_correct", last->correct);
    rdp_json_real(&json, "last_test_accuracy", accuracy_of(last));
    rdp_json_real(&json, "last_test_loss", last->count > 0 ? last->loss : NAN);
    rdp_json_boolean(&json, "stopped_early", rdp_trainer_stopped_early(trainer));
    rdp_json_real(&json, "training_seconds", trainer->trained_seconds);
    rdp_json_real(&json, "images_per_second",
                  trainer->trained_seconds > 0
                      ? (double)trainer->trained_steps * trainer->options.batch / trainer->trained_seconds
                      : NAN);
    rdp_json_real(&json, "wall_seconds", rdp_now() - trainer->start_time);
    rdp_json_object_end(&json);
}

static int write_summary(const struct rdp_trainer *trainer, const char *state)
{
    const struct summary summary = {trainer, state};
    char path[RDP_PATH_MAX + 32];
    rdp_run_dir_path(&trainer->options, "summary.json", path, sizeof path);
    return rdp_durable_print(path, put_summary, &summary);
}

/* The summary comes last: a run that has one is over, and a sweep takes it for complete. One whose weights could not be
 * saved is to be resumed, and has none: its best ones may be missing. */
static int write_files(const struct rdp_trainer *trainer)
{
    const char *run_dir = trainer->options.run_dir;
    const struct rdp_plot_target target = {run_dir, false};
    if (rdp_trainer_result(trainer)->count > 0)
        RDP_TRY(rdp_class_tables_write(run_dir, rdp_trainer_result(trainer), &trainer->data));
    /* A run that was over when it was resumed may stand in a new directory, with no epochs to draw. */
    if (trainer->options.plot)
        RDP_TRY(rdp_report_has_epochs(trainer->report) ? rdp_plot_run(run_dir, NULL, false)
                                                       : rdp_plot_confusion(run_dir, &target));
    return trainer->save_failed ? RDP_OK : write_summary(trainer, "done");
}

/* Before the accuracy: whose it is, and why the run is over. */
static void say_end(const struct rdp_trainer *trainer)
{
    rdp_say("\nRun directory: %s\n", trainer->options.run_dir);
    if (rdp_trainer_stopped_early(trainer))
        rdp_say("Stopped early: %lld evaluation%s without a better validation loss\n",
                (long long)trainer->standing.stale, trainer->standing.stale == 1 ? "" : "s");
    if (trainer->best_epoch == 0)
        return;
    rdp_say("Best epoch: %lld%s, with a validation loss of %.4f", (long long)trainer->best_epoch,
            trainer->best_test.count == 0 ? ", the last" : "", trainer->standing.best);
    if (trainer->best_test.count == 0)
        rdp_say("\n");
    else
        rdp_evaluation_print_accuracy("; its weights are tested. The last weights'", &trainer->last_test);
}

int rdp_trainer_report_result(const struct rdp_trainer *trainer)
{
    const struct rdp_evaluation *result = rdp_trainer_result(trainer);
    int status = RDP_OK;
    if (trainer->session->comm->rank == 0) {
        if (result->count > 0)
            rdp_evaluation_print(result, &trainer->data);
        status = write_files(trainer);
    }
    status = rdp_comm_agree(trainer->session->comm, status, "writing the run's summary");
    say_end(trainer);
    if (result->count > 0)
        rdp_evaluation_print_accuracy("Test", result);
    if (trainer->save_failed && trainer->session->comm->rank == 0)
        rdp_log_error("the last checkpoint could not be written (see the warning above); make room and --resume auto");
    return status == RDP_OK && trainer->save_failed ? RDP_EIO : status;
}

int rdp_trainer_report_divergence(struct rdp_trainer *trainer)
{
    struct rdp_comm *comm = trainer->session->comm;
    int status = RDP_ENUMERIC;
    if (rdp_fail_message()[0] != '\0')
        status = rdp_comm_agree(comm, status, "training");
    rdp_evaluation_free(&trainer->last_test);
    memset(&trainer->last_test, 0, sizeof trainer->last_test);
    trainer->best_epoch = 0;
    int written = comm->rank == 0 ? write_summary(trainer, "diverged") : RDP_OK;
    written = rdp_comm_agree(comm, written, "writing the run's summary");
    return written == RDP_OK ? status : written;
}
