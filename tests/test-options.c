/* options.h: defaults, the command line, what is refused and in which words, which options act. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "options.h"
#include "options_table.h"
#include "support_options.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void test_defaults(void **state)
{
    struct rdp_options options;
    (void)state;
    rdp_options_default(&options);
    assert_int_equal(rdp_options_check(&options), RDP_OK);
    assert_string_equal(options.data, "cifar10.h5");
    assert_string_equal(options.resume, "none");
    assert_string_equal(options.run_dir, "");
    assert_int_equal(options.blocks.count, 4);
    assert_int_equal(options.blocks.values[0], 2);
    assert_int_equal(options.widths.values[3], 512);
    assert_int_equal(options.epochs, 10);
    assert_int_equal(options.batch, 128);
    assert_true(options.lr == 0.1 && options.weight_decay == 5e-4 && options.onecycle_final_div == 1e4);
    assert_true(!options.nesterov && options.decay_bn && options.overlap && !options.sync_bn);
    assert_int_equal(options.crop, RDP_CROP_REFLECT);
    assert_int_equal(options.flip, RDP_FLIP_MODE_RANDOM);
    assert_int_equal(options.keep, 3);
    assert_int_equal(options.synthetic_train, 10000);
}

/* The default of each option is valid, names are unique, and every option belongs to some command. */
static void test_table_is_sound(void **state)
{
    char text[RDP_OPTION_TEXT_MAX], reason[RDP_OPTION_REASON_MAX];
    struct rdp_options options;
    (void)state;
    memset(&options, 0, sizeof options);
    for (size_t i = 0; i < rdp_option_count; i++) {
        const struct rdp_option *option = &rdp_option_rows[i];
        assert_ptr_equal(rdp_option_find(option->name), option);
        assert_int_not_equal(option->commands, 0);
        assert_true(option->initial[0] != '\0' || option->type == RDP_OPTION_TEXT);
        if (option->initial[0] != '\0' && !rdp_option_set(option, &options, option->initial, reason))
            fail_msg("--%s %s (its default): %s", option->name, option->initial, reason);
        rdp_option_format(option, &options, text);
    }
}

static void test_command_line(void **state)
{
    static const struct {
        const char *line;
        bool overlap;
    } switches[] = {
        {"", true},
        {"--overlap", true},
        {"--overlap yes", true},
        {"--overlap no", false},
        {"--overlap=no", false},
        {"--overlap=yes", true},
        {"--no-overlap", false},
        {"--no-overlap --overlap", true},
        {"--overlap --no-overlap", false},
        {"--no-overlap --lr 1", false},
    };
    struct rdp_options options;
    (void)state;
    for (size_t i = 0; i < COUNT(switches); i++) {
        assert_int_equal(rdp_test_parse(&options, RDP_CMD_TRAIN, switches[i].line), RDP_OK);
        assert_int_equal(options.overlap, switches[i].overlap);
    }
    assert_int_equal(rdp_test_parse(&options, RDP_CMD_TRAIN,
                                    "--batch 64 --lr=3e-2 --blocks 3,4 --widths=8,16 --batch 32 --device cpu "
                                    "--seed 9223372036854775807"),
                     RDP_OK);
    assert_int_equal(options.batch, 32);
    assert_true(options.lr == 0.03);
    assert_int_equal(options.blocks.count, 2);
    assert_int_equal(options.widths.values[1], 16);
    assert_int_equal(options.device, RDP_DEVICE_CPU);
    assert_true(options.seed == INT64_MAX);
}

static void test_arguments(void **state)
{
    struct rdp_options options;
    (void)state;
    assert_int_equal(rdp_test_parse(&options, RDP_CMD_PREDICT, "a.png --top 5 b.png --checkpoint x.h5 -- --c.png -d"),
                     RDP_OK);
    assert_int_equal(options.argument_count, 4);
    assert_string_equal(options.arguments[0], "a.png");
    assert_string_equal(options.arguments[1], "b.png");
    assert_string_equal(options.arguments[2], "--c.png");
    assert_string_equal(options.arguments[3], "-d");
    assert_int_equal(options.top, 5);
    assert_string_equal(options.checkpoint, "x.h5");
    assert_int_equal(rdp_test_parse(&options, RDP_CMD_PLOT, "--out somewhere runs/x"), RDP_OK);
    assert_string_equal(options.arguments[0], "runs/x");
}

static void test_refusals(void **state)
{
    char line[2048];
    (void)state;
    rdp_test_refused(RDP_CMD_TRAIN, "--batc 3", "--batc: no such option of train; did you mean --batch?",
                     "`resnet-dp train --help`");
    rdp_test_refused(RDP_CMD_TRAIN, "--weight 3", "did you mean --weight-decay?", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--zzzz", "no such option of train (", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--top 3", "no option of train, but of predict", "");
    rdp_test_refused(RDP_CMD_EVAL, "--blocks 3", "but of train, summary, bench", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--batch 0", "--batch 0: must be a whole number from 1 to 1048576", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--batch 1048577", "from 1 to 1048576", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--batch 1.5", "whole number", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--batch", "--batch: needs a value", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--batch --lr 1", "--batch: needs a value", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--batch=", "whole number", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--lr 0", "above 0", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--lr nan", "--lr nan: must be a number", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--momentum 1", "from 0 to below 1", "");
    /* Not 0 or 1 until devices round it to f32. */
    rdp_test_refused(RDP_CMD_TRAIN, "--beta2 0.99999999", "--beta2 0.99999999: must be a number from 0 to below 1",
                     "where this one is 1");
    rdp_test_refused(RDP_CMD_TRAIN, "--clip-norm 1e-50", "in single precision, too, where this one is 0", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--lr 1e-50", "in single precision, too, where this one is 0", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--mixup 1e-310", "in single precision, too, where this one is 0", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--dropout 0,0.99999999,0,0", "with commas", "from 0 to below 1");
    rdp_test_refused(RDP_CMD_TRAIN, "--normalisation 0,0,0/1e-40,1,1", "from 0.001 to 1", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--seed -1", "from 0 up", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--crop reflct", "must be none, zero or reflect", "did you mean reflect?");
    rdp_test_refused(RDP_CMD_TRAIN, "--rotation-min 3", "--rotation-min 3 is above --rotation-max 0", "");
    rdp_test_refused(RDP_CMD_AUGMENT, "--out x --erase-ratio-min 4", "--erase-ratio-min 4 is above", "max 3.3");
    rdp_test_refused(RDP_CMD_AUGMENT, "--out x --erase-scale-max 0.01", "is above --erase-scale-max 0.01", "");
    rdp_test_refused(RDP_CMD_AUGMENT, "--out x --normalisation data", "dataset, legacy, or three means", "");
    rdp_test_refused(RDP_CMD_AUGMENT, "", "--out FILE", "PNG");
    rdp_test_refused(RDP_CMD_TRAIN, "--overlap maybe", "--overlap maybe: must be yes or no", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--no-lr", "--no-lr: no such option", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--no-overlap=yes", "takes no value", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--blocks 1,,2", "commas", "2,1,1,1");
    rdp_test_refused(RDP_CMD_TRAIN, "--blocks 1,0", "commas", "from 1 to 1000");
    rdp_test_refused(RDP_CMD_TRAIN, "--blocks 1,1,1,1,1,1,1,1,1", "1 to 8", "");
    rdp_test_refused(RDP_CMD_TRAIN, "stray", "stray", "options only");
    rdp_test_refused(RDP_CMD_TRAIN, "-- stray", "stray", "options only");
    rdp_test_refused(RDP_CMD_TRAIN, "-b 3", "two dashes", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--recipe /nonexistent/x.ini", "/nonexistent/x.ini", "No such file");
    rdp_test_refused(RDP_CMD_EVAL, "", "--checkpoint FILE", "");
    rdp_test_refused(RDP_CMD_PREDICT, "--checkpoint x", "needs IMAGE", "usage: resnet-dp");
    rdp_test_refused(RDP_CMD_INSPECT, "a b", "b: one word too many", "");
    rdp_test_refused(RDP_CMD_PREPARE, "--out x", "--from", "neither");
    rdp_test_refused(RDP_CMD_PREPARE, "--out x --from y --synthetic", "--from", "not both");
    rdp_test_refused(RDP_CMD_PREPARE, "--from y", "--out", "");
    memset(line, 'x', sizeof line);
    memcpy(line, "--data ", 7);
    line[7 + RDP_PATH_MAX] = '\0';
    rdp_test_refused(RDP_CMD_TRAIN, line, "is 1024 bytes long", "1023");
    memcpy(line, "--xxxxxx", 7);
    rdp_test_refused(RDP_CMD_TRAIN, line, "no such option", "");
}

static void test_check(void **state)
{
    (void)state;
    rdp_test_refused(RDP_CMD_TRAIN, "--blocks 1,1", "--blocks has 2 stages", "--widths has 4");
    rdp_test_refused(RDP_CMD_TRAIN, "--batch 100 --accumulate 3", "multiple of --accumulate 3", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--epochs 5 --warmup-epochs 5", "--warmup-epochs 5", "shorter");
    rdp_test_refused(RDP_CMD_TRAIN, "--schedule plateau", "--schedule plateau goes by the validation loss",
                     "--val-fraction");
    rdp_test_refused(RDP_CMD_TRAIN, "--final-test best", "--final-test best goes by", "--val-fraction");
    rdp_test_refused(RDP_CMD_TRAIN, "--early-stopping 3 --final-test best --val-fraction 0.1 --evaluate-every 0",
                     "--early-stopping goes by", "--evaluate-every 1");
    rdp_test_refused(RDP_CMD_TRAIN, "--final-test best --val-fraction 0.1 --checkpoint-epochs 0", "checkpoints are off",
                     "--final-test last");
    rdp_test_refused(RDP_CMD_TRAIN, "--schedule cosine --lr 0.1 --min-lr 0.2", "--min-lr 0.2 is above", "0.1");
    rdp_test_refused(RDP_CMD_TRAIN, "--onecycle-momentum 0.95,0.85", "--onecycle-momentum takes", "0.85,0.95");
    rdp_test_refused(RDP_CMD_TRAIN, "--onecycle-momentum 0.9", "--onecycle-momentum takes", "or 0");
    rdp_test_refused(RDP_CMD_TRAIN, "--schedule onecycle --momentum 0 --onecycle-momentum 0.85,0.95",
                     "beside --momentum 0", "above 0");
    rdp_test_refused(RDP_CMD_TRAIN, "--learning-rate 3", "did you mean --lr?", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--rotation-min 10", "is above --rotation-max 0", "give both");
    rdp_test_refused(RDP_CMD_TRAIN, "--milestones 3,2", "--milestones: 2 does not come after 3", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--nesterov --momentum 0", "--nesterov beside --momentum 0", "--no-nesterov");
    rdp_test_refused(RDP_CMD_TRAIN, "--shortcut pad --widths 64,32,64,64", "stage 2 narrows from 64 to 32", "");
    rdp_test_refused(RDP_CMD_TRAIN, "--shortcut none --zero-init-residual", "--shortcut none has none", "leave one");
    rdp_test_refused(RDP_CMD_TRAIN, "--blocks 1,1 --widths 8,8 --strides 2,1,2",
                     "--strides has 3 values, --blocks has 2", "");
    struct rdp_options options;
    assert_int_equal(rdp_test_parse(&options, RDP_CMD_TRAIN, "--shortcut pad --block bottleneck --widths 16,32,64,64"),
                     RDP_OK);
    assert_int_equal(rdp_test_parse(&options, RDP_CMD_TRAIN, "--schedule onecycle --warmup-epochs 1"), RDP_OK);
}

static void test_differences(void **state)
{
    struct rdp_options a, b;
    char names[256];
    (void)state;
    rdp_options_default(&a);
    b = a;
    rdp_options_differences(&a, &b, names, sizeof names);
    assert_string_equal(names, "");
    b.lr = nextafter(b.lr, 1);
    b.widths.values[2] = 7;
    b.threads = 3;
    b.keep = 1;
    b.progress = false;
    snprintf(b.data, sizeof b.data, "elsewhere.h5");
    rdp_options_differences(&a, &b, names, sizeof names);
    assert_string_equal(names, "widths, lr");
    b = a;
    b.epochs = 20; /* a longer run continues a shorter one, unless its schedule looks at the end */
    rdp_options_differences(&a, &b, names, sizeof names);
    assert_string_equal(names, "");
    for (int schedule = RDP_SCHEDULE_CONSTANT; schedule <= RDP_SCHEDULE_PLATEAU; schedule++) {
        const bool looks =
            schedule == RDP_SCHEDULE_COSINE || schedule == RDP_SCHEDULE_ONECYCLE || schedule == RDP_SCHEDULE_POLYNOMIAL;
        a.schedule = b.schedule = (enum rdp_schedule_kind)schedule;
        rdp_options_differences(&a, &b, names, sizeof names);
        assert_string_equal(names, looks ? "epochs" : "");
    }
    b = a;
    b.evaluate_every = 3; /* decides nothing, unless the rate follows the evaluations */
    b.evaluate_views = RDP_VIEWS_2;
    b.evaluate_weights = RDP_WEIGHTS_TRAINED;
    rdp_options_differences(&a, &b, names, sizeof names);
    assert_string_equal(names, "evaluate-weights, evaluate-every, evaluate-views");
    a.schedule = b.schedule = RDP_SCHEDULE_STEP;
    rdp_options_differences(&a, &b, names, sizeof names);
    assert_string_equal(names, "");
    a.schedule = b.schedule = RDP_SCHEDULE_COSINE;
    b.lr = 1;
    b.epochs = 7;
    rdp_options_differences(&a, &b, names, 5); /* cut, not overrun */
    assert_int_equal(strlen(names), 4);
}

/* What was given goes over what was not, and a recipe's keys do not count as given. */
static void test_overlay(void **state)
{
    struct rdp_options line, below;
    (void)state;
    assert_int_equal(
        rdp_test_parse(&line, RDP_CMD_SWEEP, "--vary seed=1,2 --lr auto --no-overlap --blocks 1,2 --data x.h5"),
        RDP_OK);
    rdp_options_begin(&below);
    assert_int_equal(rdp_options_read_text(&below, "lr = 0.3\nbatch = 7\nblocks = 3\noptimizer = adam\n", "x"), RDP_OK);
    for (size_t i = 0; i < rdp_option_count; i++)
        assert_false(below.given[i]);
    rdp_options_overlay(&below, &line);
    assert_true(isnan(below.lr) && below.batch == 7 && !below.overlap && below.blocks.count == 2);
    assert_string_equal(below.data, "x.h5");
    assert_true(below.given[rdp_option_find("lr") - rdp_option_rows]);
    assert_false(below.given[rdp_option_find("batch") - rdp_option_rows]);
    rdp_options_resolve(&below);
    assert_true(below.lr == 0.001); /* of the optimiser that the recipe names */
}

/* What does nothing beside the other options is named, once, with what it needs; what acts is not. */
static void test_idle_options(void **state)
{
    static const struct {
        const char *line, *name, *needs; /* name NULL: every option of the line acts */
    } lines[] = {
        {"--lr 0.1 --batch 64", NULL, ""},
        {"--optimizer adam --momentum 0.5", "momentum", "sgd, lars or rmsprop"},
        {"--optimizer rmsprop --momentum 0.5 --rmsprop-alpha 0.9 --epsilon 1e-3", NULL, ""},
        {"--optimizer lars --nesterov", "nesterov", "--optimizer sgd"},
        {"--optimizer lamb --beta1 0.8 --beta2 0.9", NULL, ""},
        {"--beta1 0.8", "beta1", "adam"},
        {"--epsilon 1e-3", "epsilon", "sgd and asgd"},
        {"--asgd-t0 5", "asgd-t0", "asgd"},
        {"--trust-coefficient 0.1", "trust-coefficient", "lars"},
        {"--adagrad-lr-decay 0.1", "adagrad-lr-decay", "adagrad"},
        {"--milestones 3", "milestones", "multistep"},
        {"--schedule multistep --milestones 3 --step-gamma 0.5", NULL, ""},
        {"--schedule step --step-steps 3 --step-epochs 2", "step-epochs", "--step-steps 0"},
        {"--schedule onecycle --min-lr 0.001", "min-lr", "cosine"},
        {"--schedule plateau --val-fraction 0.1 --min-lr 0.001 --plateau-cooldown 1", NULL, ""},
        {"--schedule cosine --plateau-patience 3", "plateau-patience", "plateau"},
        {"--onecycle-anneal linear", "onecycle-anneal", "onecycle"},
        {"--schedule onecycle --onecycle-momentum 0.85,0.95", NULL, ""},
        {"--schedule onecycle --onecycle-momentum 0.85,0.95 --optimizer asgd", "onecycle-momentum", "momentum"},
        {"--onecycle-momentum 0.85,0.95", "onecycle-momentum", "onecycle"},
        {"--schedule onecycle --onecycle-momentum 0.85,0.95 --momentum 0.8", "momentum", "--onecycle-momentum 0"},
        {"--optimizer adam --schedule onecycle --onecycle-momentum 0.85,0.95 --beta1 0.8", "beta1",
         "--onecycle-momentum 0"},
        {"--polynomial-power 2", "polynomial-power", "polynomial"},
        {"--leaky-slope 0.2", "leaky-slope", "leaky-relu"},
        {"--lookahead-alpha 0.2", "lookahead-alpha", "--lookahead"},
        {"--lr-base-batch 64", "lr-base-batch", "--lr-scaling"},
        {"--crop none --crop-padding 2", "crop-padding", "--crop"},
        {"--rotation-min -5 --rotation-interpolation bilinear", NULL, ""},
        {"--rotation-interpolation bilinear", "rotation-interpolation", "--rotation-min"},
        {"--erase-ratio-max 2", "erase-ratio-max", "--erase-probability"},
        {"--erase-fill black --cutout 8", NULL, ""},
        {"--erase-fill black", "erase-fill", "--cutout"},
        {"--weight-decay 0 --no-decay-bn", "decay-bn", "--weight-decay"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(lines); i++) {
        struct rdp_options options;
        const char *needs;
        char *text;
        size_t next = 0;
        assert_int_equal(rdp_test_parse(&options, RDP_CMD_TRAIN, lines[i].line), RDP_OK);
        const char *name = rdp_options_idle(&options, &next, &needs);
        if ((name == NULL) != (lines[i].name == NULL))
            fail_msg("%s: %s", lines[i].line, name == NULL ? "nothing is idle" : name);
        assert_int_equal(rdp_options_in_force(&options, &text), RDP_OK);
        assert_non_null(strstr(text, "  batch = "));
        if (name != NULL) {
            char word[64];
            assert_string_equal(name, lines[i].name);
            assert_non_null(strstr(needs, lines[i].needs));
            assert_null(rdp_options_idle(&options, &next, &needs));
            snprintf(word, sizeof word, " %s = ", name);
            assert_null(strstr(text, word));
        }
        free(text);
    }
}

/* An optimiser put in the place of the recipe's is told which values it takes over from there. */
static void test_recipe_for_another_optimiser(void **state)
{
    struct rdp_options options;
    char text[256];
    (void)state;
    rdp_options_begin(&options);
    snprintf(options.recipe, sizeof options.recipe, "x.ini");
    assert_int_equal(rdp_options_read_text(&options, "lr = 0.3\nmomentum = 0.5\nweight-decay = 1e-4\n", "x"), RDP_OK);
    options.recipe_optimizer = options.optimizer;
    rdp_options_resolve(&options);
    assert_string_equal(rdp_options_of_recipe(&options, text, sizeof text), "");
    options.optimizer = RDP_OPTIMIZER_ADAM;
    assert_string_equal(rdp_options_of_recipe(&options, text, sizeof text),
                        "lr 0.3 (--lr auto: 0.001), weight-decay 0.0001 (--weight-decay auto: 0)");
    options.given[rdp_option_find("lr") - rdp_option_rows] = true;
    assert_string_equal(rdp_options_of_recipe(&options, text, sizeof text),
                        "weight-decay 0.0001 (--weight-decay auto: 0)");
    options.weight_decay = 0;
    assert_string_equal(rdp_options_of_recipe(&options, text, sizeof text), "");
}

/* Parts of a help text that are for other commands do not show. */
static void test_help_of_one_command(void **state)
{
    static const struct {
        int command;
        const char *has, *lacks;
    } helps[] = {
        {RDP_CMD_AUGMENT, "--out PATH              the PNG file to write\n", "Graphviz"},
        {RDP_CMD_DRAW, "--out PATH              the Graphviz file to write\n", "PNG"},
        {RDP_CMD_TRAIN, "where the run is written; default runs/<recipe>", "runs/sweep-"},
        {RDP_CMD_SWEEP, "where the run is written; default runs/sweep-", "UTC"},
        {RDP_CMD_EVAL, "default as in training)", "default fp32"},
        {RDP_CMD_TRAIN, "default fp32", "default as in training"},
    };
    (void)state;
    for (size_t i = 0; i < COUNT(helps); i++) {
        char *text = NULL;
        size_t size;
        FILE *out = open_memstream(&text, &size);
        assert_non_null(out);
        rdp_options_help(out, helps[i].command);
        fclose(out);
        if (strstr(text, helps[i].has) == NULL || strstr(text, helps[i].lacks) != NULL)
            fail_msg("help %zu: %s", i, text);
        free(text);
    }
}

static void test_help_names_every_option(void **state)
{
    (void)state;
    for (size_t c = 0; c < rdp_command_count; c++) {
        char *text = NULL, word[64];
        size_t size;
        FILE *out = open_memstream(&text, &size);
        assert_non_null(out);
        rdp_options_help(out, rdp_command_names[c].command);
        fclose(out);
        assert_non_null(strstr(text, rdp_command_names[c].name));
        for (size_t i = 0; i < rdp_option_count; i++) {
            snprintf(word, sizeof word, "  --%s ", rdp_option_rows[i].name);
            bool takes = rdp_option_rows[i].commands & (unsigned)rdp_command_names[c].command;
            if ((strstr(text, word) != NULL) != takes)
                fail_msg("%s --help is wrong about --%s", rdp_command_names[c].name, rdp_option_rows[i].name);
        }
        free(text);
    }
}

/* What --normalisation puts in force, and texts that are none. */
static void test_normalisation(void **state)
{
    static const char *const wrong[] = {"",
                                        "Dataset",
                                        "0.5",
                                        "0.5,0.5,0.5",
                                        "0.5,0.5,0.5/",
                                        "0.5,0.5,0.5/0.2,0.2",
                                        "0.5,0.5,0.5/0.2,0.2,0",
                                        "0.5,0.5,1.5/0.2,0.2,0.2",
                                        "-0.5,0.5,0.5/0.2,0.2,0.2",
                                        "0.5,0.5,0.5/0.2,0.2,0.2,0.2",
                                        "nan,0.5,0.5/0.2,0.2,0.2",
                                        "0.5,0.5,0.5/0.2,0.2,inf",
                                        "0.5,0.5,0.5/0.2,0.2,0.2 "};
    struct rdp_options options;
    float mean[3] = {0.1f, 0.2f, 0.3f}, std[3] = {0.4f, 0.5f, 0.6f};
    (void)state;
    rdp_options_default(&options);
    assert_int_equal(rdp_options_normalisation(&options, mean, std), RDP_OK);
    assert_true(mean[0] == 0.1f && mean[2] == 0.3f && std[0] == 0.4f && std[2] == 0.6f);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(options.normalisation, sizeof options.normalisation, "%s", wrong[i]);
        assert_int_equal(rdp_options_normalisation(&options, mean, std), RDP_EUSAGE);
        assert_non_null(strstr(rdp_fail_message(), "--normalisation"));
        rdp_fail_clear();
        assert_true(mean[0] == 0.1f && std[2] == 0.6f);
    }
    snprintf(options.normalisation, sizeof options.normalisation, "0,0.25,1/0.125,0.5,1");
    assert_int_equal(rdp_options_normalisation(&options, mean, std), RDP_OK);
    assert_true(mean[0] == 0 && mean[1] == 0.25f && mean[2] == 1 && std[0] == 0.125f && std[1] == 0.5f && std[2] == 1);
    snprintf(options.normalisation, sizeof options.normalisation, "legacy");
    assert_int_equal(rdp_options_normalisation(&options, mean, std), RDP_OK);
    assert_true(mean[0] == 0.4914f && mean[1] == 0.4822f && mean[2] == 0.4465f);
    assert_true(std[0] == 0.2023f && std[1] == 0.1994f && std[2] == 0.2010f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_table_is_sound),
        cmocka_unit_test(test_command_line),
        cmocka_unit_test(test_arguments),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_check),
        cmocka_unit_test(test_normalisation),
        cmocka_unit_test(test_differences),
        cmocka_unit_test(test_overlay),
        cmocka_unit_test(test_idle_options),
        cmocka_unit_test(test_recipe_for_another_optimiser),
        cmocka_unit_test(test_help_of_one_command),
        cmocka_unit_test(test_help_names_every_option),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
