/* Plots of a run as SVG files, written without any library: loss.svg, accuracy.svg, learning-rate.svg from
 * metrics.csv. */
#ifndef RDP_PLOT_H
#define RDP_PLOT_H

/* Draws the three plots of `run_dir`'s metrics.csv into `out_dir` (NULL: run_dir). RDP_EUSAGE: no or malformed
 * metrics.csv. */
int rdp_plot_run(const char *run_dir, const char *out_dir);

#endif
