/* See support_optimisers.h. */
#include "support_optimisers.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "optimiser.h"
#include "options_table.h"
#include "support_network.h"
#include "support_training.h"

enum { STEPS = 20, BATCH = 4 };
/* Of arrays with more elements than LARGE the reference has every KEPT-th. */
enum { LARGE = 1000, KEPT = 8 };

/* RUNS of make_optimisers_network.py, in the words of recipes; what is not said is the default, which is PyTorch's but
 * for sgd. The model and what all runs share are below. */
static const struct {
    const char *name, *options; /* "-cycled": momentum or beta1 changes from step to step */
} runs[] = {
    {"sgd", "optimizer = sgd\nlr = 0.01\nnesterov = yes\nbn-bias-lr = 4\n"},
    {"plain", "optimizer = sgd\nlr = 0.1\nmomentum = 0\nweight-decay = 0\nclip-value = 0.05\nclip-norm = 0.5\n"
              "freeze-stem = yes\n"},
    {"adam", "optimizer = adam\nlr = 0.003\nweight-decay = 0.01\n"},
    {"sgd-cycled", "optimizer = sgd\nlr = 0.01\nnesterov = yes\n"},
    {"adam-cycled", "optimizer = adam\nlr = 0.003\nweight-decay = 0.01\n"},
    {"adamax-cycled", "optimizer = adamax\nlr = 0.001\nweight-decay = 0.01\n"},
    {"adamw", "optimizer = adamw\nlr = 0.001\nbeta1 = 0.8\nbeta2 = 0.95\nepsilon = 1e-4\nweight-decay = 0.5\n"
              "decay-bn = no\nema = 0.9\n"},
    {"adamax", "optimizer = adamax\nlr = 0.001\nweight-decay = 0.01\n"},
    {"adagrad", "optimizer = adagrad\nlr = 0.005\nadagrad-lr-decay = 0.1\nweight-decay = 0.01\n"},
    {"rmsprop", "optimizer = rmsprop\nlr = 0.0005\nrmsprop-alpha = 0.9\nmomentum = 0.5\nweight-decay = 0.01\n"},
    {"rmsprop-plain", "optimizer = rmsprop\nlr = 0.001\nepsilon = 1e-3\nlookahead = 3\nema = 0.8\n"},
    {"asgd", "optimizer = asgd\nlr = 0.1\nasgd-lambda = 1e-2\nasgd-t0 = 5\nweight-decay = 1e-3\n"},
    {"lookahead", "optimizer = sgd\nlr = 0.02\nlookahead = 5\n"},
    {"lars", "optimizer = lars\nlr = 0.2\ntrust-coefficient = 0.02\ndecay-bn = no\nclip-norm = 1\n"},
    {"lamb", "optimizer = lamb\nlr = 0.002\nepsilon = 1e-3\n"},
};

static const char shared[] = "block = basic\nblocks = 1\nstem-width = 16\nwidths = 16\nactivation = leaky-relu\n"
                             "leaky-slope = 0.999\nbatch = 4\n";

/* A run that is followed, and its worst errors so far. */
struct follower {
    const struct rdp_reference *reference;
    const struct rdp_optimiser_tolerances *tolerances;
    const char *run;
    bool cycled;
    struct rdp_training training;
    double loss, parameters, state;
};

static const float *array(const struct follower *follower, const char *group, const char *name, size_t count)
{
    char full[RDP_REFERENCE_NAME_MAX];
    size_t found;
    snprintf(full, sizeof full, "%s%s%s%s%s", group[0] == 'i' ? "" : follower->run, group[0] == 'i' ? "" : "/", group,
             name[0] == '\0' ? "" : "/", name);
    const float *values = rdp_reference_array(follower->reference, full, &found);
    if (values == NULL || found != count)
        fail_msg("the reference has no %s of %zu values", full, count);
    return values;
}

static void put_initial(struct follower *follower)
{
    struct rdp_training *training = &follower->training;
    for (int row = 0; row < training->model->parameter_count; row++) {
        const struct rdp_parameter *parameter = &training->model->parameters[row];
        if (parameter->kind == RDP_PARAMETER_TRAINED)
            RDP_MUST(rdp_network_put(training->network, row,
                                     array(follower, "initial", parameter->name, (size_t)parameter->count),
                                     training->network->parameters));
    }
    RDP_MUST(rdp_network_weights_changed(training->network));
    RDP_MUST(rdp_updater_begin(training->updater));
}

/* Every row of the network's two arrays, or of two like them. */
static void check_rows(struct follower *follower, const char *group, const float *parameters, const float *state)
{
    struct rdp_training *training = &follower->training;
    for (int row = 0; row < training->model->parameter_count; row++) {
        const struct rdp_parameter *parameter = &training->model->parameters[row];
        const bool trained = parameter->kind == RDP_PARAMETER_TRAINED;
        const double tolerance = trained ? follower->tolerances->parameters : follower->tolerances->state;
        const size_t stride = parameter->count > LARGE ? KEPT : 1;
        const size_t count = ((size_t)parameter->count + stride - 1) / stride;
        const float *want = array(follower, group, parameter->name, count);
        float *got = rdp_training_row(training, row, trained ? parameters : state);
        for (size_t k = 0; k < count; k++)
            got[k] = got[k * stride];
        const double error = rdp_test_distance(got, want, count);
        free(got);
        if (!(error <= tolerance))
            fail_msg("%s: %s/%s: relative error %.2e", follower->run, group, parameter->name, error);
        double *worst = trained ? &follower->parameters : &follower->state;
        *worst = fmax(*worst, error);
    }
}

static double rate_of(const struct follower *follower, int step)
{
    return follower->training.options.lr * (1 - (double)step / 40);
}

static void train(struct follower *follower)
{
    struct rdp_training *training = &follower->training;
    const float *losses = array(follower, "losses", "", STEPS);
    for (int step = 0; step < STEPS; step++) {
        const struct rdp_step_values values = rdp_optimiser_step_values(
            &training->options, 0, step, rate_of(follower, step), rate_of(follower, step > 0 ? step - 1 : 0),
            follower->cycled ? 0.95 - 0.005 * step : NAN);
        rdp_training_load(training, (int64_t)step * BATCH);
        RDP_MUST(
            training->device->ops->feed(training->device, &training->network->inputs->values, &values, sizeof values));
        rdp_training_step(training);
        const double error = fabs(rdp_training_loss(training) / (double)losses[step] - 1);
        if (!(error <= follower->tolerances->loss))
            fail_msg("%s: loss of step %d: relative error %.2e", follower->run, step + 1, error);
        follower->loss = fmax(follower->loss, error);
    }
}

void rdp_optimisers_follow(struct rdp_device *device, const struct rdp_optimiser_tolerances *tolerances)
{
    struct rdp_reference reference;
    rdp_training_reference("optimisers_network", &reference);
    for (size_t i = 0; i < sizeof runs / sizeof *runs; i++) {
        struct follower follower = {.reference = &reference,
                                    .tolerances = tolerances,
                                    .run = runs[i].name,
                                    .cycled = strstr(runs[i].name, "-cycled") != NULL};
        struct rdp_training *training = &follower.training;
        struct rdp_options options;
        rdp_options_begin(&options);
        RDP_MUST(rdp_options_read_text(&options, shared, "what runs share"));
        RDP_MUST(rdp_options_read_text(&options, runs[i].options, runs[i].name));
        rdp_options_resolve(&options);
        rdp_training_open(training, device, &options, BATCH);
        put_initial(&follower);
        train(&follower);
        check_rows(&follower, "final", training->network->parameters, training->network->state);
        const struct rdp_updater *updater = training->updater;
        if (updater->average != NULL)
            check_rows(&follower, "average", updater->average, updater->average_state);
        print_message("%-14s worst relative error: losses %.1e, weights %.1e, running statistics %.1e\n", runs[i].name,
                      follower.loss, follower.parameters, follower.state);
        rdp_training_close(training);
    }
    rdp_reference_free(&reference);
}
