/*
 * The data plane: sums over ranks of arrays that lie where a device computes, started while it still computes others.
 *
 * A reducer is a const table of functions (reducer_self.c: one rank; reducer_mpi.c: MPI, on host memory or staged
 * through it; reducer_nccl.c: NCCL). Everything else that crosses ranks is host memory and goes through comm.h.
 *
 * All calls are collective, made by the main thread in the same order on every rank. Calls are in order with what the
 * device has been given (its stream): a sum starts when the array's values are computed, and what the device is given
 * after wait() sees the sum. Where the host computes (stream NULL) wait() therefore blocks; with a stream it need not.
 * Waiting never hangs: what blocks polls, ticks the watchdog and ends with a message when a peer stays away for longer
 * than the time-out.
 */
#ifndef RDP_COMM_REDUCER_H
#define RDP_COMM_REDUCER_H

#include <stdbool.h>
#include <stddef.h>

struct rdp_comm;
struct rdp_reducer;

/* One pending sum; a slot the caller owns and passes again to test/wait. */
struct rdp_request {
    void *opaque[4];
};

enum rdp_reducer_kind { RDP_REDUCER_AUTO, RDP_REDUCER_MPI, RDP_REDUCER_NCCL };

struct rdp_reducer_ops {
    const char *name; /* "self", "mpi", "nccl": as --comm says it */
    bool recordable;  /* its calls may be part of a device's recording; `what` is then not seen again on replay */
    /* Starts summing data[0..count) f32 over all ranks, in place; every rank gets the same bits. The array may not be
     * touched until wait(). `what` (long-lived text) names it in messages. */
    int (*begin)(struct rdp_reducer *reducer, float *data, size_t count, const char *what, struct rdp_request *request);
    /* Gives the transport a chance to move data; never blocks. *done becomes 1 once the request is finished and needs
     * no wait(). It may stay 0 until wait() where that does not block (NCCL). */
    int (*test)(struct rdp_reducer *reducer, struct rdp_request *request, int *done);
    int (*wait)(struct rdp_reducer *reducer, struct rdp_request *request, const char *what);
    /* In place, in order; for batch-norm sums. */
    int (*sum_f64)(struct rdp_reducer *reducer, double *data, size_t count, const char *what);
    /* Looks for errors of what runs on the device (NCCL's asynchronous ones); never blocks. To be called while waiting
     * for the device. `seconds` the caller has waited so far: when the sums have not come on for longer than the
     * time-out (and 3 s more, in which the watchdog speaks first if it knows who is late) they are aborted and
     * RDP_ECOMM names rank, step and bucket. */
    int (*check)(struct rdp_reducer *reducer, double seconds);
    /* Memory that the transport reduces fastest (registered), zeroed; collective, agreed. free() (NULL-safe) before
     * destroy. Both NULL: take the device's. */
    int (*alloc)(struct rdp_reducer *reducer, void **pointer, size_t bytes, const char *what);
    void (*free)(struct rdp_reducer *reducer, void *pointer);
    void (*destroy)(struct rdp_reducer *reducer);
};

struct rdp_reducer {
    const struct rdp_reducer_ops *ops;
    struct rdp_comm *comm; /* the caller's; must outlive the reducer */
    void *state;           /* the transport's own */
    char description[160]; /* "NCCL 2.28.9", "Open MPI v4.1.4, staged through host memory"; "" for one rank */
};

struct rdp_reducer_config {
    enum rdp_reducer_kind kind; /* AUTO: nccl on CUDA devices that are all different, else mpi */
    void *stream;               /* of the device (ops->stream); NULL: arrays are host memory */
    bool shared_device;         /* several ranks drive one GPU */
    double timeout_seconds;     /* 0: none */
};

/* Collective, agreed: all ranks return the same status. Owned by the caller. RDP_EUSAGE: NCCL asked for without it, or
 * with several ranks on one GPU (unless NCCL >= 2.30 with NCCL_MULTI_RANK_GPU_ENABLE=1), or on CPU devices. */
int rdp_reducer_create(struct rdp_reducer **reducer, struct rdp_comm *comm, const struct rdp_reducer_config *config);
/* NULL-safe. Nothing may be pending, and recordings that hold its calls must have been destroyed: NCCL waits for them.
 */
void rdp_reducer_destroy(struct rdp_reducer *reducer);
/* Waits until idle(context) says that the device is done (it never blocks; a status of its own ends the wait), calling
 * check() meanwhile and counting as a wait for the watchdog, to which `what` names it. */
int rdp_reducer_wait_device(struct rdp_reducer *reducer, int (*idle)(void *context, bool *idle), void *context,
                            const char *what);
/* "NCCL 2.28.9", or "not in this build". */
const char *rdp_nccl_version(void);

#endif
