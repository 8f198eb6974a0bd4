/* Text helpers without state; see text.h. They assume the "C" locale: the program never calls setlocale(). */
#include "base/text.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool rdp_parse_integer(const char *text, int64_t *value)
{
    const char *digits = text + (*text == '-' || *text == '+');
    if (*digits == '\0' || digits[strspn(digits, "0123456789")] != '\0')
        return false;
    errno = 0;
    intmax_t parsed = strtoimax(text, NULL, 10);
    if (errno == ERANGE)
        return false;
    *value = parsed;
    return true;
}

bool rdp_parse_real(const char *text, double *value)
{
    char *end;
    /* strtod alone would also take leading blanks, hexadecimal, "inf" and "nan". */
    if (*text == '\0' || text[strspn(text, "+-.0123456789eE")] != '\0')
        return false;
    errno = 0;
    double parsed = strtod(text, &end);
    if (end == text || *end != '\0' || !isfinite(parsed) || (errno == ERANGE && parsed == 0))
        return false;
    *value = parsed;
    return true;
}

char *rdp_format_real(char *buffer, size_t size, double value)
{
    char shortest[32]; /* sign, 17 digits, point and exponent need 24 */
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(shortest, sizeof shortest, "%.*g", digits, value);
        if (strtod(shortest, NULL) == value)
            break;
    }
    snprintf(buffer, size, "%s", shortest);
    return buffer;
}

char *rdp_format_thousands(char *buffer, size_t size, int64_t value)
{
    char digits[24], text[32];
    int count = snprintf(digits, sizeof digits, "%" PRId64, value), used = 0;
    for (int i = 0; i < count; i++) {
        text[used++] = digits[i];
        int left = count - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-')
            text[used++] = ',';
    }
    snprintf(buffer, size, "%.*s", used, text);
    return buffer;
}

char *rdp_format_duration(char *buffer, size_t size, double seconds)
{
    if (!(seconds >= 0) || seconds > 1e15) {
        snprintf(buffer, size, "?");
    } else if (seconds < 9.95) {
        snprintf(buffer, size, "%.1f s", seconds);
    } else {
        int64_t whole = llround(seconds), minutes = whole / 60;
        if (whole < 60)
            snprintf(buffer, size, "%d s", (int)whole);
        else if (minutes < 60)
            snprintf(buffer, size, "%d:%02d", (int)minutes, (int)(whole % 60));
        else
            snprintf(buffer, size, "%" PRId64 ":%02d:%02d", minutes / 60, (int)(minutes % 60), (int)(whole % 60));
    }
    return buffer;
}

char *rdp_format_bytes(char *buffer, size_t size, double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB"};
    size_t unit = 0;
    /* 1023.95 would be printed as "1024.0". */
    while (fabs(bytes) >= (unit == 0 ? 1023.5 : 1023.95) && unit + 1 < sizeof units / sizeof units[0]) {
        bytes /= 1024;
        unit++;
    }
    snprintf(buffer, size, "%.*f %s", unit == 0 ? 0 : 1, bytes, units[unit]);
    return buffer;
}

size_t rdp_utf8_length(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    size_t length;
    uint32_t code;
    if (c[0] == 0)
        return 0;
    if (c[0] < 0x80)
        return 1;
    if (c[0] >= 0xC2 && c[0] <= 0xDF) {
        length = 2;
        code = c[0] & 0x1F;
    } else if ((c[0] & 0xF0) == 0xE0) {
        length = 3;
        code = c[0] & 0x0F;
    } else if (c[0] >= 0xF0 && c[0] <= 0xF4) {
        length = 4;
        code = c[0] & 0x07;
    } else {
        return 0;
    }
    for (size_t i = 1; i < length; i++) {
        if ((c[i] & 0xC0) != 0x80) /* also ends at the terminating zero */
            return 0;
        code = code << 6 | (c[i] & 0x3F);
    }
    /* Overlong forms, UTF-16 surrogates and what lies beyond Unicode's end are no characters. */
    if ((length == 3 && code < 0x800) || (length == 4 && code < 0x10000) || code > 0x10FFFF ||
        (code >= 0xD800 && code <= 0xDFFF))
        return 0;
    return length;
}

enum { NAME_MAX_LENGTH = 63 };

/* Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours cost 1 each. */
static size_t name_distance(const char *a, size_t a_length, const char *b, size_t b_length)
{
    size_t rows[3][NAME_MAX_LENGTH + 1];
    size_t *before = rows[0], *previous = rows[1], *current = rows[2];
    for (size_t j = 0; j <= b_length; j++)
        previous[j] = before[j] = j;
    for (size_t i = 1; i <= a_length; i++) {
        current[0] = i;
        for (size_t j = 1; j <= b_length; j++) {
            size_t best = previous[j - 1] + (a[i - 1] != b[j - 1]);
            if (previous[j] + 1 < best)
                best = previous[j] + 1;
            if (current[j - 1] + 1 < best)
                best = current[j - 1] + 1;
            if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && before[j - 2] + 1 < best)
                best = before[j - 2] + 1;
            current[j] = best;
        }
        size_t *spare = before;
        before = previous;
        previous = current;
        current = spare;
    }
    return previous[b_length];
}

const char *rdp_nearest_name(const char *word, const char *const *candidates, size_t count)
{
    const char *nearest = NULL;
    size_t length = strlen(word), least = length / 2 + 1;
    if (length > NAME_MAX_LENGTH)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        size_t candidate_length = strlen(candidates[i]);
        if (candidate_length > NAME_MAX_LENGTH)
            continue;
        size_t distance = name_distance(word, length, candidates[i], candidate_length);
        if (distance < least) {
            least = distance;
            nearest = candidates[i];
        }
    }
    return nearest;
}
