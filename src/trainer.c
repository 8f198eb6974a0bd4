/* The training loop; see trainer.h. */
#include "trainer.h"

#include <math.h>
#include <signal.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/status.h"
#include "comm/watchdog.h"
#include "mixing.h"
#include "optimiser.h"
#include "schedule.h"
#include "signals.h"

enum { STEPS_TIMED = 8 /* one by one, before looks become rare */ };

/* By this rank's clock: the others learn of it in the step's totals. */
static bool save_is_due_by_time(const struct rdp_trainer *trainer)
{
    double minutes = trainer->options.checkpoint_minutes;
    return minutes > 0 && rdp_now() - trainer->last_save_time >= 60 * minutes;
}

static void show_progress(struct rdp_trainer *trainer, double lr)
{
    const struct rdp_standing *standing = &trainer->standing;
    double step_seconds = trainer->trained_seconds / (double)trainer->trained_steps;
    rdp_report_progress(trainer->report, standing->epoch + 1, trainer->options.epochs, standing->epoch_step,
                        trainer->steps_per_epoch, standing->loss_sum / (double)standing->seen, lr,
                        trainer->options.batch / step_seconds,
                        (double)(trainer->total_steps - standing->step) * step_seconds);
}

/* How many steps to start before the next look at them: none that a checkpoint, an epoch's end or the profiler's window
 * would fall into. The same on every rank. */
static int steps_ahead(const struct rdp_trainer *trainer)
{
    const struct rdp_standing *standing = &trainer->standing;
    const int64_t every = trainer->options.checkpoint_steps;
    int64_t count = trainer->report_every;
    const int64_t limits[] = {trainer->steps_per_epoch - standing->epoch_step, trainer->total_steps - standing->step,
                              every > 0 ? every - standing->step % every : count,
                              trainer->profile_first - 1 - standing->step, trainer->profile_last - standing->step};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (limits[i] > 0 && limits[i] < count)
            count = limits[i];
    return (int)count;
}

/* --report-every 0 on a device that computes beside the host: as many steps as take a second, at most 16. The ranks'
 * clocks differ, so they agree on it: as an epoch begins and once a few steps have been timed. */
static int choose_looks(struct rdp_trainer *trainer)
{
    enum { STEPS_MOST = 16 };
    struct rdp_comm *comm = trainer->session->comm;
    double seconds =
        trainer->trained_steps < STEPS_TIMED ? 1 : trainer->trained_seconds / (double)trainer->trained_steps;
    if (trainer->options.report_every > 0 || trainer->session->device->ops->host_memory)
        return RDP_OK;
    RDP_TRY(comm->ops->allreduce_f64(comm, &seconds, 1, RDP_MAX, "the time of a step"));
    trainer->report_every = seconds * STEPS_MOST <= 1 ? STEPS_MOST : seconds >= 1 ? 1 : (int)(1 / seconds);
    return RDP_OK;
}

/* What schedules span, however long the run is by --max-steps. */
static int64_t schedule_steps(const struct rdp_trainer *trainer)
{
    return trainer->steps_per_epoch * trainer->options.epochs;
}

static double rate_of(const struct rdp_trainer *trainer, int64_t step)
{
    return trainer->standing.plateau_factor *
           rdp_schedule_lr(&trainer->options, trainer->steps_per_epoch, schedule_steps(trainer), step);
}

/* The rate of the step before, which asgd's decay asks for, has plateau's factor of now: at the first step after a
 * reduction it is lower than PyTorch's. */
static int start_step(struct rdp_trainer *trainer, int ahead)
{
    const struct rdp_standing *standing = &trainer->standing;
    const struct rdp_slice slice = rdp_sampler_slice(trainer->sampler, standing->epoch_step + ahead);
    const int64_t step = standing->step + ahead;
    struct rdp_step_values values = rdp_optimiser_step_values(
        &trainer->options, standing->epoch, step, rate_of(trainer, step), rate_of(trainer, step > 0 ? step - 1 : 0),
        rdp_schedule_momentum(&trainer->options, trainer->steps_per_epoch, schedule_steps(trainer), step));
    rdp_mixing_draw(&trainer->options, step, &values);
    rdp_watchdog_phase("training", step + 1);
    return rdp_step_start(trainer->step, &slice, &trainer->augment, &values, rdp_signals_stop() != 0,
                          save_is_due_by_time(trainer));
}

/* A few steps; *stop becomes true if any rank was told to stop, *save if a checkpoint is due. */
static int run_steps(struct rdp_trainer *trainer, bool *stop, bool *save)
{
    struct rdp_standing *standing = &trainer->standing;
    struct rdp_step_result results[RDP_STEPS_AHEAD_MAX];
    const int64_t every = trainer->options.checkpoint_steps;
    int count = steps_ahead(trainer);
    struct rdp_device *device = trainer->session->device;
    const double begin = rdp_now();
    if (standing->step == trainer->profile_first - 1)
        RDP_TRY(device->ops->profile(device, true));
    for (int i = 0; i < count; i++)
        RDP_TRY(start_step(trainer, i));
    if (!device->ops->host_memory) /* it is somewhere behind the host */
        rdp_watchdog_phase("training up to the end", standing->step + count);
    int status = rdp_step_collect(trainer->step, results, &count);
    trainer->trained_seconds += rdp_now() - begin;
    trainer->trained_steps += count;
    *stop = *save = false;
    for (int i = 0; i < count; i++) {
        const double lr = rate_of(trainer, standing->step++);
        standing->epoch_step++;
        standing->loss_sum += results[i].loss_sum;
        standing->correct += results[i].correct;
        standing->seen += trainer->options.batch;
        *stop |= results[i].stop;
        *save |= results[i].save;
        RDP_TRY(rdp_report_step(trainer->report, standing->step, lr, results[i].loss_sum / trainer->options.batch));
    }
    RDP_TRY(status);
    *save |= every > 0 && standing->step % every == 0;
    if (standing->step == trainer->profile_last)
        RDP_TRY(device->ops->profile(device, false));
    show_progress(trainer, rate_of(trainer, standing->step - 1));
    return RDP_OK;
}

int rdp_trainer_evaluate(struct rdp_trainer *trainer, struct rdp_evaluator *evaluator,
                         struct rdp_evaluation *evaluation)
{
    struct rdp_updater *updater = trainer->step->updater;
    const bool averages = rdp_optimiser_evaluates_averages(&trainer->options);
    if (averages)
        RDP_TRY(rdp_updater_show_averages(updater));
    RDP_TRY(rdp_evaluator_run(evaluator, trainer->network, &trainer->augment, evaluation));
    return averages ? rdp_updater_hide_averages(updater) : RDP_OK;
}

static int evaluate(struct rdp_trainer *trainer, struct rdp_epoch_metrics *metrics)
{
    struct rdp_evaluation evaluation;
    if (trainer->validation != NULL) {
        RDP_TRY(rdp_trainer_evaluate(trainer, trainer->validation, &evaluation));
        metrics->val_loss = evaluation.loss;
        metrics->val_accuracy = (double)evaluation.correct / (double)evaluation.count;
        rdp_evaluation_free(&evaluation);
    }
    rdp_evaluation_free(&trainer->last_test);
    RDP_TRY(rdp_trainer_evaluate(trainer, trainer->test, &trainer->last_test));
    metrics->test_loss = trainer->last_test.loss;
    metrics->test_accuracy = (double)trainer->last_test.correct / (double)trainer->last_test.count;
    return RDP_OK;
}

/* What steps and epochs of this process have cost since the last row of the table. */
struct clocks {
    double begin, trained_seconds, exposed_seconds;
    int64_t trained_steps;
};

static struct clocks read_clocks(const struct rdp_trainer *trainer)
{
    return (struct clocks){rdp_now(), trainer->trained_seconds, trainer->step->exposed_seconds, trainer->trained_steps};
}

/* What follows from the measure of a whole epoch: the best so far, and, if it is an evaluation that a longer run would
 * have made as well, what --schedule plateau and --early-stopping count. */
static int judge_epoch(struct rdp_trainer *trainer, const struct rdp_epoch_metrics *metrics)
{
    struct rdp_standing *standing = &trainer->standing;
    const struct rdp_options *options = &trainer->options;
    const double measure = trainer->validation != NULL ? metrics->val_loss : 1 - metrics->test_accuracy;
    if (options->evaluate_every > 0 && metrics->epoch % options->evaluate_every == 0) {
        standing->stale = measure < standing->best ? 0 : standing->stale + 1;
        if (options->schedule == RDP_SCHEDULE_PLATEAU)
            rdp_schedule_plateau_step(options, standing, measure);
    }
    return rdp_trainer_save_best(trainer, measure);
}

/* Closes the books of an epoch (or of the part of one in which the run ends): evaluation, table row, best checkpoint.
 */
static int finish_epoch(struct rdp_trainer *trainer, const struct clocks *since, bool last)
{
    struct rdp_standing *standing = &trainer->standing;
    const struct rdp_options *options = &trainer->options;
    const bool whole = standing->epoch_step == trainer->steps_per_epoch;
    const int64_t epoch = standing->epoch + 1; /* a part of an epoch bears the number that the whole would have */
    struct rdp_epoch_metrics metrics = {
        .epoch = epoch,
        .step = standing->step,
        .lr = rate_of(trainer, standing->step - 1),
        .train_loss = standing->loss_sum / (double)standing->seen,
        .train_accuracy = (double)standing->correct / (double)standing->seen,
        .val_loss = NAN,
        .val_accuracy = NAN,
        .test_loss = NAN,
        .test_accuracy = NAN,
    };
    const double evaluate_begin = rdp_now();
    const bool evaluated = last || (options->evaluate_every > 0 && epoch % options->evaluate_every == 0);
    if (evaluated)
        RDP_TRY(evaluate(trainer, &metrics));
    const double end = rdp_now(), trained = trainer->trained_seconds - since->trained_seconds;
    struct rdp_epoch_timing timing = {
        .epoch_seconds = evaluate_begin - since->begin,
        .evaluate_seconds = end - evaluate_begin,
        .elapsed_seconds = end - trainer->start_time,
        .images_per_second = (double)(trainer->trained_steps - since->trained_steps) * options->batch / trained,
        .exposed_comm_seconds = trainer->step->exposed_seconds - since->exposed_seconds,
    };
    if (whole) {
        standing->epoch++;
        standing->epoch_step = standing->correct = standing->seen = 0;
        standing->loss_sum = 0;
    }
    RDP_TRY(rdp_report_epoch(trainer->report, options->epochs, &metrics, &timing));
    /* A part of an epoch is no candidate: a run that goes on through it would not have been measured there. */
    return evaluated && whole ? judge_epoch(trainer, &metrics) : RDP_OK;
}

/* Saves where the run stands and leaves. */
static int stop_here(struct rdp_trainer *trainer)
{
    int signal_number = rdp_signals_stop();
    bool written;
    RDP_TRY(rdp_trainer_save(trainer, &written));
    if (!written)
        return RDP_EIO; /* the warning said why */
    rdp_say("\nStopped%s%s at step %lld of %lld, saved in %s/checkpoints. Go on with: --resume auto --run-dir %s\n",
            signal_number ? " by signal " : "", signal_number ? strsignal(signal_number) : "",
            (long long)trainer->standing.step, (long long)trainer->total_steps, trainer->options.run_dir,
            trainer->options.run_dir);
    return RDP_ESTOPPED;
}

bool rdp_trainer_stopped_early(const struct rdp_trainer *trainer)
{
    return trainer->options.early_stopping > 0 && trainer->standing.stale >= trainer->options.early_stopping;
}

/* The same on every rank: they have the same evaluations. */
static bool finished(const struct rdp_trainer *trainer)
{
    return trainer->standing.step >= trainer->total_steps || rdp_trainer_stopped_early(trainer);
}

/* The steps of one epoch, from where the run stands; then its end, if it gets there. */
static int run_epoch(struct rdp_trainer *trainer)
{
    struct rdp_standing *standing = &trainer->standing;
    const struct clocks since = read_clocks(trainer);
    RDP_TRY(rdp_sampler_begin_epoch(trainer->sampler, standing->epoch));
    RDP_TRY(choose_looks(trainer));
    while (standing->epoch_step < trainer->steps_per_epoch && !finished(trainer)) {
        bool stop, save, written;
        RDP_TRY(run_steps(trainer, &stop, &save));
        if (trainer->trained_steps == STEPS_TIMED)
            RDP_TRY(choose_looks(trainer));
        const bool ends = standing->epoch_step == trainer->steps_per_epoch || finished(trainer);
        if (stop && !ends)
            return stop_here(trainer);
        if (save && !ends)
            RDP_TRY(rdp_trainer_save(trainer, &written));
        if (!ends)
            continue;
        const int every = trainer->options.checkpoint_epochs;
        RDP_TRY(finish_epoch(trainer, &since, finished(trainer)));
        const bool last = finished(trainer); /* also by what the evaluation said */
        const bool end_due = last && rdp_trainer_keeps_checkpoints(trainer);
        if (stop && !last)
            return stop_here(trainer);
        if (save || end_due || (every > 0 && standing->epoch % every == 0))
            RDP_TRY(rdp_trainer_save(trainer, &written));
        return RDP_OK; /* the epoch's counters may be those of the next one already */
    }
    return RDP_OK;
}

int rdp_trainer_run(struct rdp_trainer *trainer)
{
    trainer->start_time = trainer->last_save_time = rdp_now();
    if (finished(trainer)) { /* resumed after its end: tells its result again */
        struct rdp_epoch_metrics unused;
        RDP_TRY(evaluate(trainer, &unused));
    }
    if (trainer->standing.step == 0)
        RDP_TRY(rdp_updater_begin(trainer->step->updater));
    while (!finished(trainer))
        RDP_TRY(run_epoch(trainer));
    return rdp_trainer_final_test(trainer);
}
