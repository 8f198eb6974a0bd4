/* Facts about the machine and the build, for `info` and for bench's record. Linux: /proc. */
#ifndef RDP_HOST_H
#define RDP_HOST_H

#include <stddef.h>
#include <stdint.h>

struct rdp_host {
    char cpu[128];          /* as /proc/cpuinfo names it; the architecture where it does not */
    char instructions[256]; /* of the sets that matter here, those it has: "avx2 fma avx512f" */
    char kernel[192];       /* "Linux 6.1.0 x86_64" */
    int64_t memory_bytes, available_bytes; /* -1: unknown */
};

void rdp_host_read(struct rdp_host *host);
/* "gcc 12.2.0, optimised" and what else the compiler says of itself; static storage. */
const char *rdp_build_description(void);
/* "2026-03-01T12:00:00Z" into text; returns text. */
char *rdp_utc_now(char text[32]);

#endif
