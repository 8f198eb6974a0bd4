/*
 * The data plane over MPI, on host memory: the pending sums of mpi_reduce.c, which move on in every call of this file
 * that tests or waits. It owns a duplicate of MPI_COMM_WORLD with MPI_ERRORS_RETURN. reducer_staged.c builds on it.
 *
 * It is also the oracle for the other transports: every number is added by one rank, in the order of the ranks.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "comm/comm.h"
#include "comm/mpi_check.h"
#include "comm/mpi_reduce.h"
#include "comm/poll.h"
#include "comm/reducers.h"
#include "comm/watchdog.h"

struct mpi_state {
    MPI_Comm communicator;
    struct rdp_mpi_reducer *sums;
};

static int begin(struct rdp_reducer *reducer, float *data, size_t count, const char *what, struct rdp_request *request)
{
    struct mpi_state *state = reducer->state;
    (void)what; /* wait() is told again, and only a wait can time out */
    return rdp_mpi_reducer_begin(state->sums, data, count, request);
}

static int test(struct rdp_reducer *reducer, struct rdp_request *request, int *done)
{
    struct mpi_state *state = reducer->state;

    RDP_TRY(rdp_mpi_reducer_advance(state->sums));
    *done = rdp_mpi_reducer_collect(state->sums, request);
    return RDP_OK;
}

static int wait_for(struct rdp_reducer *reducer, struct rdp_request *request, const char *what)
{
    int done = 0, polls = 0;

    RDP_TRY(test(reducer, request, &done));
    if (done)
        return RDP_OK;
    rdp_watchdog_wait_begin(what, 0);
    while (!done) {
        rdp_poll_pause(&polls, 0);
        RDP_TRY(test(reducer, request, &done));
    }
    rdp_watchdog_wait_end();
    return RDP_OK;
}

/* The gradients' sums that are pending move on meanwhile: backward waits for nothing but batch-norm. */
static int sum_f64(struct rdp_reducer *reducer, double *data, size_t count, const char *what)
{
    struct mpi_state *state = reducer->state;
    MPI_Request request;
    int done = 0, polls = 0;

    if (count > INT_MAX)
        return rdp_fail(RDP_EINTERNAL, "%s: %zu numbers in one message, more than MPI's %d; please report this", what,
                        count, INT_MAX);
    RDP_MPI(MPI_Iallreduce(MPI_IN_PLACE, data, (int)count, MPI_DOUBLE, MPI_SUM, state->communicator, &request));
    RDP_MPI(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    if (done)
        return RDP_OK;
    rdp_watchdog_wait_begin(what, 0);
    while (!done) {
        RDP_TRY(rdp_mpi_reducer_advance(state->sums));
        rdp_poll_pause(&polls, 0);
        RDP_MPI(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
    }
    rdp_watchdog_wait_end();
    return RDP_OK;
}

static int check(struct rdp_reducer *reducer, double seconds)
{
    (void)reducer, (void)seconds; /* nothing runs on a device; what waits here polls, and the watchdog looks on */
    return RDP_OK;
}

static void destroy(struct rdp_reducer *reducer)
{
    struct mpi_state *state = reducer->state;

    rdp_mpi_reducer_destroy(state->sums);
    if (state->communicator != MPI_COMM_NULL)
        MPI_Comm_free(&state->communicator);
    free(state);
}

static const struct rdp_reducer_ops mpi_ops = {
    .name = "mpi",
    .begin = begin,
    .test = test,
    .wait = wait_for,
    .sum_f64 = sum_f64,
    .check = check,
    .destroy = destroy,
};

static int open_state(struct rdp_reducer *reducer, struct mpi_state *state)
{
    char version[MPI_MAX_LIBRARY_VERSION_STRING];
    int length = 0;

    RDP_MPI(MPI_Get_library_version(version, &length));
    version[strcspn(version, ",\n")] = '\0'; /* "Open MPI v4.1.4, package: ..." */
    snprintf(reducer->description, sizeof reducer->description, "%.100s", version);
    RDP_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &state->communicator));
    RDP_MPI(MPI_Comm_set_errhandler(state->communicator, MPI_ERRORS_RETURN));
    return rdp_mpi_reducer_create(&state->sums, state->communicator);
}

int rdp_reducer_mpi_open(struct rdp_reducer *reducer)
{
    RDP_TRY(rdp_reducer_make_state(reducer, sizeof(struct mpi_state)));
    struct mpi_state *state = reducer->state;
    state->communicator = MPI_COMM_NULL;
    reducer->ops = &mpi_ops;
    int status = rdp_comm_agree(reducer->comm, open_state(reducer, state), "opening MPI's sums");
    if (status != RDP_OK) {
        destroy(reducer);
        reducer->ops = NULL;
    }
    return status;
}
