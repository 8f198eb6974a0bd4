/* A sweep's file and --vary; see sweep_read.h. */
#include "sweep_read.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "shipped.h"

/* ---- the file ---- */

static bool refuse(char *reason, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

static bool refuse(char *reason, size_t size, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(reason, size, format, arguments);
    va_end(arguments);
    return false;
}

static bool begin_section(void *user, const char *heading, int line, struct rdp_options **options, char *reason,
                          size_t size)
{
    struct rdp_sweep_source *source = user;
    source->in_common = strcmp(heading, "sweep") == 0;
    if (source->in_common) {
        if (source->common_line != 0)
            return refuse(reason, size, "stands there already, in line %d; make them one", source->common_line);
        source->common_line = line;
        *options = &source->common;
        return true;
    }
    if (heading[0] == '\0' || strlen(heading) >= RDP_SWEEP_NAME_MAX / 2)
        return refuse(reason, size, "a case needs a name of 1 to %d bytes", RDP_SWEEP_NAME_MAX / 2 - 1);
    for (size_t i = 0; i < source->section_count; i++)
        if (strcmp(source->sections[i].name, heading) == 0)
            return refuse(reason, size, "the case stands there already, in line %d; rename one",
                          source->sections[i].line);
    if (source->section_count == RDP_SWEEP_CASES_MAX)
        return refuse(reason, size, "more than %d cases", RDP_SWEEP_CASES_MAX);
    if (source->section_count == source->section_capacity) {
        size_t capacity = 2 * source->section_capacity + 8;
        struct rdp_sweep_section *grown = realloc(source->sections, capacity * sizeof *grown);
        if (grown == NULL)
            return refuse(reason, size, "out of memory");
        source->sections = grown;
        source->section_capacity = capacity;
    }
    struct rdp_sweep_section *section = &source->sections[source->section_count++];
    snprintf(section->name, sizeof section->name, "%s", heading);
    section->line = line;
    rdp_options_begin(&section->options);
    *options = &section->options;
    return true;
}

/* What a case's options are: those of a recipe, but for the ones by which the sweep says where and how cases run; and
 * the recipe itself. */
static bool is_case_option(const struct rdp_option *option)
{
    if (strcmp(option->name, "run-dir") == 0 || strcmp(option->name, "resume") == 0)
        return false;
    return rdp_option_in_recipe(option) || strcmp(option->name, "recipe") == 0;
}

static bool section_takes(void *user, const char *name)
{
    const struct rdp_sweep_source *source = user;
    if (source->in_common && (strcmp(name, "title") == 0 || strcmp(name, "vary") == 0))
        return true;
    return is_case_option(rdp_option_find(name));
}

/* A recipe that a sweep's file names lies relative to that file. */
static int place_recipe(const char *file, struct rdp_options *options)
{
    char name[RDP_PATH_MAX];
    const char *slash = strrchr(file, '/');
    if (options->recipe[0] == '\0' || options->recipe[0] == '/' || slash == NULL)
        return RDP_OK;
    memcpy(name, options->recipe, sizeof name);
    if (snprintf(options->recipe, sizeof options->recipe, "%.*s/%s", (int)(slash - file), file, name) >=
        (int)sizeof options->recipe)
        return rdp_fail(RDP_EUSAGE, "%s: the path of the recipe %s becomes too long", file, name);
    return RDP_OK;
}

/* Recipes have sections, too: those of --help, which mean nothing. */
static bool is_recipe(const struct rdp_sweep_source *source)
{
    if (source->common_line != 0 || source->section_count == 0)
        return false;
    for (size_t s = 0; s < source->section_count; s++) {
        bool group = false;
        for (size_t i = 0; i < rdp_option_count && !group; i++)
            group = strcmp(rdp_option_rows[i].group, source->sections[s].name) == 0;
        if (!group)
            return false;
    }
    return true;
}

static int read_file(struct rdp_sweep_source *source, const char *name)
{
    const struct rdp_option_sections sections = {source, begin_section, section_takes};
    char path[RDP_PATH_MAX];
    RDP_TRY(rdp_shipped_file("sweep", name, path));
    const int status = rdp_options_read_sections(path, &sections);
    if (is_recipe(source)) {
        rdp_fail_clear();
        return rdp_fail(RDP_EUSAGE,
                        "%s is a recipe, not a sweep's file (which begins with [sweep]): `resnet-dp sweep --recipe %s "
                        "--vary NAME=VALUE,VALUE` varies it",
                        path, name);
    }
    RDP_TRY(status);
    RDP_TRY(place_recipe(path, &source->common));
    for (size_t i = 0; i < source->section_count; i++)
        RDP_TRY(place_recipe(path, &source->sections[i].options));
    return RDP_OK;
}

/* ---- --vary ---- */

static char *trim(char *text)
{
    text += strspn(text, " \t");
    size_t length = strlen(text);
    while (length > 0 && strchr(" \t", text[length - 1]) != NULL)
        text[--length] = '\0';
    return text;
}

/* The clause for this option; a new one, or that of the file, which the command line's replaces. `own`: the first one
 * of the text that is being read. */
static int find_clause(struct rdp_sweep_source *source, int own, const struct rdp_option *option,
                       struct rdp_sweep_clause **clause)
{
    int at = 0;
    while (at < source->clause_count && source->clauses[at].option != option)
        at++;
    if (at >= own && at < source->clause_count)
        return rdp_fail(RDP_EUSAGE, "--vary: %s stands there twice; give all its values in one list", option->name);
    if (at == RDP_SWEEP_CLAUSES_MAX)
        return rdp_fail(RDP_EUSAGE, "--vary: more than %d options", RDP_SWEEP_CLAUSES_MAX);
    source->clause_count += at == source->clause_count;
    *clause = &source->clauses[at];
    (*clause)->option = option;
    (*clause)->count = 0;
    return RDP_OK;
}

static int find_varied(const char *name, bool of_file, const struct rdp_option **option)
{
    *option = rdp_option_find(name);
    if (*option == NULL) {
        const char *nearest = rdp_option_nearest(name, RDP_CMD_TRAIN, true);
        return rdp_fail(RDP_EUSAGE, "--vary %s: no such option%s%s%s (`resnet-dp train --help` lists them)", name,
                        *nearest ? "; did you mean " : "", nearest, *nearest ? "?" : "");
    }
    if (of_file && strcmp(name, "recipe") == 0)
        return rdp_fail(RDP_EUSAGE,
                        "vary = recipe=...: give each recipe a section of its own, which lies beside the file");
    if (!is_case_option(*option))
        return rdp_fail(RDP_EUSAGE, "--vary %s: cannot differ between the cases of a sweep", name);
    return RDP_OK;
}

/* "lr=0.1,0.3". The text is cut where values end. */
static int read_clause(struct rdp_sweep_source *source, bool of_file, int own, char *text)
{
    char reason[RDP_OPTION_REASON_MAX];
    struct rdp_options scratch;
    char *equals = strchr(text, '='), *rest;
    if (equals == NULL)
        return rdp_fail(RDP_EUSAGE, "--vary: `%s` is not NAME=VALUE,VALUE,...; separate several options by ;", text);
    *equals = '\0';
    rest = equals + 1;
    struct rdp_sweep_clause *clause = NULL;
    const struct rdp_option *option;
    const char *name = trim(text);
    RDP_TRY(find_varied(name, of_file, &option));
    RDP_TRY(find_clause(source, own, option, &clause));
    const bool is_list = option->type == RDP_OPTION_LIST || option->type == RDP_OPTION_REALS;
    const bool has_bars = strchr(rest, '|') != NULL;
    if (is_list && !has_bars && strchr(rest, ',') != NULL)
        return rdp_fail(RDP_EUSAGE,
                        "--vary %s=%s: a value of %s is a list itself; separate values by |, as in %s=%s|%s", name,
                        rest, name, name, option->initial, rest);
    rdp_options_begin(&scratch);
    for (char *value; (value = strsep(&rest, has_bars ? "|" : ",")) != NULL; clause->count++) {
        value = trim(value);
        if (!rdp_option_set(option, &scratch, value, reason))
            return rdp_fail(RDP_EUSAGE, "--vary %s=%s: %s", name, value, reason);
        clause->values[clause->count] = value; /* at most one per two bytes of the text */
    }
    return RDP_OK;
}

static int read_vary(struct rdp_sweep_source *source, const char *text, char copy[RDP_PATH_MAX])
{
    char *rest = copy;
    const int own = source->clause_count;
    snprintf(copy, RDP_PATH_MAX, "%s", text);
    for (char *clause; (clause = strsep(&rest, ";")) != NULL;)
        if (*trim(clause) != '\0')
            RDP_TRY(read_clause(source, text == source->common.vary, own, clause));
    return RDP_OK;
}

int rdp_sweep_read(struct rdp_sweep_source *source, const struct rdp_options *command_line)
{
    source->command_line = command_line;
    rdp_options_begin(&source->common);
    if (command_line->argument_count > 0)
        RDP_TRY(read_file(source, command_line->arguments[0]));
    RDP_TRY(read_vary(source, source->common.vary, source->vary[0]));
    return read_vary(source, command_line->vary, source->vary[1]);
}

void rdp_sweep_source_free(struct rdp_sweep_source *source)
{
    free(source->sections);
    source->sections = NULL;
}
