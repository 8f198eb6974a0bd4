/* class_tables.h and plot_confusion.h: the two tables to the byte, the heat map that is drawn from one of them, awkward
 * names, and what is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "class_tables.h"
#include "plot_confusion.h"

static char directory[64];

static int set_up(void **state)
{
    (void)state;
    rdp_fail_clear();
    snprintf(directory, sizeof directory, "/tmp/rdp-test-classes-XXXXXX");
    return mkdtemp(directory) == NULL;
}

static void path_of(char path[256], const char *name)
{
    snprintf(path, 256, "%s/%s", directory, name);
}

static int tear_down(void **state)
{
    static const char *const names[] = {"classes.csv", "confusion.csv", "confusion.svg"};
    char path[256];
    (void)state;
    for (int i = 0; i < 3; i++) {
        path_of(path, names[i]);
        unlink(path);
    }
    return rmdir(directory);
}

/* The file's text, owned by the caller. */
static char *read_back(const char *name)
{
    char path[256], *text = calloc(1, 1 << 20);
    path_of(path, name);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    assert_non_null(text);
    assert_true(fread(text, 1, (1 << 20) - 1, file) < (1 << 20) - 1);
    fclose(file);
    return text;
}

static void write_text(const char *text)
{
    char path[256];
    path_of(path, "confusion.csv");
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static int count(const char *text, const char *part)
{
    int found = 0;
    for (const char *c = text; (c = strstr(c, part)) != NULL; c++)
        found++;
    return found;
}

static int plot(void)
{
    return rdp_plot_confusion(directory, &(struct rdp_plot_target){directory, false});
}

static int64_t counts[] = {8, 1, 1, 0, 0, 0, 2, 3, 9};

static void write_tables(void)
{
    const struct rdp_evaluation evaluation = {.count = 24, .correct = 17, .classes = 3, .confusion = counts};
    static const struct rdp_dataset_info info = {.classes = 3, .class_names = {"cat", "say \"dog\", please", "a<b\n"}};
    if (rdp_class_tables_write(directory, &evaluation, &info) != RDP_OK)
        fail_msg("%s", rdp_fail_message());
}

static void test_tables(void **state)
{
    (void)state;
    write_tables();
    char *classes = read_back("classes.csv"), *confusion = read_back("confusion.csv");
    assert_string_equal(classes, "class,correct,of,accuracy\ncat,8,10,0.8\n\"say \"\"dog\"\", please\",0,0,\n"
                                 "a<b ,9,14,0.6428571428571429\n");
    assert_string_equal(confusion, "true/predicted,cat,\"say \"\"dog\"\", please\",a<b \ncat,8,1,1\n"
                                   "\"say \"\"dog\"\", please\",0,0,0\na<b ,2,3,9\n");
    free(classes);
    free(confusion);
}

static void test_missing_directory(void **state)
{
    const struct rdp_evaluation evaluation = {.classes = 3, .confusion = counts};
    static const struct rdp_dataset_info info = {.classes = 3};
    (void)state;
    assert_int_equal(rdp_class_tables_write("/nonexistent/run", &evaluation, &info), RDP_EIO);
    assert_non_null(strstr(rdp_fail_message(), "/nonexistent/run/classes.csv"));
    rdp_fail_clear();
}

static void test_heat_map(void **state)
{
    (void)state;
    assert_int_equal(plot(), RDP_OK); /* no table, no drawing */
    write_tables();
    assert_int_equal(plot(), RDP_OK);
    char *svg = read_back("confusion.svg");
    assert_int_equal(count(svg, "<rect"), 1 + 9 + 1); /* ground, cells, frame */
    assert_int_equal(count(svg, ">say &quot;dog&quot;, please<"), 2);
    assert_int_equal(count(svg, "a&lt;b <"), 2);
    assert_int_equal(count(svg, ">8<"), 1);
    assert_int_equal(count(svg, ">0<"), 3);
    assert_int_equal(count(svg, "#ffffff\"/>"), 4); /* the empty row, and the ground */
    assert_int_equal(count(svg, "<text"), count(svg, "</text>"));
    assert_int_equal(count(svg, "<g "), count(svg, "</g>"));
    assert_non_null(strstr(svg, "</svg>\n"));
    free(svg);
}

/* Many classes: cells without numbers. */
static void test_many_classes(void **state)
{
    char *text = NULL;
    size_t size;
    (void)state;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    fputs("true/predicted", out);
    for (int k = 0; k < 40; k++)
        fprintf(out, ",class %d", k);
    for (int k = 0; k < 40; k++) {
        fprintf(out, "\nclass %d", k);
        for (int j = 0; j < 40; j++)
            fprintf(out, ",%d", j == k ? 777 : 0);
    }
    fputs("\n", out);
    assert_int_equal(fclose(out), 0);
    write_text(text);
    free(text);
    assert_int_equal(plot(), RDP_OK);
    char *svg = read_back("confusion.svg");
    assert_int_equal(count(svg, "<rect"), 40 * 40 + 2);
    assert_null(strstr(svg, ">777<"));
    free(svg);
}

static void test_refusals(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "confusion.csv:1: the header names no classes"},
        {"x\n", "confusion.csv:1: the header names no classes"},
        {"x,a,b\na,1,2\n", "confusion.csv:3: not a name and 2 counts"},
        {"x,a,b\na,1,2\nb,1\n", "confusion.csv:3: not a name and 2 counts"},
        {"x,a,b\na,1,2,3\nb,1,2\n", "confusion.csv:2: not a name and 2 counts"},
        {"x,a,b\na,1,z\nb,1,2\n", "confusion.csv:2: not a name and 2 counts"},
        {"x,a,b\na,1,2\nb,1,-2\n", "confusion.csv:3: not a name and 2 counts"},
        {"x,a\na,1\nb,1\n", "confusion.csv:3: more rows than classes"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        rdp_fail_clear();
        write_text(cases[i].text);
        int status = plot();
        if (status != RDP_EUSAGE || strstr(rdp_fail_message(), cases[i].message) == NULL)
            fail_msg("case %zu: %s \"%s\" without \"%s\"", i, rdp_status_name(status), rdp_fail_message(),
                     cases[i].message);
    }
    rdp_fail_clear();
    write_text("x,\"a\n\"a,1\na,1\n"); /* a quote that is not closed ends with its line */
    assert_int_equal(plot(), RDP_EUSAGE);
    rdp_fail_clear();
}

int main(void)
{
#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_DIRECTORY(test_tables),       WITH_DIRECTORY(test_missing_directory), WITH_DIRECTORY(test_heat_map),
        WITH_DIRECTORY(test_many_classes), WITH_DIRECTORY(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
