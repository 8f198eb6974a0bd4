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

struct rdp_comm;
struct rdp_buckets;

/* Cuts [0, count) floats into ranges that end at one of `boundaries` (ascending element offsets where a parameter ends,
 * the last == count) and hold at least bucket_bytes each but for the last. bucket_bytes 0: one bucket. Owned by the
 * caller. */
int rdp_buckets_create(struct rdp_buckets **buckets, struct rdp_comm *comm, float *gradients, size_t count,
                       const size_t *boundaries, size_t boundary_count, size_t bucket_bytes, bool overlap);
void rdp_buckets_destroy(struct rdp_buckets *buckets);
size_t rdp_buckets_count(const struct rdp_buckets *buckets);
/* Range of bucket i, in elements. */
void rdp_buckets_range(const struct rdp_buckets *buckets, size_t i, size_t *begin, size_t *end);

void rdp_buckets_begin_step(struct rdp_buckets *buckets);
/* gradients[0..watermark) are final on this rank. Starts whole buckets; also lets the started ones progress. */
int rdp_buckets_ready(struct rdp_buckets *buckets, size_t watermark);
/* Lets the started ones progress; never blocks. Called between operations. */
int rdp_buckets_progress(struct rdp_buckets *buckets);
/* Waits for all: afterwards gradients hold the sum over ranks. Adds the seconds spent waiting to *exposed_seconds. */
int rdp_buckets_finish(struct rdp_buckets *buckets, double *exposed_seconds);

#endif
