/*
 * A training run: what it consists of, and its loop. cmd_train.c sets it up and reports its end; trainer.c runs it;
 * trainer_save.c writes and reads its checkpoints; trainer_banner.c says at the start what will happen.
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

struct rdp_trainer {
    struct rdp_options options;   /* with the run directory filled in */
    struct rdp_session *session;  /* the caller's */
    struct rdp_dataset_info data; /* of the data set file */
    int lock;                     /* of the run directory; rank 0 */
    /* owned: */
    struct rdp_model *model;
    struct rdp_network *network;
    struct rdp_step *step;
    struct rdp_sampler *sampler;
    struct rdp_evaluator *test, *validation; /* validation: NULL without --val-fraction */
    struct rdp_report *report;
    int64_t training_count, validation_count;

    struct rdp_augment augment;
    struct rdp_standing standing;
    int64_t steps_per_epoch, total_steps;
    int report_every;                    /* steps between looks at the loss */
    int64_t profile_first, profile_last; /* of --profile-steps, from 1; 0: none */
    struct rdp_evaluation last_test;     /* of the end of the run */
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
