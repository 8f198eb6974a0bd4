/*
 * Which options act: many are for one optimiser, one schedule or one augmentation, and do nothing beside another. The
 * banner leaves those out and names those that the user has given all the same. A new option that depends on another
 * is a row here.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "options_table.h"

enum {
    SGD = 1 << RDP_OPTIMIZER_SGD,
    LARS = 1 << RDP_OPTIMIZER_LARS,
    RMSPROP = 1 << RDP_OPTIMIZER_RMSPROP,
    ADAGRAD = 1 << RDP_OPTIMIZER_ADAGRAD,
    ASGD = 1 << RDP_OPTIMIZER_ASGD,
    ADAMS = 1 << RDP_OPTIMIZER_ADAM | 1 << RDP_OPTIMIZER_ADAMW | 1 << RDP_OPTIMIZER_ADAMAX | 1 << RDP_OPTIMIZER_LAMB,
    STEP = 1 << RDP_SCHEDULE_STEP,
    MULTISTEP = 1 << RDP_SCHEDULE_MULTISTEP,
    COSINE = 1 << RDP_SCHEDULE_COSINE,
    POLYNOMIAL = 1 << RDP_SCHEDULE_POLYNOMIAL,
    ONECYCLE = 1 << RDP_SCHEDULE_ONECYCLE,
    PLATEAU = 1 << RDP_SCHEDULE_PLATEAU
};

/* An option acts with these optimisers (0: all) and these schedules (0: all). */
static const struct {
    const char *name;
    unsigned optimizers, schedules;
    const char *needs; /* what the user would have to ask for */
} rows[] = {
    {"momentum", SGD | LARS | RMSPROP, 0, "--optimizer sgd, lars or rmsprop"},
    {"nesterov", SGD, 0, "--optimizer sgd"},
    {"beta1", ADAMS, 0, "--optimizer adam, adamw, adamax or lamb"},
    {"beta2", ADAMS, 0, "--optimizer adam, adamw, adamax or lamb"},
    {"epsilon", (unsigned)ADAMS | ADAGRAD | RMSPROP | LARS, 0, "another --optimizer than sgd and asgd"},
    {"rmsprop-alpha", RMSPROP, 0, "--optimizer rmsprop"},
    {"adagrad-lr-decay", ADAGRAD, 0, "--optimizer adagrad"},
    {"asgd-lambda", ASGD, 0, "--optimizer asgd"},
    {"asgd-alpha", ASGD, 0, "--optimizer asgd"},
    {"asgd-t0", ASGD, 0, "--optimizer asgd"},
    {"trust-coefficient", LARS, 0, "--optimizer lars"},
    {"step-epochs", 0, STEP, "--schedule step"},
    {"step-steps", 0, STEP, "--schedule step"},
    {"step-gamma", 0, STEP | MULTISTEP, "--schedule step or multistep"},
    {"milestones", 0, MULTISTEP, "--schedule multistep"},
    {"min-lr", 0, COSINE | POLYNOMIAL | PLATEAU, "--schedule cosine, polynomial or plateau"},
    {"polynomial-power", 0, POLYNOMIAL, "--schedule polynomial"},
    {"plateau-factor", 0, PLATEAU, "--schedule plateau"},
    {"plateau-patience", 0, PLATEAU, "--schedule plateau"},
    {"plateau-threshold", 0, PLATEAU, "--schedule plateau"},
    {"plateau-cooldown", 0, PLATEAU, "--schedule plateau"},
    {"onecycle-peak", 0, ONECYCLE, "--schedule onecycle"},
    {"onecycle-start-div", 0, ONECYCLE, "--schedule onecycle"},
    {"onecycle-final-div", 0, ONECYCLE, "--schedule onecycle"},
    {"onecycle-anneal", 0, ONECYCLE, "--schedule onecycle"},
    {"onecycle-momentum", ~(unsigned)(ASGD | ADAGRAD), ONECYCLE,
     "--schedule onecycle, and an --optimizer with momentum"},
};

/* Those that act only if another option switches them on. */
static const char *missing_switch(const struct rdp_options *options, const char *name)
{
    const bool cycled = options->schedule == RDP_SCHEDULE_ONECYCLE && options->onecycle_momentum.count == 2;
    const struct {
        const char *name;
        bool on;
        const char *needs;
    } switches[] = {
        {"momentum", !cycled, "--onecycle-momentum 0"},
        {"beta1", !cycled, "--onecycle-momentum 0"},
        {"leaky-slope", options->activation == RDP_LEAKY_RELU, "--activation leaky-relu"},
        {"lookahead-alpha", options->lookahead > 0, "--lookahead above 0"},
        {"lr-base-batch", options->lr_scaling != RDP_LR_SCALING_NONE, "--lr-scaling linear or sqrt"},
        {"step-epochs", options->step_steps == 0, "--step-steps 0"},
        {"crop-padding", options->crop != RDP_CROP_NONE, "--crop zero or reflect"},
        {"rotation-interpolation", options->rotation_min != 0 || options->rotation_max != 0,
         "--rotation-min or --rotation-max other than 0"},
        {"erase-scale-min", options->erase_probability > 0, "--erase-probability above 0"},
        {"erase-scale-max", options->erase_probability > 0, "--erase-probability above 0"},
        {"erase-ratio-min", options->erase_probability > 0, "--erase-probability above 0"},
        {"erase-ratio-max", options->erase_probability > 0, "--erase-probability above 0"},
        {"erase-fill", options->erase_probability > 0 || options->cutout > 0,
         "--erase-probability or --cutout above 0"},
        {"decay-bn", options->weight_decay > 0, "--weight-decay above 0"},
    };
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++)
        if (strcmp(switches[i].name, name) == 0)
            return switches[i].on ? NULL : switches[i].needs;
    return NULL;
}

const char *rdp_options_missing(const struct rdp_options *options, const char *name)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        if (strcmp(rows[i].name, name) != 0)
            continue;
        if ((rows[i].optimizers != 0 && !(rows[i].optimizers & 1u << options->optimizer)) ||
            (rows[i].schedules != 0 && !(rows[i].schedules & 1u << options->schedule)))
            return rows[i].needs;
    }
    return missing_switch(options, name);
}

const char *rdp_options_idle(const struct rdp_options *options, size_t *next, const char **needs)
{
    while (*next < rdp_option_count) {
        const size_t row = (*next)++;
        *needs = rdp_options_missing(options, rdp_option_rows[row].name);
        if (*needs != NULL && options->given[row])
            return rdp_option_rows[row].name;
    }
    return NULL;
}

int rdp_options_in_force(const struct rdp_options *options, char **text)
{
    char value[RDP_OPTION_TEXT_MAX];
    const char *group = "";
    size_t size;
    FILE *out = open_memstream(text, &size);
    if (out == NULL)
        return rdp_fail(RDP_ENOMEM, "the options as text: out of memory");
    for (size_t i = 0; i < rdp_option_count; i++) {
        const struct rdp_option *option = &rdp_option_rows[i];
        if (!rdp_option_in_recipe(option) || *rdp_option_format(option, options, value) == '\0' ||
            rdp_options_missing(options, option->name) != NULL)
            continue;
        if (strcmp(group, option->group) != 0)
            fprintf(out, "%s  [%s]", *group == '\0' ? "" : "\n", option->group);
        group = option->group;
        fprintf(out, "  %s = %s", option->name, value);
    }
    fputc('\n', out);
    int failed = ferror(out);
    if (fclose(out) != 0 || failed) {
        free(*text);
        *text = NULL;
        return rdp_fail(RDP_ENOMEM, "the options as text: out of memory");
    }
    return RDP_OK;
}

char *rdp_options_of_recipe(const struct rdp_options *options, char *text, size_t size)
{
    static const char *const chosen_for_optimizer[] = {"lr", "momentum", "weight-decay", "epsilon"};
    char value[RDP_OPTION_TEXT_MAX], own_value[RDP_OPTION_TEXT_MAX];
    struct rdp_options own;
    size_t used = 0;
    text[0] = '\0';
    if (options->recipe[0] == '\0' || options->recipe_optimizer == options->optimizer)
        return text;
    rdp_options_begin(&own);
    own.optimizer = options->optimizer;
    rdp_options_resolve(&own);
    for (size_t i = 0; i < sizeof chosen_for_optimizer / sizeof *chosen_for_optimizer; i++) {
        const struct rdp_option *option = rdp_option_find(chosen_for_optimizer[i]);
        rdp_option_format(option, options, value);
        rdp_option_format(option, &own, own_value);
        if (options->given[option - rdp_option_rows] || rdp_options_missing(options, option->name) != NULL ||
            strcmp(value, own_value) == 0 || used >= size)
            continue;
        used += (size_t)snprintf(text + used, size - used, "%s%s %s (--%s auto: %s)", used == 0 ? "" : ", ",
                                 option->name, value, option->name, own_value);
    }
    return text;
}

char *rdp_options_choice(const struct rdp_options *options, const char *name, char *text, size_t size)
{
    char value[RDP_OPTION_TEXT_MAX];
    snprintf(text, size, "%s", rdp_option_format(rdp_option_find(name), options, value));
    return text;
}
