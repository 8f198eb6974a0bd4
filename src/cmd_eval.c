/*
 * `resnet-dp eval`: loss, accuracy, per-class accuracy and confusion matrix of a checkpoint on the test set. Every
 * rank reads the checkpoint; who evaluates is --evaluate-on's choice. Each phase ends with all ranks agreeing on its
 * status, so that one message tells of a failure.
 */
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "commands.h"
#include "evaluator.h"
#include "loaded.h"

struct evaluation_run {
    struct rdp_loaded loaded;
    struct rdp_dataset *dataset;
    struct rdp_evaluator *evaluator;
    struct rdp_evaluation evaluation;
};

/* Labels are numbers: they mean the same only if the classes have the same names in the same order. */
static int check_classes(const struct rdp_loaded *loaded, const struct rdp_dataset_info *data)
{
    const struct rdp_dataset_info *trained = &loaded->info;
    if (data->classes != trained->classes)
        return rdp_fail(RDP_EUSAGE,
                        "%s has %d classes, but %s was trained on %d: evaluate on the data set of the training run",
                        loaded->options.data, data->classes, loaded->options.checkpoint, trained->classes);
    for (int i = 0; i < data->classes; i++)
        if (strcmp(data->class_names[i], trained->class_names[i]) != 0)
            return rdp_fail(RDP_EUSAGE,
                            "%s: class %d is \"%s\", but %s was trained with \"%s\": evaluate on the data set of the "
                            "training run",
                            loaded->options.data, i, data->class_names[i], loaded->options.checkpoint,
                            trained->class_names[i]);
    return RDP_OK;
}

static int read_files(struct evaluation_run *run, const struct rdp_options *options)
{
    RDP_TRY(rdp_loaded_read(&run->loaded, options));
    RDP_TRY(rdp_dataset_open(&run->dataset, options->data));
    RDP_TRY(check_classes(&run->loaded, rdp_dataset_info(run->dataset)));
    if (rdp_dataset_info(run->dataset)->count[RDP_SPLIT_TEST] == 0)
        return rdp_fail(RDP_EUSAGE, "%s holds no test images: nothing to evaluate", options->data);
    return RDP_OK;
}

/* The batch is the images of one pass here; one far larger than the set would only cost memory. */
static int pass_size(const struct evaluation_run *run)
{
    int64_t count = rdp_dataset_info(run->dataset)->count[RDP_SPLIT_TEST];
    return run->loaded.options.batch < count ? run->loaded.options.batch : (int)count;
}

static int evaluate(struct evaluation_run *run, const struct rdp_options *options, struct rdp_session *session)
{
    struct rdp_loaded *loaded = &run->loaded;
    struct rdp_comm *comm = session->comm;
    const struct rdp_dataset_info *info;
    RDP_TRY(rdp_comm_agree(comm, read_files(run, options), "reading the checkpoint and the data set"));
    info = rdp_dataset_info(run->dataset);
    RDP_TRY(rdp_session_open_device(session, &loaded->options));
    RDP_TRY(rdp_comm_agree(comm, rdp_loaded_network(loaded, session->device, pass_size(run)), "making the network"));
    rdp_loaded_say(loaded, session->device);
    RDP_TRY(rdp_evaluator_create(&run->evaluator, run->dataset, RDP_SPLIT_TEST, NULL, info->count[RDP_SPLIT_TEST],
                                 loaded->options.evaluate_on, loaded->options.evaluate_views, comm, session->device));
    RDP_TRY(rdp_evaluator_run(run->evaluator, loaded->network, &loaded->normalise, &run->evaluation));
    if (comm->rank == 0)
        rdp_evaluation_print(&run->evaluation, info);
    rdp_say("\nTest loss: %.4f\n", run->evaluation.loss);
    if (comm->rank == 0)
        rdp_evaluation_print_accuracy("Test", &run->evaluation);
    return RDP_OK;
}

int rdp_cmd_eval(const struct rdp_options *options, struct rdp_session *session)
{
    struct evaluation_run run = {0};
    int status = evaluate(&run, options, session);
    rdp_evaluation_free(&run.evaluation);
    rdp_evaluator_destroy(run.evaluator);
    rdp_dataset_close(run.dataset);
    rdp_loaded_free(&run.loaded);
    return status;
}
