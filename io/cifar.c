/*
 * CIFAR-10's official binaries into memory; see cifar.h. Called by `prepare`.
 *
 * Whether they lie in a directory or in the archive, the seven files are first read whole, then checked, then turned
 * from planes into pixels. The official files have 10,000 records each; fewer are accepted, so that a reduced set can
 * be used.
 */
#include "io/cifar.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/archive.h"
#include "io/file.h"

enum { TRAIN_FILES = 5, FILES = 7, META = 6, CLASSES = 10, PLANE = 1024, RECORD = 1 + 3 * PLANE, RECORDS_MAX = 10000 };

static const char *const file_names[FILES] = {
    "data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
    "data_batch_5.bin", "test_batch.bin",   "batches.meta.txt",
};
static const char *const official_classes[CLASSES] = {
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
};

void rdp_content_free(struct rdp_dataset_content *content)
{
    union { /* the content shows its arrays as constant to those who write the file; here they end */
        const uint8_t *constant;
        void *block;
    } array;
    for (int split = 0; split < 2; split++) {
        array.constant = content->images[split];
        free(array.block);
        array.constant = content->labels[split];
        free(array.block);
        content->images[split] = content->labels[split] = NULL;
        content->count[split] = 0;
    }
}

/* "DIR/name" or "DIR/cifar-10-batches-bin/name", whichever holds the first batch. */
static int find_directory(const char *path, char *directory, size_t size)
{
    static const char *const places[2] = {"", "/cifar-10-batches-bin"};
    char file[4096 + 64];
    struct stat info;
    for (int i = 0; i < 2; i++) {
        if (snprintf(directory, size, "%s%s", path, places[i]) >= (int)size)
            return rdp_fail(RDP_EUSAGE, "the path %.60s... is too long; use a shorter one", path);
        for (int name = 0; name < META; name++) {
            snprintf(file, sizeof file, "%s/%s", directory, file_names[name]);
            if (stat(file, &info) == 0)
                return RDP_OK;
        }
    }
    snprintf(file, sizeof file, "%s/data_batch_1", path);
    if (stat(file, &info) == 0)
        return rdp_fail(RDP_EUSAGE,
                        "%s holds the Python version of CIFAR-10; use the binary version (cifar-10-binary.tar.gz)",
                        path);
    return rdp_fail(RDP_EUSAGE,
                    "%s holds no data_batch_1.bin, nor does its cifar-10-batches-bin; name the directory of the "
                    "official binary version of CIFAR-10, or its .tar.gz",
                    path);
}

static int read_directory(const char *path, struct rdp_archive_file *files)
{
    char directory[4096], file[4096 + 64];
    struct stat info;
    RDP_TRY(find_directory(path, directory, sizeof directory));
    for (int i = 0; i < FILES; i++) {
        snprintf(file, sizeof file, "%s/%s", directory, files[i].name);
        if (stat(file, &info) != 0 && errno == ENOENT)
            continue; /* check_files() says which one is missing */
        RDP_TRY(rdp_file_read(file, files[i].limit, &files[i].bytes, &files[i].size));
    }
    return RDP_OK;
}

static int check_files(const char *path, const struct rdp_archive_file *files)
{
    for (int i = 0; i < META; i++) {
        if (files[i].bytes == NULL)
            return rdp_fail(RDP_EUSAGE, "%s: %s is missing; all of data_batch_1..5.bin and test_batch.bin are needed",
                            path, files[i].name);
        if (files[i].size == 0 || files[i].size % RECORD != 0)
            return rdp_fail(RDP_EUSAGE,
                            "%s: %s has %zu bytes, not a multiple of %d (one label and 32x32x3 pixels); the official "
                            "file has 30730000: fetch it again",
                            path, files[i].name, files[i].size, RECORD);
        for (size_t record = 0; record < files[i].size / RECORD; record++)
            if (files[i].bytes[record * RECORD] >= CLASSES)
                return rdp_fail(RDP_EUSAGE,
                                "%s: record %zu of %s has the label %d, expected 0 to 9; the file is damaged: fetch it "
                                "again",
                                path, record, files[i].name, files[i].bytes[record * RECORD]);
    }
    return RDP_OK;
}

/* batches.meta.txt: a class name per line, then empty lines. */
static int take_class_names(struct rdp_dataset_content *content, const char *path, const struct rdp_archive_file *meta)
{
    content->classes = CLASSES;
    for (int i = 0; i < CLASSES; i++)
        snprintf(content->class_names[i], RDP_CLASS_NAME_MAX, "%s", official_classes[i]);
    if (meta->bytes == NULL)
        return RDP_OK;
    const char *text = (const char *)meta->bytes, *end = text + meta->size;
    int found = 0;
    while (text < end) {
        size_t line = 0;
        while (text + line < end && text[line] != '\n')
            line++;
        size_t length = line > 0 && text[line - 1] == '\r' ? line - 1 : line;
        if (length > 0) {
            if (found == CLASSES || length >= RDP_CLASS_NAME_MAX || memchr(text, '\0', length) != NULL)
                return rdp_fail(RDP_EUSAGE,
                                "%s: line %d of %s is no class name, expected ten of at most %d bytes; fetch it again",
                                path, found + 1, meta->name, RDP_CLASS_NAME_MAX - 1);
            snprintf(content->class_names[found++], RDP_CLASS_NAME_MAX, "%.*s", (int)length, text);
        }
        text += line + 1;
    }
    if (found != CLASSES)
        return rdp_fail(RDP_EUSAGE, "%s: %s has %d class names, expected %d; fetch it again", path, meta->name, found,
                        CLASSES);
    return RDP_OK;
}

/* Three planes of 32x32 become 32x32 pixels of three bytes. */
static void convert(const struct rdp_archive_file *file, uint8_t *images, uint8_t *labels)
{
    for (size_t record = 0; record < file->size / RECORD; record++) {
        const uint8_t *from = file->bytes + record * RECORD;
        uint8_t *to = images + record * RDP_IMAGE_BYTES;
        labels[record] = from[0];
        for (int i = 0; i < PLANE; i++)
            for (int c = 0; c < RDP_IMAGE_CHANNELS; c++)
                to[i * RDP_IMAGE_CHANNELS + c] = from[1 + c * PLANE + i];
    }
}

static int take_split(struct rdp_dataset_content *content, int split, struct rdp_archive_file *files, int count)
{
    void *images, *labels;
    int64_t total = 0;
    for (int i = 0; i < count; i++)
        total += (int64_t)(files[i].size / RECORD);
    RDP_TRY(rdp_calloc(&images, (size_t)total, RDP_IMAGE_BYTES, "the images"));
    content->images[split] = images;
    RDP_TRY(rdp_calloc(&labels, (size_t)total, 1, "the labels"));
    content->labels[split] = labels;
    for (int i = 0; i < count; i++) {
        convert(&files[i], (uint8_t *)images + content->count[split] * RDP_IMAGE_BYTES,
                (uint8_t *)labels + content->count[split]);
        content->count[split] += (int64_t)(files[i].size / RECORD);
        free(files[i].bytes); /* so that the set is held once, not twice, while the file is made */
        files[i].bytes = NULL;
    }
    return RDP_OK;
}

static int take_files(struct rdp_dataset_content *content, const char *path, struct rdp_archive_file *files)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return rdp_fail(RDP_EUSAGE,
                        "cannot open %s: %s; name the directory of the official CIFAR-10 binaries or their .tar.gz",
                        path, strerror(errno));
    RDP_TRY(S_ISDIR(info.st_mode) ? read_directory(path, files) : rdp_archive_read(path, files, FILES));
    RDP_TRY(check_files(path, files));
    RDP_TRY(take_class_names(content, path, &files[META]));
    RDP_TRY(take_split(content, RDP_SPLIT_TRAIN, files, TRAIN_FILES));
    RDP_TRY(take_split(content, RDP_SPLIT_TEST, files + TRAIN_FILES, 1));
    snprintf(content->source, sizeof content->source,
             "CIFAR-10 binaries, %" PRId64 " training and %" PRId64 " test images", content->count[RDP_SPLIT_TRAIN],
             content->count[RDP_SPLIT_TEST]);
    return RDP_OK;
}

int rdp_cifar_read(struct rdp_dataset_content *content, const char *path)
{
    struct rdp_archive_file files[FILES];
    memset(content, 0, sizeof *content);
    for (int i = 0; i < FILES; i++)
        files[i] = (struct rdp_archive_file){file_names[i], i == META ? 4096 : (size_t)RECORDS_MAX * RECORD, NULL, 0};
    int status = take_files(content, path, files);
    for (int i = 0; i < FILES; i++)
        free(files[i].bytes);
    if (status != RDP_OK)
        rdp_content_free(content);
    return status;
}
