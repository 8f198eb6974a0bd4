/* See support_io.h. */
#include "support_io.h"

#include <fcntl.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include "base/status.h"

static char directory[64];

int rdp_test_directory_make(void **state)
{
    (void)state;
    snprintf(directory, sizeof directory, "/tmp/rdp-io-XXXXXX");
    return mkdtemp(directory) == NULL;
}

int rdp_test_directory_remove(void **state)
{
    char command[128];
    (void)state;
    snprintf(command, sizeof command, "rm -rf %s", directory);
    return system(command);
}

const char *rdp_test_path(const char *name)
{
    static char paths[8][PATH_MAX];
    static int turn;
    turn = (turn + 1) % 8;
    snprintf(paths[turn], sizeof paths[turn], "%s/%s", directory, name);
    return paths[turn];
}

uint8_t *rdp_test_read(const char *path, size_t *size)
{
    struct stat info;
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &info), 0);
    *size = (size_t)info.st_size;
    uint8_t *bytes = malloc(*size + 1);
    assert_non_null(bytes);
    assert_int_equal(fread(bytes, 1, *size, file), *size);
    fclose(file);
    return bytes;
}

void rdp_test_write(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void rdp_test_flip(const char *path, size_t at, int bit)
{
    uint8_t byte;
    int file = open(path, O_RDWR);
    assert_true(file >= 0);
    assert_int_equal(pread(file, &byte, 1, (off_t)at), 1);
    byte = (uint8_t)(byte ^ 1 << bit);
    assert_int_equal(pwrite(file, &byte, 1, (off_t)at), 1);
    close(file);
}

uint32_t rdp_test_random(uint32_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state;
}

void rdp_test_expect(int status, int expected, const char *words)
{
    if (status != expected)
        print_error("message: %s\n", rdp_fail_message());
    assert_int_equal(status, expected);
    assert_string_not_equal(rdp_fail_message(), "");
    if (words != NULL && strstr(rdp_fail_message(), words) == NULL)
        fail_msg("\"%s\" is not in: %s", words, rdp_fail_message());
    rdp_fail_clear();
}
