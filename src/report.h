/*
 * What a training run tells people and leaves behind, all by rank 0: progress on stdout, metrics.csv and
 * metrics.jsonl (deterministic: a resumed run's files equal a straight run's byte for byte), timing.csv (wall time,
 * not deterministic), summary.json, recipe.ini. plot.h draws from metrics.csv.
 */
#ifndef RDP_REPORT_H
#define RDP_REPORT_H

#include <stdbool.h>
#include <stdint.h>

struct rdp_report;

/* One line of metrics.csv: an epoch (or the part of one in which the run ended). NAN where not measured: empty in
 * CSV, null in JSON. */
struct rdp_epoch_metrics {
    int64_t epoch;          /* finished epochs, 1-based */
    int64_t step;           /* training steps so far */
    double lr;              /* of the epoch's last step */
    double train_loss;      /* mean over the epoch's samples, as trained (with label smoothing) */
    double train_accuracy;  /* 0..1, of the augmented training samples */
    double val_loss, val_accuracy;   /* validation split; NAN without */
    double test_loss, test_accuracy; /* official test set */
};
/* The non-deterministic part: timing.csv. */
struct rdp_epoch_timing {
    double epoch_seconds, evaluate_seconds, elapsed_seconds;
    double images_per_second;        /* of training alone */
    double exposed_comm_seconds;     /* time in which this rank only waited for gradients */
};

struct rdp_report_options {
    bool active;          /* rank 0; elsewhere every call is a no-op */
    bool progress, steps; /* draw progress; write steps.csv */
    int64_t resume_epoch, resume_step; /* rows after these are dropped; negative: new files */
};
/* Opens the files in run_dir (exists). Rows that a resumed run will write again are dropped, atomically. RDP_EIO. */
int rdp_report_open(struct rdp_report **report, const char *run_dir, const struct rdp_report_options *options);
void rdp_report_close(struct rdp_report *report);
/* Draws the progress bar: on a terminal one line redrawn at most 10 times a second; elsewhere a plain line about
 * every 30 s. done/total in steps of this epoch; images_per_second and remaining time (whole run) are given by the
 * caller. */
void rdp_report_progress(struct rdp_report *report, int64_t epoch, int64_t epochs, int64_t done, int64_t total,
                         double loss, double lr, double images_per_second, double remaining_seconds);
/* Whether metrics.csv has a row; false where the report is not active. */
bool rdp_report_has_epochs(const struct rdp_report *report);
/* Clears the bar, prints a row of the epoch table (header first time) and appends to the files, flushed. RDP_EIO. */
int rdp_report_epoch(struct rdp_report *report, int64_t epochs, const struct rdp_epoch_metrics *metrics,
                     const struct rdp_epoch_timing *timing);
/* One line of steps.csv (deterministic as well): step counts from 1; `loss` is the step's mean. */
int rdp_report_step(struct rdp_report *report, int64_t step, double lr, double loss);

#endif
