/* --help of a command, from the option table: one entry per option, wrapped, grouped as the table is. */
#include <string.h>

#include "options_table.h"

enum { HELP_COLUMN = 26, HELP_WIDTH = 100 };

/* Prints words from HELP_COLUMN on; `column` is where the line stands. */
static void put_wrapped(FILE *out, const char *text, int column)
{
    while (*text != '\0') {
        int length = (int)strcspn(text, " ");
        if (column < HELP_COLUMN) {
            column += fprintf(out, "%*s", HELP_COLUMN - column, "");
        } else if (column > HELP_COLUMN && column + 1 + length > HELP_WIDTH) {
            fprintf(out, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (column > HELP_COLUMN) {
            column += fprintf(out, " ");
        }
        column += fprintf(out, "%.*s", length, text);
        text += length + (text[length] == ' ');
    }
    fputc('\n', out);
}

/* The command that a part of a help text is for, as in "sweep: default runs/sweep-<file>"; 0: all. */
static int part_of(const char *part, size_t *prefix)
{
    for (size_t i = 0; i < rdp_command_count; i++) {
        *prefix = strlen(rdp_command_names[i].name);
        if (strncmp(part, rdp_command_names[i].name, *prefix) == 0 && strncmp(part + *prefix, ": ", 2) == 0) {
            *prefix += 2;
            return rdp_command_names[i].command;
        }
    }
    *prefix = 0;
    return 0;
}

/* The parts of the help text, which semicolons separate, that are for `command`. */
static size_t put_help(char *text, size_t size, const char *help, int command)
{
    size_t used = 0, prefix;
    text[0] = '\0';
    for (const char *part = help, *end; part != NULL; part = end) {
        const int only = part_of(part, &prefix);
        end = strstr(part, "; ");
        const size_t length = end == NULL ? strlen(part) : (size_t)(end - part);
        if (only == 0 || only == command)
            used += (size_t)snprintf(text + used, size - used, "%s%.*s", used == 0 ? "" : "; ", (int)(length - prefix),
                                     part + prefix);
        end = end == NULL ? NULL : end + 2;
    }
    return used;
}

static void put_option(FILE *out, const struct rdp_option *option, int command)
{
    char range[128], text[1024], *end = text + sizeof text;
    const char *separator = " (";
    rdp_option_range(option, range);
    char *at = text + put_help(text, sizeof text, option->help, command);
    if (range[0] != '\0') {
        at += snprintf(at, (size_t)(end - at), "%s%s", separator, range);
        separator = "; ";
    }
    if ((option->flags & RDP_OPTION_OF_RUN) && (command & (RDP_CMD_EVAL | RDP_CMD_PREDICT)))
        snprintf(at, (size_t)(end - at), "%sdefault as in training)", separator);
    else if (option->initial[0] != '\0')
        snprintf(at, (size_t)(end - at), "%sdefault %s)", separator, option->initial);
    else if (range[0] != '\0')
        snprintf(at, (size_t)(end - at), ")");
    int column = fprintf(out, "  --%s %s", option->name, option->values);
    if (column + 2 > HELP_COLUMN) {
        fputc('\n', out);
        column = 0;
    }
    put_wrapped(out, text, column);
}

void rdp_options_help(FILE *out, int command)
{
    const char *group = "";
    for (size_t i = 0; i < rdp_command_count; i++)
        if (rdp_command_names[i].command == command)
            fprintf(out, "Usage: resnet-dp %s [--OPTION VALUE]...%s\n", rdp_command_names[i].name,
                    rdp_command_names[i].words);
    for (size_t i = 0; i < rdp_option_count; i++) {
        const struct rdp_option *option = &rdp_option_rows[i];
        if (!(option->commands & (unsigned)command))
            continue;
        if (strcmp(group, option->group) != 0)
            fprintf(out, "\n%s:\n", option->group);
        group = option->group;
        put_option(out, option, command);
    }
    fprintf(out,
            "\nValues follow as `--name value` or `--name=value`; a yes|no option alone means yes, --no-NAME no.\n");
    if (rdp_option_find("recipe")->commands & (unsigned)command)
        fprintf(out, "A recipe's keys are the options of train without the dashes (`lr = 0.1`); the command line "
                     "overrides it.\n");
}
