/*
 * CIFAR-10 binaries from a directory and from the archive, damaged ones refused; the synthetic set: the same for the
 * same seed, and of no use to a linear classifier.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include "base/status.h"
#include "io/cifar.h"
#include "io/durable.h"
#include "support_io.h"

enum { RECORD = 3073, RECORDS = 4 };

static const char *const names[7] = {"data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                                     "data_batch_5.bin", "test_batch.bin",   "batches.meta.txt"};
static const char meta[] = "plane\ncar\nbird\ncat\ndeer\r\ndog\nfrog\nhorse\nship\ntruck\n\n";

/* Record r of file f: label (f + r) % 10; pixel (y, x, c) = value(f, r, c * 1024 + y * 32 + x). */
static uint8_t value(int file, int record, int at)
{
    return (uint8_t)(file * 31 + record * 7 + at * 3 + at / 256);
}

/* The first files have one record more than the others. */
static size_t fill(uint8_t *bytes, int file)
{
    int records = RECORDS + (file == 0);
    for (int r = 0; r < records; r++) {
        bytes[r * RECORD] = (uint8_t)((file + r) % 10);
        for (int i = 0; i < 3072; i++)
            bytes[r * RECORD + 1 + i] = value(file, r, i);
    }
    return (size_t)records * RECORD;
}

static const char *inside(const char *directory, const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return rdp_test_path(path);
}

static void make_directory(const char *directory, int with_meta)
{
    static uint8_t bytes[(RECORDS + 1) * RECORD];
    assert_int_equal(rdp_make_directory(rdp_test_path(directory)), RDP_OK);
    for (int f = 0; f < 6; f++)
        rdp_test_write(inside(directory, names[f]), bytes, fill(bytes, f));
    if (with_meta)
        rdp_test_write(inside(directory, names[6]), meta, sizeof meta - 1);
}

static void assert_content(struct rdp_dataset_content *content, const char *first_class)
{
    assert_int_equal(content->count[RDP_SPLIT_TRAIN], 5 * RECORDS + 1);
    assert_int_equal(content->count[RDP_SPLIT_TEST], RECORDS);
    assert_int_equal(content->classes, 10);
    assert_string_equal(content->class_names[0], first_class);
    assert_string_equal(content->class_names[4], "deer");
    assert_string_equal(content->source, "CIFAR-10 binaries, 21 training and 4 test images");
    for (int f = 0, row = 0; f < 6; f++) {
        int split = f == 5;
        if (split)
            row = 0;
        for (int r = 0; r < RECORDS + (f == 0); r++, row++) {
            assert_int_equal(content->labels[split][row], (f + r) % 10);
            for (int i = 0; i < 3072; i++)
                assert_int_equal(content->images[split][row * 3072 + i], value(f, r, i % 3 * 1024 + i / 3));
        }
    }
    rdp_content_free(content);
}

static void from_directory(void **state)
{
    struct rdp_dataset_content content;
    (void)state;
    make_directory("plain", 1);
    assert_int_equal(rdp_cifar_read(&content, rdp_test_path("plain")), RDP_OK);
    assert_content(&content, "plane");
    make_directory("outer/cifar-10-batches-bin", 0);
    assert_int_equal(rdp_cifar_read(&content, rdp_test_path("outer")), RDP_OK);
    assert_content(&content, "airplane");
}

static void expect_bad(const char *path, const char *words)
{
    struct rdp_dataset_content content;
    rdp_test_expect(rdp_cifar_read(&content, path), RDP_EUSAGE, words);
    assert_null(content.images[0]);
}

static void bad_directories(void **state)
{
    uint8_t bytes[2 * RECORD] = {0};
    (void)state;
    expect_bad(rdp_test_path("absent"), "No such file");
    assert_int_equal(rdp_make_directory(rdp_test_path("bad")), RDP_OK);
    expect_bad(rdp_test_path("bad"), "holds no data_batch_1.bin");
    rdp_test_write(inside("bad", "data_batch_1"), "pickle", 6);
    expect_bad(rdp_test_path("bad"), "Python version");
    make_directory("bad", 1);
    unlink(inside("bad", names[3]));
    expect_bad(rdp_test_path("bad"), "data_batch_4.bin is missing");
    rdp_test_write(inside("bad", names[3]), bytes, sizeof bytes - 1);
    expect_bad(rdp_test_path("bad"), "6145 bytes");
    rdp_test_write(inside("bad", names[3]), bytes, 0);
    expect_bad(rdp_test_path("bad"), "0 bytes");
    bytes[RECORD] = 10;
    rdp_test_write(inside("bad", names[3]), bytes, sizeof bytes);
    expect_bad(rdp_test_path("bad"), "label 10");
    bytes[RECORD] = 9;
    rdp_test_write(inside("bad", names[3]), bytes, sizeof bytes);
    rdp_test_write(inside("bad", names[6]), "a\nb\n", 4);
    expect_bad(rdp_test_path("bad"), "2 class names");
    rdp_test_write(inside("bad", names[6]), "a name that is longer than thirty-one bytes\n", 44);
    expect_bad(rdp_test_path("bad"), "no class name");
    unlink(inside("bad", names[6]));
    assert_int_equal(rdp_make_directory(inside("bad", names[6])), RDP_OK);
    expect_bad(rdp_test_path("bad"), "directory");
    make_directory("long", 0);
    assert_int_equal(truncate(inside("long", names[0]), 10001LL * RECORD), 0);
    expect_bad(rdp_test_path("long"), "at most 30730000");
}

/*
 * An archive written here, so that it can be written wrongly.
 */

static size_t put_header(uint8_t *at, const char *name, size_t size, char type)
{
    unsigned sum = 0;
    memset(at, 0, 512);
    snprintf((char *)at, 100, "%s", name);
    memcpy(at + 100, "0000644", 8);
    memcpy(at + 108, "0000000", 8);
    memcpy(at + 116, "0000000", 8);
    snprintf((char *)at + 124, 12, "%011zo", size);
    memcpy(at + 136, "00000000000", 12);
    at[156] = (uint8_t)type;
    memcpy(at + 257, "ustar", 6);
    memcpy(at + 263, "00", 2);
    memset(at + 148, ' ', 8);
    for (int i = 0; i < 512; i++)
        sum += at[i];
    snprintf((char *)at + 148, 8, "%06o", sum);
    return 512;
}

/* The tar file of a set: a folder, an unwanted file, the seven files. *size is its length; the caller's (free). */
static uint8_t *make_tar(size_t *size, int twice)
{
    uint8_t *tar = calloc(1, 300000), *at = tar;
    static uint8_t bytes[(RECORDS + 1) * RECORD];
    at += put_header(at, "cifar-10-batches-bin/", 0, '5');
    at += put_header(at, "cifar-10-batches-bin/readme.html", 700, '0') + 1024;
    for (int f = 6; f >= 0; f--) { /* the official archive's order is no rule */
        char name[64];
        size_t length = sizeof meta - 1;
        if (f == 6)
            memcpy(bytes, meta, length);
        else
            length = fill(bytes, f);
        snprintf(name, sizeof name, "cifar-10-batches-bin/%s", names[f]);
        for (int i = 0; i < (twice && f == 2 ? 2 : 1); i++) {
            at += put_header(at, name, length, f % 2 ? '0' : '\0');
            memcpy(at, bytes, length);
            at += (length + 511) / 512 * 512;
        }
    }
    at += 1024;
    *size = (size_t)(at - tar);
    return tar;
}

static void write_gzip(const char *path, const uint8_t *bytes, size_t size)
{
    gzFile file = gzopen(path, "wb6");
    assert_non_null(file);
    assert_int_equal(gzwrite(file, bytes, (unsigned)size), size);
    assert_int_equal(gzclose(file), Z_OK);
}

static void from_archive(void **state)
{
    const char *path = rdp_test_path("set.tar.gz");
    struct rdp_dataset_content content;
    size_t size;
    (void)state;
    uint8_t *tar = make_tar(&size, 0);
    write_gzip(path, tar, size);
    assert_int_equal(rdp_cifar_read(&content, path), RDP_OK);
    assert_content(&content, "plane");
    rdp_test_write(path, tar, size);
    expect_bad(path, "not compressed by gzip");
    write_gzip(path, tar, size - 1024); /* without the end of the archive */
    expect_bad(path, "truncated");
    tar[1] ^= 1;
    write_gzip(path, tar, size);
    expect_bad(path, "headers is damaged");
    tar[1] ^= 1;
    put_header(tar + 512, "data_batch_1.bin", (size_t)1 << 32, '0');
    write_gzip(path, tar, size);
    expect_bad(path, "at most");
    free(tar);
    tar = make_tar(&size, 1);
    write_gzip(path, tar, size);
    expect_bad(path, "twice");
    free(tar);
}

static void damaged_archives(void **state)
{
    const char *path = rdp_test_path("whole.tar.gz"), *bad = rdp_test_path("bad.tar.gz");
    uint32_t random = 31;
    size_t size;
    (void)state;
    uint8_t *tar = make_tar(&size, 0);
    write_gzip(path, tar, size);
    free(tar);
    uint8_t *bytes = rdp_test_read(path, &size);
    for (int i = 0; i < 120; i++) {
        size_t length = i < 20 ? (size_t)i : i < 40 ? size - (size_t)(i - 19) : rdp_test_random(&random) % size;
        rdp_test_write(bad, bytes, length);
        expect_bad(bad, bad);
    }
    rdp_test_write(bad, bytes, size);
    for (int i = 0; i < 200; i++) { /* the ten bytes of gzip's header hold a time and a system that nobody checks */
        size_t at = i < 8 ? size - 1 - (size_t)i : 10 + rdp_test_random(&random) % (size - 10);
        rdp_test_flip(bad, at, i % 8);
        expect_bad(bad, bad);
        rdp_test_flip(bad, at, i % 8);
    }
    free(bytes);
}

static void synthetic_is_a_function(void **state)
{
    struct rdp_dataset_content a, b, other;
    (void)state;
    assert_int_equal(rdp_synthetic_make(&a, 200, 50, 7), RDP_OK);
    assert_int_equal(rdp_synthetic_make(&b, 120, 60, 7), RDP_OK);
    assert_int_equal(rdp_synthetic_make(&other, 120, 60, (uint64_t)7 << 32), RDP_OK);
    /* An image does not depend on how many there are. */
    assert_memory_equal(a.images[0], b.images[0], 120 * RDP_IMAGE_BYTES);
    assert_memory_equal(a.images[1], b.images[1], 50 * RDP_IMAGE_BYTES);
    assert_memory_equal(a.labels[0], b.labels[0], 120);
    assert_memory_not_equal(a.images[0], a.images[1], RDP_IMAGE_BYTES);
    for (int i = 0; i < 60; i++)
        assert_memory_not_equal(b.images[0] + i * RDP_IMAGE_BYTES, other.images[0] + i * RDP_IMAGE_BYTES,
                                RDP_IMAGE_BYTES);
    /* The same bytes with every compiler, library and processor. */
    assert_int_equal(rdp_content_crc32c(&a), 0x294b8be0);
    assert_int_equal(a.classes, 10);
    rdp_content_free(&a);
    rdp_content_free(&b);
    rdp_content_free(&other);
    rdp_test_expect(rdp_synthetic_make(&a, 0, 5, 1), RDP_EUSAGE, "not possible");
    rdp_test_expect(rdp_synthetic_make(&a, 5, INT64_MAX, 1), RDP_EUSAGE, "not possible");
}

/* The simplest linear classifier: the class whose mean image is nearest. Chance is 10 %. */
static void synthetic_defeats_class_means(void **state)
{
    enum { TRAIN = 4000, TEST = 1000 };
    struct rdp_dataset_content content;
    double(*mean)[RDP_IMAGE_BYTES] = calloc(10, sizeof *mean);
    int right = 0, counts[10] = {0};
    (void)state;
    assert_int_equal(rdp_synthetic_make(&content, TRAIN, TEST, 1), RDP_OK);
    for (int i = 0; i < TRAIN; i++) {
        counts[content.labels[0][i]]++;
        for (int p = 0; p < RDP_IMAGE_BYTES; p++)
            mean[content.labels[0][i]][p] += content.images[0][(size_t)i * RDP_IMAGE_BYTES + (size_t)p] * 10.0 / TRAIN;
    }
    for (int c = 0; c < 10; c++)
        assert_int_equal(counts[c], TRAIN / 10);
    for (int i = 0; i < TEST; i++) {
        double least = 1e300;
        int nearest = -1;
        for (int c = 0; c < 10; c++) {
            double distance = 0;
            for (int p = 0; p < RDP_IMAGE_BYTES; p++) {
                double d = content.images[1][(size_t)i * RDP_IMAGE_BYTES + (size_t)p] - mean[c][p];
                distance += d * d;
            }
            if (distance < least) {
                least = distance;
                nearest = c;
            }
        }
        right += nearest == content.labels[1][i];
    }
    print_message("nearest class mean: %.1f %%\n", 100.0 * right / TEST);
    assert_true(right < TEST / 4);
    rdp_content_free(&content);
    free(mean);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(from_directory),
        cmocka_unit_test(bad_directories),
        cmocka_unit_test(from_archive),
        cmocka_unit_test(damaged_archives),
        cmocka_unit_test(synthetic_is_a_function),
        cmocka_unit_test(synthetic_defeats_class_means),
    };
    return cmocka_run_group_tests(tests, rdp_test_directory_make, rdp_test_directory_remove);
}
