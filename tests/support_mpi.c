/* The main program of tests under mpirun; see support_mpi.h. */
#include "support_mpi.h"

#include "base/status.h"
#include "comm/comm.h"
#include "comm/launch.h"
#include "comm/watchdog.h"

int rdp_test_mpi_main(int argc, char **argv, struct rdp_launch *launch, struct rdp_comm **comm, int (*run)(void))
{
    if (rdp_launch_begin(launch, &argc, &argv) != RDP_OK || rdp_comm_create(comm, launch) != RDP_OK ||
        rdp_comm_agree(*comm, rdp_watchdog_start(launch, 60), "starting the watchdog") != RDP_OK) {
        rdp_fail_print();
        return 1;
    }
    int64_t failed = run(); /* all ranks fail together */
    if ((*comm)->ops->allreduce_i64(*comm, &failed, 1, RDP_MAX, "verdict") != RDP_OK)
        failed = 1;
    rdp_watchdog_stop();
    rdp_comm_destroy(*comm);
    rdp_launch_end(launch);
    return failed == 77 ? 77 : failed != 0;
}
