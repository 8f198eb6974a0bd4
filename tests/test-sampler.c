/*
 * The way of the samples to the ranks, with 1 to 4 of them: who gets which sample in which step, and that the images
 * and labels that arrive are that sample's. Every image holds its row number in its pixels; labels ascend, as in a file
 * sorted by class. A second sampler, on one rank of its own, says what the order must be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "comm/comm.h"
#include "comm/launch.h"
#include "sampler.h"
#include "support_mpi.h"

enum { COUNT = 1003, WHOLE = 960, BATCH = 48, CLASSES = 10 };

static struct rdp_launch launch;
static struct rdp_comm *comm, *alone; /* all ranks; this one by itself */
static struct rdp_device *device;
static struct rdp_dataset *dataset;
static int64_t all_rows[COUNT];

static uint8_t pixel(int64_t row, int byte)
{
    return byte < 4 ? (uint8_t)(row >> 8 * byte) : (uint8_t)(row * 31 + byte);
}

static uint8_t label(int64_t row)
{
    return (uint8_t)(row * CLASSES / COUNT);
}

/* Rank 0 writes the file, all open it; then its name goes. */
static int write_dataset(const char *path)
{
    static struct rdp_dataset_content content = {
        .count = {COUNT, CLASSES}, .classes = CLASSES, .source = "test-sampler"};
    uint8_t *images = malloc((size_t)COUNT * RDP_IMAGE_BYTES), labels[COUNT];
    for (int64_t row = 0; row < COUNT; row++) {
        labels[row] = label(row);
        for (int byte = 0; byte < RDP_IMAGE_BYTES; byte++)
            images[row * RDP_IMAGE_BYTES + byte] = pixel(row, byte);
    }
    for (int k = 0; k < CLASSES; k++)
        snprintf(content.class_names[k], sizeof content.class_names[k], "class-%d", k);
    content.images[0] = content.images[1] = images;
    content.labels[0] = content.labels[1] = labels;
    int status = rdp_dataset_write(path, &content);
    free(images);
    return status;
}

static int set_up(void **unused)
{
    char directory[] = "/tmp/rdp-sampler-XXXXXX", path[64] = "";
    const struct rdp_device_config config = {.threads = 1};
    const struct rdp_launch lone = {.size = 1, .local_size = 1, .host_count = 1};
    int status = RDP_OK;
    (void)unused;
    if (comm->rank == 0) {
        status = mkdtemp(directory) == NULL ? rdp_fail(RDP_EIO, "cannot make %s", directory) : RDP_OK;
        snprintf(path, sizeof path, "%s/data.h5", directory);
        if (status == RDP_OK)
            status = write_dataset(path);
    }
    if (rdp_comm_agree(comm, status, "writing the test's data") != RDP_OK ||
        comm->ops->broadcast(comm, path, sizeof path, 0, "path") != RDP_OK)
        return 1;
    for (int64_t row = 0; row < COUNT; row++)
        all_rows[row] = row;
    status = rdp_dataset_open(&dataset, path);
    if (status == RDP_OK)
        status = rdp_comm_create(&alone, &lone);
    if (status == RDP_OK)
        status = rdp_cpu_device_open(&device, &config);
    status = rdp_comm_agree(comm, status, "opening the test's data");
    if (comm->rank == 0) {
        unlink(path);
        rmdir(directory);
    }
    return status != RDP_OK;
}

static int tear_down(void **unused)
{
    (void)unused;
    rdp_dataset_close(dataset);
    rdp_device_close(device);
    rdp_comm_destroy(alone);
    return 0;
}

static struct rdp_options options_of(enum rdp_shuffle shuffle)
{
    struct rdp_options options;
    rdp_options_default(&options);
    options.batch = BATCH;
    options.shuffle = shuffle;
    return options;
}

static struct rdp_sampler *make(const struct rdp_options *options, int64_t count, struct rdp_comm *ranks)
{
    struct rdp_sampler *sampler;
    assert_int_equal(rdp_sampler_create(&sampler, options, dataset, all_rows, count, ranks, device), RDP_OK);
    assert_int_equal(rdp_sampler_steps(sampler), count / BATCH);
    return sampler;
}

/* What a slice says its samples are, they are. */
static void check_content(const struct rdp_slice *slice)
{
    assert_int_equal(slice->count, BATCH / comm->size);
    for (int i = 0; i < slice->count; i++) {
        int64_t row = slice->samples[i];
        assert_in_range(row, 0, COUNT - 1);
        assert_int_equal(slice->labels[i], label(row));
        const uint8_t *image = slice->images + slice->rows[i] * RDP_IMAGE_BYTES;
        for (int byte = 0; byte < RDP_IMAGE_BYTES; byte++)
            if (image[byte] != pixel(row, byte))
                fail_msg("sample %lld, byte %d: %d, expected %d", (long long)row, byte, image[byte], pixel(row, byte));
    }
}

/* How often all ranks together used each sample in the epoch that was begun. */
static void count_uses(const struct rdp_sampler *sampler, int64_t uses[COUNT])
{
    memset(uses, 0, COUNT * sizeof *uses);
    for (int64_t step = 0; step < rdp_sampler_steps(sampler); step++) {
        struct rdp_slice slice = rdp_sampler_slice(sampler, step);
        check_content(&slice);
        for (int i = 0; i < slice.count; i++)
            uses[slice.samples[i]]++;
    }
    assert_int_equal(comm->ops->allreduce_i64(comm, uses, COUNT, RDP_SUM, "uses"), RDP_OK);
}

/* The order of one rank alone, cut into slices, is what each rank gets; epochs come in any order and again. */
static void test_order_is_that_of_one_rank(void **unused)
{
    static const int64_t epochs[] = {3, 0, 7, 3, 1};
    const struct rdp_options options = options_of(RDP_SHUFFLE_GLOBAL);
    struct rdp_sampler *sampler = make(&options, COUNT, comm), *lone = make(&options, COUNT, alone);
    (void)unused;
    for (size_t e = 0; e < sizeof epochs / sizeof *epochs; e++) {
        assert_int_equal(rdp_sampler_begin_epoch(sampler, epochs[e]), RDP_OK);
        assert_int_equal(rdp_sampler_begin_epoch(lone, epochs[e]), RDP_OK);
        for (int64_t step = 0; step < rdp_sampler_steps(sampler); step++) {
            struct rdp_slice mine = rdp_sampler_slice(sampler, step), whole = rdp_sampler_slice(lone, step);
            check_content(&mine);
            assert_int_equal(whole.count, BATCH);
            assert_memory_equal(mine.samples, whole.samples + comm->rank * mine.count,
                                (size_t)mine.count * sizeof *mine.samples);
        }
    }
    rdp_sampler_destroy(sampler);
    rdp_sampler_destroy(lone);
}

static void test_each_sample_once(void **unused)
{
    static int64_t uses[COUNT], left_out[COUNT];
    (void)unused;
    for (int shuffle = RDP_SHUFFLE_GLOBAL; shuffle <= (int)RDP_SHUFFLE_LOCAL; shuffle++) {
        const struct rdp_options options = options_of((enum rdp_shuffle)shuffle);
        struct rdp_sampler *sampler = make(&options, COUNT, comm);
        int64_t never = 0, more_than_once = 0;
        memset(left_out, 0, sizeof left_out);
        for (int64_t epoch = 0; epoch < 4; epoch++) {
            int64_t used = 0;
            assert_int_equal(rdp_sampler_begin_epoch(sampler, epoch), RDP_OK);
            count_uses(sampler, uses);
            for (int row = 0; row < COUNT; row++) {
                assert_in_range(uses[row], 0, 1);
                used += uses[row];
                left_out[row] += 1 - uses[row];
            }
            assert_int_equal(used, COUNT / BATCH * BATCH);
        }
        for (int row = 0; row < COUNT; row++) {
            never += left_out[row] == 4;
            more_than_once += left_out[row] > 1;
        }
        assert_int_equal(never, 0);
        assert_true(more_than_once < COUNT % BATCH); /* other ones each time */
        rdp_sampler_destroy(sampler);
    }
}

static int ascending(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

/* All of this rank's samples of the epoch, in the order of use. */
static void list_epoch(const struct rdp_sampler *sampler, int64_t *samples)
{
    int64_t n = 0;
    for (int64_t step = 0; step < rdp_sampler_steps(sampler); step++) {
        struct rdp_slice slice = rdp_sampler_slice(sampler, step);
        memcpy(samples + n, slice.samples, (size_t)slice.count * sizeof *samples);
        n += slice.count;
    }
}

static void test_local_keeps_its_samples(void **unused)
{
    static const int64_t epochs[] = {2, 0, 5, 2};
    static int64_t order[4][WHOLE], sorted[4][WHOLE], uses[COUNT];
    const struct rdp_options options = options_of(RDP_SHUFFLE_LOCAL);
    struct rdp_sampler *sampler = make(&options, WHOLE, comm);
    const size_t mine = WHOLE / (size_t)comm->size;
    (void)unused;
    for (int e = 0; e < 4; e++) {
        assert_int_equal(rdp_sampler_begin_epoch(sampler, epochs[e]), RDP_OK);
        count_uses(sampler, uses);
        for (int row = 0; row < COUNT; row++)
            assert_int_equal(uses[row], row < WHOLE);
        list_epoch(sampler, order[e]);
        memcpy(sorted[e], order[e], sizeof order[e]);
        qsort(sorted[e], mine, sizeof *sorted[e], ascending);
        assert_memory_equal(sorted[e], sorted[0], mine * sizeof *sorted[e]);
    }
    assert_memory_not_equal(order[0], order[1], mine * sizeof *order[0]);
    assert_memory_not_equal(order[1], order[2], mine * sizeof *order[0]);
    assert_memory_equal(order[0], order[3], mine * sizeof *order[0]); /* epoch 2 again */
    rdp_sampler_destroy(sampler);
}

/* The file is sorted by class, so a rank that kept the part that it read would see one or few classes. */
static void test_classes_are_mixed(void **unused)
{
    (void)unused;
    for (int shuffle = RDP_SHUFFLE_GLOBAL; shuffle <= (int)RDP_SHUFFLE_LOCAL; shuffle++) {
        const struct rdp_options options = options_of((enum rdp_shuffle)shuffle);
        struct rdp_sampler *sampler = make(&options, COUNT, comm);
        int seen[CLASSES] = {0}, classes = 0;
        assert_int_equal(rdp_sampler_begin_epoch(sampler, 0), RDP_OK);
        struct rdp_slice slice = rdp_sampler_slice(sampler, 0);
        for (int i = 0; i < slice.count; i++)
            classes += seen[slice.labels[i]]++ == 0;
        assert_true(classes >= 5);
        rdp_sampler_destroy(sampler);
    }
}

static void test_seed_and_epoch_matter(void **unused)
{
    static int64_t first[COUNT], other[COUNT];
    struct rdp_options options = options_of(RDP_SHUFFLE_GLOBAL);
    const size_t bytes = (size_t)(WHOLE / comm->size) * sizeof *first;
    struct rdp_sampler *sampler = make(&options, COUNT, comm);
    (void)unused;
    assert_int_equal(rdp_sampler_begin_epoch(sampler, 0), RDP_OK);
    list_epoch(sampler, first);
    assert_int_equal(rdp_sampler_begin_epoch(sampler, 1), RDP_OK);
    list_epoch(sampler, other);
    assert_memory_not_equal(first, other, bytes);
    rdp_sampler_destroy(sampler);
    options.seed++;
    sampler = make(&options, COUNT, comm);
    assert_int_equal(rdp_sampler_begin_epoch(sampler, 0), RDP_OK);
    list_epoch(sampler, other);
    assert_memory_not_equal(first, other, bytes);
    rdp_sampler_destroy(sampler);
}

/* Rows with gaps, as a validation split leaves them: samples are row numbers of the file. */
static void test_rows_of_a_split(void **unused)
{
    static int64_t uses[COUNT];
    const struct rdp_options options = options_of(RDP_SHUFFLE_GLOBAL);
    int64_t *training, *validation, training_count, validation_count, used = 0;
    struct rdp_sampler *sampler;
    (void)unused;
    assert_int_equal(rdp_sampler_split(5, COUNT, 0.2, &training, &training_count, &validation, &validation_count),
                     RDP_OK);
    assert_int_equal(rdp_sampler_create(&sampler, &options, dataset, training, training_count, comm, device), RDP_OK);
    assert_int_equal(rdp_sampler_begin_epoch(sampler, 0), RDP_OK);
    count_uses(sampler, uses);
    for (int64_t i = 0; i < training_count; i++)
        used += uses[training[i]];
    for (int64_t i = 0; i < validation_count; i++)
        assert_int_equal(uses[validation[i]], 0);
    assert_int_equal(used, training_count / BATCH * BATCH);
    free(training);
    free(validation);
    rdp_sampler_destroy(sampler);
}

static void test_split(void **unused)
{
    int64_t *training[3], *validation[3], training_count, validation_count;
    int seen[COUNT] = {0};
    static const uint64_t seeds[3] = {1, 1, 2};
    (void)unused;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(
            rdp_sampler_split(seeds[i], COUNT, 0.1, &training[i], &training_count, &validation[i], &validation_count),
            RDP_OK);
        assert_int_equal(validation_count, 100);
        assert_int_equal(training_count, COUNT - 100);
    }
    for (int64_t i = 0; i < training_count; i++) {
        assert_true(i == 0 || training[0][i] > training[0][i - 1]);
        seen[training[0][i]]++;
    }
    for (int64_t i = 0; i < validation_count; i++) {
        assert_true(i == 0 || validation[0][i] > validation[0][i - 1]);
        seen[validation[0][i]]++;
    }
    for (int row = 0; row < COUNT; row++)
        assert_int_equal(seen[row], 1);
    assert_memory_equal(validation[0], validation[1], 100 * sizeof **validation);
    assert_memory_not_equal(validation[0], validation[2], 100 * sizeof **validation);
    for (int i = 0; i < 3; i++) {
        free(training[i]);
        free(validation[i]);
    }
    assert_int_equal(rdp_sampler_split(1, COUNT, 0, &training[0], &training_count, &validation[0], &validation_count),
                     RDP_OK);
    assert_null(validation[0]);
    assert_int_equal(validation_count, 0);
    assert_int_equal(training_count, COUNT);
    assert_int_equal(training[0][COUNT - 1], COUNT - 1);
    free(training[0]);
}

/* The sampler is refused on every rank, and rank 0 says why. */
static void refuse(const struct rdp_options *options, int64_t count, const char *words)
{
    struct rdp_sampler *sampler = NULL;
    char said[1024];
    FILE *file = tmpfile();
    int terminal = dup(STDERR_FILENO);
    assert_non_null(file);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    int status = rdp_sampler_create(&sampler, options, dataset, all_rows, count, comm, device);
    fflush(stderr);
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    rewind(file);
    said[fread(said, 1, sizeof said - 1, file)] = '\0';
    fclose(file);
    assert_int_equal(status, RDP_EUSAGE);
    assert_null(sampler);
    if (comm->rank == 0 ? strstr(said, words) == NULL : said[0] != '\0')
        fail_msg("rank %d said: %s", comm->rank, said);
}

static void test_refusals(void **unused)
{
    struct rdp_options options = options_of(RDP_SHUFFLE_GLOBAL);
    (void)unused;
    options.batch = BATCH + 1;
    options.accumulate = comm->size == 1 ? 2 : 1;
    refuse(&options, COUNT, "is not a multiple of");
    options = options_of(RDP_SHUFFLE_GLOBAL);
    options.accumulate = 5;
    refuse(&options, COUNT, "5 micro-batches");
    options.accumulate = 1;
    options.batch = COUNT / 12 * 12 + 12;
    refuse(&options, COUNT, "is more than the 1003 training images");
    options.batch = BATCH;
    refuse(&options, comm->size - 1, comm->size == 1 ? "0 training images" : "every rank needs one");
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_is_that_of_one_rank),
        cmocka_unit_test(test_each_sample_once),
        cmocka_unit_test(test_local_keeps_its_samples),
        cmocka_unit_test(test_classes_are_mixed),
        cmocka_unit_test(test_seed_and_epoch_matter),
        cmocka_unit_test(test_rows_of_a_split),
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}

int main(int argc, char **argv)
{
    return rdp_test_mpi_main(argc, argv, &launch, &comm, run);
}
