/* The tables of classes; see class_tables.h. */
#include "class_tables.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "io/durable.h"

typedef void (*writer)(FILE *out, const struct rdp_evaluation *evaluation, const struct rdp_dataset_info *info);

/* RFC 4180: a name with a comma or a quote in it stands in quotes. A row is one line: control characters become spaces.
 */
static void put_name(FILE *out, const char *name)
{
    const bool quoted = strpbrk(name, ",\"") != NULL;
    if (quoted)
        fputc('"', out);
    for (; *name != '\0'; name++) {
        if (*name == '"')
            fputc('"', out);
        fputc((unsigned char)*name < 0x20 ? ' ' : *name, out);
    }
    if (quoted)
        fputc('"', out);
}

static void put_classes(FILE *out, const struct rdp_evaluation *evaluation, const struct rdp_dataset_info *info)
{
    char number[32];
    fputs("class,correct,of,accuracy\n", out);
    for (int k = 0; k < evaluation->classes; k++) {
        const int64_t *row = evaluation->confusion + (size_t)k * (size_t)evaluation->classes;
        int64_t count = 0;
        for (int j = 0; j < evaluation->classes; j++)
            count += row[j];
        put_name(out, info->class_names[k]);
        fprintf(out, ",%" PRId64 ",%" PRId64 ",%s\n", row[k], count,
                count > 0 ? rdp_format_real(number, sizeof number, (double)row[k] / (double)count) : "");
    }
}

static void put_confusion(FILE *out, const struct rdp_evaluation *evaluation, const struct rdp_dataset_info *info)
{
    fputs("true/predicted", out);
    for (int k = 0; k < evaluation->classes; k++) {
        fputc(',', out);
        put_name(out, info->class_names[k]);
    }
    fputc('\n', out);
    for (int k = 0; k < evaluation->classes; k++) {
        put_name(out, info->class_names[k]);
        for (int j = 0; j < evaluation->classes; j++)
            fprintf(out, ",%" PRId64, evaluation->confusion[(size_t)k * (size_t)evaluation->classes + (size_t)j]);
        fputc('\n', out);
    }
}

static int write_table(const char *run_dir, const char *name, writer put, const struct rdp_evaluation *evaluation,
                       const struct rdp_dataset_info *info)
{
    char path[4096], *text = NULL;
    size_t size = 0;
    if (snprintf(path, sizeof path, "%s/%s", run_dir, name) >= (int)sizeof path)
        return rdp_fail(RDP_EUSAGE, "%s: the path is too long for %s; use a shorter --run-dir", run_dir, name);
    FILE *out = open_memstream(&text, &size);
    if (out != NULL)
        put(out, evaluation, info);
    if (out == NULL || fclose(out) != 0) {
        free(text);
        return rdp_fail(RDP_ENOMEM, "%s: out of memory", path);
    }
    struct rdp_bytes piece = {text, size};
    int status = rdp_durable_write(path, &piece, 1);
    free(text);
    return status;
}

int rdp_class_tables_write(const char *run_dir, const struct rdp_evaluation *evaluation,
                           const struct rdp_dataset_info *info)
{
    RDP_TRY(write_table(run_dir, "classes.csv", put_classes, evaluation, info));
    return write_table(run_dir, "confusion.csv", put_confusion, evaluation, info);
}
