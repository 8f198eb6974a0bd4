/* Charts as SVG documents: lines with axes, round ticks, grid, legend, title; bars with their names. plot.c and
 * sweep_table.c decide what is drawn; head and text, for plot_confusion.c as well. */
#ifndef RDP_PLOT_SVG_H
#define RDP_PLOT_SVG_H

#include <stddef.h>
#include <stdio.h>

struct rdp_chart_series {
    const char *name, *colour;
    const double *y;    /* `points` values; NAN where there is none: the line goes on to the next one */
    const char *legend; /* what the legend says after the name, "" for nothing */
};

struct rdp_chart {
    const char *title, *note; /* the note stands at the right, in grey: the run's name */
    const char *x_label, *y_label;
    size_t points;
    const double *x;             /* `points` whole numbers >= 0, not falling; with x_labels any numbers, not falling */
    const char *const *x_labels; /* what stands below each point, in place of an axis from 0; NULL: an axis */
    const struct rdp_chart_series *series;
    int series_count;          /* at most 3: what the legend's line holds */
    double y_floor, y_ceiling; /* where the axis ends at the latest; NAN: the data decide. A finite floor is shown */
};

/* Values beyond 1e15 count as missing: a loss that ran away must not flatten what was before. Errors show in
 * ferror(out). */
void rdp_chart_write(FILE *out, const struct rdp_chart *chart);
/* Begins a document: white, with a title at `left` and a note, in grey, that ends at `right`. In pixels. */
struct rdp_svg_canvas {
    double width, height, left, right;
};
void rdp_svg_head(FILE *out, const struct rdp_svg_canvas *canvas, const char *title, const char *note);
/* A text element, escaped, of at most 60 bytes; bytes that are no UTF-8 become U+FFFD. `attributes` are taken as is. */
void rdp_svg_text(FILE *out, double x, double y, const char *attributes, const char *text);

/* Bars that lie one below the other, from 0 to `most` at the right edge, with the value behind each. */
struct rdp_bars {
    const char *title, *x_label;
    size_t count;
    const char *const *names;
    const double *values;       /* NAN: no bar */
    const char *const *remarks; /* stand in the place of a missing bar */
    double most;
};
/* Errors show in ferror(out). */
void rdp_bars_write(FILE *out, const struct rdp_bars *bars);

#endif
