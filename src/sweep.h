/*
 * A sweep: the same training for a list of options' values, one case after the other, and the table of what came out.
 * sweep_read.c reads the file of sections and --vary, sweep_make.c puts the cases together; sweep_case.c tells from a
 * case's run directory where it stands; sweep_table.c writes the table and the plot, sweep_seeds.c what several seeds of
 * a case have in common; cmd_sweep.c runs the cases.
 *
 * Nothing but the cases' run directories says what is finished: a sweep that was killed goes on when the same command
 * is run again, and its tables are made anew from the runs' own files.
 */
#ifndef RDP_SWEEP_H
#define RDP_SWEEP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "options.h"
#include "options_table.h"

enum { RDP_SWEEP_NAME_MAX = 160, RDP_SWEEP_CASES_MAX = 1000 };

/* In the order in which a case goes through them. */
enum rdp_case_state { RDP_CASE_WAITING, RDP_CASE_STOPPED, RDP_CASE_DONE, RDP_CASE_DIVERGED };

/* What a run that has ended left in summary.json, metrics.csv and timing.csv. NAN: not known, or not measured. */
struct rdp_case_result {
    double epochs, steps;
    double train_loss, train_accuracy; /* of the last epoch */
    double val_loss, val_accuracy;     /* of the last evaluation */
    double best_val_accuracy;
    double test_loss, test_accuracy; /* of the run's end */
    double images_per_second;        /* in training, over all epochs */
    double seconds;                  /* training and evaluation; of an epoch that was interrupted, its last part */
};

struct rdp_sweep_case {
    char name[RDP_SWEEP_NAME_MAX];     /* "adam", "lr=0.1 batch=64", "adam lr=0.1 seed=2" */
    char of_seeds[RDP_SWEEP_NAME_MAX]; /* without the seed: the same for cases that differ in it alone */
    struct rdp_options options;        /* complete and checked; run_dir is the case's */
    /* rank 0: */
    enum rdp_case_state state;
    bool anew; /* its directory holds a run with other options, which --force replaces */
    struct rdp_case_result result;
};

struct rdp_sweep {
    char title[RDP_PATH_MAX], directory[RDP_PATH_MAX];
    bool named;  /* the cases have names of their own, from a file */
    bool seeded; /* --vary (or the file's) has several seeds */
    /* Options that differ between cases, in the columns' order. */
    const struct rdp_option *varied[RDP_OPTIONS_MAX];
    int varied_count;
    struct rdp_sweep_case *cases;
    size_t count;
};

/* From the command line's options, as rdp_options_parse leaves them: a file of cases (argument), --vary, or both, which
 * gives all combinations. Owned by the caller. A case's options: defaults < recipe < [sweep] < [case] < --vary <
 * command line, where the command line may not set what the cases vary. RDP_EUSAGE names file and line, or the case. */
int rdp_sweep_make(struct rdp_sweep **sweep, const struct rdp_options *options);
void rdp_sweep_destroy(struct rdp_sweep *sweep);

/* Finds state, result and `anew` from the run directory. RDP_EUSAGE: it holds a run with other options (and `force`
 * does not say to replace it), or one of other data. */
int rdp_sweep_look(struct rdp_sweep_case *one, bool force);
/* Whether `ranks` ranks can train the case on its data set; see rdp_sampler_check. RDP_EUSAGE names the case. */
int rdp_sweep_check_data(const struct rdp_sweep_case *one, int ranks);
/* Puts the case's name before the waiting message; returns `status`. */
int rdp_sweep_fail_in_case(int status, const char *name);

/* The table for people, the caller's (free). */
int rdp_sweep_text(const struct rdp_sweep *sweep, char **text);
/* Puts what the seeds of each case give together: number, mean, standard deviation, least and greatest of the test
 * accuracies; as a text for people (after an empty line; nothing if the sweep varies no seeds), or as CSV. */
void rdp_sweep_put_seeds(FILE *out, const struct rdp_sweep *sweep);
void rdp_sweep_put_seeds_csv(FILE *out, const struct rdp_sweep *sweep);
/* Writes sweep.txt, sweep.csv and sweep.svg, and with several seeds sweep.seeds.csv, each whole or not at all. RDP_EIO. */
int rdp_sweep_write(const struct rdp_sweep *sweep);

#endif
