/*
 * The data set file: what is written comes back, rows in any ascending choice; every truncation and every flipped bit
 * is found; files of a different form are refused before anything is allocated for them.
 */
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include "base/status.h"
#include "io/dataset.h"
#include "io/hdf5.h"
#include "support_io.h"

enum { TRAIN = 2600, TEST = 300, CLASSES = 7 };

static struct rdp_dataset_content content;
static uint8_t *pixels, *labels;

static void make_content(int64_t train, int64_t test)
{
    uint32_t random = 12345;
    size_t rows = (size_t)(train + test);
    pixels = malloc(rows * RDP_IMAGE_BYTES);
    labels = malloc(rows);
    for (size_t i = 0; i < rows * RDP_IMAGE_BYTES; i++)
        pixels[i] = (uint8_t)(rdp_test_random(&random) >> 24);
    for (size_t i = 0; i < rows; i++)
        labels[i] = (uint8_t)(rdp_test_random(&random) % CLASSES);
    memset(&content, 0, sizeof content);
    content.count[0] = train;
    content.count[1] = test;
    content.images[0] = pixels;
    content.images[1] = pixels + (size_t)train * RDP_IMAGE_BYTES;
    content.labels[0] = labels;
    content.labels[1] = labels + train;
    content.classes = CLASSES;
    for (int i = 0; i < CLASSES; i++)
        snprintf(content.class_names[i], RDP_CLASS_NAME_MAX, "class %d%s", i, i == 3 ? " of twenty-four bytes..." : "");
    strcpy(content.source, "a test");
}

static void free_content(void)
{
    free(pixels);
    free(labels);
}

static struct rdp_dataset *open_set(const char *path)
{
    struct rdp_dataset *dataset;
    int status = rdp_dataset_open(&dataset, path);
    if (status != RDP_OK)
        fail_msg("%s", rdp_fail_message());
    return dataset;
}

static void comes_back(void **state)
{
    const char *path = rdp_test_path("set.h5");
    uint8_t *images = malloc((size_t)TRAIN * RDP_IMAGE_BYTES), classes[TRAIN];
    (void)state;
    make_content(TRAIN, TEST);
    assert_int_equal(rdp_dataset_write(path, &content), RDP_OK);
    struct rdp_dataset *dataset = open_set(path);
    const struct rdp_dataset_info *info = rdp_dataset_info(dataset);
    assert_int_equal(info->count[RDP_SPLIT_TRAIN], TRAIN);
    assert_int_equal(info->count[RDP_SPLIT_TEST], TEST);
    assert_int_equal(info->classes, CLASSES);
    assert_string_equal(info->source, "a test");
    assert_int_equal(info->content_crc32c, rdp_content_crc32c(&content));
    for (int i = 0; i < CLASSES; i++)
        assert_string_equal(info->class_names[i], content.class_names[i]);
    for (int c = 0; c < RDP_IMAGE_CHANNELS; c++) {
        double sum = 0, squares = 0, n = (double)TRAIN * 1024;
        for (size_t i = (size_t)c; i < (size_t)TRAIN * RDP_IMAGE_BYTES; i += 3) {
            sum += pixels[i] / 255.0;
            squares += pixels[i] / 255.0 * (pixels[i] / 255.0);
        }
        /* both in double; only the order of the sums differs */
        assert_true(fabs(info->mean[c] - sum / n) < 1e-6);
        assert_true(fabs(info->std[c] - sqrt(squares / n - sum / n * (sum / n))) < 1e-6);
    }
    assert_int_equal(rdp_dataset_read(dataset, RDP_SPLIT_TRAIN, 0, TRAIN, images, classes), RDP_OK);
    assert_memory_equal(images, content.images[0], (size_t)TRAIN * RDP_IMAGE_BYTES);
    assert_memory_equal(classes, content.labels[0], TRAIN);
    assert_int_equal(rdp_dataset_read(dataset, RDP_SPLIT_TEST, 250, 50, images, NULL), RDP_OK);
    assert_memory_equal(images, content.images[1] + 250 * RDP_IMAGE_BYTES, 50 * RDP_IMAGE_BYTES);
    assert_int_equal(rdp_dataset_read(dataset, RDP_SPLIT_TEST, TEST, 0, images, classes), RDP_OK);
    rdp_test_expect(rdp_dataset_read(dataset, RDP_SPLIT_TEST, 250, 51, images, NULL), RDP_EUSAGE, "do not exist");
    rdp_test_expect(rdp_dataset_read(dataset, RDP_SPLIT_TEST, -1, 1, images, NULL), RDP_EUSAGE, "do not exist");
    rdp_test_expect(rdp_dataset_read(dataset, RDP_SPLIT_TEST, 1, INT64_MAX, images, NULL), RDP_EUSAGE, "do not exist");
    assert_int_equal(rdp_dataset_verify(dataset), RDP_OK);
    /* a second reader at the same time, as on every rank */
    struct rdp_dataset *second = open_set(path);
    assert_int_equal(rdp_dataset_verify(second), RDP_OK);
    rdp_dataset_close(second);
    rdp_dataset_close(dataset);
    free(images);
    free_content();
}

static void rows(void **state)
{
    const char *path = rdp_test_path("rows.h5");
    int64_t chosen[TRAIN + 1];
    uint8_t *images = malloc((size_t)TRAIN * RDP_IMAGE_BYTES), classes[TRAIN];
    (void)state;
    make_content(TRAIN, TEST);
    assert_int_equal(rdp_dataset_write(path, &content), RDP_OK);
    struct rdp_dataset *dataset = open_set(path);
    for (int stride = 1; stride < 2000; stride = stride * 3 + 1) {
        int64_t count = 0;
        for (int64_t row = stride / 2; row < TRAIN; row += stride)
            chosen[count++] = row;
        assert_int_equal(rdp_dataset_read_rows(dataset, RDP_SPLIT_TRAIN, chosen, count, images, classes), RDP_OK);
        for (int64_t i = 0; i < count; i++) {
            assert_memory_equal(images + i * RDP_IMAGE_BYTES, content.images[0] + chosen[i] * RDP_IMAGE_BYTES,
                                RDP_IMAGE_BYTES);
            assert_int_equal(classes[i], content.labels[0][chosen[i]]);
        }
    }
    chosen[0] = 5;
    chosen[1] = 4;
    rdp_test_expect(rdp_dataset_read_rows(dataset, RDP_SPLIT_TRAIN, chosen, 2, images, NULL), RDP_EINTERNAL, "row 4");
    chosen[1] = TRAIN;
    rdp_test_expect(rdp_dataset_read_rows(dataset, RDP_SPLIT_TRAIN, chosen, 2, images, NULL), RDP_EUSAGE,
                    "do not exist");
    assert_int_equal(rdp_dataset_read_rows(dataset, RDP_SPLIT_TRAIN, chosen, 0, images, classes), RDP_OK);
    rdp_dataset_close(dataset);
    free(images);
    free_content();
}

static void same_bytes_each_time(void **state)
{
    size_t sizes[2];
    (void)state;
    make_content(40, 10);
    assert_int_equal(rdp_dataset_write(rdp_test_path("a.h5"), &content), RDP_OK);
    assert_int_equal(rdp_dataset_write(rdp_test_path("b.h5"), &content), RDP_OK);
    uint8_t *a = rdp_test_read(rdp_test_path("a.h5"), &sizes[0]), *b = rdp_test_read(rdp_test_path("b.h5"), &sizes[1]);
    assert_int_equal(sizes[0], sizes[1]);
    assert_memory_equal(a, b, sizes[0]);
    free(a);
    free(b);
    free_content();
}

/* Opens and reads everything; the first failure. */
static int check(const char *path)
{
    struct rdp_dataset *dataset;
    RDP_TRY(rdp_dataset_open(&dataset, path));
    int status = rdp_dataset_verify(dataset);
    rdp_dataset_close(dataset);
    return status;
}

static void truncations(void **state)
{
    const char *path = rdp_test_path("whole.h5"), *cut = rdp_test_path("cut.h5");
    uint32_t random = 99;
    size_t size;
    (void)state;
    make_content(300, 20);
    assert_int_equal(rdp_dataset_write(path, &content), RDP_OK);
    uint8_t *bytes = rdp_test_read(path, &size);
    for (int i = 0; i < 200; i++) {
        size_t length = i < 64 ? (size_t)i : i < 72 ? size - (size_t)(i - 63) : rdp_test_random(&random) % size;
        rdp_test_write(cut, bytes, length);
        rdp_test_expect(check(cut), RDP_EUSAGE, cut);
    }
    rdp_test_write(cut, bytes, size / 2);
    rdp_test_expect(check(cut), RDP_EUSAGE, "truncated");
    rdp_test_write(cut, bytes, size + 1); /* one more byte than the file has, which nobody checks */
    rdp_test_expect(check(cut), RDP_EUSAGE, "damaged");
    free(bytes);
    free_content();
}

/* Flips one bit in every `step`-th byte of the metadata and in samples of the pixels: none may pass, none may crash. */
static void flip_bytes(const char *path, size_t step, size_t pixel_step)
{
    size_t size, tried = 0, at = 0;
    uint8_t *bytes = rdp_test_read(path, &size);
    while (at < size) {
        int bit = (int)(tried++ * 5 % 8);
        rdp_test_flip(path, at, bit);
        int status = check(path);
        if (status != RDP_EUSAGE)
            fail_msg("a flip of bit %d of byte %zu of %zu gives %d", bit, at, size, status);
        rdp_fail_clear();
        rdp_test_flip(path, at, bit);
        at += at < RDP_H5_SUPERBLOCK_SIZE ? 1 : step;
        for (int split = 0; split < 2; split++) {
            size_t length = (size_t)content.count[split] * RDP_IMAGE_BYTES;
            size_t first = (size_t)((uint8_t *)memmem(bytes, size, content.images[split], 64) - bytes);
            if (at > first && at + pixel_step < first + length)
                at += pixel_step - 1;
        }
    }
    free(bytes);
    assert_int_equal(check(path), RDP_OK);
    assert_true(tried > 500);
}

static void flips(void **state)
{
    const char *path = rdp_test_path("flips.h5");
    (void)state;
    make_content(3, 2);
    assert_int_equal(rdp_dataset_write(path, &content), RDP_OK);
    flip_bytes(path, 2, 301);
    free_content();
    make_content(250, 20); /* one incomplete chunk each: all stored bytes are pixels, checksums or metadata */
    assert_int_equal(rdp_dataset_write(path, &content), RDP_OK);
    flip_bytes(path, 5, 19997);
    free_content();
}

static void refuses_other_files(void **state)
{
    struct rdp_dataset *dataset;
    (void)state;
    rdp_test_expect(rdp_dataset_open(&dataset, rdp_test_path("missing.h5")), RDP_EUSAGE, "No such file");
    assert_null(dataset);
    rdp_test_expect(rdp_dataset_open(&dataset, rdp_test_path("")), RDP_EUSAGE, "directory");
    rdp_test_write(rdp_test_path("text.h5"), "This is a text of more than forty-eight bytes, no HDF5 file.\n", 61);
    rdp_test_expect(rdp_dataset_open(&dataset, rdp_test_path("text.h5")), RDP_EUSAGE, "is not a data set");
    rdp_test_write(rdp_test_path("empty.h5"), "", 0);
    rdp_test_expect(rdp_dataset_open(&dataset, rdp_test_path("empty.h5")), RDP_EUSAGE, "is empty");
    rdp_test_expect(rdp_dataset_open(&dataset, "/dev/null"), RDP_EUSAGE, "regular file");
}

static void bad_content(void **state)
{
    const char *path = rdp_test_path("bad.h5");
    struct stat info;
    (void)state;
    make_content(20, 10);
    labels[3] = CLASSES;
    rdp_test_expect(rdp_dataset_write(path, &content), RDP_EUSAGE, "label 7");
    labels[3] = 0;
    content.count[1] = 0;
    rdp_test_expect(rdp_dataset_write(path, &content), RDP_EUSAGE, "without test images");
    content.count[1] = 10;
    content.classes = 0;
    rdp_test_expect(rdp_dataset_write(path, &content), RDP_EUSAGE, "0 classes");
    content.classes = CLASSES;
    memset(pixels, 100, 20 * RDP_IMAGE_BYTES);
    rdp_test_expect(rdp_dataset_write(path, &content), RDP_EUSAGE, "equal");
    assert_int_not_equal(stat(path, &info), 0);
    free_content();
}

/* A full disk while a set is replaced: the old one stays. */
static void limited_size(void **state)
{
    const char *path = rdp_test_path("limited.h5");
    struct rlimit before, limit;
    (void)state;
    make_content(40, 10);
    assert_int_equal(rdp_dataset_write(path, &content), RDP_OK);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 50000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    pixels[0] ^= 1;
    int status = rdp_dataset_write(path, &content);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    rdp_test_expect(status, RDP_EIO, "untouched");
    pixels[0] ^= 1;
    struct rdp_dataset *dataset = open_set(path);
    assert_int_equal(rdp_dataset_verify(dataset), RDP_OK);
    assert_int_equal(rdp_dataset_info(dataset)->content_crc32c, rdp_content_crc32c(&content));
    rdp_dataset_close(dataset);
    free_content();
}

/* Well-formed HDF5 files, made as a stranger might: each differs from a data set in one respect. */
enum variant {
    GOOD,
    NO_FLETCHER,
    DEFLATE,
    CONTIGUOUS,
    EXTERNAL,
    SOFT_LINK,
    EXTRA_OBJECT,
    WRONG_TYPE,
    WRONG_SHAPE,
    LABELS_DIFFER,
    MISSING_CHUNKS,
    EXTENDIBLE,
    LABEL_RANGE,
    NEW_VERSION,
    OTHER_FORMAT,
    LONG_SOURCE,
    VARIABLE_TEXT,
    NAN_MEAN,
    WRONG_CRC,
    VARIANTS
};

static void stranger_array(hid_t group, const char *name, int rank, hsize_t *dims, enum variant variant,
                           const void *data)
{
    hsize_t largest[4] = {dims[0], 32, 32, 3};
    hid_t creation = H5Pcreate(H5P_DATASET_CREATE), type = variant == WRONG_TYPE ? H5T_STD_U16LE : H5T_STD_U8LE;
    if (variant == EXTENDIBLE)
        largest[0] = H5S_UNLIMITED;
    if (variant == WRONG_SHAPE)
        dims[2] = largest[2] = 16;
    hid_t space = H5Screate_simple(rank, dims, largest);
    if (variant == EXTERNAL)
        H5Pset_external(creation, "/etc/hostname", 0, H5F_UNLIMITED);
    else if (variant != CONTIGUOUS)
        H5Pset_chunk(creation, rank, dims);
    if (variant == DEFLATE)
        H5Pset_deflate(creation, 1);
    if (variant != NO_FLETCHER && variant != CONTIGUOUS && variant != EXTERNAL)
        H5Pset_fletcher32(creation);
    hid_t array = H5Dcreate2(group, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT);
    assert_true(array >= 0);
    if (variant != MISSING_CHUNKS && variant != EXTERNAL)
        H5Dwrite(array, H5T_STD_U8LE, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    H5Dclose(array);
    H5Sclose(space);
    H5Pclose(creation);
}

static void stranger_attributes(hid_t file, enum variant variant, uint32_t crc)
{
    int32_t version = variant == NEW_VERSION ? 2 : 1, classes = CLASSES;
    float mean[3] = {variant == NAN_MEAN ? NAN : 0.5f, 0.5f, 0.5f}, std[3] = {0.3f, 0.3f, 0.3f};
    char text[400];
    memset(text, 'x', sizeof text);
    text[variant == LONG_SOURCE ? 399 : 5] = '\0';
    rdp_h5_write_text(file, "format", variant == OTHER_FORMAT ? "something" : "resnet-dp-dataset", "");
    rdp_h5_write_numbers(file, "format_version", H5T_STD_I32LE, 0, &version, "");
    rdp_h5_write_numbers(file, "classes", H5T_STD_I32LE, 0, &classes, "");
    rdp_h5_write_texts(file, "class_names", content.class_names[0], RDP_CLASS_NAME_MAX, CLASSES, "");
    rdp_h5_write_numbers(file, "mean", H5T_IEEE_F32LE, 3, mean, "");
    rdp_h5_write_numbers(file, "std", H5T_IEEE_F32LE, 3, std, "");
    if (variant == VARIABLE_TEXT) {
        const char *value = text;
        hid_t type = H5Tcopy(H5T_C_S1), space = H5Screate(H5S_SCALAR);
        H5Tset_size(type, H5T_VARIABLE);
        H5Tset_cset(type, H5T_CSET_UTF8);
        hid_t attribute = H5Acreate2(file, "source", type, space, H5P_DEFAULT, H5P_DEFAULT);
        H5Awrite(attribute, type, &value);
        H5Aclose(attribute);
        H5Sclose(space);
        H5Tclose(type);
    } else {
        rdp_h5_write_text(file, "source", text, "");
    }
    crc ^= variant == WRONG_CRC;
    rdp_h5_write_numbers(file, "content_crc32c", H5T_STD_U32LE, 0, &crc, "");
}

static void stranger_file(const char *path, enum variant variant)
{
    struct rdp_h5_image image;
    hid_t file, group;
    if (variant == LABEL_RANGE)
        labels[0] = CLASSES;
    uint32_t crc = rdp_content_crc32c(&content);
    assert_int_equal(rdp_h5_create(&image, 1 << 20, path, &file), RDP_OK);
    stranger_attributes(file, variant, crc);
    for (int split = 0; split < 2; split++) {
        hsize_t dims[4] = {(hsize_t)content.count[split], 32, 32, 3}, count = dims[0] - (variant == LABELS_DIFFER);
        if (split == 1 && variant == SOFT_LINK) {
            H5Lcreate_soft("/train", file, "test", H5P_DEFAULT, H5P_DEFAULT);
            break;
        }
        assert_int_equal(rdp_h5_create_group(file, split ? "test" : "train", path, &group), RDP_OK);
        stranger_array(group, "images", 4, dims, variant, content.images[split]);
        stranger_array(group, "labels", 1, &count, variant == WRONG_SHAPE || variant == WRONG_TYPE ? GOOD : variant,
                       content.labels[split]);
        H5Gclose(group);
    }
    if (variant == EXTRA_OBJECT) {
        assert_int_equal(rdp_h5_create_group(file, "more", path, &group), RDP_OK);
        H5Gclose(group);
    }
    assert_int_equal(rdp_h5_finish(&image, path, file), RDP_OK);
    rdp_test_write(path, image.bytes, image.size);
    free(image.bytes);
    labels[0] = 0;
}

static void strangers(void **state)
{
    const char *path = rdp_test_path("stranger.h5");
    (void)state;
    make_content(20, 10);
    labels[0] = 0;
    for (int variant = GOOD; variant < VARIANTS; variant++) {
        stranger_file(path, (enum variant)variant);
        int status = check(path);
        if (status != (variant == GOOD ? RDP_OK : RDP_EUSAGE))
            fail_msg("variant %d gives %d: %s", variant, status, rdp_fail_message());
        rdp_fail_clear();
    }
    free_content();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back),  cmocka_unit_test(rows),         cmocka_unit_test(same_bytes_each_time),
        cmocka_unit_test(truncations), cmocka_unit_test(flips),        cmocka_unit_test(refuses_other_files),
        cmocka_unit_test(bad_content), cmocka_unit_test(limited_size), cmocka_unit_test(strangers),
    };
    return cmocka_run_group_tests(tests, rdp_test_directory_make, rdp_test_directory_remove);
}
