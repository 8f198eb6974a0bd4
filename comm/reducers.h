/* The transports that rdp_reducer_create() chooses from; inside comm/ only. Opening one is collective and agreed, and
 * fills a reducer whose `comm` is set and whose rest is zero; after an error there is nothing to destroy and `ops` is
 * NULL. */
#ifndef RDP_COMM_REDUCERS_H
#define RDP_COMM_REDUCERS_H

#include <stdbool.h>

#include "comm/reducer.h"

/* reducer.c: zeroed memory for reducer->state; collective, agreed: all ranks have it or none. */
int rdp_reducer_make_state(struct rdp_reducer *reducer, size_t bytes);

int rdp_reducer_self_open(struct rdp_reducer *reducer);
/* On host memory. */
int rdp_reducer_mpi_open(struct rdp_reducer *reducer);

/* In builds with CUDA (RDP_WITH_CUDA): on memory of the current CUDA device. */
int rdp_reducer_staged_open(struct rdp_reducer *reducer, const struct rdp_reducer_config *config);
int rdp_reducer_nccl_open(struct rdp_reducer *reducer, const struct rdp_reducer_config *config);
/* Whether this NCCL, as it is set up, lets several ranks drive one GPU. */
bool rdp_nccl_shares_devices(void);

#endif
