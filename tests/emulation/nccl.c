/*
 * The NCCL functions that comm/ uses, over MPI: all-reduces that run in their stream's order, add in the order of the
 * ranks, and stay unfinished until all ranks have come to theirs.
 *
 * A rank's emulated device only moves on while the rank calls CUDA. A rank that waits in MPI would therefore keep its
 * peers waiting, which a GPU does not: so MPI_Test and MPI_Testall, by which comm/ waits, let the device move on first.
 *
 * Environment: RDP_EMULATION_NCCL_FAIL=N (or N@RANK) makes the N-th all-reduce of a process (from 1) fail, so that it
 * never ends and the communicator reports an asynchronous error; RDP_EMULATION_NCCL_HANG likewise without an error.
 */
#include <mpi.h>
#include <nccl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "tests/emulation/emulation.h"

enum { TAGS = 30000 }; /* MPI promises 32767 */

/* Never freed: recordings may hold its address after its end. */
struct ncclComm {
    MPI_Comm mpi;
    MPI_Request request; /* of joining or finalising, both of which take all ranks */
    int rank, size, issued;
    atomic_bool aborted; /* by another thread, too */
    ncclResult_t error;
    struct ncclComm *next;
};

struct all_reduce {
    struct ncclComm *comm;
    const void *send;
    void *receive;
    size_t count;
    ncclDataType_t type;
    int tag;
    char *parts; /* rank after rank, while it runs */
    MPI_Request *requests;
    bool stuck;
};

static struct ncclComm *comms;
static int started; /* all-reduces of this process */

static size_t type_size(ncclDataType_t type)
{
    return type == ncclDouble ? sizeof(double) : sizeof(float);
}

/* Whether `variable` names this all-reduce of this rank. */
static bool is_chosen(const char *variable, int rank)
{
    const char *text = getenv(variable);
    int number = 0, only = rank;
    return text != NULL && sscanf(text, "%d@%d", &number, &only) >= 1 && number == started && only == rank;
}

static void start(struct all_reduce *sum)
{
    struct ncclComm *comm = sum->comm;
    const size_t bytes = sum->count * type_size(sum->type);
    started++;
    sum->stuck = true;
    if (is_chosen("RDP_EMULATION_NCCL_FAIL", comm->rank))
        comm->error = ncclRemoteError;
    else
        sum->stuck = is_chosen("RDP_EMULATION_NCCL_HANG", comm->rank);
    if (sum->stuck)
        return;
    sum->parts = malloc((size_t)comm->size * bytes + 1);
    sum->requests = malloc(2 * (size_t)comm->size * sizeof(MPI_Request));
    if (sum->parts == NULL || sum->requests == NULL)
        rdp_emulation_die("out of memory");
    char *mine = sum->parts + (size_t)comm->rank * bytes;
    memcpy(mine, sum->send, bytes);
    for (int r = 0; r < comm->size; r++) {
        MPI_Request *pair = sum->requests + 2 * r;
        pair[0] = pair[1] = MPI_REQUEST_NULL;
        if (r == comm->rank)
            continue;
        MPI_Irecv(sum->parts + (size_t)r * bytes, (int)bytes, MPI_BYTE, r, sum->tag, comm->mpi, &pair[0]);
        MPI_Isend(mine, (int)bytes, MPI_BYTE, r, sum->tag, comm->mpi, &pair[1]);
    }
}

static void add_parts(const struct all_reduce *sum)
{
    for (size_t i = 0; i < sum->count; i++) {
        if (sum->type == ncclDouble) {
            const double *parts = (const double *)sum->parts;
            double total = parts[i];
            for (int r = 1; r < sum->comm->size; r++)
                total += parts[(size_t)r * sum->count + i];
            ((double *)sum->receive)[i] = total;
        } else {
            const float *parts = (const float *)sum->parts;
            float total = parts[i];
            for (int r = 1; r < sum->comm->size; r++)
                total += parts[(size_t)r * sum->count + i];
            ((float *)sum->receive)[i] = total;
        }
    }
}

static bool run(void *argument, bool first)
{
    struct all_reduce *sum = argument;
    int done = 0;
    if (sum->comm->aborted)
        return true; /* what was started is left to MPI */
    if (first)
        start(sum);
    if (sum->stuck)
        return false;
    PMPI_Testall(2 * sum->comm->size, sum->requests, &done, MPI_STATUSES_IGNORE);
    if (!done)
        return false;
    add_parts(sum);
    free(sum->parts);
    free(sum->requests);
    return true;
}

/* ---- NCCL ---- */

ncclResult_t ncclGetVersion(int *version)
{
    *version = NCCL_VERSION_CODE;
    return ncclSuccess;
}

const char *ncclGetErrorString(ncclResult_t result)
{
    return result == ncclRemoteError ? "remote error (emulated)" : "error (emulated)";
}

const char *ncclGetLastError(ncclComm_t comm)
{
    (void)comm;
    return "";
}

ncclResult_t ncclGetUniqueId(ncclUniqueId *id)
{
    memset(id, 'E', sizeof *id);
    return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t *comm, int ranks, ncclUniqueId id, int rank, ncclConfig_t *config)
{
    int world, own;
    MPI_Comm_size(MPI_COMM_WORLD, &world);
    MPI_Comm_rank(MPI_COMM_WORLD, &own);
    if (ranks != world || rank != own || id.internal[0] != 'E' || config->blocking != 0)
        return ncclInvalidArgument;
    struct ncclComm *made = calloc(1, sizeof *made);
    if (made == NULL)
        return ncclSystemError;
    made->rank = rank;
    made->size = ranks;
    made->next = comms;
    comms = made;
    PMPI_Comm_idup(MPI_COMM_WORLD, &made->mpi, &made->request);
    *comm = made;
    return ncclInProgress;
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t *error)
{
    int done = 1;
    PMPI_Test(&comm->request, &done, MPI_STATUS_IGNORE);
    *error = comm->error != ncclSuccess ? comm->error : done ? ncclSuccess : ncclInProgress;
    return ncclSuccess;
}

/* With nothing pending a communicator of one rank would not need the others; it takes all of them to be sure. */
ncclResult_t ncclCommFinalize(ncclComm_t comm)
{
    PMPI_Ibarrier(comm->mpi, &comm->request);
    return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm)
{
    if (comm->request != MPI_REQUEST_NULL)
        return ncclInvalidUsage;
    comm->aborted = true;
    MPI_Comm_free(&comm->mpi);
    return ncclSuccess;
}

/* As NCCL, it makes its kernels end at once, and then waits until no graph can run them any more. */
ncclResult_t ncclCommAbort(ncclComm_t comm)
{
    const struct timespec pause = {0, 1000 * 1000};
    comm->aborted = true;
    while (rdp_emulation_graphs() > 0)
        nanosleep(&pause, NULL);
    return ncclSuccess;
}

ncclResult_t ncclAllReduce(const void *send, void *receive, size_t count, ncclDataType_t type, ncclRedOp_t operation,
                           ncclComm_t comm, cudaStream_t stream)
{
    if (comm->aborted || operation != ncclSum || (type != ncclFloat && type != ncclDouble))
        return ncclInvalidUsage;
    struct all_reduce sum = {
        .comm = comm, .send = send, .receive = receive, .count = count, .type = type, .tag = comm->issued++ % TAGS};
    return rdp_emulation_enqueue(stream, run, &sum, sizeof sum) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclMemAlloc(void **pointer, size_t bytes)
{
    return cudaMalloc(pointer, bytes) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclMemFree(void *pointer)
{
    return cudaFree(pointer) == cudaSuccess ? ncclSuccess : ncclUnhandledCudaError;
}

ncclResult_t ncclCommRegister(const ncclComm_t comm, void *buffer, size_t bytes, void **handle)
{
    (void)comm, (void)bytes;
    *handle = buffer;
    return ncclSuccess;
}

ncclResult_t ncclCommDeregister(const ncclComm_t comm, void *handle)
{
    (void)comm, (void)handle;
    return ncclSuccess;
}

ncclResult_t ncclCommWindowRegister(ncclComm_t comm, void *buffer, size_t bytes, ncclWindow_t *window, int flags)
{
    (void)comm, (void)bytes, (void)flags;
    *window = buffer;
    return ncclSuccess;
}

ncclResult_t ncclCommWindowDeregister(ncclComm_t comm, ncclWindow_t window)
{
    (void)comm, (void)window;
    return ncclSuccess;
}

/* ---- MPI ---- */

int MPI_Test(MPI_Request *request, int *flag, MPI_Status *status)
{
    rdp_emulation_progress();
    return PMPI_Test(request, flag, status);
}

int MPI_Testall(int count, MPI_Request requests[], int *flag, MPI_Status statuses[])
{
    rdp_emulation_progress();
    return PMPI_Testall(count, requests, flag, statuses);
}
