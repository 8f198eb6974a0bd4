/* That the emulation runs kernels, streams and graphs as CUDA does, and finds the mistakes it is there to find. */
#include <sys/wait.h>
#include <unistd.h>

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <string>

#include <cuda_runtime.h>

extern "C" {
#include <cmocka.h>
}

#include "tests/emulation/emulation.h"

namespace {

constexpr int threads = 96, blocks = 7, count = threads * blocks;

template <typename... Parameters, typename... Arguments>
void start(cudaStream_t stream, int grid, int block, void (*kernel)(Parameters...), Arguments... arguments)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(static_cast<unsigned>(grid));
    config.blockDim = dim3(static_cast<unsigned>(block));
    config.stream = stream;
    assert_int_equal(cudaLaunchKernelEx(&config, kernel, arguments...), cudaSuccess);
}

/* A stream and device memory that is freed with it. */
struct fixture {
    cudaStream_t stream = nullptr, other = nullptr;
    float *device = nullptr, *pinned = nullptr;
    fixture()
    {
        void *memory;
        assert_int_equal(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaStreamCreateWithFlags(&other, cudaStreamNonBlocking), cudaSuccess);
        assert_int_equal(cudaMalloc(&memory, count * sizeof(float)), cudaSuccess);
        device = static_cast<float *>(memory);
        assert_int_equal(cudaHostAlloc(&memory, count * sizeof(float), 0), cudaSuccess);
        pinned = static_cast<float *>(memory);
    }
    ~fixture()
    {
        assert_int_equal(cudaFree(device), cudaSuccess);
        assert_int_equal(cudaFreeHost(pinned), cudaSuccess);
        assert_int_equal(cudaStreamDestroy(stream), cudaSuccess);
        assert_int_equal(cudaStreamDestroy(other), cudaSuccess);
    }
    float first(cudaStream_t on)
    {
        float value;
        assert_int_equal(cudaMemcpyAsync(&value, device, sizeof value, cudaMemcpyDeviceToHost, on), cudaSuccess);
        return value;
    }
};

/* Whether `act` ends the process, with `text` in what it says on stderr. */
bool dies(void (*act)(), const char *text)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        for (int signal : {SIGABRT, SIGSEGV})
            std::signal(signal, SIG_DFL); /* not cmocka's */
        act();
        _exit(0);
    }
    close(ends[1]);
    std::string said;
    char part[512];
    for (ssize_t bytes; (bytes = read(ends[0], part, sizeof part)) > 0;)
        said.append(part, static_cast<size_t>(bytes));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    bool found = said.find(text) != std::string::npos;
    if (!found)
        print_message("said: %s\n", said.c_str());
    return status != 0 && found;
}

/* ---- kernels ---- */

/* Sum of 0 .. n - 1: shuffles, shared memory, a barrier, and the last block adds up what the others left. */
__global__ void sum_kernel(float *partial, unsigned *ticket, float *total)
{
    __shared__ float warps[threads / 32];
    __shared__ bool last;
    float own = static_cast<float>(blockIdx.x * blockDim.x + threadIdx.x);
    for (int step = 16; step > 0; step /= 2)
        own += threadIdx.x < 32 ? __shfl_xor_sync(0xffffffffu, own, step) : __shfl_down_sync(0xffffffffu, own, step);
    if (threadIdx.x % 32 == 0)
        warps[threadIdx.x / 32] = own;
    __syncthreads();
    if (threadIdx.x == 0) {
        partial[blockIdx.x] = warps[0] + warps[1] + warps[2];
        __threadfence();
        last = atomicAdd(ticket, 1u) == gridDim.x - 1;
    }
    __syncthreads();
    if (!last || threadIdx.x)
        return;
    *total = 0;
    for (unsigned i = 0; i < gridDim.x; i++)
        *total += partial[i];
}

__global__ void add_kernel(float *to, float value)
{
    to[threadIdx.x] += value;
}

__global__ void multiply_kernel(float *to, float value)
{
    to[threadIdx.x] *= value;
}

/* A barrier is missing between the threads' stores and thread 0's load. */
__global__ void unordered_kernel(float *result)
{
    __shared__ float value[threads];
    value[threadIdx.x] = 1;
    if (threadIdx.x == 0)
        result[blockIdx.x] = value[threads - 1];
    __syncthreads();
    value[threadIdx.x] = 0;
}

__global__ void leaving_kernel(float *to)
{
    if (threadIdx.x == 5)
        return;
    __syncthreads();
    to[threadIdx.x] = 0;
}

__global__ void divergent_kernel(float *to)
{
    to[threadIdx.x] = threadIdx.x < 8 ? __shfl_xor_sync(0xffffffffu, 1.0f, 1) : 0;
    __syncthreads();
}

__global__ void outside_kernel(float *to)
{
    to[count + 3] = 0;
}

void test_sum(void **)
{
    fixture use;
    void *memory;
    assert_int_equal(cudaMalloc(&memory, sizeof(unsigned)), cudaSuccess);
    assert_int_equal(cudaMemsetAsync(memory, 0, sizeof(unsigned), use.stream), cudaSuccess);
    start(use.stream, blocks, threads, sum_kernel, use.device + 1, static_cast<unsigned *>(memory), use.device);
    assert_true(use.first(use.stream) == count * (count - 1) / 2);
    assert_int_equal(cudaFree(memory), cudaSuccess);
}

/* Shared memory begins as NaN, and one block's threads run in the other order than the next's. */
void test_missing_barrier(void **)
{
    fixture use;
    start(use.stream, 2, threads, unordered_kernel, use.device);
    assert_int_equal(cudaMemcpyAsync(use.pinned, use.device, 2 * sizeof(float), cudaMemcpyDeviceToHost, use.stream),
                     cudaSuccess);
    assert_int_equal(cudaStreamSynchronize(use.stream), cudaSuccess);
    assert_false(use.pinned[0] == 1 && use.pinned[1] == 1);
    assert_true(use.pinned[0] == 1 || use.pinned[1] == 1);
}

template <void (*kernel)(float *)> void run_alone()
{
    fixture use;
    start(use.stream, 2, 32, kernel, use.device);
    cudaStreamSynchronize(use.stream);
}

void test_divergence(void **)
{
    assert_true(dies(run_alone<leaving_kernel>, "ended while others wait at a barrier: thread 5 of block (0, 0, 0) of "
                                                "kernel (anonymous namespace)::leaving_kernel"));
    assert_true(dies(run_alone<divergent_kernel>, "waits at a shuffle"));
}

void test_configuration(void **)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(1);
    config.blockDim = dim3(2048);
    assert_int_equal(cudaLaunchKernelEx(&config, outside_kernel, nullptr), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaErrorInvalidConfiguration);
    assert_int_equal(cudaGetLastError(), cudaSuccess);
}

/* ---- memory ---- */

void test_memory(void **)
{
#ifdef RDP_EMULATION_ASAN
    const char *outside = "AddressSanitizer";
#else
    const char *outside = "wrote outside";
#endif
    assert_true(dies(run_alone<outside_kernel>, outside));
    assert_true(dies(
        [] {
            fixture use;
            *use.device = 0; /* the host has no business there */
        },
        ""));
    assert_true(dies(
        [] {
            fixture use;
            cudaMemsetAsync(use.device + 1, 0, count * sizeof(float), use.stream);
        },
        "at byte 4 of an allocation"));
    assert_true(dies(
        [] {
            fixture use;
            void *memory;
            cudaMalloc(&memory, 128);
            start(use.stream, 1, 32, add_kernel, static_cast<float *>(memory), 1.0f);
            cudaStreamSynchronize(use.stream);
            cudaFree(memory);
            fputs("freed", stderr);
            start(use.stream, 1, 32, add_kernel, static_cast<float *>(memory), 1.0f);
            cudaStreamSynchronize(use.stream);
        },
        "freed"));
    fixture use;
    assert_true(std::isnan(use.first(use.stream)));
    assert_int_equal(cudaMemcpyAsync(use.device, use.device, 4, cudaMemcpyHostToDevice, use.stream),
                     cudaErrorInvalidValue);
    (void)cudaGetLastError();
}

void test_devices(void **)
{
    int devices = -1;
    assert_int_equal(setenv("RDP_EMULATION_DEVICES", "0", 1), 0);
    assert_int_equal(cudaGetDeviceCount(&devices), cudaErrorNoDevice);
    assert_int_equal(setenv("RDP_EMULATION_DEVICES", "3", 1), 0);
    assert_int_equal(cudaGetDeviceCount(&devices), cudaSuccess);
    assert_int_equal(devices, 3);
    assert_int_equal(cudaSetDevice(3), cudaErrorInvalidDevice);
    assert_int_equal(unsetenv("RDP_EMULATION_DEVICES"), 0);
    (void)cudaGetLastError();
}

/* ---- order ---- */

/* Pinned memory is read when the copy's turn comes, other host memory when the call is made. */
void test_deferred(void **)
{
    fixture use;
    float pageable = 1;
    *use.pinned = 1;
    assert_int_equal(cudaMemcpyAsync(use.device, &pageable, 4, cudaMemcpyHostToDevice, use.stream), cudaSuccess);
    assert_int_equal(cudaMemcpyAsync(use.device + 1, use.pinned, 4, cudaMemcpyHostToDevice, use.stream), cudaSuccess);
    pageable = 2;
    *use.pinned = 2;
    assert_int_equal(cudaMemcpyAsync(use.pinned, use.device, 8, cudaMemcpyDeviceToHost, use.stream), cudaSuccess);
    assert_true(use.pinned[0] == 2);
    assert_int_equal(cudaStreamQuery(use.stream), cudaErrorNotReady);
    while (cudaStreamQuery(use.stream) == cudaErrorNotReady)
        ;
    assert_true(use.pinned[0] == 1 && use.pinned[1] == 2);
    (void)cudaGetLastError();
}

/* What another stream was given happens only if it is waited for. */
void test_events(void **)
{
    fixture use;
    cudaEvent_t event;
    assert_int_equal(cudaEventCreate(&event), cudaSuccess);
    assert_int_equal(cudaEventQuery(event), cudaSuccess); /* never recorded */
    assert_int_equal(cudaMemsetAsync(use.device, 0, 4, use.stream), cudaSuccess);
    assert_true(use.first(use.stream) == 0);
    start(use.other, 1, 1, add_kernel, use.device, 1.0f);
    assert_int_equal(cudaEventRecord(event, use.other), cudaSuccess);
    assert_true(use.first(use.stream) == 0);
    assert_int_equal(cudaStreamWaitEvent(use.stream, event, 0), cudaSuccess);
    assert_true(use.first(use.stream) == 1);
    start(use.other, 1, 1, add_kernel, use.device, 1.0f);
    assert_int_equal(cudaEventRecord(event, use.other), cudaSuccess); /* the wait above was for the first record */
    assert_int_equal(cudaEventQuery(event), cudaErrorNotReady);
    assert_int_equal(cudaEventSynchronize(event), cudaSuccess);
    assert_int_equal(cudaEventQuery(event), cudaSuccess);
    assert_true(use.first(use.stream) == 2);
    assert_int_equal(cudaEventDestroy(event), cudaSuccess);
    (void)cudaGetLastError();
}

/* value = (value + 1) * 2 on two streams, with or without what joins them. */
cudaError_t record(fixture &use, cudaGraph_t *graph, bool forward, bool back)
{
    cudaEvent_t forked, joined;
    assert_int_equal(cudaEventCreate(&forked), cudaSuccess);
    assert_int_equal(cudaEventCreate(&joined), cudaSuccess);
    assert_int_equal(cudaStreamBeginCapture(use.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    if (!forward)
        assert_int_equal(cudaEventRecord(forked, use.stream), cudaSuccess);
    start(use.stream, 1, 1, add_kernel, use.device, 1.0f);
    if (forward)
        assert_int_equal(cudaEventRecord(forked, use.stream), cudaSuccess);
    assert_int_equal(cudaStreamWaitEvent(use.other, forked, 0), cudaSuccess);
    start(use.other, 1, 1, multiply_kernel, use.device, 2.0f);
    assert_int_equal(cudaEventRecord(joined, use.other), cudaSuccess);
    if (back)
        assert_int_equal(cudaStreamWaitEvent(use.stream, joined, 0), cudaSuccess);
    cudaError_t error = cudaStreamEndCapture(use.stream, graph);
    assert_int_equal(cudaEventDestroy(forked), cudaSuccess);
    assert_int_equal(cudaEventDestroy(joined), cudaSuccess);
    return error;
}

void test_graph(void **)
{
    fixture use;
    for (bool ordered : {true, false}) {
        cudaGraph_t graph;
        cudaGraphExec_t exec;
        assert_int_equal(cudaMemsetAsync(use.device, 0, 4, use.stream), cudaSuccess);
        assert_int_equal(record(use, &graph, ordered, true), cudaSuccess);
        assert_int_equal(cudaGraphInstantiate(&exec, graph, 0), cudaSuccess);
        assert_int_equal(cudaGraphDestroy(graph), cudaSuccess);
        assert_true(use.first(use.stream) == 0); /* recorded, not run */
        assert_int_equal(cudaGraphLaunch(exec, use.stream), cudaSuccess);
        assert_int_equal(cudaGraphLaunch(exec, use.stream), cudaSuccess);
        assert_int_equal(cudaGraphExecDestroy(exec), cudaSuccess);
        assert_int_equal(use.first(use.stream) == 6, ordered); /* a dependence that was forgotten shows */
    }
}

void test_bad_captures(void **)
{
    fixture use;
    cudaGraph_t graph;
    void *memory;
    assert_int_equal(record(use, &graph, true, false), cudaErrorStreamCaptureUnjoined);
    assert_null(graph);
    assert_int_equal(cudaStreamBeginCapture(use.stream, cudaStreamCaptureModeThreadLocal), cudaSuccess);
    assert_int_equal(cudaMalloc(&memory, 4), cudaErrorStreamCaptureUnsupported);
    assert_int_equal(cudaStreamEndCapture(use.stream, &graph), cudaErrorStreamCaptureInvalidated);
    assert_int_equal(cudaStreamSynchronize(use.stream), cudaSuccess);
    (void)cudaGetLastError();
}

} // namespace

int main()
{
    const CMUnitTest tests[] = {
        cmocka_unit_test(test_sum),           cmocka_unit_test(test_missing_barrier), cmocka_unit_test(test_divergence),
        cmocka_unit_test(test_configuration), cmocka_unit_test(test_memory),          cmocka_unit_test(test_devices),
        cmocka_unit_test(test_deferred),      cmocka_unit_test(test_events),          cmocka_unit_test(test_graph),
        cmocka_unit_test(test_bad_captures),
    };
    int failed = cmocka_run_group_tests(tests, nullptr, nullptr);
    return failed || rdp_emulation_allocations() != 0;
}
