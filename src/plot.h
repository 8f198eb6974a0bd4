/*
 * Plots of a run as SVG files, written without any library: loss.svg, accuracy.svg and learning-rate.svg over epochs
 * from metrics.csv, loss-steps.svg and learning-rate-steps.svg over training steps from steps.csv (--step-log),
 * confusion.svg from confusion.csv (the run's end). A file that is not there is not drawn; metrics.csv must be there.
 */
#ifndef RDP_PLOT_H
#define RDP_PLOT_H

#include <stdbool.h>

/* Draws the plots of `run_dir` into `out_dir` (made; NULL: run_dir); `say`: names the files on standard output.
 * RDP_EUSAGE: no metrics.csv, or a malformed file. */
int rdp_plot_run(const char *run_dir, const char *out_dir, bool say);

#endif
