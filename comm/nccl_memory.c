/*
 * Device memory that NCCL reduces fastest: allocated by NCCL, and registered with the communicator as a symmetric window
 * (NCCL 2.27; one host: each GPU adds up what it reads from the others directly) or, where there is none, as a plain
 * buffer, so that the network or the switch reads it without a copy. Only in builds with CUDA.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/nccl_state.h"

#if NCCL_VERSION_CODE >= NCCL_VERSION(2, 27, 0)
#define HAVE_WINDOWS 1
#else
#define HAVE_WINDOWS 0
#endif

enum { ALIGNMENT = 4096 }; /* NCCL_WIN_REQUIRED_ALIGNMENT */

struct nccl_buffer {
    struct nccl_buffer *next;
    void *pointer;
#if HAVE_WINDOWS
    ncclWindow_t window; /* NULL: not one */
#endif
    void *handle; /* of a plain registration; NULL: none */
};

/* Local: what can fail on one rank alone. */
static int buffer_create(struct rdp_reducer *reducer, struct nccl_buffer **buffer, size_t bytes, const char *what)
{
    struct nccl_state *state = reducer->state;
    void *memory;

    if (state->communicator == NULL)
        return rdp_fail(RDP_ECOMM, "memory for %s: NCCL was aborted after an error", what);
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **buffer, what));
    *buffer = memory;
    ncclResult_t result = ncclMemAlloc(&(*buffer)->pointer, bytes);
    if (result != ncclSuccess) {
        (*buffer)->pointer = NULL;
        return rdp_fail(RDP_ENOMEM,
                        "NCCL cannot allocate %.1f MiB on the device for %s: %s (%s); use a smaller --batch",
                        (double)bytes / (1 << 20), what, ncclGetErrorString(result), ncclGetLastError(NULL));
    }
    RDP_CUDA(cudaMemsetAsync((*buffer)->pointer, 0, bytes, state->compute));
    RDP_CUDA(cudaStreamSynchronize(state->compute));
    return RDP_OK;
}

/* Says in the description what the sums will use. */
static void describe(struct rdp_reducer *reducer, const char *memory)
{
    size_t used = strlen(reducer->description), room = sizeof reducer->description - used;

    if (strchr(reducer->description, ',') == NULL && strlen(memory) < room)
        memcpy(reducer->description + used, memory, strlen(memory) + 1);
}

/* Collective. Between GPUs that cannot map each other's memory a window is a plain registration by itself, and where
 * there is no registration at all it is NULL on all ranks, which is no error. */
static int register_buffer(struct rdp_reducer *reducer, struct nccl_buffer *buffer, size_t bytes)
{
    struct nccl_state *state = reducer->state;

#if HAVE_WINDOWS
    RDP_NCCL(reducer, ncclCommWindowRegister(state->communicator, buffer->pointer, bytes, &buffer->window,
                                             NCCL_WIN_COLL_SYMMETRIC));
    if (buffer->window != NULL) {
        describe(reducer, ", registered memory");
        return RDP_OK;
    }
#endif
    RDP_NCCL(reducer, ncclCommRegister(state->communicator, buffer->pointer, bytes, &buffer->handle));
    if (buffer->handle != NULL)
        describe(reducer, ", registered memory");
    return RDP_OK;
}

/* A failure here has no caller that could do anything about it; an aborted communicator forgets its buffers itself. */
static void buffer_destroy(struct rdp_reducer *reducer, struct nccl_buffer *buffer)
{
    struct nccl_state *state = reducer->state;

#if HAVE_WINDOWS
    if (state->communicator != NULL && buffer->window != NULL)
        (void)rdp_nccl_settle(reducer, ncclCommWindowDeregister(state->communicator, buffer->window),
                              "ncclCommWindowDeregister", __FILE__, __LINE__);
#endif
    if (state->communicator != NULL && buffer->handle != NULL)
        (void)rdp_nccl_settle(reducer, ncclCommDeregister(state->communicator, buffer->handle), "ncclCommDeregister",
                              __FILE__, __LINE__);
    if (buffer->pointer != NULL && rdp_nccl_abort_is_over(state))
        (void)ncclMemFree(buffer->pointer);
    free(buffer);
}

int rdp_nccl_alloc(struct rdp_reducer *reducer, void **pointer, size_t bytes, const char *what)
{
    struct nccl_state *state = reducer->state;
    struct nccl_buffer *buffer = NULL;
    const size_t whole = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;

    *pointer = NULL;
    if (bytes == 0)
        return RDP_OK;
    /* Nobody may wait in the registration for a rank that has no memory. */
    int status = rdp_comm_agree(reducer->comm, buffer_create(reducer, &buffer, whole, what), what);
    if (status == RDP_OK)
        status = rdp_comm_agree(reducer->comm, register_buffer(reducer, buffer, whole), what);
    if (status != RDP_OK) {
        if (buffer != NULL)
            buffer_destroy(reducer, buffer);
        return status;
    }
    buffer->next = state->buffers;
    state->buffers = buffer;
    *pointer = buffer->pointer;
    return RDP_OK;
}

void rdp_nccl_free(struct rdp_reducer *reducer, void *pointer)
{
    struct nccl_state *state = reducer->state;

    for (struct nccl_buffer **link = &state->buffers; *link != NULL; link = &(*link)->next)
        if (pointer != NULL && (*link)->pointer == pointer) {
            struct nccl_buffer *buffer = *link;
            *link = buffer->next;
            buffer_destroy(reducer, buffer);
            return;
        }
}

void rdp_nccl_free_all(struct rdp_reducer *reducer)
{
    struct nccl_state *state = reducer->state;

    while (state->buffers != NULL)
        rdp_nccl_free(reducer, state->buffers->pointer);
}
