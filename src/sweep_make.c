/* The cases of a sweep; see sweep.h. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "sweep.h"

enum { CLAUSES_MAX = 16, VALUES_MAX = RDP_PATH_MAX / 2 };

/* [adam] of the file. */
struct section {
    char name[RDP_SWEEP_NAME_MAX];
    int line;
    struct rdp_options options; /* what it was given */
};

/* "lr=0.1,0.3" of --vary. */
struct clause {
    const struct rdp_option *option;
    char *values[VALUES_MAX]; /* point into maker.vary */
    int count;
};

struct maker {
    const struct rdp_options *command_line;
    struct rdp_options common; /* what [sweep] was given */
    int common_line;           /* 0: there is no [sweep] */
    bool in_common;
    struct section *sections;
    size_t section_count, section_capacity;
    char vary[RDP_PATH_MAX]; /* cut into pieces */
    struct clause clauses[CLAUSES_MAX];
    int clause_count;
};

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
    struct maker *maker = user;
    maker->in_common = strcmp(heading, "sweep") == 0;
    if (maker->in_common) {
        if (maker->common_line != 0)
            return refuse(reason, size, "stands there already, in line %d; make them one", maker->common_line);
        maker->common_line = line;
        *options = &maker->common;
        return true;
    }
    if (heading[0] == '\0' || strlen(heading) >= RDP_SWEEP_NAME_MAX / 2)
        return refuse(reason, size, "a case needs a name of 1 to %d bytes", RDP_SWEEP_NAME_MAX / 2 - 1);
    for (size_t i = 0; i < maker->section_count; i++)
        if (strcmp(maker->sections[i].name, heading) == 0)
            return refuse(reason, size, "the case stands there already, in line %d; rename one",
                          maker->sections[i].line);
    if (maker->section_count == RDP_SWEEP_CASES_MAX)
        return refuse(reason, size, "more than %d cases", RDP_SWEEP_CASES_MAX);
    if (maker->section_count == maker->section_capacity) {
        size_t capacity = 2 * maker->section_capacity + 8;
        struct section *grown = realloc(maker->sections, capacity * sizeof *grown);
        if (grown == NULL)
            return refuse(reason, size, "out of memory");
        maker->sections = grown;
        maker->section_capacity = capacity;
    }
    struct section *section = &maker->sections[maker->section_count++];
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
    const struct maker *maker = user;
    if (maker->in_common && (strcmp(name, "title") == 0 || strcmp(name, "vary") == 0))
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

static int read_file(struct maker *maker, const char *path)
{
    const struct rdp_option_sections sections = {maker, begin_section, section_takes};
    RDP_TRY(rdp_options_read_sections(path, &sections));
    RDP_TRY(place_recipe(path, &maker->common));
    for (size_t i = 0; i < maker->section_count; i++)
        RDP_TRY(place_recipe(path, &maker->sections[i].options));
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

static int find_varied(const struct maker *maker, const char *name, const struct rdp_option **option)
{
    *option = rdp_option_find(name);
    if (*option == NULL) {
        const char *nearest = rdp_option_nearest(name, RDP_CMD_TRAIN, true);
        return rdp_fail(RDP_EUSAGE, "--vary %s: no such option%s%s%s (`resnet-dp train --help` lists them)", name,
                        *nearest ? "; did you mean " : "", nearest, *nearest ? "?" : "");
    }
    if (!is_case_option(*option))
        return rdp_fail(RDP_EUSAGE, "--vary %s: cannot differ between the cases of a sweep", name);
    for (int i = 0; i < maker->clause_count; i++)
        if (maker->clauses[i].option == *option)
            return rdp_fail(RDP_EUSAGE, "--vary: %s stands there twice; give all its values in one list", name);
    return RDP_OK;
}

/* "lr=0.1,0.3". The text is cut where values end. */
static int read_clause(struct maker *maker, char *text)
{
    char reason[RDP_OPTION_REASON_MAX];
    struct rdp_options scratch;
    char *equals = strchr(text, '='), *rest;
    if (equals == NULL)
        return rdp_fail(RDP_EUSAGE, "--vary: `%s` is not NAME=VALUE,VALUE,...; separate several options by ;", text);
    if (maker->clause_count == CLAUSES_MAX)
        return rdp_fail(RDP_EUSAGE, "--vary: more than %d options", CLAUSES_MAX);
    *equals = '\0';
    rest = equals + 1;
    struct clause *clause = &maker->clauses[maker->clause_count];
    const char *name = trim(text);
    RDP_TRY(find_varied(maker, name, &clause->option));
    const bool is_list = clause->option->type == RDP_OPTION_LIST || clause->option->type == RDP_OPTION_REALS;
    const bool has_bars = strchr(rest, '|') != NULL;
    if (is_list && !has_bars && strchr(rest, ',') != NULL)
        return rdp_fail(RDP_EUSAGE,
                        "--vary %s=%s: a value of %s is a list itself; separate values by |, as in %s=%s|%s", name,
                        rest, name, name, clause->option->initial, rest);
    rdp_options_begin(&scratch);
    for (char *value; (value = strsep(&rest, has_bars ? "|" : ",")) != NULL; clause->count++) {
        value = trim(value);
        if (!rdp_option_set(clause->option, &scratch, value, reason))
            return rdp_fail(RDP_EUSAGE, "--vary %s=%s: %s", name, value, reason);
        clause->values[clause->count] = value; /* at most one per two bytes of the text */
    }
    maker->clause_count++;
    return RDP_OK;
}

static int read_vary(struct maker *maker, const char *text)
{
    char *rest = maker->vary;
    snprintf(maker->vary, sizeof maker->vary, "%s", text);
    for (char *clause; (clause = strsep(&rest, ";")) != NULL;)
        if (*trim(clause) != '\0')
            RDP_TRY(read_clause(maker, clause));
    return RDP_OK;
}

/* ---- the sweep's own facts ---- */

/* "report-3" of "jobs/sweeps/report-3.ini". */
static void stem(const char *path, char *text, size_t size)
{
    const char *base = strrchr(path, '/');
    snprintf(text, size, "%s", base == NULL ? path : base + 1);
    char *dot = strrchr(text, '.');
    if (dot != NULL && dot != text)
        *dot = '\0';
}

static int name_sweep(struct rdp_sweep *sweep, const struct maker *maker)
{
    const struct rdp_options *line = maker->command_line;
    char name[RDP_PATH_MAX] = "resnet";
    if (line->argument_count > 0)
        stem(line->arguments[0], name, sizeof name);
    else if (line->recipe[0] != '\0')
        stem(line->recipe, name, sizeof name);
    size_t used = strlen(name);
    for (int i = 0; i < maker->clause_count && used < sizeof name; i++)
        used += (size_t)snprintf(name + used, sizeof name - used, "-%s", maker->clauses[i].option->name);
    const char *title = line->title[0] != '\0' ? line->title : maker->common.title;
    snprintf(sweep->title, sizeof sweep->title, "%s", title[0] != '\0' ? title : name);
    /* No date in it: the same command finds the sweep again. */
    int length = line->run_dir[0] != '\0' ? snprintf(sweep->directory, sizeof sweep->directory, "%s", line->run_dir)
                                          : snprintf(sweep->directory, sizeof sweep->directory, "runs/sweep-%s", name);
    if (length >= (int)sizeof sweep->directory)
        return rdp_fail(RDP_EUSAGE, "the sweep's directory needs a shorter name: give one with --run-dir");
    return RDP_OK;
}

/* What is set for one case and for another not, or otherwise, may not be set for all. */
static int check_command_line(const struct maker *maker)
{
    const struct rdp_options *line = maker->command_line;
    if (line->given[rdp_option_find("resume") - rdp_option_rows])
        return rdp_fail(RDP_EUSAGE, "--resume: a sweep always goes on where it stopped; leave it out (--force runs "
                                    "cases anew whose options have changed)");
    for (size_t i = 0; i < rdp_option_count; i++) {
        bool varied = false;
        for (int c = 0; c < maker->clause_count; c++)
            varied |= maker->clauses[c].option == &rdp_option_rows[i];
        for (size_t s = 0; s < maker->section_count; s++)
            varied |= maker->sections[s].options.given[i];
        if (varied && line->given[i])
            return rdp_fail(RDP_EUSAGE, "--%s: the cases of the sweep vary it; leave it out on the command line",
                            rdp_option_rows[i].name);
    }
    return RDP_OK;
}

/* ---- the cases ---- */

static void copy_layers(struct rdp_options *options, const struct maker *maker, const struct rdp_options *section,
                        const struct rdp_options *varied)
{
    rdp_options_overlay(options, &maker->common);
    if (section != NULL)
        rdp_options_overlay(options, section);
    rdp_options_overlay(options, varied);
    rdp_options_overlay(options, maker->command_line);
}

static int complete_options(struct rdp_options *options, const struct maker *maker, const struct rdp_options *section,
                            const struct rdp_options *varied)
{
    struct rdp_options layers;
    rdp_options_begin(&layers);
    copy_layers(&layers, maker, section, varied); /* which recipe lies below all of them */
    rdp_options_begin(options);
    if (layers.recipe[0] != '\0')
        RDP_TRY(rdp_options_read_recipe(options, layers.recipe));
    copy_layers(options, maker, section, varied);
    rdp_options_resolve(options);
    memset(options->given, 0, sizeof options->given);
    memset(options->vary, 0, sizeof options->vary);
    memset(options->title, 0, sizeof options->title);
    memset(options->run_dir, 0, sizeof options->run_dir);
    options->force = false;
    return rdp_options_check(options);
}

/* Sets choice[] to the next combination of the clauses' values, the last clause's changing fastest. */
static bool next_combination(const struct maker *maker, int choice[CLAUSES_MAX])
{
    for (int i = maker->clause_count - 1; i >= 0; i--) {
        if (++choice[i] < maker->clauses[i].count)
            return true;
        choice[i] = 0;
    }
    return false;
}

static int fail_in_case(int status, const char *name)
{
    char message[4096];
    snprintf(message, sizeof message, "%s", rdp_fail_message());
    rdp_fail_clear();
    return rdp_fail(status, "case %s: %s", name, message);
}

static int make_case(struct rdp_sweep *sweep, const struct maker *maker, const struct section *section,
                     const int choice[CLAUSES_MAX])
{
    struct rdp_sweep_case *one = &sweep->cases[sweep->count++];
    struct rdp_options varied;
    char value[RDP_OPTION_TEXT_MAX], reason[RDP_OPTION_REASON_MAX];
    size_t used = section == NULL ? 0 : (size_t)snprintf(one->name, sizeof one->name, "%s", section->name);
    rdp_options_begin(&varied);
    for (int i = 0; i < maker->clause_count; i++) {
        const struct clause *clause = &maker->clauses[i];
        rdp_option_set(clause->option, &varied, clause->values[choice[i]], reason);
        varied.given[clause->option - rdp_option_rows] = true;
        if (used < sizeof one->name)
            used += (size_t)snprintf(one->name + used, sizeof one->name - used, "%s%s=%s", used == 0 ? "" : " ",
                                     clause->option->name, rdp_option_format(clause->option, &varied, value));
    }
    if (used >= sizeof one->name)
        return rdp_fail(RDP_EUSAGE,
                        "the name of the case %s... becomes longer than %d bytes; vary fewer options at once",
                        one->name, RDP_SWEEP_NAME_MAX - 1);
    int status = complete_options(&one->options, maker, section == NULL ? NULL : &section->options, &varied);
    if (status != RDP_OK)
        return fail_in_case(status, one->name);
    /* The same training twice is a mistake in the list: its result would be the same. */
    for (const struct rdp_sweep_case *other = sweep->cases; other < one; other++)
        if (memcmp(&other->options, &one->options, sizeof one->options) == 0)
            return rdp_fail(RDP_EUSAGE, "the cases `%s` and `%s` have the same options; leave one out", other->name,
                            one->name);
    return RDP_OK;
}

/* The name as that of a directory in the sweep's own: no slash, no blank, not one of the sweep's files. */
static int place_case(const struct rdp_sweep *sweep, struct rdp_sweep_case *one)
{
    char safe[RDP_SWEEP_NAME_MAX];
    snprintf(safe, sizeof safe, "%s", one->name);
    for (char *c = safe; *c != '\0'; c++)
        if ((unsigned char)*c <= ' ' || *c == 0x7F || strchr("/\\:*?\"<>|'`$&;()[]{}!", *c) != NULL)
            *c = '_';
    if (safe[0] == '.' || strncmp(safe, "sweep.", 6) == 0)
        safe[0] = '_';
    if (snprintf(one->options.run_dir, sizeof one->options.run_dir, "%s/%s", sweep->directory, safe) >=
        (int)sizeof one->options.run_dir)
        return rdp_fail(RDP_EUSAGE, "%s: the path is too long for the case %s; choose a shorter --run-dir",
                        sweep->directory, one->name);
    for (const struct rdp_sweep_case *other = sweep->cases; other < one; other++)
        if (strcmp(other->options.run_dir, one->options.run_dir) == 0)
            return rdp_fail(RDP_EUSAGE, "the cases `%s` and `%s` would both be run in %s; rename one", other->name,
                            one->name, one->options.run_dir);
    return RDP_OK;
}

static bool differs(const struct rdp_sweep *sweep, const struct rdp_option *option)
{
    char first[RDP_OPTION_TEXT_MAX], text[RDP_OPTION_TEXT_MAX];
    rdp_option_format(option, &sweep->cases[0].options, first);
    for (size_t i = 1; i < sweep->count; i++)
        if (strcmp(first, rdp_option_format(option, &sweep->cases[i].options, text)) != 0)
            return true;
    return false;
}

/* The columns: what the file's cases set, in the table's order, then --vary's options in the order given. */
static void find_columns(struct rdp_sweep *sweep, const struct maker *maker)
{
    for (size_t i = 0; i < rdp_option_count; i++) {
        bool in_sections = false, in_vary = false;
        for (size_t s = 0; s < maker->section_count; s++)
            in_sections |= maker->sections[s].options.given[i];
        for (int c = 0; c < maker->clause_count; c++)
            in_vary |= maker->clauses[c].option == &rdp_option_rows[i];
        if (in_sections && !in_vary && differs(sweep, &rdp_option_rows[i]))
            sweep->varied[sweep->varied_count++] = &rdp_option_rows[i];
    }
    for (int c = 0; c < maker->clause_count; c++)
        sweep->varied[sweep->varied_count++] = maker->clauses[c].option;
}

static int make_cases(struct rdp_sweep *sweep, const struct maker *maker)
{
    size_t combinations = 1, sections = maker->section_count > 0 ? maker->section_count : 1;
    void *memory;
    for (int i = 0; i < maker->clause_count && combinations <= RDP_SWEEP_CASES_MAX; i++)
        combinations *= (size_t)maker->clauses[i].count;
    if (maker->section_count == 0 && maker->clause_count == 0)
        return rdp_fail(RDP_EUSAGE, "%s%shas no cases: give a file with a section for each, or --vary NAME=VALUE,VALUE",
                        maker->command_line->argument_count > 0 ? maker->command_line->arguments[0] : "the sweep",
                        maker->command_line->argument_count > 0 ? ": " : " ");
    if (combinations * sections > RDP_SWEEP_CASES_MAX)
        return rdp_fail(RDP_EUSAGE, "the sweep has more than %d cases", RDP_SWEEP_CASES_MAX);
    RDP_TRY(rdp_calloc(&memory, combinations * sections, sizeof *sweep->cases, "a sweep's cases"));
    sweep->cases = memory;
    sweep->named = maker->section_count > 0;
    for (size_t s = 0; s < sections; s++) {
        int choice[CLAUSES_MAX] = {0};
        do
            RDP_TRY(make_case(sweep, maker, sweep->named ? &maker->sections[s] : NULL, choice));
        while (next_combination(maker, choice));
    }
    for (size_t i = 0; i < sweep->count; i++)
        RDP_TRY(place_case(sweep, &sweep->cases[i]));
    find_columns(sweep, maker);
    return RDP_OK;
}

static int make(struct rdp_sweep *sweep, struct maker *maker)
{
    const struct rdp_options *line = maker->command_line;
    rdp_options_begin(&maker->common);
    if (line->argument_count > 0)
        RDP_TRY(read_file(maker, line->arguments[0]));
    RDP_TRY(read_vary(maker, line->vary[0] != '\0' ? line->vary : maker->common.vary));
    RDP_TRY(check_command_line(maker));
    RDP_TRY(name_sweep(sweep, maker));
    return make_cases(sweep, maker);
}

int rdp_sweep_make(struct rdp_sweep **sweep, const struct rdp_options *options)
{
    void *memory = NULL, *made = NULL;
    int status;
    *sweep = NULL;
    RDP_TRY_GOTO(status, rdp_calloc(&memory, 1, sizeof(struct maker), "reading a sweep"), done);
    RDP_TRY_GOTO(status, rdp_calloc(&made, 1, sizeof **sweep, "a sweep"), done);
    struct maker *maker = memory;
    maker->command_line = options;
    status = make(made, maker);
    free(maker->sections);
    if (status == RDP_OK)
        *sweep = made;
    else
        rdp_sweep_destroy(made);
done:
    free(memory);
    return status;
}

void rdp_sweep_destroy(struct rdp_sweep *sweep)
{
    if (sweep == NULL)
        return;
    free(sweep->cases);
    free(sweep);
}
