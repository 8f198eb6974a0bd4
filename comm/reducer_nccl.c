/*
 * The data plane over NCCL: sums run on the device, on a stream of their own and of the highest priority, while the
 * compute stream goes on. Only in builds with CUDA.
 *
 * Everything is in order through events: the sums' stream waits for what the compute stream had been given at begin(),
 * the compute stream for the sum at wait(). No call blocks for a peer, so all of them can be recorded: the sums' stream
 * joins a capture of the compute stream at the first begin() and is back when every request has been waited for.
 *
 * NCCL has no time-out: a GPU spins for a peer that does not come. So before and after each sum the device copies one
 * number into pinned memory, also in a replayed recording, where the host sees no call; check() reads there which sum is
 * stuck, and aborts the communicator, upon which the kernels end.
 *
 * The communicator of NCCL is destroyed in order after a run without errors, and aborted otherwise.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/nccl_state.h"
#include "comm/poll.h"
#include "comm/reducers.h"
#include "comm/watchdog.h"

enum {
    /* Blocks of the device that NCCL may take from the kernels it runs beside; our sums need no more. NCCL's own
     * variable NCCL_MAX_CTAS overrides it. */
    MAX_CTAS = 16,
    GRACE_SECONDS = 3 /* after the time-out: a watchdog that knows which rank is late speaks first */
};

struct nccl_event {
    struct nccl_event *next;
    cudaEvent_t summed;
    bool taken;
};

/* --- errors --- */

/* "all-reduce of bucket 1 (backward of step 117)" */
static void describe_sum(const struct nccl_state *state, char *text, size_t size)
{
    char activity[128];
    unsigned note = *(const volatile unsigned *)state->note;

    rdp_watchdog_describe(activity, sizeof activity);
    if (note == 0 || note > 2 * (unsigned)state->name_count)
        snprintf(text, size, "before the first sum over ranks (%s)", activity);
    else
        snprintf(text, size, "%s%s (%s)", note % 2 == 1 ? "in " : "after ", state->names[(note - 1) / 2], activity);
}

/* After an error the communicator is aborted: the kernels that spin end, and the streams can be drained. Peers see it
 * as a remote error, or come to their own time-out. */
static int fail_call(struct rdp_reducer *reducer, ncclResult_t result, const char *call, const char *file, int line)
{
    struct nccl_state *state = reducer->state;
    int status = rdp_fail(RDP_ECOMM,
                          "rank %d: %s failed at %s:%d: %s (%s); see what the other ranks say, and run with "
                          "NCCL_DEBUG=WARN for more",
                          reducer->comm->rank, call, file, line, ncclGetErrorString(result),
                          ncclGetLastError(state->communicator));

    rdp_nccl_abort(state);
    return status;
}

static bool is_late(const struct nccl_state *state, double seconds)
{
    return state->timeout > 0 && seconds > state->timeout + GRACE_SECONDS;
}

int rdp_nccl_settle(struct rdp_reducer *reducer, ncclResult_t result, const char *call, const char *file, int line)
{
    struct nccl_state *state = reducer->state;
    const double begun = rdp_now();
    char name[NCCL_NAME_BYTES];
    int polls = 0;

    snprintf(name, sizeof name, "%.*s", (int)strcspn(call, "("), call);
    /* Success, too, may mean no more than that NCCL's thread was started. */
    if (result == ncclSuccess || result == ncclInProgress)
        result = ncclInProgress;
    while (result == ncclInProgress) {
        ncclResult_t asked = ncclCommGetAsyncError(state->communicator, &result);
        if (asked != ncclSuccess)
            result = asked;
        if (result != ncclInProgress)
            break;
        if (polls == 0)
            rdp_watchdog_wait_begin(name, 0);
        if (is_late(state, rdp_now() - begun)) {
            rdp_nccl_abort(state);
            return rdp_fail(RDP_ECOMM,
                            "rank %d: %s was not done after %.0f s: another rank does not come to it, or the network "
                            "between the GPUs is blocked; see what the other ranks say, run with NCCL_DEBUG=INFO, or "
                            "raise --comm-timeout if it is only slow",
                            reducer->comm->rank, name, rdp_now() - begun);
        }
        rdp_poll_pause(&polls, 0);
    }
    if (polls > 0)
        rdp_watchdog_wait_end();
    return result == ncclSuccess ? RDP_OK : fail_call(reducer, result, call, file, line);
}

static int require_communicator(const struct nccl_state *state, const char *what)
{
    if (state->communicator != NULL)
        return RDP_OK;
    return rdp_fail(RDP_ECOMM, "%s: NCCL was aborted after an error", what);
}

/* For how long the GPU has not come on: since the last change of its note that was seen in this wait. Sums that go on
 * tell the watchdog so, too: a wait for many steps may well be longer than the time-out. */
static double stuck_for(struct nccl_state *state, double seconds)
{
    unsigned note = *(const volatile unsigned *)state->note;

    if (note != state->seen_note || seconds < state->seen_seconds) {
        state->seen_note = note;
        state->seen_seconds = seconds;
        rdp_watchdog_tick();
    }
    return seconds - state->seen_seconds;
}

static int check(struct rdp_reducer *reducer, double seconds)
{
    struct nccl_state *state = reducer->state;
    ncclResult_t result = ncclSuccess;
    char where[256];

    RDP_TRY(require_communicator(state, "a wait for sums over ranks"));
    ncclResult_t asked = ncclCommGetAsyncError(state->communicator, &result);
    if (asked != ncclSuccess)
        result = asked;
    if (result != ncclSuccess && result != ncclInProgress) {
        describe_sum(state, where, sizeof where);
        int status =
            rdp_fail(RDP_ECOMM,
                     "rank %d: NCCL failed %s: %s (%s); see what the other ranks say, and run with "
                     "NCCL_DEBUG=WARN for more",
                     reducer->comm->rank, where, ncclGetErrorString(result), ncclGetLastError(state->communicator));
        rdp_nccl_abort(state);
        return status;
    }
    const double stuck = stuck_for(state, seconds);
    if (!is_late(state, stuck))
        return RDP_OK;
    describe_sum(state, where, sizeof where);
    rdp_nccl_abort(state);
    return rdp_fail(RDP_ECOMM,
                    "rank %d: the GPU has not come on for %.0f s, %s: another rank does not take part, or the network "
                    "between the GPUs is blocked; see what the other ranks say, or raise --comm-timeout if one is only "
                    "slow",
                    reducer->comm->rank, stuck, where);
}

/* --- sums --- */

/* The number of the sum that `what` names. Names beyond the table share the last one's, which says so. */
static unsigned name_index(struct nccl_state *state, const char *what)
{
    char name[NCCL_NAME_BYTES];

    snprintf(name, sizeof name, "%s", what);
    for (int i = 0; i < state->name_count; i++)
        if (strcmp(state->names[i], name) == 0)
            return (unsigned)i;
    if (state->name_count == NCCL_NAMES)
        return NCCL_NAMES - 1;
    if (state->name_count == NCCL_NAMES - 1)
        snprintf(name, sizeof name, "a sum beyond the first %d", NCCL_NAMES - 1);
    memcpy(state->names[state->name_count], name, sizeof name);
    return (unsigned)state->name_count++;
}

static int write_note(struct nccl_state *state, unsigned note)
{
    RDP_CUDA(
        cudaMemcpyAsync(state->note, state->notes + note, sizeof *state->notes, cudaMemcpyDeviceToHost, state->stream));
    return RDP_OK;
}

/* The sum itself, in order with what the compute stream has been given. */
static int enqueue(struct rdp_reducer *reducer, void *data, size_t count, ncclDataType_t type, const char *what)
{
    struct nccl_state *state = reducer->state;
    unsigned index = name_index(state, what);

    RDP_TRY(rdp_stream_follow(state->stream, state->compute, state->ready));
    RDP_TRY(write_note(state, 2 * index + 1));
    RDP_NCCL(reducer, ncclAllReduce(data, data, count, type, ncclSum, state->communicator, state->stream));
    return write_note(state, 2 * index + 2);
}

static int take_event(struct nccl_state *state, struct nccl_event **taken)
{
    void *memory;

    for (struct nccl_event *event = state->events; event != NULL; event = event->next)
        if (!event->taken) {
            *taken = event;
            return RDP_OK;
        }
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **taken, "a pending sum"));
    *taken = memory;
    (*taken)->next = state->events;
    state->events = *taken;
    (*taken)->taken = true; /* for good, should there be no event */
    RDP_TRY(rdp_event_create(&(*taken)->summed));
    (*taken)->taken = false;
    return RDP_OK;
}

static int begin(struct rdp_reducer *reducer, float *data, size_t count, const char *what, struct rdp_request *request)
{
    struct nccl_state *state = reducer->state;
    struct nccl_event *event;

    memset(request, 0, sizeof *request);
    if (count == 0)
        return RDP_OK;
    RDP_TRY(require_communicator(state, what));
    RDP_TRY(take_event(state, &event));
    RDP_TRY(enqueue(reducer, data, count, ncclFloat, what));
    RDP_CUDA(cudaEventRecord(event->summed, state->stream));
    event->taken = true;
    request->opaque[0] = event;
    return RDP_OK;
}

/* The device moves data by itself; asking it would cost time between all operations, and end a recording. */
static int test(struct rdp_reducer *reducer, struct rdp_request *request, int *done)
{
    (void)reducer;
    *done = request->opaque[0] == NULL;
    return RDP_OK;
}

static int wait_for(struct rdp_reducer *reducer, struct rdp_request *request, const char *what)
{
    struct nccl_state *state = reducer->state;
    struct nccl_event *event = request->opaque[0];

    (void)what;
    if (event == NULL)
        return RDP_OK;
    RDP_CUDA(cudaStreamWaitEvent(state->compute, event->summed, 0));
    event->taken = false;
    request->opaque[0] = NULL;
    return RDP_OK;
}

/* Behind the gradients' sums that were begun before: NCCL runs a communicator's sums one after the other. */
static int sum_f64(struct rdp_reducer *reducer, double *data, size_t count, const char *what)
{
    struct nccl_state *state = reducer->state;

    if (count == 0)
        return RDP_OK;
    RDP_TRY(require_communicator(state, what));
    RDP_TRY(enqueue(reducer, data, count, ncclDouble, what));
    return rdp_stream_follow(state->compute, state->stream, state->ready);
}

/* --- opening and closing --- */

const char *rdp_nccl_version(void)
{
    static char text[32];
    int code = 0;

    if (ncclGetVersion(&code) != ncclSuccess)
        return "NCCL of unknown version";
    snprintf(text, sizeof text, "NCCL %d.%d.%d", code / 10000, code / 100 % 100, code % 100);
    return text;
}

bool rdp_nccl_shares_devices(void)
{
    const char *enabled = getenv("NCCL_MULTI_RANK_GPU_ENABLE");
    int code = 0;

    return ncclGetVersion(&code) == ncclSuccess && code >= NCCL_VERSION(2, 30, 0) && enabled != NULL &&
           atoi(enabled) == 1;
}

/* Peers that have failed never come to the end: then, too, the communicator is aborted. */
static void close_communicator(struct nccl_state *state)
{
    const double begun = rdp_now();
    int polls = 0;

    if (state->communicator == NULL)
        return;
    ncclResult_t result = ncclCommFinalize(state->communicator);
    if (result == ncclSuccess)
        result = ncclInProgress;
    while (result == ncclInProgress && rdp_now() - begun < NCCL_END_SECONDS) {
        if (ncclCommGetAsyncError(state->communicator, &result) != ncclSuccess)
            result = ncclInternalError;
        rdp_watchdog_tick();
        rdp_poll_pause(&polls, 0);
    }
    if (result == ncclSuccess)
        (void)ncclCommDestroy(state->communicator);
    else
        rdp_nccl_abort(state);
    state->communicator = NULL;
}

/* Also after half an opening. */
static void destroy(struct rdp_reducer *reducer)
{
    struct nccl_state *state = reducer->state;

    rdp_nccl_free_all(reducer);
    close_communicator(state);
    if (!rdp_nccl_abort_is_over(state))
        return; /* the GPU may still use the rest, which the end of the process takes */
    while (state->events != NULL) {
        struct nccl_event *next = state->events->next;
        if (state->events->summed != NULL)
            cudaEventDestroy(state->events->summed);
        free(state->events);
        state->events = next;
    }
    if (state->ready != NULL)
        cudaEventDestroy(state->ready);
    if (state->stream != NULL)
        cudaStreamDestroy(state->stream);
    if (state->notes != NULL)
        cudaFree(state->notes);
    if (state->note != NULL)
        cudaFreeHost(state->note);
    free(state);
}

static const struct rdp_reducer_ops nccl_ops = {
    .name = "nccl",
    .recordable = true,
    .begin = begin,
    .test = test,
    .wait = wait_for,
    .sum_f64 = sum_f64,
    .check = check,
    .alloc = rdp_nccl_alloc,
    .free = rdp_nccl_free,
    .destroy = destroy,
};

/* Everything that needs no other rank. */
static int open_local(struct nccl_state *state)
{
    unsigned numbers[2 * NCCL_NAMES + 1];
    void *memory;

    RDP_TRY(rdp_stream_create(&state->stream));
    RDP_TRY(rdp_event_create(&state->ready));
    RDP_CUDA(cudaHostAlloc(&memory, sizeof *state->note, cudaHostAllocDefault));
    state->note = memory;
    *state->note = 0;
    RDP_CUDA(cudaMalloc(&memory, sizeof numbers));
    state->notes = memory;
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++)
        numbers[i] = i;
    RDP_CUDA(cudaMemcpyAsync(state->notes, numbers, sizeof numbers, cudaMemcpyHostToDevice, state->stream));
    RDP_CUDA(cudaStreamSynchronize(state->stream));
    return RDP_OK;
}

/* Rank 0 makes the name under which the ranks find each other. */
static int share_id(struct rdp_comm *comm, ncclUniqueId *id)
{
    int status = RDP_OK;

    memset(id, 0, sizeof *id);
    if (comm->rank == 0) {
        ncclResult_t result = ncclGetUniqueId(id);
        if (result != ncclSuccess)
            status = rdp_fail(RDP_ECOMM,
                              "ncclGetUniqueId failed: %s (%s); check the network that NCCL uses (NCCL_SOCKET_IFNAME), "
                              "and run with NCCL_DEBUG=WARN for more",
                              ncclGetErrorString(result), ncclGetLastError(NULL));
    }
    RDP_TRY(rdp_comm_agree(comm, status, "preparing NCCL"));
    return comm->ops->broadcast(comm, id, sizeof *id, 0, "NCCL's unique id");
}

static int init(struct rdp_reducer *reducer, ncclUniqueId id, ncclConfig_t *config)
{
    struct nccl_state *state = reducer->state;
    const struct rdp_comm *comm = reducer->comm;

    RDP_NCCL(reducer, ncclCommInitRankConfig(&state->communicator, comm->size, id, comm->rank, config));
    return RDP_OK;
}

/* A rank that cannot says so at once: the others may notice no more than that it does not come, when their time is up.
 */
static int join(struct rdp_reducer *reducer, ncclUniqueId id, ncclConfig_t *config)
{
    int status = init(reducer, id, config);

    if (status != RDP_OK)
        rdp_fail_print();
    return status;
}

static int open_state(struct rdp_reducer *reducer, struct nccl_state *state)
{
    struct rdp_comm *comm = reducer->comm;
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    ncclUniqueId id;

    snprintf(reducer->description, sizeof reducer->description, "%s", rdp_nccl_version());
    RDP_TRY(rdp_comm_agree(comm, open_local(state), "preparing NCCL"));
    RDP_TRY(share_id(comm, &id));
    config.blocking = 0;
    config.maxCTAs = MAX_CTAS;
    return rdp_comm_agree(comm, join(reducer, id, &config), "starting NCCL");
}

int rdp_reducer_nccl_open(struct rdp_reducer *reducer, const struct rdp_reducer_config *config)
{
    RDP_TRY(rdp_reducer_make_state(reducer, sizeof(struct nccl_state)));
    struct nccl_state *state = reducer->state;
    state->compute = config->stream;
    state->timeout = config->timeout_seconds;
    reducer->ops = &nccl_ops;
    int status = open_state(reducer, state);
    if (status != RDP_OK) {
        /* Some rank has failed: nobody waits for it. */
        rdp_nccl_abort(state);
        destroy(reducer);
        reducer->ops = NULL;
    }
    return status;
}
