/*
 * Writing the data set file: built in memory by HDF5, then written durably by us, because HDF5 itself may report
 * success on a full disk. Called by `prepare` and by tests.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "io/dataset.h"
#include "io/durable.h"
#include "io/hdf5.h"

enum { CHUNK_IMAGES = 256, CHUNK_LABELS = 65536, IMAGE_GROWTH = 16 << 20 };

/* Unused bytes of the names are zeroed, so that equal lists have equal bytes. */
static void padded_names(const struct rdp_dataset_content *content, char names[RDP_CLASSES_MAX][RDP_CLASS_NAME_MAX])
{
    memset(names, 0, (size_t)RDP_CLASSES_MAX * RDP_CLASS_NAME_MAX);
    for (int i = 0; i < content->classes; i++)
        memcpy(names[i], content->class_names[i], strnlen(content->class_names[i], RDP_CLASS_NAME_MAX - 1));
}

uint32_t rdp_content_crc32c(const struct rdp_dataset_content *content)
{
    char names[RDP_CLASSES_MAX][RDP_CLASS_NAME_MAX];
    uint32_t crc = 0;
    for (int split = 0; split < 2; split++) {
        crc = rdp_crc32c(crc, content->images[split], (size_t)content->count[split] * RDP_IMAGE_BYTES);
        crc = rdp_crc32c(crc, content->labels[split], (size_t)content->count[split]);
    }
    padded_names(content, names);
    return rdp_crc32c(crc, names, (size_t)content->classes * RDP_CLASS_NAME_MAX);
}

static int check_content(const struct rdp_dataset_content *content, const char *path)
{
    if (content->classes < 1 || content->classes > RDP_CLASSES_MAX)
        return rdp_fail(RDP_EUSAGE, "%s: cannot write a data set of %d classes; 1 to %d are possible", path,
                        content->classes, RDP_CLASSES_MAX);
    for (int split = 0; split < 2; split++) {
        if (content->count[split] < 1)
            return rdp_fail(RDP_EUSAGE, "%s: cannot write a data set without %s images", path,
                            split ? "test" : "training");
        for (int64_t i = 0; i < content->count[split]; i++)
            if (content->labels[split][i] >= content->classes)
                return rdp_fail(RDP_EUSAGE, "%s: %s image %" PRId64 " has the label %d; there are %d classes", path,
                                split ? "test" : "training", i, content->labels[split][i], content->classes);
    }
    return RDP_OK;
}

/* Mean and population standard deviation per channel of the training pixels / 255, from exact integer sums. */
static int measure(const struct rdp_dataset_content *content, const char *path, float *mean, float *std)
{
    uint64_t sum[RDP_IMAGE_CHANNELS] = {0}, squares[RDP_IMAGE_CHANNELS] = {0};
    int64_t pixels = content->count[RDP_SPLIT_TRAIN] * RDP_IMAGE_SIZE * RDP_IMAGE_SIZE;
    const uint8_t *pixel = content->images[RDP_SPLIT_TRAIN];
    for (int64_t i = 0; i < pixels; i++, pixel += RDP_IMAGE_CHANNELS)
        for (int c = 0; c < RDP_IMAGE_CHANNELS; c++) {
            sum[c] += pixel[c];
            squares[c] += (uint64_t)pixel[c] * pixel[c];
        }
    for (int c = 0; c < RDP_IMAGE_CHANNELS; c++) {
        double average = (double)sum[c] / (double)pixels;
        double variance = (double)squares[c] / (double)pixels - average * average;
        if (!(variance > 1e-9))
            return rdp_fail(RDP_EUSAGE,
                            "%s: all training pixels of channel %d are equal, so they cannot be scaled to unit "
                            "variance; use real pictures",
                            path, c);
        mean[c] = (float)(average / 255);
        std[c] = (float)(sqrt(variance) / 255);
    }
    return RDP_OK;
}

static int write_attributes(const struct rdp_dataset_content *content, hid_t file, const char *path)
{
    char names[RDP_CLASSES_MAX][RDP_CLASS_NAME_MAX], creator[64], source[sizeof content->source];
    int32_t version = 1, classes = content->classes;
    float mean[RDP_IMAGE_CHANNELS], std[RDP_IMAGE_CHANNELS];
    uint32_t crc = rdp_content_crc32c(content);
    RDP_TRY(measure(content, path, mean, std));
    padded_names(content, names);
    snprintf(source, sizeof source, "%s", content->source);
    snprintf(creator, sizeof creator, "resnet-dp with HDF5 %d.%d.%d", H5_VERS_MAJOR, H5_VERS_MINOR, H5_VERS_RELEASE);
    RDP_TRY(rdp_h5_write_text(file, "format", "resnet-dp-dataset", path));
    RDP_TRY(rdp_h5_write_numbers(file, "format_version", H5T_STD_I32LE, 0, &version, path));
    RDP_TRY(rdp_h5_write_numbers(file, "classes", H5T_STD_I32LE, 0, &classes, path));
    RDP_TRY(rdp_h5_write_texts(file, "class_names", names[0], RDP_CLASS_NAME_MAX, (size_t)content->classes, path));
    RDP_TRY(rdp_h5_write_numbers(file, "mean", H5T_IEEE_F32LE, RDP_IMAGE_CHANNELS, mean, path));
    RDP_TRY(rdp_h5_write_numbers(file, "std", H5T_IEEE_F32LE, RDP_IMAGE_CHANNELS, std, path));
    RDP_TRY(rdp_h5_write_text(file, "source", source, path));
    RDP_TRY(rdp_h5_write_text(file, "creator", creator, path));
    return rdp_h5_write_numbers(file, "content_crc32c", H5T_STD_U32LE, 0, &crc, path);
}

static int write_split(const struct rdp_dataset_content *content, int split, hid_t file, const char *path)
{
    hsize_t count = (hsize_t)content->count[split];
    hsize_t dims[4] = {count, RDP_IMAGE_SIZE, RDP_IMAGE_SIZE, RDP_IMAGE_CHANNELS};
    hsize_t chunk[4] = {count < CHUNK_IMAGES ? count : CHUNK_IMAGES, dims[1], dims[2], dims[3]};
    hsize_t label_chunk = count < CHUNK_LABELS ? count : CHUNK_LABELS;
    hid_t group;
    RDP_TRY(rdp_h5_create_group(file, split ? "test" : "train", path, &group));
    int status = rdp_h5_write_array(group, "images", H5T_STD_U8LE, 4, dims, chunk, content->images[split], path);
    if (status == RDP_OK)
        status = rdp_h5_write_array(group, "labels", H5T_STD_U8LE, 1, dims, &label_chunk, content->labels[split], path);
    H5Gclose(group);
    return status;
}

int rdp_dataset_write(const char *path, const struct rdp_dataset_content *content)
{
    struct rdp_h5_image image;
    hid_t file;
    RDP_TRY(check_content(content, path));
    RDP_TRY(rdp_h5_create(&image, IMAGE_GROWTH, path, &file));
    int status = write_attributes(content, file, path);
    for (int split = 0; split < 2 && status == RDP_OK; split++)
        status = write_split(content, split, file, path);
    int finished = rdp_h5_finish(&image, path, file);
    if (status == RDP_OK)
        status = finished;
    if (status == RDP_OK)
        status = rdp_durable_write(path, &(struct rdp_bytes){image.bytes, image.size}, 1);
    free(image.bytes);
    return status;
}
