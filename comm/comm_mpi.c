/*
 * The MPI transport: host memory, any number of ranks, MPI_THREAD_FUNNELED. It owns a duplicate of MPI_COMM_WORLD with
 * MPI_ERRORS_RETURN.
 *
 * No call of MPI that can block is made: each is started in its non-blocking form and polled, because a rank that
 * blocks inside MPI can neither say whom it waits for nor be ended with a message.
 *
 * A poll does not move the pending sums of a reducer (reducer_mpi.c) on, and need not: all ranks make their calls in
 * the same order, so whoever is in a call of this file gets there without those sums, and whoever has finished a sum
 * owes its peers nothing but messages that MPI already has. The one call that comes while sums are pending, batch-norm's
 * sum in the backward pass, is the reducer's own.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/mpi_check.h"
#include "comm/poll.h"
#include "comm/transports.h"
#include "comm/watchdog.h"

enum {
    BROADCAST_CHUNK = 1 << 30 /* bytes: MPI counts are int */
};

struct mpi_state {
    MPI_Comm collectives;
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

static int complete(int count, MPI_Request *requests, int patient, const char *what)
{
    int done = 0, polls = 0;

    RDP_MPI(MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE));
    if (done)
        return RDP_OK;
    rdp_watchdog_wait_begin(what, patient);
    while (!done) {
        rdp_poll_pause(&polls, patient);
        RDP_MPI(MPI_Testall(count, requests, &done, MPI_STATUSES_IGNORE));
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
    return complete(1, &request, 0, what);
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
        RDP_TRY(complete(1, &request, 0, what));
    }
    return RDP_OK;
}

static int gather(struct rdp_comm *comm, const void *mine, size_t bytes, void *all, int root, const char *what)
{
    struct mpi_state *state = comm->state;
    MPI_Request request;

    RDP_TRY(require_int(bytes, "bytes", what));
    RDP_MPI(MPI_Igather(mine, (int)bytes, MPI_BYTE, all, (int)bytes, MPI_BYTE, root, state->collectives, &request));
    return complete(1, &request, 0, what);
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
    return complete(count, state->requests, 0, what);
}

static int barrier(struct rdp_comm *comm, int patient, const char *what)
{
    struct mpi_state *state = comm->state;
    MPI_Request request;

    RDP_MPI(MPI_Ibarrier(state->collectives, &request));
    return complete(1, &request, patient, what);
}

static void destroy(struct rdp_comm *comm)
{
    struct mpi_state *state = comm->state;

    if (state->collectives != MPI_COMM_NULL)
        MPI_Comm_free(&state->collectives);
    free(state->requests);
    free(state);
}

static const struct rdp_comm_ops mpi_ops = {
    .name = "mpi",
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
    RDP_MPI(MPI_Comm_set_errhandler(state->collectives, MPI_ERRORS_RETURN));
    RDP_MPI(MPI_Comm_rank(state->collectives, &comm->rank));
    RDP_MPI(MPI_Comm_size(state->collectives, &comm->size));
    RDP_TRY(rdp_calloc(&memory, 2 * (size_t)comm->size, sizeof *state->requests, "the exchange's requests"));
    state->requests = memory;
    return RDP_OK;
}

int rdp_comm_mpi_open(struct rdp_comm *comm)
{
    void *memory;

    RDP_TRY(rdp_calloc(&memory, 1, sizeof(struct mpi_state), "the communicator"));
    struct mpi_state *state = memory;
    state->collectives = MPI_COMM_NULL;
    comm->ops = &mpi_ops;
    comm->state = state;
    int status = open_state(comm, state);
    if (status != RDP_OK)
        destroy(comm);
    return status;
}
