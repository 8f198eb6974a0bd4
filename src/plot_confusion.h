/* A confusion matrix as a heat map. */
#ifndef RDP_PLOT_CONFUSION_H
#define RDP_PLOT_CONFUSION_H

#include "plot_files.h"

/* Draws run_dir's confusion.csv (class_tables.h) as confusion.svg. Nothing if there is no such file: a run leaves it
 * when it ends. RDP_EUSAGE: malformed. */
int rdp_plot_confusion(const char *run_dir, const struct rdp_plot_target *target);

#endif
