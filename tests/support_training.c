/* See support_training.h. */
#include "support_training.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "mixing.h"
#include "optimiser.h"
#include "support_network.h"

enum { IMAGE_BYTES = 3072, CLASSES = 10 };

static bool is_trained(const struct rdp_training *training, int row)
{
    return training->model->parameters[row].kind == RDP_PARAMETER_TRAINED;
}

void rdp_training_open(struct rdp_training *training, struct rdp_device *device, const struct rdp_options *options,
                       int batch)
{
    const struct rdp_network_config config = {.batch = batch,
                                              .training = true,
                                              .label_smoothing = options->label_smoothing,
                                              .mixing = rdp_mixing_asked(options),
                                              .seed = (uint64_t)options->seed};
    *training = (struct rdp_training){.device = device, .options = *options, .batch = batch};
    RDP_MUST(rdp_model_create(&training->model, options, CLASSES));
    RDP_MUST(rdp_network_create(&training->network, training->model, device, &config));
    RDP_MUST(rdp_network_initialise(training->network, 1));
    RDP_MUST(rdp_updater_create(&training->updater, training->network, &training->options));
    RDP_MUST(rdp_updater_begin(training->updater));
    RDP_MUST(device->ops->alloc(device, (void **)&training->images, (size_t)batch * IMAGE_BYTES, "images"));
    rdp_training_load(training, 0);
}

void rdp_training_close(struct rdp_training *training)
{
    training->device->ops->free(training->device, training->images);
    rdp_updater_destroy(training->updater);
    rdp_network_destroy(training->network);
    rdp_model_destroy(training->model);
}

void rdp_training_load(struct rdp_training *training, int64_t first)
{
    const size_t batch = (size_t)training->batch;
    const double lr = training->options.lr;
    struct rdp_inputs inputs = {.values =
                                    rdp_optimiser_step_values(&training->options, 0, training->steps++, lr, lr, NAN)};
    uint8_t *images, *labels;
    int64_t *rows;
    rdp_mixing_draw(&training->options, inputs.values.step, &inputs.values);
    RDP_MUST(rdp_calloc((void **)&images, batch, IMAGE_BYTES, "images"));
    RDP_MUST(rdp_calloc((void **)&labels, batch, 1, "labels"));
    RDP_MUST(rdp_calloc((void **)&rows, batch, sizeof *rows, "rows"));
    rdp_reference_images(first, training->batch, images);
    rdp_reference_labels(first, training->batch, labels);
    for (int i = 0; i < training->batch; i++)
        rows[i] = i;
    struct rdp_batch samples = {.images = training->images,
                                .rows = rows,
                                .samples = rows,
                                .labels = labels,
                                .count = training->batch,
                                .valid = training->batch};
    memcpy(samples.augment.mean, rdp_reference_mean, sizeof samples.augment.mean);
    memcpy(samples.augment.std, rdp_reference_std, sizeof samples.augment.std);
    RDP_MUST(training->device->ops->upload(training->device, training->images, images, batch * IMAGE_BYTES));
    RDP_MUST(rdp_network_load(training->network, &samples, &inputs));
    free(images);
    free(labels);
    free(rows);
}

static void forward(struct rdp_training *training, bool learning)
{
    RDP_MUST(rdp_network_begin_totals(training->network));
    RDP_MUST(rdp_network_forward(training->network, 0, learning, 1 / (float)training->batch, NULL, NULL));
}

void rdp_training_pass(struct rdp_training *training)
{
    forward(training, true);
    RDP_MUST(rdp_network_backward(training->network, NULL, NULL, NULL));
}

void rdp_training_update(struct rdp_training *training)
{
    RDP_MUST(rdp_updater_run(training->updater));
}

void rdp_training_step(struct rdp_training *training)
{
    rdp_training_pass(training);
    rdp_training_update(training);
}

double rdp_training_loss(struct rdp_training *training)
{
    float totals[RDP_TOTALS];
    RDP_MUST(training->device->ops->download(training->device, totals, training->network->totals, sizeof totals));
    return (double)totals[RDP_TOTAL_LOSS] / training->batch;
}

float *rdp_training_row(struct rdp_training *training, int row, const float *flat)
{
    float *values;
    RDP_MUST(rdp_calloc((void **)&values, (size_t)training->model->parameters[row].count, sizeof *values, "a row"));
    RDP_MUST(rdp_network_take(training->network, row, flat, values));
    return values;
}

static const char *const kind_names[] = {"losses", "step-1 gradients", "final parameters", "running statistics",
                                         "evaluation logits"};

static const float *array(const struct rdp_reference *reference, const char *group, const char *name, size_t count)
{
    char full[RDP_REFERENCE_NAME_MAX];
    size_t found;
    snprintf(full, sizeof full, "%s%s", group, name);
    const float *values = rdp_reference_array(reference, full, &found);
    if (values == NULL || found != count)
        fail_msg("the reference has no %s of %zu values", full, count);
    return values;
}

static void check(struct rdp_outcome *outcome, int kind, const char *name, double error)
{
    if (!(error <= outcome->tolerance[kind]))
        fail_msg("%s: %s, %s: relative error %.2e", outcome->run, kind_names[kind], name, error);
    outcome->worst[kind] = fmax(outcome->worst[kind], error);
}

/* Each row of the kinds asked for, in `flat`, against the reference's arrays of `group`. */
static void check_rows(struct rdp_training *training, const struct rdp_reference *reference, const char *group,
                       int kind, const float *flat, struct rdp_outcome *outcome)
{
    for (int row = 0; row < training->model->parameter_count; row++) {
        const struct rdp_parameter *parameter = &training->model->parameters[row];
        if (is_trained(training, row) == (kind == RDP_FOLLOWED_STATE))
            continue;
        const float *want = array(reference, group, parameter->name, (size_t)parameter->count);
        float *got = rdp_training_row(training, row, flat);
        check(outcome, kind, parameter->name, rdp_test_distance(got, want, (size_t)parameter->count));
        free(got);
    }
}

static void put_initial(struct rdp_training *training, const struct rdp_reference *reference)
{
    for (int row = 0; row < training->model->parameter_count; row++) {
        const struct rdp_parameter *parameter = &training->model->parameters[row];
        if (is_trained(training, row))
            RDP_MUST(rdp_network_put(training->network, row,
                                     array(reference, "initial/", parameter->name, (size_t)parameter->count),
                                     training->network->parameters));
    }
    RDP_MUST(rdp_network_weights_changed(training->network));
    RDP_MUST(rdp_updater_begin(training->updater));
}

static void check_evaluation(struct rdp_training *training, const struct rdp_reference *reference,
                             struct rdp_outcome *outcome)
{
    const size_t count = (size_t)training->batch * CLASSES;
    float *logits;
    RDP_MUST(rdp_calloc((void **)&logits, count, sizeof *logits, "logits"));
    rdp_training_load(training, 0);
    forward(training, false);
    RDP_MUST(rdp_network_logits(training->network, logits));
    check(outcome, RDP_FOLLOWED_LOGITS, "all",
          rdp_test_distance(logits, array(reference, "", "eval_logits", count), count));
    free(logits);
}

void rdp_training_follow(const struct rdp_reference *reference, struct rdp_device *device, struct rdp_outcome *outcome)
{
    struct rdp_training training;
    struct rdp_options options;
    const int steps = (int)rdp_reference_config(reference, "config/steps");
    const float *losses = array(reference, "", "losses", (size_t)steps);
    char name[32];
    rdp_options_default(&options);
    RDP_MUST(rdp_reference_options(reference, &options));
    rdp_training_open(&training, device, &options, options.batch);
    put_initial(&training, reference);
    for (int step = 0; step < steps; step++) {
        rdp_training_load(&training, (int64_t)step * training.batch);
        rdp_training_pass(&training);
        snprintf(name, sizeof name, "step %d", step + 1);
        check(outcome, RDP_FOLLOWED_LOSS, name, fabs(rdp_training_loss(&training) / (double)losses[step] - 1));
        if (step == 0)
            check_rows(&training, reference, "gradient/", RDP_FOLLOWED_GRADIENT, training.network->gradients, outcome);
        rdp_training_update(&training);
    }
    check_rows(&training, reference, "final/", RDP_FOLLOWED_FINAL, training.network->parameters, outcome);
    check_rows(&training, reference, "final/", RDP_FOLLOWED_STATE, training.network->state, outcome);
    check_evaluation(&training, reference, outcome);
    rdp_training_close(&training);
    print_message("%s: worst relative error:", outcome->run);
    for (int kind = 0; kind < RDP_FOLLOWED_KINDS; kind++)
        print_message(" %s %.1e%s", kind_names[kind], outcome->worst[kind], kind + 1 < RDP_FOLLOWED_KINDS ? "," : "\n");
}

void rdp_training_reference(const char *name, struct rdp_reference *reference)
{
    const char *source = getenv("SOURCE_DIR");
    char path[512];
    snprintf(path, sizeof path, "%s/tests/reference/%s.ref", source == NULL ? "." : source, name);
    RDP_MUST(rdp_reference_read(path, reference));
}
