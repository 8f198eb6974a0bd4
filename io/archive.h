/* Reading chosen files out of a .tar.gz: zlib and just enough of the ustar format (POSIX.1-2001, pax). Private to io/.
 */
#ifndef RDP_IO_ARCHIVE_H
#define RDP_IO_ARCHIVE_H

#include <stddef.h>
#include <stdint.h>

/* A file wanted by its base name; folders in the archive do not matter. */
struct rdp_archive_file {
    const char *name;
    size_t limit;   /* more bytes than this are refused */
    uint8_t *bytes; /* set if found; the caller's (free) */
    size_t size;
};

/* Reads the whole archive, so that its checksum is compared, and fills what it finds; what is missing keeps bytes ==
 * NULL. RDP_EUSAGE: missing, no .tar.gz, truncated, damaged, a wanted file twice or above its limit. */
int rdp_archive_read(const char *path, struct rdp_archive_file *files, size_t count);

#endif
