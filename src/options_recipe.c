/*
 * Recipes: INI files whose keys are option names, read by inih. A line holds at most INI_MAX_LINE (200) bytes there,
 * and a line that begins with a blank continues the value before it; long paths are written and read back that way.
 * inih itself goes on after an error and would split a long line in two, so the reader below hands it one whole line
 * at a time and stops at the first bad one.
 */
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "options_table.h"

enum { RECIPE_BYTES_MAX = 1 << 20, VALUE_BYTES_PER_LINE = 150 };

struct recipe_reader {
    struct rdp_options *options;
    const char *rest;  /* of the text, not read yet */
    int line;          /* number of the line that was read last */
    bool indented;     /* it begins with a blank */
    const struct rdp_option *previous; /* what an indented line continues, NULL after a section's heading */
    int *first_line;   /* per option: where it was set, 0 if it was not */
    int bad_line;      /* 0: none */
    char reason[RDP_OPTION_REASON_MAX + 2 * RDP_OPTION_TEXT_MAX];
};

static int refuse(struct recipe_reader *reader, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The first bad line is this one. Returns what an ini_handler returns for an error. */
static int refuse(struct recipe_reader *reader, const char *format, ...)
{
    va_list arguments;
    reader->bad_line = reader->line;
    va_start(arguments, format);
    vsnprintf(reader->reason, sizeof reader->reason, format, arguments);
    va_end(arguments);
    return 0;
}

/* ini_reader: fgets() from the text. */
static char *next_line(char *buffer, int size, void *user)
{
    struct recipe_reader *reader = user;
    size_t length = strcspn(reader->rest, "\n");
    if (reader->bad_line != 0 || *reader->rest == '\0')
        return NULL;
    reader->line++;
    if (length + 2 > (size_t)size) {
        refuse(reader,
               "the line is %zu bytes long, at most %d are possible; break it: a line that begins with a blank "
               "continues the value before it",
               length, size - 2);
        return NULL;
    }
    memcpy(buffer, reader->rest, length);
    memcpy(buffer + length, "\n", 2);
    reader->rest += length + (reader->rest[length] == '\n');
    reader->indented = buffer[0] == ' ' || buffer[0] == '\t';
    if (buffer[0] == '[')
        reader->previous = NULL;
    return buffer;
}

static int continue_value(struct recipe_reader *reader, const char *more)
{
    const struct rdp_option *option = reader->previous;
    char value[RDP_OPTION_TEXT_MAX + 256], reason[RDP_OPTION_REASON_MAX];
    if (option->type != RDP_OPTION_TEXT)
        return refuse(reader, "`%s` begins with a blank and so continues %s; begin keys in the first column", more,
                      option->name);
    rdp_option_format(option, reader->options, value);
    strncat(value, more, sizeof value - strlen(value) - 1);
    if (!rdp_option_set(option, reader->options, value, reason))
        return refuse(reader, "%s = %s: %s", option->name, value, reason);
    return 1;
}

/* ini_handler: 1 to go on, 0 for an error. */
static int take_key(void *user, const char *section, const char *name, const char *value)
{
    struct recipe_reader *reader = user;
    char reason[RDP_OPTION_REASON_MAX];
    (void)section;
    if (reader->bad_line != 0)
        return 0;
    if (reader->indented && reader->previous != NULL)
        return continue_value(reader, value);
    const struct rdp_option *option = rdp_option_find(name);
    if (option == NULL) {
        const char *nearest = rdp_option_nearest(name, RDP_CMD_TRAIN, true);
        return refuse(reader, "%s: no such option%s%s%s (`resnet-dp train --help` lists them)", name,
                      *nearest ? "; did you mean " : "", nearest, *nearest ? "?" : "");
    }
    if (!rdp_option_in_recipe(option))
        return refuse(reader, "%s: not for recipes; give --%s on the command line", name, name);
    int *first_line = &reader->first_line[option - rdp_option_rows];
    if (*first_line != 0)
        return refuse(reader, "%s is set a second time, first in line %d; remove one", name, *first_line);
    if (!rdp_option_set(option, reader->options, value, reason))
        return refuse(reader, "%s = %s: %s", name, value, reason);
    *first_line = reader->line;
    reader->previous = option;
    return 1;
}

int rdp_options_read_text(struct rdp_options *options, const char *text, const char *name)
{
    struct recipe_reader *reader = NULL;
    void *memory = NULL, *lines = NULL;
    int status, line;
    RDP_TRY_GOTO(status, rdp_calloc(&memory, 1, sizeof *reader, "reading a recipe"), done);
    RDP_TRY_GOTO(status, rdp_calloc(&lines, rdp_option_count, sizeof(int), "reading a recipe"), done);
    reader = memory;
    reader->options = options;
    reader->rest = text;
    reader->first_line = lines;
    line = ini_parse_stream(next_line, reader, take_key, reader);
    if (line > 0 && (reader->bad_line == 0 || line < reader->bad_line))
        status = rdp_fail(RDP_EUSAGE, "%s:%d: neither `key = value` nor [section] nor ; comment; correct the line",
                          name, line);
    else if (reader->bad_line != 0)
        status = rdp_fail(RDP_EUSAGE, "%s:%d: %s", name, reader->bad_line, reader->reason);
    else if (line < 0)
        status = rdp_fail(RDP_ENOMEM, "%s: out of memory while reading it", name);
done:
    free(lines);
    free(memory);
    return status;
}

int rdp_options_read_recipe(struct rdp_options *options, const char *path)
{
    void *memory = NULL;
    int status = RDP_OK;
    FILE *file = fopen(path, "r");
    if (file == NULL)
        return rdp_fail(RDP_EUSAGE, "recipe %s: cannot open it: %s", path, strerror(errno));
    RDP_TRY_GOTO(status, rdp_calloc(&memory, RECIPE_BYTES_MAX + 1, 1, "a recipe"), done);
    char *text = memory;
    errno = 0;
    size_t size = fread(text, 1, RECIPE_BYTES_MAX, file);
    if (ferror(file))
        status = rdp_fail(RDP_EUSAGE, "recipe %s: cannot read it: %s", path, strerror(errno));
    else if (size == RECIPE_BYTES_MAX || memchr(text, '\0', size) != NULL)
        status = rdp_fail(RDP_EUSAGE, "recipe %s: not a text file of `key = value` lines", path);
    else
        status = rdp_options_read_text(options, text, path);
done:
    free(memory);
    fclose(file);
    return status;
}

/* Where a value that is too long for one line may be cut: not beside a blank (inih drops those) nor before a
 * comment's sign. */
static size_t cut(const char *value)
{
    size_t length = strlen(value);
    if (length <= VALUE_BYTES_PER_LINE)
        return length;
    for (length = VALUE_BYTES_PER_LINE; length > 0; length--)
        if (value[length - 1] != ' ' && strchr(" ;#", value[length]) == NULL)
            return length;
    return 0;
}

static bool write_value(FILE *out, const char *value)
{
    for (const char *indent = ""; *value != '\0'; indent = "    ") {
        size_t length = cut(value);
        if (length == 0)
            return false;
        fprintf(out, "%s%.*s\n", indent, (int)length, value);
        value += length;
    }
    return true;
}

int rdp_options_to_text(const struct rdp_options *options, char **text)
{
    char value[RDP_OPTION_TEXT_MAX];
    const char *group = "";
    size_t size;
    FILE *out = open_memstream(text, &size);
    if (out == NULL)
        return rdp_fail(RDP_ENOMEM, "the options as text: out of memory");
    for (size_t i = 0; i < rdp_option_count; i++) {
        const struct rdp_option *option = &rdp_option_rows[i];
        /* A text that is empty is one that was not given: the reader starts from the same emptiness. */
        if (!rdp_option_in_recipe(option) || *rdp_option_format(option, options, value) == '\0')
            continue;
        if (strcmp(group, option->group) != 0)
            fprintf(out, "%s[%s]\n", *group == '\0' ? "" : "\n", option->group);
        group = option->group;
        fprintf(out, "%s = ", option->name);
        if (!write_value(out, value)) {
            fclose(out);
            free(*text);
            *text = NULL;
            return rdp_fail(RDP_EUSAGE, "--%s: too many blanks and signs in a row to be kept in a recipe; rename it",
                            option->name);
        }
    }
    int failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(*text);
        *text = NULL;
        return rdp_fail(RDP_ENOMEM, "the options as text: out of memory");
    }
    return RDP_OK;
}
