/*
 * The run's progress, epoch table and metrics files; see report.h. A row is written by one write(), so that another
 * program that reads the files while the run goes on sees whole rows, and a row that did not fit on the disk is taken
 * back.
 */
#include "report.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"
#include "io/durable.h"
#include "io/file.h"
#include "report_bar.h"

enum { METRICS_CSV, METRICS_JSONL, TIMING_CSV, STEPS_CSV, FILE_COUNT };

static const uint64_t METRICS_MAX = (uint64_t)1 << 32; /* bytes: a row of steps.csv for each of 100 million steps */

static const struct {
    const char *name, *header;
} files[FILE_COUNT] = {
    {"metrics.csv", "epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy\n"},
    {"metrics.jsonl", ""},
    {"timing.csv", "epoch,epoch_seconds,evaluate_seconds,elapsed_seconds,images_per_second,exposed_comm_seconds\n"},
    {"steps.csv", "step,lr,loss\n"},
};

struct rdp_report {
    bool active, progress;
    bool table_begun, validation_columns;
    bool bar_drawn;
    double last_drawn; /* seconds, monotonic: when something about progress was last printed */
    struct {
        int descriptor;
        char path[4096];
    } files[FILE_COUNT];
};

/* The epoch (steps.csv: step) that a row belongs to, -1 if it is none. JSON rows begin with it as CSV rows do:
 * {"epoch": 3, ... */
static int64_t row_epoch(const char *row)
{
    char digits[24];
    int64_t epoch;
    if (strncmp(row, "{\"epoch\": ", 10) == 0)
        row += 10;
    size_t length = strspn(row, "0123456789");
    if (length == 0 || length >= sizeof digits || row[length] != ',')
        return -1;
    memcpy(digits, row, length);
    digits[length] = '\0';
    return rdp_parse_integer(digits, &epoch) ? epoch : -1;
}

/* The length of the part of `text` that ends with epoch `last`. What follows, also half a row of a full disk, goes. */
static int find_end(const char *path, const char *header, const char *text, int64_t last, size_t *end)
{
    size_t at = strlen(header);
    if (strncmp(text, header, at) != 0)
        return rdp_fail(RDP_EUSAGE,
                        "%s:1: not the header that this version writes; move the file away or train into another "
                        "directory",
                        path);
    for (int line = at == 0 ? 1 : 2;; line++) {
        size_t length = strcspn(text + at, "\n");
        *end = at;
        if (text[at + length] == '\0')
            return RDP_OK;
        int64_t epoch = row_epoch(text + at);
        if (epoch < 0)
            return rdp_fail(RDP_EUSAGE,
                            "%s:%d: not a row of this file; move the file away or train into another directory", path,
                            line);
        if (epoch > last)
            return RDP_OK;
        at += length + 1;
    }
}

/* The file as it was after epoch `last`, or new if that is negative or there is none; atomically. */
static int start_file(const char *path, const char *header, int64_t last)
{
    char *text = NULL;
    size_t end = 0;
    int status = RDP_OK;
    if (last >= 0 && access(path, F_OK) == 0)
        RDP_TRY(rdp_file_read_text(path, METRICS_MAX, &text));
    if (text == NULL) {
        struct rdp_bytes piece = {header, strlen(header)};
        return rdp_durable_write(path, &piece, 1);
    }
    RDP_TRY_GOTO(status, find_end(path, header, text, last, &end), done);
    if (text[end] != '\0') {
        struct rdp_bytes piece = {text, end};
        status = rdp_durable_write(path, &piece, 1);
    }
done:
    free(text);
    return status;
}

int rdp_report_open(struct rdp_report **report, const char *run_dir, const struct rdp_report_options *options)
{
    const bool active = options->active;
    void *memory;
    int status = RDP_OK;
    *report = NULL;
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **report, "the run's report"));
    struct rdp_report *opened = memory;
    opened->active = active;
    opened->progress = options->progress;
    opened->last_drawn = rdp_now();
    for (int i = 0; i < FILE_COUNT; i++)
        opened->files[i].descriptor = -1;
    for (int i = 0; active && i < FILE_COUNT; i++) {
        char *path = opened->files[i].path;
        if (i == STEPS_CSV && !options->steps)
            continue;
        if (snprintf(path, sizeof opened->files[i].path, "%s/%s", run_dir, files[i].name) >=
            (int)sizeof opened->files[i].path) {
            status = rdp_fail(RDP_EUSAGE, "%s: the path is too long for %s; use a shorter --run-dir", run_dir,
                              files[i].name);
            goto fail;
        }
        int64_t last = i == STEPS_CSV ? options->resume_step : options->resume_epoch;
        RDP_TRY_GOTO(status, start_file(path, files[i].header, last), fail);
        opened->files[i].descriptor = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
        if (opened->files[i].descriptor < 0) {
            status = rdp_fail(RDP_EIO, "%s: cannot open it to append: %s", path, strerror(errno));
            goto fail;
        }
    }
    *report = opened;
    return RDP_OK;
fail:
    rdp_report_close(opened);
    return status;
}

static void clear_bar(struct rdp_report *report)
{
    if (report->bar_drawn)
        rdp_say("\r\033[K");
    report->bar_drawn = false;
}

void rdp_report_close(struct rdp_report *report)
{
    if (report == NULL)
        return;
    clear_bar(report);
    for (int i = 0; i < FILE_COUNT; i++)
        if (report->files[i].descriptor >= 0)
            close(report->files[i].descriptor);
    free(report);
}

void rdp_report_progress(struct rdp_report *report, int64_t epoch, int64_t epochs, int64_t done, int64_t total,
                         double loss, double lr, double images_per_second, double remaining_seconds)
{
    const struct rdp_bar bar = {epoch, epochs, done, total, loss, lr, images_per_second, remaining_seconds};
    char line[RDP_BAR_MAX];
    if (!report->active || !report->progress)
        return;
    double time = rdp_now();
    if (time - report->last_drawn < 0.1)
        return;
    /* Asked every time: windows are resized. */
    int columns = rdp_terminal_columns(STDOUT_FILENO);
    if (columns == 0 && time - report->last_drawn < 30)
        return;
    report->last_drawn = time;
    if (columns == 0) {
        rdp_say("%s\n", rdp_bar_format(&bar, RDP_BAR_PLAIN, line));
    } else {
        rdp_say("\r%s\033[K", rdp_bar_format(&bar, columns - 1, line));
        report->bar_drawn = true;
    }
}

/* "93.81" or "1.234" in `width` columns, "-" if it was not measured. */
static void say_number(int width, int decimals, double value)
{
    if (isnan(value))
        rdp_say("%*s", width, "-");
    else
        rdp_say("%*.*f", width, decimals, value);
}

static void print_row(struct rdp_report *report, int64_t epochs, const struct rdp_epoch_metrics *metrics,
                      const struct rdp_epoch_timing *timing)
{
    char counter[48], duration[32];
    if (!report->table_begun) {
        /* Without any evaluation in the first row, whether there is a validation split is not known yet. */
        report->validation_columns = !isnan(metrics->val_loss) || isnan(metrics->test_loss);
        rdp_say("%9s %9s %9s %10s %11s", "epoch", "step", "lr", "train loss", "train acc %");
        if (report->validation_columns)
            rdp_say(" %8s %9s", "val loss", "val acc %");
        rdp_say(" %10s %9s %8s\n", "test acc %", "images/s", "time");
        report->table_begun = true;
    }
    snprintf(counter, sizeof counter, "%" PRId64 "/%" PRId64, metrics->epoch, epochs);
    rdp_say("%9s %9" PRId64 " %9.3g ", counter, metrics->step, metrics->lr);
    say_number(10, 4, metrics->train_loss);
    say_number(12, 2, 100 * metrics->train_accuracy);
    if (report->validation_columns) {
        say_number(9, 4, metrics->val_loss);
        say_number(10, 2, 100 * metrics->val_accuracy);
    }
    say_number(11, 2, 100 * metrics->test_accuracy);
    say_number(10, 0, timing->images_per_second);
    rdp_say(" %8s\n", rdp_format_duration(duration, sizeof duration, timing->epoch_seconds));
}

static void put_csv(FILE *out, double value, const char *end)
{
    char number[32];
    fprintf(out, "%s%s", isfinite(value) ? rdp_format_real(number, sizeof number, value) : "", end);
}

static void put_row(FILE *out, int file, const struct rdp_epoch_metrics *metrics, const struct rdp_epoch_timing *timing)
{
    struct rdp_json json;
    switch (file) {
    case METRICS_CSV:
        fprintf(out, "%" PRId64 ",%" PRId64 ",", metrics->epoch, metrics->step);
        put_csv(out, metrics->lr, ",");
        put_csv(out, metrics->train_loss, ",");
        put_csv(out, metrics->train_accuracy, ",");
        put_csv(out, metrics->val_loss, ",");
        put_csv(out, metrics->val_accuracy, ",");
        put_csv(out, metrics->test_loss, ",");
        put_csv(out, metrics->test_accuracy, "\n");
        break;
    case METRICS_JSONL:
        rdp_json_begin(&json, out, 0);
        rdp_json_object(&json, NULL);
        rdp_json_integer(&json, "epoch", metrics->epoch);
        rdp_json_integer(&json, "step", metrics->step);
        rdp_json_real(&json, "lr", metrics->lr);
        rdp_json_real(&json, "train_loss", metrics->train_loss);
        rdp_json_real(&json, "train_accuracy", metrics->train_accuracy);
        rdp_json_real(&json, "val_loss", metrics->val_loss);
        rdp_json_real(&json, "val_accuracy", metrics->val_accuracy);
        rdp_json_real(&json, "test_loss", metrics->test_loss);
        rdp_json_real(&json, "test_accuracy", metrics->test_accuracy);
        rdp_json_object_end(&json);
        break;
    default:
        fprintf(out, "%" PRId64 ",", metrics->epoch);
        put_csv(out, timing->epoch_seconds, ",");
        put_csv(out, timing->evaluate_seconds, ",");
        put_csv(out, timing->elapsed_seconds, ",");
        put_csv(out, timing->images_per_second, ",");
        put_csv(out, timing->exposed_comm_seconds, "\n");
    }
}

static int append(int descriptor, const char *path, const char *text, size_t size)
{
    off_t before = lseek(descriptor, 0, SEEK_END);
    for (size_t written = 0; written < size;) {
        ssize_t count = write(descriptor, text + written, size - written);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0) {
            int reason = count < 0 ? errno : ENOSPC;
            /* No half row may stay behind; if even this fails, a resumed run drops it. */
            if (before < 0 || ftruncate(descriptor, before) != 0)
                rdp_log_warning("%s: its last row is incomplete", path);
            return rdp_fail(RDP_EIO, "%s: cannot append a row: %s; make room, then resume", path, strerror(reason));
        }
        written += (size_t)count;
    }
    return RDP_OK;
}

int rdp_report_epoch(struct rdp_report *report, int64_t epochs, const struct rdp_epoch_metrics *metrics,
                     const struct rdp_epoch_timing *timing)
{
    if (!report->active)
        return RDP_OK;
    clear_bar(report);
    report->last_drawn = rdp_now();
    print_row(report, epochs, metrics, timing);
    for (int i = 0; i < STEPS_CSV; i++) {
        char *row = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&row, &size);
        if (out != NULL)
            put_row(out, i, metrics, timing);
        if (out == NULL || fclose(out) != 0) {
            free(row);
            return rdp_fail(RDP_ENOMEM, "a row of %s: out of memory", report->files[i].path);
        }
        int status = append(report->files[i].descriptor, report->files[i].path, row, size);
        free(row);
        RDP_TRY(status);
    }
    return RDP_OK;
}

bool rdp_report_has_epochs(const struct rdp_report *report)
{
    struct stat info;
    return report->active && fstat(report->files[METRICS_CSV].descriptor, &info) == 0 &&
           (size_t)info.st_size > strlen(files[METRICS_CSV].header);
}

int rdp_report_step(struct rdp_report *report, int64_t step, double lr, double loss)
{
    char row[128], numbers[2][32];
    if (report->files[STEPS_CSV].descriptor < 0)
        return RDP_OK;
    int size =
        snprintf(row, sizeof row, "%" PRId64 ",%s,%s\n", step, rdp_format_real(numbers[0], sizeof numbers[0], lr),
                 rdp_format_real(numbers[1], sizeof numbers[1], loss));
    return append(report->files[STEPS_CSV].descriptor, report->files[STEPS_CSV].path, row, (size_t)size);
}
