/*
 * Which samples a rank trains on, in which order, and where they lie.
 *
 * The order of an epoch is one permutation of all training samples, a pure function of (seed, epoch). Step t takes
 * positions [t * batch, (t + 1) * batch), each micro-batch its part of that, and rank r the r-th of `size` equal slices
 * of it. So the order does not depend on the number of ranks. Each rank holds only the samples of its slices: with
 * --shuffle global the ranks exchange samples (MPI) when an epoch begins, with local they deal once and then permute
 * what they hold. Samples that do not fill a last batch sit the epoch out, other ones each time.
 */
#ifndef RDP_SAMPLER_H
#define RDP_SAMPLER_H

#include <stdint.h>

#include "comm/comm.h"
#include "io/dataset.h"
#include "kernels/kernels.h"
#include "options.h"

struct rdp_sampler;

/* Validation and training rows of the train split: ascending row numbers, owned by the caller (free). A pure function
 * of (seed, count, fraction). validation is NULL and *validation_count 0 for fraction 0. */
int rdp_sampler_split(uint64_t seed, int64_t count, double fraction, int64_t **training, int64_t *training_count,
                      int64_t **validation, int64_t *validation_count);

/* Whether `size` ranks can train by these options on the first --train-images of `all` training images: the same checks
 * that rdp_sampler_create makes, and those of the split before it, without any data. RDP_EUSAGE. */
int rdp_sampler_check(const struct rdp_options *options, int64_t all, int size);

/* Reads this rank's contiguous part of the training rows (copied) and nothing else. Agreed by all ranks. RDP_EUSAGE if
 * the batch is not a multiple of ranks x micro-batches or larger than the training set. */
int rdp_sampler_create(struct rdp_sampler **sampler, const struct rdp_options *options, struct rdp_dataset *dataset,
                       const int64_t *rows, int64_t count, struct rdp_comm *comm, struct rdp_device *device);
void rdp_sampler_destroy(struct rdp_sampler *sampler);
int64_t rdp_sampler_steps(const struct rdp_sampler *sampler); /* per epoch */
/* Begins epoch 0, 1, ...: exchanges samples. Collective. Epochs may be begun in any order. */
int rdp_sampler_begin_epoch(struct rdp_sampler *sampler, int64_t epoch);

/* This rank's slice of a step: `count` entries that stay valid until the next epoch begins. */
struct rdp_slice {
    const uint8_t *images;  /* device: the shard */
    const int64_t *rows;    /* host: where in the shard */
    const int64_t *samples; /* host: row numbers in the data set, the key of augmentation */
    const uint8_t *labels;  /* host */
    int count;
};
struct rdp_slice rdp_sampler_slice(const struct rdp_sampler *sampler, int64_t step);

#endif
