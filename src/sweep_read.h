/* What a sweep is made of, as it was written down: the sections of a file, and the lists of --vary. sweep_make.c makes
 * the cases of it. */
#ifndef RDP_SWEEP_READ_H
#define RDP_SWEEP_READ_H

#include <stdbool.h>
#include <stddef.h>

#include "options.h"
#include "options_table.h"
#include "sweep.h"

enum { RDP_SWEEP_CLAUSES_MAX = 16, RDP_SWEEP_VALUES_MAX = RDP_PATH_MAX / 2 };

/* [adam] of the file. */
struct rdp_sweep_section {
    char name[RDP_SWEEP_NAME_MAX];
    int line;
    struct rdp_options options; /* what it was given */
};

/* "lr=0.1,0.3" of --vary. */
struct rdp_sweep_clause {
    const struct rdp_option *option;
    char *values[RDP_SWEEP_VALUES_MAX]; /* point into the source's vary */
    int count;
};

struct rdp_sweep_source {
    const struct rdp_options *command_line;
    struct rdp_options common; /* what [sweep] was given */
    int common_line;           /* 0: there is no [sweep] */
    bool in_common;
    struct rdp_sweep_section *sections;
    size_t section_count, section_capacity;
    char vary[2][RDP_PATH_MAX]; /* the file's and the command line's, cut into pieces */
    struct rdp_sweep_clause clauses[RDP_SWEEP_CLAUSES_MAX];
    int clause_count;
};

/* Fills a zeroed source from the command line: its argument, a file, if there is one, then --vary, whose lists replace
 * those of the file's for the same options. RDP_EUSAGE names file and line, or the value of --vary. */
int rdp_sweep_read(struct rdp_sweep_source *source, const struct rdp_options *command_line);
void rdp_sweep_source_free(struct rdp_sweep_source *source);

#endif
