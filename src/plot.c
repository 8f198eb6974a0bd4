/* From metrics.csv to three charts; see plot.h. */
#include "plot.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "io/csv.h"
#include "io/durable.h"
#include "plot_svg.h"

enum { EPOCH, LR, TRAIN_LOSS, TRAIN_ACCURACY, VAL_LOSS, VAL_ACCURACY, TEST_LOSS, TEST_ACCURACY, COLUMN_COUNT };
static const char *const column_names[COLUMN_COUNT] = {
    "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy",
};

/* Okabe and Ito's colours, which people with colour-blindness can tell apart. */
static const char *const train_colour = "#0072b2", *const val_colour = "#e69f00", *const test_colour = "#d55e00";

static int read_metrics(const char *path, struct rdp_csv *metrics)
{
    RDP_TRY(rdp_csv_read(path, column_names, COLUMN_COUNT, metrics));
    if (metrics->rows == 0) {
        rdp_csv_free(metrics);
        return rdp_fail(RDP_EUSAGE, "%s: no epoch in it yet; there is nothing to draw", path);
    }
    for (size_t row = 0; row < metrics->rows; row++) {
        double epoch = metrics->columns[EPOCH][row];
        if ((epoch >= 0 && epoch <= 1e9) && (row == 0 || epoch >= metrics->columns[EPOCH][row - 1]))
            continue;
        rdp_csv_free(metrics);
        return rdp_fail(RDP_EUSAGE, "%s:%zu: the epoch is missing, out of range or before the last row's", path,
                        row + 2);
    }
    return RDP_OK;
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
static void describe(char legend[64], const struct rdp_csv *metrics, const double *values, bool percent)
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

static int draw_three(const struct rdp_csv *metrics, const char *out_dir, const char *name, struct rdp_chart chart,
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

static int draw(const struct rdp_csv *metrics, const char *note, const char *out_dir)
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
    struct rdp_csv metrics;
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
    rdp_csv_free(&metrics);
    return status;
}
