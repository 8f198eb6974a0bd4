/* From metrics.csv to three charts; see plot.h. Columns are found by name, so that a later version's file can be
 * drawn as well. */
#include "plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"
#include "io/durable.h"
#include "io/file.h"
#include "plot_svg.h"

enum {
    EPOCH, LR, TRAIN_LOSS, TRAIN_ACCURACY, VAL_LOSS, VAL_ACCURACY, TEST_LOSS, TEST_ACCURACY, COLUMN_COUNT,
    FIELDS_MAX = 64, BYTES_MAX = 64 << 20
};
static const char *const column_names[COLUMN_COUNT] = {
    "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy",
};

/* Okabe and Ito's colours, which people with colour-blindness can tell apart. */
static const char *const train_colour = "#0072b2", *const val_colour = "#e69f00", *const test_colour = "#d55e00";

struct metrics {
    size_t rows;
    double *columns[COLUMN_COUNT]; /* `rows` values each, in one block owned by columns[0]; NAN: empty */
};

/* Cuts the next line off; NULL at the end. Accepts CR LF. */
static char *next_line(char **rest)
{
    char *line = *rest, *end = line + strcspn(line, "\n");
    if (*line == '\0')
        return NULL;
    *rest = end + (*end == '\n');
    *end = '\0';
    line[strcspn(line, "\r")] = '\0';
    return line;
}

static int read_header(const char *path, char *line, int column_of[FIELDS_MAX], int *fields)
{
    bool has_epoch = false;
    *fields = 0;
    for (char *name; (name = strsep(&line, ",")) != NULL; (*fields)++) {
        if (*fields == FIELDS_MAX)
            return rdp_fail(RDP_EUSAGE, "%s:1: more than %d columns; this is no metrics.csv", path, FIELDS_MAX);
        column_of[*fields] = -1;
        for (int c = 0; c < COLUMN_COUNT; c++)
            if (strcmp(name, column_names[c]) == 0)
                column_of[*fields] = c;
        has_epoch = has_epoch || column_of[*fields] == EPOCH;
    }
    if (!has_epoch)
        return rdp_fail(RDP_EUSAGE, "%s:1: the header names no column `epoch`; this is no metrics.csv", path);
    return RDP_OK;
}

static int read_row(const char *path, int line_number, char *line, const int column_of[FIELDS_MAX], int fields,
                    struct metrics *metrics, size_t row)
{
    int field = 0;
    for (char *word; (word = strsep(&line, ",")) != NULL; field++) {
        double value = NAN;
        if (field == fields)
            return rdp_fail(RDP_EUSAGE, "%s:%d: more than the header's %d columns", path, line_number, fields);
        if (*word != '\0' && !rdp_parse_real(word, &value))
            return rdp_fail(RDP_EUSAGE, "%s:%d: column %d is no number: %.40s", path, line_number, field + 1, word);
        if (column_of[field] >= 0)
            metrics->columns[column_of[field]][row] = value;
    }
    if (field < fields)
        return rdp_fail(RDP_EUSAGE, "%s:%d: fewer than the header's %d columns", path, line_number, fields);
    double epoch = metrics->columns[EPOCH][row];
    if (!(epoch >= 0 && epoch <= 1e9) || (row > 0 && epoch < metrics->columns[EPOCH][row - 1]))
        return rdp_fail(RDP_EUSAGE, "%s:%d: the epoch is missing, out of range or before the last row's", path,
                        line_number);
    return RDP_OK;
}

static int read_metrics(const char *path, struct metrics *metrics)
{
    char *text = NULL, *rest, *line;
    void *memory = NULL;
    int column_of[FIELDS_MAX], fields, status, line_number = 1;
    size_t lines = 0;
    memset(metrics, 0, sizeof *metrics);
    RDP_TRY(rdp_file_read_text(path, BYTES_MAX, &text));
    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    rest = text;
    line = next_line(&rest);
    if (line == NULL) {
        status = rdp_fail(RDP_EUSAGE, "%s:1: the file is empty", path);
        goto done;
    }
    RDP_TRY_GOTO(status, read_header(path, line, column_of, &fields), done);
    RDP_TRY_GOTO(status, rdp_calloc(&memory, (lines + 1) * COLUMN_COUNT, sizeof(double), "the metrics"), done);
    for (int c = 0; c < COLUMN_COUNT; c++)
        metrics->columns[c] = (double *)memory + (size_t)c * (lines + 1);
    for (size_t i = 0; i < (lines + 1) * COLUMN_COUNT; i++)
        metrics->columns[0][i] = NAN;
    while ((line = next_line(&rest)) != NULL) {
        RDP_TRY_GOTO(status, read_row(path, ++line_number, line, column_of, fields, metrics, metrics->rows), done);
        metrics->rows++;
    }
    if (metrics->rows == 0)
        status = rdp_fail(RDP_EUSAGE, "%s: no epoch in it yet; there is nothing to draw", path);
done:
    if (status != RDP_OK) {
        free(memory);
        metrics->columns[0] = NULL;
    }
    free(text);
    return status;
}

static int write_chart(const char *out_dir, const char *name, const struct rdp_chart *chart)
{
    char path[4096], *svg = NULL;
    size_t size = 0;
    if (snprintf(path, sizeof path, "%s/%s", out_dir, name) >= (int)sizeof path)
        return rdp_fail(RDP_EUSAGE, "%s: the path is too long for %s; choose a shorter one", out_dir, name);
    FILE *out = open_memstream(&svg, &size);
    if (out != NULL)
        rdp_chart_write(out, chart);
    if (out == NULL || fclose(out) != 0) {
        free(svg);
        return rdp_fail(RDP_ENOMEM, "%s: out of memory while drawing", path);
    }
    struct rdp_bytes piece = {svg, size};
    int status = rdp_durable_write(path, &piece, 1);
    free(svg);
    return status;
}

static void format_loss(char text[16], double loss)
{
    snprintf(text, 16, loss == 0 || (fabs(loss) >= 0.001 && fabs(loss) < 1000) ? "%.4f" : "%.1e", loss);
}

/* "0.2713 (min 0.2712)": the last value there is and the best of all. */
static void describe(char legend[64], const struct metrics *metrics, const double *values, bool percent)
{
    double last = NAN, best = NAN;
    char text[2][16];
    for (size_t i = 0; i < metrics->rows; i++) {
        if (isnan(values[i]))
            continue;
        last = values[i];
        best = percent ? fmax(best, last) : fmin(best, last); /* ignore NAN */
    }
    format_loss(text[0], last);
    format_loss(text[1], best);
    if (percent)
        snprintf(legend, 64, "%.2f %% (best %.2f)", last, best);
    else
        snprintf(legend, 64, "%s (min %s)", text[0], text[1]);
}

static int draw_three(const struct metrics *metrics, const char *out_dir, const char *name, struct rdp_chart chart,
                      int train, int val, int test, bool percent)
{
    char legends[3][64];
    const double *values[3] = {metrics->columns[train], metrics->columns[val], metrics->columns[test]};
    for (int s = 0; s < 3; s++)
        describe(legends[s], metrics, values[s], percent);
    const struct rdp_chart_series series[3] = {
        {"train", train_colour, values[0], legends[0]},
        {"validation", val_colour, values[1], legends[1]},
        {"test", test_colour, values[2], legends[2]},
    };
    chart.series = series;
    chart.series_count = 3;
    return write_chart(out_dir, name, &chart);
}

static int draw(const struct metrics *metrics, const char *note, const char *out_dir)
{
    struct rdp_chart chart = {.note = note, .x_label = "epoch", .points = metrics->rows, .x = metrics->columns[EPOCH]};
    chart.title = chart.y_label = "Loss";
    chart.y_floor = 0;
    chart.y_ceiling = NAN;
    RDP_TRY(draw_three(metrics, out_dir, "loss.svg", chart, TRAIN_LOSS, VAL_LOSS, TEST_LOSS, false));
    chart.title = "Accuracy";
    chart.y_label = "Accuracy (%)";
    chart.y_floor = NAN;
    chart.y_ceiling = 100;
    RDP_TRY(draw_three(metrics, out_dir, "accuracy.svg", chart, TRAIN_ACCURACY, VAL_ACCURACY, TEST_ACCURACY, true));
    const struct rdp_chart_series rate = {"learning rate", train_colour, metrics->columns[LR],
                                          "at each epoch's last step"};
    chart.title = chart.y_label = "Learning rate";
    chart.y_floor = 0;
    chart.y_ceiling = NAN;
    chart.series = &rate;
    chart.series_count = 1;
    return write_chart(out_dir, "learning-rate.svg", &chart);
}

int rdp_plot_run(const char *run_dir, const char *out_dir)
{
    char path[4096], name[256];
    struct metrics metrics;
    if (snprintf(path, sizeof path, "%s/metrics.csv", run_dir) >= (int)sizeof path)
        return rdp_fail(RDP_EUSAGE, "%s: the path is too long", run_dir);
    RDP_TRY(read_metrics(path, &metrics));
    for (size_t i = 0; i < metrics.rows; i++) {
        metrics.columns[TRAIN_ACCURACY][i] *= 100;
        metrics.columns[VAL_ACCURACY][i] *= 100;
        metrics.columns[TEST_ACCURACY][i] *= 100;
    }
    /* The last part of "runs/resnet-x/" without its slash. */
    int end = (int)strlen(run_dir);
    while (end > 1 && run_dir[end - 1] == '/')
        end--;
    int start = end;
    while (start > 0 && run_dir[start - 1] != '/')
        start--;
    snprintf(name, sizeof name, "%.*s", end - start, run_dir + start);
    int status = out_dir != NULL ? rdp_make_directory(out_dir) : RDP_OK;
    if (status == RDP_OK)
        status = draw(&metrics, strcmp(name, ".") == 0 || strcmp(name, "..") == 0 ? "" : name,
                      out_dir != NULL ? out_dir : run_dir);
    free(metrics.columns[0]);
    return status;
}
