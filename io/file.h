/* Reading a whole small file into memory, with words for everything that can be wrong with it. */
#ifndef RDP_IO_FILE_H
#define RDP_IO_FILE_H

#include <stddef.h>
#include <stdint.h>

/* *bytes is the caller's (free); *size may be 0. RDP_EUSAGE: missing, a directory, unreadable, larger than `limit`
 * bytes. */
int rdp_file_read(const char *path, uint64_t limit, uint8_t **bytes, size_t *size);
/* The same as a text that ends with a zero byte; RDP_EUSAGE also for a zero byte within. */
int rdp_file_read_text(const char *path, uint64_t limit, char **text);
/* The size of a regular file. RDP_EUSAGE: missing, a directory, no regular file. `what` names it: "data set". */
int rdp_file_size(const char *path, const char *what, uint64_t *size);

#endif
