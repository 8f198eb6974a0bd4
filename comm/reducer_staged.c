/*
 * The data plane over MPI for arrays on a CUDA device, through pinned host memory: for several ranks on one GPU, and
 * the oracle for NCCL. Only in builds with CUDA.
 *
 * A sum goes through three stages: its array is fetched to the host as soon as the compute stream has made it (FETCH),
 * the host's reducer (reducer_mpi.c) sums it over the ranks (SUM), the result is copied back (RETURN). Two streams
 * carry the copies, since a fetch may wait long for its array and must not hold up a return. Nothing moves by itself:
 * test() and wait() push every pending sum on, oldest first, so that all ranks begin the same sums in the same order.
 * wait() blocks until the return is enqueued; the compute stream then waits for the copy itself.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/cuda_streams.h"
#include "comm/poll.h"
#include "comm/reducers.h"
#include "comm/watchdog.h"

enum stage { STAGE_FETCH, STAGE_SUM, STAGE_RETURN };

struct staged_sum {
    struct staged_sum *next;
    enum stage stage;
    float *data; /* device [count], the caller's */
    float *host; /* pinned [capacity] */
    size_t count, capacity;
    const char *what;
    struct rdp_request request; /* of the host's reducer */
    cudaEvent_t fetched, returned;
};

struct staged_state {
    struct rdp_reducer host;
    cudaStream_t compute; /* the device's */
    cudaStream_t fetch, give_back;
    cudaEvent_t ready;          /* the compute stream has made an array */
    struct staged_sum *pending; /* oldest first */
    struct staged_sum *idle;    /* for reuse: after the first step nothing is allocated */
    double *numbers;            /* pinned, for sum_f64 */
    size_t numbers_capacity;
    cudaEvent_t numbers_fetched;
};

static void sum_destroy(struct staged_sum *sum)
{
    if (sum->fetched != NULL)
        cudaEventDestroy(sum->fetched);
    if (sum->returned != NULL)
        cudaEventDestroy(sum->returned);
    if (sum->host != NULL)
        cudaFreeHost(sum->host);
    free(sum);
}

static int sum_prepare(struct staged_sum *sum, size_t count)
{
    void *memory;

    RDP_TRY(rdp_event_create(&sum->fetched));
    RDP_TRY(rdp_event_create(&sum->returned));
    RDP_CUDA(cudaHostAlloc(&memory, count * sizeof(float), cudaHostAllocDefault));
    sum->host = memory;
    sum->capacity = count;
    return RDP_OK;
}

/*
 * An idle sum with the smallest buffer that is large enough, or a new one. Its last return may still be on its way: the
 * next fetch into the buffer comes after it all the same, since the compute stream waits for the return, and the fetch
 * for the compute stream.
 */
static int take_idle(struct staged_state *state, size_t count, struct staged_sum **taken)
{
    struct staged_sum **best = NULL;
    void *memory;

    for (struct staged_sum **link = &state->idle; *link != NULL; link = &(*link)->next)
        if ((*link)->capacity >= count && (best == NULL || (*link)->capacity < (*best)->capacity))
            best = link;
    if (best != NULL) {
        *taken = *best;
        *best = (*taken)->next;
        return RDP_OK;
    }
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **taken, "a pending sum"));
    *taken = memory;
    int status = sum_prepare(*taken, count);
    if (status != RDP_OK)
        sum_destroy(*taken);
    return status;
}

/* Pushes every pending sum on as far as it goes without waiting. */
static int advance(struct staged_state *state)
{
    struct rdp_reducer *host = &state->host;

    for (struct staged_sum *sum = state->pending; sum != NULL; sum = sum->next) {
        bool fetched = true;
        int summed = 0;
        if (sum->stage == STAGE_FETCH) {
            RDP_TRY(rdp_event_happened(sum->fetched, &fetched));
            if (!fetched)
                return RDP_OK; /* the later ones come after it */
            RDP_TRY(host->ops->begin(host, sum->host, sum->count, sum->what, &sum->request));
            sum->stage = STAGE_SUM;
        }
        if (sum->stage != STAGE_SUM)
            continue;
        RDP_TRY(host->ops->test(host, &sum->request, &summed));
        if (!summed)
            continue;
        RDP_CUDA(cudaMemcpyAsync(sum->data, sum->host, sum->count * sizeof(float), cudaMemcpyHostToDevice,
                                 state->give_back));
        RDP_CUDA(cudaEventRecord(sum->returned, state->give_back));
        sum->stage = STAGE_RETURN;
    }
    return RDP_OK;
}

static int begin(struct rdp_reducer *reducer, float *data, size_t count, const char *what, struct rdp_request *request)
{
    struct staged_state *state = reducer->state;
    struct staged_sum *sum;

    memset(request, 0, sizeof *request);
    if (count == 0)
        return RDP_OK;
    RDP_TRY(take_idle(state, count, &sum));
    sum->stage = STAGE_FETCH;
    sum->data = data;
    sum->count = count;
    sum->what = what;
    sum->next = NULL;
    struct staged_sum **tail = &state->pending;
    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = sum;
    request->opaque[0] = sum;
    RDP_TRY(rdp_stream_follow(state->fetch, state->compute, state->ready));
    RDP_CUDA(cudaMemcpyAsync(sum->host, data, count * sizeof(float), cudaMemcpyDeviceToHost, state->fetch));
    RDP_CUDA(cudaEventRecord(sum->fetched, state->fetch));
    return RDP_OK;
}

static void release(struct staged_state *state, struct rdp_request *request)
{
    struct staged_sum *sum = request->opaque[0];
    struct staged_sum **link = &state->pending;

    while (*link != sum)
        link = &(*link)->next;
    *link = sum->next;
    sum->next = state->idle;
    state->idle = sum;
    request->opaque[0] = NULL;
}

static int test(struct rdp_reducer *reducer, struct rdp_request *request, int *done)
{
    struct staged_state *state = reducer->state;
    struct staged_sum *sum = request->opaque[0];
    bool returned = sum == NULL;

    RDP_TRY(advance(state));
    if (sum != NULL && sum->stage == STAGE_RETURN) {
        RDP_TRY(rdp_event_happened(sum->returned, &returned));
        if (returned)
            release(state, request);
    }
    *done = returned;
    return RDP_OK;
}

static int wait_for(struct rdp_reducer *reducer, struct rdp_request *request, const char *what)
{
    struct staged_state *state = reducer->state;
    struct staged_sum *sum = request->opaque[0];
    int polls = 0;

    if (sum == NULL)
        return RDP_OK;
    RDP_TRY(advance(state));
    if (sum->stage != STAGE_RETURN) {
        rdp_watchdog_wait_begin(what, 0);
        while (sum->stage != STAGE_RETURN) {
            rdp_poll_pause(&polls, 0);
            RDP_TRY(advance(state));
        }
        rdp_watchdog_wait_end();
    }
    RDP_CUDA(cudaStreamWaitEvent(state->compute, sum->returned, 0));
    release(state, request);
    return RDP_OK;
}

static int reserve_numbers(struct staged_state *state, size_t count)
{
    void *memory;

    if (count <= state->numbers_capacity)
        return RDP_OK;
    RDP_CUDA(cudaStreamSynchronize(state->compute)); /* the old ones may be on their way to the device */
    if (state->numbers != NULL)
        RDP_CUDA(cudaFreeHost(state->numbers));
    state->numbers = NULL;
    state->numbers_capacity = 0;
    RDP_CUDA(cudaHostAlloc(&memory, count * sizeof(double), cudaHostAllocDefault));
    state->numbers = memory;
    state->numbers_capacity = count;
    return RDP_OK;
}

/* Copies on the compute stream itself, which has to wait for the sum anyway; only the host's part blocks. */
static int sum_f64(struct rdp_reducer *reducer, double *data, size_t count, const char *what)
{
    struct staged_state *state = reducer->state;
    const size_t bytes = count * sizeof *data;
    bool fetched = false;
    int polls = 0;

    if (count == 0)
        return RDP_OK;
    RDP_TRY(reserve_numbers(state, count));
    RDP_CUDA(cudaMemcpyAsync(state->numbers, data, bytes, cudaMemcpyDeviceToHost, state->compute));
    RDP_CUDA(cudaEventRecord(state->numbers_fetched, state->compute));
    rdp_watchdog_wait_begin(what, 0);
    while (!fetched) {
        RDP_TRY(advance(state));
        rdp_poll_pause(&polls, 0);
        RDP_TRY(rdp_event_happened(state->numbers_fetched, &fetched));
    }
    rdp_watchdog_wait_end();
    RDP_TRY(state->host.ops->sum_f64(&state->host, state->numbers, count, what));
    RDP_CUDA(cudaMemcpyAsync(data, state->numbers, bytes, cudaMemcpyHostToDevice, state->compute));
    return RDP_OK;
}

static int check(struct rdp_reducer *reducer, double seconds)
{
    (void)reducer, (void)seconds; /* only copies run on the device, whose errors it tells itself */
    return RDP_OK;
}

static void destroy_sums(struct staged_sum *sum)
{
    while (sum != NULL) {
        struct staged_sum *next = sum->next;
        sum_destroy(sum);
        sum = next;
    }
}

/* Also after half an opening. After an error copies may be pending: the streams are drained before their buffers go. */
static void destroy(struct rdp_reducer *reducer)
{
    struct staged_state *state = reducer->state;
    cudaStream_t streams[] = {state->fetch, state->give_back};
    cudaEvent_t events[] = {state->ready, state->numbers_fetched};

    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++)
        if (streams[i] != NULL) {
            cudaStreamSynchronize(streams[i]);
            cudaStreamDestroy(streams[i]);
        }
    for (size_t i = 0; i < sizeof events / sizeof *events; i++)
        if (events[i] != NULL)
            cudaEventDestroy(events[i]);
    destroy_sums(state->pending);
    destroy_sums(state->idle);
    if (state->numbers != NULL) {
        cudaStreamSynchronize(state->compute);
        cudaFreeHost(state->numbers);
    }
    if (state->host.ops != NULL)
        state->host.ops->destroy(&state->host);
    free(state);
}

static const struct rdp_reducer_ops staged_ops = {
    .name = "mpi",
    .begin = begin,
    .test = test,
    .wait = wait_for,
    .sum_f64 = sum_f64,
    .check = check,
    .destroy = destroy,
};

/* Everything that needs no other rank. */
static int open_local(struct rdp_reducer *reducer, struct staged_state *state)
{
    snprintf(reducer->description, sizeof reducer->description, "%.110s, staged through host memory",
             state->host.description);
    RDP_TRY(rdp_stream_create(&state->fetch));
    RDP_TRY(rdp_stream_create(&state->give_back));
    RDP_TRY(rdp_event_create(&state->ready));
    return rdp_event_create(&state->numbers_fetched);
}

int rdp_reducer_staged_open(struct rdp_reducer *reducer, const struct rdp_reducer_config *config)
{
    RDP_TRY(rdp_reducer_make_state(reducer, sizeof(struct staged_state)));
    struct staged_state *state = reducer->state;
    state->compute = config->stream;
    state->host.comm = reducer->comm;
    reducer->ops = &staged_ops;
    int status = rdp_reducer_mpi_open(&state->host);
    if (status == RDP_OK)
        status = rdp_comm_agree(reducer->comm, open_local(reducer, state), "preparing sums through host memory");
    if (status != RDP_OK) {
        destroy(reducer);
        reducer->ops = NULL;
    }
    return status;
}
