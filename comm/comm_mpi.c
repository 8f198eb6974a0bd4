/*
 * The MPI transport: host memory, any number of ranks, MPI_THREAD_FUNNELED. It owns two duplicates of MPI_COMM_WORLD,
 * one for collectives and exchanges, one for the pending sums of mpi_reduce.c, both with MPI_ERRORS_RETURN.
 *
 * No call of MPI that can block is made: each is started in its non-blocking form and polled, because a rank that
 * blocks inside MPI can neither say whom it waits for nor be ended with a message. Every poll also moves the pending
 * sums on.
 */
#include <limits.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/mpi_check.h"
#include "comm/mpi_reduce.h"
#include "comm/transports.h"
#include "comm/watchdog.h"

enum {
    POLLS_BEFORE_YIELD = 64,   /* spin so long for a peer that is just about to answer */
    BROADCAST_CHUNK = 1 << 30, /* bytes: MPI counts are int */
    PATIENT_PAUSE_NS = 1000 * 1000
};

struct mpi_state {
    MPI_Comm collectives, sums;
    struct rdp_mpi_reducer *reducer;
    MPI_Request *requests; /* [2 * size], for exchange() */
};

int rdp_mpi_failed(int error, const char *call, const char *file, int line)
{
    char words[MPI_MAX_ERROR_STRING] = "";
    int length = 0;

    MPI_Error_string(error, words, &length);
    return rdp_fail(RDP_ECOMM, "%s failed at %s:%d: %s; see what the other ranks and the launcher say", call, file,
                    line, words);
}

/* After a poll that found nothing: lets a rank on the same core run, or sleeps if the wait is for rank 0's own work. */
static void pause_between_polls(int *polls, int patient)
{
    if (patient) {
        struct timespec pause = {0, PATIENT_PAUSE_NS};
        nanosleep(&pause, NULL);
    } else if (++*polls > POLLS_BEFORE_YIELD) {
        sched_yield();
    }
}

static int complete(struct rdp_comm *comm, int count, MPI_Request *requests, int patient, const char *what)
{
    struct mpi_state *state = comm->state;
    int done = 0, polls = 0;

    RDP_MPI(MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE));
    if (done)
        return RDP_OK;
    rdp_watchdog_wait_begin(what, patient);
    while (!done) {
        RDP_TRY(rdp_mpi_reducer_advance(state->reducer));
        RDP_MPI(MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE));
        if (!done)
            pause_between_polls(&polls, patient);
    }
    rdp_watchdog_wait_end();
    return RDP_OK;
}

static int require_int(size_t value, const char *unit, const char *what)
{
    if (value <= INT_MAX)
        return RDP_OK;
    return rdp_fail(RDP_EINTERNAL, "%s: %zu %s in one message, more than MPI's %d; please report this", what, value,
                    unit, INT_MAX);
}

static int allreduce_begin(struct rdp_comm *comm, float *data, size_t count, const char *what,
                           struct rdp_request *request)
{
    struct mpi_state *state = comm->state;
    (void)what; /* wait() is told again, and only a wait can time out */
    return rdp_mpi_reducer_begin(state->reducer, data, count, request);
}

static int test(struct rdp_comm *comm, struct rdp_request *request, int *done)
{
    struct mpi_state *state = comm->state;

    RDP_TRY(rdp_mpi_reducer_advance(state->reducer));
    *done = rdp_mpi_reducer_collect(state->reducer, request);
    return RDP_OK;
}

static int wait_for(struct rdp_comm *comm, struct rdp_request *request, const char *what)
{
    int done = 0, polls = 0;

    RDP_TRY(test(comm, request, &done));
    if (done)
        return RDP_OK;
    rdp_watchdog_wait_begin(what, 0);
    while (!done) {
        pause_between_polls(&polls, 0);
        RDP_TRY(test(comm, request, &done));
    }
    rdp_watchdog_wait_end();
    return RDP_OK;
}

/* MPI promises the same result on every rank only as advice; the libraries in use add in one place or pairwise
 * symmetrically, and tests/test-comm.c checks it. */
static int allreduce(struct rdp_comm *comm, void *data, size_t count, MPI_Datatype type, enum rdp_reduce reduce,
                     const char *what)
{
    struct mpi_state *state = comm->state;
    MPI_Op operation = reduce == RDP_SUM ? MPI_SUM : reduce == RDP_MIN ? MPI_MIN : MPI_MAX;
    MPI_Request request;

    RDP_TRY(require_int(count, "numbers", what));
    RDP_MPI(MPI_Iallreduce(MPI_IN_PLACE, data, (int)count, type, operation, state->collectives, &request));
    return complete(comm, 1, &request, 0, what);
}

static int allreduce_f32(struct rdp_comm *comm, float *data, size_t count, enum rdp_reduce reduce, const char *what)
{
    return allreduce(comm, data, count, MPI_FLOAT, reduce, what);
}

static int allreduce_f64(struct rdp_comm *comm, double *data, size_t count, enum rdp_reduce reduce, const char *what)
{
    return allreduce(comm, data, count, MPI_DOUBLE, reduce, what);
}

static int allreduce_i64(struct rdp_comm *comm, int64_t *data, size_t count, enum rdp_reduce reduce, const char *what)
{
    return allreduce(comm, data, count, MPI_INT64_T, reduce, what);
}

static int broadcast(struct rdp_comm *comm, void *data, size_t bytes, int root, const char *what)
{
    struct mpi_state *state = comm->state;

    for (size_t begin = 0; begin < bytes; begin += BROADCAST_CHUNK) {
        size_t chunk = bytes - begin < BROADCAST_CHUNK ? bytes - begin : BROADCAST_CHUNK;
        MPI_Request request;
        RDP_MPI(MPI_Ibcast((char *)data + begin, (int)chunk, MPI_BYTE, root, state->collectives, &request));
        RDP_TRY(complete(comm, 1, &request, 0, what));
    }
    return RDP_OK;
}

static int gather(struct rdp_comm *comm, const void *mine, size_t bytes, void *all, int root, const char *what)
{
    struct mpi_state *state = comm->state;
    MPI_Request request;

    RDP_TRY(require_int(bytes, "bytes", what));
    RDP_MPI(MPI_Igather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, root, state->collectives, &request));
    return complete(comm, 1, &request, 0, what);
}

/* Point to point rather than MPI_Ialltoallv: offsets and counts need no conversion, and a rank's own part is a
 * plain copy. */
static int exchange(struct rdp_comm *comm, const void *send, const size_t *send_counts, const size_t *send_offsets,
                    void *receive, const size_t *receive_counts, const size_t *receive_offsets, const char *what)
{
    struct mpi_state *state = comm->state;
    int size = comm->size, rank = comm->rank, count = 0;

    for (int distance = 1; distance < size; distance++) {
        int peer = (rank - distance + size) % size;
        RDP_TRY(require_int(receive_counts[peer], "bytes", what));
        if (receive_counts[peer] > 0)
            RDP_MPI(MPI_Irecv((char *)receive + receive_offsets[peer], (int)receive_counts[peer], MPI_BYTE, peer, 0,
                              state->collectives, &state->requests[count++]));
    }
    for (int distance = 1; distance < size; distance++) {
        int peer = (rank + distance) % size;
        RDP_TRY(require_int(send_counts[peer], "bytes", what));
        if (send_counts[peer] > 0)
            RDP_MPI(MPI_Isend((const char *)send + send_offsets[peer], (int)send_counts[peer], MPI_BYTE, peer, 0,
                              state->collectives, &state->requests[count++]));
    }
    if (send_counts[rank] != receive_counts[rank])
        return rdp_fail(RDP_EINTERNAL, "%s: rank %d sends itself %zu bytes and expects %zu; please report this", what,
                        rank, send_counts[rank], receive_counts[rank]);
    if (send_counts[rank] > 0)
        memcpy((char *)receive + receive_offsets[rank], (const char *)send + send_offsets[rank], send_counts[rank]);
    return complete(comm, count, state->requests, 0, what);
}

static int barrier(struct rdp_comm *comm, int patient, const char *what)
{
    struct mpi_state *state = comm->state;
    MPI_Request request;

    RDP_MPI(MPI_Ibarrier(state->collectives, &request));
    return complete(comm, 1, &request, patient, what);
}

static void destroy(struct rdp_comm *comm)
{
    struct mpi_state *state = comm->state;

    rdp_mpi_reducer_destroy(state->reducer);
    if (state->sums != MPI_COMM_NULL)
        MPI_Comm_free(&state->sums);
    if (state->collectives != MPI_COMM_NULL)
        MPI_Comm_free(&state->collectives);
    free(state->requests);
    free(state);
}

static const struct rdp_comm_ops mpi_ops = {
    .name = "mpi",
    .allreduce_begin = allreduce_begin,
    .test = test,
    .wait = wait_for,
    .allreduce_f32 = allreduce_f32,
    .allreduce_f64 = allreduce_f64,
    .allreduce_i64 = allreduce_i64,
    .broadcast = broadcast,
    .gather = gather,
    .exchange = exchange,
    .barrier = barrier,
    .destroy = destroy,
};

static int open_state(struct rdp_comm *comm, struct mpi_state *state)
{
    void *memory;

    RDP_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &state->collectives));
    RDP_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &state->sums));
    RDP_MPI(MPI_Comm_set_errhandler(state->collectives, MPI_ERRORS_RETURN));
    RDP_MPI(MPI_Comm_set_errhandler(state->sums, MPI_ERRORS_RETURN));
    RDP_MPI(MPI_Comm_rank(state->collectives, &comm->rank));
    RDP_MPI(MPI_Comm_size(state->collectives, &comm->size));
    RDP_TRY(rdp_calloc(&memory, 2 * (size_t)comm->size, sizeof *state->requests, "the exchange's requests"));
    state->requests = memory;
    return rdp_mpi_reducer_create(&state->reducer, state->sums);
}

int rdp_comm_mpi_open(struct rdp_comm *comm)
{
    void *memory;

    RDP_TRY(rdp_calloc(&memory, 1, sizeof(struct mpi_state), "the communicator"));
    struct mpi_state *state = memory;
    state->collectives = state->sums = MPI_COMM_NULL;
    comm->ops = &mpi_ops;
    comm->state = state;
    int status = open_state(comm, state);
    if (status != RDP_OK)
        destroy(comm);
    return status;
}
