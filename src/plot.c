/* Which curves of which file become which chart; see plot.h. */
#include "plot.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "io/csv.h"
#include "io/durable.h"
#include "plot_confusion.h"
#include "plot_files.h"
#include "plot_svg.h"

enum { EPOCH, LR, TRAIN_LOSS, TRAIN_ACCURACY, VAL_LOSS, VAL_ACCURACY, TEST_LOSS, TEST_ACCURACY, METRICS_COLUMNS };
static const char *const metrics_names[METRICS_COLUMNS] = {
    "epoch", "lr", "train_loss", "train_accuracy", "val_loss", "val_accuracy", "test_loss", "test_accuracy",
};
enum { STEP, STEP_LR, STEP_LOSS, STEPS_COLUMNS, STEP_POINTS_MOST = 1000 };
static const char *const steps_names[STEPS_COLUMNS] = {"step", "lr", "loss"};

/* Okabe and Ito's colours, which people with colour-blindness can tell apart. */
static const char *const train_colour = "#0072b2", *const val_colour = "#e69f00", *const test_colour = "#d55e00";

static void draw_chart(FILE *out, const void *chart)
{
    rdp_chart_write(out, chart);
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

static int draw_three(const struct rdp_csv *metrics, const struct rdp_plot_target *target, const char *name,
                      struct rdp_chart chart, int train, int val, int test, bool percent)
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
    return rdp_plot_save(target, name, draw_chart, &chart);
}

static int draw_one(const struct rdp_plot_target *target, const char *name, struct rdp_chart chart, const char *series,
                    const double *values, const char *legend)
{
    const struct rdp_chart_series one = {series, train_colour, values, legend};
    chart.series = &one;
    chart.series_count = 1;
    return rdp_plot_save(target, name, draw_chart, &chart);
}

static int draw_epochs(const struct rdp_csv *metrics, const char *note, const struct rdp_plot_target *target)
{
    struct rdp_chart chart = {.note = note, .x_label = "epoch", .points = metrics->rows, .x = metrics->columns[EPOCH]};
    chart.title = chart.y_label = "Loss";
    chart.y_floor = 0;
    chart.y_ceiling = NAN;
    RDP_TRY(draw_three(metrics, target, "loss.svg", chart, TRAIN_LOSS, VAL_LOSS, TEST_LOSS, false));
    chart.title = "Accuracy";
    chart.y_label = "Accuracy (%)";
    chart.y_floor = NAN;
    chart.y_ceiling = 100;
    RDP_TRY(draw_three(metrics, target, "accuracy.svg", chart, TRAIN_ACCURACY, VAL_ACCURACY, TEST_ACCURACY, true));
    chart.title = chart.y_label = "Learning rate";
    chart.y_floor = 0;
    chart.y_ceiling = NAN;
    return draw_one(target, "learning-rate.svg", chart, "learning rate", metrics->columns[LR],
                    "at each epoch's last step");
}

/* Single steps are many and noisy: every `group` of them becomes one point, the mean loss, at the last of them. */
static size_t group_steps(struct rdp_csv *steps)
{
    const size_t group = (steps->rows + STEP_POINTS_MOST - 1) / STEP_POINTS_MOST;
    size_t points = 0;
    for (size_t first = 0; first < steps->rows; first += group, points++) {
        const size_t end = first + group < steps->rows ? first + group : steps->rows;
        double sum = 0;
        for (size_t i = first; i < end; i++)
            sum += steps->columns[STEP_LOSS][i];
        steps->columns[STEP_LOSS][points] = sum / (double)(end - first);
        steps->columns[STEP][points] = steps->columns[STEP][end - 1];
        steps->columns[STEP_LR][points] = steps->columns[STEP_LR][end - 1];
    }
    steps->rows = points;
    return group;
}

static int draw_steps(struct rdp_csv *steps, const char *note, const struct rdp_plot_target *target)
{
    char legend[64] = "of each step";
    const size_t group = group_steps(steps);
    struct rdp_chart chart = {.note = note,
                              .x_label = "training steps",
                              .points = steps->rows,
                              .x = steps->columns[STEP],
                              .y_floor = 0,
                              .y_ceiling = NAN};
    if (group > 1)
        snprintf(legend, sizeof legend, "mean of every %zu steps", group);
    chart.title = chart.y_label = "Loss";
    RDP_TRY(draw_one(target, "loss-steps.svg", chart, "train", steps->columns[STEP_LOSS], legend));
    if (group > 1)
        snprintf(legend, sizeof legend, "of every %zu steps' last", group);
    chart.title = chart.y_label = "Learning rate";
    return draw_one(target, "learning-rate-steps.svg", chart, "learning rate", steps->columns[STEP_LR], legend);
}

static int path_of(const char *run_dir, const char *name, char path[4096])
{
    if (snprintf(path, 4096, "%s/%s", run_dir, name) >= 4096)
        return rdp_fail(RDP_EUSAGE, "%s: the path is too long", run_dir);
    return RDP_OK;
}

static int plot_metrics(const char *run_dir, const char *note, const struct rdp_plot_target *target)
{
    char path[4096];
    struct rdp_csv metrics;
    RDP_TRY(path_of(run_dir, "metrics.csv", path));
    if (access(path, F_OK) != 0)
        return rdp_fail(RDP_EUSAGE, "%s: %s; give a directory that a run has left, as runs/NAME", path,
                        strerror(errno));
    RDP_TRY(rdp_plot_table(path, metrics_names, METRICS_COLUMNS, &metrics));
    for (size_t i = 0; i < metrics.rows; i++) {
        metrics.columns[TRAIN_ACCURACY][i] *= 100;
        metrics.columns[VAL_ACCURACY][i] *= 100;
        metrics.columns[TEST_ACCURACY][i] *= 100;
    }
    int status = rdp_make_directory(target->directory);
    if (status == RDP_OK)
        status = draw_epochs(&metrics, note, target);
    rdp_csv_free(&metrics);
    return status;
}

/* A run without --step-log has no steps.csv. */
static int plot_steps(const char *run_dir, const char *note, const struct rdp_plot_target *target)
{
    char path[4096];
    struct rdp_csv steps;
    RDP_TRY(path_of(run_dir, "steps.csv", path));
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return RDP_OK;
    RDP_TRY(rdp_plot_table(path, steps_names, STEPS_COLUMNS, &steps));
    int status = draw_steps(&steps, note, target);
    rdp_csv_free(&steps);
    return status;
}

int rdp_plot_run(const char *run_dir, const char *out_dir, bool say)
{
    const struct rdp_plot_target target = {out_dir != NULL ? out_dir : run_dir, say};
    char name[256];
    rdp_plot_run_name(run_dir, name);
    RDP_TRY(plot_metrics(run_dir, name, &target));
    RDP_TRY(plot_steps(run_dir, name, &target));
    return rdp_plot_confusion(run_dir, &target);
}
