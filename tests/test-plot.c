/* plot.h: the SVG files of epochs, steps and classes, for odd but valid metrics, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "plot.h"
#include "plot_svg.h"

#define HEADER "epoch,step,lr,train_loss,train_accuracy,val_loss,val_accuracy,test_loss,test_accuracy\n"

static const char *const svg_names[] = {"loss.svg", "accuracy.svg", "learning-rate.svg"}; /* of metrics.csv */
static const char *const other_names[] = {"loss-steps.svg", "learning-rate-steps.svg", "confusion.svg", "metrics.csv",
                                          "steps.csv", "confusion.csv"};
static char base[64], run[128], other[256];

static int set_up(void **state)
{
    (void)state;
    rdp_fail_clear();
    snprintf(base, sizeof base, "/tmp/rdp-test-plot-XXXXXX");
    if (mkdtemp(base) == NULL)
        return 1;
    snprintf(run, sizeof run, "%s/a<b&\"\xC3\xA9\xFF", base); /* a run's name must not break the document */
    snprintf(other, sizeof other, "%s/plots/deep", base);
    return mkdir(run, 0777);
}

static void remove_files(const char *directory)
{
    char path[512];
    for (int i = 0; i < 3; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, svg_names[i]);
        unlink(path);
    }
    for (size_t i = 0; i < sizeof other_names / sizeof *other_names; i++) {
        snprintf(path, sizeof path, "%s/%s", directory, other_names[i]);
        unlink(path);
    }
    rmdir(directory);
}

static int tear_down(void **state)
{
    char path[512];
    (void)state;
    remove_files(run);
    remove_files(other);
    snprintf(path, sizeof path, "%s/plots", base);
    rmdir(path);
    return rmdir(base);
}

static void write_file(const char *name, const char *text)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", run, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void write_metrics(const char *text)
{
    write_file("metrics.csv", text);
}

/* Every tag is closed, in order, and no text holds what XML forbids. */
static void check_svg(const char *text)
{
    char open_tags[16][32];
    int depth = 0;
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    for (const char *c = strchr(text, '<'); c != NULL; c = strchr(c + 1, '<')) {
        size_t length = strcspn(c + 1, "<>");
        assert_int_equal(c[1 + length], '>');
        if (c[1] == '?')
            continue;
        if (c[1] == '/') {
            assert_true(depth > 0);
            depth--;
            assert_true(strncmp(open_tags[depth], c + 2, length - 1) == 0);
        } else if (c[length] != '/') {
            assert_true(depth < 16);
            snprintf(open_tags[depth++], sizeof open_tags[0], "%.*s", (int)strcspn(c + 1, " >"), c + 1);
        }
    }
    assert_int_equal(depth, 0);
    assert_non_null(strstr(text, "</svg>"));
}

/* The file's text, checked, owned by the caller. */
static char *read_svg(const char *directory, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char *text = calloc(1, 4 << 20);
    assert_non_null(text);
    assert_true(fread(text, 1, (4 << 20) - 1, file) > 0);
    fclose(file);
    check_svg(text);
    return text;
}

static int count(const char *text, const char *part)
{
    int found = 0;
    for (const char *c = text; (c = strstr(c, part)) != NULL; c++)
        found++;
    return found;
}

static void draw(const char *metrics)
{
    write_metrics(metrics);
    if (rdp_plot_run(run, NULL, false) != RDP_OK)
        fail_msg("%s", rdp_fail_message());
}

static void test_three_series(void **state)
{
    (void)state;
    draw(HEADER "1,390,0.1,2.1,0.25,2,0.3,1.9,0.31\n2,780,0.1,1.1,0.65,1.2,0.6,1.3,0.61\n3,1170,0.01,0.5,0.85,0.7,0.8,"
                "0.7,0.9381\n");
    char *loss = read_svg(run, "loss.svg"), *accuracy = read_svg(run, "accuracy.svg"),
         *lr = read_svg(run, "learning-rate.svg");
    assert_int_equal(count(loss, "<polyline"), 3);
    assert_int_equal(count(loss, "<circle"), 9);
    assert_non_null(strstr(loss, ">train</tspan> 0.5000 (min 0.5000)"));
    assert_non_null(strstr(accuracy, ">test</tspan> 93.81 % (best 93.81)"));
    assert_non_null(strstr(accuracy, "a&lt;b&amp;&quot;\xC3\xA9\xEF\xBF\xBD"));
    assert_int_equal(count(lr, "<polyline"), 1);
    assert_non_null(strstr(lr, ">0.10<"));
    free(loss);
    free(accuracy);
    free(lr);
}

static void test_odd_metrics(void **state)
{
    static const char *const cases[] = {
        HEADER "1,390,0.1,2.1,0.25,,,,\n",                              /* one point */
        HEADER "1,,,,,,,,\n",                                           /* no values at all */
        HEADER "1,390,0,0,0,0,0,0,0\n2,390,0,0,0,0,0,0,0\n",            /* zeroes */
        HEADER "1,390,1e-9,1e300,1,,,1e14,1\r\n2,780,1e-12,1e-300,1,,,,\r\n", /* far beyond, CR LF */
        HEADER "1000000,390,0.1,2.1,0.25,,,,",                          /* late, no newline at the end */
        "test_loss,extra,epoch\n0.5,7,1\n0.25,7,1\n",                   /* other columns, the same epoch twice */
        HEADER "0,0,0.1,2.3,0.1,,,,\n1,390,0.1,2.1,0.25,,,,\n",
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        draw(cases[i]);
        for (int f = 0; f < 3; f++)
            free(read_svg(run, svg_names[f]));
    }
    draw(cases[1]);
    char *loss = read_svg(run, "loss.svg");
    assert_non_null(strstr(loss, "no values"));
    free(loss);
}

static void test_many_epochs(void **state)
{
    char *text = calloc(1, 1 << 17), *at = text;
    (void)state;
    assert_non_null(text);
    at += sprintf(at, HEADER);
    for (int epoch = 1; epoch <= 400; epoch++)
        at += sprintf(at, "%d,%d,0.1,%.17g,0.5,,,%s,0.9\n", epoch, epoch * 390, 2.0 / epoch,
                      epoch % 5 == 0 ? "0.7" : "");
    draw(text);
    free(text);
    char *loss = read_svg(run, "loss.svg");
    assert_int_equal(count(loss, "<polyline"), 2);
    assert_true(count(loss, "<text") < 30); /* ticks stay few */
    assert_int_equal(count(loss, "<circle"), 0);
    free(loss);
}

static void test_out_directory(void **state)
{
    (void)state;
    write_metrics(HEADER "1,390,0.1,2.1,0.25,,,1.9,0.31\n");
    assert_int_equal(rdp_plot_run(run, other, false), RDP_OK);
    for (int f = 0; f < 3; f++)
        free(read_svg(other, svg_names[f]));
}

static bool exists(const char *directory, const char *name)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

/* Without a validation set its curve and its legend are absent; with one they are there. */
static void test_validation_curve(void **state)
{
    (void)state;
    draw(HEADER "1,390,0.1,2.1,0.25,,,1.9,0.31\n2,780,0.1,1.1,0.65,,,1.3,0.61\n");
    char *loss = read_svg(run, "loss.svg");
    assert_int_equal(count(loss, "<polyline"), 2);
    assert_null(strstr(loss, "validation"));
    assert_non_null(strstr(loss, ">epoch<"));
    free(loss);
    draw(HEADER "1,390,0.1,2.1,0.25,2,0.3,,\n2,780,0.1,1.1,0.65,1.2,0.6,,\n");
    loss = read_svg(run, "loss.svg");
    assert_non_null(strstr(loss, ">validation</tspan> 1.2000 (min 1.2000)"));
    assert_null(strstr(loss, ">test<"));
    free(loss);
    assert_false(exists(run, "loss-steps.svg") || exists(run, "confusion.svg"));
}

static void test_steps(void **state)
{
    (void)state;
    write_file("steps.csv", "step,lr,loss\n1,0.1,2\n2,0.2,1\n3,0.1,4\n");
    draw(HEADER "1,3,0.1,2.1,0.25,,,1.9,0.31\n");
    char *loss = read_svg(run, "loss-steps.svg"), *lr = read_svg(run, "learning-rate-steps.svg");
    assert_int_equal(count(loss, "<circle"), 3);
    assert_non_null(strstr(loss, ">training steps<"));
    assert_non_null(strstr(loss, ">train</tspan> of each step"));
    assert_non_null(strstr(lr, ">learning rate</tspan>"));
    assert_non_null(strstr(lr, ">0.20<"));
    free(loss);
    free(lr);
}

/* 2,500 steps become 834 points, each the mean of three: a loss that jumps between 0 and 3 every step of three is 1. */
static void test_many_steps(void **state)
{
    char *text = calloc(1, 1 << 17), *at = text;
    (void)state;
    assert_non_null(text);
    at += sprintf(at, "step,lr,loss\n");
    for (int step = 1; step <= 2500; step++)
        at += sprintf(at, "%d,%.17g,%d\n", step, 1e-4 * step, step % 3 == 0 ? 3 : 0);
    write_file("steps.csv", text);
    free(text);
    draw(HEADER "1,2500,0.1,2.1,0.25,,,1.9,0.31\n");
    char *loss = read_svg(run, "loss-steps.svg"), *lr = read_svg(run, "learning-rate-steps.svg");
    const char *points = strstr(loss, "points=\"");
    assert_non_null(points);
    char *numbers = strndup(points, strcspn(points + 8, "\"") + 8);
    assert_int_equal(count(numbers, ","), 834);
    free(numbers);
    assert_non_null(strstr(loss, "mean of every 3 steps"));
    /* 833 means of 1 and the last step's own loss, 0: the axis ends at 1, not at 3. */
    assert_non_null(strstr(loss, ">1.0<"));
    assert_null(strstr(loss, ">3.0<"));
    assert_non_null(strstr(lr, "of every 3 steps' last"));
    free(loss);
    free(lr);
}

static void test_all_into_another_directory(void **state)
{
    (void)state;
    write_metrics(HEADER "1,390,0.1,2.1,0.25,,,1.9,0.31\n");
    write_file("steps.csv", "step,lr,loss\n1,0.1,2\n");
    write_file("confusion.csv", "true/predicted,a,b\na,1,2\nb,3,4\n");
    assert_int_equal(rdp_plot_run(run, other, false), RDP_OK);
    for (int i = 0; i < 3; i++) {
        assert_true(exists(other, other_names[i]));
        assert_false(exists(run, other_names[i]));
        free(read_svg(other, other_names[i]));
    }
    write_file("steps.csv", "step,lr,loss\n1,0.1\n");
    assert_int_equal(rdp_plot_run(run, other, false), RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "steps.csv:2: fewer than the header's 3 columns"));
    rdp_fail_clear();
}

/* A row's sum would leave 64 bits. */
static void test_huge_counts(void **state)
{
    (void)state;
    write_metrics(HEADER "1,390,0.1,2.1,0.25,,,1.9,0.31\n");
    write_file("steps.csv", "step,lr,loss\n1,0.1,2\n");
    write_file("confusion.csv", "true/predicted,a,b\na,9223372036854775807,9223372036854775807\nb,3,4\n");
    assert_int_equal(rdp_plot_run(run, other, false), RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "confusion.csv:2: not a name and 2 counts"));
    rdp_fail_clear();
}

static void test_refusals(void **state)
{
    static const struct { const char *text, *message; } cases[] = {
        {"", "metrics.csv:1: the file is empty"},
        {"a,b\n1,2\n", "metrics.csv:1: the header names no column `epoch`"},
        {HEADER, "no epoch in it yet"},
        {HEADER "1,390,0.1,2.1,0.25,,,,\n2,780,x,1,1,,,,\n", "metrics.csv:3: column 3 is no number: x"},
        {HEADER "1,390,0.1\n", "metrics.csv:2: fewer than the header's 9 columns"},
        {HEADER "1,390,0.1,2.1,0.25,,,,,\n", "metrics.csv:2: more than the header's 9 columns"},
        {HEADER ",390,0.1,2.1,0.25,,,,\n", "metrics.csv:2: the epoch is missing"},
        {HEADER "2,390,0.1,2.1,0.25,,,,\n1,390,0.1,2.1,0.25,,,,\n", "metrics.csv:3: the epoch"},
        {HEADER "1,390,nan,2.1,0.25,,,,\n", "metrics.csv:2: column 3"},
        {HEADER "\n", "metrics.csv:2: fewer"},
    };
    (void)state;
    assert_int_equal(rdp_plot_run(run, NULL, false), RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "No such file"));
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rdp_fail_clear();
        write_metrics(cases[i].text);
        int status = rdp_plot_run(run, NULL, false);
        if (status != RDP_EUSAGE || strstr(rdp_fail_message(), cases[i].message) == NULL)
            fail_msg("case %zu: %s \"%s\" without \"%s\"", i, rdp_status_name(status), rdp_fail_message(),
                     cases[i].message);
    }
    rdp_fail_clear();
}

/* A sweep's: labels in place of an axis, logarithmic distances, a value that is missing. */
static void test_labels(void **state)
{
    static const char *const labels[] = {"0.1", "1", "a<b"};
    static const double x[] = {-1, 0, 1}, y[] = {88, NAN, 91};
    const struct rdp_chart_series series = {"test", "#d55e00", y, ""};
    struct rdp_chart chart = {"A title", "", "lr", "%", 3, x, labels, &series, 1, NAN, 100};
    char *text;
    size_t size;
    (void)state;
    for (chart.points = 0; chart.points <= 3; chart.points++) {
        FILE *out = open_memstream(&text, &size);
        assert_non_null(out);
        rdp_chart_write(out, &chart);
        assert_int_equal(fclose(out), 0);
        check_svg(text);
        assert_int_equal(strstr(text, ">0.1<") != NULL, chart.points > 0);
        assert_int_equal(strstr(text, "no values yet") != NULL, chart.points == 0);
        if (chart.points == 3)
            assert_true(strstr(text, ">a&lt;b<") != NULL && count(text, "<circle") == 2);
        free(text);
    }
}

static void test_bars(void **state)
{
    static const char *const names[] = {"one", "a <name> & that is far too long for the room that there is"};
    static const char *const remarks[] = {"done", "diverged"};
    static const double values[] = {93.81, NAN};
    const struct rdp_bars bars = {"A title", "Test accuracy (%)", 2, names, values, remarks, 100};
    char *text;
    size_t size;
    (void)state;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    rdp_bars_write(out, &bars);
    assert_int_equal(fclose(out), 0);
    check_svg(text);
    assert_int_equal(count(text, "<rect"), 2); /* the ground and one bar */
    assert_true(strstr(text, ">93.81<") != NULL && strstr(text, ">diverged<") != NULL && strstr(text, ">done<") == NULL);
    assert_non_null(strstr(text, "a &lt;name&gt; &amp; that is far too long for th\xE2\x80\xA6<"));
    free(text);
}

int main(void)
{
#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_DIRECTORY(test_three_series), WITH_DIRECTORY(test_odd_metrics), WITH_DIRECTORY(test_many_epochs),
        WITH_DIRECTORY(test_out_directory), WITH_DIRECTORY(test_refusals), WITH_DIRECTORY(test_validation_curve),
        WITH_DIRECTORY(test_steps), WITH_DIRECTORY(test_many_steps), WITH_DIRECTORY(test_all_into_another_directory),
        WITH_DIRECTORY(test_huge_counts), cmocka_unit_test(test_labels), cmocka_unit_test(test_bars),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
