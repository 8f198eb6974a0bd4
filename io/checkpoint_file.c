/*
 * The checkpoint's file; see checkpoint.h. Attributes `format` = "resnet-dp-checkpoint" and `format_version` = 1 on the
 * root; /arrays/GROUP/NAME  f32, one dimension or more     /numbers  an i64 or f64 attribute per number     /texts/NAME
 * u8 [length] all little-endian, in the order in which they were added, without times: one state gives one sequence of
 * bytes.
 *
 * After the HDF5 file come 24 bytes, the trailer: magic, length of the HDF5 file (u64), version of the trailer (u32),
 * CRC-32C of all before it (u32). HDF5 readers ignore them; we parse nothing whose CRC does not hold.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/checkpoint.h"
#include "io/durable.h"
#include "io/file.h"
#include "io/hdf5.h"

enum { TRAILER_SIZE = 24, TRAILER_VERSION = 1, FORMAT_VERSION = 1, IMAGE_GROWTH = 4 << 20, CHUNK_BYTES = 1 << 20 };
enum { ITEMS_MAX = 1 << 20 }; /* links or attributes of one group; far more than any network has */

static const char trailer_magic[8] = {'R', 'D', 'P', 'C', 'K', 'P', 'T', '\n'};

static void store(uint8_t *bytes, uint64_t value, int width)
{
    for (int i = 0; i < width; i++)
        bytes[i] = (uint8_t)(value >> 8 * i);
}

static uint64_t load(const uint8_t *bytes, int width)
{
    uint64_t value = 0;
    for (int i = width - 1; i >= 0; i--)
        value = value << 8 | bytes[i];
    return value;
}

/*
 * Writing.
 */

static int write_array(const struct rdp_checkpoint_array *array, hid_t group, const char *path)
{
    hsize_t dims[RDP_CHECKPOINT_DIMS_MAX], chunk[RDP_CHECKPOINT_DIMS_MAX], row = sizeof(float);
    for (int i = 0; i < array->dims_count; i++) {
        dims[i] = chunk[i] = (hsize_t)array->dims[i];
        if (i > 0)
            row *= dims[i];
    }
    /* About a MiB per chunk, in whole rows. */
    if (row * dims[0] > CHUNK_BYTES)
        chunk[0] = row < CHUNK_BYTES ? CHUNK_BYTES / row : 1;
    return rdp_h5_write_array(group, array->name, H5T_IEEE_F32LE, array->dims_count, dims, chunk, array->data, path);
}

static int write_arrays(const struct rdp_checkpoint *checkpoint, hid_t file, const char *path)
{
    hid_t arrays, group;
    int status;
    RDP_TRY(rdp_h5_create_group(file, "arrays", path, &arrays));
    status = RDP_OK;
    for (size_t i = 0; i < checkpoint->array_count && status == RDP_OK; i++) {
        const struct rdp_checkpoint_array *array = &checkpoint->arrays[i];
        if (H5Lexists(arrays, array->group, H5P_DEFAULT) > 0)
            status = rdp_h5_open_group(arrays, array->group, path, &group);
        else
            status = rdp_h5_create_group(arrays, array->group, path, &group);
        if (status == RDP_OK) {
            status = write_array(array, group, path);
            H5Gclose(group);
        }
    }
    H5Gclose(arrays);
    return status;
}

static int write_numbers(const struct rdp_checkpoint *checkpoint, hid_t file, const char *path)
{
    hid_t group;
    int status = RDP_OK;
    RDP_TRY(rdp_h5_create_group(file, "numbers", path, &group));
    for (size_t i = 0; i < checkpoint->number_count && status == RDP_OK; i++) {
        const struct rdp_checkpoint_number *number = &checkpoint->numbers[i];
        if (number->is_integer)
            status = rdp_h5_write_numbers(group, number->name, H5T_STD_I64LE, 0, &number->integer, path);
        else
            status = rdp_h5_write_numbers(group, number->name, H5T_IEEE_F64LE, 0, &number->real, path);
    }
    H5Gclose(group);
    return status;
}

/* A text keeps its final zero byte, so that an empty one is an array too. */
static int write_texts(const struct rdp_checkpoint *checkpoint, hid_t file, const char *path)
{
    hid_t group;
    int status = RDP_OK;
    RDP_TRY(rdp_h5_create_group(file, "texts", path, &group));
    for (size_t i = 0; i < checkpoint->text_count && status == RDP_OK; i++) {
        hsize_t length = strlen(checkpoint->texts[i].value) + 1;
        status = rdp_h5_write_array(group, checkpoint->texts[i].name, H5T_STD_U8LE, 1, &length, &length,
                                    checkpoint->texts[i].value, path);
    }
    H5Gclose(group);
    return status;
}

static int write_contents(const struct rdp_checkpoint *checkpoint, hid_t file, const char *path)
{
    int32_t version = FORMAT_VERSION;
    RDP_TRY(rdp_h5_write_text(file, "format", "resnet-dp-checkpoint", path));
    RDP_TRY(rdp_h5_write_numbers(file, "format_version", H5T_STD_I32LE, 0, &version, path));
    RDP_TRY(write_arrays(checkpoint, file, path));
    RDP_TRY(write_numbers(checkpoint, file, path));
    return write_texts(checkpoint, file, path);
}

static int write_image(const struct rdp_h5_image *image, const char *path)
{
    uint8_t trailer[TRAILER_SIZE];
    memcpy(trailer, trailer_magic, 8);
    store(trailer + 8, image->size, 8);
    store(trailer + 16, TRAILER_VERSION, 4);
    uint32_t crc = rdp_crc32c(rdp_crc32c(0, image->bytes, image->size), trailer, 20);
    store(trailer + 20, crc, 4);
    struct rdp_bytes pieces[2] = {{image->bytes, image->size}, {trailer, TRAILER_SIZE}};
    return rdp_durable_write(path, pieces, 2);
}

int rdp_checkpoint_write(const struct rdp_checkpoint *checkpoint, const char *path)
{
    struct rdp_h5_image image;
    hid_t file;
    RDP_TRY(rdp_h5_create(&image, IMAGE_GROWTH, path, &file));
    int status = write_contents(checkpoint, file, path);
    int finished = rdp_h5_finish(&image, path, file);
    if (status == RDP_OK)
        status = finished;
    if (status == RDP_OK)
        status = write_image(&image, path);
    free(image.bytes);
    return status;
}

/*
 * Reading.
 */

struct names {
    char (*items)[RDP_CHECKPOINT_NAME_MAX];
    size_t count;
    int status;
    const char *path;
};

static int keep_name(struct names *names, const char *name)
{
    if (names->count == ITEMS_MAX || strlen(name) >= RDP_CHECKPOINT_NAME_MAX) {
        names->status = rdp_fail(
            RDP_EUSAGE, "%s holds more names, or longer ones, than a checkpoint may; it is not of this program",
            names->path);
        return -1;
    }
    if ((names->count & (names->count - 1)) == 0) { /* room for the next power of two */
        void *moved = realloc(names->items, (names->count ? 2 * names->count : 1) * sizeof *names->items);
        if (moved == NULL) {
            names->status = rdp_fail(RDP_ENOMEM, "the names in %s: out of memory", names->path);
            return -1;
        }
        names->items = moved;
    }
    strcpy(names->items[names->count++], name);
    return 0;
}

static herr_t keep_link(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    struct names *names = data;
    (void)group;
    if (info->type != H5L_TYPE_HARD) {
        names->status =
            rdp_fail(RDP_EUSAGE, "%s: \"%s\" is a soft or external link; those are not followed", names->path, name);
        return -1;
    }
    return keep_name(names, name);
}

static herr_t keep_attribute(hid_t group, const char *name, const H5A_info_t *info, void *data)
{
    (void)group, (void)info;
    return keep_name(data, name);
}

/* The names in a group in the order of their creation: of links, or of attributes. names->items is the caller's (free).
 */
static int list_names(struct names *names, hid_t group, int attributes, const char *path)
{
    *names = (struct names){NULL, 0, RDP_OK, path};
    herr_t done = attributes ? H5Aiterate2(group, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, keep_attribute, names)
                             : H5Literate(group, H5_INDEX_CRT_ORDER, H5_ITER_INC, NULL, keep_link, names);
    if (done < 0 && names->status == RDP_OK)
        names->status = rdp_h5_fail(RDP_EUSAGE, "H5Literate", path);
    return names->status;
}

/* What the visit of every group shares. */
struct reading {
    struct rdp_checkpoint *checkpoint;
    const char *path;
    uint64_t limit; /* no array is larger than the file */
};

static int read_array(const struct reading *reading, hid_t group, const char *group_name, const char *name)
{
    hid_t array;
    int rank = 0, status;
    hsize_t dims[RDP_CHECKPOINT_DIMS_MAX];
    int64_t extents[RDP_CHECKPOINT_DIMS_MAX];
    float *data;
    RDP_TRY(rdp_h5_open_array(group, name, H5T_IEEE_F32LE, RDP_CHECKPOINT_DIMS_MAX, reading->limit, reading->path,
                              &array, &rank, dims));
    for (int i = 0; i < rank; i++)
        extents[i] = (int64_t)dims[i];
    status = rdp_checkpoint_add_array(reading->checkpoint, group_name, name, rank, extents, &data);
    if (status == RDP_OK && H5Dread(array, H5T_NATIVE_FLOAT, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) < 0)
        status = rdp_h5_fail(RDP_EUSAGE, "H5Dread", reading->path);
    H5Dclose(array);
    return status;
}

static int read_text(const struct reading *reading, hid_t group, const char *group_name, const char *name)
{
    hid_t array;
    int rank = 0, status;
    hsize_t length;
    void *text;
    (void)group_name;
    RDP_TRY(rdp_h5_open_array(group, name, H5T_STD_U8LE, 1, reading->limit, reading->path, &array, &rank, &length));
    status = rdp_calloc(&text, (size_t)length + 1, 1, "a checkpoint's text");
    if (status == RDP_OK && H5Dread(array, H5T_NATIVE_UINT8, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) < 0)
        status = rdp_h5_fail(RDP_EUSAGE, "H5Dread", reading->path);
    if (status == RDP_OK)
        status = rdp_checkpoint_add_text(reading->checkpoint, name, text);
    free(text);
    H5Dclose(array);
    return status;
}

static int read_group(const struct reading *reading, hid_t parent, const char *name,
                      int (*read_item)(const struct reading *, hid_t, const char *, const char *))
{
    struct names names;
    hid_t group;
    RDP_TRY(rdp_h5_open_group(parent, name, reading->path, &group));
    int status = list_names(&names, group, 0, reading->path);
    for (size_t i = 0; i < names.count && status == RDP_OK; i++)
        status = read_item(reading, group, name, names.items[i]);
    free(names.items);
    H5Gclose(group);
    return status;
}

static int read_array_group(const struct reading *reading, hid_t parent, const char *parent_name, const char *name)
{
    (void)parent_name;
    return read_group(reading, parent, name, read_array);
}

static int read_number(const struct reading *reading, hid_t group, const char *name)
{
    int64_t integer;
    double real;
    hid_t attribute = H5Aopen(group, name, H5P_DEFAULT), type = attribute < 0 ? -1 : H5Aget_type(attribute);
    H5T_class_t kind = type < 0 ? H5T_NO_CLASS : H5Tget_class(type);
    if (type >= 0)
        H5Tclose(type);
    if (attribute >= 0)
        H5Aclose(attribute);
    if (kind == H5T_INTEGER) {
        RDP_TRY(rdp_h5_read_numbers(group, name, H5T_STD_I64LE, 0, &integer, reading->path));
        return rdp_checkpoint_add_integer(reading->checkpoint, name, integer);
    }
    RDP_TRY(rdp_h5_read_numbers(group, name, H5T_IEEE_F64LE, 0, &real, reading->path));
    return rdp_checkpoint_add_real(reading->checkpoint, name, real);
}

static int read_numbers(const struct reading *reading, hid_t file)
{
    struct names names;
    hid_t group;
    RDP_TRY(rdp_h5_open_group(file, "numbers", reading->path, &group));
    int status = list_names(&names, group, 1, reading->path);
    for (size_t i = 0; i < names.count && status == RDP_OK; i++)
        status = read_number(reading, group, names.items[i]);
    free(names.items);
    H5Gclose(group);
    return status;
}

static int read_contents(const struct reading *reading, hid_t file)
{
    char format[64];
    int32_t version;
    RDP_TRY(rdp_h5_read_text(file, "format", format, sizeof format, reading->path));
    if (strcmp(format, "resnet-dp-checkpoint") != 0)
        return rdp_fail(
            RDP_EUSAGE,
            "%s has the format \"%s\", expected \"resnet-dp-checkpoint\"; name a checkpoint of this program",
            reading->path, format);
    RDP_TRY(rdp_h5_read_numbers(file, "format_version", H5T_STD_I32LE, 0, &version, reading->path));
    if (version != FORMAT_VERSION)
        return rdp_fail(RDP_EUSAGE,
                        "%s has format version %" PRId32 "; this program reads version %d: use a newer resnet-dp",
                        reading->path, version, FORMAT_VERSION);
    RDP_TRY(rdp_h5_check_links(file, 3, reading->path));
    RDP_TRY(read_group(reading, file, "arrays", read_array_group));
    RDP_TRY(read_numbers(reading, file));
    return read_group(reading, file, "texts", read_text);
}

/* Length and CRC of the whole, before HDF5 sees a byte. */
static int check_trailer(const uint8_t *bytes, size_t size, const char *path, size_t *image_size)
{
    uint64_t length = 0;
    RDP_TRY(rdp_h5_superblock(bytes, size, "checkpoint", path, &length));
    if (size < length || size - length < TRAILER_SIZE)
        return rdp_fail(
            RDP_EUSAGE,
            "%s is truncated, or no checkpoint: it has %zu bytes, its header says %ju and a trailer; use an "
            "earlier checkpoint",
            path, size, (uintmax_t)length);
    const uint8_t *trailer = bytes + size - TRAILER_SIZE;
    if (memcmp(trailer, trailer_magic, 8) != 0)
        return rdp_fail(RDP_EUSAGE,
                        "%s does not end as a checkpoint does: it is damaged or something else; use an earlier "
                        "checkpoint",
                        path);
    if (load(trailer + 8, 8) != size - TRAILER_SIZE)
        return rdp_fail(RDP_EUSAGE, "%s is damaged: it has %zu bytes, its trailer says %ju; use an earlier checkpoint",
                        path, size, (uintmax_t)load(trailer + 8, 8));
    uint32_t crc = rdp_crc32c(0, bytes, size - 4), recorded = (uint32_t)load(trailer + 20, 4);
    if (crc != recorded)
        return rdp_fail(RDP_EUSAGE,
                        "%s is damaged: its CRC-32C is %08" PRIx32 ", its trailer says %08" PRIx32
                        "; use an earlier checkpoint",
                        path, crc, recorded);
    if (load(trailer + 16, 4) != TRAILER_VERSION)
        return rdp_fail(RDP_EUSAGE, "%s was written by a newer resnet-dp (trailer version %ju); use that one", path,
                        (uintmax_t)load(trailer + 16, 4));
    *image_size = size - TRAILER_SIZE;
    return RDP_OK;
}

static int parse(struct rdp_checkpoint **checkpoint, const struct rdp_h5_image *image, const char *path)
{
    struct reading reading = {NULL, path, image->size};
    hid_t file;
    RDP_TRY(rdp_h5_open_image(image, path, &file));
    int status = rdp_checkpoint_create(&reading.checkpoint);
    if (status == RDP_OK)
        status = read_contents(&reading, file);
    H5Fclose(file);
    if (status != RDP_OK) {
        rdp_checkpoint_destroy(reading.checkpoint);
        return status;
    }
    *checkpoint = reading.checkpoint;
    return RDP_OK;
}

int rdp_checkpoint_read(struct rdp_checkpoint **checkpoint, const char *path)
{
    struct rdp_h5_image image;
    size_t size;
    *checkpoint = NULL;
    RDP_TRY(rdp_file_read(path, (uint64_t)1 << 40, &image.bytes, &size));
    int status = check_trailer(image.bytes, size, path, &image.size);
    if (status == RDP_OK)
        status = parse(checkpoint, &image, path);
    free(image.bytes);
    return status;
}

int rdp_checkpoint_recognise(const char *path, int *is_checkpoint)
{
    uint8_t head[RDP_H5_SUPERBLOCK_SIZE];
    uint64_t size, length = 0;
    RDP_TRY(rdp_file_size(path, "data set or checkpoint", &size));
    FILE *file = fopen(path, "rb");
    if (file == NULL)
        return rdp_fail(RDP_EUSAGE, "cannot open %s: %s", path, strerror(errno));
    size_t got = fread(head, 1, sizeof head, file);
    fclose(file);
    RDP_TRY(rdp_h5_superblock(head, got, "data set or checkpoint", path, &length));
    *is_checkpoint = size > length;
    return RDP_OK;
}
