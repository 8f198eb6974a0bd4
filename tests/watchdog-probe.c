/*
 * A job that goes wrong on purpose; tests/test-watchdog.sh runs it under mpirun. watchdog-probe MODE SECONDS
 *
 * Every rank "trains" three steps, each ending in an all-reduce. In step 2 rank 1 (the last rank, if there are fewer)
 * does as MODE says: stop (SIGSTOP itself), pause (the same, but rank 0 continues it soon), loop (never comes back),
 * kill (SIGKILL itself), differ (enters another call than the others); "slow" works on for three time-outs, ticking;
 * "patient" has the others wait patiently while it works on without ticking for most of a time-out, three times;
 * "patient-stop" stops meanwhile. "none": nothing.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/status.h"
#include "comm/comm.h"
#include "comm/launch.h"
#include "comm/reducer.h"
#include "comm/watchdog.h"

static void doze(double seconds)
{
    struct timespec pause = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&pause, NULL);
}

/* A wait that ends, in pieces; a tick after each. */
static void work(double seconds)
{
    for (double spent = 0; spent < seconds; spent += 0.1) {
        doze(0.1);
        rdp_watchdog_tick();
    }
}

static int misbehave(struct rdp_comm *comm, const char *mode, double timeout)
{
    volatile int for_ever = 1;

    if (strcmp(mode, "stop") == 0 || strcmp(mode, "pause") == 0 || strcmp(mode, "patient-stop") == 0)
        raise(SIGSTOP);
    else if (strcmp(mode, "kill") == 0)
        raise(SIGKILL);
    else if (strcmp(mode, "loop") == 0)
        while (for_ever)
            doze(0.1);
    else if (strcmp(mode, "differ") == 0)
        RDP_TRY(comm->ops->barrier(comm, 0, "barrier of the confused"));
    else if (strcmp(mode, "slow") == 0)
        work(3 * timeout);
    else if (strcmp(mode, "patient") == 0)
        for (int i = 0; i < 3; i++) {
            doze(0.6 * timeout);
            rdp_watchdog_tick();
        }
    return RDP_OK;
}

static int train(struct rdp_comm *comm, struct rdp_reducer *reducer, const char *mode, double timeout)
{
    int culprit = comm->size > 1 ? 1 : 0;
    int64_t pid = comm->rank == culprit ? (int64_t)getpid() : 0;

    RDP_TRY(comm->ops->allreduce_i64(comm, &pid, 1, RDP_SUM, "sum of process numbers"));
    for (int step = 1; step <= 3; step++) {
        float gradients[1000] = {1};
        struct rdp_request request;

        rdp_watchdog_phase("backward", step);
        if (step == 2 && comm->rank == culprit)
            RDP_TRY(misbehave(comm, mode, timeout));
        if (step == 2 && comm->rank != culprit && strcmp(mode, "pause") == 0) {
            work(0.5 * timeout);
            kill((pid_t)pid, SIGCONT);
        }
        if (strncmp(mode, "patient", 7) == 0)
            RDP_TRY(comm->ops->barrier(comm, 1, "evaluation of rank 1"));
        RDP_TRY(reducer->ops->begin(reducer, gradients, 1000, "all-reduce of bucket 1", &request));
        RDP_TRY(reducer->ops->wait(reducer, &request, "all-reduce of bucket 1"));
    }
    return RDP_OK;
}

int main(int argc, char **argv)
{
    struct rdp_launch launch;
    struct rdp_comm *comm = NULL;
    struct rdp_reducer *reducer = NULL;
    struct rdp_reducer_config config = {.kind = RDP_REDUCER_AUTO};
    const char *mode = argc > 1 ? argv[1] : "none";
    double timeout = argc > 2 ? atof(argv[2]) : 2;
    int status = rdp_launch_begin(&launch, &argc, &argv);

    if (status == RDP_OK)
        status = rdp_comm_create(&comm, &launch);
    if (status == RDP_OK)
        status = rdp_comm_agree(comm, rdp_watchdog_start(&launch, timeout), "starting the watchdog");
    if (status == RDP_OK)
        status = rdp_reducer_create(&reducer, comm, &config);
    if (status == RDP_OK)
        status = train(comm, reducer, mode, timeout);
    rdp_fail_print();
    if (status != RDP_OK)
        rdp_launch_abort(&launch, rdp_status_exit_code(status));
    rdp_watchdog_stop();
    rdp_reducer_destroy(reducer);
    rdp_comm_destroy(comm);
    rdp_launch_end(&launch);
    return 0;
}
