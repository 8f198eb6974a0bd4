/*
 * RDP_MPI: an MPI call whose error becomes an RDP_ECOMM with the call's text, the file and line, and MPI's own words.
 * Used by the files of comm/ only, which is the one folder that includes mpi.h. The call is evaluated once; on failure
 * the function returns.
 */
#ifndef RDP_COMM_MPI_CHECK_H
#define RDP_COMM_MPI_CHECK_H

#include <mpi.h>

#include "base/status.h"

/* The words for a failed call; defined in comm_mpi.c. Returns RDP_ECOMM. */
int rdp_mpi_failed(int error, const char *call, const char *file, int line);

#define RDP_MPI(call) \
    do { \
        int rdp_mpi_error_ = (call); \
        if (rdp_mpi_error_ != MPI_SUCCESS) \
            return rdp_mpi_failed(rdp_mpi_error_, #call, __FILE__, __LINE__); \
    } while (0)

#endif
