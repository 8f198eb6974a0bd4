/*
 * The reader of tests/reference/ *.ref. The form: the line "rdp-reference 1", then one line "name ndims d0 d1 ..." per
 * array, an empty line, then all values in that order as little-endian float32. Nothing may follow. See
 * support_reference.h.
 */
#include "support_reference.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"

const float rdp_reference_mean[3] = {0.4914f, 0.4822f, 0.4465f};
const float rdp_reference_std[3] = {0.2470f, 0.2435f, 0.2616f};

static const char first_line[] = "rdp-reference 1\n";
enum { LINE_SIZE = 256, ENTRIES_MAX = 4096, VALUES_MAX = 1 << 24 };

/* "name ndims d0 d1 ...\n" into one entry, without its values. */
static int parse_entry(const char *path, const char *line, struct rdp_reference_entry *entry)
{
    int used = 0;
    if (sscanf(line, "%95s %d%n", entry->name, &entry->ndims, &used) != 2 || entry->ndims < 0 ||
        entry->ndims > RDP_REFERENCE_DIMS_MAX)
        return rdp_fail(RDP_EUSAGE, "%s: not an array's header line: %s", path, line);
    entry->count = 1;
    for (int d = 0; d < entry->ndims; d++) {
        char *end;
        long long size = strtoll(line + used, &end, 10);
        if (size < 1 || size > VALUES_MAX || entry->count * (size_t)size > VALUES_MAX)
            return rdp_fail(RDP_EUSAGE, "%s: dimension %d is missing or out of range in: %s", path, d, line);
        used = (int)(end - line);
        entry->dims[d] = size;
        entry->count *= (size_t)size;
    }
    if (strcmp(line + used, "\n") != 0)
        return rdp_fail(RDP_EUSAGE, "%s: more than %d dimensions in: %s", path, entry->ndims, line);
    return RDP_OK;
}

/* All header lines up to the empty one; *total becomes the number of values that must follow. */
static int read_header(FILE *file, const char *path, struct rdp_reference *reference, size_t *total)
{
    char line[LINE_SIZE];
    *total = 0;
    if (!fgets(line, sizeof line, file) || strcmp(line, first_line) != 0)
        return rdp_fail(RDP_EUSAGE, "%s: does not begin with \"rdp-reference 1\": no reference file", path);
    while (fgets(line, sizeof line, file)) {
        if (strcmp(line, "\n") == 0)
            return RDP_OK;
        if (reference->count == ENTRIES_MAX)
            return rdp_fail(RDP_EUSAGE, "%s: more than %d arrays", path, ENTRIES_MAX);
        struct rdp_reference_entry *grown =
            realloc(reference->entries, ((size_t)reference->count + 1) * sizeof *reference->entries);
        if (!grown)
            return rdp_fail(RDP_ENOMEM, "%s: no memory for its header", path);
        reference->entries = grown;
        memset(&grown[reference->count], 0, sizeof *grown);
        RDP_TRY(parse_entry(path, line, &grown[reference->count]));
        *total += grown[reference->count++].count;
        if (*total > VALUES_MAX)
            return rdp_fail(RDP_EUSAGE, "%s: more than %d values", path, VALUES_MAX);
    }
    return rdp_fail(RDP_EUSAGE, "%s: ends inside its header", path);
}

static float little_endian_float(const unsigned char *bytes)
{
    uint32_t bits = (uint32_t)bytes[0] | (uint32_t)bytes[1] << 8 | (uint32_t)bytes[2] << 16 | (uint32_t)bytes[3] << 24;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* The values behind the header, and each entry's view of them. */
static int read_values(FILE *file, const char *path, struct rdp_reference *reference, size_t total)
{
    RDP_TRY(rdp_calloc((void **)&reference->data, total, sizeof *reference->data, "a reference file's values"));
    unsigned char bytes[4];
    for (size_t i = 0; i < total; i++) {
        if (fread(bytes, sizeof bytes, 1, file) != 1)
            return rdp_fail(RDP_EUSAGE, "%s: %zu of %zu values only: the file is cut short", path, i, total);
        reference->data[i] = little_endian_float(bytes);
    }
    if (fgetc(file) != EOF)
        return rdp_fail(RDP_EUSAGE, "%s: bytes follow its %zu values", path, total);
    size_t offset = 0;
    for (int e = 0; e < reference->count; e++) {
        reference->entries[e].values = reference->data + offset;
        offset += reference->entries[e].count;
    }
    return RDP_OK;
}

int rdp_reference_read(const char *path, struct rdp_reference *reference)
{
    memset(reference, 0, sizeof *reference);
    FILE *file = fopen(path, "rb");
    if (!file)
        return rdp_fail(RDP_EUSAGE, "%s: %s", path, strerror(errno));
    size_t total;
    int status = read_header(file, path, reference, &total);
    if (status == RDP_OK)
        status = read_values(file, path, reference, total);
    fclose(file);
    if (status != RDP_OK)
        rdp_reference_free(reference);
    return status;
}

void rdp_reference_free(struct rdp_reference *reference)
{
    free(reference->entries);
    free(reference->data);
    memset(reference, 0, sizeof *reference);
}

const struct rdp_reference_entry *rdp_reference_find(const struct rdp_reference *reference, const char *name)
{
    for (int e = 0; e < reference->count; e++)
        if (strcmp(reference->entries[e].name, name) == 0)
            return &reference->entries[e];
    return NULL;
}

const float *rdp_reference_array(const struct rdp_reference *reference, const char *name, size_t *count)
{
    const struct rdp_reference_entry *entry = rdp_reference_find(reference, name);
    if (count)
        *count = entry ? entry->count : 0;
    return entry ? entry->values : NULL;
}

double rdp_reference_config(const struct rdp_reference *reference, const char *name)
{
    const struct rdp_reference_entry *entry = rdp_reference_find(reference, name);
    return entry && entry->count == 1 ? (double)entry->values[0] : NAN;
}

static int config_list(const struct rdp_reference *reference, const char *name, struct rdp_int_list *list)
{
    const struct rdp_reference_entry *entry = rdp_reference_find(reference, name);
    if (!entry || entry->count > RDP_STAGES_MAX)
        return rdp_fail(RDP_EUSAGE, "the reference file holds no list %s", name);
    list->count = (int)entry->count;
    for (int i = 0; i < list->count; i++)
        list->values[i] = (int)entry->values[i];
    return RDP_OK;
}

/* A decimal number that went through float32, such as 0.05, as the double its six digits name. */
static double decimal(double value)
{
    char digits[32];
    snprintf(digits, sizeof digits, "%.6g", value);
    return strtod(digits, NULL);
}

int rdp_reference_options(const struct rdp_reference *reference, struct rdp_options *options)
{
    RDP_TRY(config_list(reference, "config/blocks", &options->blocks));
    RDP_TRY(config_list(reference, "config/widths", &options->widths));
    RDP_TRY(config_list(reference, "config/strides", &options->strides));
    static const char *const needed[] = {"bottleneck",      "stem_width", "activation", "leaky_slope", "batch",
                                         "label_smoothing", "lr",         "momentum",   "nesterov",    "weight_decay",
                                         "decay_bn",        "max_pool",   "shortcut"};
    enum {
        BOTTLENECK,
        STEM,
        ACTIVATION,
        SLOPE,
        BATCH,
        SMOOTHING,
        LR,
        MOMENTUM,
        NESTEROV,
        DECAY,
        DECAY_BN,
        POOL,
        SHORTCUT,
        VALUES
    };
    double values[VALUES];
    for (int i = 0; i < VALUES; i++) {
        char name[RDP_REFERENCE_NAME_MAX];
        snprintf(name, sizeof name, "config/%s", needed[i]);
        values[i] = decimal(rdp_reference_config(reference, name));
        if (isnan(values[i]))
            return rdp_fail(RDP_EUSAGE, "the reference file holds no %s", name);
    }
    options->block = values[BOTTLENECK] != 0 ? RDP_BLOCK_BOTTLENECK : RDP_BLOCK_BASIC;
    options->stem_width = (int)values[STEM];
    options->downsample = values[POOL] != 0 ? RDP_DOWNSAMPLE_MAX_POOL : RDP_DOWNSAMPLE_STRIDE;
    options->activation = (enum rdp_activation)values[ACTIVATION]; /* the names' order is that of the choices */
    options->leaky_slope = values[SLOPE];
    options->shortcut = (enum rdp_shortcut)values[SHORTCUT];
    options->precision = RDP_FP32;
    options->batch = (int)values[BATCH];
    options->accumulate = 1;
    options->label_smoothing = values[SMOOTHING];
    options->lr = values[LR];
    options->momentum = values[MOMENTUM];
    options->nesterov = values[NESTEROV] != 0;
    options->weight_decay = values[DECAY];
    options->decay_bn = values[DECAY_BN] != 0;
    options->schedule = RDP_SCHEDULE_CONSTANT;
    options->warmup_epochs = 0;
    options->lr_scaling = RDP_LR_SCALING_NONE;
    options->crop = RDP_CROP_NONE;
    options->flip = RDP_FLIP_MODE_NONE;
    return RDP_OK;
}

void rdp_reference_labels(int64_t first, int64_t count, uint8_t *labels)
{
    for (int64_t n = 0; n < count; n++)
        labels[n] = (uint8_t)((7 * (first + n) + (first + n) / 10) % 10);
}

void rdp_reference_images(int64_t first, int64_t count, uint8_t *images)
{
    enum { IMAGE_BYTES = 32 * 32 * 3 };
    for (int64_t n = 0; n < count; n++) {
        uint8_t label;
        rdp_reference_labels(first + n, 1, &label);
        for (int64_t b = 0; b < IMAGE_BYTES; b++) {
            uint32_t h = (uint32_t)((first + n) * IMAGE_BYTES + b) * 2654435761u;
            h ^= h >> 15;
            h *= 2246822519u;
            images[n * IMAGE_BYTES + b] = (uint8_t)((h >> 25) + 12u * label);
        }
    }
}
