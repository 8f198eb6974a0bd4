/*
 * How a convolution gets its plan, without a GPU: plans are real ones of cuDNN for a GPU that exists only as text, while
 * the calls that would touch a device are replaced by ours: memory is the host's, running a plan does nothing, and a
 * clock of ours says how long it took. So the test decides which candidate is the fastest, and which fail.
 */
#include <dlfcn.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include "base/status.h"
#include "kernels/cuda/conv_tune.h"
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/device.h"

enum { SKIP = 77, RUNS = 13 /* of a candidate: 3 to warm up, 10 timed */, MIB = 1 << 20 };

/* ---- the device that is not there -------------------------------------------------------------------------------- */

static struct {
    int executed;                       /* calls of cudnnBackendExecute outside recordings */
    int fastest, failing, unrecordable; /* candidate's place in the order of trial; -1: none */
    bool recording;
    int allocations; /* cudaMalloc less cudaFree */
    size_t memory;
    bool flushed;
    int tensors;              /* of the last pack that was made */
    void *data[CONV_TENSORS]; /* X, W, Y and, with sums, mean, sum, squares */
} device;

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    assert_null(handle);
    assert_non_null(plan);
    assert_non_null(pack);
    if (device.recording)
        return CUDNN_STATUS_SUCCESS;
    int candidate = device.executed / RUNS;
    device.executed++;
    if (candidate != device.failing)
        return CUDNN_STATUS_SUCCESS;
    device.executed = RUNS * (candidate + 1); /* its other runs do not come */
    return CUDNN_STATUS_EXECUTION_FAILED;
}

/* Looks at what packs are made of; everything is cuDNN's to do. */
cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t attribute,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    static cudnnStatus_t (*real)(cudnnBackendDescriptor_t, cudnnBackendAttributeName_t, cudnnBackendAttributeType_t,
                                 int64_t, const void *);
    if (real == NULL)
        *(void **)&real = dlsym(RTLD_NEXT, "cudnnBackendSetAttribute");
    assert_non_null(real);
    if (attribute == CUDNN_ATTR_VARIANT_PACK_DATA_POINTERS) {
        assert_in_range(count, CONV_Y, CONV_TENSORS);
        device.tensors = (int)count;
        memcpy(device.data, values, (size_t)count * sizeof *device.data);
    }
    return real(descriptor, attribute, type, count, values);
}

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
    if (bytes > device.memory || posix_memalign(pointer, 256, bytes) != 0)
        return cudaErrorMemoryAllocation;
    device.allocations++;
    return cudaSuccess;
}

cudaError_t cudaFree(void *pointer)
{
    device.allocations -= pointer != NULL;
    free(pointer);
    return cudaSuccess;
}

cudaError_t cudaMemcpy(void *to, const void *from, size_t bytes, enum cudaMemcpyKind kind)
{
    (void)kind;
    memcpy(to, from, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *pointer, int value, size_t bytes, cudaStream_t stream)
{
    (void)stream;
    memset(pointer, value, bytes);
    device.flushed = true;
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *all_bytes)
{
    *free_bytes = *all_bytes = device.memory;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *index)
{
    *index = 0;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int index)
{
    (void)index;
    assert_int_equal(attribute, cudaDevAttrL2CacheSize);
    *value = MIB;
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    static int token;
    *event = (cudaEvent_t)(void *)&token;
    return cudaSuccess;
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    assert_non_null(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    (void)event;
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    (void)event;
    return cudaSuccess;
}

/* 1 ms for the fastest candidate, 2 ms for the others, with one outlier each that the median must not mind. */
cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t start, cudaEvent_t stop)
{
    (void)start;
    (void)stop;
    assert_true(device.flushed);
    int candidate = (device.executed - 1) / RUNS;
    *milliseconds = candidate == device.fastest ? 1 : 2;
    if ((device.executed - 1) % RUNS == RUNS - 1)
        *milliseconds = candidate == device.fastest ? 50 : 0.01F;
    device.flushed = false;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    (void)stream;
    return cudaSuccess;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    (void)stream;
    assert_int_equal(mode, cudaStreamCaptureModeThreadLocal);
    assert_false(device.recording);
    device.recording = true;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    (void)stream;
    assert_true(device.recording);
    device.recording = false;
    const bool spoilt = (device.executed - 1) / RUNS == device.unrecordable;
    *graph = spoilt ? NULL : (cudaGraph_t)(void *)&device;
    return spoilt ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    assert_ptr_equal(graph, &device);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    return cudaSuccess;
}

/* ---- set-up ------------------------------------------------------------------------------------------------------ */

static struct cuda_library library;
static char directory[64], path[128];
static struct plan_choice candidates[CONV_CANDIDATES]; /* of the problem below, in the order of trial */
static int candidate_count;

static const struct conv_problem problem = {.kind = CONV_FORWARD,
                                            .precision = RDP_KERNEL_TF32,
                                            .batch = 4,
                                            .channels = 64,
                                            .height = 32,
                                            .width = 32,
                                            .filters = 64,
                                            .kernel = 3,
                                            .stride = 1};

static void must(int status)
{
    if (status != RDP_OK)
        fail_msg("%s", rdp_fail_message());
}

static int open_library(void **state)
{
    (void)state;
    static const char json[] =
        "{\"deviceVer\":900,\"multiProcessorCount\":132,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
        "\"maxSharedMemoryPerBlockOptin\":232448,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,"
        "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"regsPerBlock\":65536,"
        "\"totalGlobalMem\":150000000000,\"smClockRateKHz\":1980000,\"memClockRateKHz\":3201000,"
        "\"l2CacheSize\":52428800,\"maxBlockSize\":[1024,1024,64],\"maxGridSize\":[2147483647,65535,65535],"
        "\"supportCoopLaunch\":1,\"pciDeviceId\":0,\"cudaDeviceId\":0,\"isTccDriver\":0,\"driverVer\":13000,"
        "\"deviceName\":\"NVIDIA H200\"}";
    memset(&device, 0, sizeof device);
    device.fastest = device.failing = device.unrecordable = -1;
    device.memory = (size_t)1024 * MIB;
    strcpy(directory, "/tmp/rdp-tune-XXXXXX");
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/plans.txt", directory);
    library = (struct cuda_library){.handle = NULL};
    must(conv_target_describe(&library.target, json, "NVIDIA H200", 9, 0, 132));
    must(plan_cache_open(&library.cache, path));
    struct conv_graph graph;
    struct conv_census census = {0};
    must(conv_graph_open(&graph, &library.target, &problem, PLAN_PLAIN));
    candidate_count = conv_candidates(&graph, candidates, &census);
    conv_graph_close(&graph);
    assert_true(candidate_count > 24);
    return 0;
}

static int close_library(void **state)
{
    (void)state;
    plan_cache_close(library.cache);
    conv_target_close(&library.target);
    unlink(path);
    return rmdir(directory);
}

/* Plans the convolution, expects this choice, and that nothing of the scratch memory is left. */
static void tune(const struct plan_choice *expected)
{
    struct conv_run run;
    device.executed = 0;
    must(conv_tune(&library, NULL, &problem, NULL, &run));
    assert_non_null(run.plan);
    assert_true(plan_choice_equal(&run.plan->choice, expected));
    assert_int_equal(run.pack_count, 0);
    assert_int_equal(device.allocations, 0);
    assert_string_equal(rdp_fail_message(), "");
    conv_run_close(&run);
}

static void cached_choice(struct plan_entry *entry)
{
    conv_problem_key(&problem, &library.target, entry->key);
    const struct plan_entry *found = plan_cache_find(library.cache, entry->key);
    assert_non_null(found);
    *entry = *found;
}

/* ---- tests ------------------------------------------------------------------------------------------------------- */

static void test_fastest(void **state)
{
    (void)state;
    struct plan_entry entry;
    device.fastest = 5;
    tune(&candidates[5]);
    assert_int_equal(device.executed, 24 * RUNS + 1); /* and once more, warm */
    cached_choice(&entry);
    assert_true(plan_choice_equal(&entry.choice, &candidates[5]));
    assert_float_equal(entry.microseconds, 1000, 0);
}

/* The second time, and in another process, nothing is timed. */
static void test_cached(void **state)
{
    (void)state;
    device.fastest = 7;
    tune(&candidates[7]);
    device.fastest = 3;
    tune(&candidates[7]);
    assert_int_equal(device.executed, 1);
    plan_cache_close(library.cache);
    must(plan_cache_open(&library.cache, path));
    tune(&candidates[7]);
    assert_int_equal(device.executed, 1);
}

/* A candidate that fails is out, whatever its place, and the program goes on. */
static void test_failing(void **state)
{
    (void)state;
    device.fastest = device.failing = 5;
    tune(&candidates[0]);
}

/* Nor is one chosen that cannot be part of a recorded step. */
static void test_unrecordable(void **state)
{
    (void)state;
    device.fastest = device.unrecordable = 5;
    tune(&candidates[0]);
}

/* The cache names a plan that does not exist: it is timed anew and replaced. Its warning is expected. */
static void test_stale(void **state)
{
    (void)state;
    struct plan_entry entry = {.choice = {.engine = 100000}, .microseconds = 1};
    conv_problem_key(&problem, &library.target, entry.key);
    must(plan_cache_store(library.cache, &entry, NULL));
    device.fastest = 2;
    tune(&candidates[2]);
    cached_choice(&entry);
    assert_true(plan_choice_equal(&entry.choice, &candidates[2]));
}

/* Another rank was first: its choice counts, not ours. */
static void test_other_rank(void **state)
{
    (void)state;
    struct plan_cache *other;
    struct plan_entry entry = {.choice = candidates[9], .microseconds = 1};
    must(plan_cache_open(&other, path));
    conv_problem_key(&problem, &library.target, entry.key);
    must(plan_cache_store(other, &entry, NULL));
    plan_cache_close(other);
    device.fastest = 2;
    tune(&candidates[9]);
}

/* Another rank's choice does not work here: our own does. */
static void test_other_rank_unlike(void **state)
{
    (void)state;
    struct plan_cache *other;
    struct plan_entry entry = {.choice = {.engine = 100000}, .microseconds = 1};
    must(plan_cache_open(&other, path));
    conv_problem_key(&problem, &library.target, entry.key);
    must(plan_cache_store(other, &entry, NULL));
    plan_cache_close(other);
    device.fastest = 4;
    tune(&candidates[4]);
}

static void test_no_memory(void **state)
{
    (void)state;
    struct conv_run run;
    device.memory = 1000;
    assert_int_equal(conv_tune(&library, NULL, &problem, NULL, &run), RDP_ENOMEM);
    assert_non_null(strstr(rdp_fail_message(), "use a smaller batch"));
    rdp_fail_clear();
    assert_null(run.plan);
    assert_int_equal(device.allocations, 0);
}

/* Pointers that repeat find their pack again; a workspace that moved is a new one. */
static void test_packs(void **state)
{
    (void)state;
    struct conv_run run;
    _Alignas(256) static char memory[4][256];
    struct conv_pointers pointers = {.x = memory[0], .w = memory[1], .y = memory[2]};
    must(conv_run_open(&run, &library.target, &problem, &candidates[0]));
    for (int i = 0; i < 4; i++)
        must(conv_run_start(&run, NULL, NULL, &pointers));
    assert_int_equal(run.pack_count, 1);
    pointers.workspace = memory[3];
    must(conv_run_start(&run, NULL, NULL, &pointers));
    pointers.y = memory[3];
    must(conv_run_start(&run, NULL, NULL, &pointers));
    pointers = (struct conv_pointers){.x = memory[0], .w = memory[1], .y = memory[2]};
    must(conv_run_start(&run, NULL, NULL, &pointers));
    assert_int_equal(run.pack_count, 3);
    conv_run_forget(&run);
    assert_int_equal(run.pack_count, 0);
    conv_run_close(&run);
}

/* Forward and backward data run on ranges of `chunk` images, which begin at the range's first image, and on no others; a
 * gradient of weights takes the whole batch. */
static void test_ranges(void **state)
{
    (void)state;
    enum { BATCH = 8, CHUNK = 4, IMAGE = 32 * 32 * 64 * 4, SMALLER = 16 * 16 * 128 * 4 };
    struct cuda_state cuda = {.element_size = 4, .sm_count = 132, .library = &library};
    struct rdp_device gpu = {.config = {.precision = RDP_KERNEL_TF32}, .state = &cuda};
    const struct rdp_conv_desc desc = {.input = {64, 32, 32},
                                       .output = {128, 16, 16},
                                       .kernel = 3,
                                       .stride = 2,
                                       .batch = BATCH,
                                       .chunk = CHUNK,
                                       .training = true};
    struct rdp_conv *conv;
    char *x = malloc(BATCH * IMAGE), *y = malloc(BATCH * SMALLER);
    float *w = calloc(128 * 9 * 64, sizeof *w);
    assert_true(x != NULL && y != NULL && w != NULL);
    must(cuda_conv_create(&gpu, &conv, &desc));
    must(cuda_conv_weights(&gpu, conv, w, NULL, true));
    for (int first = BATCH - CHUNK; first >= 0; first -= CHUNK)
        for (int direction = 0; direction < 2; direction++) {
            if (direction == 0)
                must(cuda_conv_forward(&gpu, conv, x, y, first, CHUNK));
            else
                must(cuda_conv_backward_data(&gpu, conv, y, x, first, CHUNK));
            assert_ptr_equal(device.data[0], x + first * IMAGE);
            assert_ptr_equal(device.data[1], w);
            assert_ptr_equal(device.data[2], y + first * SMALLER);
        }
    must(cuda_conv_backward_weights(&gpu, conv, x, y, w));
    assert_ptr_equal(device.data[0], x);
    assert_ptr_equal(device.data[2], y);
    assert_int_equal(cuda_conv_forward(&gpu, conv, x, y, 0, BATCH), RDP_EINTERNAL);
    assert_int_equal(cuda_conv_forward(&gpu, conv, x, y, 2, CHUNK), RDP_EINTERNAL);
    assert_int_equal(cuda_conv_backward_data(&gpu, conv, y, x, BATCH, CHUNK), RDP_EINTERNAL);
    rdp_fail_clear();
    cuda_conv_destroy(&gpu, conv);
    cuda_free(&gpu, cuda.workspace);
    assert_int_equal(device.allocations, 0);
    free(x);
    free(y);
    free(w);
}

/* ---- with the statistics behind it ---- */

/* What the statistics of a trial saw; a candidate in place `wrong` has wrong sums. */
struct trial {
    int started, checked, wrong;
};

static int count_start(void *context, const struct conv_run *run, const struct conv_pointers *pointers)
{
    struct trial *trial = context;
    assert_non_null(run->plan);
    assert_non_null(pointers->y);
    trial->started++;
    return RDP_OK;
}

static int judge(void *context, const struct conv_run *run, const struct conv_pointers *pointers, bool *right)
{
    struct trial *trial = context;
    assert_non_null(run->plan);
    assert_non_null(pointers->y);
    assert_int_equal(device.executed % RUNS, 0); /* after all runs of it */
    trial->checked++;
    *right = trial->wrong != device.executed / RUNS - 1;
    return RDP_OK;
}

static struct conv_problem with_statistics(enum conv_kind kind)
{
    struct conv_problem fused = problem;
    fused.kind = kind;
    fused.precision = RDP_KERNEL_BF16;
    return fused;
}

/* A candidate whose sums are wrong is out, however fast; the statistics run, and are timed, behind every run. Its warning is
 * expected. */
static void test_either(void **state)
{
    (void)state;
    const struct conv_problem either = with_statistics(CONV_EITHER);
    struct trial trial = {.wrong = 7};
    const struct conv_sequel sequel = {.start = count_start, .check = judge, .context = &trial};
    struct conv_run run;
    struct conv_graph graph;
    struct conv_census census = {0};
    struct plan_entry entry;
    must(conv_graph_open(&graph, &library.target, &either, PLAN_PLAIN));
    assert_true(conv_candidates(&graph, candidates, &census) > 7);
    conv_graph_close(&graph);
    device.fastest = 7;
    must(conv_tune(&library, NULL, &either, &sequel, &run));
    assert_non_null(run.plan);
    assert_true(plan_choice_equal(&run.plan->choice, &candidates[0]));
    assert_int_equal(trial.started, device.executed - 1); /* but for the last run, which only warms up */
    assert_true(trial.checked >= 2);
    conv_run_close(&run);
    conv_problem_key(&either, &library.target, entry.key);
    const struct plan_entry *found = plan_cache_find(library.cache, entry.key);
    assert_non_null(found);
    assert_true(plan_choice_equal(&found->choice, &candidates[0]));
    conv_problem_key(&problem, &library.target, entry.key);
    assert_null(plan_cache_find(library.cache, entry.key));
    assert_int_equal(device.allocations, 0);
}

/* Where no engine sums, or none sums right, there is no plan, and that is no error. */
static void test_fused_not_to_be_had(void **state)
{
    (void)state;
    const struct conv_problem fused = with_statistics(CONV_FUSED);
    struct conv_problem f32 = fused;
    struct trial trial = {.wrong = 0};
    const struct conv_sequel sequel = {.start = count_start, .check = judge, .context = &trial};
    struct conv_run run;
    f32.precision = RDP_KERNEL_F32;
    device.memory = (size_t)64 * MIB;
    for (int i = 0; i < 2; i++) {
        must(conv_tune(&library, NULL, i == 0 ? &fused : &f32, &sequel, &run));
        assert_true(run.plan == NULL ||
                    device.executed > RUNS); /* a driver is here, and its second candidate is right */
        conv_run_close(&run);
        assert_string_equal(rdp_fail_message(), "");
        assert_int_equal(device.allocations, 0);
    }
}

/* The pack of a convolution that sums; its plan, which only a driver could finish, is never looked into here. */
static void test_pack_with_sums(void **state)
{
    (void)state;
    const struct conv_problem fused = with_statistics(CONV_FUSED);
    _Alignas(256) static char memory[3][256];
    _Alignas(256) static float mean[64], sums[2][64];
    const struct conv_pointers pointers = {
        .x = memory[0], .w = memory[1], .y = memory[2], .mean = mean, .sums = sums[0]};
    struct conv_pointers others = pointers;
    struct conv_plan plan = {.workspace = 0, .plan = (cudnnBackendDescriptor_t)(void *)&device};
    struct conv_run run = {.plan = &plan};
    must(conv_graph_open(&run.graph, &library.target, &fused, PLAN_SUMS));
    must(conv_run_start(&run, NULL, NULL, &pointers));
    assert_int_equal(device.tensors, 6);
    assert_ptr_equal(device.data[CONV_MEAN - 1], mean);
    assert_ptr_equal(device.data[CONV_SUM - 1], sums[0]);
    assert_ptr_equal(device.data[CONV_SQUARES - 1], sums[1]);
    others.mean = &mean[4];
    must(conv_run_start(&run, NULL, NULL, &others));
    must(conv_run_start(&run, NULL, NULL, &pointers));
    assert_int_equal(run.pack_count, 2);
    run.plan = NULL; /* not the heap's */
    conv_run_close(&run);
}

int main(void)
{
#define TUNE_TEST(name) cmocka_unit_test_setup_teardown(name, open_library, close_library)
    const struct CMUnitTest tests[] = {
        TUNE_TEST(test_fastest),
        TUNE_TEST(test_cached),
        TUNE_TEST(test_failing),
        TUNE_TEST(test_unrecordable),
        TUNE_TEST(test_stale),
        TUNE_TEST(test_other_rank),
        TUNE_TEST(test_other_rank_unlike),
        TUNE_TEST(test_no_memory),
        TUNE_TEST(test_packs),
        TUNE_TEST(test_ranges),
        TUNE_TEST(test_either),
        TUNE_TEST(test_fused_not_to_be_had),
        TUNE_TEST(test_pack_with_sums),
    };
    if (CUDNN_VERSION < 91100 || cudnnGetVersion() < 91100) {
        printf("skipped: planning for a GPU that is not there needs cuDNN 9.11 or newer\n");
        return SKIP;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
