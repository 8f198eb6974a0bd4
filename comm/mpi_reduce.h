/*
 * Sums of float arrays over ranks that advance while the caller computes; the engine behind reducer_mpi.c. See
 * mpi_reduce.c for the scheme and for why MPI_Iallreduce is not used.
 */
#ifndef RDP_COMM_MPI_REDUCE_H
#define RDP_COMM_MPI_REDUCE_H

#include <mpi.h>
#include <stdbool.h>
#include <stddef.h>

struct rdp_request;
struct rdp_mpi_reducer;

/* Owned by the caller. `communicator` must carry no other point-to-point messages (collectives are apart from
 * them); it is not freed here. */
int rdp_mpi_reducer_create(struct rdp_mpi_reducer **reducer, MPI_Comm communicator);
/* Must have nothing pending, but for the way out after an error: what is pending then is left to MPI. NULL-safe. */
void rdp_mpi_reducer_destroy(struct rdp_mpi_reducer *reducer);
/* Starts a sum in place. All ranks begin the same sums in the same order. */
int rdp_mpi_reducer_begin(struct rdp_mpi_reducer *reducer, float *data, size_t count, struct rdp_request *request);
/* Moves every pending sum on as far as it goes without waiting. */
int rdp_mpi_reducer_advance(struct rdp_mpi_reducer *reducer);
/* Whether the sum is finished; a finished request is released, and counts as finished when asked again. */
bool rdp_mpi_reducer_collect(struct rdp_mpi_reducer *reducer, struct rdp_request *request);

#endif
