/* Optimisers: options to kernels; see optimiser.h. */
#include "optimiser.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "kernels/common/optimiser.h"

/* One line per optimiser, in the order of enum rdp_optimizer; options.c has their defaults. */
static const struct {
    enum rdp_optimiser_kind kind;
    const char *state[RDP_OPTIMISER_ARRAYS]; /* PyTorch's keys, in the kernels' order */
    bool averages;                           /* of its own accord */
} optimisers[RDP_OPTIMIZERS] = {
    [RDP_OPTIMIZER_SGD] = {RDP_SGD, {"momentum_buffer"}, false},
    [RDP_OPTIMIZER_ADAM] = {RDP_ADAM, {"exp_avg", "exp_avg_sq"}, false},
    [RDP_OPTIMIZER_ADAMW] = {RDP_ADAMW, {"exp_avg", "exp_avg_sq"}, false},
    [RDP_OPTIMIZER_ADAMAX] = {RDP_ADAMAX, {"exp_avg", "exp_inf"}, false},
    [RDP_OPTIMIZER_ADAGRAD] = {RDP_ADAGRAD, {"sum"}, false},
    [RDP_OPTIMIZER_RMSPROP] = {RDP_RMSPROP, {"square_avg", "momentum_buffer"}, false},
    [RDP_OPTIMIZER_ASGD] = {RDP_ASGD, {NULL}, true},
    [RDP_OPTIMIZER_LARS] = {RDP_LARS, {"momentum_buffer"}, false},
    [RDP_OPTIMIZER_LAMB] = {RDP_LAMB, {"exp_avg", "exp_avg_sq"}, false},
};

struct rdp_optimiser rdp_optimiser_of(const struct rdp_options *options)
{
    return (struct rdp_optimiser){
        .kind = optimisers[options->optimizer].kind,
        .momentum = (float)options->momentum,
        .beta1 = (float)options->beta1,
        .beta2 = (float)options->beta2,
        .epsilon = (float)options->epsilon,
        .alpha = (float)options->rmsprop_alpha,
        .lambda = (float)options->asgd_lambda,
        .trust_coefficient = (float)options->trust_coefficient,
        .nesterov = options->nesterov,
        .clip_value = (float)options->clip_value,
        .clip_norm = (float)options->clip_norm,
    };
}

void rdp_optimiser_state_names(const struct rdp_options *options, const char *names[RDP_OPTIMISER_ARRAYS])
{
    for (int i = 0; i < RDP_OPTIMISER_ARRAYS; i++) {
        const char *name = optimisers[options->optimizer].state[i];
        const bool unused = name != NULL && strcmp(name, "momentum_buffer") == 0 && options->momentum == 0;
        names[i] = unused ? NULL : name;
    }
}

bool rdp_optimiser_averages(const struct rdp_options *options)
{
    return options->ema > 0 || optimisers[options->optimizer].averages;
}

bool rdp_optimiser_evaluates_averages(const struct rdp_options *options)
{
    return options->evaluate_weights == RDP_WEIGHTS_AVERAGED ||
           (options->evaluate_weights == RDP_WEIGHTS_AUTO && options->ema > 0);
}

/* A row's learning rate, times the others'. */
static double rate_of(const struct rdp_model *model, const struct rdp_options *options, int parameter)
{
    const struct rdp_layer *layer = &model->layers[model->parameters[parameter].layer];
    if (layer->frozen)
        return 0;
    if (layer->kind != RDP_LAYER_BN)
        return 1;
    return parameter == layer->first_parameter ? options->bn_weight_lr : options->bn_bias_lr;
}

static struct rdp_update_row row_of(const struct rdp_network *network, const struct rdp_options *options, int parameter)
{
    const struct rdp_model *model = network->model;
    struct rdp_update_row row = {.offset = network->rows[parameter].offset,
                                 .count = network->rows[parameter].stored_count,
                                 .lr = (float)rate_of(model, options, parameter),
                                 .adapts = model->parameters[parameter].dims_count > 1};
    /* A step shrinks each by rate x decay: all alike, as Jordan 2024 has it. */
    if (row.lr > 0 && model->parameters[parameter].decays)
        row.weight_decay = (float)options->weight_decay / row.lr;
    return row;
}

static int by_offset(const void *a, const void *b)
{
    const struct rdp_update_row *left = a, *right = b;
    return (left->offset > right->offset) - (left->offset < right->offset);
}

int rdp_optimiser_rows(struct rdp_optimiser_rows *rows, const struct rdp_network *network,
                       const struct rdp_options *options)
{
    const struct rdp_model *model = network->model;
    const size_t blocks = network->parameter_count / RDP_ROW_BLOCK;
    *rows = (struct rdp_optimiser_rows){.count = 0};
    if (model->parameter_count > UINT16_MAX)
        return rdp_fail(RDP_EUSAGE, "%d parameter arrays: the optimiser numbers them with 16 bits; use fewer --blocks",
                        model->parameter_count);
    RDP_TRY(
        rdp_calloc((void **)&rows->rows, (size_t)model->parameter_count, sizeof *rows->rows, "the optimiser's rows"));
    int status = rdp_calloc((void **)&rows->row_of, blocks, sizeof *rows->row_of, "the optimiser's rows");
    if (status != RDP_OK) {
        free(rows->rows);
        return status;
    }
    for (int i = 0; i < model->parameter_count; i++)
        if (model->parameters[i].kind == RDP_PARAMETER_TRAINED)
            rows->rows[rows->count++] = row_of(network, options, i);
    qsort(rows->rows, (size_t)rows->count, sizeof *rows->rows, by_offset);
    /* Rows begin at blocks, and each goes on to the next. */
    for (size_t block = 0, row = 0; block < blocks; block++) {
        while (row + 1 < (size_t)rows->count && rows->rows[row + 1].offset <= block * RDP_ROW_BLOCK)
            row++;
        rows->row_of[block] = (uint16_t)row;
    }
    return RDP_OK;
}

/* The weight of the new parameters in their average. */
static double average_weight(const struct rdp_options *options, int64_t step)
{
    if (options->ema > 0)
        return step == 0 ? 1 : 1 - options->ema;
    return 1 / fmax(1, (double)step - options->asgd_t0);
}

struct rdp_step_values rdp_optimiser_step_values(const struct rdp_options *options, int64_t epoch, int64_t step,
                                                 double lr, double previous_lr, double momentum)
{
    struct rdp_optimiser optimiser = rdp_optimiser_of(options);
    const struct rdp_optimiser_decay decay = {options->adagrad_lr_decay, options->asgd_lambda, options->asgd_alpha};
    const bool synchronises = options->lookahead > 0 && (step + 1) % options->lookahead == 0;
    struct rdp_step_values values = {
        .lr = (float)lr,
        .epoch = (uint32_t)epoch,
        .step = (uint32_t)step,
        .average = rdp_optimiser_averages(options) ? (float)average_weight(options, step) : 0,
        .lookahead = synchronises ? (float)options->lookahead_alpha : 0,
        .mix = 1,
        .mix_pixels = 1,
    };
    if (!isnan(momentum))
        optimiser.momentum = optimiser.beta1 = (float)momentum;
    rdp_optimiser_values(&optimiser, &decay, step, lr, previous_lr, values.optimiser);
    return values;
}
