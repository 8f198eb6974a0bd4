/*
 * What reducer_nccl.c, nccl_memory.c and nccl_abort.c share; nobody else includes this. Only in builds with CUDA.
 *
 * The communicator is non-blocking, so that no call can hang: a call may return before it is done, while a thread of
 * NCCL's works on. RDP_NCCL therefore polls until the communicator is ready again, with a deadline; what follows (an
 * event, the use of a result) may rely on it.
 *
 * That thread also launches the sums, and captures them where the stream is being recorded: a stream records what it is
 * given by any thread, and the rules for threads that record (cudaStreamCaptureModeThreadLocal) do not bind this one.
 */
#ifndef RDP_COMM_NCCL_STATE_H
#define RDP_COMM_NCCL_STATE_H

#include <nccl.h>

#include "comm/cuda_streams.h"
#include "comm/reducer.h"

#if NCCL_VERSION_CODE < NCCL_VERSION(2, 19, 0)
#error "NCCL 2.19 or newer is needed (ncclMemAlloc, ncclCommRegister)"
#endif

enum {
    NCCL_NAMES = 256,
    NCCL_NAME_BYTES = 48,
    NCCL_END_SECONDS = 10 /* for a communicator to come to its end */
};

struct nccl_abort;  /* nccl_abort.c */
struct nccl_event;  /* reducer_nccl.c */
struct nccl_buffer; /* nccl_memory.c */

struct nccl_state {
    ncclComm_t communicator; /* NULL before it is made and once it is aborted */
    double timeout;          /* seconds, 0: none */
    cudaStream_t compute;    /* the device's */
    cudaStream_t stream;     /* the sums' */
    cudaEvent_t ready;       /* the compute stream has made an array */
    struct nccl_event *events;
    struct nccl_buffer *buffers;
    struct nccl_abort *abort; /* under way; NULL: none */
    /* The note of where the sums are: 0 at first, 2 i + 1 in the one that names[i] names, 2 i + 2 after it. */
    unsigned *notes; /* device [2 NCCL_NAMES + 1], notes[n] = n */
    unsigned *note;  /* pinned; written by the device, so read as volatile */
    char names[NCCL_NAMES][NCCL_NAME_BYTES];
    int name_count;
    unsigned seen_note; /* by check(), and after how many seconds of its caller's wait it came */
    double seen_seconds;
};

/* Waits until the communicator is done with a call that returned `result`; `call` is its text. An error, or the
 * time-out, aborts the communicator: its peers must not spin for ever. */
int rdp_nccl_settle(struct rdp_reducer *reducer, ncclResult_t result, const char *call, const char *file, int line);

/* Evaluates the call once; on failure the function returns. */
#define RDP_NCCL(reducer, call) \
    do { \
        int rdp_nccl_status_ = rdp_nccl_settle((reducer), (call), #call, __FILE__, __LINE__); \
        if (rdp_nccl_status_ != RDP_OK) \
            return rdp_nccl_status_; \
    } while (0)

/* nccl_abort.c. The communicator is gone at once (NULL), its kernels end; nothing waits. */
void rdp_nccl_abort(struct nccl_state *state);
/* Waits for the end of an abort, if there is one; false if it does not come: what NCCL may still use must not be freed.
 */
bool rdp_nccl_abort_is_over(struct nccl_state *state);

/* nccl_memory.c: rdp_reducer_ops.alloc and free; free_all for what nobody has freed. */
int rdp_nccl_alloc(struct rdp_reducer *reducer, void **pointer, size_t bytes, const char *what);
void rdp_nccl_free(struct rdp_reducer *reducer, void *pointer);
void rdp_nccl_free_all(struct rdp_reducer *reducer);

#endif
