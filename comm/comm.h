/*
 * The control plane: what ranks tell each other between and around training steps, in host memory, blocking. The sums
 * inside a step go through reducer.h.
 *
 * A transport is a const table of functions (comm_self.c: one rank; comm_mpi.c: MPI). All calls are collective and made
 * by the main thread in the same order on every rank. Waiting never hangs: every wait polls, ticks the watchdog
 * (watchdog.h) and ends the process with a message when a peer stays away for longer than the time-out.
 */
#ifndef RDP_COMM_COMM_H
#define RDP_COMM_COMM_H

#include <stddef.h>
#include <stdint.h>

struct rdp_launch;
struct rdp_comm;

enum rdp_reduce { RDP_SUM, RDP_MIN, RDP_MAX };

struct rdp_comm_ops {
    const char *name; /* "self", "mpi" */
    /* In place; every rank gets the same bits. `what` names the call in time-out messages. */
    int (*allreduce_f32)(struct rdp_comm *comm, float *data, size_t count, enum rdp_reduce reduce, const char *what);
    int (*allreduce_f64)(struct rdp_comm *comm, double *data, size_t count, enum rdp_reduce reduce, const char *what);
    int (*allreduce_i64)(struct rdp_comm *comm, int64_t *data, size_t count, enum rdp_reduce reduce, const char *what);
    int (*broadcast)(struct rdp_comm *comm, void *data, size_t bytes, int root, const char *what);
    /* Rank r's `bytes` bytes land at all + r * bytes on `root` (all may be NULL elsewhere); same `bytes` on every rank.
     */
    int (*gather)(struct rdp_comm *comm, const void *mine, size_t bytes, void *all, int root, const char *what);
    /* Personalised all-to-all of bytes: send_counts[r] bytes at send + send_offsets[r] go to rank r; likewise received.
     * Arrays have `size` entries; counts and offsets below 2^31. */
    int (*exchange)(struct rdp_comm *comm, const void *send, const size_t *send_counts, const size_t *send_offsets,
                    void *receive, const size_t *receive_counts, const size_t *receive_offsets, const char *what);
    /* `patient` != 0: a wait for rank 0's evaluation or save; the cores are left to others (sleeping poll) and only a
     * rank that stopped responding ends it, not the time it takes. */
    int (*barrier)(struct rdp_comm *comm, int patient, const char *what);
    void (*destroy)(struct rdp_comm *comm); /* NULL-safe through rdp_comm_destroy */
};

struct rdp_comm {
    const struct rdp_comm_ops *ops;
    int rank, size;
    void *state; /* the transport's own */
};

/* Opens the transport that fits the launch: "self" for one rank, "mpi" for several. Owned by the caller. */
int rdp_comm_create(struct rdp_comm **comm, const struct rdp_launch *launch);
void rdp_comm_destroy(struct rdp_comm *comm);

/*
 * Ends a set-up phase: every rank passes its own status of it, every rank returns the same one (the most negative). The
 * lowest rank that failed prints its waiting message; the others forget theirs. After a failure here all ranks leave in
 * order and MPI_Finalize works.
 */
int rdp_comm_agree(struct rdp_comm *comm, int status, const char *phase);

#endif
