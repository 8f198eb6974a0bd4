/* What plots are drawn from and where they go: CSV files of numbers that a run leaves, SVG files that are whole or
 * absent. Used by plot.c and plot_confusion.c. */
#ifndef RDP_PLOT_FILES_H
#define RDP_PLOT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "io/csv.h"

/* rdp_csv_read of what is to be drawn: names[0] holds whole numbers that do not fall. RDP_EUSAGE names file and line; a
 * file without rows is one too. rdp_csv_free. */
int rdp_plot_table(const char *path, const char *const *names, int count, struct rdp_csv *table);

/* The last part of "runs/resnet-x/" without its slash, for a drawing's note; "" for "." and "..". */
void rdp_plot_run_name(const char *run_dir, char name[256]);

struct rdp_plot_target {
    const char *directory;
    bool say; /* the path of every file drawn, on standard output */
};
/* Replaces directory/name by what `draw` writes of `what`. RDP_EIO. */
int rdp_plot_save(const struct rdp_plot_target *target, const char *name, void (*draw)(FILE *out, const void *what),
                  const void *what);

#endif
