/* What plots are drawn from and where they go: CSV files of numbers that a run leaves, SVG files that are whole or
 * absent. Used by plot.c and plot_confusion.c. */
#ifndef RDP_PLOT_FILES_H
#define RDP_PLOT_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

enum { RDP_PLOT_COLUMNS_MAX = 8 };

struct rdp_plot_table {
    size_t rows;
    double *columns[RDP_PLOT_COLUMNS_MAX]; /* `rows` values each, in one block owned by columns[0]; NAN: empty */
};

/* Reads the columns `names` of a file with a header, found by name, so that a later version's file can be read as well;
 * one that the file does not have is NAN throughout. names[0] must be there: whole numbers that do not fall. RDP_EUSAGE
 * names file and line; a file without rows is one too. */
int rdp_plot_table_read(const char *path, const char *const *names, int count, struct rdp_plot_table *table);
void rdp_plot_table_free(struct rdp_plot_table *table);

/* The last part of "runs/resnet-x/" without its slash, for a drawing's note; "" for "." and "..". */
void rdp_plot_run_name(const char *run_dir, char name[256]);
/* Cuts the next line off a text; NULL at its end. Accepts CR LF. */
char *rdp_plot_next_line(char **rest);

struct rdp_plot_target {
    const char *directory;
    bool say; /* the path of every file drawn, on standard output */
};
/* Replaces directory/name by what `draw` writes of `what`. RDP_EIO. */
int rdp_plot_save(const struct rdp_plot_target *target, const char *name, void (*draw)(FILE *out, const void *what),
                  const void *what);

#endif
