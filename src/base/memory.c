/* Allocation with words for the failure; see memory.h. */
#include "base/memory.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/status.h"

#define HUGE_PAGE ((size_t)2 << 20)

size_t rdp_align(size_t bytes)
{
    return (bytes + RDP_ALIGNMENT - 1) / RDP_ALIGNMENT * RDP_ALIGNMENT;
}

int rdp_calloc(void **pointer, size_t count, size_t size, const char *what)
{
    *pointer = calloc(count ? count : 1, size ? size : 1);
    if (*pointer == NULL)
        return rdp_fail(RDP_ENOMEM, "%zu bytes for %s: out of memory; use fewer ranks per node or a smaller batch",
                        count * size, what);
    return RDP_OK;
}

int rdp_alloc_aligned(void **pointer, size_t bytes, const char *what)
{
    *pointer = NULL;
    if (bytes == 0)
        return RDP_OK;
    if (bytes > SIZE_MAX - HUGE_PAGE)
        return rdp_fail(RDP_ENOMEM, "%zu bytes for %s: more than an address space", bytes, what);
    size_t alignment = bytes >= HUGE_PAGE ? HUGE_PAGE : RDP_ALIGNMENT;
    size_t rounded = (bytes + alignment - 1) / alignment * alignment;
    *pointer = aligned_alloc(alignment, rounded);
    if (*pointer == NULL)
        return rdp_fail(RDP_ENOMEM, "%zu MiB for %s: out of memory; use fewer ranks per node or a smaller batch",
                        bytes >> 20, what);
    /* Activations are streamed through from end to end: huge pages save most of the TLB misses of that. */
    if (alignment == HUGE_PAGE)
        madvise(*pointer, rounded, MADV_HUGEPAGE);
    memset(*pointer, 0, rounded);
    return RDP_OK;
}
