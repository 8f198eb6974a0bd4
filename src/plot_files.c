/* Reading tables and writing drawings; see plot_files.h. */
#include "plot_files.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"
#include "io/durable.h"
#include "io/file.h"

enum { FIELDS_MAX = 64, BYTES_MAX = 256 << 20 };

/* A file's columns: which of the table's each of its fields is, -1 for none. */
struct header {
    int column_of[FIELDS_MAX];
    int fields;
};

void rdp_plot_run_name(const char *run_dir, char name[256])
{
    int end = (int)strlen(run_dir);
    while (end > 1 && run_dir[end - 1] == '/')
        end--;
    int start = end;
    while (start > 0 && run_dir[start - 1] != '/')
        start--;
    snprintf(name, 256, "%.*s", end - start, run_dir + start);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        name[0] = '\0';
}

char *rdp_plot_next_line(char **rest)
{
    char *line = *rest, *end = line + strcspn(line, "\n");
    if (*line == '\0')
        return NULL;
    *rest = end + (*end == '\n');
    *end = '\0';
    line[strcspn(line, "\r")] = '\0';
    return line;
}

static int read_header(const char *path, char *line, const char *const *names, int count, struct header *header)
{
    bool has_key = false;
    header->fields = 0;
    for (char *name; (name = strsep(&line, ",")) != NULL; header->fields++) {
        if (header->fields == FIELDS_MAX)
            return rdp_fail(RDP_EUSAGE, "%s:1: more than %d columns; this is no file of train", path, FIELDS_MAX);
        header->column_of[header->fields] = -1;
        for (int c = 0; c < count; c++)
            if (strcmp(name, names[c]) == 0)
                header->column_of[header->fields] = c;
        has_key = has_key || header->column_of[header->fields] == 0;
    }
    if (!has_key)
        return rdp_fail(RDP_EUSAGE, "%s:1: the header names no column `%s`; this is no file of train", path, names[0]);
    return RDP_OK;
}

static int read_row(const char *path, const char *key, int line_number, char *line, const struct header *header,
                    struct rdp_plot_table *table)
{
    const size_t row = table->rows;
    int field = 0;
    for (char *word; (word = strsep(&line, ",")) != NULL; field++) {
        double value = NAN;
        if (field == header->fields)
            return rdp_fail(RDP_EUSAGE, "%s:%d: more than the header's %d columns", path, line_number, header->fields);
        if (*word != '\0' && !rdp_parse_real(word, &value))
            return rdp_fail(RDP_EUSAGE, "%s:%d: column %d is no number: %.40s", path, line_number, field + 1, word);
        if (header->column_of[field] >= 0)
            table->columns[header->column_of[field]][row] = value;
    }
    if (field < header->fields)
        return rdp_fail(RDP_EUSAGE, "%s:%d: fewer than the header's %d columns", path, line_number, header->fields);
    double number = table->columns[0][row];
    if (!(number >= 0 && number <= 1e12) || (row > 0 && number < table->columns[0][row - 1]))
        return rdp_fail(RDP_EUSAGE, "%s:%d: the %s is missing, out of range or before the last row's", path,
                        line_number, key);
    return RDP_OK;
}

/* Room for `rows` rows, all empty. */
static int allocate(struct rdp_plot_table *table, size_t rows, int count)
{
    void *memory;
    RDP_TRY(rdp_calloc(&memory, rows * (size_t)count, sizeof(double), "the table to draw"));
    for (int c = 0; c < count; c++)
        table->columns[c] = (double *)memory + (size_t)c * rows;
    for (size_t i = 0; i < rows * (size_t)count; i++)
        table->columns[0][i] = NAN;
    return RDP_OK;
}

int rdp_plot_table_read(const char *path, const char *const *names, int count, struct rdp_plot_table *table)
{
    char *text = NULL, *rest, *line;
    struct header header;
    int status, line_number = 1;
    size_t lines = 0;
    memset(table, 0, sizeof *table);
    RDP_TRY(rdp_file_read_text(path, BYTES_MAX, &text));
    for (const char *c = text; *c != '\0'; c++)
        lines += *c == '\n';
    rest = text;
    line = rdp_plot_next_line(&rest);
    if (line == NULL) {
        status = rdp_fail(RDP_EUSAGE, "%s:1: the file is empty", path);
        goto done;
    }
    RDP_TRY_GOTO(status, read_header(path, line, names, count, &header), done);
    RDP_TRY_GOTO(status, allocate(table, lines + 1, count), done);
    while ((line = rdp_plot_next_line(&rest)) != NULL) {
        RDP_TRY_GOTO(status, read_row(path, names[0], ++line_number, line, &header, table), done);
        table->rows++;
    }
    if (table->rows == 0)
        status = rdp_fail(RDP_EUSAGE, "%s: no %s in it yet; there is nothing to draw", path, names[0]);
done:
    if (status != RDP_OK)
        rdp_plot_table_free(table);
    free(text);
    return status;
}

void rdp_plot_table_free(struct rdp_plot_table *table)
{
    free(table->columns[0]);
    table->columns[0] = NULL;
}

int rdp_plot_save(const struct rdp_plot_target *target, const char *name, void (*draw)(FILE *out, const void *what),
                  const void *what)
{
    char path[4096], *svg = NULL;
    size_t size = 0;
    if (snprintf(path, sizeof path, "%s/%s", target->directory, name) >= (int)sizeof path)
        return rdp_fail(RDP_EUSAGE, "%s: the path is too long for %s; choose a shorter one", target->directory, name);
    FILE *out = open_memstream(&svg, &size);
    if (out != NULL)
        draw(out, what);
    if (out == NULL || fclose(out) != 0) {
        free(svg);
        return rdp_fail(RDP_ENOMEM, "%s: out of memory while drawing", path);
    }
    struct rdp_bytes piece = {svg, size};
    int status = rdp_durable_write(path, &piece, 1);
    free(svg);
    if (status == RDP_OK && target->say)
        rdp_say("%s\n", path);
    return status;
}
