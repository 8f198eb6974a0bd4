/* report.h and report_bar.h: the metrics files to the byte, what a resumed run keeps of them, full disks, the
 * progress bar. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/status.h"
#include "report.h"
#include "report_bar.h"

static char directory[64];

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/rdp-test-report-XXXXXX");
    rdp_fail_clear();
    return mkdtemp(directory) == NULL;
}

static void path_of(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", directory, name);
}

static int tear_down(void **state)
{
    static const char *const names[] = {"metrics.csv", "metrics.jsonl", "timing.csv"};
    char path[256];
    (void)state;
    for (int i = 0; i < 3; i++) {
        path_of(path, names[i]);
        unlink(path);
    }
    return rmdir(directory);
}

/* The file's text, owned by the caller. */
static char *read_back(const char *name)
{
    char path[256], *text = calloc(1, 65536);
    path_of(path, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, 65535, file) < 65535);
    fclose(file);
    return text;
}

static void assert_text(const char *name, const char *expected)
{
    char *text = read_back(name);
    assert_string_equal(text, expected);
    free(text);
}

static void write_text(const char *name, const char *mode, const char *text)
{
    char path[256];
    path_of(path, name);
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int report_epoch(struct rdp_report *report, int64_t epoch)
{
    const struct rdp_epoch_metrics metrics = {
        epoch, epoch * 390, 0.1 / (double)epoch, 2.5 / (double)epoch, 0.25, NAN, NAN, epoch % 2 == 0 ? NAN : 1.5,
        0.9381};
    const struct rdp_epoch_timing timing = {143.25, 3.5, 146.75 * (double)epoch, 354, INFINITY};
    return rdp_report_epoch(report, 10, &metrics, &timing);
}

static void run_epochs(int64_t resume_epoch, int64_t first, int64_t last)
{
    struct rdp_report *report;
    assert_int_equal(rdp_report_open(&report, directory,
                                     &(struct rdp_report_options){true, true, false, resume_epoch, resume_epoch}),
                     RDP_OK);
    for (int64_t epoch = first; epoch <= last; epoch++)
        assert_int_equal(report_epoch(report, epoch), RDP_OK);
    rdp_report_close(report);
}

static void test_files(void **state)
{
    (void)state;
    run_epochs(-1, 1, 3);
    run_epochs(-1, 1, 2); /* a new run writes new files */
    assert_text("metrics.csv", "epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy\n"
                               "1,390,0.1,2.5,0.25,,,1.5,0.9381\n2,780,0.05,1.25,0.25,,,,0.9381\n");
    assert_text(
        "metrics.jsonl",
        "{\"epoch\": 1, \"step\": 390, \"lr\": 0.1, \"train_loss\": 2.5, \"train_accuracy\": 0.25, \"val_loss\": null, "
        "\"val_accuracy\": null, \"test_loss\": 1.5, \"test_accuracy\": 0.9381}\n"
        "{\"epoch\": 2, \"step\": 780, \"lr\": 0.05, \"train_loss\": 1.25, \"train_accuracy\": 0.25, \"val_loss\": "
        "null, "
        "\"val_accuracy\": null, \"test_loss\": null, \"test_accuracy\": 0.9381}\n");
    assert_text("timing.csv",
                "epoch,epoch_seconds,evaluate_seconds,elapsed_seconds,images_per_second,exposed_comm_seconds\n"
                "1,143.25,3.5,146.75,354,\n2,143.25,3.5,293.5,354,\n");
}

/* Stopped after 7, resumed from the checkpoint of 4: the same bytes as a straight run's. */
static void test_resume_equals_straight(void **state)
{
    static const char *const names[] = {"metrics.csv", "metrics.jsonl", "timing.csv"};
    char *straight[3];
    (void)state;
    run_epochs(-1, 1, 10);
    for (int i = 0; i < 3; i++)
        straight[i] = read_back(names[i]);
    run_epochs(-1, 1, 7);
    write_text("metrics.csv", "a", "8,3120,0.0"); /* a killed run's half row */
    write_text("metrics.jsonl", "a", "{\"epoch\": 8, \"s");
    run_epochs(4, 5, 10);
    for (int i = 0; i < 3; i++) {
        assert_text(names[i], straight[i]);
        free(straight[i]);
    }
    run_epochs(0, 1, 1); /* from a checkpoint inside the first epoch */
    assert_text("metrics.csv", "epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy\n"
                               "1,390,0.1,2.5,0.25,,,1.5,0.9381\n");
}

static void test_resume_in_an_empty_directory(void **state)
{
    (void)state;
    run_epochs(4, 5, 5);
    assert_text("timing.csv",
                "epoch,epoch_seconds,evaluate_seconds,elapsed_seconds,images_per_second,exposed_comm_seconds\n"
                "5,143.25,3.5,733.75,354,\n");
}

static void test_foreign_files_are_refused(void **state)
{
    struct rdp_report *report;
    (void)state;
    run_epochs(-1, 1, 2);
    write_text("metrics.csv", "w", "a,b\n1,2\n");
    assert_int_equal(rdp_report_open(&report, directory, &(struct rdp_report_options){true, true, false, 1, 1}),
                     RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "metrics.csv:1: not the header"));
    assert_null(report);
    assert_text("metrics.csv", "a,b\n1,2\n");
    rdp_fail_clear();
    run_epochs(-1, 1, 2);
    write_text("metrics.jsonl", "a", "rubbish\n");
    assert_int_equal(rdp_report_open(&report, directory, &(struct rdp_report_options){true, true, false, 5, 5}),
                     RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "metrics.jsonl:3: not a row"));
    rdp_fail_clear();
}

static void test_missing_directory(void **state)
{
    struct rdp_report *report;
    (void)state;
    assert_int_equal(
        rdp_report_open(&report, "/nonexistent/run", &(struct rdp_report_options){true, true, false, -1, -1}), RDP_EIO);
    assert_non_null(strstr(rdp_fail_message(), "/nonexistent/run/metrics.csv"));
    rdp_fail_clear();
}

static void test_other_ranks_do_nothing(void **state)
{
    struct rdp_report *report;
    char path[256];
    (void)state;
    assert_int_equal(rdp_report_open(&report, directory, &(struct rdp_report_options){false, true, false, -1, -1}),
                     RDP_OK);
    rdp_report_progress(report, 1, 2, 3, 4, 1, 1, 1, 1);
    assert_int_equal(report_epoch(report, 1), RDP_OK);
    rdp_report_close(report);
    path_of(path, "metrics.csv");
    assert_int_equal(access(path, F_OK), -1);
}

/* A file-size limit stands for the full disk: an error with path and reason, and no half row. */
static void test_full_disk(void **state)
{
    struct rdp_report *report;
    struct rlimit before, limit;
    (void)state;
    assert_int_equal(rdp_report_open(&report, directory, &(struct rdp_report_options){true, true, false, -1, -1}),
                     RDP_OK);
    assert_int_equal(report_epoch(report, 1), RDP_OK);
    char *good = read_back("metrics.csv");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = strlen(good) + 10;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int status = report_epoch(report, 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, SIG_DFL);
    rdp_report_close(report);
    assert_int_equal(status, RDP_EIO);
    assert_non_null(strstr(rdp_fail_message(), "metrics.csv: cannot append a row: File too large"));
    rdp_fail_clear();
    assert_text("metrics.csv", good);
    free(good);
}

static void test_bar(void **state)
{
    struct rdp_bar bar = {3, 10, 210, 390, 1.234, 0.0912, 418, 252};
    char line[RDP_BAR_MAX];
    (void)state;
    assert_string_equal(rdp_bar_format(&bar, 79, line),
                        "epoch 3/10 [#####.....] 210/390  loss 1.234  lr 0.0912  418 images/s  4:12 left");
    assert_string_equal(rdp_bar_format(&bar, RDP_BAR_PLAIN, line),
                        "epoch 3/10 210/390  loss 1.234  lr 0.0912  418 images/s  4:12 left");
    for (int width = 1; width < 300; width++) { /* it always fits */
        rdp_bar_format(&bar, width, line);
        assert_true((int)strlen(line) <= width);
        assert_int_equal(strchr(line, '[') != NULL, strchr(line, ']') != NULL);
        if (width >= 28)
            assert_non_null(strstr(line, "210/390"));
    }
    bar.done = bar.total;
    assert_non_null(strstr(rdp_bar_format(&bar, 79, line), "[##########]"));
    bar.loss = bar.images_per_second = bar.remaining_seconds = NAN;
    assert_string_equal(rdp_bar_format(&bar, RDP_BAR_PLAIN, line), "epoch 3/10 390/390  lr 0.0912");
    bar.total = bar.done = 0;
    rdp_bar_format(&bar, 80, line);
}

static void test_no_terminal(void **state)
{
    int ends[2];
    (void)state;
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(rdp_terminal_columns(ends[1]), 0);
    close(ends[0]);
    close(ends[1]);
}

int main(void)
{
#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_DIRECTORY(test_files),
        WITH_DIRECTORY(test_resume_equals_straight),
        WITH_DIRECTORY(test_resume_in_an_empty_directory),
        WITH_DIRECTORY(test_foreign_files_are_refused),
        WITH_DIRECTORY(test_missing_directory),
        WITH_DIRECTORY(test_other_ranks_do_nothing),
        WITH_DIRECTORY(test_full_disk),
        cmocka_unit_test(test_bar),
        cmocka_unit_test(test_no_terminal),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
