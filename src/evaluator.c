/* Evaluation; see evaluator.h. */
#include "evaluator.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"
#include "comm/watchdog.h"

struct rdp_evaluator {
    struct rdp_comm *comm;
    struct rdp_device *device;
    int64_t count;          /* images that this rank evaluates; may be 0 */
    uint8_t *images;        /* host u8 (count,32,32,3) */
    uint8_t *device_images; /* where the device reads */
    uint8_t *labels;        /* host */
    bool shared;            /* all ranks take part */
    enum rdp_views views;
};

static int load(struct rdp_evaluator *evaluator, struct rdp_dataset *dataset, enum rdp_split split, const int64_t *rows,
                int64_t count)
{
    const struct rdp_comm *comm = evaluator->comm;
    int64_t begin = evaluator->shared ? count * comm->rank / comm->size : 0;
    int64_t end = evaluator->shared ? count * (comm->rank + 1) / comm->size : comm->rank == 0 ? count : 0;
    evaluator->count = end - begin;
    if (evaluator->count == 0)
        return RDP_OK;
    size_t bytes = (size_t)evaluator->count * RDP_IMAGE_BYTES;
    RDP_TRY(rdp_alloc_aligned((void **)&evaluator->images, bytes, "evaluation images"));
    RDP_TRY(rdp_calloc((void **)&evaluator->labels, (size_t)evaluator->count, 1, "evaluation labels"));
    if (rows == NULL)
        RDP_TRY(rdp_dataset_read(dataset, split, begin, evaluator->count, evaluator->images, evaluator->labels));
    else
        RDP_TRY(rdp_dataset_read_rows(dataset, split, rows + begin, evaluator->count, evaluator->images,
                                      evaluator->labels));
    evaluator->device_images = evaluator->images;
    if (evaluator->device->ops->host_memory)
        return RDP_OK;
    RDP_TRY(evaluator->device->ops->alloc(evaluator->device, (void **)&evaluator->device_images, bytes,
                                          "evaluation images"));
    return evaluator->device->ops->upload(evaluator->device, evaluator->device_images, evaluator->images, bytes);
}

int rdp_evaluator_create(struct rdp_evaluator **evaluator, struct rdp_dataset *dataset, enum rdp_split split,
                         const int64_t *rows, int64_t count, enum rdp_evaluate_on where, enum rdp_views views,
                         struct rdp_comm *comm, struct rdp_device *device)
{
    int status = rdp_calloc((void **)evaluator, 1, sizeof **evaluator, "the evaluator");
    if (status == RDP_OK) {
        **evaluator =
            (struct rdp_evaluator){.comm = comm, .device = device, .shared = where == RDP_EVALUATE_ALL, .views = views};
        status = load(*evaluator, dataset, split, rows, count);
    }
    status = rdp_comm_agree(comm, status, "reading the evaluation images");
    if (status != RDP_OK) {
        rdp_evaluator_destroy(*evaluator);
        *evaluator = NULL;
    }
    return status;
}

void rdp_evaluator_destroy(struct rdp_evaluator *evaluator)
{
    if (evaluator == NULL)
        return;
    if (evaluator->device_images != evaluator->images)
        evaluator->device->ops->free(evaluator->device, evaluator->device_images);
    free(evaluator->images);
    free(evaluator->labels);
    free(evaluator);
}

static int tick(void *context)
{
    (void)context;
    rdp_watchdog_tick();
    return RDP_OK;
}

/* Cross-entropy and prediction of one row of logits, in f64. */
static double row_loss(const float *logits, int classes, int label, int *predicted)
{
    double sum = 0;
    *predicted = 0;
    for (int k = 1; k < classes; k++)
        if (logits[k] > logits[*predicted])
            *predicted = k;
    for (int k = 0; k < classes; k++)
        sum += exp((double)logits[k] - (double)logits[*predicted]);
    return log(sum) + (double)logits[*predicted] - (double)logits[label];
}

static int run_batch(struct rdp_network *network, const struct rdp_batch *batch, float *logits)
{
    const struct rdp_inputs inputs = {0};
    RDP_TRY(rdp_network_load(network, batch, &inputs));
    RDP_TRY(rdp_network_forward(network, 0, false, 0, tick, NULL));
    return rdp_network_logits(network, logits);
}

/* The mean of the logits of a batch's views; `view` has room for those of one. */
static int run_views(struct rdp_network *network, struct rdp_batch batch, enum rdp_views views, float *logits,
                     float *view)
{
    static const int counts[] = {[RDP_VIEWS_1] = 1, [RDP_VIEWS_2] = 2, [RDP_VIEWS_6] = 6};
    static const int shifts[] = {0, 0, -1, -1, 1, 1};
    const size_t count = (size_t)network->config.batch * (size_t)network->model->classes;
    memset(logits, 0, count * sizeof *logits);
    batch.augment.enabled = false;
    batch.augment.crop = RDP_PAD_REFLECT;
    for (int k = 0; k < counts[views]; k++) {
        const float weight = views != RDP_VIEWS_6 ? 1.0f / (float)counts[views] : shifts[k] == 0 ? 0.25f : 0.125f;
        batch.augment.shift = shifts[k];
        batch.augment.mirror = k % 2;
        RDP_TRY(run_batch(network, &batch, view));
        for (size_t i = 0; i < count; i++)
            logits[i] += weight * view[i];
    }
    return RDP_OK;
}

/* This rank's images, batch by batch; the last batch is filled up with copies of image 0 that do not count. */
static int run_own(struct rdp_evaluator *evaluator, struct rdp_network *network, const struct rdp_augment *normalise,
                   int64_t *rows, uint8_t *labels, float *logits, float *view, double *loss, int64_t *confusion)
{
    const int batch_size = network->config.batch, classes = network->model->classes;
    for (int64_t first = 0; first < evaluator->count; first += batch_size) {
        int valid = evaluator->count - first < batch_size ? (int)(evaluator->count - first) : batch_size;
        for (int i = 0; i < batch_size; i++) {
            rows[i] = i < valid ? first + i : 0;
            labels[i] = evaluator->labels[rows[i]];
        }
        struct rdp_batch batch = {.images = evaluator->device_images,
                                  .rows = rows,
                                  .samples = rows,
                                  .labels = labels,
                                  .count = batch_size,
                                  .valid = valid,
                                  .augment = *normalise};
        RDP_TRY(run_views(network, batch, evaluator->views, logits, view));
        for (int i = 0; i < valid; i++) {
            int predicted;
            *loss += row_loss(logits + (size_t)i * (size_t)classes, classes, labels[i], &predicted);
            confusion[labels[i] * classes + predicted]++;
        }
    }
    return RDP_OK;
}

/* The ranks' mean of the running statistics goes into the network; `own` keeps this rank's. */
static int average_state(struct rdp_network *network, struct rdp_comm *comm, float *own, float *mean)
{
    size_t bytes = network->state_count * sizeof(float);
    RDP_TRY(network->device->ops->download(network->device, own, network->state, bytes));
    memcpy(mean, own, bytes);
    RDP_TRY(comm->ops->allreduce_f32(comm, mean, network->state_count, RDP_SUM, "running statistics"));
    for (size_t i = 0; i < network->state_count; i++)
        mean[i] /= (float)comm->size;
    return network->device->ops->upload(network->device, network->state, mean, bytes);
}

struct scratch {
    int64_t *rows;
    uint8_t *labels;
    float *logits, *view, *own, *mean;
};

static int run(struct rdp_evaluator *evaluator, struct rdp_network *network, const struct rdp_augment *normalise,
               struct rdp_evaluation *evaluation, struct scratch *scratch)
{
    struct rdp_comm *comm = evaluator->comm;
    const size_t batch = (size_t)network->config.batch, classes = (size_t)network->model->classes;
    const bool average = comm->size > 1 && !network->config.sync_bn;
    RDP_TRY(rdp_calloc((void **)&scratch->rows, batch, sizeof(int64_t), "evaluation"));
    RDP_TRY(rdp_calloc((void **)&scratch->labels, batch, 1, "evaluation"));
    RDP_TRY(rdp_calloc((void **)&scratch->logits, batch * classes, sizeof(float), "evaluation"));
    RDP_TRY(rdp_calloc((void **)&scratch->view, batch * classes, sizeof(float), "evaluation"));
    RDP_TRY(rdp_calloc((void **)&evaluation->confusion, classes * classes, sizeof(int64_t), "the confusion matrix"));
    if (average) {
        RDP_TRY(rdp_calloc((void **)&scratch->own, network->state_count, sizeof(float), "evaluation"));
        RDP_TRY(rdp_calloc((void **)&scratch->mean, network->state_count, sizeof(float), "evaluation"));
        RDP_TRY(average_state(network, comm, scratch->own, scratch->mean));
    }
    int status = run_own(evaluator, network, normalise, scratch->rows, scratch->labels, scratch->logits, scratch->view,
                         &evaluation->loss, evaluation->confusion);
    if (average && status == RDP_OK)
        status = network->device->ops->upload(network->device, network->state, scratch->own,
                                              network->state_count * sizeof(float));
    RDP_TRY(status);
    /* The others wait here for rank 0's evaluation, without using its cores. */
    RDP_TRY(comm->ops->barrier(comm, 1, "evaluation"));
    RDP_TRY(comm->ops->allreduce_f64(comm, &evaluation->loss, 1, RDP_SUM, "evaluation loss"));
    RDP_TRY(comm->ops->allreduce_i64(comm, evaluation->confusion, classes * classes, RDP_SUM, "confusion matrix"));
    evaluation->classes = (int)classes;
    for (size_t i = 0; i < classes * classes; i++) {
        evaluation->count += evaluation->confusion[i];
        evaluation->correct += i / classes == i % classes ? evaluation->confusion[i] : 0;
    }
    evaluation->loss = evaluation->count > 0 ? evaluation->loss / (double)evaluation->count : NAN;
    return RDP_OK;
}

int rdp_evaluator_run(struct rdp_evaluator *evaluator, struct rdp_network *network, const struct rdp_augment *normalise,
                      struct rdp_evaluation *evaluation)
{
    struct scratch scratch = {0};
    memset(evaluation, 0, sizeof *evaluation);
    rdp_watchdog_phase("evaluation", -1);
    int status = run(evaluator, network, normalise, evaluation, &scratch);
    free(scratch.rows);
    free(scratch.labels);
    free(scratch.logits);
    free(scratch.view);
    free(scratch.own);
    free(scratch.mean);
    if (status != RDP_OK)
        rdp_evaluation_free(evaluation);
    return status;
}

void rdp_evaluation_free(struct rdp_evaluation *evaluation)
{
    free(evaluation->confusion);
    evaluation->confusion = NULL;
}

void rdp_evaluation_print(const struct rdp_evaluation *evaluation, const struct rdp_dataset_info *info)
{
    const int classes = evaluation->classes;
    rdp_say("\n%-20s %8s %8s %9s   predicted as (classes in the same order)\n", "Class", "Correct", "Of", "Accuracy");
    for (int k = 0; k < classes; k++) {
        const int64_t *row = evaluation->confusion + (size_t)k * (size_t)classes;
        int64_t count = 0;
        for (int j = 0; j < classes; j++)
            count += row[j];
        rdp_say("%-20s %8lld %8lld %7.2f %%  ", info->class_names[k], (long long)row[k], (long long)count,
                count > 0 ? 100.0 * (double)row[k] / (double)count : 0.0);
        for (int j = 0; j < classes; j++)
            rdp_say(" %4lld", (long long)row[j]);
        rdp_say("\n");
    }
}

void rdp_evaluation_print_accuracy(const char *set, const struct rdp_evaluation *evaluation)
{
    char correct[32], count[32];
    rdp_say("%s accuracy: %.2f %% (%s of %s)\n", set,
            evaluation->count > 0 ? 100.0 * (double)evaluation->correct / (double)evaluation->count : 0.0,
            rdp_format_thousands(correct, sizeof correct, evaluation->correct),
            rdp_format_thousands(count, sizeof count, evaluation->count));
}
