/*
 * A network with its optimiser and the batches of the formula rdp_reference_images on any device, and what PyTorch
 * computed for the same (tests/reference/). Used by test-pytorch.c for the CPU and by gpu-network.c for CUDA.
 */
#ifndef RDP_TEST_SUPPORT_TRAINING_H
#define RDP_TEST_SUPPORT_TRAINING_H

#include <stdbool.h>
#include <stdint.h>

#include "network.h"
#include "options.h"
#include "support_reference.h"
#include "updater.h"

struct rdp_training {
    struct rdp_device *device; /* the caller's */
    struct rdp_options options;
    struct rdp_model *model;
    struct rdp_network *network;
    uint8_t *images; /* device: the batch */
    struct rdp_updater *updater;
    int batch;
    int64_t steps; /* loaded so far: the number of the next */
};

/* Initialised with seed 1; the updater has begun with these weights. */
void rdp_training_open(struct rdp_training *training, struct rdp_device *device, const struct rdp_options *options,
                       int batch);
void rdp_training_close(struct rdp_training *training);
/* The next pass's samples are images first .. first + batch - 1; it counts as the next step. */
void rdp_training_load(struct rdp_training *training, int64_t first);
/* Forward, backward with gradients of the mean loss, optimiser: one step on the loaded samples, nothing waited for. */
void rdp_training_step(struct rdp_training *training);
/* The same in two halves. */
void rdp_training_pass(struct rdp_training *training);
void rdp_training_update(struct rdp_training *training);
/* Mean loss of the last pass; waits for it. */
double rdp_training_loss(struct rdp_training *training);
/* A row in PyTorch's layout, from `flat`; the caller's (free). */
float *rdp_training_row(struct rdp_training *training, int row, const float *flat);

/* How far a device may be from PyTorch, and was: relative, per loss and in the 2-norm of each array. */
enum rdp_followed {
    RDP_FOLLOWED_LOSS,
    RDP_FOLLOWED_GRADIENT, /* of the first step */
    RDP_FOLLOWED_FINAL,    /* parameters after the last step */
    RDP_FOLLOWED_STATE,    /* running statistics then */
    RDP_FOLLOWED_LOGITS,   /* of an evaluation then */
    RDP_FOLLOWED_KINDS
};
struct rdp_outcome {
    char run[320]; /* what messages call it */
    double tolerance[RDP_FOLLOWED_KINDS], worst[RDP_FOLLOWED_KINDS];
};
/* Trains as the reference did, from its initial weights, and compares; ends the test beyond a tolerance. */
void rdp_training_follow(const struct rdp_reference *reference, struct rdp_device *device, struct rdp_outcome *outcome);
/* tests/reference/<name>.ref; to be freed with rdp_reference_free. */
void rdp_training_reference(const char *name, struct rdp_reference *reference);

#endif
