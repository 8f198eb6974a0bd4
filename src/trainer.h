/*
 * A training run: what it consists of, and its loop. cmd_train.c sets it up; trainer.c runs it; trainer_save.c writes
 * and reads its checkpoints; trainer_final.c tests the best weights; trainer_banner.c says at the start what will
 * happen, trainer_result.c at the end what did.
 */
#ifndef RDP_TRAINER_H
#define RDP_TRAINER_H

#include "evaluator.h"
#include "io/dataset.h"
#include "model.h"
#include "network.h"
#include "report.h"
#include "sampler.h"
#include "session.h"
#include "snapshot.h"
#include "step.h"
#include "whiten.h"

struct rdp_trainer {
    struct rdp_options options;   /* with the run directory filled in */
    struct rdp_session *session;  /* the caller's */
    struct rdp_dataset_info data; /* of the data set file; mean and std are those in force (--normalisation) */
    int lock;                     /* of the run directory; rank 0 */
    /* owned: */
    struct rdp_model *model;
    struct rdp_network *network;
    struct rdp_step *step;
    struct rdp_sampler *sampler;
    struct rdp_evaluator *test, *validation; /* validation: NULL without --val-fraction */
    struct rdp_report *report;
    int64_t training_count, validation_count;

    double patches[RDP_PATCH][RDP_PATCH]; /* --stem-init whiten: the training images' covariance */
    struct rdp_augment augment;
    struct rdp_standing standing;
    int64_t steps_per_epoch, total_steps;
    int report_every;                    /* steps between looks at the loss */
    int64_t profile_first, profile_last; /* of --profile-steps, from 1; 0: none */
    struct rdp_evaluation last_test;     /* of the end of the run */
    struct rdp_evaluation best_test;     /* of the best weights; count 0 unless others than the last were tested */
    int64_t best_epoch;                  /* whose weights the run's result is of; 0: not the best, but the last */
    bool save_failed;                    /* a checkpoint could not be written: exit code 3 at the end */
    char resumed_from[RDP_PATH_MAX];     /* "" for a new run */
    double start_time, last_save_time;   /* seconds, monotonic */
    double trained_seconds;              /* in steps, of this process */
    int64_t trained_steps;               /* of this process */
};

/* trainer.c: from where `standing` is to the end. RDP_ESTOPPED after a signal, with a checkpoint written. Collective.
 */
int rdp_trainer_run(struct rdp_trainer *trainer);
/* rdp_evaluator_run with the weights that --evaluate-weights chooses; the trained ones are back after it, bit for bit.
 * Collective: every rank changes its weights, since also those that evaluate nothing have running statistics to
 * share. */
int rdp_trainer_evaluate(struct rdp_trainer *trainer, struct rdp_evaluator *evaluator,
                         struct rdp_evaluation *evaluation);

/* Whether --early-stopping has ended it, or would. */
bool rdp_trainer_stopped_early(const struct rdp_trainer *trainer);

/* trainer_final.c: --final-test. When the run is over, puts the best checkpoint's weights and running statistics into
 * the network and tests them. RDP_EUSAGE if --final-test best cannot be had. Agreed. */
int rdp_trainer_final_test(struct rdp_trainer *trainer);
/* The run's result, which its last line tells. */
const struct rdp_evaluation *rdp_trainer_result(const struct rdp_trainer *trainer);

/* trainer_result.c. Collective. Rank 0 writes and draws what remains of the run; the accuracy line is the last word,
 * also when one of the files cannot be written. RDP_EIO also if a checkpoint could not be written earlier. */
int rdp_trainer_report_result(const struct rdp_trainer *trainer);
/* Of a run that diverged: every rank computed the same sum, and one of them speaks, unless that was done when a
 * checkpoint was refused. summary.json says how the run ended, without a result. RDP_ENUMERIC. Collective. */
int rdp_trainer_report_divergence(struct rdp_trainer *trainer);

/* trainer_save.c. Collective. A checkpoint that cannot be written is a warning, sets save_failed, and *written is
 * false. */
int rdp_trainer_save(struct rdp_trainer *trainer, bool *written);
/* Whether any --checkpoint-* option asks for checkpoints. */
bool rdp_trainer_keeps_checkpoints(const struct rdp_trainer *trainer);
/* Saves as best.h5 if `measure` (less is better) beats the best so far. */
int rdp_trainer_save_best(struct rdp_trainer *trainer, double measure);
/* Applies --resume. Agreed. */
int rdp_trainer_resume(struct rdp_trainer *trainer);

/* trainer_banner.c: rank 0 (and a line per rank). Collective. */
int rdp_trainer_banner(const struct rdp_trainer *trainer);

#endif
