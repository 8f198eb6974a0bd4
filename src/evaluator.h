/*
 * Evaluation: loss, accuracy and confusion matrix of a set of images under the current weights and running statistics,
 * every image counted once. One rank (--evaluate-on rank0, the default) or all ranks, each its contiguous part; counts
 * are integers, so the accuracy does not depend on how the work is shared.
 */
#ifndef RDP_EVALUATOR_H
#define RDP_EVALUATOR_H

#include <stdbool.h>
#include <stdint.h>

#include "comm/comm.h"
#include "io/dataset.h"
#include "kernels/kernels.h"
#include "network.h"
#include "options.h"

struct rdp_evaluator; /* images of one set, on the device; owned by the caller of create */

struct rdp_evaluation {
    int64_t count, correct;
    double loss; /* mean cross-entropy, without label smoothing */
    int classes;
    int64_t *confusion; /* [true class][predicted class]; owned by the evaluation, rdp_evaluation_free */
};

/* Loads the rows (ascending; NULL: all) of a split that this rank evaluates. The logits of an image are
 * the mean of those of its `views`. Agreed by all ranks. */
int rdp_evaluator_create(struct rdp_evaluator **evaluator, struct rdp_dataset *dataset, enum rdp_split split,
                         const int64_t *rows, int64_t count, enum rdp_evaluate_on where, enum rdp_views views,
                         struct rdp_comm *comm, struct rdp_device *device);
void rdp_evaluator_destroy(struct rdp_evaluator *evaluator);
/* Collective. With local batch-norm the ranks' running statistics are averaged for the evaluation and put back after
 * it. The result is the same on every rank. `normalise` holds mean and std. */
int rdp_evaluator_run(struct rdp_evaluator *evaluator, struct rdp_network *network, const struct rdp_augment *normalise,
                      struct rdp_evaluation *evaluation);
void rdp_evaluation_free(struct rdp_evaluation *evaluation);
/* Rank 0: per-class table and, below, the confusion matrix. */
void rdp_evaluation_print(const struct rdp_evaluation *evaluation, const struct rdp_dataset_info *info);
/* Rank 0: "Test accuracy: 93.81 % (9,381 of 10,000)". */
void rdp_evaluation_print_accuracy(const char *set, const struct rdp_evaluation *evaluation);

#endif
