/*
 * The command line. It is walked twice: once to find the recipe, which comes first in precedence and may stand
 * anywhere among the words, and once to apply everything else on top of it.
 */
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "options_table.h"

struct command_line {
    struct rdp_options *options;
    const struct rdp_command_name *command;
    const char *name; /* of the command, as the user knows it */
    int count;        /* of words */
    char **words;     /* [0] is the command */
    int next;         /* the word to read */
    bool recipe_only;
};

static int fail_unknown(const struct command_line *line, const char *name)
{
    const struct rdp_option *elsewhere = rdp_option_find(name);
    const char *nearest = rdp_option_nearest(name, (unsigned)line->command->command, false);
    char commands[128] = "";
    size_t used = 0;
    for (size_t i = 0; elsewhere != NULL && i < rdp_command_count; i++)
        if (elsewhere->commands & (unsigned)rdp_command_names[i].command)
            used += (size_t)snprintf(commands + used, sizeof commands - used, "%s%s", used ? ", " : "",
                                     rdp_command_names[i].name);
    if (elsewhere != NULL)
        return rdp_fail(RDP_EUSAGE, "--%s: no option of %s, but of %s (`resnet-dp %s --help` lists what it takes)",
                        name, line->name, commands, line->name);
    return rdp_fail(RDP_EUSAGE, "--%s: no such option of %s%s%s%s (`resnet-dp %s --help` lists them)", name, line->name,
                    *nearest ? "; did you mean --" : "", nearest, *nearest ? "?" : "", line->name);
}

static const struct rdp_option *find(const struct command_line *line, const char *name)
{
    const struct rdp_option *option = rdp_option_find(name);
    return option != NULL && (option->commands & (unsigned)line->command->command) ? option : NULL;
}

/* The value of a yes|no option may be left out: the next word is it only if it can be. */
static bool next_is_value(const struct command_line *line, const struct rdp_option *option)
{
    if (line->next >= line->count)
        return false;
    const char *word = line->words[line->next];
    if (option->type != RDP_OPTION_YES_NO)
        return strncmp(word, "--", 2) != 0;
    if (strcmp(word, "yes") == 0 || strcmp(word, "no") == 0)
        return true;
    /* Where words without dashes mean nothing, one after a yes|no option is a mistaken value: say what is valid. */
    return line->command->words_max == 0 && word[0] != '-';
}

static int take_option(struct command_line *line, const char *word)
{
    char name[64], reason[RDP_OPTION_REASON_MAX];
    const char *equals = strchr(word, '='), *value = equals == NULL ? NULL : equals + 1;
    int length = equals == NULL ? (int)strlen(word) : (int)(equals - word);
    if (length >= (int)sizeof name)
        return rdp_fail(RDP_EUSAGE, "--%.60s...: no such option of %s (`resnet-dp %s --help` lists them)", word,
                        line->name, line->name);
    snprintf(name, sizeof name, "%.*s", length, word);
    const struct rdp_option *option = find(line, name);
    if (option == NULL && strncmp(name, "no-", 3) == 0) {
        option = find(line, name + 3);
        if (option == NULL || option->type != RDP_OPTION_YES_NO)
            return fail_unknown(line, name);
        if (value != NULL)
            return rdp_fail(RDP_EUSAGE, "--%s: takes no value; write --%s or --%s=no", name, name, option->name);
        value = "no";
    } else if (option == NULL) {
        return fail_unknown(line, name);
    } else if (value == NULL && next_is_value(line, option)) {
        value = line->words[line->next++];
    } else if (value == NULL && option->type == RDP_OPTION_YES_NO) {
        value = "yes";
    } else if (value == NULL) {
        return rdp_fail(RDP_EUSAGE, "--%s: needs a value (%s): %s", name, option->values, option->help);
    }
    if (line->recipe_only && strcmp(option->name, "recipe") != 0)
        return RDP_OK;
    if (!rdp_option_set(option, line->options, value, reason))
        return rdp_fail(RDP_EUSAGE, "--%s %s: %s", option->name, value, reason);
    line->options->given[option - rdp_option_rows] = true;
    return RDP_OK;
}

/* Moves the word just read to argv's front, behind its like, so that they lie together; the others keep their order. */
static int take_argument(struct command_line *line)
{
    struct rdp_options *options = line->options;
    int from = line->next - 1, to = 1 + options->argument_count;
    char *word = line->words[from];
    if (line->command->words_max == 0)
        return rdp_fail(RDP_EUSAGE, "%s: %s takes options only (--NAME VALUE; `resnet-dp %s --help` lists them)", word,
                        line->name, line->name);
    if (options->argument_count == line->command->words_max)
        return rdp_fail(RDP_EUSAGE, "%s: one word too many; usage: resnet-dp %s [--OPTION VALUE]...%s", word,
                        line->name, line->command->words);
    if (line->recipe_only)
        return RDP_OK;
    memmove(line->words + to + 1, line->words + to, (size_t)(from - to) * sizeof(char *));
    line->words[to] = word;
    options->argument_count++;
    return RDP_OK;
}

static int walk(struct command_line *line)
{
    bool options_ended = false;
    for (line->next = 1; line->next < line->count;) {
        char *word = line->words[line->next++];
        if (options_ended || word[0] != '-' || word[1] == '\0')
            RDP_TRY(take_argument(line));
        else if (word[1] != '-')
            return rdp_fail(RDP_EUSAGE, "%s: options begin with two dashes (`resnet-dp %s --help` lists them)", word,
                            line->name);
        else if (word[2] == '\0')
            options_ended = true;
        else
            RDP_TRY(take_option(line, word + 2));
    }
    return RDP_OK;
}

static int check_required(const struct command_line *line)
{
    const struct rdp_options *options = line->options;
    int command = line->command->command;
    if (options->argument_count < line->command->words_min)
        return rdp_fail(RDP_EUSAGE, "%s needs%s (usage: resnet-dp %s [--OPTION VALUE]...%s)", line->name,
                        line->command->words, line->name, line->command->words);
    if ((command & (RDP_CMD_EVAL | RDP_CMD_PREDICT)) && options->checkpoint[0] == '\0')
        return rdp_fail(RDP_EUSAGE,
                        "%s needs --checkpoint FILE: the network to use, as train left it under the run's "
                        "checkpoints/",
                        line->name);
    if (command == RDP_CMD_PREPARE && options->synthetic == (options->from[0] != '\0'))
        return rdp_fail(RDP_EUSAGE, "%s needs either --from PATH (the official CIFAR-10 binaries) or --synthetic, %s",
                        line->name, options->synthetic ? "not both" : "and has neither");
    if (command == RDP_CMD_PREPARE && options->out[0] == '\0')
        return rdp_fail(RDP_EUSAGE, "%s needs --out FILE.h5: the data file to write", line->name);
    if ((command & (RDP_CMD_AUGMENT | RDP_CMD_DRAW)) && options->out[0] == '\0')
        return rdp_fail(RDP_EUSAGE, "%s needs --out FILE: the %s file to write", line->name,
                        command == RDP_CMD_DRAW ? "Graphviz" : "PNG");
    return RDP_OK;
}

int rdp_options_parse(struct rdp_options *options, int command, const char *command_name, int argc, char **argv)
{
    struct command_line line = {.options = options, .name = command_name, .count = argc, .words = argv};
    for (size_t i = 0; i < rdp_command_count; i++)
        if (rdp_command_names[i].command == command)
            line.command = &rdp_command_names[i];
    if (line.command == NULL)
        return rdp_fail(RDP_EINTERNAL, "command %d (%s) is not in the table of commands", command, command_name);
    rdp_options_begin(options);
    options->arguments = argv + (argc > 0);
    line.recipe_only = command != RDP_CMD_SWEEP;
    RDP_TRY(walk(&line));
    if (command == RDP_CMD_SWEEP)
        return check_required(&line);
    if (options->recipe[0] != '\0')
        RDP_TRY(rdp_options_read_recipe(options, options->recipe));
    line.recipe_only = false;
    RDP_TRY(walk(&line));
    rdp_options_resolve(options);
    RDP_TRY(check_required(&line));
    if (rdp_option_find("blocks")->commands & (unsigned)command)
        RDP_TRY(rdp_options_check(options));
    else if (rdp_option_find("crop")->commands & (unsigned)command)
        RDP_TRY(rdp_options_check_augmentation(options));
    return RDP_OK;
}
