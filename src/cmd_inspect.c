/*
 * `resnet-dp inspect FILE`: what a data set or a checkpoint holds, every checksum verified. Which of the two it is, is
 * told by the content, not by the name.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/status.h"
#include "base/text.h"
#include "commands.h"
#include "dataset_table.h"
#include "io/checkpoint.h"
#include "io/dataset.h"

static int inspect_dataset(const char *path)
{
    struct rdp_dataset *dataset;
    char total[32];
    RDP_TRY(rdp_dataset_open(&dataset, path));
    int status = rdp_dataset_verify(dataset);
    if (status == RDP_OK)
        status = rdp_dataset_print(dataset, path);
    const struct rdp_dataset_info *info = rdp_dataset_info(dataset);
    if (status == RDP_OK)
        rdp_say("Verified: %s images, every checksum holds.\n",
                rdp_format_thousands(total, sizeof total, info->count[RDP_SPLIT_TRAIN] + info->count[RDP_SPLIT_TEST]));
    rdp_dataset_close(dataset);
    return status;
}

static int64_t array_elements(const struct rdp_checkpoint_array *array)
{
    int64_t elements = 1;
    for (int i = 0; i < array->dims_count; i++)
        elements *= array->dims[i];
    return elements;
}

static void print_array(const struct rdp_checkpoint_array *array)
{
    char shape[96] = "";
    double least = INFINITY, most = -INFINITY, squares = 0;
    int64_t elements = array_elements(array), not_finite = 0;
    for (int i = 0; i < array->dims_count; i++) {
        size_t used = strlen(shape);
        snprintf(shape + used, sizeof shape - used, "%s%" PRId64, i ? " x " : "", array->dims[i]);
    }
    for (int64_t i = 0; i < elements; i++) {
        double value = array->data[i];
        if (!isfinite(value)) {
            not_finite++;
            continue;
        }
        least = fmin(least, value);
        most = fmax(most, value);
        squares += value * value;
    }
    rdp_say("%-18s %-36s %-18s %12.5g %12.5g %12.5g", array->group, array->name, shape, least, most, sqrt(squares));
    if (not_finite > 0)
        rdp_say("  %" PRId64 " values are not finite", not_finite);
    rdp_say("\n");
}

/* A text of one line stands beside its name, one of several lines below it. */
static void print_text(const struct rdp_checkpoint_text *text)
{
    if (strchr(text->value, '\n') == NULL) {
        rdp_say("%-24s %s\n", text->name, text->value);
        return;
    }
    rdp_say("%s\n", text->name);
    for (const char *line = text->value; *line != '\0';) {
        size_t length = strcspn(line, "\n");
        rdp_say("    %.*s\n", (int)length, line);
        line += length + (line[length] == '\n');
    }
}

static void print_checkpoint(const struct rdp_checkpoint *checkpoint, const char *path)
{
    int64_t parameters = 0;
    char total[32];
    rdp_say("Checkpoint %s\n\n", path);
    for (size_t i = 0; i < checkpoint->number_count; i++) {
        const struct rdp_checkpoint_number *number = &checkpoint->numbers[i];
        if (number->is_integer)
            rdp_say("%-24s %" PRId64 "\n", number->name, number->integer);
        else
            rdp_say("%-24s %.10g\n", number->name, number->real);
    }
    for (size_t i = 0; i < checkpoint->text_count; i++)
        print_text(&checkpoint->texts[i]);
    rdp_say("\n%-18s %-36s %-18s %12s %12s %12s\n", "group", "array", "shape", "min", "max", "L2 norm");
    for (size_t i = 0; i < checkpoint->array_count; i++) {
        print_array(&checkpoint->arrays[i]);
        if (strcmp(checkpoint->arrays[i].group, "parameters") == 0)
            parameters += array_elements(&checkpoint->arrays[i]);
    }
    rdp_say("\nTotal parameters: %s\n", rdp_format_thousands(total, sizeof total, parameters));
}

static int inspect_checkpoint(const char *path)
{
    struct rdp_checkpoint *checkpoint;
    struct stat file;
    char size[32];
    RDP_TRY(rdp_checkpoint_read(&checkpoint, path));
    print_checkpoint(checkpoint, path);
    if (stat(path, &file) == 0)
        rdp_say("Verified: %zu arrays, %zu numbers, %zu texts; the length of %s bytes and the CRC-32C hold.\n",
                checkpoint->array_count, checkpoint->number_count, checkpoint->text_count,
                rdp_format_thousands(size, sizeof size, file.st_size));
    rdp_checkpoint_destroy(checkpoint);
    return RDP_OK;
}

int rdp_cmd_inspect(const struct rdp_options *options)
{
    int is_checkpoint;
    const char *path = options->arguments[0];
    RDP_TRY(rdp_checkpoint_recognise(path, &is_checkpoint));
    return is_checkpoint ? inspect_checkpoint(path) : inspect_dataset(path);
}
