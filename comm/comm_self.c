/* The transport of a lone rank: a sum over one rank is the number itself. */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"
#include "comm/comm.h"
#include "comm/transports.h"

static int allreduce_f32(struct rdp_comm *comm, float *data, size_t count, enum rdp_reduce reduce, const char *what)
{
    (void)comm, (void)data, (void)count, (void)reduce, (void)what;
    return RDP_OK;
}

static int allreduce_f64(struct rdp_comm *comm, double *data, size_t count, enum rdp_reduce reduce, const char *what)
{
    (void)comm, (void)data, (void)count, (void)reduce, (void)what;
    return RDP_OK;
}

static int allreduce_i64(struct rdp_comm *comm, int64_t *data, size_t count, enum rdp_reduce reduce, const char *what)
{
    (void)comm, (void)data, (void)count, (void)reduce, (void)what;
    return RDP_OK;
}

static int broadcast(struct rdp_comm *comm, void *data, size_t bytes, int root, const char *what)
{
    (void)comm, (void)data, (void)bytes, (void)root, (void)what;
    return RDP_OK;
}

static int gather(struct rdp_comm *comm, const void *mine, size_t bytes, void *all, int root, const char *what)
{
    (void)comm, (void)root, (void)what;
    if (bytes > 0)
        memmove(all, mine, bytes);
    return RDP_OK;
}

static int exchange(struct rdp_comm *comm, const void *send, const size_t *send_counts, const size_t *send_offsets,
                    void *receive, const size_t *receive_counts, const size_t *receive_offsets, const char *what)
{
    (void)comm;
    if (send_counts[0] != receive_counts[0])
        return rdp_fail(RDP_EINTERNAL, "%s: rank 0 sends itself %zu bytes and expects %zu; please report this", what,
                        send_counts[0], receive_counts[0]);
    if (send_counts[0] > 0)
        memcpy((char *)receive + receive_offsets[0], (const char *)send + send_offsets[0], send_counts[0]);
    return RDP_OK;
}

static int barrier(struct rdp_comm *comm, int patient, const char *what)
{
    (void)comm, (void)patient, (void)what;
    return RDP_OK;
}

static void destroy(struct rdp_comm *comm)
{
    (void)comm;
}

static const struct rdp_comm_ops self_ops = {
    .name = "self",
    .allreduce_f32 = allreduce_f32,
    .allreduce_f64 = allreduce_f64,
    .allreduce_i64 = allreduce_i64,
    .broadcast = broadcast,
    .gather = gather,
    .exchange = exchange,
    .barrier = barrier,
    .destroy = destroy,
};

int rdp_comm_self_open(struct rdp_comm *comm)
{
    comm->ops = &self_ops;
    comm->rank = 0;
    comm->size = 1;
    return RDP_OK;
}
