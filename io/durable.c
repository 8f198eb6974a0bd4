/*
 * Durable writing; see durable.h.
 *
 * The protocol (as Redis and SQLite do it): everything goes to `.<name>.tmp.<pid>` beside the target; only when all of
 * it has reached the disk (fsync) does rename() put it in the old file's place, in one step; then the directory itself
 * is synchronised, or a power cut could undo the rename. At every instant the path holds the whole old or the whole new
 * file. What a killed process leaves behind is a temporary file whose name tells whose it was (rdp_checkpoint_prune
 * removes it).
 */
#include "io/durable.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"

enum { PATH_SIZE = 4096 };

/* Splits `path` at its last slash: the directory ("." if none) and the name. */
static int split_path(const char *path, char *directory, size_t size, const char **name)
{
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (**name == '\0')
        return rdp_fail(RDP_EIO, "cannot write \"%s\": the path names no file", path);
    if (length + strlen(*name) + 32 > size)
        return rdp_fail(RDP_EIO, "cannot write \"%s\": the path is longer than %zu bytes", path, size - 32);
    if (slash == NULL)
        snprintf(directory, size, ".");
    else if (length == 0)
        snprintf(directory, size, "/");
    else
        snprintf(directory, size, "%.*s", (int)length, path);
    return RDP_OK;
}

static int fail_step(const char *step, const char *path)
{
    int reason = errno;
    const char *hint =
        reason == ENOSPC || reason == EDQUOT || reason == EFBIG ? "; free some space or raise the limit" : "";
    return rdp_fail(RDP_EIO, "cannot write %s: %s failed: %s%s; an earlier file of that name is untouched", path, step,
                    strerror(reason), hint);
}

/* write() may take less than it was given, or be interrupted: neither is a failure. */
static int write_all(int file, const void *data, size_t size)
{
    const char *bytes = data;
    while (size > 0) {
        ssize_t written = write(file, bytes, size < (size_t)1 << 30 ? size : (size_t)1 << 30);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0) {
            if (written == 0)
                errno = EIO;
            return -1;
        }
        bytes += written;
        size -= (size_t)written;
    }
    return 0;
}

/* rename() would put a file in a device's, a pipe's or a link of /dev's place, which for root succeeds. */
static int check_target(const char *path)
{
    struct stat info;
    const bool device = strncmp(path, "/dev/", 5) == 0 && strncmp(path, "/dev/shm/", 9) != 0;
    if (device || (stat(path, &info) == 0 && !S_ISREG(info.st_mode)))
        return rdp_fail(RDP_EIO, "cannot write %s: it is no regular file, and one would take its place; name another",
                        path);
    return RDP_OK;
}

static int write_temporary(const char *temporary, const char *path, const struct rdp_bytes *pieces, size_t piece_count)
{
    int status = RDP_OK;
    int file = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (file < 0)
        return fail_step("creating its temporary file beside it", path);
    for (size_t i = 0; i < piece_count && status == RDP_OK; i++)
        if (write_all(file, pieces[i].data, pieces[i].size) != 0)
            status = fail_step("write", path);
    if (status == RDP_OK && fsync(file) != 0)
        status = fail_step("fsync", path);
    if (close(file) != 0 && status == RDP_OK)
        status = fail_step("close", path);
    return status;
}

static int sync_directory(const char *directory, const char *path)
{
    int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (file < 0)
        return fail_step("opening its directory", path);
    /* Some network file systems cannot synchronise a directory and say EINVAL; there the rename is durable by itself.
     */
    int status = fsync(file) != 0 && errno != EINVAL ? RDP_EIO : RDP_OK;
    if (status != RDP_OK)
        rdp_fail(RDP_EIO, "%s is in place, but fsync of its directory failed: %s; a power cut could undo it", path,
                 strerror(errno));
    close(file);
    return status;
}

int rdp_durable_write(const char *path, const struct rdp_bytes *pieces, size_t piece_count)
{
    char directory[PATH_SIZE], temporary[PATH_SIZE + 64];
    const char *name;
    RDP_TRY(split_path(path, directory, sizeof directory, &name));
    RDP_TRY(check_target(path));
    snprintf(temporary, sizeof temporary, "%s/.%s.tmp.%ld", directory, name, (long)getpid());
    int status = write_temporary(temporary, path, pieces, piece_count);
    if (status == RDP_OK && rename(temporary, path) != 0)
        status = fail_step("rename", path);
    if (status != RDP_OK) {
        unlink(temporary);
        return status;
    }
    return sync_directory(directory, path);
}

int rdp_durable_print(const char *path, void (*print)(FILE *out, const void *what), const void *what)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    bool failed = out == NULL;
    if (out != NULL) {
        print(out, what);
        failed = ferror(out) != 0;
        failed |= fclose(out) != 0;
    }
    const struct rdp_bytes piece = {text, size};
    int status = failed ? rdp_fail(RDP_ENOMEM, "%s: out of memory", path) : rdp_durable_write(path, &piece, 1);
    free(text);
    return status;
}

int rdp_make_directory(const char *path)
{
    char part[PATH_SIZE];
    size_t length = strlen(path);
    if (length == 0 || length >= sizeof part)
        return rdp_fail(RDP_EIO, "cannot make the directory \"%s\": the path is empty or too long", path);
    for (size_t i = 1; i <= length; i++) {
        if (path[i] != '/' && path[i] != '\0')
            continue;
        memcpy(part, path, i);
        part[i] = '\0';
        if (mkdir(part, 0777) == 0)
            continue;
        /* Read-only parents answer EROFS or EACCES although they exist: what counts is whether the directory is there.
         */
        int reason = errno;
        struct stat info;
        if (stat(part, &info) != 0)
            return rdp_fail(RDP_EIO, "cannot make the directory %s: mkdir %s failed: %s", path, part, strerror(reason));
        if (!S_ISDIR(info.st_mode))
            return rdp_fail(RDP_EIO, "cannot make the directory %s: %s exists and is a file", path, part);
    }
    return RDP_OK;
}
