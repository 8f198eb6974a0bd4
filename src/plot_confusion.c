/* From confusion.csv to confusion.svg; see plot_confusion.h. A row is a true class. Lengths are in pixels. */
#include "plot_confusion.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"
#include "io/csv.h"
#include "io/file.h"
#include "plot_svg.h"

enum {
    CLASSES_MAX = 256,
    BYTES_MAX = 4 << 20,
    NUMBERED_MOST = 24 /* classes: more have cells too small for numbers */
};

static const int64_t COUNT_MAX = 1000000000000; /* of a cell: a row's sum stays far below 64 bits' end */

struct matrix {
    char note[256]; /* the run's name */
    int classes;
    char *names[CLASSES_MAX]; /* views into the file's text */
    int64_t *counts;          /* [true][predicted] */
};

static int read_names(const char *path, char *line, struct matrix *matrix)
{
    char *rest = line;
    if (line == NULL || rdp_csv_next_field(&rest) == NULL || rest == NULL)
        return rdp_fail(RDP_EUSAGE, "%s:1: the header names no classes; this is no file of train", path);
    for (char *name; (name = rdp_csv_next_field(&rest)) != NULL;) {
        if (matrix->classes == CLASSES_MAX)
            return rdp_fail(RDP_EUSAGE, "%s:1: more than %d classes; this is no file of train", path, CLASSES_MAX);
        matrix->names[matrix->classes++] = name;
    }
    return RDP_OK;
}

static int read_counts(const char *path, int row, char *line, struct matrix *matrix)
{
    char *rest = line, *field = line == NULL ? NULL : rdp_csv_next_field(&rest);
    int column = 0;
    for (; field != NULL && (field = rdp_csv_next_field(&rest)) != NULL; column++) {
        int64_t *count = &matrix->counts[(size_t)row * (size_t)matrix->classes + (size_t)column];
        if (column == matrix->classes || !rdp_parse_integer(field, count) || *count < 0 || *count > COUNT_MAX)
            break;
    }
    if (column < matrix->classes || field != NULL)
        return rdp_fail(RDP_EUSAGE, "%s:%d: not a name and %d counts", path, row + 2, matrix->classes);
    return RDP_OK;
}

static int read_matrix(const char *path, char *text, struct matrix *matrix)
{
    void *memory;
    RDP_TRY(read_names(path, rdp_csv_next_line(&text), matrix));
    const size_t classes = (size_t)matrix->classes;
    RDP_TRY(rdp_calloc(&memory, classes * classes, sizeof(int64_t), "the confusion matrix"));
    matrix->counts = memory;
    for (int row = 0; row < matrix->classes; row++)
        RDP_TRY(read_counts(path, row, rdp_csv_next_line(&text), matrix));
    if (*text != '\0')
        return rdp_fail(RDP_EUSAGE, "%s:%d: more rows than classes", path, matrix->classes + 2);
    return RDP_OK;
}

/* White for nothing to a dark blue for the whole row; by the square root, so that rare errors show. */
static void put_cell(FILE *out, double x, double y, double side, int64_t count, int64_t of, bool numbered)
{
    const double shade = of > 0 ? sqrt((double)count / (double)of) : 0;
    char number[32], attributes[96];
    fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"#%02x%02x%02x\"/>\n", x, y, side,
            side, (int)(255 - 247 * shade), (int)(255 - 186 * shade), (int)(255 - 107 * shade));
    if (!numbered)
        return;
    snprintf(number, sizeof number, "%" PRId64, count);
    snprintf(attributes, sizeof attributes, "font-size=\"%d\" text-anchor=\"middle\" fill=\"%s\"",
             strlen(number) > 5 ? 9 : 12, shade > 0.6 ? "#ffffff" : "#333333");
    rdp_svg_text(out, x + side / 2, y + side / 2 + 4, attributes, number);
}

static void put_row(FILE *out, const struct matrix *matrix, int row, double left, double y, double side)
{
    const bool numbered = matrix->classes <= NUMBERED_MOST;
    const int64_t *counts = matrix->counts + (size_t)row * (size_t)matrix->classes;
    int64_t of = 0;
    for (int k = 0; k < matrix->classes; k++)
        of += counts[k];
    rdp_svg_text(out, left - 8, y + side / 2 + 4, "font-size=\"12\" text-anchor=\"end\" fill=\"#333333\"",
                 matrix->names[row]);
    for (int k = 0; k < matrix->classes; k++)
        put_cell(out, left + side * k, y, side, counts[k], of, numbered);
}

static void draw(FILE *out, const void *what)
{
    const struct matrix *matrix = what;
    const double side = matrix->classes <= NUMBERED_MOST ? 46 : 14, edge = side * matrix->classes;
    size_t longest = 0;
    for (int k = 0; k < matrix->classes; k++)
        longest = strlen(matrix->names[k]) > longest ? strlen(matrix->names[k]) : longest;
    const double label = fmin(260, 7.5 * (double)longest + 12); /* an estimate: no font is at hand to measure with */
    const double left = 34 + label, top = 84 + 0.75 * label, right = left + edge, bottom = top + edge;
    const double width = fmax(right + 0.75 * label, 420), height = bottom + 24;
    rdp_svg_head(out, &(struct rdp_svg_canvas){width, height, 24, width - 24}, "Confusion matrix", matrix->note);
    rdp_svg_text(out, left, 78, "font-size=\"13\" fill=\"#333333\"", "predicted class");
    fprintf(out, "<g transform=\"translate(20 %.1f) rotate(-90)\">", (top + bottom) / 2);
    rdp_svg_text(out, 0, 0, "text-anchor=\"middle\" font-size=\"13\" fill=\"#333333\"", "true class");
    fputs("</g>\n", out);
    for (int k = 0; k < matrix->classes; k++) {
        fprintf(out, "<g transform=\"translate(%.1f %.1f) rotate(-45)\">", left + side * (k + 0.5) + 4, top - 8);
        rdp_svg_text(out, 0, 0, "font-size=\"12\" fill=\"#333333\"", matrix->names[k]);
        fputs("</g>\n", out);
    }
    for (int row = 0; row < matrix->classes; row++)
        put_row(out, matrix, row, left, top + side * row, side);
    fprintf(out,
            "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"%.1f\" fill=\"none\" stroke=\"#333333\"/>\n</svg>\n",
            left, top, edge, edge);
}

int rdp_plot_confusion(const char *run_dir, const struct rdp_plot_target *target)
{
    char path[4096], *text;
    struct matrix matrix = {0};
    if (snprintf(path, sizeof path, "%s/confusion.csv", run_dir) >= (int)sizeof path)
        return rdp_fail(RDP_EUSAGE, "%s: the path is too long", run_dir);
    if (access(path, F_OK) != 0 && errno == ENOENT)
        return RDP_OK;
    RDP_TRY(rdp_file_read_text(path, BYTES_MAX, &text));
    rdp_plot_run_name(run_dir, matrix.note);
    int status = read_matrix(path, text, &matrix);
    if (status == RDP_OK)
        status = rdp_plot_save(target, "confusion.svg", draw, &matrix);
    free(matrix.counts);
    free(text);
    return status;
}
