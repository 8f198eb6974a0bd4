/*
 * The data plane on CUDA devices, over NCCL and staged through MPI, on as many ranks as it is started with: sums of
 * numbers whose sums are exact, compared by == with what MPI gives on the host; that they are in order with the stream;
 * recordings; what is refused, and a peer that does not come. Nothing but copies runs on the device, so it says nothing
 * about kernels and runs on an emulation of the CUDA runtime and NCCL as well. Skipped without a CUDA device.
 */
#include "base/status.h"

#ifdef RDP_WITH_CUDA

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>
#include <cuda_runtime_api.h>

#include "comm/bucket.h"
#include "comm/comm.h"
#include "comm/device_choice.h"
#include "comm/launch.h"
#include "comm/reducer.h"
#include "comm/watchdog.h"
#include "support_mpi.h"

#define ASSERT_CUDA(call) assert_int_equal((call), cudaSuccess)

enum { GUARD = 1024, LONGEST = 300007, REPLAYS = 3, TIMEOUT = 60 };

static struct rdp_launch launch;
static struct rdp_comm *comm;
static struct rdp_reducer *oracle; /* MPI on host memory */
static struct rdp_reducer *reducer;
static enum rdp_reducer_kind kind;
static bool shared_device;
static cudaStream_t stream; /* the device's, where it computes */
static float *data, *other; /* device [LONGEST + 2 GUARD]; `data` is the reducer's memory, if it has any */
static float *host;         /* pinned, as long */

static struct rdp_reducer_config config_of(enum rdp_reducer_kind wanted)
{
    return (struct rdp_reducer_config){
        .kind = wanted, .stream = stream, .shared_device = shared_device, .timeout_seconds = TIMEOUT};
}

static int open_all(void **unused)
{
    const struct rdp_reducer_config config = config_of(kind), on_host = {.kind = RDP_REDUCER_MPI};
    const size_t bytes = (LONGEST + 2 * GUARD) * sizeof(float);
    void *memory;

    (void)unused;
    if (rdp_reducer_create(&reducer, comm, &config) != RDP_OK || rdp_reducer_create(&oracle, comm, &on_host) != RDP_OK)
        return 1;
    if (reducer->ops->alloc != NULL) {
        if (reducer->ops->alloc(reducer, &memory, bytes, "the test's array") != RDP_OK)
            return 1;
    } else if (cudaMalloc(&memory, bytes) != cudaSuccess) {
        return 1;
    }
    data = memory;
    if (cudaMalloc(&memory, bytes) != cudaSuccess)
        return 1;
    other = memory;
    if (cudaMallocHost(&memory, bytes) != cudaSuccess)
        return 1;
    host = memory;
    return 0;
}

static int close_all(void **unused)
{
    (void)unused;
    if (cudaStreamSynchronize(stream) != cudaSuccess)
        return 1;
    if (reducer->ops->alloc != NULL)
        reducer->ops->free(reducer, data);
    else
        cudaFree(data);
    cudaFree(other);
    cudaFreeHost(host);
    rdp_reducer_destroy(reducer);
    rdp_reducer_destroy(oracle);
    return 0;
}

/* Whole numbers below 2^16: their sums over ranks are exact in any order. */
static float value(int rank, size_t i, int salt)
{
    return (float)((i * 7919u + (size_t)(rank + 1) * 104729u + (size_t)salt * 31u) % 65521u);
}

static void fill(float *to, size_t count, int salt)
{
    for (size_t i = 0; i < count; i++)
        to[i] = value(comm->rank, i, salt);
}

/* In order with the stream, not waiting. */
static void put(float *to, const float *from, size_t count)
{
    ASSERT_CUDA(cudaMemcpyAsync(to, from, count * sizeof *to, cudaMemcpyDefault, stream));
}

static int stream_idle(void *context, bool *idle)
{
    cudaError_t error = cudaStreamQuery(stream);

    (void)context;
    *idle = error == cudaSuccess;
    if (error == cudaErrorNotReady)
        (void)cudaGetLastError();
    return error == cudaSuccess || error == cudaErrorNotReady ? RDP_OK : rdp_fail(RDP_EDEVICE, "the stream failed");
}

static void finish(void)
{
    assert_int_equal(rdp_reducer_wait_device(reducer, stream_idle, NULL, "the test's stream"), RDP_OK);
}

/* What the sum over ranks must be. */
static void sum_on_host(float *numbers, size_t count)
{
    struct rdp_request request;
    assert_int_equal(oracle->ops->begin(oracle, numbers, count, "oracle", &request), RDP_OK);
    assert_int_equal(oracle->ops->wait(oracle, &request, "oracle"), RDP_OK);
}

/* Everything is in order with the stream: the array arrives after begin() was called, and is moved on before the sum is
 * there. The numbers around it stay. */
static void test_sums(void **unused)
{
    static const size_t lengths[] = {0, 1, 3, 4, 1000, 4096, 100003, LONGEST};
    float *expected = malloc((LONGEST + 2 * GUARD) * sizeof *expected);

    (void)unused;
    for (size_t l = 0; l < sizeof lengths / sizeof *lengths; l++) {
        const size_t count = lengths[l], whole = count + 2 * GUARD;
        struct rdp_request request;
        int done = 0;

        fill(host, whole, (int)l);
        memcpy(expected, host, whole * sizeof *host);
        put(data, host, whole);
        assert_int_equal(reducer->ops->begin(reducer, data + GUARD, count, "sum", &request), RDP_OK);
        assert_int_equal(reducer->ops->test(reducer, &request, &done), RDP_OK);
        assert_int_equal(reducer->ops->wait(reducer, &request, "sum"), RDP_OK);
        put(other, data, whole);
        put(host, other, whole);
        finish();
        sum_on_host(expected + GUARD, count);
        assert_memory_equal(host, expected, whole * sizeof *host);
        assert_int_equal(reducer->ops->test(reducer, &request, &done), RDP_OK);
        assert_int_equal(done, 1); /* waited for is done */
        assert_int_equal(reducer->ops->wait(reducer, &request, "sum"), RDP_OK);
    }
    free(expected);
}

/* Several on their way, batch-norm sums between them, waited for in reverse order, over and over. */
static void test_many_pending(void **unused)
{
    enum { SUMS = 12, COUNT = 20000, NUMBERS = 128 };
    static const char *const names[] = {"all-reduce of bucket 0", "all-reduce of bucket 1", "all-reduce of bucket 2"};
    float *expected = malloc(SUMS * COUNT * sizeof *expected);
    double *numbers, sums[NUMBERS];
    void *memory;

    (void)unused;
    ASSERT_CUDA(cudaMalloc(&memory, sizeof sums));
    numbers = memory;
    for (int round = 0; round < 3; round++) {
        struct rdp_request requests[SUMS];
        fill(host, SUMS * COUNT, round);
        memcpy(expected, host, SUMS * COUNT * sizeof *host);
        put(data, host, SUMS * COUNT);
        for (int s = 0; s < SUMS; s++) {
            int done;
            assert_int_equal(reducer->ops->begin(reducer, data + s * COUNT, COUNT, names[s % 3], &requests[s]), RDP_OK);
            if (s % 4 != 1)
                continue;
            for (int i = 0; i < NUMBERS; i++)
                sums[i] = comm->rank + 0.25 * i + s;
            ASSERT_CUDA(cudaMemcpyAsync(numbers, sums, sizeof sums, cudaMemcpyHostToDevice, stream));
            assert_int_equal(reducer->ops->sum_f64(reducer, numbers, NUMBERS - s, "batch-norm sums"), RDP_OK);
            ASSERT_CUDA(cudaMemcpyAsync(sums, numbers, sizeof sums, cudaMemcpyDeviceToHost, stream));
            finish();
            for (int i = 0; i < NUMBERS; i++) {
                double all = comm->size * (comm->size - 1) / 2 + comm->size * (0.25 * i + s);
                assert_true(sums[i] == (i < NUMBERS - s ? all : comm->rank + 0.25 * i + s));
            }
            assert_int_equal(reducer->ops->test(reducer, &requests[s], &done), RDP_OK);
        }
        for (int s = SUMS - 1; s >= 0; s--)
            assert_int_equal(reducer->ops->wait(reducer, &requests[s], names[s % 3]), RDP_OK);
        put(host, data, SUMS * COUNT);
        finish();
        sum_on_host(expected, SUMS * COUNT);
        assert_memory_equal(host, expected, SUMS * COUNT * sizeof *host);
    }
    ASSERT_CUDA(cudaFree(numbers));
    free(expected);
}

/* Gradients arrive piece by piece, as from a backward pass. */
static void test_buckets(void **unused)
{
    static const size_t boundaries[] = {1000, 30000, 31000, 90000, 150000};
    enum { BOUNDARIES = sizeof boundaries / sizeof *boundaries, COUNT = 150000 };
    float *expected = malloc(COUNT * sizeof *expected);
    struct rdp_buckets *buckets;
    double seconds = 0;

    (void)unused;
    for (int overlap = 0; overlap < 2; overlap++) {
        assert_int_equal(rdp_buckets_create(&buckets, reducer, data, COUNT, boundaries, BOUNDARIES, 100000, overlap),
                         RDP_OK);
        for (int step = 0; step < 3; step++) {
            fill(host, COUNT, step);
            memcpy(expected, host, COUNT * sizeof *host);
            rdp_buckets_begin_step(buckets);
            for (size_t i = 0, begin = 0; i < BOUNDARIES; begin = boundaries[i++]) {
                put(data + begin, host + begin, boundaries[i] - begin);
                assert_int_equal(rdp_buckets_ready(buckets, boundaries[i]), RDP_OK);
            }
            assert_int_equal(rdp_buckets_finish(buckets, &seconds), RDP_OK);
            put(host, data, COUNT);
            finish();
            sum_on_host(expected, COUNT);
            assert_memory_equal(host, expected, COUNT * sizeof *host);
        }
        rdp_buckets_destroy(buckets);
    }
    free(expected);
}

/* What a step records: two buckets overlapping with other work, and a sum that everything waits for. */
static void sums_of_a_step(size_t count, double *numbers)
{
    struct rdp_request first, second;
    const size_t half = count / 2;

    put(data, other, half);
    assert_int_equal(reducer->ops->begin(reducer, data, half, "all-reduce of bucket 0", &first), RDP_OK);
    assert_int_equal(reducer->ops->sum_f64(reducer, numbers, 16, "batch-norm sums"), RDP_OK);
    put(data + half, other + half, count - half);
    assert_int_equal(reducer->ops->begin(reducer, data + half, count - half, "all-reduce of bucket 1", &second),
                     RDP_OK);
    assert_int_equal(reducer->ops->wait(reducer, &first, "all-reduce of bucket 0"), RDP_OK);
    assert_int_equal(reducer->ops->wait(reducer, &second, "all-reduce of bucket 1"), RDP_OK);
    put(other, data, count);
}

/* A recorded step, run again on other numbers, and with eager ones between. */
static void test_recording(void **unused)
{
    enum { COUNT = 50001 };
    float *expected = malloc(COUNT * sizeof *expected);
    double sums[16] = {0};
    void *numbers;
    cudaGraph_t graph;
    cudaGraphExec_t recorded;

    (void)unused;
    if (!reducer->ops->recordable) {
        free(expected);
        skip();
    }
    ASSERT_CUDA(cudaMalloc(&numbers, sizeof sums));
    ASSERT_CUDA(cudaMemcpyAsync(numbers, sums, sizeof sums, cudaMemcpyHostToDevice, stream));
    fill(host, COUNT, 77);
    put(other, host, COUNT);
    sums_of_a_step(COUNT, numbers); /* everything once before it is recorded */
    finish();
    ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    sums_of_a_step(COUNT, numbers);
    ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&recorded, graph, 0));
    ASSERT_CUDA(cudaGraphDestroy(graph));
    for (int run = 0; run < REPLAYS; run++) {
        fill(host, COUNT, run);
        memcpy(expected, host, COUNT * sizeof *host);
        for (int i = 0; i < 16; i++)
            sums[i] = comm->rank + i + run;
        ASSERT_CUDA(cudaMemcpyAsync(numbers, sums, sizeof sums, cudaMemcpyHostToDevice, stream));
        put(other, host, COUNT);
        if (run == 1)
            sums_of_a_step(COUNT, numbers);
        else
            ASSERT_CUDA(cudaGraphLaunch(recorded, stream));
        ASSERT_CUDA(cudaMemcpyAsync(sums, numbers, sizeof sums, cudaMemcpyDeviceToHost, stream));
        put(host, other, COUNT);
        finish();
        sum_on_host(expected, COUNT);
        assert_memory_equal(host, expected, COUNT * sizeof *host);
        for (int i = 0; i < 16; i++)
            assert_true(sums[i] == comm->size * (comm->size - 1) / 2 + comm->size * (i + run));
    }
    ASSERT_CUDA(cudaGraphExecDestroy(recorded)); /* before the reducer goes */
    ASSERT_CUDA(cudaFree(numbers));
    free(expected);
}

/* The reducer's memory begins as zeros, and several pieces of it may be had. */
static void test_memory(void **unused)
{
    void *pieces[3];

    (void)unused;
    if (reducer->ops->alloc == NULL) {
        assert_null(reducer->ops->free);
        skip();
    }
    for (int i = 0; i < 3; i++) {
        const size_t count = 5000 * (size_t)(i + 1);
        assert_int_equal(reducer->ops->alloc(reducer, &pieces[i], count * sizeof(float), "a piece"), RDP_OK);
        memset(host, 0xff, count * sizeof(float));
        put(host, pieces[i], count);
        finish();
        for (size_t k = 0; k < count; k++)
            assert_true(host[k] == 0);
    }
    for (int i = 2; i > 0; i--)
        reducer->ops->free(reducer, pieces[i]);
    reducer->ops->free(reducer, NULL);
    reducer->ops->free(reducer, pieces[0]);
}

static void test_choice(void **unused)
{
    struct rdp_reducer_config config = config_of(RDP_REDUCER_AUTO);
    struct rdp_reducer *chosen;

    (void)unused;
    assert_int_equal(rdp_reducer_create(&chosen, comm, &config), RDP_OK);
    assert_string_equal(chosen->ops->name, comm->size == 1 ? "self" : shared_device ? "mpi" : "nccl");
    rdp_reducer_destroy(chosen);
    config.shared_device = true;
    assert_int_equal(rdp_reducer_create(&chosen, comm, &config), RDP_OK);
    assert_string_equal(chosen->ops->name, comm->size == 1 ? "self" : "mpi");
    assert_int_equal(strstr(chosen->description, "staged") != NULL, comm->size > 1);
    rdp_reducer_destroy(chosen);
    config.kind = RDP_REDUCER_NCCL;
    if (getenv("NCCL_MULTI_RANK_GPU_ENABLE") == NULL)
        assert_int_equal(rdp_reducer_create(&chosen, comm, &config), RDP_EUSAGE);
    /* One rank computes on the CPU, the others do not. */
    config = config_of(RDP_REDUCER_MPI);
    if (comm->rank == 0)
        config.stream = NULL;
    int status = rdp_reducer_create(&chosen, comm, &config);
    assert_int_equal(status, comm->size == 1 ? RDP_OK : RDP_EUSAGE);
    if (status == RDP_OK)
        rdp_reducer_destroy(chosen);
    assert_string_equal(rdp_fail_message(), "");
}

/* A sum and its wait as a recording of the stream. */
static cudaGraphExec_t record_sum(struct rdp_reducer *with, const char *what)
{
    struct rdp_request request;
    cudaGraphExec_t recorded;
    cudaGraph_t graph;

    ASSERT_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    assert_int_equal(with->ops->begin(with, data, 1000, what, &request), RDP_OK);
    assert_int_equal(with->ops->wait(with, &request, what), RDP_OK);
    ASSERT_CUDA(cudaStreamEndCapture(stream, &graph));
    ASSERT_CUDA(cudaGraphInstantiate(&recorded, graph, 0));
    ASSERT_CUDA(cudaGraphDestroy(graph));
    return recorded;
}

static void sum_once(struct rdp_reducer *with, const char *what)
{
    struct rdp_request request;

    assert_int_equal(with->ops->begin(with, data, 1000, what, &request), RDP_OK);
    assert_int_equal(with->ops->wait(with, &request, what), RDP_OK);
    finish();
}

/* Rank 0 replays a sum to which nobody comes: its GPU spins until the time-out is over, and it says where. The
 * recording is alive all the while, as a run's is. */
static void test_peer_stays_away(void **unused)
{
    const struct rdp_reducer_config config = config_of(RDP_REDUCER_NCCL);
    struct rdp_reducer *doomed;
    struct rdp_request request;

    (void)unused;
    if (kind != RDP_REDUCER_NCCL || comm->size == 1)
        skip();
    assert_int_equal(rdp_reducer_create(&doomed, comm, &config), RDP_OK);
    sum_once(doomed, "all-reduce of bucket 1");
    sum_once(doomed, "all-reduce of bucket 0");
    cudaGraphExec_t recorded = record_sum(doomed, "all-reduce of bucket 1");
    rdp_watchdog_phase("backward", 41);
    if (comm->rank == 0) {
        bool idle = false;
        ASSERT_CUDA(cudaGraphLaunch(recorded, stream));
        for (int poll = 0; poll < 100; poll++) {
            assert_int_equal(stream_idle(NULL, &idle), RDP_OK);
            assert_false(idle);
            assert_int_equal(doomed->ops->check(doomed, 0.001 * poll), RDP_OK);
            struct timespec pause = {0, 1000 * 1000};
            nanosleep(&pause, NULL);
        }
        assert_int_equal(doomed->ops->check(doomed, TIMEOUT + 10), RDP_ECOMM);
        assert_non_null(strstr(rdp_fail_message(), "rank 0"));
        assert_non_null(strstr(rdp_fail_message(), "in all-reduce of bucket 1"));
        assert_non_null(strstr(rdp_fail_message(), "backward of step 41"));
        rdp_fail_clear();
        /* The kernel has ended, and nothing more is taken. */
        ASSERT_CUDA(cudaStreamSynchronize(stream));
        assert_int_equal(doomed->ops->begin(doomed, data, 1000, "all-reduce of bucket 2", &request), RDP_ECOMM);
        assert_int_equal(doomed->ops->check(doomed, 0), RDP_ECOMM);
        rdp_fail_clear();
    }
    assert_int_equal(comm->ops->barrier(comm, 0, "the end of the doomed"), RDP_OK);
    if (comm->rank > 0) { /* so do the others, which are between two sums */
        assert_int_equal(doomed->ops->check(doomed, 0), RDP_OK);
        assert_int_equal(doomed->ops->check(doomed, TIMEOUT), RDP_OK);
        assert_int_equal(doomed->ops->check(doomed, TIMEOUT + 10), RDP_ECOMM);
        assert_non_null(strstr(rdp_fail_message(), "after all-reduce of bucket 0"));
        rdp_fail_clear();
    }
    ASSERT_CUDA(cudaGraphExecDestroy(recorded));
    rdp_reducer_destroy(doomed);
    rdp_watchdog_phase("tests", -1);
}

/* A wait for many sums may be longer than the time-out, as long as they come on. */
static void test_slow_is_not_stuck(void **unused)
{
    const struct rdp_reducer_config config = config_of(RDP_REDUCER_NCCL);
    struct rdp_reducer *slow;

    (void)unused;
    if (kind != RDP_REDUCER_NCCL)
        skip();
    assert_int_equal(rdp_reducer_create(&slow, comm, &config), RDP_OK);
    sum_once(slow, "all-reduce of bucket 0");
    assert_int_equal(slow->ops->check(slow, 0), RDP_OK);
    assert_int_equal(slow->ops->check(slow, TIMEOUT), RDP_OK);
    sum_once(slow, "all-reduce of bucket 1");
    assert_int_equal(slow->ops->check(slow, TIMEOUT + 10), RDP_OK);
    assert_int_equal(slow->ops->check(slow, 2 * TIMEOUT), RDP_OK);
    assert_int_equal(slow->ops->check(slow, 0), RDP_OK); /* another wait */
    assert_int_equal(slow->ops->check(slow, TIMEOUT), RDP_OK);
    assert_int_equal(comm->ops->barrier(comm, 0, "the end of the slow"), RDP_OK);
    assert_int_equal(slow->ops->check(slow, TIMEOUT + 10), RDP_ECOMM);
    rdp_fail_clear();
    rdp_reducer_destroy(slow);
}

static int run_group(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sums),
        cmocka_unit_test(test_many_pending),
        cmocka_unit_test(test_buckets),
        cmocka_unit_test(test_recording),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_slow_is_not_stuck),
        cmocka_unit_test(test_peer_stays_away),
    };
    return cmocka_run_group_tests_name(kind == RDP_REDUCER_NCCL ? "nccl" : "mpi", tests, open_all, close_all);
}

/* The device of this rank; the skip is everybody's. */
static int open_device(int *index)
{
    int64_t count = 0;
    int visible = 0;
    char pci_bus[32] = "", text[256];

    if (cudaGetDeviceCount(&visible) == cudaSuccess)
        count = visible;
    if (comm->ops->allreduce_i64(comm, &count, 1, RDP_MIN, "number of devices") != RDP_OK)
        return 1;
    if (count < 1)
        return 77;
    if (rdp_device_choose(&launch, visible, index) != RDP_OK || cudaSetDevice(*index) != cudaSuccess ||
        cudaDeviceGetPCIBusId(pci_bus, sizeof pci_bus, *index) != cudaSuccess ||
        cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking) != cudaSuccess ||
        rdp_device_sharing(comm, &launch, pci_bus, &shared_device, text, sizeof text) != RDP_OK)
        return 1;
    if (shared_device && comm->rank == 0)
        printf("%s: NCCL is not tested\n", text);
    return 0;
}

static int run(void)
{
    int index, status = open_device(&index);

    if (status != 0)
        return status;
    kind = RDP_REDUCER_MPI;
    int failed = run_group();
    if (!shared_device) {
        kind = RDP_REDUCER_NCCL;
        failed += run_group();
    }
    return failed + (cudaStreamDestroy(stream) != cudaSuccess);
}

int main(int argc, char **argv)
{
    return rdp_test_mpi_main(argc, argv, &launch, &comm, run);
}

#else

#include <stdio.h>

int main(void)
{
    puts("built without CUDA: skipped");
    return 77;
}

#endif
