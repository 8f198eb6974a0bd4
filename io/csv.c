/* Tables of numbers; see csv.h. */
#include "io/csv.h"

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"
#include "io/file.h"

enum { FIELDS_MAX = 64 };

static const uint64_t BYTES_MAX = (uint64_t)1 << 32; /* as many as train writes and reads: steps.csv of a long run */

struct reader {
    const char *path;
    int fields;                /* of the header */
    int column_of[FIELDS_MAX]; /* by field; -1: not asked for */
};

char *rdp_csv_next_line(char **rest)
{
    char *line = *rest, *end = line + strcspn(line, "\n");
    if (*line == '\0')
        return NULL;
    *rest = end + (*end == '\n');
    *end = '\0';
    line[strcspn(line, "\r")] = '\0';
    return line;
}

char *rdp_csv_next_field(char **rest)
{
    char *field = *rest, *to = field, *from = field;
    bool quoted = field != NULL && *field == '"';
    if (field == NULL)
        return NULL;
    for (from += quoted; *from != '\0' && (quoted || *from != ','); from++) {
        if (quoted && *from == '"' && from[1] != '"') {
            quoted = false; /* what follows, up to the comma, would be malformed: it is kept */
            continue;
        }
        from += quoted && *from == '"';
        *to++ = *from;
    }
    *rest = *from == ',' ? from + 1 : NULL;
    *to = '\0';
    return field;
}

void rdp_csv_put_field(FILE *out, const char *text)
{
    const bool quoted = strpbrk(text, ",\"") != NULL;
    if (quoted)
        fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"')
            fputc('"', out);
        fputc((unsigned char)*text < 0x20 ? ' ' : *text, out);
    }
    if (quoted)
        fputc('"', out);
}

static int read_header(struct reader *reader, char *line, const char *const *names, int count)
{
    bool has_first = false;
    for (char *name; (name = strsep(&line, ",")) != NULL; reader->fields++) {
        if (reader->fields == FIELDS_MAX)
            return rdp_fail(RDP_EUSAGE, "%s:1: more than %d columns; no table of resnet-dp has so many", reader->path,
                            FIELDS_MAX);
        reader->column_of[reader->fields] = -1;
        for (int c = 0; c < count; c++)
            if (strcmp(name, names[c]) == 0)
                reader->column_of[reader->fields] = c;
        has_first = has_first || reader->column_of[reader->fields] == 0;
    }
    if (!has_first)
        return rdp_fail(RDP_EUSAGE, "%s:1: the header names no column `%s`; this is another file", reader->path,
                        names[0]);
    return RDP_OK;
}

static int read_row(const struct reader *reader, char *line, struct rdp_csv *csv)
{
    const size_t line_number = csv->rows + 2;
    int field = 0;
    for (char *word; (word = strsep(&line, ",")) != NULL; field++) {
        double value = NAN;
        if (field == reader->fields)
            return rdp_fail(RDP_EUSAGE, "%s:%zu: more than the header's %d columns", reader->path, line_number,
                            reader->fields);
        if (*word != '\0' && !rdp_parse_real(word, &value))
            return rdp_fail(RDP_EUSAGE, "%s:%zu: column %d is no number: %.40s", reader->path, line_number, field + 1,
                            word);
        if (reader->column_of[field] >= 0)
            csv->columns[reader->column_of[field]][csv->rows] = value;
    }
    if (field < reader->fields)
        return rdp_fail(RDP_EUSAGE, "%s:%zu: fewer than the header's %d columns", reader->path, line_number,
                        reader->fields);
    csv->rows++;
    return RDP_OK;
}

static int allocate(struct rdp_csv *csv, const char *text, int count)
{
    size_t lines = 1; /* the last may have no newline */
    void *memory;
    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    RDP_TRY(rdp_calloc(&memory, lines * (size_t)count, sizeof(double), "a table"));
    for (int c = 0; c < count; c++)
        csv->columns[c] = (double *)memory + (size_t)c * lines;
    for (size_t i = 0; i < lines * (size_t)count; i++)
        csv->columns[0][i] = NAN;
    return RDP_OK;
}

int rdp_csv_read(const char *path, const char *const *names, int count, struct rdp_csv *csv)
{
    struct reader reader = {.path = path};
    char *text = NULL, *rest, *line;
    int status;
    memset(csv, 0, sizeof *csv);
    RDP_TRY(rdp_file_read_text(path, BYTES_MAX, &text));
    rest = text;
    line = rdp_csv_next_line(&rest);
    if (line == NULL) {
        status = rdp_fail(RDP_EUSAGE, "%s:1: the file is empty", path);
        goto done;
    }
    RDP_TRY_GOTO(status, read_header(&reader, line, names, count), done);
    RDP_TRY_GOTO(status, allocate(csv, rest, count), done);
    while ((line = rdp_csv_next_line(&rest)) != NULL)
        RDP_TRY_GOTO(status, read_row(&reader, line, csv), done);
done:
    if (status != RDP_OK)
        rdp_csv_free(csv);
    free(text);
    return status;
}

void rdp_csv_free(struct rdp_csv *csv)
{
    free(csv->columns[0]);
    memset(csv, 0, sizeof *csv);
}
