/* Whole files into memory; see file.h. */
#include "io/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/status.h"

static int check_regular(const char *path, const char *what, const struct stat *info)
{
    if (S_ISDIR(info->st_mode))
        return rdp_fail(RDP_EUSAGE, "%s is a directory; name the %s itself", path, what);
    if (!S_ISREG(info->st_mode))
        return rdp_fail(RDP_EUSAGE, "%s is not a regular file; name a %s", path, what);
    return RDP_OK;
}

int rdp_file_size(const char *path, const char *what, uint64_t *size)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return rdp_fail(RDP_EUSAGE, "cannot open the %s %s: %s", what, path, strerror(errno));
    RDP_TRY(check_regular(path, what, &info));
    *size = (uint64_t)info.st_size;
    return RDP_OK;
}

static int read_all(int file, const char *path, uint8_t *bytes, size_t size)
{
    for (size_t done = 0; done < size;) {
        ssize_t got = read(file, bytes + done, size - done);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0)
            return rdp_fail(RDP_EUSAGE, "cannot read %s: %s", path, strerror(errno));
        if (got == 0)
            return rdp_fail(RDP_EUSAGE, "%s became shorter while it was read; wait until it is written", path);
        done += (size_t)got;
    }
    return RDP_OK;
}

int rdp_file_read(const char *path, uint64_t limit, uint8_t **bytes, size_t *size)
{
    struct stat info;
    void *block = NULL;
    *bytes = NULL;
    *size = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not hang the open */
    if (file < 0)
        return rdp_fail(RDP_EUSAGE, "cannot open %s: %s", path, strerror(errno));
    int status = RDP_OK;
    if (fstat(file, &info) != 0)
        status = rdp_fail(RDP_EUSAGE, "cannot read %s: %s", path, strerror(errno));
    else
        status = check_regular(path, "file", &info);
    if (status == RDP_OK && (uint64_t)info.st_size > limit)
        status = rdp_fail(RDP_EUSAGE, "%s has %jd bytes; a file of this kind has at most %" PRIu64, path,
                          (intmax_t)info.st_size, limit);
    if (status == RDP_OK)
        status = rdp_calloc(&block, (size_t)info.st_size + 1, 1, path);
    if (status == RDP_OK)
        status = read_all(file, path, block, (size_t)info.st_size);
    close(file);
    if (status != RDP_OK) {
        free(block);
        return status;
    }
    *bytes = block;
    *size = (size_t)info.st_size;
    return RDP_OK;
}

int rdp_file_read_text(const char *path, uint64_t limit, char **text)
{
    uint8_t *bytes;
    size_t size;
    *text = NULL;
    RDP_TRY(rdp_file_read(path, limit, &bytes, &size)); /* allocates a zero byte more */
    if (memchr(bytes, 0, size) != NULL) {
        free(bytes);
        return rdp_fail(RDP_EUSAGE, "%s is not a text file", path);
    }
    *text = (char *)bytes;
    return RDP_OK;
}
