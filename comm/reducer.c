/*
 * Opening and closing the data plane; see reducer.h. All ranks must choose the same transport, so the choice is
 * compared before anything is opened: ranks that pick their devices themselves may have picked different kinds.
 */
#include "comm/reducer.h"

#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/poll.h"
#include "comm/reducers.h"
#include "comm/watchdog.h"

enum transport { TRANSPORT_SELF, TRANSPORT_MPI, TRANSPORT_STAGED, TRANSPORT_NCCL };

#ifdef RDP_WITH_CUDA
static int choose_nccl(const struct rdp_reducer_config *config, int64_t *transport)
{
    if (config->stream == NULL)
        return rdp_fail(RDP_EUSAGE, "--comm nccl sums arrays of CUDA devices, and this run computes on the CPU; use "
                                    "--device cuda, or --comm mpi");
    if (config->shared_device && !rdp_nccl_shares_devices())
        return rdp_fail(RDP_EUSAGE,
                        "--comm nccl: several ranks drive one GPU, which %s refuses; start one rank per GPU, or use "
                        "--comm mpi (NCCL from 2.30 on can do it with NCCL_MULTI_RANK_GPU_ENABLE=1)",
                        rdp_nccl_version());
    *transport = TRANSPORT_NCCL;
    return RDP_OK;
}
#else
static int choose_nccl(const struct rdp_reducer_config *config, int64_t *transport)
{
    (void)config, (void)transport;
    return rdp_fail(RDP_EUSAGE, "--comm nccl: this resnet-dp was built without CUDA and NCCL; configure it with "
                                "-DRESNET_DP_CUDA=ON, or use --comm mpi");
}

const char *rdp_nccl_version(void)
{
    return "not in this build";
}
#endif

/* A lone rank has nothing to sum. It uses NCCL all the same when that was asked for by name: to see that it works. */
static int choose(const struct rdp_comm *comm, const struct rdp_reducer_config *config, int64_t *transport)
{
    if (config->kind == RDP_REDUCER_NCCL)
        return choose_nccl(config, transport);
    if (comm->size == 1)
        *transport = TRANSPORT_SELF;
    else if (config->stream == NULL)
        *transport = TRANSPORT_MPI;
    else if (config->kind == RDP_REDUCER_MPI || config->shared_device)
        *transport = TRANSPORT_STAGED;
    else
        *transport = TRANSPORT_NCCL;
    return RDP_OK;
}

/* Every rank gets the same status and, if it is RDP_OK, has the same transport. */
static int choose_alike(struct rdp_comm *comm, const struct rdp_reducer_config *config, int64_t *transport)
{
    static const char *const names[] = {"nothing", "MPI", "MPI staged from a CUDA device", "NCCL"};
    static const char phase[] = "choosing how gradients are summed";
    int64_t limits[2];

    *transport = TRANSPORT_SELF;
    RDP_TRY(rdp_comm_agree(comm, choose(comm, config, transport), phase));
    limits[0] = *transport;
    limits[1] = -*transport;
    RDP_TRY(comm->ops->allreduce_i64(comm, limits, 2, RDP_MIN, phase));
    if (limits[0] == -limits[1])
        return RDP_OK;
    int status = rdp_fail(RDP_EUSAGE,
                          "the ranks would sum gradients in different ways: some by %s, others by %s; give all of them "
                          "the same kind of device (--device cpu or --device cuda), and one --comm",
                          names[limits[0]], names[-limits[1]]);
    return rdp_comm_agree(comm, status, phase);
}

static int allocate_alike(struct rdp_comm *comm, void **memory, size_t bytes)
{
    static const char what[] = "the sums over ranks";

    *memory = NULL;
    int status = rdp_comm_agree(comm, rdp_calloc(memory, 1, bytes, what), what);
    if (status != RDP_OK)
        free(*memory);
    return status;
}

int rdp_reducer_make_state(struct rdp_reducer *reducer, size_t bytes)
{
    return allocate_alike(reducer->comm, &reducer->state, bytes);
}

static int open_transport(struct rdp_reducer *reducer, const struct rdp_reducer_config *config, int64_t transport)
{
    switch (transport) {
    case TRANSPORT_SELF:
        return rdp_reducer_self_open(reducer);
    case TRANSPORT_MPI:
        return rdp_reducer_mpi_open(reducer);
#ifdef RDP_WITH_CUDA
    case TRANSPORT_STAGED:
        return rdp_reducer_staged_open(reducer, config);
    case TRANSPORT_NCCL:
        return rdp_reducer_nccl_open(reducer, config);
#endif
    default:
        return rdp_fail(RDP_EINTERNAL,
                        "sums over ranks on a device stream (%p) that this build does not know; please "
                        "report this",
                        config->stream);
    }
}

int rdp_reducer_create(struct rdp_reducer **reducer, struct rdp_comm *comm, const struct rdp_reducer_config *config)
{
    void *memory;
    int64_t transport;

    *reducer = NULL;
    RDP_TRY(choose_alike(comm, config, &transport));
    RDP_TRY(allocate_alike(comm, &memory, sizeof **reducer));
    struct rdp_reducer *created = memory;
    created->comm = comm;
    int status = open_transport(created, config, transport);
    if (status != RDP_OK) {
        free(created);
        return status;
    }
    *reducer = created;
    return RDP_OK;
}

void rdp_reducer_destroy(struct rdp_reducer *reducer)
{
    if (reducer == NULL)
        return;
    reducer->ops->destroy(reducer);
    free(reducer);
}

int rdp_reducer_wait_device(struct rdp_reducer *reducer, int (*idle)(void *context, bool *idle), void *context,
                            const char *what)
{
    bool done = false;
    int polls = 0;

    RDP_TRY(idle(context, &done));
    if (done)
        return RDP_OK;
    double begun = rdp_now();
    rdp_watchdog_wait_begin(what, 0);
    while (!done) {
        RDP_TRY(reducer->ops->check(reducer, rdp_now() - begun));
        rdp_poll_pause(&polls, 0);
        RDP_TRY(idle(context, &done));
    }
    rdp_watchdog_wait_end();
    return RDP_OK;
}
