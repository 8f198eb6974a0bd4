/* The inside of a network: its operations and tensors. Shared by network_plan.c (makes them), network_memory.c (gives
 * them memory), network_run.c (runs them) and network.c. */
#ifndef RDP_NETWORK_PLAN_H
#define RDP_NETWORK_PLAN_H

#include "network.h"

/* X(name, whole batch?, what bench calls it). The comment says which tensors `t` holds. */
#define RDP_OPERATION_MAP(X) \
    X(AUGMENT, 0, "augmentation")                                /* out */ \
    X(MIX, 1, "mixing")                                          /* images */ \
    X(CONV_FORWARD, 0, "convolution forward")                    /* x, y */ \
    X(BN_STATISTICS, 0, "batch-norm statistics")                 /* y */ \
    X(CONV_STATISTICS, 0, "convolution forward with statistics") /* x, y: the two before in one */ \
    X(MAX_POOL_FORWARD, 0, "max-pool")                           /* x, y */ \
    X(BN_FINALIZE, 1, "batch-norm finalise") \
    X(BN_APPLY, 0, "batch-norm apply")    /* y, residual, out */ \
    X(PAD_FORWARD, 0, "shortcut padding") /* x, y */ \
    X(DROPOUT, 0, "dropout")              /* x, in place */ \
    X(POOL_FORWARD, 0, "pool")            /* x */ \
    X(FC_FORWARD, 1, "fully connected") \
    X(LOSS, 1, "loss") \
    X(FC_BACKWARD, 1, "fully connected backward") \
    X(POOL_BACKWARD, 0, "pool backward")          /* dx */ \
    X(BN_REDUCE, 0, "batch-norm backward reduce") /* y, joined, dout, dout2 */ \
    X(BN_BACKWARD_FINALIZE, 1, "batch-norm backward finalise") \
    X(BN_BACKWARD_APPLY, 0, "batch-norm backward apply") /* y, dz, dy */ \
    X(MAX_POOL_BACKWARD, 0, "max-pool backward")         /* x, dy, dx */ \
    X(PAD_BACKWARD, 0, "shortcut padding backward")      /* dy, dx */ \
    X(DROPOUT_BACKWARD, 0, "dropout backward")           /* dy, dy2; in place */ \
    X(CONV_DATA, 0, "convolution backward data")         /* dy, dx */ \
    X(CONV_WEIGHTS, 1, "convolution backward weights")   /* x, dy */

enum rdp_operation_kind {
#define RDP_OPERATION_ENUM(name, whole, text) RDP_OP_##name,
    RDP_OPERATION_MAP(RDP_OPERATION_ENUM)
#undef RDP_OPERATION_ENUM
        RDP_OP_KINDS
};

enum {
    RDP_NO_TENSOR = -1,
    RDP_NETWORK_STAMPS = RDP_STAMPS - 8 /* of the device's stamps; the last ones are the step's */
};

struct rdp_operation {
    enum rdp_operation_kind kind;
    int layer;
    int bn;           /* convolution forward: the batch-norm that reads it */
    int t[4];         /* tensors, RDP_NO_TENSOR where none */
    int segment;      /* operations of one segment go through the batch chunk by chunk, together */
    size_t watermark; /* gradients that are final after it; 0: no news */
};

/* An activation or its gradient: a place that is used from one segment to another and then free for others. */
struct rdp_tensor {
    size_t image_bytes;
    int first, last; /* segments */
    void *data;      /* device */
};

struct rdp_network_plan {
    struct rdp_operation *operations;
    int operation_count, operation_capacity;
    int forward_count; /* operations [0, forward_count) are the forward pass */
    struct rdp_tensor *tensors;
    int tensor_count, tensor_capacity;
    void **slots; /* device memory that tensors share */
    int slot_count;
    /* By layer: */
    struct rdp_conv **convs;
    struct rdp_bn **bns;
    int *out; /* tensor that a layer writes */
    /* The head, device f32: (batch, channels), (batch, classes) */
    float *features, *dfeatures, *logits, *dlogits;
    struct rdp_batch batch;  /* as loaded; the host arrays are not read any more */
    char *inputs_host;       /* where a load is put together */
    int64_t *rows, *samples; /* device, behind network->inputs */
    uint8_t *labels;         /* device */
    int micro;               /* of the pass that runs */
    float loss_scale;
    /* config.timed: the operation that ended at each stamp; summed up when the stamps are used up or asked for. */
    enum rdp_operation_kind stamped[RDP_STAMPS];
    int stamp_count;
    double seconds[RDP_OP_KINDS];
};

/* The rows of a layer: BN weight, bias, running mean, running variance; fc weight, bias; conv weight. */
enum { RDP_ROW_WEIGHT, RDP_ROW_BIAS, RDP_ROW_RUNNING_MEAN, RDP_ROW_RUNNING_VAR };
/* Where one of them begins in `flat`. */
static inline float *rdp_network_row(const struct rdp_network *network, float *flat, int layer, int which)
{
    return flat + network->rows[network->model->layers[layer].first_parameter + which].offset;
}

/* Makes the operations, tensors, convolutions and the layout of the flat arrays (rows, boundaries, counts). */
int rdp_network_plan_create(struct rdp_network *network);
void rdp_network_plan_destroy(struct rdp_network *network);
/* Takes the memory of the plan's tensors and of the head from the device (network_memory.c); destroy copes with what create
 * left undone. */
int rdp_network_memory_create(struct rdp_network *network);
void rdp_network_memory_destroy(struct rdp_network *network);
/* Images per range call of the segment that starts at operation `begin`. */
int rdp_network_segment_chunk(const struct rdp_network *network, int begin, int end);
/* First operation after `begin` that is not in its segment. */
int rdp_network_segment_end(const struct rdp_network_plan *plan, int begin, int limit);

#endif
