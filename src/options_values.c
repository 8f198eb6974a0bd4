/* One option's value from text and to text; see options_table.h. Every reason for a refusal says what would be
 * valid. */
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "options_table.h"

static bool refuse(char *reason, const char *format, ...) __attribute__((format(printf, 2, 3)));

static bool refuse(char *reason, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, RDP_OPTION_REASON_MAX, format, arguments);
    va_end(arguments);
    return false;
}

char *rdp_option_range(const struct rdp_option *option, char text[128])
{
    bool real = option->type == RDP_OPTION_REAL || option->type == RDP_OPTION_REALS;
    int digits = real ? 6 : 15; /* 1048576, and yet 1e+06 */
    text[0] = '\0';
    if (!real && option->type != RDP_OPTION_INTEGER && option->type != RDP_OPTION_INTEGER64 &&
        option->type != RDP_OPTION_LIST)
        return text;
    int used =
        snprintf(text, 128, option->flags & RDP_OPTION_ABOVE_MIN ? "above %.*g" : "from %.*g", digits, option->min);
    if (isinf(option->max))
        snprintf(text + used, 128 - (size_t)used, " up");
    else if (option->flags & RDP_OPTION_BELOW_MAX)
        snprintf(text + used, 128 - (size_t)used, " to below %.*g", digits, option->max);
    else
        snprintf(text + used, 128 - (size_t)used, " to %.*g", digits, option->max);
    return text;
}

static bool in_range(const struct rdp_option *option, double value)
{
    return (option->flags & RDP_OPTION_ABOVE_MIN ? value > option->min : value >= option->min) &&
           (option->flags & RDP_OPTION_BELOW_MAX ? value < option->max : value <= option->max);
}

/* Devices compute with f32: what is neither 0 nor a bound that the range leaves out must not become one there, where it
 * would silently switch something off or divide by zero. */
static bool holds_as_single(const struct rdp_option *option, double value)
{
    const float single = (float)value;
    return (value == 0 || fabsf(single) >= FLT_MIN) &&
           !((option->flags & RDP_OPTION_BELOW_MAX) && (double)single >= option->max);
}

static bool parse_in_range(const struct rdp_option *option, const char *text, int64_t *value)
{
    return rdp_parse_integer(text, value) && in_range(option, (double)*value);
}

/* Splits "a|b|c" and returns the index of `text`, or -1 with the choices and the nearest in `reason`. */
static int find_choice(const char *values, const char *text, char *reason)
{
    char copy[128], *names[16], *rest = copy;
    int count = 0;
    snprintf(copy, sizeof copy, "%s", values);
    for (char *name; count < 16 && (name = strsep(&rest, "|")) != NULL; count++) {
        names[count] = name;
        if (strcmp(name, text) == 0)
            return count;
    }
    const char *nearest = rdp_nearest_name(text, (const char *const *)names, (size_t)count);
    size_t used = 0;
    for (int i = 0; i < count; i++)
        used += (size_t)snprintf(reason + used, RDP_OPTION_REASON_MAX - used, "%s%s",
                                 i == 0           ? "must be "
                                 : i == count - 1 ? " or "
                                                  : ", ",
                                 names[i]);
    if (nearest != NULL)
        snprintf(reason + used, RDP_OPTION_REASON_MAX - used, "; did you mean %s?", nearest);
    return -1;
}

static bool set_list(const struct rdp_option *option, struct rdp_int_list *list, const char *text, char *reason)
{
    struct rdp_int_list parsed = {0};
    char copy[256], range[128], *rest = copy, *word;
    bool valid = snprintf(copy, sizeof copy, "%s", text) < (int)sizeof copy;
    while (valid && (word = strsep(&rest, ",")) != NULL) {
        int64_t value = 0;
        word += strspn(word, " \t");
        word[strcspn(word, " \t")] = '\0';
        valid = parsed.count < RDP_STAGES_MAX && parse_in_range(option, word, &value);
        if (valid)
            parsed.values[parsed.count++] = (int)value;
    }
    if (!valid)
        return refuse(reason, "must be 1 to %d whole numbers with commas between them, each %s, as in %s",
                      RDP_STAGES_MAX, rdp_option_range(option, range), option->initial);
    *list = parsed;
    return true;
}

static bool set_reals(const struct rdp_option *option, struct rdp_real_list *list, const char *text, char *reason)
{
    struct rdp_real_list parsed = {0};
    char copy[256], range[128], *rest = copy, *word;
    bool valid = snprintf(copy, sizeof copy, "%s", text) < (int)sizeof copy;
    while (valid && (word = strsep(&rest, ",")) != NULL) {
        double value = 0;
        word += strspn(word, " \t");
        word[strcspn(word, " \t")] = '\0';
        valid = parsed.count < RDP_STAGES_MAX && rdp_parse_real(word, &value) && in_range(option, value) &&
                holds_as_single(option, value);
        if (valid)
            parsed.values[parsed.count++] = value;
    }
    if (!valid)
        return refuse(reason, "must be 1 to %d numbers with commas between them, each %s, as in %s", RDP_STAGES_MAX,
                      rdp_option_range(option, range), option->initial);
    *list = parsed;
    return true;
}

static bool set_text(const struct rdp_option *option, char *field, const char *text, char *reason)
{
    size_t length = strlen(text);
    if (length == 0)
        return refuse(reason, "needs a value, not an empty one (%s)", option->values);
    if (length >= RDP_PATH_MAX)
        return refuse(reason, "is %zu bytes long; at most %d are possible", length, RDP_PATH_MAX - 1);
    for (size_t i = 0; i < length; i++)
        if ((unsigned char)text[i] < 0x20 || text[i] == 0x7F)
            return refuse(reason, "must not hold control characters (one is at byte %zu)", i + 1);
    /* What a run was started with is kept as an INI text, and that must give back the same value. */
    if (rdp_option_in_recipe(option) &&
        (text[0] == ' ' || text[length - 1] == ' ' || text[0] == ';' || strstr(text, " ;")))
        return refuse(reason, "must not begin or end with a space nor hold a semicolon at its start or after a space, "
                              "because recipes cannot express that; rename it or use a link");
    memset(field, 0, RDP_PATH_MAX); /* nothing of a longer one stays: equal options are equal bytes */
    memcpy(field, text, length);
    return true;
}

bool rdp_option_set(const struct rdp_option *option, struct rdp_options *options, const char *text,
                    char reason[RDP_OPTION_REASON_MAX])
{
    void *field = (char *)options + option->offset;
    char range[128];
    int64_t integer;
    double real;
    int choice;
    switch (option->type) {
    case RDP_OPTION_YES_NO:
        choice = find_choice(option->values, text, reason);
        if (choice >= 0)
            *(bool *)field = choice == 0;
        return choice >= 0;
    case RDP_OPTION_CHOICE:
        choice = find_choice(option->values, text, reason);
        if (choice >= 0)
            *(int *)field = choice;
        return choice >= 0;
    case RDP_OPTION_INTEGER:
        if (!parse_in_range(option, text, &integer))
            return refuse(reason, "must be a whole number %s", rdp_option_range(option, range));
        *(int *)field = (int)integer;
        return true;
    case RDP_OPTION_INTEGER64:
        if (!parse_in_range(option, text, &integer))
            return refuse(reason, "must be a whole number %s", rdp_option_range(option, range));
        *(int64_t *)field = integer;
        return true;
    case RDP_OPTION_REAL:
        if ((option->flags & RDP_OPTION_AUTO) && strcmp(text, "auto") == 0) {
            *(double *)field = NAN;
            return true;
        }
        if (!rdp_parse_real(text, &real) || !in_range(option, real))
            return refuse(reason, "must be a number %s%s", rdp_option_range(option, range),
                          option->flags & RDP_OPTION_AUTO ? ", or auto" : "");
        if (!holds_as_single(option, real))
            return refuse(reason, "must be a number %s in single precision, too, where this one is %g",
                          rdp_option_range(option, range), fabs(real) < FLT_MIN ? 0 : option->max);
        *(double *)field = real;
        return true;
    case RDP_OPTION_LIST:
        return set_list(option, field, text, reason);
    case RDP_OPTION_REALS:
        return set_reals(option, field, text, reason);
    case RDP_OPTION_TEXT:
        return set_text(option, field, text, reason);
    }
    return refuse(reason, "has no known type");
}

static char *format_choice(const char *values, int index, char *text)
{
    for (int i = 0; i < index; i++)
        values += strcspn(values, "|") + 1;
    snprintf(text, RDP_OPTION_TEXT_MAX, "%.*s", (int)strcspn(values, "|"), values);
    return text;
}

char *rdp_option_format(const struct rdp_option *option, const struct rdp_options *options,
                        char text[RDP_OPTION_TEXT_MAX])
{
    const void *field = (const char *)options + option->offset;
    const struct rdp_int_list *list = field;
    const struct rdp_real_list *reals = field;
    size_t used = 0;
    text[0] = '\0';
    switch (option->type) {
    case RDP_OPTION_YES_NO:
        return format_choice(option->values, *(const bool *)field ? 0 : 1, text);
    case RDP_OPTION_CHOICE:
        return format_choice(option->values, *(const int *)field, text);
    case RDP_OPTION_INTEGER:
        snprintf(text, RDP_OPTION_TEXT_MAX, "%d", *(const int *)field);
        return text;
    case RDP_OPTION_INTEGER64:
        snprintf(text, RDP_OPTION_TEXT_MAX, "%" PRId64, *(const int64_t *)field);
        return text;
    case RDP_OPTION_REAL:
        if (isnan(*(const double *)field)) {
            snprintf(text, RDP_OPTION_TEXT_MAX, "auto");
            return text;
        }
        return rdp_format_real(text, RDP_OPTION_TEXT_MAX, *(const double *)field);
    case RDP_OPTION_LIST:
        for (int i = 0; i < list->count; i++)
            used +=
                (size_t)snprintf(text + used, RDP_OPTION_TEXT_MAX - used, "%s%d", i == 0 ? "" : ",", list->values[i]);
        return text;
    case RDP_OPTION_REALS:
        for (int i = 0; i < reals->count; i++) {
            if (i > 0)
                text[used++] = ',';
            rdp_format_real(text + used, RDP_OPTION_TEXT_MAX - used, reals->values[i]);
            used += strlen(text + used);
        }
        return text;
    case RDP_OPTION_TEXT:
        snprintf(text, RDP_OPTION_TEXT_MAX, "%s", (const char *)field);
        return text;
    }
    return text;
}
