/* Small text helpers: strict number parsing, numbers for people, UTF-8, the nearest name for an error message. */
#ifndef RDP_BASE_TEXT_H
#define RDP_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The whole text must be the number, in decimal; false otherwise (also for blanks, overflow, NaN and infinities). */
bool rdp_parse_integer(const char *text, int64_t *value);
bool rdp_parse_real(const char *text, double *value);
/* The shortest of %.15g, %.16g and %.17g that reads back to the same bits ("0.1"); 32 bytes suffice; returns buffer. */
char *rdp_format_real(char *buffer, size_t size, double value);
/* "4,977,226" into buffer (27 bytes suffice); returns buffer. */
char *rdp_format_thousands(char *buffer, size_t size, int64_t value);
/* "1:02:03" or "2:03" or "41 s" or "4.1 s" into buffer ("?" for NaN, infinities and negative times); returns buffer. */
char *rdp_format_duration(char *buffer, size_t size, double seconds);
/* "1.9 GiB" into buffer; returns buffer. */
char *rdp_format_bytes(char *buffer, size_t size, double bytes);
/* The number of bytes of the UTF-8 character that `text` starts with, 0 if it is none (RFC 3629) or the text ends. */
size_t rdp_utf8_length(const char *text);
/* The candidate with the least Damerau-Levenshtein distance to `word`, or NULL if none is near (distance > half the
 * length). */
const char *rdp_nearest_name(const char *word, const char *const *candidates, size_t count);

#endif
