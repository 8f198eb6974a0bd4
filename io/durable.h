/* Writing files so that they are whole or absent: temp in the same directory, write, fsync, rename, fsync the
 * directory. */
#ifndef RDP_IO_DURABLE_H
#define RDP_IO_DURABLE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Replaces `path` by `pieces` concatenated. RDP_EIO names the step, the path and the reason; the temp file is removed
 * and the old file is untouched. What is there and no regular file (a device, a pipe) is refused. */
struct rdp_bytes {
    const void *data;
    size_t size;
};
int rdp_durable_write(const char *path, const struct rdp_bytes *pieces, size_t piece_count);
/* The same by what `print` writes of `what`, a text that is built in memory. Also RDP_ENOMEM. */
int rdp_durable_print(const char *path, void (*print)(FILE *out, const void *what), const void *what);
/* mkdir -p. RDP_EIO with the reason. */
int rdp_make_directory(const char *path);
/* CRC-32C (Castagnoli), as RFC 3720 appendix B.4 defines it; start with crc = 0 and chain. */
uint32_t rdp_crc32c(uint32_t crc, const void *data, size_t size);
/* The same without special instructions: what other processors run; public so that the test can compare the two. */
uint32_t rdp_crc32c_portable(uint32_t crc, const void *data, size_t size);

#endif
