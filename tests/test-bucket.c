/* Gradient buckets: their limits, the order in which they start, and that overlap changes neither bits nor
 * completeness. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "comm/bucket.h"
#include "comm/comm.h"
#include "comm/launch.h"
#include "comm/reducer.h"
#include "support_mpi.h"

static struct rdp_launch launch;
static struct rdp_comm *comm;
static struct rdp_reducer *reducer;

static int open_reducer(void **unused)
{
    struct rdp_reducer_config config = {.kind = RDP_REDUCER_AUTO};
    (void)unused;
    return rdp_reducer_create(&reducer, comm, &config);
}

static int close_reducer(void **unused)
{
    (void)unused;
    rdp_reducer_destroy(reducer);
    return 0;
}

/* Parameters as a small network has them: large and tiny ones, ending where the next begins. */
static const size_t boundaries[] = {10, 650, 714, 37578, 37642, 37706, 111434, 111562, 111690, 111690, 120000};
enum { BOUNDARIES = sizeof boundaries / sizeof *boundaries, COUNT = 120000 };

static int is_boundary(size_t offset)
{
    for (size_t i = 0; i < BOUNDARIES; i++)
        if (boundaries[i] == offset)
            return 1;
    return 0;
}

static void test_ranges(void **unused)
{
    static const size_t sizes[] = {0, 1, 4, 4000, 40000, 200000, 1 << 30};
    float *gradients = calloc(COUNT, sizeof *gradients);

    (void)unused;
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        struct rdp_buckets *buckets;
        size_t expected_begin = 0;
        assert_int_equal(
            rdp_buckets_create(&buckets, reducer, gradients, COUNT, boundaries, BOUNDARIES, sizes[s], true), RDP_OK);
        size_t count = rdp_buckets_count(buckets);
        for (size_t i = 0; i < count; i++) {
            size_t begin, end;
            rdp_buckets_range(buckets, i, &begin, &end);
            assert_int_equal(begin, expected_begin);
            assert_true(end > begin);
            assert_true(is_boundary(end));
            if (i + 1 < count)
                assert_true((end - begin) * sizeof(float) >= sizes[s]);
            expected_begin = end;
        }
        assert_int_equal(expected_begin, COUNT);
        if (sizes[s] == 0 || sizes[s] == 1 << 30)
            assert_int_equal(count, 1);
        if (sizes[s] == 4)
            assert_int_equal(count, BOUNDARIES - 1); /* one boundary is there twice */
        rdp_buckets_destroy(buckets);
    }
    free(gradients);
}

static void fill(float *gradients, size_t begin, size_t end)
{
    unsigned seed = 99u * (unsigned)(comm->rank + 1) + (unsigned)begin;
    for (size_t i = begin; i < end; i++) {
        seed = seed * 1664525u + 1013904223u;
        gradients[i] = (float)(seed >> 8) * 1e-3f;
    }
}

/* A backward pass: gradients appear piece by piece, each announced. Before its announcement a piece holds rubbish,
 * which the sum would show if a bucket started early. */
static void run_step(float *gradients, size_t bucket_bytes, bool overlap, double *exposed)
{
    struct rdp_buckets *buckets;

    assert_int_equal(
        rdp_buckets_create(&buckets, reducer, gradients, COUNT, boundaries, BOUNDARIES, bucket_bytes, overlap), RDP_OK);
    for (int step = 0; step < 3; step++) {
        memset(gradients, 0xff, COUNT * sizeof *gradients);
        rdp_buckets_begin_step(buckets);
        size_t begin = 0;
        for (size_t i = 0; i < BOUNDARIES; i++) {
            fill(gradients, begin, boundaries[i]);
            assert_int_equal(rdp_buckets_ready(buckets, boundaries[i]), RDP_OK);
            assert_int_equal(rdp_buckets_progress(buckets), RDP_OK);
            begin = boundaries[i];
        }
        double before = *exposed;
        assert_int_equal(rdp_buckets_finish(buckets, exposed), RDP_OK);
        assert_true(*exposed >= before);
    }
    rdp_buckets_destroy(buckets);
}

static void test_overlap_gives_same_bits(void **unused)
{
    float *reference = malloc(COUNT * sizeof *reference), *gradients = malloc(COUNT * sizeof *gradients);
    float *rank0 = malloc(COUNT * sizeof *rank0);
    static const size_t sizes[] = {0, 4, 4000, 200000};
    double exposed = 0;

    (void)unused;
    run_step(reference, 0, false, &exposed);
    /* The sum itself, in the order of the ranks. */
    int self = comm->rank;
    float *sum = calloc(COUNT, sizeof *sum), *part = malloc(COUNT * sizeof *part);
    for (int rank = 0; rank < comm->size; rank++) {
        comm->rank = rank;
        for (size_t i = 0, begin = 0; i < BOUNDARIES; begin = boundaries[i++])
            fill(part, begin, boundaries[i]);
        for (size_t i = 0; i < COUNT; i++)
            sum[i] = rank == 0 ? part[i] : sum[i] + part[i];
    }
    comm->rank = self;
    assert_memory_equal(sum, reference, COUNT * sizeof *sum);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++)
        for (int overlap = 0; overlap < 2; overlap++) {
            run_step(gradients, sizes[s], overlap, &exposed);
            assert_memory_equal(gradients, reference, COUNT * sizeof *gradients);
        }
    memcpy(rank0, gradients, COUNT * sizeof *gradients);
    assert_int_equal(comm->ops->broadcast(comm, rank0, COUNT * sizeof *rank0, 0, "comparison"), RDP_OK);
    assert_memory_equal(rank0, gradients, COUNT * sizeof *gradients);
    assert_true(exposed >= 0);
    free(sum);
    free(part);
    free(reference);
    free(gradients);
    free(rank0);
}

static void test_misuse(void **unused)
{
    struct rdp_buckets *buckets;
    float gradients[8] = {0};
    size_t ends[2] = {3, 8}, wrong_end[1] = {7}, falling[3] = {5, 3, 8};
    double exposed = 0;

    (void)unused;
    assert_int_equal(rdp_buckets_create(&buckets, reducer, gradients, 8, wrong_end, 1, 4, true), RDP_EINTERNAL);
    assert_null(buckets);
    assert_int_equal(rdp_buckets_create(&buckets, reducer, gradients, 8, falling, 3, 4, true), RDP_EINTERNAL);
    rdp_fail_clear();
    assert_int_equal(rdp_buckets_create(&buckets, reducer, gradients, 8, ends, 2, 4, true), RDP_OK);
    assert_int_equal(rdp_buckets_ready(buckets, 3), RDP_EINTERNAL);
    assert_int_equal(rdp_buckets_progress(buckets), RDP_EINTERNAL);
    assert_int_equal(rdp_buckets_finish(buckets, &exposed), RDP_EINTERNAL);
    rdp_buckets_begin_step(buckets);
    assert_int_equal(rdp_buckets_ready(buckets, 3), RDP_OK);
    assert_int_equal(rdp_buckets_ready(buckets, 2), RDP_EINTERNAL);
    assert_int_equal(rdp_buckets_ready(buckets, 9), RDP_EINTERNAL);
    assert_int_equal(rdp_buckets_finish(buckets, &exposed), RDP_OK);
    assert_int_equal(rdp_buckets_finish(buckets, &exposed), RDP_EINTERNAL);
    rdp_fail_clear();
    rdp_buckets_destroy(buckets);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_overlap_gives_same_bits),
        cmocka_unit_test(test_misuse),
    };
    return cmocka_run_group_tests(tests, open_reducer, close_reducer);
}

int main(int argc, char **argv)
{
    return rdp_test_mpi_main(argc, argv, &launch, &comm, run);
}
