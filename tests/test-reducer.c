/*
 * The data plane on host memory, on as many ranks as it is started with: sums compared by == on integers in floats, all
 * ranks' bits against each other on random floats, and what is refused.
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

static float random_float(unsigned *seed)
{
    *seed = *seed * 1664525u + 1013904223u;
    return ((float)(*seed >> 8) / (float)(1 << 24) - 0.5f) * (float)(1 << (*seed % 12));
}

/* Every rank's copy must be rank 0's, byte for byte. */
static void assert_same_everywhere(const void *data, size_t bytes)
{
    char *all = comm->rank == 0 ? malloc(bytes * (size_t)comm->size) : NULL;
    assert_int_equal(comm->ops->gather(comm, data, bytes, all, 0, "comparison"), RDP_OK);
    for (int rank = 1; comm->rank == 0 && rank < comm->size; rank++)
        assert_memory_equal(all, all + (size_t)rank * bytes, bytes);
    free(all);
}

static void test_choice(void **unused)
{
    static const enum rdp_reducer_kind kinds[] = {RDP_REDUCER_AUTO, RDP_REDUCER_MPI};

    (void)unused;
    for (int k = 0; k < 2; k++) {
        struct rdp_reducer_config config = {.kind = kinds[k], .timeout_seconds = 60};
        struct rdp_reducer *chosen;
        assert_int_equal(rdp_reducer_create(&chosen, comm, &config), RDP_OK);
        assert_string_equal(chosen->ops->name, comm->size == 1 ? "self" : "mpi");
        assert_int_equal(chosen->description[0] == '\0', comm->size == 1);
        assert_ptr_equal(chosen->comm, comm);
        assert_int_equal(chosen->ops->check(chosen, 1e9), RDP_OK); /* nothing of it runs on a device */
        rdp_reducer_destroy(chosen);
    }
    rdp_reducer_destroy(NULL);
}

/* Runs create with stderr in a file; what this rank printed is in `printed`. */
static int create_captured(const struct rdp_reducer_config *config, char *printed, size_t size)
{
    struct rdp_reducer *refused = reducer;
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);

    assert_non_null(file);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    int status = rdp_reducer_create(&refused, comm, config);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    printed[fread(printed, 1, size - 1, file)] = '\0';
    fclose(file);
    assert_null(refused);
    return status;
}

/* NCCL for arrays on the host: an error on all ranks, said once. */
static void test_nccl_refused(void **unused)
{
    char printed[1024];

    (void)unused;
    for (int shared = 0; shared < 2; shared++) {
        struct rdp_reducer_config config = {.kind = RDP_REDUCER_NCCL, .shared_device = shared};
        assert_int_equal(create_captured(&config, printed, sizeof printed), RDP_EUSAGE);
        assert_int_equal(strstr(printed, "--comm nccl") != NULL, comm->rank == 0);
        assert_int_equal(strstr(printed, "--comm mpi") != NULL, comm->rank == 0);
        assert_int_equal(printed[0] != '\0', comm->rank == 0);
        assert_string_equal(rdp_fail_message(), "");
    }
    assert_true(rdp_nccl_version()[0] == 'N' || strcmp(rdp_nccl_version(), "not in this build") == 0);
}

struct countdown {
    int polls, status;
};

static int count_down(void *context, bool *idle)
{
    struct countdown *countdown = context;
    *idle = countdown->polls-- == 0;
    return *idle ? countdown->status : RDP_OK;
}

static void test_wait_for_device(void **unused)
{
    struct countdown none = {0, RDP_OK}, some = {200, RDP_OK}, broken = {3, RDP_EDEVICE};

    (void)unused;
    assert_int_equal(rdp_reducer_wait_device(reducer, count_down, &none, "the step"), RDP_OK);
    assert_int_equal(none.polls, -1);
    assert_int_equal(rdp_reducer_wait_device(reducer, count_down, &some, "the step"), RDP_OK);
    assert_int_equal(some.polls, -1);
    assert_int_equal(rdp_reducer_wait_device(reducer, count_down, &broken, "the step"), RDP_EDEVICE);
}

/* Lengths around the segment and vector limits, long ones that MPI sends by rendezvous, and none at all. */
static const size_t lengths[] = {0, 1, 2, 3, 15, 16, 17, 63, 64, 65, 1000, 4096, 100003, 1048576};
enum { LENGTHS = sizeof lengths / sizeof *lengths, GUARD = 16 };

static void test_exact_sums(void **unused)
{
    (void)unused;
    for (size_t l = 0; l < LENGTHS; l++) {
        size_t count = lengths[l];
        float *data = malloc((count + 2 * GUARD) * sizeof *data);
        struct rdp_request request;

        for (size_t i = 0; i < count + 2 * GUARD; i++)
            data[i] = (float)((i % 1000) * (size_t)(comm->rank + 1));
        assert_int_equal(reducer->ops->begin(reducer, data + GUARD, count, "sum", &request), RDP_OK);
        assert_int_equal(reducer->ops->wait(reducer, &request, "sum"), RDP_OK);
        float ranks = (float)(comm->size * (comm->size + 1) / 2);
        for (size_t i = 0; i < count + 2 * GUARD; i++) {
            int guard = i < GUARD || i >= GUARD + count;
            float expected = (float)(i % 1000) * (guard ? (float)(comm->rank + 1) : ranks);
            if (data[i] != expected)
                fail_msg("length %zu, element %zu: %g, expected %g", count, i, (double)data[i], (double)expected);
        }
        /* Asked again, a finished request is finished. */
        int done = 0;
        assert_int_equal(reducer->ops->test(reducer, &request, &done), RDP_OK);
        assert_int_equal(done, 1);
        free(data);
    }
}

/* Same bits on every rank, and ((x0 + x1) + x2) + ... in rank order whatever the pieces. */
static void test_random_sums(void **unused)
{
    enum { COUNT = 50021, PIECE = 7001 };
    size_t size = (size_t)comm->size;
    float *all = malloc(size * COUNT * sizeof *all), *whole = malloc(COUNT * sizeof *whole);
    float *pieces = malloc(COUNT * sizeof *pieces);

    (void)unused;
    for (size_t rank = 0; rank < size; rank++) {
        unsigned seed = 17u + (unsigned)rank;
        for (size_t i = 0; i < COUNT; i++)
            all[rank * COUNT + i] = random_float(&seed);
    }
    memcpy(whole, all + (size_t)comm->rank * COUNT, COUNT * sizeof *whole);
    memcpy(pieces, whole, COUNT * sizeof *whole);
    struct rdp_request request;
    assert_int_equal(reducer->ops->begin(reducer, whole, COUNT, "sum", &request), RDP_OK);
    assert_int_equal(reducer->ops->wait(reducer, &request, "sum"), RDP_OK);
    for (size_t i = 0; i < COUNT; i += PIECE) {
        size_t n = COUNT - i < PIECE ? COUNT - i : PIECE;
        assert_int_equal(reducer->ops->begin(reducer, pieces + i, n, "sum", &request), RDP_OK);
        assert_int_equal(reducer->ops->wait(reducer, &request, "sum"), RDP_OK);
    }
    assert_memory_equal(whole, pieces, COUNT * sizeof *whole);
    assert_same_everywhere(whole, COUNT * sizeof *whole);
    for (size_t i = 0; i < COUNT; i++) {
        float sum = all[i];
        for (size_t rank = 1; rank < size; rank++)
            sum += all[rank * COUNT + i];
        if (sum != whole[i])
            fail_msg("element %zu: %a, expected %a", i, (double)whole[i], (double)sum);
    }
    free(all);
    free(whole);
    free(pieces);
}

/* Many sums on their way at once, collected out of order, with blocking calls in between. */
static void test_many_pending(void **unused)
{
    enum { SUMS = 20, COUNT = 30000 };
    float *data = malloc((size_t)SUMS * COUNT * sizeof *data);
    struct rdp_request requests[SUMS];

    (void)unused;
    for (int round = 0; round < 3; round++) {
        for (int s = 0; s < SUMS; s++) {
            for (int i = 0; i < COUNT; i++)
                data[s * COUNT + i] = (float)(s + i % 7);
            assert_int_equal(reducer->ops->begin(reducer, data + s * COUNT, COUNT, "sum", &requests[s]), RDP_OK);
            double ones[2] = {1, 0.5};
            assert_int_equal(reducer->ops->sum_f64(reducer, ones, 2, "count"), RDP_OK);
            assert_true(ones[0] == comm->size && ones[1] == 0.5 * comm->size);
            int64_t one = 1;
            assert_int_equal(comm->ops->allreduce_i64(comm, &one, 1, RDP_SUM, "count"), RDP_OK);
            assert_int_equal(one, comm->size);
        }
        for (int s = SUMS - 1; s >= 0; s--) {
            int done = 0;
            while (!done)
                assert_int_equal(reducer->ops->test(reducer, &requests[s], &done), RDP_OK);
            for (int i = 0; i < COUNT; i++)
                assert_true(data[s * COUNT + i] == (float)((s + i % 7) * comm->size));
        }
    }
    free(data);
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice),     cmocka_unit_test(test_nccl_refused), cmocka_unit_test(test_wait_for_device),
        cmocka_unit_test(test_exact_sums), cmocka_unit_test(test_random_sums),  cmocka_unit_test(test_many_pending),
    };
    return cmocka_run_group_tests(tests, open_reducer, close_reducer);
}

int main(int argc, char **argv)
{
    return rdp_test_mpi_main(argc, argv, &launch, &comm, run);
}
