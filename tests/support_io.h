/* What the tests of io/ share: a fresh directory, files as bytes, damage done to them. Failures end the test (cmocka).
 */
#ifndef RDP_TEST_SUPPORT_IO_H
#define RDP_TEST_SUPPORT_IO_H

#include <stddef.h>
#include <stdint.h>

/* Makes and removes the directory; for cmocka's group functions. */
int rdp_test_directory_make(void **state);
int rdp_test_directory_remove(void **state);
/* "DIRECTORY/name"; one of eight static buffers, used in turn. */
const char *rdp_test_path(const char *name);
/* The whole file; the caller's (free). */
uint8_t *rdp_test_read(const char *path, size_t *size);
void rdp_test_write(const char *path, const void *bytes, size_t size);
/* Flips one bit in place; again restores it. */
void rdp_test_flip(const char *path, size_t at, int bit);
/* Reproducible numbers for choosing positions (xorshift); the state must not be 0. */
uint32_t rdp_test_random(uint32_t *state);
/* `status` must be RDP_EUSAGE (or the given code) and a message must wait that contains `words` (NULL: any); forgets
 * it. */
void rdp_test_expect(int status, int expected, const char *words);

#endif
