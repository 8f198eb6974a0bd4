/*
 * Memory. Everything large is allocated once, when a plan is made, aligned for vector loads and for page-sized
 * transfers; the training step allocates nothing. Small blocks use rdp_calloc so that running out is an error with
 * words, not a crash.
 */
#ifndef RDP_BASE_MEMORY_H
#define RDP_BASE_MEMORY_H

#include <stddef.h>

#define RDP_ALIGNMENT 64 /* bytes: one AVX-512 register, one cache line */

/* Zeroed memory in *pointer, owned by the caller, free() releases it. `what` names it in the RDP_ENOMEM message. */
int rdp_calloc(void **pointer, size_t count, size_t size, const char *what);
/* Zeroed memory aligned to 64 bytes (to 2 MiB huge pages where that helps); free() releases it. 0 bytes gives NULL. */
int rdp_alloc_aligned(void **pointer, size_t bytes, const char *what);
/* Rounds up to a multiple of RDP_ALIGNMENT. */
size_t rdp_align(size_t bytes);

#endif
