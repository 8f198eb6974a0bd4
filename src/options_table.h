/*
 * What the files of options*.c share and nobody else sees: a row of the option table, and how a value becomes text
 * and back. The table itself is in options.c. Field order, --help order and recipe order are the table's order.
 */
#ifndef RDP_OPTIONS_TABLE_H
#define RDP_OPTIONS_TABLE_H

#include <stdbool.h>
#include <stddef.h>

#include "options.h"

enum rdp_option_type {
    RDP_OPTION_YES_NO,    /* bool */
    RDP_OPTION_CHOICE,    /* an enum; `values` lists the names in its order: "relu|leaky-relu" */
    RDP_OPTION_INTEGER,   /* int */
    RDP_OPTION_INTEGER64, /* int64_t */
    RDP_OPTION_REAL,      /* double */
    RDP_OPTION_LIST,      /* struct rdp_int_list; min and max are those of an entry */
    RDP_OPTION_REALS,     /* struct rdp_real_list; likewise */
    RDP_OPTION_TEXT       /* char[RDP_PATH_MAX] */
};

enum rdp_option_flag {
    RDP_OPTION_ABOVE_MIN = 1, /* min itself is not valid */
    RDP_OPTION_BELOW_MAX = 2, /* max itself is not valid */
    RDP_OPTION_DECIDES = 4,   /* decides the training's result: may not change on resume */
    RDP_OPTION_NO_RECIPE = 8, /* for the command line only */
    RDP_OPTION_AUTO = 16,     /* RDP_OPTION_REAL: "auto" is valid, and is NaN */
    RDP_OPTION_OF_RUN = 32    /* eval and predict: unless given, the value that the checkpoint's run had (loaded.c) */
};

struct rdp_option {
    const char *group;  /* heading in --help, section in recipes */
    const char *name;   /* without the dashes */
    const char *values; /* choices, or what --help shows in the value's place */
    enum rdp_option_type type;
    size_t offset;       /* of the field in struct rdp_options */
    const char *initial; /* the default as text; "" only for RDP_OPTION_TEXT: none */
    double min, max;     /* numbers; max INFINITY: as large as the type allows */
    unsigned flags, commands;
    const char *help;
};

extern const struct rdp_option rdp_option_rows[];
extern const size_t rdp_option_count;

struct rdp_command_name {
    int command;
    const char *name;
    const char *words; /* what it takes besides options, "" if nothing; " IMAGE..." */
    int words_min, words_max;
};
extern const struct rdp_command_name rdp_command_names[];
extern const size_t rdp_command_count;

enum { RDP_OPTION_TEXT_MAX = RDP_PATH_MAX + 64, RDP_OPTION_REASON_MAX = 512 };

/* NULL if there is none. */
const struct rdp_option *rdp_option_find(const char *name);
/* True if a recipe may set it: a train option that is not for the command line only. */
bool rdp_option_in_recipe(const struct rdp_option *option);
/* The nearest name among the options of `commands` ("" if none is near); recipe: only those that a recipe may set. */
const char *rdp_option_nearest(const char *name, unsigned commands, bool recipe);

/* The table's defaults, with "auto" still in them: rdp_options_resolve follows. */
void rdp_options_begin(struct rdp_options *options);
/* Stores the value; false with what would be valid in `reason` ("must be a whole number from 1 to 1048576"). */
bool rdp_option_set(const struct rdp_option *option, struct rdp_options *options, const char *text,
                    char reason[RDP_OPTION_REASON_MAX]);
/* Sets the field of `to` to what it is in `from`. */
void rdp_option_copy(const struct rdp_option *option, struct rdp_options *to, const struct rdp_options *from);
/* The field's value as rdp_option_set takes it back, in `text`; returns text. */
char *rdp_option_format(const struct rdp_option *option, const struct rdp_options *options,
                        char text[RDP_OPTION_TEXT_MAX]);
/* "from 1 to 1048576", "above 0 to 1000", "from 0 to below 1", "from 0 up"; "" for types without a range. */
char *rdp_option_range(const struct rdp_option *option, char text[128]);

#endif
