/*
 * Recipes: INI files whose keys are option names, read by inih; and files whose sections each are a set of options
 * (sweep.h). A line holds at most INI_MAX_LINE (200) bytes there, and a line that begins with a blank continues the
 * value before it; long paths are written and read back that way. inih itself goes on after an error and would split a
 * long line in two, so the reader below hands it one whole line at a time and stops at the first bad one.
 */
#include <errno.h>
#include <ini.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/file.h"
#include "options_table.h"
#include "shipped.h"

enum { RECIPE_BYTES_MAX = 1 << 20, VALUE_BYTES_PER_LINE = 150 };

struct recipe_reader {
    struct rdp_options *options;                /* NULL before the first section of a file of sections */
    const struct rdp_option_sections *sections; /* NULL: a recipe, whose headings mean nothing */
    const char *rest;                           /* of the text, not read yet */
    int line;                                   /* number of the line that was read last */
    bool indented;                              /* it begins with a blank */
    const struct rdp_option *previous;          /* what an indented line continues, NULL after a section's heading */
    int *first_line; /* per option: where it was set, 0 if it was not; in a file of sections, by this section */
    int bad_line;    /* 0: none */
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

/* Every heading comes through here, also that of a section without keys, which inih does not tell of. */
static void begin_section(struct recipe_reader *reader, const char *heading)
{
    char name[VALUE_BYTES_PER_LINE + 50], reason[RDP_OPTION_REASON_MAX];
    const char *end = strchr(heading, ']');
    reader->previous = NULL;
    if (reader->sections == NULL && strncmp(heading, "[sweep]", 7) == 0)
        refuse(reader, "[sweep]: this is a sweep's file, not a recipe; train its cases with `resnet-dp sweep FILE`");
    if (reader->sections == NULL || end == NULL) /* inih refuses it */
        return;
    snprintf(name, sizeof name, "%.*s", (int)(end - heading - 1), heading + 1);
    memset(reader->first_line, 0, rdp_option_count * sizeof *reader->first_line);
    if (!reader->sections->begin(reader->sections->user, name, reader->line, &reader->options, reason, sizeof reason))
        refuse(reader, "[%s]: %s", name, reason);
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
    const char *start = buffer + (reader->line == 1 && strncmp(buffer, "\xEF\xBB\xBF", 3) == 0 ? 3 : 0);
    start += strspn(start, " \t");
    if (*start == '[' && (!reader->indented || reader->previous == NULL)) /* else it continues a value */
        begin_section(reader, start);
    return buffer;
}

/* The option of that name, or NULL and a refusal. */
static const struct rdp_option *find_key(struct recipe_reader *reader, const char *name)
{
    const struct rdp_option *option = rdp_option_find(name);
    const bool in_sections = reader->sections != NULL;
    if (option == NULL) {
        const char *nearest = rdp_option_nearest(name, in_sections ? RDP_CMD_SWEEP : RDP_CMD_TRAIN, !in_sections);
        refuse(reader, "%s: no such option%s%s%s (`resnet-dp train --help` lists them)", name,
               *nearest ? "; did you mean " : "", nearest, *nearest ? "?" : "");
    } else if (in_sections && reader->options == NULL) {
        refuse(reader, "%s stands before the first section: begin with [sweep] for what all cases have", name);
    } else if (in_sections && !reader->sections->takes(reader->sections->user, name)) {
        refuse(reader, "%s: not for this section", name);
    } else if (!in_sections && !(option->commands & RDP_CMD_TRAIN)) {
        refuse(reader, "%s: no option of training, so not for recipes; remove the line", name);
    } else if (!in_sections && !rdp_option_in_recipe(option)) {
        refuse(reader, "%s: not for recipes; give --%s on the command line", name, name);
    } else {
        return option;
    }
    return NULL;
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
    const struct rdp_option *option = find_key(reader, name);
    if (option == NULL)
        return 0;
    int *first_line = &reader->first_line[option - rdp_option_rows];
    if (*first_line != 0)
        return refuse(reader, "%s is set a second time, first in line %d; remove one", name, *first_line);
    if (!rdp_option_set(option, reader->options, value, reason))
        return refuse(reader, "%s = %s: %s", name, value, reason);
    *first_line = reader->line;
    reader->options->given[option - rdp_option_rows] |= reader->sections != NULL;
    reader->previous = option;
    return 1;
}

static int read_text(struct rdp_options *options, const struct rdp_option_sections *sections, const char *text,
                     const char *name)
{
    struct recipe_reader *reader = NULL;
    void *memory = NULL, *lines = NULL;
    int status, line;
    RDP_TRY_GOTO(status, rdp_calloc(&memory, 1, sizeof *reader, "reading a recipe"), done);
    RDP_TRY_GOTO(status, rdp_calloc(&lines, rdp_option_count, sizeof(int), "reading a recipe"), done);
    reader = memory;
    reader->options = options;
    reader->sections = sections;
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

int rdp_options_read_text(struct rdp_options *options, const char *text, const char *name)
{
    return read_text(options, NULL, text, name);
}

int rdp_options_read_sections(const char *path, const struct rdp_option_sections *sections)
{
    char *text;
    RDP_TRY(rdp_file_read_text(path, RECIPE_BYTES_MAX, &text));
    int status = read_text(NULL, sections, text, path);
    free(text);
    return status;
}

int rdp_options_read_recipe(struct rdp_options *options, const char *path)
{
    void *memory = NULL;
    int status = RDP_OK;
    char found[RDP_PATH_MAX];
    RDP_TRY(rdp_shipped_file("recipe", path, found));
    FILE *file = fopen(found, "r");
    if (file == NULL)
        return rdp_fail(RDP_EUSAGE, "recipe %s: cannot open it: %s", found, strerror(errno));
    RDP_TRY_GOTO(status, rdp_calloc(&memory, RECIPE_BYTES_MAX + 1, 1, "a recipe"), done);
    char *text = memory;
    errno = 0;
    size_t size = fread(text, 1, RECIPE_BYTES_MAX, file);
    if (ferror(file))
        status = rdp_fail(RDP_EUSAGE, "recipe %s: cannot read it: %s", path, strerror(errno));
    else if (size == RECIPE_BYTES_MAX || memchr(text, '\0', size) != NULL)
        status = rdp_fail(RDP_EUSAGE, "recipe %s: not a text file of `key = value` lines", path);
    else
        status = rdp_options_read_text(options, text, found);
    options->recipe_optimizer = options->optimizer;
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
