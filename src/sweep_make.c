/* The cases of a sweep; see sweep.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "run_dir.h"
#include "sweep_read.h"

/* ---- the sweep's own facts ---- */

static int name_sweep(struct rdp_sweep *sweep, const struct rdp_sweep_source *source)
{
    const struct rdp_options *line = source->command_line;
    char name[RDP_PATH_MAX] = "resnet";
    if (line->argument_count > 0)
        rdp_run_dir_stem(line->arguments[0], name, sizeof name);
    else if (line->recipe[0] != '\0')
        rdp_run_dir_stem(line->recipe, name, sizeof name);
    size_t used = strlen(name);
    for (int i = 0; i < source->clause_count && used < sizeof name; i++)
        used += (size_t)snprintf(name + used, sizeof name - used, "-%s", source->clauses[i].option->name);
    const char *title = line->title[0] != '\0' ? line->title : source->common.title;
    snprintf(sweep->title, sizeof sweep->title, "%s", title[0] != '\0' ? title : name);
    /* No date in it: the same command finds the sweep again. */
    int length = line->run_dir[0] != '\0' ? snprintf(sweep->directory, sizeof sweep->directory, "%s", line->run_dir)
                                          : snprintf(sweep->directory, sizeof sweep->directory, "runs/sweep-%s", name);
    if (length >= (int)sizeof sweep->directory)
        return rdp_fail(RDP_EUSAGE, "the sweep's directory needs a shorter name: give one with --run-dir");
    return RDP_OK;
}

/* What is set for one case and for another not, or otherwise, may not be set for all. */
static int check_command_line(const struct rdp_sweep_source *source)
{
    const struct rdp_options *line = source->command_line;
    for (size_t i = 0; i < rdp_option_count; i++) {
        bool varied = false;
        for (int c = 0; c < source->clause_count; c++)
            varied |= source->clauses[c].option == &rdp_option_rows[i];
        for (size_t s = 0; s < source->section_count; s++)
            varied |= source->sections[s].options.given[i];
        if (varied && line->given[i])
            return rdp_fail(RDP_EUSAGE, "--%s: the cases of the sweep vary it; leave it out on the command line",
                            rdp_option_rows[i].name);
    }
    return RDP_OK;
}

/* ---- the cases ---- */

static void copy_layers(struct rdp_options *options, const struct rdp_sweep_source *source,
                        const struct rdp_options *section, const struct rdp_options *varied)
{
    rdp_options_overlay(options, &source->common);
    if (section != NULL)
        rdp_options_overlay(options, section);
    rdp_options_overlay(options, varied);
    rdp_options_overlay(options, source->command_line);
}

static int complete_options(struct rdp_options *options, const struct rdp_sweep_source *source,
                            const struct rdp_options *section, const struct rdp_options *varied)
{
    struct rdp_options layers;
    rdp_options_begin(&layers);
    copy_layers(&layers, source, section, varied); /* which recipe lies below all of them */
    rdp_options_begin(options);
    if (layers.recipe[0] != '\0')
        RDP_TRY(rdp_options_read_recipe(options, layers.recipe));
    copy_layers(options, source, section, varied);
    rdp_options_resolve(options);
    memset(options->vary, 0, sizeof options->vary);
    memset(options->title, 0, sizeof options->title);
    memset(options->run_dir, 0, sizeof options->run_dir);
    options->force = false;
    return rdp_options_check(options);
}

/* Sets choice[] to the next combination of the clauses' values, the last clause's changing fastest. */
static bool next_combination(const struct rdp_sweep_source *source, int choice[RDP_SWEEP_CLAUSES_MAX])
{
    for (int i = source->clause_count - 1; i >= 0; i--) {
        if (++choice[i] < source->clauses[i].count)
            return true;
        choice[i] = 0;
    }
    return false;
}

int rdp_sweep_fail_in_case(int status, const char *name)
{
    char message[4096];
    snprintf(message, sizeof message, "%s", rdp_fail_message());
    rdp_fail_clear();
    return rdp_fail(status, "case %s: %s", name, message);
}

/* Whether the options have the same values, wherever they were given. */
static bool same_values(const struct rdp_options *a, const struct rdp_options *b)
{
    return memcmp(a, b, offsetof(struct rdp_options, given)) == 0 && a->recipe_optimizer == b->recipe_optimizer;
}

/* Appends a part of a case's name; false if there is no room. */
static bool add_name(char name[RDP_SWEEP_NAME_MAX], const char *part)
{
    const size_t used = strlen(name);
    return snprintf(name + used, RDP_SWEEP_NAME_MAX - used, "%s%s", used == 0 ? "" : " ", part) <
           (int)(RDP_SWEEP_NAME_MAX - used);
}

static int make_case(struct rdp_sweep *sweep, const struct rdp_sweep_source *source,
                     const struct rdp_sweep_section *section, const int choice[RDP_SWEEP_CLAUSES_MAX])
{
    struct rdp_sweep_case *one = &sweep->cases[sweep->count++];
    struct rdp_options varied;
    char value[RDP_OPTION_TEXT_MAX], reason[RDP_OPTION_REASON_MAX];
    bool fits = section == NULL || (add_name(one->name, section->name) && add_name(one->of_seeds, section->name));
    rdp_options_begin(&varied);
    for (int i = 0; i < source->clause_count; i++) {
        const struct rdp_sweep_clause *clause = &source->clauses[i];
        char part[RDP_OPTION_TEXT_MAX + 64];
        rdp_option_set(clause->option, &varied, clause->values[choice[i]], reason);
        varied.given[clause->option - rdp_option_rows] = true;
        snprintf(part, sizeof part, "%s=%s", clause->option->name, rdp_option_format(clause->option, &varied, value));
        fits = fits && add_name(one->name, part);
        if (clause->option != rdp_option_find("seed"))
            fits = fits && add_name(one->of_seeds, part);
        else
            sweep->seeded = clause->count > 1;
    }
    if (!fits)
        return rdp_fail(RDP_EUSAGE,
                        "the name of the case %s... becomes longer than %d bytes; vary fewer options at once",
                        one->name, RDP_SWEEP_NAME_MAX - 1);
    int status = complete_options(&one->options, source, section == NULL ? NULL : &section->options, &varied);
    if (status != RDP_OK)
        return rdp_sweep_fail_in_case(status, one->name);
    for (int i = 0; i < source->clause_count; i++) {
        const char *option = source->clauses[i].option->name, *needs = rdp_options_missing(&one->options, option);
        if (needs != NULL && source->clauses[i].count > 1)
            return rdp_fail(RDP_EUSAGE, "--vary %s: in the case %s it does nothing: it needs %s", option, one->name,
                            needs);
    }
    /* The same training twice is a mistake in the list: its result would be the same. */
    for (const struct rdp_sweep_case *other = sweep->cases; other < one; other++)
        if (same_values(&other->options, &one->options))
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
static void find_columns(struct rdp_sweep *sweep, const struct rdp_sweep_source *source)
{
    for (size_t i = 0; i < rdp_option_count; i++) {
        bool in_sections = false, in_vary = false;
        for (size_t s = 0; s < source->section_count; s++)
            in_sections |= source->sections[s].options.given[i];
        for (int c = 0; c < source->clause_count; c++)
            in_vary |= source->clauses[c].option == &rdp_option_rows[i];
        if (in_sections && !in_vary && differs(sweep, &rdp_option_rows[i]))
            sweep->varied[sweep->varied_count++] = &rdp_option_rows[i];
    }
    for (int c = 0; c < source->clause_count; c++)
        sweep->varied[sweep->varied_count++] = source->clauses[c].option;
}

static int make_cases(struct rdp_sweep *sweep, const struct rdp_sweep_source *source)
{
    size_t combinations = 1, sections = source->section_count > 0 ? source->section_count : 1;
    void *memory;
    for (int i = 0; i < source->clause_count && combinations <= RDP_SWEEP_CASES_MAX; i++)
        combinations *= (size_t)source->clauses[i].count;
    if (source->section_count == 0 && source->clause_count == 0)
        return rdp_fail(RDP_EUSAGE, "%s%shas no cases: give a file with a section for each, or --vary NAME=VALUE,VALUE",
                        source->command_line->argument_count > 0 ? source->command_line->arguments[0] : "the sweep",
                        source->command_line->argument_count > 0 ? ": " : " ");
    if (combinations * sections > RDP_SWEEP_CASES_MAX)
        return rdp_fail(RDP_EUSAGE, "the sweep has more than %d cases", RDP_SWEEP_CASES_MAX);
    RDP_TRY(rdp_calloc(&memory, combinations * sections, sizeof *sweep->cases, "a sweep's cases"));
    sweep->cases = memory;
    sweep->named = source->section_count > 0;
    for (size_t s = 0; s < sections; s++) {
        int choice[RDP_SWEEP_CLAUSES_MAX] = {0};
        do
            RDP_TRY(make_case(sweep, source, sweep->named ? &source->sections[s] : NULL, choice));
        while (next_combination(source, choice));
    }
    for (size_t i = 0; i < sweep->count; i++)
        RDP_TRY(place_case(sweep, &sweep->cases[i]));
    find_columns(sweep, source);
    return RDP_OK;
}

static int make(struct rdp_sweep *sweep, struct rdp_sweep_source *source, const struct rdp_options *command_line)
{
    RDP_TRY(rdp_sweep_read(source, command_line));
    RDP_TRY(check_command_line(source));
    RDP_TRY(name_sweep(sweep, source));
    return make_cases(sweep, source);
}

int rdp_sweep_make(struct rdp_sweep **sweep, const struct rdp_options *options)
{
    void *memory = NULL, *made = NULL;
    int status;
    *sweep = NULL;
    RDP_TRY_GOTO(status, rdp_calloc(&memory, 1, sizeof(struct rdp_sweep_source), "reading a sweep"), done);
    RDP_TRY_GOTO(status, rdp_calloc(&made, 1, sizeof **sweep, "a sweep"), done);
    status = make(made, memory, options);
    rdp_sweep_source_free(memory);
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
