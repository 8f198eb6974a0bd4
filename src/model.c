/* From options to layers and the parameter table; see model.h. He et al. 2016 (arXiv 1512.03385) for the blocks. */
#include "model.h"

#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"

/* Building appends; sizes are bounded by what the options can describe. */
struct builder {
    struct rdp_model *model;
    int layer_capacity, parameter_capacity;
    const struct rdp_options *options;
};

static int grow(void **array, int count, int *capacity, size_t size, const char *what)
{
    if (count < *capacity)
        return RDP_OK;
    int wanted = *capacity == 0 ? 64 : 2 * *capacity;
    void *larger = realloc(*array, (size_t)wanted * size);
    if (larger == NULL)
        return rdp_fail(RDP_ENOMEM, "%d %s: out of memory", wanted, what);
    *array = larger;
    *capacity = wanted;
    return RDP_OK;
}

/* Appends a layer that reads `input`; its number goes to *index. */
static int add_layer(struct builder *builder, const struct rdp_layer *layer, int *index)
{
    struct rdp_model *model = builder->model;
    RDP_TRY(
        grow((void **)&model->layers, model->layer_count, &builder->layer_capacity, sizeof *model->layers, "layers"));
    *index = model->layer_count++;
    model->layers[*index] = *layer;
    model->layers[*index].first_parameter = model->parameter_count;
    return RDP_OK;
}

/* Appends a row to the table for the layer added last. */
static int add_parameter(struct builder *builder, const char *suffix, struct rdp_parameter row, int dims_count,
                         int64_t d0, int64_t d1, int64_t d2, int64_t d3)
{
    struct rdp_model *model = builder->model;
    RDP_TRY(grow((void **)&model->parameters, model->parameter_count, &builder->parameter_capacity,
                 sizeof *model->parameters, "parameters"));
    const int64_t dims[4] = {d0, d1, d2, d3};
    row.layer = model->layer_count - 1;
    snprintf(row.name, sizeof row.name, "%.50s.%s", model->layers[row.layer].name, suffix);
    row.dims_count = dims_count;
    row.count = 1;
    for (int i = 0; i < dims_count; i++) {
        row.dims[i] = dims[i];
        row.count *= dims[i];
    }
    model->parameters[model->parameter_count++] = row;
    model->layers[row.layer].parameter_count++;
    return RDP_OK;
}

static struct rdp_shape shape_of(const struct builder *builder, int layer)
{
    return layer == RDP_NO_LAYER ? (struct rdp_shape){3, 32, 32} : builder->model->layers[layer].out;
}

static void name_layer(struct rdp_layer *layer, const char *prefix, const char *name)
{
    snprintf(layer->name, sizeof layer->name, "%.30s%s", prefix, name);
}

static int add_conv(struct builder *builder, const char *prefix, const char *name, int input, int channels, int kernel,
                    int stride, int *index)
{
    struct rdp_shape in = shape_of(builder, input);
    struct rdp_layer layer = {.kind = RDP_LAYER_CONV,
                              .input = input,
                              .residual = RDP_NO_LAYER,
                              .in = in,
                              .out = rdp_shape_strided(in, channels, stride),
                              .kernel = kernel,
                              .stride = stride};
    /* torch.nn.Conv2d: kaiming_uniform with a = sqrt(5), which is uniform in +-1/sqrt(fan_in). */
    double bound = 1.0 / sqrt((double)in.channels * kernel * kernel);
    const bool dirac = builder->options->conv_init == RDP_CONV_INIT_DIRAC && kernel == 3 && input != RDP_NO_LAYER;
    name_layer(&layer, prefix, name);
    RDP_TRY(add_layer(builder, &layer, index));
    return add_parameter(builder, "weight",
                         (struct rdp_parameter){.decays = true, .uniform = true, .dirac = dirac, .init = bound}, 4,
                         channels, in.channels, kernel, kernel);
}

static int add_bn(struct builder *builder, const char *prefix, const char *name, int input, int residual,
                  enum rdp_kernel_activation activation, int *index)
{
    struct rdp_shape in = shape_of(builder, input);
    struct rdp_layer layer = {.kind = RDP_LAYER_BN,
                              .input = input,
                              .residual = residual,
                              .in = in,
                              .out = in,
                              .activation = activation,
                              .slope = (float)builder->options->leaky_slope};
    bool decays = builder->options->decay_bn;
    name_layer(&layer, prefix, name);
    RDP_TRY(add_layer(builder, &layer, index));
    RDP_TRY(
        add_parameter(builder, "weight", (struct rdp_parameter){.decays = decays, .init = 1}, 1, in.channels, 1, 1, 1));
    RDP_TRY(
        add_parameter(builder, "bias", (struct rdp_parameter){.decays = decays, .init = 0}, 1, in.channels, 1, 1, 1));
    RDP_TRY(add_parameter(builder, "running_mean", (struct rdp_parameter){.kind = RDP_PARAMETER_STATE, .init = 0}, 1,
                          in.channels, 1, 1, 1));
    return add_parameter(builder, "running_var", (struct rdp_parameter){.kind = RDP_PARAMETER_STATE, .init = 1}, 1,
                         in.channels, 1, 1, 1);
}

static enum rdp_kernel_activation activation_of(const struct rdp_options *options)
{
    static const enum rdp_kernel_activation activations[] = {
        [RDP_RELU] = RDP_ACT_RELU, [RDP_LEAKY_RELU] = RDP_ACT_LEAKY_RELU, [RDP_GELU] = RDP_ACT_GELU};
    return activations[options->activation];
}

/* The block's 3x3 convolution that halves the image where its stage does: by its own stride or by a max-pool behind. */
static int add_halving_conv(struct builder *builder, const char *prefix, const char *name, int input, int channels,
                            int stride, int *index)
{
    const bool pools = stride == 2 && builder->options->downsample == RDP_DOWNSAMPLE_MAX_POOL;
    RDP_TRY(add_conv(builder, prefix, name, input, channels, 3, pools ? 1 : stride, index));
    if (!pools)
        return RDP_OK;
    const struct rdp_shape in = shape_of(builder, *index);
    struct rdp_layer layer = {.kind = RDP_LAYER_MAX_POOL,
                              .input = *index,
                              .residual = RDP_NO_LAYER,
                              .in = in,
                              .out = rdp_shape_strided(in, channels, stride),
                              .stride = stride};
    name_layer(&layer, prefix, "maxpool");
    return add_layer(builder, &layer, index);
}

/*
 * A residual block, or with --shortcut none its main path alone. Order matters for speed, not for results: the
 * shortcut's convolution follows the main path's first, since both read the block's input; each batch-norm's apply runs
 * when its reader needs it (network_plan.c).
 */
static int add_block(struct builder *builder, int stage, int block, int width, int stride, int *top)
{
    const struct rdp_options *options = builder->options;
    const bool bottleneck = options->block == RDP_BLOCK_BOTTLENECK;
    const enum rdp_kernel_activation activation = activation_of(options);
    const int input = *top, out_channels = bottleneck ? 4 * width : width;
    const struct rdp_shape in = shape_of(builder, input);
    const bool changes = stride != 1 || in.channels != out_channels;
    int conv, shortcut = options->shortcut == RDP_SHORTCUT_NONE ? RDP_NO_LAYER : input, shortcut_conv = RDP_NO_LAYER;
    char prefix[RDP_NAME_MAX];

    snprintf(prefix, sizeof prefix, "layer%d.%d.", stage + 1, block);
    if (bottleneck)
        RDP_TRY(add_conv(builder, prefix, "conv1", input, width, 1, 1, &conv));
    else
        RDP_TRY(add_halving_conv(builder, prefix, "conv1", input, width, stride, &conv));
    if (changes && options->shortcut == RDP_SHORTCUT_CONV)
        RDP_TRY(add_conv(builder, prefix, "downsample.0", input, out_channels, 1, stride, &shortcut_conv));
    if (changes && options->shortcut == RDP_SHORTCUT_PAD) {
        struct rdp_layer layer = {.kind = RDP_LAYER_PAD,
                                  .input = input,
                                  .residual = RDP_NO_LAYER,
                                  .in = in,
                                  .out = rdp_shape_strided(in, out_channels, stride),
                                  .stride = stride};
        name_layer(&layer, prefix, "downsample");
        RDP_TRY(add_layer(builder, &layer, &shortcut));
    }
    RDP_TRY(add_bn(builder, prefix, "bn1", conv, RDP_NO_LAYER, activation, top));
    if (shortcut_conv != RDP_NO_LAYER)
        RDP_TRY(add_bn(builder, prefix, "downsample.1", shortcut_conv, RDP_NO_LAYER, RDP_ACT_NONE, &shortcut));
    RDP_TRY(add_halving_conv(builder, prefix, "conv2", *top, width, bottleneck ? stride : 1, &conv));
    if (bottleneck) {
        RDP_TRY(add_bn(builder, prefix, "bn2", conv, RDP_NO_LAYER, activation, top));
        RDP_TRY(add_conv(builder, prefix, "conv3", *top, out_channels, 1, 1, &conv));
    }
    RDP_TRY(add_bn(builder, prefix, bottleneck ? "bn3" : "bn2", conv, shortcut, activation, top));
    /* Goyal et al. 2017, section 5.1: the block starts as its shortcut alone. */
    if (options->zero_init_residual)
        builder->model->parameters[builder->model->layers[*top].first_parameter].init = 0;
    return RDP_OK;
}

/* Behind a stage, unless its probability is 0. */
static int add_dropout(struct builder *builder, int stage, int *top)
{
    const struct rdp_real_list *list = &builder->options->dropout;
    const struct rdp_shape in = shape_of(builder, *top);
    struct rdp_layer layer = {.kind = RDP_LAYER_DROPOUT,
                              .input = *top,
                              .residual = RDP_NO_LAYER,
                              .in = in,
                              .out = in,
                              .probability = list->values[list->count == 1 ? 0 : stage],
                              .stage = stage};
    char prefix[RDP_NAME_MAX];
    if (layer.probability == 0)
        return RDP_OK;
    snprintf(prefix, sizeof prefix, "layer%d.", stage + 1);
    name_layer(&layer, prefix, "dropout");
    return add_layer(builder, &layer, top);
}

static int add_head(struct builder *builder, int top)
{
    struct rdp_model *model = builder->model;
    struct rdp_shape in = shape_of(builder, top);
    double bound = 1.0 / sqrt((double)in.channels); /* torch.nn.Linear: weight and bias alike */
    struct rdp_layer pool = {
        .kind = RDP_LAYER_POOL, .input = top, .residual = RDP_NO_LAYER, .in = in, .out = {in.channels, 1, 1}};
    struct rdp_layer fc = {
        .kind = RDP_LAYER_FC, .residual = RDP_NO_LAYER, .in = pool.out, .out = {model->classes, 1, 1}};
    name_layer(&pool, "", "avgpool");
    name_layer(&fc, "", "fc");
    RDP_TRY(add_layer(builder, &pool, &fc.input));
    RDP_TRY(add_layer(builder, &fc, &top));
    RDP_TRY(add_parameter(builder, "weight", (struct rdp_parameter){.decays = true, .uniform = true, .init = bound}, 2,
                          model->classes, in.channels, 1, 1));
    return add_parameter(builder, "bias",
                         (struct rdp_parameter){.decays = builder->options->decay_bn, .uniform = true, .init = bound},
                         1, model->classes, 1, 1, 1);
}

static int build(struct builder *builder)
{
    const struct rdp_options *options = builder->options;
    int top;
    RDP_TRY(add_conv(builder, "", "conv1", RDP_NO_LAYER, options->stem_width, 3, 1, &top));
    RDP_TRY(add_bn(builder, "", "bn1", top, RDP_NO_LAYER, activation_of(options), &top));
    for (int i = 0; i <= top; i++)
        builder->model->layers[i].frozen = options->freeze_stem;
    for (int stage = 0; stage < options->blocks.count; stage++) {
        const int last = options->strides.count - 1, stride = options->strides.values[stage < last ? stage : last];
        for (int block = 0; block < options->blocks.values[stage]; block++)
            RDP_TRY(add_block(builder, stage, block, options->widths.values[stage], block == 0 ? stride : 1, &top));
        RDP_TRY(add_dropout(builder, stage, &top));
    }
    return add_head(builder, top);
}

int rdp_model_create(struct rdp_model **model, const struct rdp_options *options, int classes)
{
    RDP_TRY(rdp_calloc((void **)model, 1, sizeof **model, "the model"));
    struct builder builder = {.model = *model, .options = options};
    (*model)->classes = classes;
    int status = build(&builder);
    if (status != RDP_OK) {
        rdp_model_destroy(*model);
        *model = NULL;
    }
    return status;
}

void rdp_model_destroy(struct rdp_model *model)
{
    if (model == NULL)
        return;
    free(model->layers);
    free(model->parameters);
    free(model);
}

int64_t rdp_model_parameters(const struct rdp_model *model)
{
    int64_t total = 0;
    for (int i = 0; i < model->parameter_count; i++)
        if (model->parameters[i].kind == RDP_PARAMETER_TRAINED)
            total += model->parameters[i].count;
    return total;
}

int64_t rdp_layer_multiply_adds(const struct rdp_layer *layer)
{
    int64_t outputs = (int64_t)layer->out.channels * layer->out.height * layer->out.width;
    if (layer->kind == RDP_LAYER_CONV)
        return outputs * layer->in.channels * layer->kernel * layer->kernel;
    return layer->kind == RDP_LAYER_FC ? outputs * layer->in.channels : 0;
}

int64_t rdp_layer_parameters(const struct rdp_model *model, const struct rdp_layer *layer)
{
    int64_t total = 0;
    for (int p = 0; p < layer->parameter_count; p++)
        if (model->parameters[layer->first_parameter + p].kind == RDP_PARAMETER_TRAINED)
            total += model->parameters[layer->first_parameter + p].count;
    return total;
}

void rdp_layer_describe(const struct rdp_layer *layer, char kind[RDP_NAME_MAX], char shape[RDP_NAME_MAX])
{
    static const char *const kinds[] = {"Conv2d",        "BatchNorm2d", "ZeroPad", "Dropout",
                                        "MaxPool2d 2x2", "AvgPool2d",   "Linear"};
    static const char *const activations[] = {[RDP_ACT_NONE] = "",
                                              [RDP_ACT_RELU] = " + ReLU",
                                              [RDP_ACT_LEAKY_RELU] = " + LeakyReLU",
                                              [RDP_ACT_GELU] = " + GELU"};
    if (layer->kind == RDP_LAYER_FC || layer->kind == RDP_LAYER_POOL)
        snprintf(shape, RDP_NAME_MAX, "[%d]", layer->out.channels);
    else
        snprintf(shape, RDP_NAME_MAX, "[%d, %d, %d]", layer->out.channels, layer->out.height, layer->out.width);
    if (layer->kind == RDP_LAYER_CONV)
        snprintf(kind, RDP_NAME_MAX, "Conv2d %dx%d stride %d", layer->kernel, layer->kernel, layer->stride);
    else if (layer->kind == RDP_LAYER_DROPOUT)
        snprintf(kind, RDP_NAME_MAX, "%s p=%g", kinds[layer->kind], layer->probability);
    else
        snprintf(kind, RDP_NAME_MAX, "%s%s%s", kinds[layer->kind], layer->residual != RDP_NO_LAYER ? " + add" : "",
                 activations[layer->activation]);
}

void rdp_model_summary(const struct rdp_model *model, FILE *out)
{
    int64_t multiply_adds = 0;
    char number[2][32], shape[RDP_NAME_MAX], kind[RDP_NAME_MAX];
    fprintf(out, "%-26s %-29s %-15s %12s %14s\n", "Layer", "Kind", "Output shape", "Params", "Multiply-adds");
    for (int i = 0; i < model->layer_count; i++) {
        const struct rdp_layer *layer = &model->layers[i];
        multiply_adds += rdp_layer_multiply_adds(layer);
        rdp_layer_describe(layer, kind, shape);
        fprintf(out, "%-26s %-29s %-15s %12s %14s\n", layer->name, kind, shape,
                rdp_format_thousands(number[0], sizeof number[0], rdp_layer_parameters(model, layer)),
                rdp_format_thousands(number[1], sizeof number[1], rdp_layer_multiply_adds(layer)));
    }
    fprintf(out, "Multiply-adds per image: %s\n", rdp_format_thousands(number[0], sizeof number[0], multiply_adds));
    fprintf(out, "Total params: %s\n", rdp_format_thousands(number[0], sizeof number[0], rdp_model_parameters(model)));
}
