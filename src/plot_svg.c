/* The SVG writer; see plot_svg.h. Lengths are in pixels of a fixed canvas, which viewers scale. */
#include "plot_svg.h"

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "base/text.h"

#define WIDTH      800.0
#define HEIGHT     480.0
#define LEFT       78.0 /* the plot area's edges */
#define RIGHT      776.0
#define TOP        84.0
#define BOTTOM     424.0
#define VALUE_MOST 1e15
enum { MARKERS_MOST = 60, NOTE_BYTES = 60, NAME_BYTES = 38 };

struct axis {
    double low, high, step; /* ticks at the multiples of step */
    int decimals;           /* of a tick's label; -1: in powers of ten */
};

static bool is_drawn(double value)
{
    return isfinite(value) && fabs(value) <= VALUE_MOST;
}

/* 1, 2 or 5 times a power of ten, so that about `intervals` of them make up `span`. */
static double round_step(double span, int intervals)
{
    double raw = span / intervals, power = pow(10, floor(log10(raw))), digit = raw / power;
    return power * (digit <= 1 ? 1 : digit <= 2 ? 2 : digit <= 5 ? 5 : 10);
}

static void set_step(struct axis *axis, double step)
{
    axis->step = step;
    axis->decimals = step < 0.99e-4 || step > 1e6 ? -1 : (int)fmax(0, -floor(log10(step * 1.0001)));
}

static struct axis make_x_axis(const struct rdp_chart *chart)
{
    if (chart->x_labels != NULL && chart->points > 0) {
        double low = chart->x[0], high = chart->x[chart->points - 1], room = high > low ? 0.06 * (high - low) : 1;
        return (struct axis){low - room, high + room, 0, 0};
    }
    double last = chart->points > 0 ? chart->x[chart->points - 1] : 0;
    struct axis axis = {0, last < 2 ? 2 : last, 0, 0};
    set_step(&axis, fmax(1, round_step(axis.high, 10)));
    return axis;
}

/* Ends on ticks, so that the outermost grid lines are the frame. */
static struct axis make_y_axis(const struct rdp_chart *chart)
{
    struct axis axis = {INFINITY, -INFINITY, 0, 0};
    for (int s = 0; s < chart->series_count; s++) {
        for (size_t i = 0; i < chart->points; i++) {
            double y = chart->series[s].y[i];
            if (is_drawn(y)) {
                axis.low = fmin(axis.low, y);
                axis.high = fmax(axis.high, y);
            }
        }
    }
    if (axis.low > axis.high)
        axis.low = axis.high = 0;
    if (!isnan(chart->y_floor))
        axis.low = chart->y_floor;
    if (axis.high - axis.low <= 1e-3 * fabs(axis.high)) { /* as good as one value: put it in the middle */
        double room = axis.high == 0 ? 1 : fabs(axis.high) / 10;
        axis.low -= isnan(chart->y_floor) ? room : 0;
        axis.high += room;
    }
    set_step(&axis, round_step(axis.high - axis.low, 6));
    axis.low = floor(axis.low / axis.step + 1e-9) * axis.step;
    axis.high = ceil(axis.high / axis.step - 1e-9) * axis.step;
    if (axis.high > chart->y_ceiling)
        axis.high = chart->y_ceiling;
    return axis;
}

static double place(const struct axis *axis, double value, double from, double to)
{
    return from + (value - axis->low) / (axis->high - axis->low) * (to - from);
}

static void put_escaped(FILE *out, const char *text, size_t most)
{
    size_t length;
    for (const char *start = text; *text != '\0'; text += length > 0 ? length : 1) {
        length = rdp_utf8_length(text);
        if ((size_t)(text - start) >= most) {
            fputs("\xE2\x80\xA6", out); /* an ellipsis */
            return;
        }
        if (length == 0 || (unsigned char)*text < 0x20 || *text == 0x7F)
            fputs("\xEF\xBF\xBD", out); /* no character that XML could hold */
        else if (*text == '<')
            fputs("&lt;", out);
        else if (*text == '>')
            fputs("&gt;", out);
        else if (*text == '&')
            fputs("&amp;", out);
        else if (*text == '"')
            fputs("&quot;", out);
        else
            fwrite(text, 1, length, out);
    }
}

void rdp_svg_text(FILE *out, double x, double y, const char *attributes, const char *text)
{
    fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" %s>", x, y, attributes);
    put_escaped(out, text, NOTE_BYTES);
    fputs("</text>\n", out);
}

static const char *tick_label(const struct axis *axis, double value, char label[32])
{
    if (fabs(value) < axis->step / 2)
        value = 0; /* not -0 */
    if (axis->decimals < 0)
        snprintf(label, 32, "%.3g", value);
    else
        snprintf(label, 32, "%.*f", axis->decimals, value);
    return label;
}

/* The tick number i of the x-axis, from 0; false if there are no more. */
static bool x_tick(const struct rdp_chart *chart, const struct axis *axis, size_t i, double *value, char label[32])
{
    if (chart->x_labels != NULL) {
        if (i >= chart->points)
            return false;
        *value = chart->x[i];
        snprintf(label, 32, "%s", chart->x_labels[i]);
        return true;
    }
    *value = (ceil(axis->low / axis->step) + (double)i) * axis->step;
    tick_label(axis, *value, label);
    return *value <= axis->high;
}

static void put_axes(FILE *out, const struct rdp_chart *chart, const struct axis *x_axis, const struct axis *y_axis)
{
    char label[32];
    double value;
    fputs("<g stroke=\"#dddddd\" stroke-width=\"1\" shape-rendering=\"crispEdges\">\n", out);
    for (size_t i = 0; x_tick(chart, x_axis, i, &value, label); i++) {
        double x = place(x_axis, value, LEFT, RIGHT);
        fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", x, TOP, x, BOTTOM + 5);
    }
    double last = floor(y_axis->high / y_axis->step + 1e-6);
    for (double tick = ceil(y_axis->low / y_axis->step - 1e-6); tick <= last; tick++) {
        double y = place(y_axis, tick * y_axis->step, BOTTOM, TOP);
        fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\"/>\n", LEFT - 5, y, RIGHT, y);
    }
    fputs("</g>\n<g font-size=\"12\" fill=\"#333333\">\n", out);
    for (size_t i = 0; x_tick(chart, x_axis, i, &value, label); i++)
        rdp_svg_text(out, place(x_axis, value, LEFT, RIGHT), BOTTOM + 20, "text-anchor=\"middle\"", label);
    for (double tick = ceil(y_axis->low / y_axis->step - 1e-6); tick <= last; tick++)
        rdp_svg_text(out, LEFT - 10, place(y_axis, tick * y_axis->step, BOTTOM, TOP) + 4, "text-anchor=\"end\"",
                     tick_label(y_axis, tick * y_axis->step, label));
    rdp_svg_text(out, (LEFT + RIGHT) / 2, BOTTOM + 43, "text-anchor=\"middle\" font-size=\"13\"", chart->x_label);
    fprintf(out, "<g transform=\"translate(20 %.1f) rotate(-90)\">", (TOP + BOTTOM) / 2);
    rdp_svg_text(out, 0, 0, "text-anchor=\"middle\" font-size=\"13\"", chart->y_label);
    fprintf(out,
            "</g>\n</g>\n<path d=\"M%.1f %.1fV%.1fH%.1f\" fill=\"none\" stroke=\"#333333\" "
            "shape-rendering=\"crispEdges\"/>\n",
            LEFT, TOP, BOTTOM, RIGHT);
}

static bool put_series(FILE *out, const struct rdp_chart *chart, const struct rdp_chart_series *series,
                       const struct axis *x_axis, const struct axis *y_axis)
{
    size_t drawn = 0;
    for (size_t i = 0; i < chart->points; i++)
        drawn += is_drawn(series->y[i]);
    if (drawn == 0)
        return false;
    fprintf(out, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" stroke-linejoin=\"round\" points=\"",
            series->colour);
    for (size_t i = 0; i < chart->points; i++)
        if (is_drawn(series->y[i]))
            fprintf(out, "%.2f,%.2f ", place(x_axis, chart->x[i], LEFT, RIGHT),
                    place(y_axis, series->y[i], BOTTOM, TOP));
    fputs("\"/>\n", out);
    for (size_t i = 0; i < chart->points && drawn <= MARKERS_MOST; i++)
        if (is_drawn(series->y[i]))
            fprintf(out, "<circle cx=\"%.2f\" cy=\"%.2f\" r=\"%s\" fill=\"%s\"/>\n",
                    place(x_axis, chart->x[i], LEFT, RIGHT), place(y_axis, series->y[i], BOTTOM, TOP),
                    drawn == 1 ? "4" : "2.6", series->colour);
    return true;
}

/* Returns where the next entry begins: an estimate, as no font is at hand to measure with, on the wide side. */
static double put_legend(FILE *out, const struct rdp_chart_series *series, double x)
{
    fprintf(out, "<line x1=\"%.1f\" y1=\"62\" x2=\"%.1f\" y2=\"62\" stroke=\"%s\" stroke-width=\"3\"/>\n", x, x + 20,
            series->colour);
    fprintf(out, "<text x=\"%.1f\" y=\"66\" font-size=\"12\" fill=\"#333333\"><tspan font-weight=\"bold\">", x + 27);
    put_escaped(out, series->name, NOTE_BYTES);
    fputs("</tspan> ", out);
    put_escaped(out, series->legend, NOTE_BYTES);
    fputs("</text>\n", out);
    return x + 27 + 7.9 * (double)strlen(series->name) + 6.9 * (double)strlen(series->legend) + 18;
}

void rdp_svg_head(FILE *out, const struct rdp_svg_canvas *canvas, const char *title, const char *note)
{
    fprintf(out,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%.0f\" height=\"%.0f\" viewBox=\"0 0 %.0f %.0f\" "
            "font-family=\"'DejaVu Sans', Verdana, Helvetica, Arial, sans-serif\">\n"
            "<rect width=\"100%%\" height=\"100%%\" fill=\"#ffffff\"/>\n",
            canvas->width, canvas->height, canvas->width, canvas->height);
    rdp_svg_text(out, canvas->left, 36, "font-size=\"19\" font-weight=\"bold\" fill=\"#111111\"", title);
    rdp_svg_text(out, canvas->right, 36, "font-size=\"12\" fill=\"#777777\" text-anchor=\"end\"", note);
}

void rdp_chart_write(FILE *out, const struct rdp_chart *chart)
{
    struct axis x_axis = make_x_axis(chart), y_axis = make_y_axis(chart);
    double legend_x = LEFT;
    rdp_svg_head(out, &(struct rdp_svg_canvas){WIDTH, HEIGHT, LEFT, RIGHT}, chart->title, chart->note);
    put_axes(out, chart, &x_axis, &y_axis);
    for (int s = 0; s < chart->series_count; s++)
        if (put_series(out, chart, &chart->series[s], &x_axis, &y_axis))
            legend_x = put_legend(out, &chart->series[s], legend_x);
    if (legend_x == LEFT)
        rdp_svg_text(out, (LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2,
                     "font-size=\"14\" fill=\"#777777\" text-anchor=\"middle\"", "no values yet");
    fputs("</svg>\n", out);
}

void rdp_bars_write(FILE *out, const struct rdp_bars *bars)
{
    const double top = 62, row = 26, left = 300, right = RIGHT - 60, bottom = top + row * (double)bars->count + 8;
    struct axis axis = {0, bars->most, 0, 0};
    char label[32];
    set_step(&axis, round_step(bars->most, 5));
    rdp_svg_head(out, &(struct rdp_svg_canvas){WIDTH, bottom + 56, LEFT, RIGHT}, bars->title, "");
    fputs("<g font-size=\"12\" fill=\"#333333\">\n", out);
    for (double tick = 0; tick * axis.step <= axis.high; tick++) {
        double x = place(&axis, tick * axis.step, left, right);
        fprintf(out, "<line x1=\"%.1f\" y1=\"%.1f\" x2=\"%.1f\" y2=\"%.1f\" stroke=\"#dddddd\"/>\n", x, top, x, bottom);
        rdp_svg_text(out, x, bottom + 18, "text-anchor=\"middle\"", tick_label(&axis, tick * axis.step, label));
    }
    rdp_svg_text(out, (left + right) / 2, bottom + 40, "text-anchor=\"middle\" font-size=\"13\"", bars->x_label);
    for (size_t i = 0; i < bars->count; i++) {
        const double y = top + row * (double)i + 8, value = bars->values[i];
        fprintf(out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">", left - 10, y + 13);
        put_escaped(out, bars->names[i], NAME_BYTES);
        fputs("</text>\n", out);
        if (!is_drawn(value)) {
            rdp_svg_text(out, left + 6, y + 13, "font-style=\"italic\"", bars->remarks[i]);
            continue;
        }
        const double end = place(&axis, value, left, right);
        fprintf(out, "<rect x=\"%.1f\" y=\"%.1f\" width=\"%.2f\" height=\"%.1f\" fill=\"#0072b2\"/>\n", left, y,
                end - left, row - 8);
        snprintf(label, sizeof label, "%.2f", value);
        rdp_svg_text(out, end + 6, y + 13, "", label);
    }
    fputs("</g>\n</svg>\n", out);
}
