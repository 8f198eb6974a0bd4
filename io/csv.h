/* Reading tables of numbers with a header line: what report.c writes. Columns are found by name, so that a later
 * version's file, with other columns, can be read as well. */
#ifndef RDP_IO_CSV_H
#define RDP_IO_CSV_H

#include <stddef.h>

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

#endif
