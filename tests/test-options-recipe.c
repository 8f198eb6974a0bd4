/* Recipes: INI texts and files, what is refused in them, the round trip of all options through text, those we ship. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <glob.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "options.h"
#include "options_table.h"
#include "support_options.h"

static void read_refused(const char *text, const char *part)
{
    struct rdp_options options;
    rdp_options_default(&options);
    rdp_fail_clear();
    int status = rdp_options_read_text(&options, text, "x.ini");
    if (status != RDP_EUSAGE || strstr(rdp_fail_message(), part) == NULL)
        fail_msg("the recipe \"%s\" gave %s \"%s\" without \"%s\"", text, rdp_status_name(status), rdp_fail_message(),
                 part);
    rdp_fail_clear();
}

static void test_recipe_text(void **state)
{
    struct rdp_options options;
    char text[512];
    (void)state;
    rdp_options_default(&options);
    assert_int_equal(
        rdp_options_read_text(&options,
                              "; a comment\n# another\n\n[model]\nstem-width = 16 ; inline\r\nblocks = 2, 3\n"
                              "[any name]\noverlap=no\n lr: 0.25\nwidths = 8,16",
                              "x.ini"),
        RDP_EUSAGE); /* an indented number */
    assert_non_null(strstr(rdp_fail_message(), "x.ini:9: `lr: 0.25` begins with a blank"));
    rdp_fail_clear();
    rdp_options_default(&options);
    assert_int_equal(
        rdp_options_read_text(&options,
                              "; a comment\n# another\n\n[model]\nstem-width = 16 ; inline\r\nblocks = 2, 3\n"
                              "[any name]\noverlap=no\nlr: 0.25\nwidths = 8,16\ndata = /a/b\n    c/d.h5",
                              "x.ini"),
        RDP_OK);
    assert_int_equal(options.stem_width, 16);
    assert_int_equal(options.blocks.values[1], 3);
    assert_false(options.overlap);
    assert_true(options.lr == 0.25);
    assert_int_equal(options.widths.count, 2);
    assert_string_equal(options.data, "/a/bc/d.h5");

    read_refused("[sweep]\nrecipe = quick\n", "x.ini:1: [sweep]: this is a sweep's file, not a recipe");
    read_refused("top = 3\n", "x.ini:1: top: no option of training");
    read_refused("lr = 0.1\nbatc = 3\n", "x.ini:2: batc: no such option; did you mean batch?");
    read_refused("lr = 0.1\n\nbatch = 0\n", "x.ini:3: batch = 0: must be a whole number from 1 to 1048576");
    read_refused("lr = 0.1\nlr = 0.2\n", "x.ini:2: lr is set a second time, first in line 1");
    read_refused("nonsense\nbatch = 0\n", "x.ini:1: neither");
    read_refused("batch = 0\nnonsense\n", "x.ini:1: batch = 0");
    read_refused("[model\nbatch = 1\n", "x.ini:1: neither");
    read_refused("force = yes\n", "not for recipes");
    read_refused("recipe = other.ini\n", "not for recipes");
    read_refused("lr =\n", "x.ini:1: lr = : must be a number");
    memset(text, 'x', sizeof text);
    memcpy(text, "lr = 0.1\ndata = ", 16);
    text[500] = '\0';
    read_refused(text, "x.ini:2: the line is 491 bytes long");
}

static void write_file(char *path, size_t size, const char *directory, const void *bytes, size_t count)
{
    snprintf(path, size, "%s/recipe.ini", directory);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, count, file), count);
    assert_int_equal(fclose(file), 0);
}

static void test_recipe_file(void **state)
{
    static const char text[] = "\xEF\xBB\xBFlr = 0.3\nbatch = 64\n", binary[] = "lr = 0.3\n\0\n";
    char directory[] = "/tmp/rdp-test-options-XXXXXX", path[256], line[512];
    struct rdp_options options;
    (void)state;
    assert_non_null(mkdtemp(directory));
    write_file(path, sizeof path, directory, text, sizeof text - 1);
    snprintf(line, sizeof line, "--batch 32 --recipe %s",
             path); /* the command line wins, wherever it names the recipe */
    assert_int_equal(rdp_test_parse(&options, RDP_CMD_TRAIN, line), RDP_OK);
    assert_int_equal(options.batch, 32);
    assert_true(options.lr == 0.3);
    assert_string_equal(options.recipe, path);
    assert_int_equal(rdp_test_parse(&options, RDP_CMD_BENCH, line), RDP_OK);
    write_file(path, sizeof path, directory, binary, sizeof binary - 1);
    rdp_test_refused(RDP_CMD_TRAIN, line, "not a text file", path);
    write_file(path, sizeof path, directory, "\n\nlr = x\n", 9);
    rdp_test_refused(RDP_CMD_TRAIN, line, "recipe.ini:3: lr = x", "");
    snprintf(line, sizeof line, "--recipe %s", directory);
    rdp_test_refused(RDP_CMD_TRAIN, line, directory, "");
    unlink(path);
    rmdir(directory);
}

static uint64_t next_random(uint64_t *bits)
{
    *bits ^= *bits << 13;
    *bits ^= *bits >> 7;
    *bits ^= *bits << 17;
    return *bits;
}

/* An odd but valid value of the option: numbers with all their bits in use, long names. */
static void set_random(const struct rdp_option *option, struct rdp_options *options, uint64_t *bits)
{
    char *field = (char *)options + option->offset;
    struct rdp_int_list *list = (struct rdp_int_list *)field;
    struct rdp_real_list *reals = (struct rdp_real_list *)field;
    double unit = (double)(next_random(bits) >> 11) / 9007199254740992.0;
    double most = isinf(option->max) ? 9e18 : option->max, value = option->min + (most - option->min) * unit;
    int choices = 1;
    size_t length = 1 + next_random(bits) % (RDP_PATH_MAX - 2);
    switch (option->type) {
    case RDP_OPTION_YES_NO:
        *(bool *)field = unit < 0.5;
        break;
    case RDP_OPTION_CHOICE:
        for (const char *c = option->values; *c != '\0'; c++)
            choices += *c == '|';
        *(int *)field = (int)(unit * choices);
        break;
    case RDP_OPTION_INTEGER:
        *(int *)field = (int)value;
        break;
    case RDP_OPTION_INTEGER64:
        *(int64_t *)field = (int64_t)value;
        break;
    case RDP_OPTION_REAL:
        *(double *)field = value > option->min ? value : most / 3;
        break;
    case RDP_OPTION_LIST:
        memset(list, 0, sizeof *list);
        list->count = 1 + (int)(unit * 7.9);
        for (int i = 0; i < list->count; i++)
            list->values[i] = (int)option->min + (int)(next_random(bits) % (uint64_t)(option->max - option->min));
        break;
    case RDP_OPTION_REALS:
        memset(reals, 0, sizeof *reals);
        reals->count = 1 + (int)(unit * 7.9);
        for (int i = 0; i < reals->count; i++)
            reals->values[i] =
                option->min + (option->max - option->min) * (double)(i + 1) / 16; /* short: a list is one line */
        break;
    case RDP_OPTION_TEXT:
        memset(field, 0, RDP_PATH_MAX);
        for (size_t i = 0; i < length; i++)
            field[i] = "abcdefgh/._=:#[]\"'\\% \xC3;-"[next_random(bits) % 24];
        for (size_t i = 0; i < length; i++) /* what the parser refuses */
            if ((field[i] == ' ' && (i == 0 || i + 1 == length)) ||
                (field[i] == ';' && (i == 0 || field[i - 1] == ' ')))
                field[i] = 'x';
        break;
    }
}

static void test_round_trip(void **state)
{
    uint64_t bits = 88172645463325252u;
    (void)state;
    for (int trial = 0; trial < 300; trial++) {
        static struct rdp_options options, back;
        char *text;
        rdp_options_default(&options);
        rdp_options_default(&back);
        for (size_t i = 0; i < rdp_option_count; i++)
            if (rdp_option_in_recipe(&rdp_option_rows[i]))
                set_random(&rdp_option_rows[i], &options, &bits);
        assert_int_equal(rdp_options_to_text(&options, &text), RDP_OK);
        if (rdp_options_read_text(&back, text, "round trip") != RDP_OK)
            fail_msg("%s in:\n%s", rdp_fail_message(), text);
        for (size_t i = 0; i < rdp_option_count; i++) {
            char ours[RDP_OPTION_TEXT_MAX], theirs[RDP_OPTION_TEXT_MAX];
            assert_string_equal(rdp_option_format(&rdp_option_rows[i], &back, theirs),
                                rdp_option_format(&rdp_option_rows[i], &options, ours));
        }
        assert_memory_equal(&back, &options, sizeof options); /* bit for bit */
        free(text);
    }
}

/* Every recipe of jobs/recipes serves all commands that take one. */
static void test_shipped_recipes(void **state)
{
    static const int commands[] = {RDP_CMD_TRAIN, RDP_CMD_SUMMARY, RDP_CMD_BENCH};
    const char *source = getenv("SOURCE_DIR");
    char pattern[1024], line[1200];
    struct rdp_options options;
    glob_t found;
    (void)state;
    if (source == NULL)
        skip();
    snprintf(pattern, sizeof pattern, "%s/jobs/recipes/*.ini", source);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_true(found.gl_pathc >= 13);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        for (size_t c = 0; c < sizeof commands / sizeof commands[0]; c++) {
            snprintf(line, sizeof line, "--recipe %.1100s", found.gl_pathv[i]);
            if (rdp_test_parse(&options, commands[c], line) != RDP_OK)
                fail_msg("%s", rdp_fail_message());
        }
    }
    globfree(&found);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recipe_text),
        cmocka_unit_test(test_recipe_file),
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_shipped_recipes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
