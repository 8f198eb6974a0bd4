/* Where a case of a sweep stands, and what came out of it, read from its run directory; see sweep.h. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "base/text.h"
#include "io/csv.h"
#include "io/dataset.h"
#include "io/file.h"
#include "run_dir.h"
#include "sampler.h"
#include "sweep.h"

enum { SUMMARY_BYTES_MAX = 1 << 16, VALUE_MAX = 256 };

static int read_options(const char *path, struct rdp_options *options)
{
    rdp_options_default(options);
    return rdp_options_read_recipe(options, path);
}

/* Whether `names`, joined by ", ", has this one. */
static bool lists(const char *names, const char *name)
{
    const size_t length = strlen(name);
    for (const char *at = names; (at = strstr(at, name)) != NULL; at += length)
        if ((at == names || at[-1] == ' ') && (at[length] == '\0' || at[length] == ','))
            return true;
    return false;
}

/* The options by which the two runs' results differ: what resuming looks at, how far the run goes, what is evaluated. */
static void find_changes(const struct rdp_options *before, const struct rdp_options *now, char *names, size_t size)
{
    static const char *const also[] = {"epochs",        "max-steps",      "evaluate-weights", "evaluate-every",
                                       "evaluate-views", "early-stopping", "final-test"};
    char before_text[RDP_OPTION_TEXT_MAX], now_text[RDP_OPTION_TEXT_MAX];
    rdp_options_differences(before, now, names, size);
    for (size_t i = 0; i < sizeof also / sizeof *also; i++) {
        const struct rdp_option *option = rdp_option_find(also[i]);
        const size_t used = strlen(names);
        if (!lists(names, also[i]) &&
            strcmp(rdp_option_format(option, before, before_text), rdp_option_format(option, now, now_text)) != 0)
            snprintf(names + used, size - used, "%s%s", used == 0 ? "" : ", ", also[i]);
    }
}

/* The value of a member of summary.json: write_summary() puts each in a line of its own. */
static bool find_member(const char *text, const char *key, char value[VALUE_MAX])
{
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\n  \"%s\": ", key);
    const char *found = strstr(text, pattern);
    if (found == NULL)
        return false;
    found += strlen(pattern);
    size_t length = strcspn(found, "\n");
    length -= length > 0 && found[length - 1] == ',';
    return snprintf(value, VALUE_MAX, "%.*s", (int)length, found) < VALUE_MAX;
}

/* NAN for a member that is null or missing. */
static double find_number(const char *text, const char *key)
{
    char value[VALUE_MAX];
    double number;
    return find_member(text, key, value) && rdp_parse_real(value, &number) ? number : NAN;
}

/* A run that has ended belongs to the sweep only if it was trained on the same data. */
static int check_data(const struct rdp_sweep_case *one, const char *path, double crc)
{
    struct rdp_dataset *dataset;
    RDP_TRY(rdp_dataset_open(&dataset, one->options.data));
    const double now = rdp_dataset_info(dataset)->content_crc32c;
    rdp_dataset_close(dataset);
    if (now == crc)
        return RDP_OK;
    return rdp_fail(
        RDP_EUSAGE,
        "case %s: %s is of a run on other data than %s holds; take the data set it had or another --run-dir", one->name,
        path, one->options.data);
}

static int read_summary(struct rdp_sweep_case *one, const char *path)
{
    struct rdp_case_result *result = &one->result;
    char *text, state[VALUE_MAX];
    RDP_TRY(rdp_file_read_text(path, SUMMARY_BYTES_MAX, &text));
    const double crc = find_number(text, "data_crc32c");
    bool known = find_member(text, "state", state);
    result->epochs = find_number(text, "epochs");
    result->steps = find_number(text, "steps");
    result->test_loss = find_number(text, "test_loss");
    result->test_accuracy = find_number(text, "test_accuracy");
    free(text);
    if (known && strcmp(state, "\"done\"") == 0)
        one->state = RDP_CASE_DONE;
    else if (known && strcmp(state, "\"diverged\"") == 0)
        one->state = RDP_CASE_DIVERGED;
    else
        return rdp_fail(RDP_EUSAGE, "case %s: %s does not say how the run ended; delete it and the run goes on",
                        one->name, path);
    return check_data(one, path, crc);
}

/* The last value that there is. */
static double last_of(const double *values, size_t count)
{
    double last = NAN;
    for (size_t i = 0; i < count; i++)
        last = isnan(values[i]) ? last : values[i];
    return last;
}

static int read_metrics(struct rdp_sweep_case *one)
{
    enum { EPOCH, TRAIN_LOSS, TRAIN_ACCURACY, VAL_LOSS, VAL_ACCURACY, COLUMN_COUNT };
    static const char *const names[COLUMN_COUNT] = {"epoch", "train_loss", "train_accuracy", "val_loss",
                                                    "val_accuracy"};
    struct rdp_case_result *result = &one->result;
    char path[RDP_PATH_MAX + 32];
    struct rdp_csv csv;
    rdp_run_dir_path(&one->options, "metrics.csv", path, sizeof path);
    RDP_TRY(rdp_csv_read(path, names, COLUMN_COUNT, &csv));
    result->train_loss = last_of(csv.columns[TRAIN_LOSS], csv.rows);
    result->train_accuracy = last_of(csv.columns[TRAIN_ACCURACY], csv.rows);
    result->val_loss = last_of(csv.columns[VAL_LOSS], csv.rows);
    result->val_accuracy = last_of(csv.columns[VAL_ACCURACY], csv.rows);
    for (size_t i = 0; i < csv.rows; i++)
        result->best_val_accuracy = fmax(result->best_val_accuracy, csv.columns[VAL_ACCURACY][i]); /* ignore NAN */
    rdp_csv_free(&csv);
    return RDP_OK;
}

/* Epochs have equally many images: the rate over all of them is the rates' harmonic mean. */
static int read_timing(struct rdp_sweep_case *one)
{
    enum { EPOCH, EPOCH_SECONDS, EVALUATE_SECONDS, IMAGES_PER_SECOND, COLUMN_COUNT };
    static const char *const names[COLUMN_COUNT] = {"epoch", "epoch_seconds", "evaluate_seconds", "images_per_second"};
    char path[RDP_PATH_MAX + 32];
    struct rdp_csv csv;
    double seconds = 0, inverse = 0;
    rdp_run_dir_path(&one->options, "timing.csv", path, sizeof path);
    RDP_TRY(rdp_csv_read(path, names, COLUMN_COUNT, &csv));
    for (size_t i = 0; i < csv.rows; i++) {
        seconds += csv.columns[EPOCH_SECONDS][i] + csv.columns[EVALUATE_SECONDS][i];
        inverse += 1 / csv.columns[IMAGES_PER_SECOND][i];
    }
    if (csv.rows > 0) {
        one->result.seconds = seconds;
        one->result.images_per_second = (double)csv.rows / inverse;
    }
    rdp_csv_free(&csv);
    return RDP_OK;
}

int rdp_sweep_look(struct rdp_sweep_case *one, bool force)
{
    char path[RDP_PATH_MAX + 32], names[1024];
    struct rdp_options before;
    one->state = RDP_CASE_WAITING;
    one->anew = false;
    one->result = (struct rdp_case_result){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    /* train writes the recipe before its first step: without one, nothing has been trained. */
    rdp_run_dir_path(&one->options, "recipe.ini", path, sizeof path);
    if (access(path, F_OK) != 0)
        return errno == ENOENT ? RDP_OK : rdp_fail(RDP_EUSAGE, "%s: %s", path, strerror(errno));
    RDP_TRY(read_options(path, &before));
    find_changes(&before, &one->options, names, sizeof names);
    one->anew = names[0] != '\0';
    if (one->anew && !force)
        return rdp_fail(
            RDP_EUSAGE,
            "case %s: %s holds a run with other values of %s; --force runs the case anew, or choose another "
            "--run-dir",
            one->name, one->options.run_dir, names);
    if (one->anew)
        return RDP_OK;
    rdp_run_dir_path(&one->options, "summary.json", path, sizeof path);
    one->state = RDP_CASE_STOPPED;
    if (access(path, F_OK) != 0)
        return RDP_OK;
    RDP_TRY(read_summary(one, path));
    RDP_TRY(read_timing(one));
    return one->state == RDP_CASE_DONE ? read_metrics(one) : RDP_OK;
}

int rdp_sweep_check_data(const struct rdp_sweep_case *one, int ranks)
{
    struct rdp_dataset *dataset;
    int status = rdp_dataset_open(&dataset, one->options.data);
    if (status == RDP_OK) {
        status = rdp_sampler_check(&one->options, rdp_dataset_info(dataset)->count[RDP_SPLIT_TRAIN], ranks);
        rdp_dataset_close(dataset);
    }
    return status == RDP_OK ? RDP_OK : rdp_sweep_fail_in_case(status, one->name);
}
