/*
 * Pending sums over MPI, each a small state machine: cut the array into one segment per rank; every rank sends segment
 * r to rank r (SCATTER), rank r adds up what it got in the order of the ranks, and sends the sum to all (GATHER).
 *
 * Each number is added by one rank only, always as ((x0 + x1) + x2) + ..., so that every rank holds the same bits and
 * the bits depend neither on timing nor on how gradients are cut into buckets. Every rank sends and receives 2 (P-1)/P
 * of the array, the least an all-reduce can do.
 *
 * Why not MPI_Iallreduce: Open MPI 4.1's schedules take twice as long without a progress thread. 20 MiB of floats, 2
 * ranks on 2 cores of one host, median of 31, ms:
 *
 *     in buckets of    MPI_Iallreduce    this scheme    MPI_Allreduce (blocking: no overlap)
 *          1 MiB            10.2             5.0              4.2
 *          4 MiB             8.9             4.9              4.5
 *         20 MiB            10.4             4.9              5.0
 *
 * Messages move only inside rdp_mpi_reducer_advance() and other MPI calls of the main thread, so the trainer calls it
 * between operations.
 */
#include "comm/mpi_reduce.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/mpi_check.h"
#include "comm/reducer.h"

enum {
    BLOCK = 2048,            /* floats summed at a time: they stay in the first-level cache */
    PARALLEL_FROM = 1 << 16, /* floats from which a sum is worth waking the other threads */
    TAGS = 8192 /* sums that may be pending at once; twice that many tags are below every MPI's MPI_TAG_UB */
};

enum phase { PHASE_SCATTER, PHASE_GATHER, PHASE_DONE };

struct reduction {
    struct reduction *next;
    enum phase phase;
    float *data;           /* [count], the caller's */
    size_t count, segment; /* elements; every segment but the last ones has `segment` of them */
    int tag;
    float *scratch;          /* [size - 1][segment]: the other ranks' parts of this rank's segment */
    size_t scratch_capacity; /* elements */
    int request_count;
    MPI_Request requests[]; /* [2 * (size - 1)] */
};

struct rdp_mpi_reducer {
    MPI_Comm communicator;
    int rank, size;
    unsigned sequence; /* sums begun so far: the same number on every rank gives the same tag */
    size_t pending_count;
    struct reduction *pending; /* oldest first */
    struct reduction *idle;    /* for reuse: after the first step nothing is allocated */
};

int rdp_mpi_reducer_create(struct rdp_mpi_reducer **reducer, MPI_Comm communicator)
{
    void *memory;

    *reducer = NULL;
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **reducer, "the all-reduce engine"));
    *reducer = memory;
    (*reducer)->communicator = communicator;
    MPI_Comm_rank(communicator, &(*reducer)->rank);
    MPI_Comm_size(communicator, &(*reducer)->size);
    return RDP_OK;
}

void rdp_mpi_reducer_destroy(struct rdp_mpi_reducer *reducer)
{
    if (reducer == NULL)
        return;
    while (reducer->idle != NULL) {
        struct reduction *next = reducer->idle->next;
        free(reducer->idle->scratch);
        free(reducer->idle);
        reducer->idle = next;
    }
    free(reducer);
}

static size_t segment_begin(const struct reduction *reduction, int owner)
{
    size_t begin = reduction->segment * (size_t)owner;
    return begin < reduction->count ? begin : reduction->count;
}

static size_t segment_length(const struct reduction *reduction, int owner)
{
    return segment_begin(reduction, owner + 1) - segment_begin(reduction, owner);
}

static float *part_of_rank(const struct reduction *reduction, int self, int rank)
{
    if (rank == self)
        return reduction->data + segment_begin(reduction, self);
    return reduction->scratch + (size_t)(rank < self ? rank : rank - 1) * reduction->segment;
}

/* Posts a receive or a send unless it is empty; both sides know the length. */
static int post_receive(const struct rdp_mpi_reducer *reducer, struct reduction *reduction, float *into, size_t length,
                        int peer, int tag)
{
    if (length > 0)
        RDP_MPI(MPI_Irecv(into, (int)length, MPI_FLOAT, peer, tag, reducer->communicator,
                          &reduction->requests[reduction->request_count++]));
    return RDP_OK;
}

static int post_send(const struct rdp_mpi_reducer *reducer, struct reduction *reduction, const float *from,
                     size_t length, int peer, int tag)
{
    if (length > 0)
        RDP_MPI(MPI_Isend(from, (int)length, MPI_FLOAT, peer, tag, reducer->communicator,
                          &reduction->requests[reduction->request_count++]));
    return RDP_OK;
}

/* Peers are served in rotated order, so that not all ranks send to rank 0 first. */
static int begin_scatter(const struct rdp_mpi_reducer *reducer, struct reduction *reduction)
{
    int rank = reducer->rank, size = reducer->size;

    reduction->phase = PHASE_SCATTER;
    for (int distance = 1; distance < size; distance++) {
        int peer = (rank - distance + size) % size;
        RDP_TRY(post_receive(reducer, reduction, part_of_rank(reduction, rank, peer), segment_length(reduction, rank),
                             peer, reduction->tag));
    }
    for (int distance = 1; distance < size; distance++) {
        int peer = (rank + distance) % size;
        RDP_TRY(post_send(reducer, reduction, reduction->data + segment_begin(reduction, peer),
                          segment_length(reduction, peer), peer, reduction->tag));
    }
    return RDP_OK;
}

static void sum_in_rank_order(const struct rdp_mpi_reducer *reducer, const struct reduction *reduction)
{
    size_t length = segment_length(reduction, reducer->rank);
    float *mine = part_of_rank(reduction, reducer->rank, reducer->rank);

#pragma omp parallel for schedule(static) if (length >= PARALLEL_FROM)
    for (size_t begin = 0; begin < length; begin += BLOCK) {
        size_t n = length - begin < BLOCK ? length - begin : BLOCK;
        float total[BLOCK];
        memcpy(total, part_of_rank(reduction, reducer->rank, 0) + begin, n * sizeof *total);
        for (int rank = 1; rank < reducer->size; rank++) {
            const float *part = part_of_rank(reduction, reducer->rank, rank) + begin;
            for (size_t i = 0; i < n; i++)
                total[i] += part[i];
        }
        memcpy(mine + begin, total, n * sizeof *total);
    }
}

/* Only after the scatter's sends are done: their buffers receive the sums now. */
static int begin_gather(const struct rdp_mpi_reducer *reducer, struct reduction *reduction)
{
    int rank = reducer->rank, size = reducer->size;

    reduction->phase = PHASE_GATHER;
    reduction->request_count = 0;
    for (int distance = 1; distance < size; distance++) {
        int peer = (rank - distance + size) % size;
        RDP_TRY(post_receive(reducer, reduction, reduction->data + segment_begin(reduction, peer),
                             segment_length(reduction, peer), peer, reduction->tag + 1));
    }
    for (int distance = 1; distance < size; distance++) {
        int peer = (rank + distance) % size;
        RDP_TRY(post_send(reducer, reduction, reduction->data + segment_begin(reduction, rank),
                          segment_length(reduction, rank), peer, reduction->tag + 1));
    }
    return RDP_OK;
}

/* An idle reduction with scratch for this length, from the list or new. */
static int take_idle(struct rdp_mpi_reducer *reducer, size_t scratch_length, struct reduction **taken)
{
    struct reduction *reduction = reducer->idle;
    void *memory;

    if (reduction == NULL) {
        size_t requests = 2 * (size_t)(reducer->size - 1);
        RDP_TRY(rdp_calloc(&memory, 1, sizeof *reduction + requests * sizeof(MPI_Request), "a pending all-reduce"));
        reduction = memory;
        reducer->idle = reduction;
    }
    if (reduction->scratch_capacity < scratch_length) {
        free(reduction->scratch);
        reduction->scratch = NULL;
        reduction->scratch_capacity = 0;
        RDP_TRY(rdp_alloc_aligned(&memory, scratch_length * sizeof(float), "the all-reduce's receive buffer"));
        reduction->scratch = memory;
        reduction->scratch_capacity = scratch_length;
    }
    reducer->idle = reduction->next;
    reduction->next = NULL;
    *taken = reduction;
    return RDP_OK;
}

int rdp_mpi_reducer_begin(struct rdp_mpi_reducer *reducer, float *data, size_t count, struct rdp_request *request)
{
    const size_t line = RDP_ALIGNMENT / sizeof(float);
    size_t size = (size_t)reducer->size;
    size_t segment = (count + size - 1) / size;
    struct reduction *reduction;

    if (count > INT_MAX)
        return rdp_fail(RDP_EUSAGE, "an all-reduce of %zu floats: one may have up to %d; choose a smaller --bucket-mb",
                        count, INT_MAX);
    if (reducer->pending_count == TAGS)
        return rdp_fail(RDP_EUSAGE, "more than %d all-reduces are pending at once; choose a larger --bucket-mb", TAGS);
    memset(request, 0, sizeof *request);
    if (count == 0) /* on every rank, so nobody waits for a message */
        return RDP_OK;
    segment = (segment + line - 1) / line * line;
    RDP_TRY(take_idle(reducer, (size - 1) * segment, &reduction));
    reduction->data = data;
    reduction->count = count;
    reduction->segment = segment;
    reduction->request_count = 0;
    reduction->tag = 2 * (int)(reducer->sequence++ % TAGS);
    struct reduction **tail = &reducer->pending;
    while (*tail != NULL)
        tail = &(*tail)->next;
    *tail = reduction;
    reducer->pending_count++;
    request->opaque[0] = reduction;
    return begin_scatter(reducer, reduction);
}

int rdp_mpi_reducer_advance(struct rdp_mpi_reducer *reducer)
{
    for (struct reduction *reduction = reducer->pending; reduction != NULL; reduction = reduction->next) {
        while (reduction->phase != PHASE_DONE) {
            int done = 0;
            RDP_MPI(MPI_Testall(reduction->request_count, reduction->requests, &done, MPI_STATUSES_IGNORE));
            if (!done)
                break;
            if (reduction->phase == PHASE_SCATTER) {
                sum_in_rank_order(reducer, reduction);
                RDP_TRY(begin_gather(reducer, reduction));
            } else {
                reduction->phase = PHASE_DONE;
            }
        }
    }
    return RDP_OK;
}

bool rdp_mpi_reducer_collect(struct rdp_mpi_reducer *reducer, struct rdp_request *request)
{
    struct reduction *reduction = request->opaque[0];

    if (reduction == NULL)
        return true;
    if (reduction->phase != PHASE_DONE)
        return false;
    struct reduction **link = &reducer->pending;
    while (*link != reduction)
        link = &(*link)->next;
    *link = reduction->next;
    reduction->next = reducer->idle;
    reducer->idle = reduction;
    reducer->pending_count--;
    request->opaque[0] = NULL;
    return true;
}
