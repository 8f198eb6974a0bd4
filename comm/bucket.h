/*
 * Gradient buckets: the flat gradient array cut into ranges that are all-reduced while backward still computes the
 * next.
 *
 * The array lies in the order in which backward finishes it, so "finished" is one number, a watermark:
 * rdp_buckets_ready() raises it, and every bucket that lies wholly below it is started. With overlap off all are
 * started in rdp_buckets_finish(). Bucket limits do not depend on the overlap switch, so both give the same bits.
 */
#ifndef RDP_COMM_BUCKET_H
#define RDP_COMM_BUCKET_H

#include <stdbool.h>
#include <stddef.h>

struct rdp_reducer;
struct rdp_buckets;

/* Cuts [0, count) floats into ranges that end at one of `boundaries` (ascending element offsets where a parameter ends,
 * the last == count) and hold at least bucket_bytes each but for the last. bucket_bytes 0: one bucket. Owned by the
 * caller; `reducer` and `gradients` (memory of the reducer's device) must outlive it. */
int rdp_buckets_create(struct rdp_buckets **buckets, struct rdp_reducer *reducer, float *gradients, size_t count,
                       const size_t *boundaries, size_t boundary_count, size_t bucket_bytes, bool overlap);
void rdp_buckets_destroy(struct rdp_buckets *buckets);
size_t rdp_buckets_count(const struct rdp_buckets *buckets);
/* Range of bucket i, in elements. */
void rdp_buckets_range(const struct rdp_buckets *buckets, size_t i, size_t *begin, size_t *end);

void rdp_buckets_begin_step(struct rdp_buckets *buckets);
/* gradients[0..watermark) are final on this rank once what was given to the device is done. Starts whole buckets; also lets the started ones progress. */
int rdp_buckets_ready(struct rdp_buckets *buckets, size_t watermark);
/* Lets the started ones progress; never blocks. Called between operations. */
int rdp_buckets_progress(struct rdp_buckets *buckets);
/* Waits for all: what is computed afterwards sees gradients that hold the sum over ranks. Adds the host's seconds spent
 * here to *exposed_seconds. With a reducer that is in order with a device's stream the host hardly waits: the device
 * does, unseen by this figure, which then is the cost of the calls alone. */
int rdp_buckets_finish(struct rdp_buckets *buckets, double *exposed_seconds);

#endif
