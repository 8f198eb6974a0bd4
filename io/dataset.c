/*
 * Reading the data set file; see dataset.h for the layout and dataset_write.c for the other direction.
 *
 * Open checks the form of everything and reads the attributes; pixels are read when they are asked for, each chunk
 * passing its Fletcher32 checksum. verify() reads all of them and compares the content's CRC-32C with the one that the
 * writer recorded.
 */
#include "io/dataset.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/durable.h"
#include "io/file.h"
#include "io/hdf5.h"

enum { BLOCK_ROWS = 1024 }; /* 3 MiB of pixels: four chunks */

static const char *const split_names[2] = {"train", "test"};

struct rdp_dataset {
    char path[4096];
    hid_t file;
    hid_t images[2], labels[2];
    struct rdp_dataset_info info;
};

/* The file must be exactly as long as its superblock says: less was lost, more was never checked by anybody. */
static int check_size(const char *path)
{
    uint64_t size, wanted = 0;
    uint8_t head[RDP_H5_SUPERBLOCK_SIZE];
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return rdp_fail(RDP_EUSAGE,
                        "cannot open the data set %s: No such file or directory; make one with `resnet-dp prepare` (see its "
                        "--help), or say with --data where it is",
                        path);
    RDP_TRY(rdp_file_size(path, "data set", &size));
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return rdp_fail(RDP_EUSAGE, "cannot open the data set %s: %m", path);
    ssize_t got = read(file, head, sizeof head);
    close(file);
    if (got < 0)
        return rdp_fail(RDP_EUSAGE, "cannot read the data set %s: %m", path);
    RDP_TRY(rdp_h5_superblock(head, (size_t)got, "data set", path, &wanted));
    if (size != wanted)
        return rdp_fail(RDP_EUSAGE,
                        "%s is %s: it has %" PRIu64 " bytes, its header says %" PRIu64 "; make it again with "
                        "`resnet-dp prepare` or copy it again",
                        path, size < wanted ? "truncated" : "damaged or no data set (a checkpoint?)", size, wanted);
    return RDP_OK;
}

static int read_class_names(struct rdp_dataset_info *info, hid_t file, const char *path)
{
    int32_t classes;
    RDP_TRY(rdp_h5_read_numbers(file, "classes", H5T_STD_I32LE, 0, &classes, path));
    if (classes < 1 || classes > RDP_CLASSES_MAX)
        return rdp_fail(RDP_EUSAGE, "%s: %" PRId32 " classes; a data set has 1 to %d", path, classes, RDP_CLASSES_MAX);
    info->classes = (int)classes;
    return rdp_h5_read_texts(file, "class_names", info->class_names[0], RDP_CLASS_NAME_MAX, (size_t)classes, path);
}

static int read_attributes(struct rdp_dataset_info *info, hid_t file, const char *path)
{
    char format[64];
    int32_t version;
    RDP_TRY(rdp_h5_read_text(file, "format", format, sizeof format, path));
    if (strcmp(format, "resnet-dp-checkpoint") == 0)
        return rdp_fail(RDP_EUSAGE, "%s is a checkpoint without its trailer, so it is truncated; use an earlier one",
                        path);
    if (strcmp(format, "resnet-dp-dataset") != 0)
        return rdp_fail(RDP_EUSAGE,
                        "%s has the format \"%s\", expected \"resnet-dp-dataset\"; name a file that `resnet-dp "
                        "prepare` made",
                        path, format);
    RDP_TRY(rdp_h5_read_numbers(file, "format_version", H5T_STD_I32LE, 0, &version, path));
    if (version != 1)
        return rdp_fail(RDP_EUSAGE,
                        "%s has format version %" PRId32 "; this program reads version 1: use a newer resnet-dp", path,
                        version);
    RDP_TRY(read_class_names(info, file, path));
    RDP_TRY(rdp_h5_read_numbers(file, "mean", H5T_IEEE_F32LE, RDP_IMAGE_CHANNELS, info->mean, path));
    RDP_TRY(rdp_h5_read_numbers(file, "std", H5T_IEEE_F32LE, RDP_IMAGE_CHANNELS, info->std, path));
    for (int c = 0; c < RDP_IMAGE_CHANNELS; c++)
        if (!(info->mean[c] >= 0 && info->mean[c] <= 1 && info->std[c] > 0 && info->std[c] <= 1))
            return rdp_fail(RDP_EUSAGE, "%s: mean %g and std %g of channel %d are impossible; make the file again",
                            path, (double)info->mean[c], (double)info->std[c], c);
    RDP_TRY(rdp_h5_read_text(file, "source", info->source, sizeof info->source, path));
    return rdp_h5_read_numbers(file, "content_crc32c", H5T_STD_U32LE, 0, &info->content_crc32c, path);
}

static int open_split(struct rdp_dataset *dataset, int split, uint64_t limit)
{
    const char *path = dataset->path;
    hsize_t images[4], labels[1];
    int rank = 0, status;
    hid_t group;
    RDP_TRY(rdp_h5_open_group(dataset->file, split_names[split], path, &group));
    RDP_TRY_GOTO(status, rdp_h5_check_links(group, 2, path), out);
    RDP_TRY_GOTO(
        status,
        rdp_h5_open_array(group, "images", H5T_STD_U8LE, 4, limit, path, &dataset->images[split], &rank, images), out);
    if (rank != 4 || images[1] != RDP_IMAGE_SIZE || images[2] != RDP_IMAGE_SIZE || images[3] != RDP_IMAGE_CHANNELS) {
        status = rdp_fail(RDP_EUSAGE, "%s: the %s images are not [N,32,32,3]; make the file again", path,
                          split_names[split]);
        goto out;
    }
    RDP_TRY_GOTO(
        status,
        rdp_h5_open_array(group, "labels", H5T_STD_U8LE, 1, limit, path, &dataset->labels[split], &rank, labels), out);
    if (labels[0] != images[0])
        status = rdp_fail(RDP_EUSAGE, "%s: %ju %s images and %ju labels; make the file again", path,
                          (uintmax_t)images[0], split_names[split], (uintmax_t)labels[0]);
    dataset->info.count[split] = (int64_t)images[0];
out:
    H5Gclose(group);
    return status;
}

static int open_contents(struct rdp_dataset *dataset)
{
    uint64_t size;
    RDP_TRY(check_size(dataset->path));
    RDP_TRY(rdp_file_size(dataset->path, "data set", &size));
    RDP_TRY(rdp_h5_open_file(dataset->path, &dataset->file));
    RDP_TRY(read_attributes(&dataset->info, dataset->file, dataset->path));
    RDP_TRY(rdp_h5_check_links(dataset->file, 2, dataset->path));
    RDP_TRY(open_split(dataset, RDP_SPLIT_TRAIN, size));
    return open_split(dataset, RDP_SPLIT_TEST, size);
}

int rdp_dataset_open(struct rdp_dataset **dataset, const char *path)
{
    void *block;
    *dataset = NULL;
    RDP_TRY(rdp_calloc(&block, 1, sizeof **dataset, "the data set"));
    struct rdp_dataset *opened = block;
    opened->file = opened->images[0] = opened->images[1] = opened->labels[0] = opened->labels[1] = -1;
    int status;
    if (strlen(path) >= sizeof opened->path) {
        status = rdp_fail(RDP_EUSAGE, "the path of the data set has more than %zu bytes; use a shorter one",
                          sizeof opened->path);
    } else {
        strcpy(opened->path, path);
        status = open_contents(opened);
    }
    if (status != RDP_OK) {
        rdp_dataset_close(opened);
        return status;
    }
    *dataset = opened;
    return RDP_OK;
}

void rdp_dataset_close(struct rdp_dataset *dataset)
{
    if (dataset == NULL)
        return;
    for (int split = 0; split < 2; split++) {
        if (dataset->images[split] >= 0)
            H5Dclose(dataset->images[split]);
        if (dataset->labels[split] >= 0)
            H5Dclose(dataset->labels[split]);
    }
    if (dataset->file >= 0)
        H5Fclose(dataset->file);
    free(dataset);
}

const struct rdp_dataset_info *rdp_dataset_info(const struct rdp_dataset *dataset)
{
    return &dataset->info;
}

/* Reads rows [first, first + count) of an array of `rank` dimensions. */
static int read_slab(hid_t array, int rank, int64_t first, int64_t count, void *out, const char *path)
{
    hsize_t start[4] = {(hsize_t)first, 0, 0, 0};
    hsize_t extent[4] = {(hsize_t)count, RDP_IMAGE_SIZE, RDP_IMAGE_SIZE, RDP_IMAGE_CHANNELS};
    int status = RDP_OK;
    herr_t done;
    hid_t from = H5Dget_space(array), to = H5Screate_simple(rank, extent, NULL);
    RDP_H5(done, H5Sselect_hyperslab(from, H5S_SELECT_SET, start, NULL, extent, NULL), RDP_EUSAGE, path, status, out);
    RDP_H5(done, H5Dread(array, H5T_NATIVE_UINT8, to, from, H5P_DEFAULT, out), RDP_EUSAGE, path, status, out);
out:
    H5Sclose(to);
    H5Sclose(from);
    return status;
}

static int check_range(const struct rdp_dataset *dataset, enum rdp_split split, int64_t first, int64_t count)
{
    int64_t rows = dataset->info.count[split];
    if (first < 0 || count < 0 || first > rows || count > rows - first)
        return rdp_fail(RDP_EUSAGE,
                        "%s: %" PRId64 " rows from row %" PRId64 " do not exist, there are %" PRId64 " %s images",
                        dataset->path, count, first, rows, split_names[split]);
    return RDP_OK;
}

int rdp_dataset_read(struct rdp_dataset *dataset, enum rdp_split split, int64_t first, int64_t count, uint8_t *images,
                     uint8_t *labels)
{
    RDP_TRY(check_range(dataset, split, first, count));
    if (count == 0)
        return RDP_OK;
    if (images != NULL)
        RDP_TRY(read_slab(dataset->images[split], 4, first, count, images, dataset->path));
    if (labels == NULL)
        return RDP_OK;
    RDP_TRY(read_slab(dataset->labels[split], 1, first, count, labels, dataset->path));
    for (int64_t i = 0; i < count; i++)
        if (labels[i] >= dataset->info.classes)
            return rdp_fail(RDP_EUSAGE,
                            "%s: %s image %" PRId64 " has the label %d; there are %d classes: make the file again",
                            dataset->path, split_names[split], first + i, labels[i], dataset->info.classes);
    return RDP_OK;
}

int rdp_dataset_read_rows(struct rdp_dataset *dataset, enum rdp_split split, const int64_t *rows, int64_t count,
                          uint8_t *images, uint8_t *labels)
{
    void *block;
    int status = RDP_OK;
    for (int64_t i = 0; i < count; i++) {
        RDP_TRY(check_range(dataset, split, rows[i], 1));
        if (i > 0 && rows[i] < rows[i - 1])
            return rdp_fail(RDP_EINTERNAL, "rdp_dataset_read_rows: row %" PRId64 " comes after row %" PRId64, rows[i],
                            rows[i - 1]);
    }
    RDP_TRY(rdp_calloc(&block, BLOCK_ROWS, RDP_IMAGE_BYTES + 1, "a block of the data set"));
    uint8_t *pixels = block, *classes = pixels + (size_t)BLOCK_ROWS * RDP_IMAGE_BYTES;
    for (int64_t done = 0; done < count && status == RDP_OK;) {
        /* Blocks begin at multiples of their size, so that no chunk is read and checked twice. */
        int64_t first = rows[done] / BLOCK_ROWS * BLOCK_ROWS, end = first + BLOCK_ROWS;
        if (end > dataset->info.count[split])
            end = dataset->info.count[split];
        status = rdp_dataset_read(dataset, split, first, end - first, images ? pixels : NULL, labels ? classes : NULL);
        for (; status == RDP_OK && done < count && rows[done] < end; done++) {
            if (images != NULL)
                memcpy(images + done * RDP_IMAGE_BYTES, pixels + (rows[done] - first) * RDP_IMAGE_BYTES,
                       RDP_IMAGE_BYTES);
            if (labels != NULL)
                labels[done] = classes[rows[done] - first];
        }
    }
    free(block);
    return status;
}

/* Continues the CRC over one split, block by block: images first, then labels, as rdp_content_crc32c() does. */
static int verify_split(struct rdp_dataset *dataset, enum rdp_split split, uint8_t *pixels, uint8_t *labels,
                        uint32_t *crc)
{
    int64_t rows = dataset->info.count[split];
    for (int64_t first = 0; first < rows; first += BLOCK_ROWS) {
        int64_t count = rows - first < BLOCK_ROWS ? rows - first : BLOCK_ROWS;
        RDP_TRY(rdp_dataset_read(dataset, split, first, count, pixels, NULL));
        *crc = rdp_crc32c(*crc, pixels, (size_t)count * RDP_IMAGE_BYTES);
    }
    for (int64_t first = 0; first < rows; first += BLOCK_ROWS) {
        int64_t count = rows - first < BLOCK_ROWS ? rows - first : BLOCK_ROWS;
        RDP_TRY(rdp_dataset_read(dataset, split, first, count, NULL, labels));
        *crc = rdp_crc32c(*crc, labels, (size_t)count);
    }
    return RDP_OK;
}

int rdp_dataset_verify(struct rdp_dataset *dataset)
{
    void *block;
    uint32_t crc = 0;
    int status;
    RDP_TRY(rdp_calloc(&block, BLOCK_ROWS, RDP_IMAGE_BYTES + 1, "a block of the data set"));
    uint8_t *pixels = block, *labels = pixels + (size_t)BLOCK_ROWS * RDP_IMAGE_BYTES;
    status = verify_split(dataset, RDP_SPLIT_TRAIN, pixels, labels, &crc);
    if (status == RDP_OK)
        status = verify_split(dataset, RDP_SPLIT_TEST, pixels, labels, &crc);
    free(block);
    RDP_TRY(status);
    for (int class_index = 0; class_index < dataset->info.classes; class_index++)
        crc = rdp_crc32c(crc, dataset->info.class_names[class_index], RDP_CLASS_NAME_MAX);
    if (crc != dataset->info.content_crc32c)
        return rdp_fail(RDP_EUSAGE,
                        "%s: the content has CRC-32C %08" PRIx32 ", the file records %08" PRIx32
                        "; it was changed after it was made: make it again",
                        dataset->path, crc, dataset->info.content_crc32c);
    return RDP_OK;
}
