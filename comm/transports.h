/* The transports that rdp_comm_create() chooses from; inside comm/ only. Each fills a zeroed rdp_comm. */
#ifndef RDP_COMM_TRANSPORTS_H
#define RDP_COMM_TRANSPORTS_H

struct rdp_comm;

int rdp_comm_self_open(struct rdp_comm *comm);
/* Collective over MPI_COMM_WORLD. */
int rdp_comm_mpi_open(struct rdp_comm *comm);

#endif
