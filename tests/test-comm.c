/*
 * The control plane, on as many ranks as it is started with: every operation against what it must give, sums compared by
 * == on integers in floats, and all ranks' bits against each other on random floats.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "comm/comm.h"
#include "comm/launch.h"
#include "support_mpi.h"

static struct rdp_launch launch;
static struct rdp_comm *comm;

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

static void test_facts(void **unused)
{
    (void)unused;
    assert_int_equal(comm->rank, launch.rank);
    assert_int_equal(comm->size, launch.size);
    assert_true(launch.local_rank < launch.local_size && launch.local_size <= launch.size);
    assert_int_equal(launch.host_count, 1);
    assert_true(launch.cores_allowed >= 1);
    assert_string_equal(comm->ops->name, comm->size == 1 ? "self" : "mpi");
}

static void test_blocking_reductions(void **unused)
{
    int rank = comm->rank, size = comm->size;
    float f[3], random[777];
    double d[3];
    int64_t n[3];
    static const enum rdp_reduce kinds[] = {RDP_SUM, RDP_MIN, RDP_MAX};
    int expected[3] = {size * (size - 1) / 2, 0, size - 1};
    unsigned seed = 5u + (unsigned)rank;

    (void)unused;
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 3; i++) {
            f[i] = (float)rank;
            d[i] = rank;
            n[i] = (int64_t)rank << 40;
        }
        assert_int_equal(comm->ops->allreduce_f32(comm, f, 3, kinds[k], "f32"), RDP_OK);
        assert_int_equal(comm->ops->allreduce_f64(comm, d, 3, kinds[k], "f64"), RDP_OK);
        assert_int_equal(comm->ops->allreduce_i64(comm, n, 3, kinds[k], "i64"), RDP_OK);
        for (int i = 0; i < 3; i++) {
            assert_true(f[i] == (float)expected[k]);
            assert_true(d[i] == expected[k]);
            assert_true(n[i] == (int64_t)expected[k] << 40);
        }
    }
    for (int i = 0; i < 777; i++)
        random[i] = random_float(&seed);
    assert_int_equal(comm->ops->allreduce_f32(comm, random, 777, RDP_SUM, "f32"), RDP_OK);
    assert_same_everywhere(random, sizeof random);
}

static void test_broadcast_gather(void **unused)
{
    enum { BYTES = 300007 };
    unsigned char *data = malloc(BYTES);

    (void)unused;
    for (int root = 0; root < comm->size; root++) {
        for (int i = 0; i < BYTES; i++)
            data[i] = comm->rank == root ? (unsigned char)(i * 7 + root) : 0;
        assert_int_equal(comm->ops->broadcast(comm, data, BYTES, root, "broadcast"), RDP_OK);
        for (int i = 0; i < BYTES; i++)
            assert_int_equal(data[i], (unsigned char)(i * 7 + root));

        int mine[2] = {comm->rank, -comm->rank};
        int *all = comm->rank == root ? malloc((size_t)comm->size * sizeof mine) : NULL;
        assert_int_equal(comm->ops->gather(comm, mine, sizeof mine, all, root, "gather"), RDP_OK);
        for (int rank = 0; all != NULL && rank < comm->size; rank++) {
            assert_int_equal(all[2 * rank], rank);
            assert_int_equal(all[2 * rank + 1], -rank);
        }
        free(all);
    }
    free(data);
}

/* Rank a sends rank b (a + 2 b) % 5 * 1000 + b bytes of value 16 a + b; some pairs exchange nothing. */
static size_t exchange_length(int from, int to)
{
    return (size_t)((from + 2 * to) % 5) * 1000 + (size_t)((from + 2 * to) % 5 ? to : 0);
}

static void test_exchange(void **unused)
{
    size_t size = (size_t)comm->size, sent = 0, received = 0;
    size_t *counts = calloc(4 * size, sizeof *counts);
    size_t *send_counts = counts, *send_offsets = counts + size;
    size_t *receive_counts = counts + 2 * size, *receive_offsets = counts + 3 * size;

    (void)unused;
    for (int peer = 0; peer < comm->size; peer++) {
        send_counts[peer] = exchange_length(comm->rank, peer);
        send_offsets[peer] = sent;
        sent += send_counts[peer];
        receive_counts[peer] = exchange_length(peer, comm->rank);
        receive_offsets[peer] = received;
        received += receive_counts[peer];
    }
    unsigned char *send = malloc(sent + 1), *receive = calloc(received + 1, 1);
    for (int peer = 0; peer < comm->size; peer++)
        memset(send + send_offsets[peer], 16 * comm->rank + peer, send_counts[peer]);
    assert_int_equal(comm->ops->exchange(comm, send, send_counts, send_offsets, receive, receive_counts,
                                         receive_offsets, "exchange"),
                     RDP_OK);
    for (int peer = 0; peer < comm->size; peer++)
        for (size_t i = 0; i < receive_counts[peer]; i++)
            assert_int_equal(receive[receive_offsets[peer] + i], (unsigned char)(16 * peer + comm->rank));
    assert_int_equal(receive[received], 0);
    free(send);
    free(receive);
    free(counts);
}

static void test_barriers(void **unused)
{
    (void)unused;
    for (int i = 0; i < 20; i++)
        assert_int_equal(comm->ops->barrier(comm, i % 2, "barrier"), RDP_OK);
}

/* Runs agree with stderr in a file; returns what this rank printed. */
static int agree_captured(int status, const char *phase, char *printed, size_t size)
{
    FILE *file = tmpfile();
    int saved = dup(STDERR_FILENO);

    assert_non_null(file);
    fflush(stderr);
    dup2(fileno(file), STDERR_FILENO);
    int agreed = rdp_comm_agree(comm, status, phase);
    fflush(stderr);
    dup2(saved, STDERR_FILENO);
    close(saved);
    rewind(file);
    size_t length = fread(printed, 1, size - 1, file);
    printed[length] = '\0';
    fclose(file);
    return agreed;
}

static void test_agree(void **unused)
{
    char printed[512];
    int last = comm->size - 1;

    (void)unused;
    assert_int_equal(agree_captured(RDP_OK, "set-up", printed, sizeof printed), RDP_OK);
    assert_string_equal(printed, "");

    /* All fail: rank 0 speaks, once. */
    rdp_fail(RDP_EUSAGE, "rank %d dislikes the option", comm->rank);
    assert_int_equal(agree_captured(RDP_EUSAGE, "set-up", printed, sizeof printed), RDP_EUSAGE);
    assert_int_equal(strstr(printed, "rank 0 dislikes the option") != NULL, comm->rank == 0);
    assert_int_equal(printed[0] != '\0', comm->rank == 0);
    assert_string_equal(rdp_fail_message(), "");

    /* Only the last fails, without a message of its own: the phase names it. */
    int status = comm->rank == last ? RDP_EIO : RDP_OK;
    assert_int_equal(agree_captured(status, "reading the shard", printed, sizeof printed), RDP_EIO);
    assert_int_equal(strstr(printed, "reading the shard") != NULL, comm->rank == last);
    assert_int_equal(printed[0] != '\0', comm->rank == last);
}

/* srun without PMIx: every task believes to be alone. Refused before MPI starts, and only the first task has a
 * message. */
static void test_srun_without_pmix(void **unused)
{
    (void)unused;
    if (comm->size > 1)
        skip();
    for (int task = 0; task < 2; task++) {
        fflush(NULL);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            struct rdp_launch other;
            unsetenv("OMPI_COMM_WORLD_SIZE");
            unsetenv("PMIX_NAMESPACE");
            unsetenv("PMI_RANK");
            unsetenv("PMI_FD");
            setenv("SLURM_PROCID", task == 0 ? "0" : "1", 1);
            setenv("SLURM_STEP_NUM_TASKS", "2", 1);
            int status = rdp_launch_begin(&other, NULL, NULL);
            int has_cure = strstr(rdp_fail_message(), "srun --mpi=pmix") != NULL;
            _exit(status == RDP_EUSAGE && !other.mpi_started && has_cure == (task == 0) ? 0 : 1);
        }
        int result = -1;
        assert_int_equal(waitpid(child, &result, 0), child);
        assert_int_equal(result, 0);
    }
}

static int run(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_facts),
        cmocka_unit_test(test_blocking_reductions),
        cmocka_unit_test(test_broadcast_gather),
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_barriers),
        cmocka_unit_test(test_agree),
        cmocka_unit_test(test_srun_without_pmix),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}

int main(int argc, char **argv)
{
    return rdp_test_mpi_main(argc, argv, &launch, &comm, run);
}
