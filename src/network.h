/*
 * A network is a plan: model + batch + device, settled once into an ordered list of operations and the memory they use.
 * A step walks the list; it allocates nothing and looks nothing up.
 *
 * Operations form segments. Inside a segment all work on the batch chunk by chunk (apply a batch-norm, convolve its
 * output, sum the statistics of the result: one chunk, still in cache); between segments the whole batch is done (a
 * batch-norm's statistics are complete, a weight gradient is computed).
 *
 * Parameters and gradients are flat f32 arrays on the device, in the order in which backward finishes the gradients:
 * what is final is a prefix, whose length is announced as it grows.
 */
#ifndef RDP_NETWORK_H
#define RDP_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "model.h"

struct rdp_network;
struct rdp_reducer;

/* What a step reports besides gradients; lies behind the gradients so that the last bucket carries it. */
enum {
    RDP_TOTAL_LOSS,    /* sum over the samples */
    RDP_TOTAL_CORRECT, /* number of right predictions */
    RDP_TOTAL_STOP,    /* ranks that were told to stop */
    RDP_TOTAL_SAVE,    /* ranks whose clock says that a checkpoint is due */
    RDP_TOTALS = 16
};

struct rdp_network_config {
    int batch;               /* images of one pass (micro-batch) on this rank */
    int micro_batches;       /* most passes whose samples are loaded at once; 0 means 1 */
    bool training;           /* backward will be used */
    bool whole_batch_chunks; /* no cache blocking; for comparison in bench */
    bool timed;              /* rdp_network_times() will be asked */
    double label_smoothing;
    bool mixing;                 /* training passes mix images and labels as the step's values say */
    uint64_t seed;               /* of dropout */
    struct rdp_reducer *reducer; /* the gradients will be summed by it, so they lie where it likes them; NULL: nobody */
    bool sync_bn;                /* batch-norm statistics over the reducer's ranks */
};

/* The samples of the next passes: host arrays of `count` = batch x micro-batches entries; rows index `images`. */
struct rdp_batch {
    const uint8_t *images; /* device: u8 (.,32,32,3) */
    const int64_t *rows, *samples;
    const uint8_t *labels;
    int count;
    int valid; /* rows of each pass that count; the rest are padding (evaluation's last batch) */
    struct rdp_augment augment;
};

/* What a pass reads, in device memory; behind it lie rows, samples i64 and labels u8 of all micro-batches. */
struct rdp_inputs {
    struct rdp_step_values values;
    float totals[RDP_TOTALS]; /* where the step's totals start */
};

/* A flat array's piece that holds one row of the model's parameter table. */
struct rdp_row {
    size_t offset, stored_count; /* f32 elements */
    struct rdp_conv *conv;       /* stored in this convolution's form; NULL: plain */
};

struct rdp_network {
    const struct rdp_model *model; /* the caller's; must outlive the network */
    struct rdp_device *device;     /* likewise */
    struct rdp_network_config config;
    struct rdp_row *rows;   /* one per model parameter; state rows index `state` */
    size_t parameter_count; /* f32 elements of parameters, and of gradients before the totals */
    size_t state_count;
    float *parameters;         /* device f32 */
    float *gradients;          /* device f32 [parameter_count + RDP_TOTALS]; NULL unless training */
    float *totals;             /* device f32 [RDP_TOTALS]; &gradients[parameter_count] when training */
    float *state;              /* device f32: running statistics */
    void *copies;              /* device: what the convolutions read, written along by the optimiser; NULL: none */
    struct rdp_inputs *inputs; /* device */
    size_t *boundaries;        /* ascending offsets where a parameter's gradient ends; the last covers the totals */
    size_t boundary_count;
    size_t activation_bytes;       /* for the banner */
    struct rdp_network_plan *plan; /* network_plan.h */
};

/* With a reducer: collective, agreed. */
int rdp_network_create(struct rdp_network **network, const struct rdp_model *model, struct rdp_device *device,
                       const struct rdp_network_config *config);
void rdp_network_destroy(struct rdp_network *network);

/* Row i of the table, host, plain PyTorch layout, to or from `flat`: parameters, gradients or an optimiser's array of
 * the same layout (state rows: `state` or an array like it). Blocking. After changing parameters call
 * rdp_network_weights_changed. */
int rdp_network_put(struct rdp_network *network, int row, const float *host, float *flat);
int rdp_network_take(struct rdp_network *network, int row, const float *flat, float *host);
/* PyTorch's default initialisation; a pure function of (seed, row, element). */
int rdp_network_initialise(struct rdp_network *network, uint64_t seed);
/* Parameters were written (and `copies`, if there are any, not): makes the forms that the convolutions read. */
int rdp_network_weights_changed(struct rdp_network *network);

/* Called after each operation (may be NULL): watchdog, communication progress. */
typedef int (*rdp_network_tick)(void *context);
/* Called as gradients become final: gradients[0 .. watermark) are. */
typedef int (*rdp_network_ready)(void *context, size_t watermark);

/* Takes the next passes' samples and values to the device; the host arrays may be reused at once. */
int rdp_network_load(struct rdp_network *network, const struct rdp_batch *batch, const struct rdp_inputs *inputs);
/* totals = inputs->totals. */
int rdp_network_begin_totals(struct rdp_network *network);
/*
 * Forward and loss of the loaded micro-batch `micro`. Training: batch statistics, dlogits = d(sum of losses) *
 * loss_scale; running statistics move. Otherwise running statistics normalise. Adds the sum of losses and the correct
 * predictions to totals (device).
 */
int rdp_network_forward(struct rdp_network *network, int micro, bool training, float loss_scale, rdp_network_tick tick,
                        void *context);
/* Backward of the last training forward; overwrites gradients. */
int rdp_network_backward(struct rdp_network *network, rdp_network_ready ready, rdp_network_tick tick, void *context);
/* Logits of the last forward, host f32 (batch, classes). Blocking. */
int rdp_network_logits(struct rdp_network *network, float *host);

/* Where the device's time of the passes since the last reset went, by operation (config.timed). */
struct rdp_operation_time {
    const char *operation; /* "convolution forward", "batch-norm apply", ... */
    double seconds;
};
enum { RDP_OPERATION_KINDS_MAX = 32 };
void rdp_network_times_reset(struct rdp_network *network);
int rdp_network_times(const struct rdp_network *network, struct rdp_operation_time times[RDP_OPERATION_KINDS_MAX]);
/* Runs only the convolutions of one training pass, over whatever lies in memory; for bench's roof. */
int rdp_network_convolutions_alone(struct rdp_network *network);
/* "jit_wino_4x3:avx512_core x 12, ..." : the algorithms chosen, with counts, into text. */
void rdp_network_algorithms(const struct rdp_network *network, char *text, size_t size);

#endif
