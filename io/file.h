/* Reading a whole small file into memory, with words for everything that can be wrong with it. Private to io/. */
#ifndef RDP_IO_FILE_H
#define RDP_IO_FILE_H

#include <stddef.h>
#include <stdint.h>

/* *bytes is the caller's (free); *size may be 0. RDP_EUSAGE: missing, a directory, unreadable, larger than `limit`
 * bytes. */
int rdp_file_read(const char *path, uint64_t limit, uint8_t **bytes, size_t *size);
/* The size of a regular file. RDP_EUSAGE: missing, a directory, no regular file. `what` names it: "data set". */
int rdp_file_size(const char *path, const char *what, uint64_t *size);

#endif
