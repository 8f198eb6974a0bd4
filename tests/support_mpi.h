/* The main program of a test that runs on any number of ranks: all ranks fail together, and a watchdog ends the test if
 * a rank fails and leaves the others waiting. */
#ifndef RDP_TEST_SUPPORT_MPI_H
#define RDP_TEST_SUPPORT_MPI_H

struct rdp_comm;
struct rdp_launch;

/* Starts MPI, fills the test's *launch and *comm, runs the tests (run() returns how many failed, as cmocka does, or 77 on all ranks
 * for a skip) and
 * ends MPI. The program's exit code. */
int rdp_test_mpi_main(int argc, char **argv, struct rdp_launch *launch, struct rdp_comm **comm, int (*run)(void));

#endif
