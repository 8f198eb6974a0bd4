/*
 * The data set file: CIFAR-10 in HDF5. Layout, as the attributes `format` = "resnet-dp-dataset", `format_version` = 1
 * say: /train/images u8 [N,32,32,3]   /train/labels u8 [N]   /test/images u8 [M,32,32,3]   /test/labels u8 [M] chunks
 * of 256 images, Fletcher32, no compression; attributes classes (i32), class_names (fixed-length strings), mean and std
 * (f32 [3], of the training pixels scaled to 0..1), source, creator, content_crc32c (u32). HDF5's checksums cover every
 * chunk and, with the 1.10 format, the metadata.
 *
 * Nothing in a file is believed before it is checked: names, types, ranks, sizes and filters come first, allocation
 * after.
 */
#ifndef RDP_IO_DATASET_H
#define RDP_IO_DATASET_H

#include <stddef.h>
#include <stdint.h>

enum {
    RDP_IMAGE_SIZE = 32,
    RDP_IMAGE_CHANNELS = 3,
    RDP_IMAGE_BYTES = 32 * 32 * 3, /* u8, height, width, channel (RGB) */
    RDP_CLASSES_MAX = 256,
    RDP_CLASS_NAME_MAX = 32
};

enum rdp_split { RDP_SPLIT_TRAIN, RDP_SPLIT_TEST };

struct rdp_dataset_info {
    int64_t count[2]; /* images per split, indexed by rdp_split */
    int classes;
    char class_names[RDP_CLASSES_MAX][RDP_CLASS_NAME_MAX];
    float mean[RDP_IMAGE_CHANNELS], std[RDP_IMAGE_CHANNELS]; /* per channel, of pixels / 255 */
    char source[256];
    uint32_t content_crc32c; /* rdp_content_crc32c() of what the file was made of */
};

struct rdp_dataset; /* an open file; owned by the caller of open */

/* Opens read-only (no file locking) and checks the structure. RDP_EUSAGE: missing, not HDF5, not this format, damaged.
 */
int rdp_dataset_open(struct rdp_dataset **dataset, const char *path);
void rdp_dataset_close(struct rdp_dataset *dataset);
const struct rdp_dataset_info *rdp_dataset_info(const struct rdp_dataset *dataset);
/* Reads rows [first, first + count) into images (count * RDP_IMAGE_BYTES) and labels (count). Either may be NULL.
 * RDP_EUSAGE when a checksum does not hold or a label is >= classes. */
int rdp_dataset_read(struct rdp_dataset *dataset, enum rdp_split split, int64_t first, int64_t count, uint8_t *images,
                     uint8_t *labels);
/* The same for `count` ascending row numbers, reading in blocks so that no more than a few MiB are held besides. */
int rdp_dataset_read_rows(struct rdp_dataset *dataset, enum rdp_split split, const int64_t *rows, int64_t count,
                          uint8_t *images, uint8_t *labels);
/* Reads every byte of the file and checks it; for `inspect` and after `prepare`. */
int rdp_dataset_verify(struct rdp_dataset *dataset);

/* What a new file is made of. Arrays are the caller's. mean and std are computed from the training images here. */
struct rdp_dataset_content {
    int64_t count[2];
    const uint8_t *images[2]; /* [count,32,32,3] */
    const uint8_t *labels[2];
    int classes;
    char class_names[RDP_CLASSES_MAX][RDP_CLASS_NAME_MAX];
    char source[256];
};
/* CRC-32C of the training images, their labels, the test images, their labels and the class names (RDP_CLASS_NAME_MAX
 * bytes each), in that order: two files of the same content have the same. */
uint32_t rdp_content_crc32c(const struct rdp_dataset_content *content);
/* Writes the file durably and atomically (durable.h): the old file at `path`, if any, stays until the new one is whole.
 */
int rdp_dataset_write(const char *path, const struct rdp_dataset_content *content);

#endif
