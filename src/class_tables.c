/* The tables of classes; see class_tables.h. */
#include "class_tables.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/status.h"
#include "base/text.h"
#include "io/csv.h"
#include "io/durable.h"

struct tested {
    const struct rdp_evaluation *evaluation;
    const struct rdp_dataset_info *info;
};

static void put_classes(FILE *out, const void *what)
{
    const struct tested *tested = what;
    const struct rdp_evaluation *evaluation = tested->evaluation;
    const struct rdp_dataset_info *info = tested->info;
    char number[32];
    fputs("class,correct,of,accuracy\n", out);
    for (int k = 0; k < evaluation->classes; k++) {
        const int64_t *row = evaluation->confusion + (size_t)k * (size_t)evaluation->classes;
        int64_t count = 0;
        for (int j = 0; j < evaluation->classes; j++)
            count += row[j];
        rdp_csv_put_field(out, info->class_names[k]);
        fprintf(out, ",%" PRId64 ",%" PRId64 ",%s\n", row[k], count,
                count > 0 ? rdp_format_real(number, sizeof number, (double)row[k] / (double)count) : "");
    }
}

static void put_confusion(FILE *out, const void *what)
{
    const struct tested *tested = what;
    const struct rdp_evaluation *evaluation = tested->evaluation;
    const struct rdp_dataset_info *info = tested->info;
    fputs("true/predicted", out);
    for (int k = 0; k < evaluation->classes; k++) {
        fputc(',', out);
        rdp_csv_put_field(out, info->class_names[k]);
    }
    fputc('\n', out);
    for (int k = 0; k < evaluation->classes; k++) {
        rdp_csv_put_field(out, info->class_names[k]);
        for (int j = 0; j < evaluation->classes; j++)
            fprintf(out, ",%" PRId64, evaluation->confusion[(size_t)k * (size_t)evaluation->classes + (size_t)j]);
        fputc('\n', out);
    }
}

static int write_table(const char *run_dir, const char *name, void (*put)(FILE *out, const void *what),
                       const struct tested *tested)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", run_dir, name) >= (int)sizeof path)
        return rdp_fail(RDP_EUSAGE, "%s: the path is too long for %s; use a shorter --run-dir", run_dir, name);
    return rdp_durable_print(path, put, tested);
}

int rdp_class_tables_write(const char *run_dir, const struct rdp_evaluation *evaluation,
                           const struct rdp_dataset_info *info)
{
    const struct tested tested = {evaluation, info};
    RDP_TRY(write_table(run_dir, "classes.csv", put_classes, &tested));
    return write_table(run_dir, "confusion.csv", put_confusion, &tested);
}
