/*
 * From options to layers and parameters: the exact counts of every network that the program exists for, torchvision's
 * names, shapes that fit from layer to layer, weight decay and initial values, the summary, and that every recipe
 * builds.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include <glob.h>

#include "base/status.h"
#include "model.h"

static struct rdp_model *model_of(const char *recipe)
{
    struct rdp_options options;
    struct rdp_model *model = NULL;
    rdp_options_default(&options);
    if (rdp_options_read_text(&options, recipe, "test") != RDP_OK || rdp_options_check(&options) != RDP_OK ||
        rdp_model_create(&model, &options, 10) != RDP_OK)
        fail_msg("%s: %s", recipe, rdp_fail_message());
    return model;
}

static const struct rdp_layer *layer_of(const struct rdp_model *model, const char *name)
{
    for (int i = 0; i < model->layer_count; i++)
        if (strcmp(model->layers[i].name, name) == 0)
            return &model->layers[i];
    fail_msg("no layer %s", name);
    return NULL;
}

static const struct rdp_parameter *parameter_of(const struct rdp_model *model, const char *name)
{
    for (int i = 0; i < model->parameter_count; i++)
        if (strcmp(model->parameters[i].name, name) == 0)
            return &model->parameters[i];
    fail_msg("no parameter %s", name);
    return NULL;
}

static const struct {
    const char *recipe;
    int64_t parameters;
} counts[] = {
    /* The five reports. */
    {"blocks=1,1,1,1\n", 4903242},
    {"blocks=5,4,3\nwidths=64,128,256\n", 4771146},
    {"blocks=3,6,4,3\nstem-width=32\nwidths=32,64,128,256\n", 4883626},
    {"block=bottleneck\nblocks=3,3,3\nstem-width=32\nwidths=64,128,256\nactivation=leaky-relu\n", 4903082},
    {"blocks=2,1,1,1\n", 4977226},
    {"blocks=6,5,4,3\nstem-width=32\nwidths=32,64,128,256\n", 4865322},
    /* Report 2's list. */
    {"blocks=2,2,2,2\n", 11173962},
    {"blocks=2,2,3,1\n", 7633994},
    {"blocks=2,2,2,1\n", 6453322},
    {"blocks=2,2,1,1\n", 5272650},
    /* He et al. 2016, CIFAR: 6n + 2 layers. Option A has no parameters on its shortcuts; 1x1 convolutions and their
     * batch-norms add 16 * 32 + 64 + 32 * 64 + 128 = 2,752. */
    {"blocks=3,3,3\nstem-width=16\nwidths=16,32,64\nshortcut=pad\n", 269722},
    {"blocks=5,5,5\nstem-width=16\nwidths=16,32,64\nshortcut=pad\n", 464154},
    {"blocks=7,7,7\nstem-width=16\nwidths=16,32,64\nshortcut=pad\n", 658586},
    {"blocks=9,9,9\nstem-width=16\nwidths=16,32,64\nshortcut=pad\n", 853018},
    {"blocks=18,18,18\nstem-width=16\nwidths=16,32,64\nshortcut=pad\n", 1727962},
    {"blocks=3,3,3\nstem-width=16\nwidths=16,32,64\nshortcut=none\n", 269722}, /* their plain-20: as many as with A */
    {"blocks=3,3,3\nstem-width=16\nwidths=16,32,64\n", 272474},
    {"blocks=5,5,5\nstem-width=16\nwidths=16,32,64\n", 466906},
    {"blocks=7,7,7\nstem-width=16\nwidths=16,32,64\n", 661338},
    {"blocks=9,9,9\nstem-width=16\nwidths=16,32,64\n", 855770},
    {"blocks=18,18,18\nstem-width=16\nwidths=16,32,64\n", 1730714},
};

static void exact_counts(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct rdp_model *model = model_of(counts[i].recipe);
        if (rdp_model_parameters(model) != counts[i].parameters)
            fail_msg("%s: %lld parameters, not %lld", counts[i].recipe, (long long)rdp_model_parameters(model),
                     (long long)counts[i].parameters);
        rdp_model_destroy(model);
    }
}

/* 3x3 convolutions and their batch-norms, written out: the counts above do not stand on somebody's table alone. */
static void counts_by_arithmetic(void **state)
{
    (void)state;
    for (int64_t n = 1; n <= 18; n++) {
        char recipe[128];
        int64_t stem = 3 * 16 * 9 + 2 * 16, fc = 64 * 10 + 10, total = stem + fc + 2 * n * (16 * 16 * 9 + 2 * 16);
        total += (16 * 32 * 9 + 2 * 32) + (2 * n - 1) * (32 * 32 * 9 + 2 * 32);
        total += (32 * 64 * 9 + 2 * 64) + (2 * n - 1) * (64 * 64 * 9 + 2 * 64);
        snprintf(recipe, sizeof recipe, "blocks=%d,%d,%d\nstem-width=16\nwidths=16,32,64\nshortcut=pad\n", (int)n,
                 (int)n, (int)n);
        struct rdp_model *model = model_of(recipe);
        assert_int_equal(rdp_model_parameters(model), total);
        rdp_model_destroy(model);
    }
}

/* The state_dict of torchvision's ResNet(BasicBlock, [2, 1]) with two stages, without num_batches_tracked. */
static const char *const basic_names[] = {
    "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "layer1.0.conv1.weight",
    "layer1.0.bn1.weight", "layer1.0.bn1.bias", "layer1.0.bn1.running_mean", "layer1.0.bn1.running_var",
    "layer1.0.conv2.weight", "layer1.0.bn2.weight", "layer1.0.bn2.bias", "layer1.0.bn2.running_mean",
    "layer1.0.bn2.running_var", "layer1.1.conv1.weight", "layer1.1.bn1.weight", "layer1.1.bn1.bias",
    "layer1.1.bn1.running_mean", "layer1.1.bn1.running_var", "layer1.1.conv2.weight", "layer1.1.bn2.weight",
    "layer1.1.bn2.bias", "layer1.1.bn2.running_mean", "layer1.1.bn2.running_var", "layer2.0.conv1.weight",
    "layer2.0.bn1.weight", "layer2.0.bn1.bias", "layer2.0.bn1.running_mean", "layer2.0.bn1.running_var",
    "layer2.0.conv2.weight", "layer2.0.bn2.weight", "layer2.0.bn2.bias", "layer2.0.bn2.running_mean",
    "layer2.0.bn2.running_var", "layer2.0.downsample.0.weight", "layer2.0.downsample.1.weight",
    "layer2.0.downsample.1.bias", "layer2.0.downsample.1.running_mean", "layer2.0.downsample.1.running_var",
    "fc.weight", "fc.bias",
};

/* ResNet(Bottleneck, [1]): one stage, whose first block widens 16 channels to 32. */
static const char *const bottleneck_names[] = {
    "conv1.weight", "bn1.weight", "bn1.bias", "bn1.running_mean", "bn1.running_var", "layer1.0.conv1.weight",
    "layer1.0.bn1.weight", "layer1.0.bn1.bias", "layer1.0.bn1.running_mean", "layer1.0.bn1.running_var",
    "layer1.0.conv2.weight", "layer1.0.bn2.weight", "layer1.0.bn2.bias", "layer1.0.bn2.running_mean",
    "layer1.0.bn2.running_var", "layer1.0.conv3.weight", "layer1.0.bn3.weight", "layer1.0.bn3.bias",
    "layer1.0.bn3.running_mean", "layer1.0.bn3.running_var", "layer1.0.downsample.0.weight",
    "layer1.0.downsample.1.weight", "layer1.0.downsample.1.bias", "layer1.0.downsample.1.running_mean",
    "layer1.0.downsample.1.running_var", "fc.weight", "fc.bias",
};

static void expect_names(const char *recipe, const char *const *names, size_t count)
{
    struct rdp_model *model = model_of(recipe);
    for (size_t i = 0; i < count; i++)
        parameter_of(model, names[i]);
    /* As many rows as names, and every name there: no row is extra, none occurs twice. */
    assert_int_equal(model->parameter_count, count);
    rdp_model_destroy(model);
}

static void torchvision_names(void **state)
{
    (void)state;
    expect_names("blocks=2,1\nwidths=64,128\n", basic_names, sizeof basic_names / sizeof *basic_names);
    expect_names("block=bottleneck\nblocks=1\nstem-width=16\nwidths=8\n", bottleneck_names,
                 sizeof bottleneck_names / sizeof *bottleneck_names);
}

static void torchvision_shapes(void **state)
{
    (void)state;
    struct rdp_model *model = model_of("block=bottleneck\nblocks=1,1\nstem-width=32\nwidths=64,128\n");
    const struct {
        const char *name;
        int64_t dims[4];
    } rows[] = {
        {"conv1.weight", {32, 3, 3, 3}},
        {"layer1.0.conv1.weight", {64, 32, 1, 1}},
        {"layer1.0.conv2.weight", {64, 64, 3, 3}},
        {"layer1.0.conv3.weight", {256, 64, 1, 1}},
        {"layer1.0.downsample.0.weight", {256, 32, 1, 1}},
        {"layer2.0.conv1.weight", {128, 256, 1, 1}},
        {"layer2.0.downsample.0.weight", {512, 256, 1, 1}},
        {"layer2.0.bn3.running_var", {512, 1, 1, 1}},
        {"fc.weight", {10, 512, 1, 1}},
        {"fc.bias", {10, 1, 1, 1}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct rdp_parameter *parameter = parameter_of(model, rows[i].name);
        int64_t count = 1;
        for (int d = 0; d < parameter->dims_count; d++) {
            assert_int_equal(parameter->dims[d], rows[i].dims[d]);
            count *= rows[i].dims[d];
        }
        assert_int_equal(parameter->count, count);
    }
    /* torchvision's Bottleneck (v1.5) strides in the 3x3 convolution. */
    assert_int_equal(layer_of(model, "layer2.0.conv1")->stride, 1);
    assert_int_equal(layer_of(model, "layer2.0.conv2")->stride, 2);
    assert_int_equal(layer_of(model, "layer2.0.downsample.0")->stride, 2);
    rdp_model_destroy(model);
}

static void check_row(const struct rdp_model *model, int row)
{
    const struct rdp_parameter *parameter = &model->parameters[row];
    const struct rdp_layer *layer = &model->layers[parameter->layer];
    const size_t length = strlen(layer->name);
    assert_in_range(row, layer->first_parameter, layer->first_parameter + layer->parameter_count - 1);
    assert_int_equal(strncmp(parameter->name, layer->name, length), 0);
    assert_int_equal(parameter->name[length], '.');
}

static void check_layer(const struct rdp_model *model, int index)
{
    const struct rdp_layer *layer = &model->layers[index];
    assert_true(layer->input < index);
    const struct rdp_shape image = {3, 32, 32};
    const struct rdp_shape in = layer->input == RDP_NO_LAYER ? image : model->layers[layer->input].out;
    assert_memory_equal(&layer->in, &in, sizeof in);
    assert_true(layer->out.channels > 0 && layer->out.height > 0 && layer->out.width > 0);
    if (layer->kind == RDP_LAYER_CONV || layer->kind == RDP_LAYER_PAD || layer->kind == RDP_LAYER_MAX_POOL) {
        assert_int_equal(layer->out.height, (in.height + layer->stride - 1) / layer->stride);
        assert_int_equal(layer->out.width, (in.width + layer->stride - 1) / layer->stride);
    }
    if (layer->residual != RDP_NO_LAYER) {
        assert_int_equal(layer->kind, RDP_LAYER_BN);
        assert_true(layer->residual < index);
        assert_memory_equal(&model->layers[layer->residual].out, &layer->out, sizeof layer->out);
    }
}

/* Odd widths, many stages, stages that narrow: whatever is built fits together. */
static void layers_fit(void **state)
{
    (void)state;
    static const char *const recipes[] = {
        "blocks=1,2,1\nstem-width=13\nwidths=7,19,5\n",
        "block=bottleneck\nblocks=2,1\nstem-width=3\nwidths=5,9\n",
        "blocks=1,1,1,1,1,1,1,1\nstem-width=1\nwidths=1,2,3,4,5,6,7,8\n", /* 32 halved seven times is one pixel */
        "blocks=1,2\nstem-width=11\nwidths=11,30\nshortcut=pad\n",
        "block=bottleneck\nblocks=1,1\nstem-width=10\nwidths=4,17\nshortcut=pad\n",
        "blocks=1\nstem-width=64\nwidths=64\n",
        "blocks=1,2,1,1,1,1,1\nstem-width=4\nwidths=4,5,6,7,8,9,10\nstrides=2\ndownsample=max-pool\n", /* one pixel pooled */
        "block=bottleneck\nblocks=1,1\nstem-width=10\nwidths=4,17\nshortcut=pad\ndownsample=max-pool\n",
    };
    for (size_t i = 0; i < sizeof recipes / sizeof *recipes; i++) {
        struct rdp_model *model = model_of(recipes[i]);
        int rows = 0;
        for (int k = 0; k < model->layer_count; k++) {
            check_layer(model, k);
            assert_int_equal(model->layers[k].first_parameter, rows);
            rows += model->layers[k].parameter_count;
        }
        assert_int_equal(rows, model->parameter_count);
        for (int row = 0; row < model->parameter_count; row++)
            check_row(model, row);
        rdp_model_destroy(model);
    }
}

/* The residual of a block's last batch-norm is the block's input, or its shortcut, which has no activation. */
static void residuals_and_activations(void **state)
{
    (void)state;
    struct rdp_model *model = model_of("blocks=2,1\nwidths=64,128\nactivation=leaky-relu\nleaky-slope=0.2\n");
    const struct rdp_layer *layers = model->layers;
    assert_ptr_equal(&layers[layer_of(model, "layer1.0.bn2")->residual], layer_of(model, "bn1"));
    assert_ptr_equal(&layers[layer_of(model, "layer1.1.bn2")->residual], layer_of(model, "layer1.0.bn2"));
    assert_ptr_equal(&layers[layer_of(model, "layer2.0.bn2")->residual], layer_of(model, "layer2.0.downsample.1"));
    assert_ptr_equal(&layers[layer_of(model, "layer2.0.downsample.0")->input], layer_of(model, "layer1.1.bn2"));
    assert_int_equal(layer_of(model, "layer2.0.bn1")->residual, RDP_NO_LAYER);
    assert_int_equal(layer_of(model, "layer2.0.downsample.1")->activation, RDP_ACT_NONE);
    assert_int_equal(layer_of(model, "layer2.0.bn2")->activation, RDP_ACT_LEAKY_RELU);
    assert_true(fabsf(layer_of(model, "layer2.0.bn2")->slope - 0.2f) < 1e-7f);
    rdp_model_destroy(model);
    model = model_of("blocks=1,1\nwidths=64,128\nshortcut=pad\n");
    assert_ptr_equal(&model->layers[layer_of(model, "layer2.0.bn2")->residual], layer_of(model, "layer2.0.downsample"));
    assert_int_equal(layer_of(model, "layer2.0.downsample")->kind, RDP_LAYER_PAD);
    assert_int_equal(layer_of(model, "layer2.0.bn2")->activation, RDP_ACT_RELU);
    rdp_model_destroy(model);
    model = model_of("blocks=1,2\nwidths=64,128\nshortcut=none\nactivation=gelu\n");
    for (int i = 0; i < model->layer_count; i++) {
        assert_int_equal(model->layers[i].residual, RDP_NO_LAYER);
        assert_int_equal(model->layers[i].activation,
                         model->layers[i].kind == RDP_LAYER_BN ? RDP_ACT_GELU : RDP_ACT_NONE);
    }
    rdp_model_destroy(model);
}

/* A max-pool between the convolution and its batch-norm takes the place of the stride; parameters and names stay. */
static void downsampling(void **state)
{
    (void)state;
    static const struct {
        const char *strides;
        int sides[4];
    } sizes[] = {{"", {32, 16, 8, 4}},
                 {"strides=2\n", {16, 8, 4, 2}},
                 {"strides=2,1,2\n", {16, 16, 8, 4}},
                 {"strides=1,1,2,1\n", {32, 32, 16, 16}}};
    for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
        char recipe[128];
        snprintf(recipe, sizeof recipe, "blocks=1,1,2,1\n%s%s", sizes[i / 2].strides,
                 i % 2 ? "downsample=max-pool\n" : "");
        struct rdp_model *model = model_of(recipe);
        /* One block more than basic-1111; where the first stage halves, its shortcut is a convolution. */
        const int shortcut = sizes[i / 2].sides[0] == 16 ? 64 * 64 + 2 * 64 : 0;
        assert_int_equal(rdp_model_parameters(model), 4903242 + 2 * (256 * 256 * 9 + 2 * 256) + shortcut);
        for (int stage = 0; stage < 4; stage++) {
            char name[RDP_NAME_MAX];
            snprintf(name, sizeof name, "layer%d.0.bn2", stage + 1);
            assert_int_equal(layer_of(model, name)->out.height, sizes[i / 2].sides[stage]);
            assert_int_equal(layer_of(model, name)->out.width, sizes[i / 2].sides[stage]);
        }
        rdp_model_destroy(model);
    }
    struct rdp_model *model = model_of("blocks=1,1\nwidths=64,128\ndownsample=max-pool\n");
    const struct rdp_layer *pool = layer_of(model, "layer2.0.maxpool");
    assert_int_equal(pool->kind, RDP_LAYER_MAX_POOL);
    assert_ptr_equal(&model->layers[pool->input], layer_of(model, "layer2.0.conv1"));
    assert_ptr_equal(&model->layers[layer_of(model, "layer2.0.bn1")->input], pool);
    assert_int_equal(layer_of(model, "layer2.0.conv1")->stride, 1);
    assert_int_equal(layer_of(model, "layer2.0.downsample.0")->stride, 2);
    rdp_model_destroy(model);
    model = model_of("block=bottleneck\nblocks=1,1\nwidths=64,128\ndownsample=max-pool\n");
    assert_ptr_equal(&model->layers[layer_of(model, "layer2.0.bn2")->input], layer_of(model, "layer2.0.maxpool"));
    rdp_model_destroy(model);
}

static void weight_decay(void **state)
{
    (void)state;
    struct rdp_model *model = model_of("blocks=1,1\nwidths=64,128\n");
    for (int i = 0; i < model->parameter_count; i++)
        if (model->parameters[i].kind == RDP_PARAMETER_TRAINED)
            assert_true(model->parameters[i].decays);
    rdp_model_destroy(model);
    model = model_of("blocks=1,1\nwidths=64,128\ndecay-bn=no\n");
    for (int i = 0; i < model->parameter_count; i++) {
        const struct rdp_parameter *parameter = &model->parameters[i];
        if (parameter->kind == RDP_PARAMETER_TRAINED) /* what has more than one dimension is a weight that multiplies */
            assert_int_equal(parameter->decays, parameter->dims_count > 1);
    }
    rdp_model_destroy(model);
}

/* torch.nn's reset_parameters: Conv2d and Linear uniform in +-1/sqrt(fan_in), BatchNorm2d 1 and 0. */
static void initial_values(void **state)
{
    (void)state;
    struct rdp_model *model = model_of("blocks=1,1\nwidths=64,128\n");
    const struct {
        const char *name;
        bool uniform;
        double init;
    } rows[] = {
        {"conv1.weight", true, 1 / sqrt(27)},
        {"layer2.0.conv1.weight", true, 1 / sqrt(576)},
        {"layer2.0.downsample.0.weight", true, 1 / sqrt(64)},
        {"fc.weight", true, 1 / sqrt(128)},
        {"fc.bias", true, 1 / sqrt(128)},
        {"bn1.weight", false, 1},
        {"bn1.bias", false, 0},
        {"layer2.0.downsample.1.running_mean", false, 0},
        {"layer2.0.downsample.1.running_var", false, 1},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const struct rdp_parameter *parameter = parameter_of(model, rows[i].name);
        assert_int_equal(parameter->uniform, rows[i].uniform);
        assert_true(fabs(parameter->init - rows[i].init) < 1e-12);
        assert_int_equal(parameter->kind,
                         strstr(rows[i].name, "running") ? RDP_PARAMETER_STATE : RDP_PARAMETER_TRAINED);
    }
    rdp_model_destroy(model);
}

static void classes_and_multiply_adds(void **state)
{
    (void)state;
    struct rdp_options options;
    struct rdp_model *model;
    rdp_options_default(&options);
    static const char recipe[] = "blocks=3,3,3\nstem-width=16\nwidths=16,32,64\nshortcut=pad\n";
    assert_int_equal(rdp_options_read_text(&options, recipe, "test"), RDP_OK);
    assert_int_equal(rdp_model_create(&model, &options, 100), RDP_OK);
    assert_int_equal(rdp_model_parameters(model), 269722 + 90 * 65);
    int64_t total = 0;
    for (int i = 0; i < model->layer_count; i++)
        total += rdp_layer_multiply_adds(&model->layers[i]);
    /* stem 32*32*16*27; stage 1: 6 of 32*32*16*144; stages 2 and 3: one of half that and 5 like stage 1's; fc 64*100 */
    assert_int_equal(total, 442368 + 6 * 2359296 + 2 * (1179648 + 5 * 2359296) + 6400);
    rdp_model_destroy(model);
}

static void summary_ends_with_the_total(void **state)
{
    (void)state;
    struct rdp_model *model = model_of("blocks=2,1,1,1\n");
    static const char last[] = "\nTotal params: 4,977,226\n";
    char *text = NULL;
    size_t size = 0;
    int lines = 0;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    rdp_model_summary(model, out);
    assert_int_equal(fclose(out), 0);
    assert_true(size > sizeof last);
    assert_string_equal(text + size - (sizeof last - 1), last);
    for (size_t i = 0; i < size; i++)
        lines += text[i] == '\n';
    assert_int_equal(lines, model->layer_count + 3); /* head, a line per layer, multiply-adds, total */
    assert_non_null(strstr(text, "layer4.0.downsample.0"));
    assert_non_null(strstr(text, "[512, 4, 4]"));
    free(text);
    rdp_model_destroy(model);
}

static const struct {
    const char *file;
    int64_t parameters;
} recipe_counts[] = {
    {"basic-1111.ini", 4903242},     {"basic-543.ini", 4771146},  {"basic-3643.ini", 4883626},
    {"bottleneck-333.ini", 4903082}, {"basic-2111.ini", 4977226}, {"basic-6543-half.ini", 4865322},
    {"basic-small.ini", 696618},     {"quick.ini", 1204378},       {"resnet20.ini", 269722},
    {"resnet32.ini", 464154},        {"resnet44.ini", 658586},    {"resnet56.ini", 853018},
    {"resnet110.ini", 1727962},
};

/* Every recipe that is delivered builds and has the parameters that its first lines promise. */
static void recipes_build(void **state)
{
    (void)state;
    const char *source = getenv("SOURCE_DIR");
    char pattern[4096];
    glob_t found;
    size_t known = 0;
    if (source == NULL)
        fail_msg("SOURCE_DIR must name the source tree (ctest sets it)");
    snprintf(pattern, sizeof pattern, "%s/jobs/recipes/*.ini", source);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++) {
        struct rdp_options options;
        struct rdp_model *model = NULL;
        const char *name = strrchr(found.gl_pathv[i], '/') + 1;
        rdp_options_default(&options);
        if (rdp_options_read_recipe(&options, found.gl_pathv[i]) != RDP_OK || rdp_options_check(&options) != RDP_OK ||
            rdp_model_create(&model, &options, 10) != RDP_OK)
            fail_msg("%s: %s", name, rdp_fail_message());
        for (size_t k = 0; k < sizeof recipe_counts / sizeof *recipe_counts; k++)
            if (strcmp(recipe_counts[k].file, name) == 0) {
                known++;
                assert_int_equal(rdp_model_parameters(model), recipe_counts[k].parameters);
            }
        rdp_model_destroy(model);
    }
    globfree(&found);
    assert_int_equal(known, sizeof recipe_counts / sizeof *recipe_counts);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(exact_counts),
        cmocka_unit_test(counts_by_arithmetic),
        cmocka_unit_test(torchvision_names),
        cmocka_unit_test(torchvision_shapes),
        cmocka_unit_test(layers_fit),
        cmocka_unit_test(residuals_and_activations),
        cmocka_unit_test(downsampling),
        cmocka_unit_test(weight_decay),
        cmocka_unit_test(initial_values),
        cmocka_unit_test(classes_and_multiply_adds),
        cmocka_unit_test(summary_ends_with_the_total),
        cmocka_unit_test(recipes_build),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
