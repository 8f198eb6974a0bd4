/*
 * The .tar.gz reader; see archive.h. A stream of 512-byte records: a header names a file and its size, its bytes
 * follow, padded to whole records; two records of zeros end the archive. gzip's CRC-32 covers all of it and is compared
 * when the end is reached.
 */
#include "io/archive.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/file.h"

enum { RECORD = 512 };

static int fail_archive(const char *path, const char *reason)
{
    return rdp_fail(RDP_EUSAGE, "%s: %s; fetch the archive again and compare its checksum", path, reason);
}

/* Exactly `size` bytes; `bytes` NULL skips them. */
static int take(gzFile archive, const char *path, uint8_t *bytes, size_t size)
{
    uint8_t skipped[16384];
    while (size > 0) {
        size_t step =
            bytes != NULL ? (size < 1 << 30 ? size : 1 << 30) : (size < sizeof skipped ? size : sizeof skipped);
        int got = gzread(archive, bytes != NULL ? bytes : skipped, (unsigned)step), code;
        if (got < 0)
            return fail_archive(path, gzerror(archive, &code));
        if (got == 0)
            return fail_archive(path, "the archive is truncated");
        if (bytes != NULL)
            bytes += got;
        size -= (size_t)got;
    }
    return RDP_OK;
}

/* An octal number of a header, ended by a space or a zero byte. */
static bool parse_octal(const uint8_t *field, size_t width, uint64_t *value)
{
    size_t i = 0;
    *value = 0;
    while (i < width && field[i] == ' ')
        i++;
    size_t first = i;
    for (; i < width && field[i] >= '0' && field[i] <= '7'; i++)
        *value = *value << 3 | (uint64_t)(field[i] - '0');
    return i > first && (i == width || field[i] == ' ' || field[i] == '\0');
}

/* The sum of the header's bytes, its own field counted as spaces. */
static bool header_is_sound(const uint8_t *header)
{
    uint64_t recorded, sum = 0;
    for (int i = 0; i < RECORD; i++)
        sum += i >= 148 && i < 156 ? ' ' : header[i];
    return parse_octal(header + 148, 8, &recorded) && recorded == sum;
}

static struct rdp_archive_file *find(struct rdp_archive_file *files, size_t count, const uint8_t *header)
{
    char name[101] = {0};
    memcpy(name, header, 100);
    const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;
    bool regular = header[156] == '0' || header[156] == '\0';
    for (size_t i = 0; regular && i < count; i++)
        if (strcmp(base, files[i].name) == 0)
            return &files[i];
    return NULL;
}

static int take_file(gzFile archive, const char *path, struct rdp_archive_file *file, uint64_t size)
{
    void *block;
    if (file->bytes != NULL)
        return rdp_fail(RDP_EUSAGE, "%s holds %s twice; use the official archive", path, file->name);
    if (size > file->limit)
        return rdp_fail(RDP_EUSAGE, "%s: %s has %ju bytes, at most %zu are possible; use the official binary version",
                        path, file->name, (uintmax_t)size, file->limit);
    RDP_TRY(rdp_calloc(&block, (size_t)size, 1, file->name));
    file->bytes = block;
    file->size = (size_t)size;
    return take(archive, path, file->bytes, file->size);
}

static int read_records(gzFile archive, const char *path, struct rdp_archive_file *files, size_t count)
{
    static const uint8_t zeros[RECORD];
    uint8_t header[RECORD];
    uint64_t size;
    for (;;) {
        RDP_TRY(take(archive, path, header, RECORD));
        if (memcmp(header, zeros, RECORD) == 0)
            return RDP_OK;
        if (!header_is_sound(header) || !parse_octal(header + 124, 12, &size) || size > (uint64_t)1 << 40)
            return fail_archive(path, "it is no .tar.gz, or one of its headers is damaged");
        struct rdp_archive_file *file = find(files, count, header);
        if (file != NULL)
            RDP_TRY(take_file(archive, path, file, size));
        else
            RDP_TRY(take(archive, path, NULL, (size_t)size));
        RDP_TRY(take(archive, path, NULL, (size_t)((RECORD - size % RECORD) % RECORD)));
    }
}

/* Reads to the end, where zlib compares length and CRC. */
static int drain(gzFile archive, const char *path)
{
    uint8_t rest[16384];
    int got, code;
    while ((got = gzread(archive, rest, sizeof rest)) > 0)
        continue;
    const char *reason = gzerror(archive, &code);
    if (got < 0 || (code != Z_OK && code != Z_STREAM_END))
        return fail_archive(path, code == Z_BUF_ERROR ? "the archive is truncated" : reason);
    return RDP_OK;
}

int rdp_archive_read(const char *path, struct rdp_archive_file *files, size_t count)
{
    uint64_t size;
    RDP_TRY(rdp_file_size(path, "archive", &size));
    gzFile archive = gzopen(path, "rb");
    if (archive == NULL)
        return rdp_fail(RDP_EUSAGE, "cannot open the archive %s: %m", path);
    gzbuffer(archive, 1 << 17);
    int status = gzdirect(archive) ? fail_archive(path, "it is not compressed by gzip") : RDP_OK;
    if (status == RDP_OK)
        status = read_records(archive, path, files, count);
    if (status == RDP_OK)
        status = drain(archive, path);
    gzclose_r(archive);
    return status;
}
