/*
 * Gradient buckets; see bucket.h. The trainer calls begin_step, then ready/progress from the backward pass as gradients
 * become final, then finish before the optimiser. Buckets start in ascending order on every rank whatever the timing,
 * which is what the collective contract asks; they are collected in ascending order too, since a transport advances all
 * pending requests in any test.
 */
#include "comm/bucket.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/memory.h"
#include "base/status.h"
#include "comm/reducer.h"

struct bucket {
    size_t begin, end; /* elements of the gradient array */
    struct rdp_request request;
    char name[40]; /* for messages of the reducer and the watchdog */
};

struct rdp_buckets {
    struct rdp_reducer *reducer; /* the caller's, like the gradients */
    float *gradients;
    size_t count; /* elements */
    bool overlap;
    bool in_step;
    size_t watermark;
    size_t started, finished; /* buckets [finished, started) are on their way */
    size_t bucket_count;
    struct bucket buckets[];
};

int rdp_buckets_create(struct rdp_buckets **buckets, struct rdp_reducer *reducer, float *gradients, size_t count,
                       const size_t *boundaries, size_t boundary_count, size_t bucket_bytes, bool overlap)
{
    void *memory;
    size_t wanted = bucket_bytes == 0 ? count : bucket_bytes / sizeof(float);
    size_t begin = 0;

    *buckets = NULL;
    if (boundary_count == 0 || boundaries[boundary_count - 1] != count)
        return rdp_fail(RDP_EINTERNAL,
                        "gradient buckets: the last boundary is not the end of the gradients (%zu); "
                        "please report this",
                        count);
    for (size_t i = 1; i < boundary_count; i++)
        if (boundaries[i] < boundaries[i - 1])
            return rdp_fail(RDP_EINTERNAL,
                            "gradient buckets: boundary %zu (%zu) lies below the one before it (%zu); "
                            "please report this",
                            i, boundaries[i], boundaries[i - 1]);
    RDP_TRY(rdp_calloc(&memory, 1, sizeof(struct rdp_buckets) + boundary_count * sizeof(struct bucket),
                       "gradient buckets"));
    struct rdp_buckets *made = memory;
    *made = (struct rdp_buckets){.reducer = reducer, .gradients = gradients, .count = count, .overlap = overlap};
    for (size_t i = 0; i < boundary_count; i++) {
        size_t end = boundaries[i];
        if (end == begin || (end - begin < wanted && i + 1 < boundary_count))
            continue;
        struct bucket *bucket = &made->buckets[made->bucket_count];
        bucket->begin = begin;
        bucket->end = end;
        snprintf(bucket->name, sizeof bucket->name, "all-reduce of bucket %zu", made->bucket_count);
        made->bucket_count++;
        begin = end;
    }
    *buckets = made;
    return RDP_OK;
}

void rdp_buckets_destroy(struct rdp_buckets *buckets)
{
    free(buckets);
}

size_t rdp_buckets_count(const struct rdp_buckets *buckets)
{
    return buckets->bucket_count;
}

void rdp_buckets_range(const struct rdp_buckets *buckets, size_t i, size_t *begin, size_t *end)
{
    *begin = buckets->buckets[i].begin;
    *end = buckets->buckets[i].end;
}

void rdp_buckets_begin_step(struct rdp_buckets *buckets)
{
    buckets->in_step = true;
    buckets->watermark = 0;
    buckets->started = buckets->finished = 0;
}

/* Starts every bucket that lies below the watermark and has not been started. */
static int start_ready(struct rdp_buckets *buckets)
{
    struct rdp_reducer *reducer = buckets->reducer;

    while (buckets->started < buckets->bucket_count && buckets->buckets[buckets->started].end <= buckets->watermark) {
        struct bucket *bucket = &buckets->buckets[buckets->started];
        RDP_TRY(reducer->ops->begin(reducer, buckets->gradients + bucket->begin, bucket->end - bucket->begin,
                                    bucket->name, &bucket->request));
        buckets->started++;
    }
    return RDP_OK;
}

static int require_step(const struct rdp_buckets *buckets, const char *call)
{
    if (buckets->in_step)
        return RDP_OK;
    return rdp_fail(RDP_EINTERNAL, "gradient buckets: %s outside begin_step ... finish; please report this", call);
}

int rdp_buckets_ready(struct rdp_buckets *buckets, size_t watermark)
{
    RDP_TRY(require_step(buckets, "ready"));
    if (watermark < buckets->watermark || watermark > buckets->count)
        return rdp_fail(RDP_EINTERNAL,
                        "gradient buckets: the watermark went from %zu to %zu of %zu; please report this",
                        buckets->watermark, watermark, buckets->count);
    buckets->watermark = watermark;
    if (!buckets->overlap)
        return RDP_OK;
    RDP_TRY(start_ready(buckets));
    return rdp_buckets_progress(buckets);
}

int rdp_buckets_progress(struct rdp_buckets *buckets)
{
    struct rdp_reducer *reducer = buckets->reducer;

    RDP_TRY(require_step(buckets, "progress"));
    while (buckets->finished < buckets->started) {
        int done = 0;
        RDP_TRY(reducer->ops->test(reducer, &buckets->buckets[buckets->finished].request, &done));
        if (!done)
            break;
        buckets->finished++;
    }
    return RDP_OK;
}

int rdp_buckets_finish(struct rdp_buckets *buckets, double *exposed_seconds)
{
    struct rdp_reducer *reducer = buckets->reducer;
    double started_at = rdp_now();

    RDP_TRY(require_step(buckets, "finish"));
    buckets->watermark = buckets->count;
    RDP_TRY(start_ready(buckets));
    for (; buckets->finished < buckets->bucket_count; buckets->finished++) {
        struct bucket *bucket = &buckets->buckets[buckets->finished];
        RDP_TRY(reducer->ops->wait(reducer, &bucket->request, bucket->name));
    }
    buckets->in_step = false;
    *exposed_seconds += rdp_now() - started_at;
    return RDP_OK;
}
