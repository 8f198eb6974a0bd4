/* A run's checkpoints: when one is due is trainer.c's affair, what one holds snapshot.c's; see trainer.h. */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "comm/watchdog.h"
#include "run_dir.h"
#include "trainer.h"

/* Collects on all ranks, writes on rank 0, tells all. The previous checkpoint stays whatever happens. A file that
 * cannot be written is a warning: *written is false, and the run goes on. */
static int save(struct rdp_trainer *trainer, const char *path, bool prune, bool *written)
{
    struct rdp_comm *comm = trainer->session->comm;
    struct rdp_checkpoint *checkpoint;
    int64_t failed = 0;
    rdp_watchdog_phase("saving a checkpoint", trainer->standing.step);
    RDP_TRY(rdp_snapshot_take(&checkpoint, trainer->step->updater, &trainer->standing, &trainer->options,
                              &trainer->data, comm));
    if (comm->rank == 0) {
        char directory[RDP_PATH_MAX + 32];
        rdp_run_dir_path(&trainer->options, "checkpoints", directory, sizeof directory);
        failed = rdp_checkpoint_write(checkpoint, path) != RDP_OK;
        if (failed) {
            rdp_log_warning("%s; earlier checkpoints are untouched", rdp_fail_message());
            rdp_fail_clear();
        } else if (prune && rdp_checkpoint_prune(directory, trainer->options.keep) != RDP_OK) {
            rdp_log_warning("%s", rdp_fail_message());
            rdp_fail_clear();
        }
    }
    rdp_checkpoint_destroy(checkpoint);
    RDP_TRY(comm->ops->barrier(comm, 1, "rank 0's checkpoint"));
    RDP_TRY(comm->ops->allreduce_i64(comm, &failed, 1, RDP_MAX, "whether the checkpoint was written"));
    *written = failed == 0;
    trainer->save_failed |= !*written;
    return RDP_OK;
}

int rdp_trainer_save(struct rdp_trainer *trainer, bool *written)
{
    char directory[RDP_PATH_MAX + 32], path[RDP_PATH_MAX + 64];
    rdp_run_dir_path(&trainer->options, "checkpoints", directory, sizeof directory);
    RDP_TRY(rdp_checkpoint_path(path, sizeof path, directory, trainer->standing.epoch, trainer->standing.step));
    trainer->last_save_time = rdp_now();
    return save(trainer, path, true, written);
}

bool rdp_trainer_keeps_checkpoints(const struct rdp_trainer *trainer)
{
    const struct rdp_options *options = &trainer->options;
    return options->checkpoint_epochs > 0 || options->checkpoint_steps > 0 || options->checkpoint_minutes > 0;
}

int rdp_trainer_save_best(struct rdp_trainer *trainer, double measure)
{
    char path[RDP_PATH_MAX + 64];
    const double before = trainer->standing.best;
    bool written;
    if (!(measure < before))
        return RDP_OK;
    trainer->standing.best = measure;
    if (!rdp_trainer_keeps_checkpoints(trainer))
        return RDP_OK;
    rdp_run_dir_path(&trainer->options, "checkpoints/best.h5", path, sizeof path);
    RDP_TRY(save(trainer, path, false, &written));
    if (!written) /* best.h5 is still the old one: the next better epoch shall try again */
        trainer->standing.best = before;
    return RDP_OK;
}

/* What may change from part to part of a run, but not without a word: sums are then taken in another order. */
static int warn_of_other_bits(const struct rdp_trainer *trainer, const struct rdp_checkpoint *checkpoint,
                              const char *path)
{
    static const char result[] = "the global batch is the same, but the result is not bit-identical";
    const struct rdp_session *session = trainer->session;
    const char *device = rdp_checkpoint_text(checkpoint, "device"), *now = session->device->rounding;
    int64_t ranks, threads;
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "ranks", &ranks));
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "threads", &threads));
    if (session->comm->rank > 0)
        return RDP_OK;
    if (ranks != session->comm->size)
        rdp_log_warning("%s: was saved by %lld ranks and goes on with %d: %s", path, (long long)ranks,
                        session->comm->size, result);
    else if (device != NULL && strcmp(device, now) != 0)
        rdp_log_warning("%s: was saved on %s and goes on with %s: %s", path, device, now, result);
    else if (session->device->ops->host_memory && threads != session->threads)
        rdp_log_warning("%s: was saved with %lld threads a rank and goes on with %d (--threads): %s", path,
                        (long long)threads, session->threads, result);
    return RDP_OK;
}

static int check_same_training(const struct rdp_trainer *trainer, const struct rdp_checkpoint *checkpoint,
                               const char *path)
{
    struct rdp_options before;
    char names[1024];
    int64_t data;
    RDP_TRY(rdp_snapshot_options(checkpoint, &before));
    rdp_options_differences(&before, &trainer->options, names, sizeof names);
    if (names[0] != '\0')
        return rdp_fail(RDP_EUSAGE,
                        "%s: was trained with other values of %s; resume with the values it had (`resnet-dp inspect` "
                        "shows them) or start a new run",
                        path, names);
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "data_crc32c", &data));
    if (data != (int64_t)trainer->data.content_crc32c)
        return rdp_fail(
            RDP_EUSAGE,
            "%s: was trained on other data than %s holds; resume with the data set it had or start a new run", path,
            trainer->options.data);
    return warn_of_other_bits(trainer, checkpoint, path);
}

/* --resume auto: rank 0 chooses, so that one rank warns of damaged files and all read the same one. Agreed. */
static int choose(struct rdp_trainer *trainer)
{
    struct rdp_comm *comm = trainer->session->comm;
    int status = RDP_OK;
    if (comm->rank == 0) {
        struct rdp_checkpoint *checkpoint;
        char directory[RDP_PATH_MAX + 32];
        rdp_run_dir_path(&trainer->options, "checkpoints", directory, sizeof directory);
        status =
            rdp_checkpoint_read_newest(&checkpoint, directory, trainer->resumed_from, sizeof trainer->resumed_from);
        if (checkpoint == NULL)
            trainer->resumed_from[0] = '\0'; /* nothing there: a new run */
        rdp_checkpoint_destroy(checkpoint);
    }
    RDP_TRY(rdp_comm_agree(comm, status, "choosing a checkpoint"));
    return comm->ops->broadcast(comm, trainer->resumed_from, sizeof trainer->resumed_from, 0,
                                "checkpoint to resume from");
}

static int resume(struct rdp_trainer *trainer)
{
    struct rdp_checkpoint *checkpoint;
    RDP_TRY(rdp_checkpoint_read(&checkpoint, trainer->resumed_from));
    int status = check_same_training(trainer, checkpoint, trainer->resumed_from);
    if (status == RDP_OK)
        status = rdp_snapshot_restore(checkpoint, trainer->step->updater, &trainer->standing, trainer->session->comm);
    rdp_checkpoint_destroy(checkpoint);
    return status;
}

/* Later checkpoints of this directory would count as newer than those that the run is going to write. */
static int check_newest(const struct rdp_trainer *trainer)
{
    char directory[RDP_PATH_MAX + 32];
    int64_t newest;
    rdp_run_dir_path(&trainer->options, "checkpoints", directory, sizeof directory);
    RDP_TRY(rdp_checkpoint_newest_step(directory, &newest));
    if (newest > trainer->standing.step)
        return rdp_fail(
            RDP_EUSAGE,
            "%s: holds a checkpoint of step %lld, later than step %lld of %s; resume into another --run-dir, or "
            "move the later ones away",
            directory, (long long)newest, (long long)trainer->standing.step, trainer->resumed_from);
    return RDP_OK;
}

/* All ranks must stand at one place: a file system may show one of them an older directory. */
static int check_standing(const struct rdp_trainer *trainer)
{
    struct rdp_comm *comm = trainer->session->comm;
    int64_t steps[2] = {trainer->standing.step, -trainer->standing.step};
    RDP_TRY(comm->ops->allreduce_i64(comm, steps, 2, RDP_MAX, "comparison of the ranks' checkpoints"));
    if (steps[0] != -steps[1])
        return rdp_fail(RDP_EUSAGE,
                        "the ranks found different checkpoints (steps %lld and %lld): name one with --resume FILE",
                        (long long)-steps[1], (long long)steps[0]);
    return RDP_OK;
}

int rdp_trainer_resume(struct rdp_trainer *trainer)
{
    struct rdp_comm *comm = trainer->session->comm;
    if (strcmp(trainer->options.resume, "none") == 0)
        return RDP_OK;
    if (strcmp(trainer->options.resume, "auto") == 0)
        RDP_TRY(choose(trainer));
    else
        memcpy(trainer->resumed_from, trainer->options.resume, sizeof trainer->resumed_from);
    if (trainer->resumed_from[0] == '\0')
        return RDP_OK;
    RDP_TRY(rdp_comm_agree(comm, resume(trainer), "reading the checkpoint"));
    if (strcmp(trainer->options.resume, "auto") != 0) /* auto took the newest that is whole */
        RDP_TRY(
            rdp_comm_agree(comm, comm->rank == 0 ? check_newest(trainer) : RDP_OK, "looking for later checkpoints"));
    return rdp_comm_agree(comm, check_standing(trainer), "comparing the ranks' checkpoints");
}
