/*
 * What `bench` measures, on random images: the trainer's own step; with several ranks the same step with the overlap of
 * communication switched the other way, and without the all-reduce; and the convolutions of a step alone, the roof that
 * the step is held against; on a GPU also the roof that follows from its data sheet (roof.h). Repeats of all of them
 * alternate, so that a slow minute of the machine counts everywhere. Where a step's time goes is measured after that, by
 * the device's clock, since looking slows it down. bench_measure.c fills this, bench_report.c prints it; cmd_bench.c
 * calls both.
 */
#ifndef RDP_BENCH_H
#define RDP_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include "network.h"
#include "options.h"
#include "roof.h"
#include "session.h"
#include "step.h"

enum rdp_bench_kind {
    RDP_BENCH_STEP,
    RDP_BENCH_OTHER_OVERLAP, /* the step with --overlap the other way */
    RDP_BENCH_LOCAL,         /* the step without its all-reduce: what communication would cost if it were free */
    RDP_BENCH_CONV_CHUNKED,  /* convolutions alone, in the step's network */
    RDP_BENCH_CONV_WHOLE,    /* ... over whole batches: no cache blocking */
    RDP_BENCH_CONV_DIRECT,   /* ... over whole batches, with the direct algorithm, the library's default */
    RDP_BENCH_KINDS
};

/* One thing that is measured: `repeats` rates, of all ranks together. */
struct rdp_bench_series {
    bool measured;
    double *rates; /* images/s; owned */
    double median, least, greatest;
    struct rdp_step *step;       /* owned; NULL: no series of steps */
    struct rdp_device *device;   /* owned; NULL: the session's */
    struct rdp_network *network; /* owned; NULL: the step's */
};

enum { RDP_BENCH_OPERATIONS_MAX = RDP_OPERATION_KINDS_MAX + 3 };

struct rdp_bench {
    const struct rdp_options *options; /* the caller's */
    struct rdp_session *session;       /* the caller's */
    struct rdp_model *model;
    struct rdp_network *network;
    struct rdp_options other_options; /* as options, but for the overlap */
    struct rdp_comm *lone_comm;       /* of this rank alone, with its reducer: for RDP_BENCH_LOCAL */
    struct rdp_reducer *lone_reducer;
    int local_batch; /* images of a micro-batch on this rank */
    /* random samples */
    void *images;                /* device u8 (image_count,32,32,3) */
    int64_t image_count, window; /* the next step's first sample */
    int64_t steps_started;       /* of all series: their numbers go on, as a run's do */
    int64_t *rows;               /* [image_count], random rows */
    uint8_t *labels;             /* [image_count] */
    struct rdp_augment augment;

    struct rdp_bench_series series[RDP_BENCH_KINDS];
    struct rdp_operation_time operations[RDP_BENCH_OPERATIONS_MAX]; /* of rank 0, per step */
    int operation_count;
    double timed_seconds;                       /* rank 0: a step whose operations are timed; device's clock */
    int64_t peak_rss_bytes, peak_rss_sum_bytes; /* the largest rank's, all ranks' together; before any roof was made */
    int64_t device_bytes;                       /* the largest rank's at that time; -1: device memory is the host's */
    /* On GPUs: */
    struct rdp_cuda_identity gpu;      /* this rank's */
    const struct rdp_gpu_peaks *peaks; /* of it; NULL: not known */
    struct rdp_roof roof;              /* of this rank's part of a step */
    double roof_images_per_second;     /* of all ranks' GPUs together; NAN: peaks not known, or ranks share a GPU */
    char algorithms[1024];
};

/* Everything that the steps need. Collective, agreed. `bench` is zeroed first; rdp_bench_free is needed even on
 * failure. */
int rdp_bench_prepare(struct rdp_bench *bench, const struct rdp_options *options, struct rdp_session *session);
/* Warm-up, repeats, roofs. Collective. */
int rdp_bench_measure(struct rdp_bench *bench);
void rdp_bench_free(struct rdp_bench *bench);

/* The table, to stdout; rank 0. */
void rdp_bench_print(const struct rdp_bench *bench);
/* The same and more as JSON, durably; rank 0. RDP_EIO. */
int rdp_bench_write_json(const struct rdp_bench *bench, const char *path);

#endif
