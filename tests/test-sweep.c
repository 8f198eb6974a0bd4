/* sweep.h: which cases come of a file, --vary and the command line, what is refused and in which words, where a case
 * stands by its run directory, and the tables. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <ftw.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/status.h"
#include "sweep.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static char base[64];

static int set_up(void **state)
{
    (void)state;
    rdp_fail_clear();
    snprintf(base, sizeof base, "/tmp/rdp-test-sweep-XXXXXX");
    return mkdtemp(base) == NULL || chdir(base) != 0;
}

static int remove_one(const char *path, const struct stat *facts, int kind, struct FTW *where)
{
    (void)facts, (void)kind, (void)where;
    return remove(path);
}

static int tear_down(void **state)
{
    (void)state;
    return chdir("/") != 0 || nftw(base, remove_one, 8, FTW_DEPTH | FTW_PHYS) != 0;
}

static void write_file(const char *path, const char *text)
{
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

/* From words in one text, separated by |; `|` within a word is written as !. */
static int make(struct rdp_sweep **sweep, const char *line)
{
    static char copy[2048], *words[32];
    struct rdp_options options;
    int count = 1;
    words[0] = (char *)"sweep";
    snprintf(copy, sizeof copy, "%s", line);
    for (char *rest = copy, *word; (word = strsep(&rest, "|")) != NULL; count++) {
        for (char *c = word; *c != '\0'; c++)
            *c = *c == '!' ? '|' : *c;
        words[count] = word;
    }
    words[count] = NULL;
    rdp_fail_clear();
    *sweep = NULL;
    int status = rdp_options_parse(&options, RDP_CMD_SWEEP, "sweep", count, words);
    return status == RDP_OK ? rdp_sweep_make(sweep, &options) : status;
}

static struct rdp_sweep *made(const char *line)
{
    struct rdp_sweep *sweep;
    if (make(&sweep, line) != RDP_OK)
        fail_msg("%s: %s", line, rdp_fail_message());
    return sweep;
}

static void assert_refused(const char *line, const char *part1, const char *part2)
{
    struct rdp_sweep *sweep;
    int status = make(&sweep, line);
    const char *message = rdp_fail_message();
    if (status != RDP_EUSAGE || strstr(message, part1) == NULL || strstr(message, part2) == NULL)
        fail_msg("\"%s\" gave %s \"%s\" without \"%s\" and \"%s\"", line, rdp_status_name(status), message, part1,
                 part2);
    assert_null(sweep);
    rdp_fail_clear();
}

static void test_vary(void **state)
{
    static const char *const names[] = {"lr=0.1 batch=64", "lr=0.1 batch=128", "lr=0.3 batch=64", "lr=0.3 batch=128"};
    (void)state;
    struct rdp_sweep *sweep = made("--vary|lr=0.1, 3e-1; batch=64,128|--epochs|3");
    assert_int_equal(sweep->count, 4);
    assert_false(sweep->named);
    assert_string_equal(sweep->directory, "runs/sweep-resnet-lr-batch");
    assert_int_equal(sweep->varied_count, 2);
    assert_string_equal(sweep->varied[0]->name, "lr");
    for (int i = 0; i < 4; i++) {
        const struct rdp_options *options = &sweep->cases[i].options;
        assert_string_equal(sweep->cases[i].name, names[i]);
        assert_true(options->lr == (i < 2 ? 0.1 : 0.3));
        assert_int_equal(options->batch, i % 2 == 0 ? 64 : 128);
        assert_int_equal(options->epochs, 3);
        assert_true(options->momentum == 0.9); /* no "auto" is left */
    }
    assert_string_equal(sweep->cases[3].options.run_dir, "runs/sweep-resnet-lr-batch/lr=0.3_batch=128");
    rdp_sweep_destroy(sweep);
    sweep = made("--vary|blocks=1,1!2,2;dropout=0.1!0.2,0.3|--widths|16,32|--run-dir|here");
    assert_int_equal(sweep->count, 4);
    assert_int_equal(sweep->cases[2].options.blocks.values[1], 2);
    assert_int_equal(sweep->cases[3].options.dropout.count, 2);
    assert_string_equal(sweep->cases[3].options.run_dir, "here/blocks=2,2_dropout=0.2,0.3");
    rdp_sweep_destroy(sweep);
    sweep = made("--vary|optimizer=sgd,adam"); /* what is automatic is resolved per case */
    assert_true(sweep->cases[0].options.lr == 0.1 && sweep->cases[1].options.lr == 0.001);
    rdp_sweep_destroy(sweep);
}

static void test_file(void **state)
{
    (void)state;
    assert_int_equal(mkdir("recipes", 0777), 0);
    assert_int_equal(mkdir("sweeps", 0777), 0);
    write_file("recipes/r.ini", "lr = 0.7\nbatch = 10\nseed = 10\nepochs = 10\nkeep = 10\n");
    write_file("sweeps/s.ini",
               "\xEF\xBB\xBF[sweep]\ntitle = Of things ; remark\nrecipe = ../recipes/r.ini\nbatch = 20\n"
               "seed = 20\nepochs = 20\n\n[base]\n[a/b: c]\nseed = 30\nepochs = 30\nlr = auto\n"
               "optimizer = adam\n[wide]\nwidths = 64,128,256,1024\n");
    struct rdp_sweep *sweep = made("sweeps/s.ini|--keep|40");
    assert_int_equal(sweep->count, 3);
    assert_true(sweep->named);
    assert_string_equal(sweep->title, "Of things");
    assert_string_equal(sweep->directory, "runs/sweep-s");
    assert_string_equal(sweep->cases[0].name, "base");
    const struct rdp_options *one = &sweep->cases[0].options, *two = &sweep->cases[1].options;
    assert_true(one->lr == 0.7 && one->batch == 20 && one->seed == 20 && one->epochs == 20 && one->keep == 40);
    assert_true(two->lr == 0.001 && two->batch == 20 && two->seed == 30 && two->epochs == 30 && two->keep == 40);
    assert_string_equal(one->recipe, "sweeps/../recipes/r.ini");
    assert_string_equal(two->run_dir, "runs/sweep-s/a_b__c");
    assert_int_equal(sweep->varied_count, 5); /* in the table's order */
    assert_string_equal(sweep->varied[0]->name, "widths");
    assert_string_equal(sweep->varied[4]->name, "lr");
    rdp_sweep_destroy(sweep);

    write_file("other.ini", "batch = 50\n");
    sweep = made("sweeps/s.ini|--recipe|other.ini|--vary|weight-decay=0.5,0.6|--title|Both");
    assert_int_equal(sweep->count, 6);
    assert_string_equal(sweep->title, "Both");
    assert_string_equal(sweep->cases[3].name, "a/b: c weight-decay=0.6");
    assert_true(sweep->cases[0].options.lr == 0.1 && sweep->cases[0].options.batch == 20);
    assert_true(sweep->cases[3].options.weight_decay == 0.6);
    rdp_sweep_destroy(sweep);

    write_file("v.ini", "[sweep]\nvary = lr=0.1,0.2\nvary-nothing = 1\n");
    assert_refused("v.ini", "v.ini:3: vary-nothing: no such option", "");
    write_file("v.ini", "[sweep]\nvary = lr=0.1,0.2;batch=8,16\n");
    sweep = made("v.ini|--vary|seed=1,2,3;lr=0.5"); /* the command line's list replaces the file's */
    assert_int_equal(sweep->count, 6);
    assert_string_equal(sweep->cases[5].name, "lr=0.5 batch=16 seed=3");
    assert_string_equal(sweep->directory, "runs/sweep-v-lr-batch-seed");
    rdp_sweep_destroy(sweep);
}

static void test_refused_vary(void **state)
{
    (void)state;
    assert_refused("--epochs|3", "the sweep has no cases", "--vary");
    assert_refused("--vary|; ", "the sweep has no cases", "");
    assert_refused("--vary|lr", "`lr` is not NAME=VALUE", "");
    assert_refused("--vary|momentm=0.1,0.2", "--vary momentm: no such option; did you mean momentum?", "");
    assert_refused("--vary|lr=0.1,zero", "--vary lr=zero: must be a number", "");
    assert_refused("--vary|lr=0.1,", "--vary lr=: must be a number", "");
    assert_refused("--vary|optimizer=sdg", "did you mean sgd?", "");
    assert_refused("--optimizer|adam|--vary|momentum=0.8,0.9",
                   "--vary momentum: in the case momentum=0.8 it does nothing", "--optimizer sgd");
    assert_refused("--vary|run-dir=a,b", "--vary run-dir: cannot differ", "");
    assert_refused("--vary|resume=a,b", "cannot differ", "");
    assert_refused("--vary|force=yes,no", "cannot differ", "");
    assert_refused("--vary|lr=0.1;lr=0.2", "lr stands there twice", "");
    assert_refused("--vary|lr=0.1,0.10", "`lr=0.1` and `lr=0.1` have the same options", "");
    assert_refused("--vary|dropout=0.1,0.2", "separate values by |, as in dropout=0|0.1,0.2", "");
    assert_refused("--vary|lr=0.1,0.2|--lr|0.3", "--lr: the cases of the sweep vary it", "");
    assert_refused("--vary|lr=0.1,0.2|--resume|auto", "--resume: no option of sweep, but of train", "");
    assert_refused("--vary|batch=16,20|--accumulate|8", "case batch=20: --batch 20 is not a multiple of --accumulate 8",
                   "");
    assert_refused("--vary|seed=1,2|--recipe|none.ini", "case seed=1: recipe none.ini", "No such file");
    assert_refused("a.ini|b.ini", "b.ini: one word too many", "");
}

static void test_refused_files(void **state)
{
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "x.ini: has no cases"},
        {"[sweep]\nlr = 0.1\n", "x.ini: has no cases"},
        {"lr = 0.1\n[a]\n", "x.ini:1: lr stands before the first section"},
        {"[sweep]\nlrr = 0.1\n[a]\n", "x.ini:2: lrr: no such option; did you mean lr?"},
        {"[a]\nlr = x\n", "x.ini:2: lr = x: must be a number"},
        {"[a]\n\nlr = 1\nlr = 2\n", "x.ini:4: lr is set a second time, first in line 3"},
        {"[a]\nlr = 1\n[b]\nlr = 2\n[a]\nlr = 3\n", "x.ini:5: [a]: the case stands there already, in line 1"},
        {"[a]\n[sweep]\n[sweep]\n", "x.ini:3: [sweep]: stands there already, in line 2"},
        {"[a]\nlr = 1\n[]\n", "x.ini:3: []: a case needs a name"},
        {"[a]\ntitle = x\n", "x.ini:2: title: not for this section"},
        {"[sweep]\nrun-dir = x\n", "x.ini:2: run-dir: not for this section"},
        {"[sweep]\nforce = yes\n", "x.ini:2: force: not for this section"},
        {"[a]\nresume = auto\n", "x.ini:2: resume: not for this section"},
        {"[a\nlr = 1\n", "x.ini:1: neither"},
        {"[a]\nnonsense\n", "x.ini:2: neither"},
        {"[a]\nlr = 1\n[b]\nlr = 1.0\n", "the cases `a` and `b` have the same options"},
        {"[a]\nlr = 0.1\n[b]\n", "the cases `a` and `b` have the same options"}, /* one says the default */
        {"[files]\nrun-dir = x\n[model]\nblocks = 2\n", "x.ini is a recipe"},
        {"[a b]\nlr = 1\n[a_b]\nlr = 2\n", "`a b` and `a_b` would both be run in runs/sweep-x/a_b"},
        {"[a]\nblocks = 1\n", "case a: --blocks has 1 stages, --widths has 4"},
        {"[a]\nrecipe = none.ini\n", "case a: recipe none.ini: cannot open it"},
        {"[sweep]\nvary = recipe=a,b\n", "section of its own"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(cases); i++) {
        write_file("x.ini", cases[i].text);
        assert_refused("x.ini", cases[i].message, "");
    }
    assert_refused("none.ini", "none.ini", "No such file");
    write_file("x.ini", "[a]\nlr = 1\n[b]\n");
    assert_refused("x.ini|--lr|2", "--lr: the cases of the sweep vary it", "");
    write_file("x.ini", "[model]\nblocks = 1\nwidths = 8\n[training]\nepochs = 2\n");
    assert_refused("x.ini", "x.ini is a recipe, not a sweep's file", "--recipe x.ini --vary");
}

/* What train leaves of a finished run, but for the data set. */
static void leave_run(const struct rdp_sweep_case *one, const char *summary)
{
    char path[RDP_PATH_MAX + 32], *text;
    assert_int_equal(rdp_options_to_text(&one->options, &text), RDP_OK);
    mkdir("run", 0777);
    assert_int_equal(mkdir(one->options.run_dir, 0777), 0);
    snprintf(path, sizeof path, "%s/recipe.ini", one->options.run_dir);
    write_file(path, text);
    free(text);
    snprintf(path, sizeof path, "%s/summary.json", one->options.run_dir);
    if (summary != NULL)
        write_file(path, summary);
}

static void test_look(void **state)
{
    (void)state;
    struct rdp_sweep *sweep = made("--vary|lr=0.1,0.2,0.3|--run-dir|run|--epochs|5"), *other;
    for (int i = 0; i < 3; i++) {
        assert_int_equal(rdp_sweep_look(&sweep->cases[i], false), RDP_OK);
        assert_int_equal(sweep->cases[i].state, RDP_CASE_WAITING);
        leave_run(&sweep->cases[i], i == 0   ? NULL
                                    : i == 1 ? "{\n  \"epochs\": 5\n}\n"
                                             : "{\n  \"state\": \"done\"\n}\n");
    }
    assert_int_equal(rdp_sweep_look(&sweep->cases[0], false), RDP_OK);
    assert_int_equal(sweep->cases[0].state, RDP_CASE_STOPPED);
    assert_int_equal(rdp_sweep_look(&sweep->cases[1], false), RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(), "case lr=0.2: run/lr=0.2/summary.json does not say"));
    rdp_fail_clear();
    assert_int_equal(rdp_sweep_look(&sweep->cases[2], false), RDP_EUSAGE); /* there is no data set here */
    rdp_fail_clear();

    /* How it is run may change, what comes out of it may not. */
    other = made("--vary|lr=0.1,0.2,0.3|--run-dir|run|--epochs|5|--threads|3|--keep|7|--data|elsewhere.h5");
    assert_int_equal(rdp_sweep_look(&other->cases[0], false), RDP_OK);
    assert_int_equal(other->cases[0].state, RDP_CASE_STOPPED);
    rdp_sweep_destroy(other);
    other = made("--vary|lr=0.1,0.2,0.3|--run-dir|run|--epochs|6|--momentum|0.8|--max-steps|3");
    assert_int_equal(rdp_sweep_look(&other->cases[0], false), RDP_EUSAGE);
    assert_non_null(strstr(rdp_fail_message(),
                           "case lr=0.1: run/lr=0.1 holds a run with other values of momentum, epochs, max-steps;"));
    assert_non_null(strstr(rdp_fail_message(), "--force"));
    rdp_fail_clear();
    assert_int_equal(rdp_sweep_look(&other->cases[0], true), RDP_OK);
    assert_true(other->cases[0].anew && other->cases[0].state == RDP_CASE_WAITING);
    rdp_sweep_destroy(other);
    rdp_sweep_destroy(sweep);
}

static void assert_file(const char *path, const char *text)
{
    char buffer[8192] = "";
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    fread(buffer, 1, sizeof buffer - 1, file);
    fclose(file);
    assert_string_equal(buffer, text);
}

static void test_tables(void **state)
{
    (void)state;
    write_file("t.ini", "[sweep]\ntitle = A, \"B\"\n[one, two]\nblocks = 1,1,1,1\n[three]\nblocks = 2,1,1,1\nlr = "
                        "0.5\n[x]\nseed = 9\n");
    struct rdp_sweep *sweep = made("t.ini|--run-dir|deep/run");
    for (int i = 0; i < 3; i++)
        sweep->cases[i].result = (struct rdp_case_result){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN};
    sweep->cases[0].state = RDP_CASE_DONE;
    sweep->cases[0].result = (struct rdp_case_result){10, 3900, 0.25, 0.96875, NAN, NAN, NAN, 0.5, 0.9381, 1234.5, 75};
    sweep->cases[1].state = RDP_CASE_DIVERGED;
    sweep->cases[1].result.epochs = 2;
    sweep->cases[2].state = RDP_CASE_WAITING;
    assert_int_equal(rdp_sweep_write(sweep), RDP_OK);
    assert_file("deep/run/sweep.txt",
                "A, \"B\"\n\n"
                "case       blocks  seed   lr  epochs  train loss  train acc %  test acc %  images/s  time  state\n"
                "one, two  1,1,1,1     1  0.1      10      0.2500        96.88       93.81      1234  1:15  done\n"
                "three     2,1,1,1     1  0.5       2           -            -           -         -     -  diverged\n"
                "x         2,1,1,1     9  0.1       -           -            -           -         -     -  waiting\n");
    assert_file("deep/run/sweep.csv",
                "case,blocks,seed,lr,epochs,steps,train_loss,train_accuracy,val_loss,val_accuracy,best_val_accuracy,"
                "test_loss,test_accuracy,images_per_second,seconds,state\n"
                "\"one, two\",\"1,1,1,1\",1,0.1,10,3900,0.25,0.96875,,,,0.5,0.9381,1234.5,75,done\n"
                "three,\"2,1,1,1\",1,0.5,2,,,,,,,,,,,diverged\n"
                "x,\"2,1,1,1\",9,0.1,,,,,,,,,,,,waiting\n");
    rdp_sweep_destroy(sweep);
}

static void test_seeds(void **state)
{
    (void)state;
    struct rdp_sweep *sweep = made("--vary|lr=0.1,0.2;seed=1,2,3|--run-dir|run|--title|T");
    assert_true(sweep->seeded && sweep->count == 6);
    assert_string_equal(sweep->cases[4].of_seeds, "lr=0.2");
    static const double accuracies[] = {0.5, 0.75, 0.7, 0.25, NAN, NAN};
    for (int i = 0; i < 6; i++) {
        sweep->cases[i].state = isnan(accuracies[i]) ? RDP_CASE_WAITING : RDP_CASE_DONE;
        sweep->cases[i].result =
            (struct rdp_case_result){NAN, NAN, NAN, NAN, NAN, NAN, NAN, NAN, accuracies[i], NAN, NAN};
    }
    char *text;
    assert_int_equal(rdp_sweep_text(sweep, &text), RDP_OK);
    assert_non_null(strstr(text, "\n\nover seeds  seeds  mean acc %  deviation  least  greatest\n"
                                 "lr=0.1          3       65.00      13.23  50.00     75.00\n"
                                 "lr=0.2          1       25.00          -  25.00     25.00\n"));
    free(text);
    assert_int_equal(rdp_sweep_write(sweep), RDP_OK);
    assert_file("run/sweep.seeds.csv", "case,seeds,test_accuracy_mean,test_accuracy_deviation,test_accuracy_least,"
                                       "test_accuracy_greatest\n"
                                       "lr=0.1,3,0.65,0.1322875655532295,0.5,0.75\n"
                                       "lr=0.2,1,0.25,,0.25,0.25\n");
    rdp_sweep_destroy(sweep);
    sweep = made("--vary|seed=1|--run-dir|run");
    assert_false(sweep->seeded);
    rdp_sweep_destroy(sweep);
}

/* Every sweep of jobs/sweeps, and what it says of some cases. */
static void test_shipped(void **state)
{
    const char *source = getenv("SOURCE_DIR");
    char pattern[1024], line[1400];
    glob_t found;
    (void)state;
    if (source == NULL)
        skip();
    snprintf(pattern, sizeof pattern, "%s/jobs/sweeps/*.ini", source);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    assert_int_equal(found.gl_pathc, 6);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        snprintf(line, sizeof line, "%.1100s|--data|cifar10.h5|--train-images|10000|--precision|bf16",
                 found.gl_pathv[i]);
        rdp_sweep_destroy(made(line));
    }
    globfree(&found);
    snprintf(line, sizeof line, "%.1000s/jobs/sweeps/report-2-optimisers.ini|--epochs|2", source);
    struct rdp_sweep *sweep = made(line);
    assert_int_equal(sweep->count, 5);
    assert_true(sweep->cases[0].options.nesterov && sweep->cases[0].options.lr == 0.05);
    assert_true(sweep->cases[1].options.lr == 0.001 && sweep->cases[1].options.weight_decay == 0);
    assert_true(sweep->cases[4].options.weight_decay == 5e-4 && sweep->cases[4].options.epochs == 2);
    rdp_sweep_destroy(sweep);
    snprintf(line, sizeof line, "%.1000s/jobs/sweeps/report-3-decay-step.ini", source);
    sweep = made(line);
    assert_int_equal(sweep->count, 4);
    assert_true(sweep->cases[3].options.step_steps == 10000 && sweep->cases[3].options.max_steps == 32000);
    assert_true(sweep->cases[3].options.schedule == RDP_SCHEDULE_STEP && sweep->cases[3].options.step_gamma == 0.2);
    rdp_sweep_destroy(sweep);
}

int main(void)
{
#define WITH_DIRECTORY(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        WITH_DIRECTORY(test_vary),          WITH_DIRECTORY(test_file),    WITH_DIRECTORY(test_refused_vary),
        WITH_DIRECTORY(test_refused_files), WITH_DIRECTORY(test_look),    WITH_DIRECTORY(test_tables),
        WITH_DIRECTORY(test_seeds),         WITH_DIRECTORY(test_shipped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
