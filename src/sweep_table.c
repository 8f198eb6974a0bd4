/*
 * The table of cases and the plot of a sweep; see sweep.h. Both tables are one list of columns: the case, what is varied, what
 * came out. All but speed and time is the same however often the sweep was interrupted; only how far a run came that
 * diverged can depend on when it was asked to save.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "io/csv.h"
#include "io/durable.h"
#include "plot_svg.h"
#include "sweep.h"

enum { CELL_MAX = RDP_OPTION_TEXT_MAX };

enum unit { COUNT, LOSS, SHARE, RATE, DURATION };

static const struct {
    const char *name, *heading; /* in CSV, in text; NULL: not there */
    size_t offset;              /* in struct rdp_case_result */
    enum unit unit;
    bool validation; /* in text only if there is a validation set */
} columns[] = {
#define VALUE(field) offsetof(struct rdp_case_result, field)
    {"epochs", "epochs", VALUE(epochs), COUNT, false},
    {"steps", NULL, VALUE(steps), COUNT, false},
    {"train_loss", "train loss", VALUE(train_loss), LOSS, false},
    {"train_accuracy", "train acc %", VALUE(train_accuracy), SHARE, false},
    {"val_loss", "val loss", VALUE(val_loss), LOSS, true},
    {"val_accuracy", "val acc %", VALUE(val_accuracy), SHARE, true},
    {"best_val_accuracy", "best val %", VALUE(best_val_accuracy), SHARE, true},
    {"test_loss", NULL, VALUE(test_loss), LOSS, false},
    {"test_accuracy", "test acc %", VALUE(test_accuracy), SHARE, false},
    {"images_per_second", "images/s", VALUE(images_per_second), RATE, false},
    {"seconds", "time", VALUE(seconds), DURATION, false},
#undef VALUE
};
enum { COLUMNS = sizeof columns / sizeof *columns };

static double value_of(const struct rdp_sweep_case *one, int column)
{
    return *(const double *)((const char *)&one->result + columns[column].offset);
}

static const char *state_name(enum rdp_case_state state)
{
    static const char *const names[] = {"waiting", "stopped", "done", "diverged"};
    return names[state];
}

static void format_value(char cell[CELL_MAX], enum unit unit, double value)
{
    if (isnan(value))
        snprintf(cell, CELL_MAX, "-");
    else if (unit == COUNT || unit == RATE)
        snprintf(cell, CELL_MAX, "%.0f", value);
    else if (unit == DURATION)
        rdp_format_duration(cell, CELL_MAX, value);
    else
        snprintf(cell, CELL_MAX, "%.*f", unit == LOSS ? 4 : 2, unit == LOSS ? value : 100 * value);
}

static bool has_validation(const struct rdp_sweep *sweep)
{
    for (size_t i = 0; i < sweep->count; i++)
        if (!isnan(sweep->cases[i].result.val_loss))
            return true;
    return false;
}

/* ---- text ---- */

/* A table under way: row 0 is the heading, `width` grows with what is put in. */
struct grid {
    FILE *out;
    size_t rows;
    bool printing; /* second pass: the widths are known */
    int width[RDP_OPTIONS_MAX], column;
};

/* `left`: names; numbers stand at the right. */
static void put_cell(struct grid *grid, const char *text, bool left)
{
    int *width = &grid->width[grid->column++], length = (int)strlen(text);
    if (length > *width)
        *width = length;
    if (!grid->printing)
        return;
    if (grid->column > 1)
        fputs("  ", grid->out);
    fprintf(grid->out, left ? "%-*s" : "%*s", *width, text);
}

static void put_row(struct grid *grid, const struct rdp_sweep *sweep, const struct rdp_sweep_case *one, bool validation)
{
    char cell[CELL_MAX];
    grid->column = 0;
    if (sweep->named || sweep->varied_count == 0)
        put_cell(grid, one == NULL ? "case" : one->name, true);
    for (int i = 0; i < sweep->varied_count; i++)
        put_cell(grid, one == NULL ? sweep->varied[i]->name : rdp_option_format(sweep->varied[i], &one->options, cell),
                 false);
    for (int i = 0; i < COLUMNS; i++) {
        if (columns[i].heading == NULL || (columns[i].validation && !validation))
            continue;
        if (one != NULL)
            format_value(cell, columns[i].unit, value_of(one, i));
        put_cell(grid, one == NULL ? columns[i].heading : cell, false);
    }
    if (grid->printing)
        fprintf(grid->out, "  %s\n", one == NULL ? "state" : state_name(one->state));
}

static void put_text(FILE *out, const void *what)
{
    const struct rdp_sweep *sweep = what;
    const bool validation = has_validation(sweep);
    struct grid grid = {.out = out};
    fprintf(out, "%s\n\n", sweep->title);
    for (int pass = 0; pass < 2; pass++) {
        grid.printing = pass == 1;
        put_row(&grid, sweep, NULL, validation);
        for (size_t i = 0; i < sweep->count; i++)
            put_row(&grid, sweep, &sweep->cases[i], validation);
    }
    rdp_sweep_put_seeds(out, sweep);
}

int rdp_sweep_text(const struct rdp_sweep *sweep, char **text)
{
    size_t size;
    *text = NULL;
    FILE *out = open_memstream(text, &size);
    if (out != NULL)
        put_text(out, sweep);
    if (out != NULL && fclose(out) == 0)
        return RDP_OK;
    free(*text);
    *text = NULL;
    return rdp_fail(RDP_ENOMEM, "the sweep's table: out of memory");
}

/* ---- CSV ---- */

static void put_csv(FILE *out, const void *what)
{
    const struct rdp_sweep *sweep = what;
    char cell[CELL_MAX];
    fputs("case", out);
    for (int i = 0; i < sweep->varied_count; i++)
        fprintf(out, ",%s", sweep->varied[i]->name);
    for (int i = 0; i < COLUMNS; i++)
        fprintf(out, ",%s", columns[i].name);
    fputs(",state\n", out);
    for (size_t c = 0; c < sweep->count; c++) {
        const struct rdp_sweep_case *one = &sweep->cases[c];
        rdp_csv_put_field(out, one->name);
        for (int i = 0; i < sweep->varied_count; i++) {
            fputc(',', out);
            rdp_csv_put_field(out, rdp_option_format(sweep->varied[i], &one->options, cell));
        }
        for (int i = 0; i < COLUMNS; i++)
            fprintf(out, ",%s", isnan(value_of(one, i)) ? "" : rdp_format_real(cell, sizeof cell, value_of(one, i)));
        fprintf(out, ",%s\n", state_name(one->state));
    }
}

/* ---- plot ---- */

/* The one option that is varied, if it is a number: what the plot's x-axis is then. */
static const struct rdp_option *numeric(const struct rdp_sweep *sweep)
{
    const struct rdp_option *option = sweep->varied_count == 1 ? sweep->varied[0] : NULL;
    return option != NULL && (option->type == RDP_OPTION_REAL || option->type == RDP_OPTION_INTEGER ||
                              option->type == RDP_OPTION_INTEGER64)
               ? option
               : NULL;
}

struct point {
    double x, y;
    char label[32];
};

static int by_x(const void *a, const void *b)
{
    const struct point *left = a, *right = b;
    return (left->x > right->x) - (left->x < right->x);
}

/* Accuracy over the values of the option, at logarithmic distances if all are above zero. */
static void put_points(FILE *out, const struct rdp_sweep *sweep, const struct rdp_option *option, struct point *points)
{
    const char *labels[RDP_SWEEP_CASES_MAX];
    double x[RDP_SWEEP_CASES_MAX], y[RDP_SWEEP_CASES_MAX];
    char text[RDP_OPTION_TEXT_MAX];
    qsort(points, sweep->count, sizeof *points, by_x);
    const bool logarithmic = points[0].x > 0;
    for (size_t i = 0; i < sweep->count; i++) {
        x[i] = logarithmic ? log10(points[i].x) : points[i].x;
        y[i] = points[i].y;
        labels[i] = points[i].label;
    }
    snprintf(text, sizeof text, "%s%s", option->name, logarithmic ? " (logarithmic)" : "");
    const struct rdp_chart_series series = {"test", "#d55e00", y, "accuracy at the end"};
    const struct rdp_chart chart = {
        .title = sweep->title,
        .note = "",
        .x_label = text,
        .y_label = "Test accuracy (%)",
        .points = sweep->count,
        .x = x,
        .x_labels = labels,
        .series = &series,
        .series_count = 1,
        .y_floor = NAN,
        .y_ceiling = 100,
    };
    rdp_chart_write(out, &chart);
}

static void put_bars(FILE *out, const struct rdp_sweep *sweep)
{
    const char *names[RDP_SWEEP_CASES_MAX], *remarks[RDP_SWEEP_CASES_MAX];
    double values[RDP_SWEEP_CASES_MAX];
    for (size_t i = 0; i < sweep->count; i++) {
        names[i] = sweep->cases[i].name;
        values[i] = 100 * sweep->cases[i].result.test_accuracy;
        remarks[i] = state_name(sweep->cases[i].state);
    }
    const struct rdp_bars bars = {sweep->title, "Test accuracy (%)", sweep->count, names, values, remarks, 100};
    rdp_bars_write(out, &bars);
}

static void put_plot(FILE *out, const void *what)
{
    const struct rdp_sweep *sweep = what;
    const struct rdp_option *option = numeric(sweep);
    struct point points[RDP_SWEEP_CASES_MAX];
    char text[RDP_OPTION_TEXT_MAX];
    if (option == NULL) {
        put_bars(out, sweep);
        return;
    }
    for (size_t i = 0; i < sweep->count; i++) {
        rdp_option_format(option, &sweep->cases[i].options, text);
        rdp_parse_real(text, &points[i].x);
        points[i].y = 100 * sweep->cases[i].result.test_accuracy;
        snprintf(points[i].label, sizeof points[i].label, "%.31s", text);
    }
    put_points(out, sweep, option, points);
}

/* ---- files ---- */

static int write_file(const struct rdp_sweep *sweep, const char *name, void (*put)(FILE *out, const void *what))
{
    char path[RDP_PATH_MAX + 32];
    snprintf(path, sizeof path, "%s/%s", sweep->directory, name);
    return rdp_durable_print(path, put, sweep);
}

static void put_seeds(FILE *out, const void *what)
{
    rdp_sweep_put_seeds_csv(out, what);
}

int rdp_sweep_write(const struct rdp_sweep *sweep)
{
    RDP_TRY(rdp_make_directory(sweep->directory));
    if (sweep->seeded)
        RDP_TRY(write_file(sweep, "sweep.seeds.csv", put_seeds));
    RDP_TRY(write_file(sweep, "sweep.txt", put_text));
    RDP_TRY(write_file(sweep, "sweep.csv", put_csv));
    return write_file(sweep, "sweep.svg", put_plot);
}
