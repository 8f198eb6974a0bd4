/*
 * See conv_tune.h. A candidate is warmed up and then timed with the L2 cache flushed before each run, as a step finds it
 * (the tensors of a layer are mostly larger than the cache, or were written long before); the median counts. The
 * scratch tensors hold random numbers: zeros make tensor cores draw less power and so run faster than they will.
 */
#include "kernels/cuda/conv_tune.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "base/text.h"
#include "kernels/cuda/cuda.h"

enum {
    TIMED = 24, /* plans per family: the heuristics' order is good, its first place is not */
    WARM_RUNS = 3,
    TIMED_RUNS = 10,
    PATTERN = 1 << 18 /* f32 elements of random numbers, repeated over a tensor */
};

static const size_t WORKSPACE_MOST = (size_t)1 << 30;

struct scratch {
    struct conv_pointers pointers;
    size_t workspace_size;
    void *flush;
    size_t flush_size;
    cudaEvent_t start, stop;
    const struct conv_sequel *sequel; /* NULL: none */
};

/* ---- scratch memory ---------------------------------------------------------------------------------------------- */

static int scratch_alloc(void **pointer, size_t bytes)
{
    if (cudaMalloc(pointer, bytes) == cudaSuccess)
        return RDP_OK;
    cudaGetLastError(); /* forgets it */
    *pointer = NULL;
    char size[32];
    return rdp_fail(
        RDP_ENOMEM,
        "no %s of device memory to try a convolution with; use a smaller batch, or free the device of other "
        "programs",
        rdp_format_bytes(size, sizeof size, (double)bytes));
}

/* Random numbers in +-0.5, as f32 or (upper halves) bf16. */
static void make_pattern(float *pattern, uint16_t *narrow)
{
    uint32_t random = 2463534242U; /* xorshift32, Marsaglia 2003 */
    for (int i = 0; i < PATTERN; i++) {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        pattern[i] = (float)random / 4294967296.0F - 0.5F;
        uint32_t bits;
        memcpy(&bits, &pattern[i], sizeof bits);
        narrow[i] = (uint16_t)(bits >> 16);
    }
}

/* The pattern, and then what is there already behind itself. */
static int fill(void *to, size_t bytes, const void *pattern, size_t pattern_bytes)
{
    size_t done = bytes < pattern_bytes ? bytes : pattern_bytes;
    RDP_CUDA(cudaMemcpy(to, pattern, done, cudaMemcpyHostToDevice));
    while (done < bytes) {
        size_t piece = bytes - done < done ? bytes - done : done;
        RDP_CUDA(cudaMemcpy((char *)to + done, to, piece, cudaMemcpyDeviceToDevice));
        done += piece;
    }
    return RDP_OK;
}

static int fill_tensors(struct scratch *scratch, const struct conv_problem *problem)
{
    float *pattern = malloc(PATTERN * sizeof *pattern);
    uint16_t *narrow = malloc(PATTERN * sizeof *narrow);
    int status = RDP_OK;
    if (pattern == NULL || narrow == NULL) {
        status = rdp_fail(RDP_ENOMEM, "no memory for random numbers");
        goto out;
    }
    make_pattern(pattern, narrow);
    bool bf16 = problem->precision == RDP_KERNEL_BF16;
    const void *source = bf16 ? (const void *)narrow : pattern;
    size_t bytes = PATTERN * (bf16 ? sizeof *narrow : sizeof *pattern);
    void *const tensors[] = {scratch->pointers.x, scratch->pointers.w, scratch->pointers.y};
    for (int id = CONV_X; id <= CONV_Y && status == RDP_OK; id++)
        status = fill(tensors[id - 1], conv_tensor_bytes(problem, PLAN_PLAIN, id), source, bytes);
out:
    free(narrow);
    free(pattern);
    return status;
}

static int scratch_open(struct scratch *scratch, const struct conv_problem *problem, const struct conv_sequel *sequel)
{
    *scratch = (struct scratch){.sequel = sequel};
    if (sequel != NULL) {
        scratch->pointers.mean = sequel->mean;
        scratch->pointers.sums = sequel->sums;
    }
    RDP_TRY(scratch_alloc(&scratch->pointers.x, conv_tensor_bytes(problem, PLAN_PLAIN, CONV_X)));
    RDP_TRY(scratch_alloc(&scratch->pointers.y, conv_tensor_bytes(problem, PLAN_PLAIN, CONV_Y)));
    /* A gradient is f32 in the end, whatever the family. */
    RDP_TRY(scratch_alloc(&scratch->pointers.w, 2 * conv_tensor_bytes(problem, PLAN_PLAIN, CONV_W)));
    return RDP_OK;
}

/* What timing needs and a plan from the cache does not. */
static int scratch_prepare_timing(struct scratch *scratch, const struct conv_problem *problem)
{
    int device = 0, cache = 0;
    RDP_TRY(fill_tensors(scratch, problem));
    RDP_CUDA(cudaEventCreate(&scratch->start));
    RDP_CUDA(cudaEventCreate(&scratch->stop));
    RDP_CUDA(cudaDeviceSynchronize()); /* the copies are done; they ran on another stream */
    RDP_CUDA(cudaGetDevice(&device));
    RDP_CUDA(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device));
    scratch->flush_size = 2 * (size_t)cache;
    return scratch_alloc(&scratch->flush, scratch->flush_size);
}

static int scratch_grow_workspace(struct scratch *scratch, size_t bytes)
{
    if (bytes <= scratch->workspace_size)
        return RDP_OK;
    RDP_CUDA(cudaFree(scratch->pointers.workspace));
    scratch->pointers.workspace = NULL;
    scratch->workspace_size = 0;
    RDP_TRY(scratch_alloc(&scratch->pointers.workspace, bytes));
    scratch->workspace_size = bytes;
    return RDP_OK;
}

static void scratch_close(struct scratch *scratch)
{
    cudaFree(scratch->pointers.x);
    cudaFree(scratch->pointers.y);
    cudaFree(scratch->pointers.w);
    cudaFree(scratch->pointers.workspace);
    cudaFree(scratch->flush);
    if (scratch->start != NULL)
        cudaEventDestroy(scratch->start);
    if (scratch->stop != NULL)
        cudaEventDestroy(scratch->stop);
}

/* ---- timing ------------------------------------------------------------------------------------------------------ */

static int by_size(const void *a, const void *b)
{
    float first = *(const float *)a, second = *(const float *)b;
    return (first > second) - (first < second);
}

/* The convolution and what belongs to it. */
static int start(struct cuda_library *library, cudaStream_t stream, struct conv_run *run, const struct scratch *scratch)
{
    const struct conv_sequel *sequel = scratch->sequel;
    RDP_TRY(conv_run_start(run, library->handle, stream, &scratch->pointers));
    return sequel == NULL ? RDP_OK : sequel->start(sequel->context, run, &scratch->pointers);
}

static int time_runs(struct cuda_library *library, cudaStream_t stream, struct conv_run *run,
                     const struct scratch *scratch, double *microseconds)
{
    float times[TIMED_RUNS];
    for (int i = 0; i < WARM_RUNS; i++)
        RDP_TRY(start(library, stream, run, scratch));
    for (int i = 0; i < TIMED_RUNS; i++) {
        RDP_CUDA(cudaMemsetAsync(scratch->flush, i, scratch->flush_size, stream));
        RDP_CUDA(cudaEventRecord(scratch->start, stream));
        RDP_TRY(start(library, stream, run, scratch));
        RDP_CUDA(cudaEventRecord(scratch->stop, stream));
        RDP_CUDA(cudaEventSynchronize(scratch->stop));
        RDP_CUDA(cudaEventElapsedTime(&times[i], scratch->start, scratch->stop));
    }
    qsort(times, TIMED_RUNS, sizeof *times, by_size);
    *microseconds = 1e3 * (times[TIMED_RUNS / 2 - 1] + times[TIMED_RUNS / 2]) / 2;
    return RDP_OK;
}

/* After its runs, so that what one of them leaves to the next is seen as well. */
static int check(const struct conv_run *run, const struct scratch *scratch, bool *right)
{
    const struct conv_sequel *sequel = scratch->sequel;
    char key[PLAN_KEY];
    RDP_TRY(sequel->check(sequel->context, run, &scratch->pointers, right));
    if (*right)
        return RDP_OK;
    conv_problem_key(&run->graph.problem, run->graph.target, key);
    rdp_log_warning("%s gives wrong sums and is not used: %s", run->description, key);
    return RDP_OK;
}

/* A candidate that cannot run is out of the race and no error, unless it took the device with it. */
static int forgive(cudaStream_t stream, int status)
{
    if (status == RDP_OK)
        return RDP_OK;
    if (cudaStreamSynchronize(stream) != cudaSuccess)
        return status;
    cudaGetLastError();
    rdp_fail_clear();
    return RDP_OK;
}

/* Whether the run can be part of a recorded step: some engines are other libraries' (cublasLt), which may do what a
 * recording forbids. It ran before, so that everything is loaded. */
static bool can_be_recorded(struct cuda_library *library, cudaStream_t stream, struct conv_run *run,
                            const struct scratch *scratch)
{
    cudaGraph_t graph = NULL;
    cudaError_t error = cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal);
    int status = RDP_OK;
    if (error == cudaSuccess) {
        status = conv_run_start(run, library->handle, stream, &scratch->pointers);
        error = cudaStreamEndCapture(stream, &graph);
    }
    if (graph != NULL)
        cudaGraphDestroy(graph);
    if (error != cudaSuccess)
        cudaGetLastError(); /* forgets it */
    if (status != RDP_OK)
        rdp_fail_clear();
    return status == RDP_OK && error == cudaSuccess;
}

/* Times one candidate and keeps it in *best if it is the fastest so far. */
static int try_candidate(struct cuda_library *library, cudaStream_t stream, const struct conv_problem *problem,
                         const struct plan_choice *choice, struct scratch *scratch, size_t workspace_most,
                         struct plan_entry *best, bool *timed)
{
    struct conv_run run;
    int status = conv_run_open(&run, &library->target, problem, choice);
    *timed = false;
    if (status == RDP_OK && run.plan != NULL && conv_run_workspace(&run) <= workspace_most)
        status = scratch_grow_workspace(scratch, conv_run_workspace(&run));
    else
        goto out;
    if (status != RDP_OK)
        goto out;
    double microseconds = 0;
    status = time_runs(library, stream, &run, scratch, &microseconds);
    *timed = status == RDP_OK;
    bool right = *timed && (best->microseconds == 0 || microseconds < best->microseconds) &&
                 can_be_recorded(library, stream, &run, scratch);
    if (right && scratch->sequel != NULL)
        status = check(&run, scratch, &right);
    if (right && status == RDP_OK) {
        best->choice = *choice;
        best->microseconds = microseconds;
    }
    status = forgive(stream, status);
out:
    conv_run_close(&run);
    return status;
}

static int time_family(struct cuda_library *library, cudaStream_t stream, const struct conv_problem *problem,
                       enum plan_family family, struct scratch *scratch, struct plan_entry *best,
                       struct conv_census *census)
{
    size_t free_memory = 0, all_memory = 0;
    RDP_CUDA(cudaMemGetInfo(&free_memory, &all_memory));
    size_t most = free_memory / 4 < WORKSPACE_MOST ? free_memory / 4 : WORKSPACE_MOST;
    struct plan_choice *choices = calloc(CONV_CANDIDATES, sizeof *choices);
    if (choices == NULL)
        return rdp_fail(RDP_ENOMEM, "no memory for the candidates of a convolution");
    struct conv_graph graph;
    int count = 0, status = conv_graph_open(&graph, &library->target, problem, family);
    if (status == RDP_OK)
        count = conv_candidates(&graph, choices, census);
    else if (status == RDP_EDEVICE && (best->microseconds > 0 || family == PLAN_SUMS)) {
        rdp_fail_clear(); /* a cuDNN without this form of the convolution: there is a plan already, or need not be one */
        status = RDP_OK;
    }
    status = count < 0 ? count : status;
    int timed = 0;
    for (int i = 0; i < count && timed < TIMED && status == RDP_OK; i++) {
        bool ran;
        status = try_candidate(library, stream, problem, &choices[i], scratch, most, best, &ran);
        timed += ran;
    }
    conv_graph_close(&graph);
    free(choices);
    return status;
}

static int time_all(struct cuda_library *library, cudaStream_t stream, const struct conv_problem *problem,
                    struct scratch *scratch, struct plan_entry *best)
{
    struct conv_census census = {0};
    RDP_TRY(scratch_prepare_timing(scratch, problem));
    for (int family = 0; family < PLAN_FAMILIES; family++)
        if (conv_family_applies(problem, family))
            RDP_TRY(time_family(library, stream, problem, family, scratch, best, &census));
    if (best->microseconds > 0 || problem->kind == CONV_FUSED)
        return RDP_OK;
    return rdp_fail(RDP_EDEVICE,
                    "no plan of cuDNN works for a convolution (%s): it named %d, of which %d give results that differ "
                    "from run to run, %d compute less precisely than asked for, and the others were refused, failed, "
                    "cannot be part of a CUDA graph, or want too much workspace. Try another --precision, a smaller "
                    "batch or a newer cuDNN",
                    best->key, census.named, census.nondeterministic, census.imprecise);
}

/* ---- choice ------------------------------------------------------------------------------------------------------ */

/* Opens the run and lets it run once; `works` false, without an error, if it does not. */
static int open_and_run(struct cuda_library *library, cudaStream_t stream, const struct conv_problem *problem,
                        const struct plan_choice *choice, struct scratch *scratch, struct conv_run *run, bool *works)
{
    *works = false;
    int status = conv_run_open(run, &library->target, problem, choice);
    if (status != RDP_OK || run->plan == NULL)
        return status;
    RDP_TRY(scratch_grow_workspace(scratch, conv_run_workspace(run)));
    status = conv_run_start(run, library->handle, stream, &scratch->pointers);
    *works = status == RDP_OK;
    RDP_TRY(forgive(stream, status));
    RDP_CUDA(cudaStreamSynchronize(stream));
    return RDP_OK;
}

static int choose(struct cuda_library *library, cudaStream_t stream, const struct conv_problem *problem,
                  struct scratch *scratch, struct conv_run *run)
{
    struct plan_entry entry = {.microseconds = 0};
    conv_problem_key(problem, &library->target, entry.key);
    const struct plan_entry *known = plan_cache_find(library->cache, entry.key);
    struct plan_choice refused;
    bool works = false;
    if (known != NULL) {
        refused = known->choice;
        if (conv_family_applies(problem, refused.family))
            RDP_TRY(open_and_run(library, stream, problem, &refused, scratch, run, &works));
        if (works)
            return RDP_OK;
        conv_run_close(run);
        rdp_log_warning("the plan cache's plan does not work any more and is timed anew: %s", entry.key);
    }
    RDP_TRY(time_all(library, stream, problem, scratch, &entry));
    if (entry.microseconds == 0)
        return RDP_OK;
    struct plan_choice own = entry.choice;
    RDP_TRY(plan_cache_store(library->cache, &entry, known != NULL ? &refused : NULL));
    if (conv_family_applies(problem, entry.choice.family))
        RDP_TRY(open_and_run(library, stream, problem, &entry.choice, scratch, run, &works));
    if (works)
        return RDP_OK;
    /* Another rank's choice, on a device that calls itself the same but is not, or has less memory. */
    conv_run_close(run);
    RDP_TRY(open_and_run(library, stream, problem, &own, scratch, run, &works));
    return works ? RDP_OK
                 : rdp_fail(RDP_EDEVICE, "a plan of cuDNN ran when it was timed, but not again: %s", entry.key);
}

int conv_tune(struct cuda_library *library, cudaStream_t stream, const struct conv_problem *problem,
              const struct conv_sequel *sequel, struct conv_run *run)
{
    struct scratch scratch;
    *run = (struct conv_run){.plan = NULL};
    int status = scratch_open(&scratch, problem, sequel);
    if (status == RDP_OK)
        status = choose(library, stream, problem, &scratch, run);
    /* The packs point to scratch memory that goes now. */
    conv_run_forget(run);
    scratch_close(&scratch);
    if (status != RDP_OK)
        conv_run_close(run);
    return status;
}
