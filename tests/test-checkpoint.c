/*
 * Checkpoints: what is written comes back, bit for bit; every truncation and every flipped bit is found; a failed write
 * leaves the old file; the newest whole one is taken; old ones go, best.h5 stays.
 */
#include <dirent.h>
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
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include "base/status.h"
#include "io/checkpoint.h"
#include "io/durable.h"
#include "io/hdf5.h"
#include "support_io.h"

/* A small network's worth of arrays, `large` floats in one of them. */
static struct rdp_checkpoint *make(int64_t large, int64_t step)
{
    static const char *const groups[3] = {"parameters", "momentum", "state"};
    struct rdp_checkpoint *checkpoint;
    uint32_t random = (uint32_t)step + 1;
    int64_t dims[4] = {3, 2, 5, 7};
    float *data;
    assert_int_equal(rdp_checkpoint_create(&checkpoint), RDP_OK);
    for (int i = 0; i < 12; i++) {
        char name[64];
        int rank = 1 + i % 4;
        snprintf(name, sizeof name, "layer%d.0.conv1.weight", i);
        assert_int_equal(rdp_checkpoint_add_array(checkpoint, groups[i % 3], name, rank, dims, &data), RDP_OK);
        int64_t elements = 1;
        for (int d = 0; d < rank; d++)
            elements *= dims[d];
        for (int64_t e = 0; e < elements; e++) {
            assert_true(data[e] == 0);
            data[e] = (float)rdp_test_random(&random) / 4294967296.0f - 0.5f;
        }
    }
    assert_int_equal(rdp_checkpoint_add_array(checkpoint, "parameters", "fc.weight", 2, (int64_t[]){large, 2}, &data),
                     RDP_OK);
    for (int64_t e = 0; e < 2 * large; e++)
        data[e] = (float)rdp_test_random(&random);
    data[0] = NAN;
    data[1] = -INFINITY;
    data[2] = 1e-45f; /* a denormal number */
    assert_int_equal(rdp_checkpoint_add_integer(checkpoint, "step", step), RDP_OK);
    assert_int_equal(rdp_checkpoint_add_integer(checkpoint, "seed", INT64_MIN), RDP_OK);
    assert_int_equal(rdp_checkpoint_add_real(checkpoint, "lr", 0.1), RDP_OK);
    assert_int_equal(rdp_checkpoint_add_real(checkpoint, "best", -NAN), RDP_OK);
    assert_int_equal(rdp_checkpoint_add_text(checkpoint, "recipe", "[training]\nbatch = 128\n# \xc3\xa4\n"), RDP_OK);
    assert_int_equal(rdp_checkpoint_add_text(checkpoint, "empty", ""), RDP_OK);
    return checkpoint;
}

static void assert_same(const struct rdp_checkpoint *a, const struct rdp_checkpoint *b)
{
    assert_int_equal(a->array_count, b->array_count);
    for (size_t i = 0; i < a->array_count; i++) { /* the same arrays; within a group in the same order */
        const struct rdp_checkpoint_array *x = &a->arrays[i], *y = rdp_checkpoint_array(b, x->group, x->name);
        size_t elements = 1;
        assert_non_null(y);
        assert_int_equal(x->dims_count, y->dims_count);
        for (int d = 0; d < x->dims_count; d++) {
            assert_int_equal(x->dims[d], y->dims[d]);
            elements *= (size_t)x->dims[d];
        }
        assert_memory_equal(x->data, y->data, elements * sizeof(float));
    }
    assert_int_equal(a->number_count, b->number_count);
    for (size_t i = 0; i < a->number_count; i++) {
        assert_string_equal(a->numbers[i].name, b->numbers[i].name);
        assert_int_equal(a->numbers[i].is_integer, b->numbers[i].is_integer);
        assert_int_equal(a->numbers[i].integer, b->numbers[i].integer);
        assert_memory_equal(&a->numbers[i].real, &b->numbers[i].real, sizeof(double));
    }
    assert_int_equal(a->text_count, b->text_count);
    for (size_t i = 0; i < a->text_count; i++) {
        assert_string_equal(a->texts[i].name, b->texts[i].name);
        assert_string_equal(a->texts[i].value, b->texts[i].value);
    }
}

static void write_one(const char *path, int64_t large, int64_t step)
{
    struct rdp_checkpoint *checkpoint = make(large, step);
    assert_int_equal(rdp_checkpoint_write(checkpoint, path), RDP_OK);
    rdp_checkpoint_destroy(checkpoint);
}

static void comes_back(void **state)
{
    static const int64_t sizes[] = {2, 1000, 400000}; /* one chunk, one chunk, several of a MiB */
    const char *path = rdp_test_path("one.h5"), *again = rdp_test_path("two.h5");
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct rdp_checkpoint *written = make(sizes[i], 42), *read;
        int64_t step;
        double lr;
        assert_int_equal(rdp_checkpoint_write(written, path), RDP_OK);
        assert_int_equal(rdp_checkpoint_read(&read, path), RDP_OK);
        assert_same(written, read);
        assert_int_equal(rdp_checkpoint_integer(read, "step", &step), RDP_OK);
        assert_int_equal(step, 42);
        assert_int_equal(rdp_checkpoint_real(read, "lr", &lr), RDP_OK);
        assert_true(lr == 0.1);
        assert_string_equal(rdp_checkpoint_text(read, "empty"), "");
        assert_null(rdp_checkpoint_text(read, "absent"));
        assert_null(rdp_checkpoint_array(read, "momentum", "fc.weight"));
        rdp_test_expect(rdp_checkpoint_integer(read, "absent", &step), RDP_EUSAGE, "absent");
        rdp_test_expect(rdp_checkpoint_integer(read, "lr", &step), RDP_EUSAGE, "real");
        rdp_test_expect(rdp_checkpoint_real(read, "step", &lr), RDP_EUSAGE, "integer");
        rdp_checkpoint_destroy(read);
        /* One state, one sequence of bytes. */
        size_t size, other;
        assert_int_equal(rdp_checkpoint_write(written, again), RDP_OK);
        uint8_t *a = rdp_test_read(path, &size), *b = rdp_test_read(again, &other);
        assert_int_equal(size, other);
        assert_memory_equal(a, b, size);
        free(a);
        free(b);
        rdp_checkpoint_destroy(written);
    }
}

static void many_of_each(void **state)
{
    const char *path = rdp_test_path("many.h5");
    struct rdp_checkpoint *written, *read;
    float *data;
    char name[32], *recipe = malloc(200001);
    (void)state;
    memset(recipe, 'r', 200000);
    recipe[200000] = '\0';
    assert_int_equal(rdp_checkpoint_create(&written), RDP_OK);
    for (int i = 0; i < 400; i++) {
        snprintf(name, sizeof name, "item %d", 1000 - i); /* neither alphabetical nor by size */
        assert_int_equal(rdp_checkpoint_add_array(written, "parameters", name, 1, (int64_t[]){1 + i % 3}, &data),
                         RDP_OK);
        assert_int_equal(rdp_checkpoint_add_integer(written, name, i), RDP_OK);
    }
    assert_int_equal(rdp_checkpoint_add_text(written, "recipe", recipe), RDP_OK); /* more than an attribute can hold */
    assert_int_equal(rdp_checkpoint_write(written, path), RDP_OK);
    assert_int_equal(rdp_checkpoint_read(&read, path), RDP_OK);
    assert_same(written, read);
    for (int i = 0; i < 400; i++)
        assert_string_equal(written->arrays[i].name, read->arrays[i].name);
    rdp_checkpoint_destroy(read);
    rdp_checkpoint_destroy(written);
    assert_int_equal(rdp_checkpoint_create(&written), RDP_OK); /* an empty one is one too */
    assert_int_equal(rdp_checkpoint_write(written, path), RDP_OK);
    assert_int_equal(rdp_checkpoint_read(&read, path), RDP_OK);
    assert_int_equal(read->array_count + read->number_count + read->text_count, 0);
    rdp_checkpoint_destroy(read);
    rdp_checkpoint_destroy(written);
    free(recipe);
}

static void bad_calls(void **state)
{
    struct rdp_checkpoint *checkpoint;
    float *data;
    char endless[200];
    int64_t one = 1, none = 0, huge[4] = {INT64_MAX, 4, 4, 4};
    (void)state;
    memset(endless, 'n', sizeof endless);
    endless[199] = '\0';
    assert_int_equal(rdp_checkpoint_create(&checkpoint), RDP_OK);
    rdp_test_expect(rdp_checkpoint_add_array(checkpoint, "g", "", 1, &one, &data), RDP_EINTERNAL, "cannot name");
    rdp_test_expect(rdp_checkpoint_add_array(checkpoint, "g", "a/b", 1, &one, &data), RDP_EINTERNAL, "cannot name");
    rdp_test_expect(rdp_checkpoint_add_array(checkpoint, ".", "a", 1, &one, &data), RDP_EINTERNAL, "cannot name");
    rdp_test_expect(rdp_checkpoint_add_array(checkpoint, "g", endless, 1, &one, &data), RDP_EINTERNAL, "cannot name");
    rdp_test_expect(rdp_checkpoint_add_array(checkpoint, "g", "a", 0, &one, &data), RDP_EINTERNAL, "dimensions");
    rdp_test_expect(rdp_checkpoint_add_array(checkpoint, "g", "a", 5, &one, &data), RDP_EINTERNAL, "dimensions");
    rdp_test_expect(rdp_checkpoint_add_array(checkpoint, "g", "a", 1, &none, &data), RDP_EINTERNAL, "extent");
    rdp_test_expect(rdp_checkpoint_add_array(checkpoint, "g", "a", 4, huge, &data), RDP_EINTERNAL, "extent");
    assert_int_equal(rdp_checkpoint_add_array(checkpoint, "g", "a", 1, &one, &data), RDP_OK);
    rdp_test_expect(rdp_checkpoint_add_array(checkpoint, "g", "a", 1, &one, &data), RDP_EINTERNAL, "already");
    assert_int_equal(rdp_checkpoint_add_array(checkpoint, "h", "a", 1, &one, &data), RDP_OK);
    assert_int_equal(rdp_checkpoint_add_integer(checkpoint, "n", 1), RDP_OK);
    rdp_test_expect(rdp_checkpoint_add_real(checkpoint, "n", 1), RDP_EINTERNAL, "already");
    assert_int_equal(rdp_checkpoint_add_text(checkpoint, "t", "x"), RDP_OK);
    rdp_test_expect(rdp_checkpoint_add_text(checkpoint, "t", "y"), RDP_EINTERNAL, "already");
    rdp_checkpoint_destroy(checkpoint);
    rdp_checkpoint_destroy(NULL);
}

static void expect_bad(const char *path, const char *words)
{
    struct rdp_checkpoint *checkpoint;
    rdp_test_expect(rdp_checkpoint_read(&checkpoint, path), RDP_EUSAGE, words);
    assert_null(checkpoint);
}

static void truncations(void **state)
{
    const char *path = rdp_test_path("whole.h5"), *cut = rdp_test_path("cut.h5");
    uint32_t random = 5;
    size_t size;
    (void)state;
    write_one(path, 5000, 1);
    uint8_t *bytes = rdp_test_read(path, &size);
    for (int i = 0; i < 250; i++) { /* all of the superblock, all of the trailer, and between */
        size_t length = i < 64 ? (size_t)i : i < 100 ? size - (size_t)(i - 63) : rdp_test_random(&random) % size;
        rdp_test_write(cut, bytes, length);
        expect_bad(cut, cut);
    }
    rdp_test_write(cut, bytes, size / 2);
    expect_bad(cut, "truncated");
    rdp_test_write(cut, bytes, size - 24); /* a whole HDF5 file without the trailer */
    expect_bad(cut, "truncated");
    bytes[size] = 0;
    rdp_test_write(cut, bytes, size + 1);
    expect_bad(cut, "does not end as a checkpoint does");
    free(bytes);
}

static void flips(void **state)
{
    const char *path = rdp_test_path("flips.h5");
    uint32_t random = 77;
    size_t size;
    (void)state;
    write_one(path, 500, 1);
    free(rdp_test_read(path, &size));
    for (size_t at = 0; at < size; at += at < 64 || at + 24 >= size ? 1 : 1 + rdp_test_random(&random) % 40) {
        if (at < size - 24 && at + 40 >= size)
            at = size - 24; /* the whole trailer */
        rdp_test_flip(path, at, (int)(at % 8));
        expect_bad(path, path);
        rdp_test_flip(path, at, (int)(at % 8));
    }
    struct rdp_checkpoint *checkpoint;
    assert_int_equal(rdp_checkpoint_read(&checkpoint, path), RDP_OK);
    rdp_checkpoint_destroy(checkpoint);
}

/* Gives a file a trailer whose CRC is right, as a stranger would who wants HDF5 to parse it. */
static void write_with_trailer(const char *path, const uint8_t *image, size_t size)
{
    uint8_t trailer[24] = "RDPCKPT\n";
    struct rdp_bytes pieces[2] = {{image, size}, {trailer, 24}};
    for (int i = 0; i < 8; i++)
        trailer[8 + i] = (uint8_t)((uint64_t)size >> 8 * i);
    trailer[16] = 1;
    uint32_t crc = rdp_crc32c(rdp_crc32c(0, image, size), trailer, 20);
    for (int i = 0; i < 4; i++)
        trailer[20 + i] = (uint8_t)(crc >> 8 * i);
    assert_int_equal(rdp_durable_write(path, pieces, 2), RDP_OK);
}

/* Damage below a right CRC: HDF5's own checksums and our checks of the form must hold it. No crash is the point; what
 * survives must be readable as a checkpoint. */
static void flips_below_a_right_crc(void **state)
{
    const char *path = rdp_test_path("forged.h5");
    uint32_t random = 4242;
    size_t size;
    (void)state;
    write_one(path, 500, 1);
    uint8_t *bytes = rdp_test_read(path, &size);
    size -= 24;
    for (int i = 0; i < 600; i++) {
        size_t at = i < 300 ? (size_t)i * 3 : rdp_test_random(&random) % size;
        struct rdp_checkpoint *checkpoint;
        bytes[at] ^= (uint8_t)(1 << i % 8);
        write_with_trailer(path, bytes, size);
        int status = rdp_checkpoint_read(&checkpoint, path);
        assert_true(status == RDP_OK || status == RDP_EUSAGE);
        rdp_checkpoint_destroy(checkpoint);
        rdp_fail_clear();
        bytes[at] ^= (uint8_t)(1 << i % 8);
    }
    free(bytes);
}

/* Well-formed files of another form below a right trailer. */
enum variant {
    GOOD,
    OTHER_FORMAT,
    NEW_VERSION,
    NO_TEXTS,
    EXTRA_GROUP,
    SOFT_LINK,
    DOUBLE_ARRAY,
    NO_CHECKSUM,
    I32_NUMBER,
    DEEP_GROUP,
    VARIANTS
};

static void stranger(const char *path, enum variant variant)
{
    struct rdp_h5_image image;
    hid_t file, arrays, group;
    int32_t version = variant == NEW_VERSION ? 2 : 1;
    hsize_t four = 4;
    double data[4] = {1, 2, 3, 4};
    assert_int_equal(rdp_h5_create(&image, 1 << 20, path, &file), RDP_OK);
    rdp_h5_write_text(file, "format", variant == OTHER_FORMAT ? "other" : "resnet-dp-checkpoint", path);
    rdp_h5_write_numbers(file, "format_version", H5T_STD_I32LE, 0, &version, path);
    rdp_h5_create_group(file, "arrays", path, &arrays);
    rdp_h5_create_group(arrays, "parameters", path, &group);
    if (variant == DOUBLE_ARRAY)
        rdp_h5_write_array(group, "w", H5T_IEEE_F64LE, 1, &four, &four, data, path);
    if (variant == SOFT_LINK)
        H5Lcreate_soft("/numbers", group, "w", H5P_DEFAULT, H5P_DEFAULT);
    if (variant == DEEP_GROUP) {
        hid_t deep;
        rdp_h5_create_group(group, "w", path, &deep);
        H5Gclose(deep);
    }
    if (variant == NO_CHECKSUM) {
        hid_t space = H5Screate_simple(1, &four, NULL);
        H5Dclose(H5Dcreate2(group, "w", H5T_IEEE_F32LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Sclose(space);
    }
    H5Gclose(group);
    H5Gclose(arrays);
    rdp_h5_create_group(file, "numbers", path, &group);
    if (variant == I32_NUMBER)
        rdp_h5_write_numbers(group, "n", H5T_STD_I32LE, 0, &version, path);
    H5Gclose(group);
    for (int i = variant == NO_TEXTS ? 1 : 0; i < (variant == EXTRA_GROUP ? 2 : 1); i++) {
        rdp_h5_create_group(file, i == 0 ? "texts" : "more", path, &group);
        H5Gclose(group);
    }
    assert_int_equal(rdp_h5_finish(&image, path, file), RDP_OK);
    write_with_trailer(path, image.bytes, image.size);
    free(image.bytes);
}

static void strangers(void **state)
{
    const char *path = rdp_test_path("stranger.h5");
    struct rdp_checkpoint *checkpoint;
    int is_checkpoint;
    (void)state;
    for (int variant = GOOD; variant < VARIANTS; variant++) {
        stranger(path, (enum variant)variant);
        int status = rdp_checkpoint_read(&checkpoint, path);
        if (status != (variant == GOOD ? RDP_OK : RDP_EUSAGE))
            fail_msg("variant %d gives %d: %s", variant, status, rdp_fail_message());
        rdp_checkpoint_destroy(checkpoint);
        rdp_fail_clear();
    }
    expect_bad(rdp_test_path("no-such-file.h5"), "No such file");
    rdp_test_write(path, "no HDF5", 7);
    expect_bad(path, "not a checkpoint");
    rdp_test_expect(rdp_checkpoint_recognise(path, &is_checkpoint), RDP_EUSAGE, "data set or checkpoint");
    write_one(path, 10, 1);
    assert_int_equal(rdp_checkpoint_recognise(path, &is_checkpoint), RDP_OK);
    assert_true(is_checkpoint);
}

/* In a directory of its own; `name` relative to it. */
static const char *in_run(const char *run, const char *name)
{
    char path[1024];
    snprintf(path, sizeof path, "%s/%s", run, name);
    return rdp_test_path(path);
}

static int count_files(const char *path)
{
    int count = 0;
    DIR *stream = opendir(path);
    assert_non_null(stream);
    for (struct dirent *item; (item = readdir(stream)) != NULL;)
        count += item->d_name[0] != '.' || strstr(item->d_name, ".tmp.") != NULL;
    closedir(stream);
    return count;
}

static void failed_write_leaves_the_old(void **state)
{
    struct rlimit before, limit;
    struct rdp_checkpoint *checkpoint = make(100000, 2);
    (void)state;
    assert_int_equal(rdp_make_directory(rdp_test_path("full")), RDP_OK);
    const char *path = in_run("full", "best.h5");
    write_one(path, 10, 1);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    signal(SIGXFSZ, SIG_IGN);
    for (rlim_t bytes = 0; bytes < 500000; bytes += 99999) {
        limit.rlim_cur = bytes;
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
        int status = rdp_checkpoint_write(checkpoint, path);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        rdp_test_expect(status, RDP_EIO, "write failed");
        assert_int_equal(count_files(rdp_test_path("full")), 1);
        struct rdp_checkpoint *old;
        int64_t step;
        assert_int_equal(rdp_checkpoint_read(&old, path), RDP_OK);
        assert_int_equal(rdp_checkpoint_integer(old, "step", &step), RDP_OK);
        assert_int_equal(step, 1);
        rdp_checkpoint_destroy(old);
    }
    rdp_checkpoint_destroy(checkpoint);
}

static const char *step_path(const char *run, int64_t epoch, int64_t step)
{
    static char path[4096];
    assert_int_equal(rdp_checkpoint_path(path, sizeof path, rdp_test_path(run), epoch, step), RDP_OK);
    return path;
}

static void newest(void **state)
{
    struct rdp_checkpoint *checkpoint;
    char path[4096], small[8];
    int64_t step;
    (void)state;
    rdp_test_expect(rdp_checkpoint_path(small, sizeof small, "directory", 1, 1), RDP_EUSAGE, "too long");
    assert_int_equal(rdp_checkpoint_read_newest(&checkpoint, rdp_test_path("absent"), path, sizeof path), RDP_OK);
    assert_null(checkpoint);
    assert_int_equal(rdp_make_directory(rdp_test_path("run")), RDP_OK);
    rdp_test_write(in_run("run", "ckpt-e1-s2.h5.old"), "x", 1);
    rdp_test_write(in_run("run", "ckpt-e-s.h5"), "x", 1);
    assert_int_equal(rdp_checkpoint_read_newest(&checkpoint, rdp_test_path("run"), path, sizeof path), RDP_OK);
    assert_null(checkpoint);
    /* The third's number has one digit more: newer as a number, older as a text. */
    write_one(step_path("run", 1, 100), 10, 100);
    assert_non_null(strstr(step_path("run", 1, 100), "/ckpt-e0001-s0000100.h5"));
    write_one(step_path("run", 2, 9999999), 10, 9999999);
    write_one(step_path("run", 3, 10000000), 10, 10000000);
    assert_int_equal(rdp_checkpoint_read_newest(&checkpoint, rdp_test_path("run"), path, sizeof path), RDP_OK);
    assert_int_equal(rdp_checkpoint_integer(checkpoint, "step", &step), RDP_OK);
    assert_int_equal(step, 10000000);
    assert_string_equal(path, step_path("run", 3, 10000000));
    rdp_checkpoint_destroy(checkpoint);
    rdp_test_flip(step_path("run", 3, 10000000), 3000, 1);
    assert_int_equal(truncate(step_path("run", 2, 9999999), 1000), 0);
    assert_int_equal(rdp_checkpoint_read_newest(&checkpoint, rdp_test_path("run"), path, sizeof path), RDP_OK);
    assert_int_equal(rdp_checkpoint_integer(checkpoint, "step", &step), RDP_OK);
    assert_int_equal(step, 100);
    assert_string_equal(path, step_path("run", 1, 100));
    assert_string_equal(rdp_fail_message(), "");
    rdp_checkpoint_destroy(checkpoint);
    rdp_test_flip(step_path("run", 1, 100), 3000, 1);
    rdp_test_expect(rdp_checkpoint_read_newest(&checkpoint, rdp_test_path("run"), path, sizeof path), RDP_EUSAGE,
                    "none of the 3");
    assert_null(checkpoint);
}

/* The number of a process that has just ended. */
static long dead_process(void)
{
    pid_t child = fork();
    if (child == 0)
        _exit(0);
    assert_true(child > 0);
    assert_int_equal(waitpid(child, NULL, 0), child);
    return child;
}

static void prune(void **state)
{
    static const char *const kept[] = {"best.h5", "ckpt-e0001-s0000004.h5", "ckpt-e0001-s0000005.h5", "notes.txt",
                                       NULL};
    char stale[5][128];
    struct stat info;
    (void)state;
    assert_int_equal(rdp_checkpoint_prune(rdp_test_path("nowhere"), 2), RDP_OK);
    assert_int_equal(rdp_make_directory(rdp_test_path("old")), RDP_OK);
    for (int64_t step = 1; step <= 5; step++)
        rdp_test_write(step_path("old", 1, step), "x", 1);
    rdp_test_write(in_run("old", "best.h5"), "x", 1);
    rdp_test_write(in_run("old", "notes.txt"), "x", 1);
    long dead = dead_process();
    snprintf(stale[0], sizeof stale[0], ".ckpt-e0001-s0000006.h5.tmp.%ld", dead);
    snprintf(stale[1], sizeof stale[1], ".best.h5.tmp.%ld", dead);
    snprintf(stale[2], sizeof stale[2], ".best.h5.tmp.%ld", (long)getppid()); /* alive */
    snprintf(stale[3], sizeof stale[3], ".notes.txt.tmp.%ld", dead);          /* not a checkpoint's */
    snprintf(stale[4], sizeof stale[4], ".best.h5.tmp.%ldx", dead);           /* not a number */
    for (int i = 0; i < 5; i++)
        rdp_test_write(in_run("old", stale[i]), "x", 1);
    assert_int_equal(rdp_checkpoint_prune(rdp_test_path("old"), 0), RDP_OK);
    assert_int_equal(count_files(rdp_test_path("old")), 7 + 3);
    for (int i = 0; i < 5; i++)
        assert_int_equal(stat(in_run("old", stale[i]), &info) == 0, i >= 2);
    assert_int_equal(rdp_checkpoint_prune(rdp_test_path("old"), 2), RDP_OK);
    for (int i = 0; kept[i] != NULL; i++)
        assert_int_equal(stat(in_run("old", kept[i]), &info), 0);
    assert_int_equal(count_files(rdp_test_path("old")), 4 + 3);
    assert_int_equal(rdp_checkpoint_prune(rdp_test_path("old"), 9), RDP_OK);
    assert_int_equal(count_files(rdp_test_path("old")), 4 + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(comes_back), cmocka_unit_test(many_of_each),
        cmocka_unit_test(bad_calls),  cmocka_unit_test(truncations),
        cmocka_unit_test(flips),      cmocka_unit_test(flips_below_a_right_crc),
        cmocka_unit_test(strangers),  cmocka_unit_test(failed_write_leaves_the_old),
        cmocka_unit_test(newest),     cmocka_unit_test(prune),
    };
    return cmocka_run_group_tests(tests, rdp_test_directory_make, rdp_test_directory_remove);
}
