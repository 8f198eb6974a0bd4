/*
 * Checkpoints in memory: named arrays, numbers and texts, kept in the order in which they were added; see checkpoint.h.
 * checkpoint_file.c gives them a file, checkpoint_directory.c a place among others.
 */
#include "io/checkpoint.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"

int rdp_checkpoint_create(struct rdp_checkpoint **checkpoint)
{
    void *block;
    *checkpoint = NULL;
    RDP_TRY(rdp_calloc(&block, 1, sizeof **checkpoint, "a checkpoint"));
    *checkpoint = block;
    return RDP_OK;
}

void rdp_checkpoint_destroy(struct rdp_checkpoint *checkpoint)
{
    if (checkpoint == NULL)
        return;
    for (size_t i = 0; i < checkpoint->array_count; i++)
        free(checkpoint->arrays[i].data);
    for (size_t i = 0; i < checkpoint->text_count; i++)
        free(checkpoint->texts[i].value);
    free(checkpoint->arrays);
    free(checkpoint->numbers);
    free(checkpoint->texts);
    free(checkpoint);
}

/* Makes room for one more element; *items may move. */
static int grow(void **items, size_t count, size_t *capacity, size_t size)
{
    if (count < *capacity)
        return RDP_OK;
    size_t larger = *capacity ? 2 * *capacity : 64;
    void *moved = realloc(*items, larger * size);
    if (moved == NULL)
        return rdp_fail(RDP_ENOMEM, "%zu bytes for a checkpoint's index: out of memory", larger * size);
    *items = moved;
    *capacity = larger;
    return RDP_OK;
}

/* Names become names in the file, where a slash separates groups and a dot alone is the group itself. */
static int check_name(const char *name, size_t size, const char *kind)
{
    if (name[0] == '\0' || strlen(name) >= size || strchr(name, '/') != NULL || strcmp(name, ".") == 0)
        return rdp_fail(RDP_EINTERNAL,
                        "\"%s\" cannot name a checkpoint's %s: 1 to %zu bytes without a slash are possible", name, kind,
                        size - 1);
    return RDP_OK;
}

static int fail_twice(const char *name)
{
    return rdp_fail(RDP_EINTERNAL, "a checkpoint already holds \"%s\"", name);
}

static const struct rdp_checkpoint_number *find_number(const struct rdp_checkpoint *checkpoint, const char *name)
{
    for (size_t i = 0; i < checkpoint->number_count; i++)
        if (strcmp(checkpoint->numbers[i].name, name) == 0)
            return &checkpoint->numbers[i];
    return NULL;
}

int rdp_checkpoint_add_array(struct rdp_checkpoint *checkpoint, const char *group, const char *name, int dims_count,
                             const int64_t *dims, float **data)
{
    struct rdp_checkpoint_array array = {.dims_count = dims_count};
    size_t elements = 1;
    void *items = checkpoint->arrays, *block;
    *data = NULL;
    RDP_TRY(check_name(group, sizeof array.group, "group"));
    RDP_TRY(check_name(name, sizeof array.name, "array"));
    if (dims_count < 1 || dims_count > RDP_CHECKPOINT_DIMS_MAX)
        return rdp_fail(RDP_EINTERNAL, "the array %s/%s has %d dimensions; a checkpoint holds 1 to %d", group, name,
                        dims_count, RDP_CHECKPOINT_DIMS_MAX);
    for (int i = 0; i < dims_count; i++) {
        if (dims[i] < 1 || (uint64_t)dims[i] > SIZE_MAX / sizeof(float) / elements)
            return rdp_fail(RDP_EINTERNAL, "the array %s/%s has the extent %" PRId64 ", which is not possible", group,
                            name, dims[i]);
        array.dims[i] = dims[i];
        elements *= (size_t)dims[i];
    }
    if (rdp_checkpoint_array(checkpoint, group, name) != NULL)
        return fail_twice(name);
    RDP_TRY(grow(&items, checkpoint->array_count, &checkpoint->array_capacity, sizeof array));
    checkpoint->arrays = items;
    RDP_TRY(rdp_alloc_aligned(&block, elements * sizeof(float), "a checkpoint's array"));
    strcpy(array.group, group);
    strcpy(array.name, name);
    array.data = *data = block;
    checkpoint->arrays[checkpoint->array_count++] = array;
    return RDP_OK;
}

static int add_number(struct rdp_checkpoint *checkpoint, const char *name, bool is_integer, int64_t integer,
                      double real)
{
    struct rdp_checkpoint_number number = {.is_integer = is_integer, .integer = integer, .real = real};
    void *items = checkpoint->numbers;
    RDP_TRY(check_name(name, sizeof number.name, "number"));
    if (find_number(checkpoint, name) != NULL)
        return fail_twice(name);
    RDP_TRY(grow(&items, checkpoint->number_count, &checkpoint->number_capacity, sizeof number));
    checkpoint->numbers = items;
    strcpy(number.name, name);
    checkpoint->numbers[checkpoint->number_count++] = number;
    return RDP_OK;
}

int rdp_checkpoint_add_integer(struct rdp_checkpoint *checkpoint, const char *name, int64_t value)
{
    return add_number(checkpoint, name, true, value, 0);
}

int rdp_checkpoint_add_real(struct rdp_checkpoint *checkpoint, const char *name, double value)
{
    return add_number(checkpoint, name, false, 0, value);
}

int rdp_checkpoint_add_text(struct rdp_checkpoint *checkpoint, const char *name, const char *value)
{
    struct rdp_checkpoint_text text;
    void *items = checkpoint->texts, *copy;
    RDP_TRY(check_name(name, sizeof text.name, "text"));
    if (rdp_checkpoint_text(checkpoint, name) != NULL)
        return fail_twice(name);
    RDP_TRY(grow(&items, checkpoint->text_count, &checkpoint->text_capacity, sizeof text));
    checkpoint->texts = items;
    RDP_TRY(rdp_calloc(&copy, strlen(value) + 1, 1, "a checkpoint's text"));
    strcpy(copy, value);
    strcpy(text.name, name);
    text.value = copy;
    checkpoint->texts[checkpoint->text_count++] = text;
    return RDP_OK;
}

const struct rdp_checkpoint_array *rdp_checkpoint_array(const struct rdp_checkpoint *checkpoint, const char *group,
                                                        const char *name)
{
    for (size_t i = 0; i < checkpoint->array_count; i++)
        if (strcmp(checkpoint->arrays[i].name, name) == 0 && strcmp(checkpoint->arrays[i].group, group) == 0)
            return &checkpoint->arrays[i];
    return NULL;
}

static int get_number(const struct rdp_checkpoint *checkpoint, const char *name, bool is_integer,
                      const struct rdp_checkpoint_number **number)
{
    *number = find_number(checkpoint, name);
    if (*number == NULL)
        return rdp_fail(RDP_EUSAGE,
                        "the checkpoint has no number \"%s\"; it was made by another version of this program", name);
    if (!(*number)->is_integer != !is_integer)
        return rdp_fail(RDP_EUSAGE,
                        "the checkpoint's number \"%s\" is %s; it was made by another version of this program", name,
                        is_integer ? "real, an integer is expected" : "an integer, a real number is expected");
    return RDP_OK;
}

int rdp_checkpoint_integer(const struct rdp_checkpoint *checkpoint, const char *name, int64_t *value)
{
    const struct rdp_checkpoint_number *number;
    RDP_TRY(get_number(checkpoint, name, true, &number));
    *value = number->integer;
    return RDP_OK;
}

int rdp_checkpoint_real(const struct rdp_checkpoint *checkpoint, const char *name, double *value)
{
    const struct rdp_checkpoint_number *number;
    RDP_TRY(get_number(checkpoint, name, false, &number));
    *value = number->real;
    return RDP_OK;
}

const char *rdp_checkpoint_text(const struct rdp_checkpoint *checkpoint, const char *name)
{
    for (size_t i = 0; i < checkpoint->text_count; i++)
        if (strcmp(checkpoint->texts[i].name, name) == 0)
            return checkpoint->texts[i].value;
    return NULL;
}
