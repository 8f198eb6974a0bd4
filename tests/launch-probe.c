/* Says what rdp_launch_threads() gave each rank: "threads T mask CPUS note NOTE". tests/test-launch.sh runs it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/status.h"
#include "comm/launch.h"

int main(int argc, char **argv)
{
    struct rdp_launch launch;
    char note[256];
    int threads;
    int status = rdp_launch_begin(&launch, &argc, &argv);

    if (status == RDP_OK)
        status = rdp_launch_threads(&launch, argc > 1 ? atoi(argv[1]) : 0, &threads, note, sizeof note);
    /* Twice gives the same. */
    if (status == RDP_OK)
        status = rdp_launch_threads(&launch, argc > 1 ? atoi(argv[1]) : 0, &threads, note, sizeof note);
    if (status == RDP_OK) {
        printf("threads %d cores %d mask %s note %s\n", threads, launch.cores_allowed, launch.cores, note);
        fflush(stdout);
        status = rdp_launch_print(&launch, threads);
    }
    rdp_fail_print();
    rdp_launch_end(&launch);
    return rdp_status_exit_code(status);
}
