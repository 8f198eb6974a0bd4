/*
 * The weights that a run's result is of: --final-test. The best ones lie in checkpoints/best.h5, which trainer_save.c
 * wrote when their validation loss was measured; the last ones are in the network. Called once, when the run is over
 * and its last checkpoint is written, for what the network held is then gone. Everything that the best epoch left is
 * put back, each rank's running statistics included, so that the test gives what it gave then, to the bit.
 */
#include <math.h>

#include "base/log.h"
#include "base/status.h"
#include "run_dir.h"
#include "trainer.h"

/* best.h5, if it holds the best that the run knows of. A run that was resumed elsewhere, or from before its best epoch,
 * does not have that. *checkpoint is the caller's also after an error. */
static int read_best(const struct rdp_trainer *trainer, struct rdp_checkpoint **checkpoint)
{
    char path[RDP_PATH_MAX + 64];
    double loss;
    *checkpoint = NULL;
    if (isinf(trainer->standing.best) && trainer->save_failed)
        return rdp_fail(RDP_EIO,
                        "the best weights could not be written (see the warning above); make room and --resume auto");
    if (isinf(trainer->standing.best))
        return rdp_fail(RDP_EUSAGE, "--final-test best: the run ended before an epoch was whole, so there is no best one; "
                                    "train for longer, or take --final-test last");
    rdp_run_dir_path(&trainer->options, "checkpoints/best.h5", path, sizeof path);
    RDP_TRY(rdp_checkpoint_read(checkpoint, path));
    RDP_TRY(rdp_checkpoint_real(*checkpoint, "best", &loss));
    if (loss != trainer->standing.best)
        return rdp_fail(RDP_EUSAGE,
                        "%s: its validation loss is %g, and the run's lowest %g: it is of another part of the run; go "
                        "on from the newest checkpoint",
                        path, loss, trainer->standing.best);
    return RDP_OK;
}

static int test_best(struct rdp_trainer *trainer, const struct rdp_checkpoint *checkpoint)
{
    struct rdp_comm *comm = trainer->session->comm;
    struct rdp_standing best = trainer->standing;
    int64_t step;
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "step", &step));
    RDP_TRY(rdp_checkpoint_integer(checkpoint, "epoch", &trainer->best_epoch));
    if (step == trainer->standing.step) /* the last are the best, and are tested */
        return RDP_OK;
    int status = rdp_snapshot_restore(checkpoint, trainer->step->updater, &best, comm);
    RDP_TRY(rdp_comm_agree(comm, status, "putting back the best weights"));
    return rdp_trainer_evaluate(trainer, trainer->test, &trainer->best_test);
}

int rdp_trainer_final_test(struct rdp_trainer *trainer)
{
    struct rdp_comm *comm = trainer->session->comm;
    struct rdp_checkpoint *checkpoint = NULL;
    int status = RDP_OK;
    if (trainer->options.final_test == RDP_FINAL_LAST || trainer->validation == NULL)
        return RDP_OK;
    if (!rdp_trainer_keeps_checkpoints(trainer)) { /* --final-test best without checkpoints was refused */
        rdp_say("\nThe last weights are tested: without checkpoints the best ones are not kept\n");
        return RDP_OK;
    }
    const int own = comm->rank > 0 ? RDP_OK : read_best(trainer, &checkpoint);
    bool found = own == RDP_OK;
    RDP_TRY_GOTO(status, comm->ops->broadcast(comm, &found, sizeof found, 0, "whether there are best weights"), done);
    if (!found && trainer->options.final_test == RDP_FINAL_BEST) {
        status = rdp_comm_agree(comm, own, "reading the best weights");
    } else if (!found) {
        rdp_say("\nThe last weights are tested, not the best: %s\n", rdp_fail_message());
        rdp_fail_clear();
    } else {
        status = comm->rank > 0 ? read_best(trainer, &checkpoint) : RDP_OK;
        status = rdp_comm_agree(comm, status, "reading the best weights");
        if (status == RDP_OK)
            status = test_best(trainer, checkpoint);
    }
done:
    rdp_checkpoint_destroy(checkpoint);
    return status;
}

const struct rdp_evaluation *rdp_trainer_result(const struct rdp_trainer *trainer)
{
    return trainer->best_test.count > 0 ? &trainer->best_test : &trainer->last_test;
}
