/*
 * Durable writing and CRC-32C: known answers, the whole-or-absent promise when write, fsync or rename fails (each is
 * replaced by one of ours that fails on demand), short writes, a file-size limit.
 */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include "base/status.h"
#include "io/durable.h"

static char directory[64];

/* What the replaced calls shall do. 0: nothing special. */
static struct {
    int write_error, write_after; /* fail with this errno after so many calls */
    int fsync_error, fsync_after;
    int rename_error;
    size_t write_most; /* take no more bytes than this at once */
    int interruptions; /* fail with EINTR so often first */
} fault;

ssize_t write(int file, const void *data, size_t size);
int fsync(int file);
int rename(const char *from, const char *to);

ssize_t write(int file, const void *data, size_t size)
{
    if (file > 2 && fault.interruptions > 0) {
        fault.interruptions--;
        errno = EINTR;
        return -1;
    }
    if (file > 2 && fault.write_error != 0 && fault.write_after-- <= 0) {
        errno = fault.write_error;
        return -1;
    }
    if (file > 2 && fault.write_most != 0 && size > fault.write_most)
        size = fault.write_most;
    return syscall(SYS_write, file, data, size);
}

int fsync(int file)
{
    if (fault.fsync_error != 0 && fault.fsync_after-- <= 0) {
        errno = fault.fsync_error;
        return -1;
    }
    return (int)syscall(SYS_fsync, file);
}

int rename(const char *from, const char *to)
{
    if (fault.rename_error != 0) {
        errno = fault.rename_error;
        return -1;
    }
    return (int)syscall(SYS_renameat2, -100, from, -100, to, 0); /* -100: AT_FDCWD */
}

static const char *in_directory(const char *name)
{
    static char path[4][PATH_MAX];
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", directory, name);
    return path[turn];
}

static void write_text(const char *path, const char *text)
{
    assert_int_equal(rdp_durable_write(path, &(struct rdp_bytes){text, strlen(text)}, 1), RDP_OK);
}

static void assert_file(const char *path, const char *text)
{
    char buffer[4096] = "";
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    size_t size = fread(buffer, 1, sizeof buffer - 1, file);
    fclose(file);
    assert_int_equal(size, strlen(text));
    assert_string_equal(buffer, text);
}

/* No temporary file is left. */
static void assert_tidy(void)
{
    DIR *stream = opendir(directory);
    assert_non_null(stream);
    for (struct dirent *item; (item = readdir(stream)) != NULL;)
        assert_null(strstr(item->d_name, ".tmp."));
    closedir(stream);
}

static void crc_known_answers(void **state)
{
    uint8_t zeros[32] = {0}, ones[32], up[32], down[32];
    (void)state;
    for (int i = 0; i < 32; i++) {
        ones[i] = 0xff;
        up[i] = (uint8_t)i;
        down[i] = (uint8_t)(31 - i);
    }
    /* RFC 3720 appendix B.4 */
    assert_int_equal(rdp_crc32c(0, zeros, 32), 0x8a9136aa);
    assert_int_equal(rdp_crc32c(0, ones, 32), 0x62a8ab43);
    assert_int_equal(rdp_crc32c(0, up, 32), 0x46dd794e);
    assert_int_equal(rdp_crc32c(0, down, 32), 0x113fdb5c);
    assert_int_equal(rdp_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(rdp_crc32c(0, NULL, 0), 0);
}

static void crc_paths_agree(void **state)
{
    uint8_t data[300];
    (void)state;
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = (uint8_t)(i * 197 + 13);
    for (size_t first = 0; first < 9; first++)
        for (size_t size = 0; size + first <= sizeof data; size += size < 40 ? 1 : 37) {
            uint32_t whole = rdp_crc32c(0, data + first, size);
            assert_int_equal(whole, rdp_crc32c_portable(0, data + first, size));
            assert_int_equal(
                whole, rdp_crc32c(rdp_crc32c(0, data + first, size / 3), data + first + size / 3, size - size / 3));
            assert_int_equal(whole, rdp_crc32c_portable(rdp_crc32c_portable(0, data + first, size / 3),
                                                        data + first + size / 3, size - size / 3));
        }
}

static void writes_and_replaces(void **state)
{
    (void)state;
    const char *path = in_directory("file");
    struct rdp_bytes pieces[3] = {{"one ", 4}, {NULL, 0}, {"two", 3}};
    write_text(path, "old");
    assert_file(path, "old");
    assert_int_equal(rdp_durable_write(path, pieces, 3), RDP_OK);
    assert_file(path, "one two");
    fault.write_most = 2;
    fault.interruptions = 3;
    write_text(path, "in small portions");
    memset(&fault, 0, sizeof fault);
    assert_file(path, "in small portions");
    assert_tidy();
}

static void expect_failure(const char *path, const char *step)
{
    struct rdp_bytes pieces[2] = {{"new ", 4}, {"content", 7}};
    assert_int_equal(rdp_durable_write(path, pieces, 2), RDP_EIO);
    memset(&fault, 0, sizeof fault);
    assert_non_null(strstr(rdp_fail_message(), step));
    assert_non_null(strstr(rdp_fail_message(), path));
    rdp_fail_clear();
    assert_file(path, "old");
    assert_tidy();
}

static void failures_leave_the_old_file(void **state)
{
    (void)state;
    const char *path = in_directory("kept");
    write_text(path, "old");
    for (int after = 0; after < 2; after++) {
        fault.write_error = ENOSPC;
        fault.write_after = after;
        expect_failure(path, "write failed: No space left on device");
    }
    fault.write_error = EIO;
    expect_failure(path, "write failed: Input/output error");
    fault.fsync_error = EIO;
    expect_failure(path, "fsync failed");
    fault.rename_error = EACCES;
    expect_failure(path, "rename failed");
}

static void directory_sync(void **state)
{
    (void)state;
    const char *path = in_directory("synced");
    fault.fsync_error = EIO;
    fault.fsync_after = 1;
    assert_int_equal(rdp_durable_write(path, &(struct rdp_bytes){"new", 3}, 1), RDP_EIO);
    memset(&fault, 0, sizeof fault);
    assert_non_null(strstr(rdp_fail_message(), "directory"));
    rdp_fail_clear();
    assert_file(path, "new");
    fault.fsync_error = EINVAL; /* a file system that cannot synchronise directories */
    fault.fsync_after = 1;
    write_text(path, "newer");
    memset(&fault, 0, sizeof fault);
    assert_tidy();
}

static void size_limit(void **state)
{
    (void)state;
    const char *path = in_directory("limited");
    char *large = calloc(1, 200000);
    struct rlimit before, limit;
    write_text(path, "old");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    int status = rdp_durable_write(path, &(struct rdp_bytes){large, 200000}, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    free(large);
    assert_int_equal(status, RDP_EIO);
    assert_non_null(strstr(rdp_fail_message(), "File too large"));
    rdp_fail_clear();
    assert_file(path, "old");
    assert_tidy();
}

static void bad_paths(void **state)
{
    (void)state;
    char *endless = malloc(6000);
    memset(endless, 'x', 5999);
    endless[5999] = '\0';
    const char *bad[] = {"", "/", in_directory(""), in_directory("no/such/file"), endless, "/proc/no-such-file"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(rdp_durable_write(bad[i], &(struct rdp_bytes){"x", 1}, 1), RDP_EIO);
        assert_string_not_equal(rdp_fail_message(), "");
        rdp_fail_clear();
    }
    free(endless);
}

/* A file put in the place of /dev/full, say, would be found by every other program. None of these can come to harm. */
static void special_files(void **state)
{
    struct stat info;
    (void)state;
    assert_int_equal(mkfifo(in_directory("pipe"), 0600), 0);
    assert_int_equal(symlink("/dev/null", in_directory("link")), 0);
    const char *special[] = {in_directory("pipe"), in_directory("link"), directory, "/dev/fd/none"};
    for (size_t i = 0; i < sizeof special / sizeof *special; i++) {
        assert_int_equal(rdp_durable_write(special[i], &(struct rdp_bytes){"x", 1}, 1), RDP_EIO);
        assert_non_null(strstr(rdp_fail_message(), "no regular file"));
        rdp_fail_clear();
    }
    assert_int_equal(stat(in_directory("pipe"), &info), 0);
    assert_true(S_ISFIFO(info.st_mode));
    assert_tidy();
}

static void directories(void **state)
{
    struct stat info;
    (void)state;
    assert_int_equal(rdp_make_directory(in_directory("a/b//c/")), RDP_OK);
    assert_int_equal(stat(in_directory("a/b/c"), &info), 0);
    assert_true(S_ISDIR(info.st_mode));
    assert_int_equal(rdp_make_directory(in_directory("a/b/c")), RDP_OK);
    assert_int_equal(rdp_make_directory("/"), RDP_OK);
    write_text(in_directory("a/file"), "x");
    assert_int_equal(rdp_make_directory(in_directory("a/file/d")), RDP_EIO);
    rdp_fail_clear();
    assert_int_equal(rdp_make_directory(in_directory("a/file")), RDP_EIO);
    rdp_fail_clear();
    assert_int_equal(rdp_make_directory(""), RDP_EIO);
    rdp_fail_clear();
}

static int set_up(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/rdp-durable-XXXXXX");
    return mkdtemp(directory) == NULL;
}

static int tear_down(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc_known_answers),   cmocka_unit_test(crc_paths_agree),
        cmocka_unit_test(writes_and_replaces), cmocka_unit_test(failures_leave_the_old_file),
        cmocka_unit_test(directory_sync),      cmocka_unit_test(size_limit),
        cmocka_unit_test(bad_paths),           cmocka_unit_test(special_files),
        cmocka_unit_test(directories),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
