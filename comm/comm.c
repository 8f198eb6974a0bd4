/*
 * Opening and closing the transport, and the vote that ends a set-up phase; see comm.h. Nothing here knows MPI: what a
 * transport can do is in its table.
 */
#include "comm/comm.h"

#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "comm/launch.h"
#include "comm/transports.h"

int rdp_comm_create(struct rdp_comm **comm, const struct rdp_launch *launch)
{
    void *memory;
    int status;

    *comm = NULL;
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **comm, "the communicator"));
    struct rdp_comm *created = memory;
    if (launch->size > 1)
        status = rdp_comm_mpi_open(created);
    else
        status = rdp_comm_self_open(created);
    if (status != RDP_OK) {
        free(created);
        return status;
    }
    *comm = created;
    return RDP_OK;
}

void rdp_comm_destroy(struct rdp_comm *comm)
{
    if (comm == NULL)
        return;
    comm->ops->destroy(comm);
    free(comm);
}

int rdp_comm_agree(struct rdp_comm *comm, int status, const char *phase)
{
    /* Minima: the most negative status, and the lowest rank that has one. */
    int64_t vote[2] = {status, status == RDP_OK ? comm->size : comm->rank};

    RDP_TRY(comm->ops->allreduce_i64(comm, vote, 2, RDP_MIN, phase));
    if (vote[0] == RDP_OK)
        return RDP_OK;
    if (vote[1] == comm->rank) {
        if (rdp_fail_message()[0] == '\0')
            rdp_fail(status, "%s failed: %s", phase, rdp_status_text(status));
        rdp_fail_print();
    }
    rdp_fail_clear();
    return (int)vote[0];
}
