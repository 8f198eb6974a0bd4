/* CSV (RFC 4180): reading tables of numbers with a header line, what report.c writes; and the fields of tables that hold
 * names as well. Columns are found by name, so that a later version's file, with other columns, can be read, too. */
#ifndef RDP_IO_CSV_H
#define RDP_IO_CSV_H

#include <stddef.h>
#include <stdio.h>

enum { RDP_CSV_COLUMNS_MAX = 16 };

struct rdp_csv {
    size_t rows;
    double *columns[RDP_CSV_COLUMNS_MAX]; /* `rows` values each, in one block owned by columns[0]; NAN: empty */
};

/* The columns `names`; of those that the file does not have, but for names[0], all values are NAN. Row i stands in line
 * i + 2. RDP_EUSAGE, with file and line: missing, empty, without names[0], a row of another length, no number. */
int rdp_csv_read(const char *path, const char *const *names, int count, struct rdp_csv *csv);
void rdp_csv_free(struct rdp_csv *csv);
/* Cuts the next line off a text; NULL at its end. Accepts CR LF. */
char *rdp_csv_next_line(char **rest);
/* Cuts the next field off a line, without its quotes; NULL at its end, when *rest is NULL. */
char *rdp_csv_next_field(char **rest);
/* Writes a field, in quotes if it needs them; control characters become spaces, so that a row is one line. */
void rdp_csv_put_field(FILE *out, const char *text);

#endif
