/*
 * The device contract: everything that computes, as one const table of functions per device.
 *
 * A device keeps activations in its own layout and type, image after image, so that images [first, first + count) of
 * any tensor are one piece of memory: `image_bytes` per image. Operations that are marked "range" work on such a piece;
 * the network calls them chunk by chunk, so that a chunk is still in cache when the next operation reads it (chunk =
 * whole batch where that does not pay). Parameters, gradients and optimiser state are flat f32 arrays; a convolution's
 * weights lie there in the device's own form ("stored"), which pack/unpack translate from and to PyTorch's OIHW.
 *
 * Pointers to data are device memory (alloc) unless they are called host. Calls are made by one thread, in order; the
 * device may run them asynchronously, in that order, but for those marked "blocking". What an operation reads that
 * changes from step to step lies in device memory (rdp_step_values, indices, labels), so that a device can record a
 * step once and replay it. All functions return a status (status.h).
 */
#ifndef RDP_KERNELS_KERNELS_H
#define RDP_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rdp_device;

enum {
    RDP_STAMPS = 1024,
    RDP_ROW_BLOCK = 16,      /* f32 elements of the flat arrays, whose rows begin at multiples of it */
    RDP_UPDATE_SLICE = 8192, /* elements of the flat arrays whose sums are taken together; fixes their order */
    RDP_OPTIMISER_ARRAYS = 2
};
/* The first three are z > 0 ? z : slope * z, with slope 1, 0 and LeakyReLU's. GELU: z times the standard normal
 * distribution function of z (Hendrycks & Gimpel 2016, arXiv 1606.08415), as torch.nn.GELU(). */
enum rdp_kernel_activation { RDP_ACT_NONE, RDP_ACT_RELU, RDP_ACT_LEAKY_RELU, RDP_ACT_GELU };
enum rdp_kernel_crop { RDP_PAD_NONE, RDP_PAD_ZERO, RDP_PAD_REFLECT };
/* Convolutions together with the statistics of the batch-norm behind them: where that is faster, or wherever it can be
 * done. CUDA in bf16 only. */
enum rdp_kernel_fuse { RDP_FUSE_NEVER, RDP_FUSE_FASTER, RDP_FUSE_ALWAYS };
enum rdp_kernel_algorithm { RDP_ALGORITHM_AUTO, RDP_ALGORITHM_DIRECT, RDP_ALGORITHM_WINOGRAD };
/* TF32: f32 activations, convolutions in tf32 (CUDA only). BF16: activations and convolution arithmetic in bf16, sums
 * and parameters in f32. */
enum rdp_kernel_precision { RDP_KERNEL_F32, RDP_KERNEL_TF32, RDP_KERNEL_BF16 };

struct rdp_device_config {
    enum rdp_kernel_precision precision;
    int threads;                         /* CPU: size of the OpenMP team */
    enum rdp_kernel_algorithm algorithm; /* CPU: of convolutions; AUTO lets the device choose by shape */
    int index;                           /* CUDA: which of the visible devices */
    const char *plan_cache;              /* CUDA: file of timed convolution plans, "" for none; the caller's text */
    enum rdp_kernel_fuse fuse_statistics;
};

struct rdp_device {
    const struct rdp_device_ops *ops;
    struct rdp_device_config config;
    char description[256]; /* "CPU, 2 threads, oneDNN 2.6.3, avx512 loops" */
    char rounding[192];    /* what its bits depend on besides threads: name, libraries, instruction set or SMs */
    void *state;           /* the device's own */
};

/* Channels, height, width of one image's activations. */
struct rdp_shape {
    int channels, height, width;
};

/* What is left of an image of which every stride-th row and column is kept. */
static inline struct rdp_shape rdp_shape_strided(struct rdp_shape in, int channels, int stride)
{
    const struct rdp_shape out = {channels, (in.height + stride - 1) / stride, (in.width + stride - 1) / stride};
    return out;
}

/* A 2-d convolution without bias; square kernel, padding kernel / 2. */
struct rdp_conv_desc {
    struct rdp_shape input, output;
    int kernel, stride;
    int batch;           /* images of a whole pass */
    int chunk;           /* images of one range call; divides batch */
    bool input_is_image; /* the network's first layer: input in the augment operation's layout, no gradient of it */
    bool training;       /* backward will be used */
    bool statistics;     /* forward_statistics may be used: a batch-norm in training reads the output as it is */
};
enum { RDP_CONV_STATISTICS = 3, RDP_CONV_ALGORITHMS };
struct rdp_conv {
    struct rdp_conv_desc desc;
    size_t stored_count; /* f32 elements of the weights (and their gradient) in the flat arrays */
    /* What was chosen for forward, backward data, backward weights and forward_statistics; NULL: not planned. */
    const char *algorithms[RDP_CONV_ALGORITHMS];
    void *state;
};

/* Batch normalisation over (N,H,W) with optional residual add and activation: out = act(gamma * xhat + beta +
 * residual). Ioffe & Szegedy 2015, algorithm 1; as torch.nn.BatchNorm2d: biased variance to normalise, unbiased for
 * running_var. */
struct rdp_bn_desc {
    struct rdp_shape shape;
    int batch;
    double epsilon;  /* 1e-5 */
    double momentum; /* 0.1: running = (1 - momentum) * running + momentum * new */
    enum rdp_kernel_activation activation;
    float slope; /* LeakyReLU's */
    bool residual;
    bool synchronised; /* sums will be all-reduced between statistics_sum and finalize, and likewise backward */
    bool training;
};
struct rdp_bn {
    struct rdp_bn_desc desc;
    /* f32 [channels] in the network's flat arrays: set by it before the first call, constant from then on. dgamma and
     * dbeta only with training. */
    const float *gamma, *beta;
    float *running_mean, *running_var, *dgamma, *dbeta;
    double *sums; /* device f64 [2 x channels], the device's: see statistics_sum and backward_sum */
    size_t sums_count;
    void *state;
};

enum rdp_kernel_flip { RDP_FLIP_NONE, RDP_FLIP_RANDOM, RDP_FLIP_ALTERNATING };
enum rdp_kernel_interpolation { RDP_NEAREST, RDP_BILINEAR };

/*
 * What happens to a sample between the data set's bytes and the network, in this order: crop, flip, rotation, colour
 * jitter, erasing, cutout, normalisation. What sample s of epoch e gets is a pure function of (seed, e, s):
 * kernels/common/augment.h, which also names the functions of torchvision that each step follows.
 */
struct rdp_augment {
    float mean[3], std[3]; /* of pixel / 255 */
    enum rdp_kernel_crop crop;
    int padding;
    enum rdp_kernel_flip flip;
    float rotation_min, rotation_max; /* degrees, counter-clockwise; both 0: none */
    enum rdp_kernel_interpolation interpolation;
    float brightness, contrast, saturation, hue; /* of the jitter; 0: none */
    float erase_probability, erase_scale[2], erase_ratio[2];
    int cutout;      /* side, pixels; 0: none */
    bool erase_mean; /* what is erased becomes 0 after normalisation, not before */
    uint64_t seed;
    bool enabled; /* false: normalisation alone (evaluation) */
    /* With enabled false: which view of the image (--evaluate-views): moved by so many pixels up and left, as crop
     * fills them in, and mirrored. */
    int shift;
    bool mirror;
};

enum rdp_optimiser_kind {
    RDP_SGD,
    RDP_ADAM,
    RDP_ADAMW,
    RDP_ADAMAX,
    RDP_ADAGRAD,
    RDP_RMSPROP,
    RDP_ASGD,
    RDP_LARS,
    RDP_LAMB
};

/* What an update is and does not change from step to step; kernels/common/optimiser.h has the formulas. */
struct rdp_optimiser {
    enum rdp_optimiser_kind kind;
    float momentum; /* 0: there is none. A schedule may change it and beta1: a step's is in rdp_step_values */
    float beta1;
    float beta2;
    float epsilon;           /* above 0: elements that only pad a row have 0 / epsilon for their step */
    float alpha;             /* RMSprop: decay of the mean square */
    float lambda;            /* ASGD */
    float trust_coefficient; /* LARS */
    bool nesterov;
    float clip_value; /* each gradient element to within +-this, first of all; 0: off */
    float clip_norm;  /* then the whole gradient to at most this length; 0: off */
};

/* A row of the flat arrays: one parameter of the model, stored_count elements from `offset` on. */
struct rdp_update_row {
    uint64_t offset, count;
    float weight_decay;
    float lr;        /* times the step's; 0: frozen, the row does not change */
    uint32_t adapts; /* LARS, LAMB: the row has a trust ratio (weights do; that of batch-norm and biases is 1) */
};

/* The flat arrays that an update works on: device f32 [count], but for what is said otherwise. What lies between rows
 * is left alone. */
struct rdp_update {
    size_t count; /* a multiple of RDP_ROW_BLOCK */
    float *parameters;
    void *copies;                       /* see conv_weights; NULL where copy_size is 0 */
    float *gradients;                   /* may be overwritten */
    float *state[RDP_OPTIMISER_ARRAYS]; /* the optimiser's, zero at first; NULL: it has none */
    const struct rdp_update_row *rows;  /* device [row_count], ascending, without overlap */
    const uint16_t *row_of;             /* device u16 [count / RDP_ROW_BLOCK]: the row of a block; of one between two
                                         * rows: the row before it, or the first */
    int row_count;
    double *workspace; /* device f64 [rdp_update_workspace(count, row_count)]; used by clip_norm, LARS and LAMB */
};

/* The scale of clipping, a ratio per row, and two sums per piece of a row in a slice. A piece has the number slice +
 * row: both ascend, and from one piece to the next at least one of them does, so no two pieces share a number. */
static inline size_t rdp_update_workspace(size_t count, int row_count)
{
    const size_t slices = (count + RDP_UPDATE_SLICE - 1) / RDP_UPDATE_SLICE, rows = (size_t)row_count;
    return 1 + rows + 2 * (slices + rows);
}

/* What changes from step to step; lies in device memory. `optimiser` holds what kernels/common/optimiser.h says for
 * each kind (bias corrections, for instance), computed by the host in f64. */
struct rdp_step_values {
    float lr;
    uint32_t epoch; /* from 0; keys the augmentation */
    uint32_t step;  /* from 0; keys dropout, together with the sample */
    float optimiser[3];
    float average;      /* weight of the new parameters in the average; 1: it becomes a copy */
    float lookahead;    /* share of the way that the slow weights go; 0: this is no step of synchronisation */
    float mix;          /* weight of an image's own label; 1: nothing is mixed */
    float mix_pixels;   /* weight of an image's own pixels outside of the box: mix for mix-up, 1 for CutMix */
    int32_t mix_box[4]; /* CutMix: y0, x0, y1, x1 of what comes from the partner, y1 and x1 excluded */
};

struct rdp_dropout {
    struct rdp_shape shape;
    float probability;
    uint64_t seed;
    uint32_t layer; /* 0 .. 15: keeps layers apart */
};

struct rdp_recording; /* a recorded sequence of calls; the device's, recording_destroy */

struct rdp_device_ops {
    const char *name; /* "cpu", "cuda" */
    bool host_memory; /* device memory is host memory: pointers of either kind may be used for the other */
    void (*close)(struct rdp_device *device);

    /* Memory: zeroed; `what` names it in errors. copies are blocking; `synchronize` waits for all that was started. */
    int (*alloc)(struct rdp_device *device, void **pointer, size_t bytes, const char *what);
    void (*free)(struct rdp_device *device, void *pointer);
    /* Bytes that alloc has given and free not taken back, and of the device's own workspace (optional: NULL where
     * device memory is host memory). */
    size_t (*memory_used)(struct rdp_device *device);
    int (*upload)(struct rdp_device *device, void *to, const void *host_from, size_t bytes);
    int (*download)(struct rdp_device *device, void *host_to, const void *from, size_t bytes);
    int (*zero)(struct rdp_device *device, void *pointer, size_t bytes);
    int (*synchronize)(struct rdp_device *device);
    /* Upload in order with the other calls, not blocking: host_from may be reused at once. */
    int (*feed)(struct rdp_device *device, void *to, const void *host_from, size_t bytes);
    int (*copy)(struct rdp_device *device, void *to, const void *from, size_t bytes); /* device to device */
    /* Whether everything that was started is done; never blocks. Also tells of errors of what ran. */
    int (*idle)(struct rdp_device *device, bool *idle);
    void *(*stream)(struct rdp_device *device); /* cudaStream_t for comm's transports; NULL: the host computes */

    /* Time stamps in order with the other calls: stamp i (0 .. RDP_STAMPS - 1), and seconds from one to a later one
     * (blocking). */
    int (*stamp)(struct rdp_device *device, int i);
    int (*stamp_seconds)(struct rdp_device *device, int from, int to, double *seconds);

    /* Recording (optional: all four NULL): the calls between begin and end are recorded instead of run; replay runs
     * them again on the same memory. Only operations, zero, copy and a reducer that can be recorded may be called in
     * between, each once before (warm). A failed recording leaves the device usable (record_end with NULL drops it). */
    int (*record_begin)(struct rdp_device *device);
    int (*record_end)(struct rdp_device *device, struct rdp_recording **recording);
    int (*replay)(struct rdp_device *device, struct rdp_recording *recording);
    void (*recording_destroy)(struct rdp_device *device, struct rdp_recording *recording); /* NULL-safe */

    /* For profilers (optional: NULL): named ranges that nest, and the window in which the profiler collects. */
    void (*range_push)(struct rdp_device *device, const char *name);
    void (*range_pop)(struct rdp_device *device);
    int (*profile)(struct rdp_device *device, bool on);

    /* Bytes of one image's activations of this shape; `is_image`: as the augment operation writes it. */
    size_t (*image_bytes)(struct rdp_device *device, struct rdp_shape shape, bool is_image);
    /* How many images of a convolution's range fit the cache well: a divisor of `batch`. */
    int (*chunk)(struct rdp_device *device, const struct rdp_conv_desc *desc);

    /* range: rows[i] of the shard `images` u8 (.,32,32,3), augmented, into image i of `out`;
     * rows and samples are i64 [batch]; samples[i] is the index in the data set, the key of the randomness. */
    int (*augment)(struct rdp_device *device, const struct rdp_augment *augment, const struct rdp_step_values *values,
                   const uint8_t *images, const int64_t *rows, const int64_t *samples, void *out, int first, int count);

    /* Whole batch, in place, on what augment wrote: image i and its partner batch - 1 - i become mix_pixels x own +
     * (1 - mix_pixels) x other, and inside of mix_box the other's pixels. Mix-up and CutMix as timm's batch mode. The
     * image in the middle of an odd batch stays as it is. */
    int (*mix)(struct rdp_device *device, const struct rdp_step_values *values, void *images, int batch);

    int (*conv_create)(struct rdp_device *device, struct rdp_conv **conv, const struct rdp_conv_desc *desc);
    void (*conv_destroy)(struct rdp_device *device, struct rdp_conv *conv);
    /* blocking: host OIHW f32 <-> stored form in the flat arrays. */
    int (*conv_pack)(struct rdp_device *device, struct rdp_conv *conv, const float *host_oihw, float *stored);
    int (*conv_unpack)(struct rdp_device *device, struct rdp_conv *conv, const float *stored, float *host_oihw);
    /*
     * The stored weights were written: makes the forms that forward (and backward, when training) read. On a device
     * with copy_size > 0 that form is an array like `stored`, with elements of copy_size bytes, at `copy`; update
     * and lookahead write it along, so that conv_weights is only called after other changes. `stored` and `copy` stay
     * where they are from call to call.
     */
    size_t (*copy_size)(struct rdp_device *device);
    int (*conv_weights)(struct rdp_device *device, struct rdp_conv *conv, const float *stored, void *copy,
                        bool backward);
    int (*conv_forward)(struct rdp_device *device, struct rdp_conv *conv, const void *x, void *y, int first,
                        int count); /* range */
    /* Whole batch: conv_forward, and bn_statistics of all of y, without a read of y (optional: NULL). For convolutions
     * with algorithms[RDP_CONV_STATISTICS]. y may be summed before it is rounded. running_mean: aligned to 16 bytes. */
    int (*conv_forward_statistics)(struct rdp_device *device, struct rdp_conv *conv, struct rdp_bn *bn, const void *x,
                                   void *y);
    int (*conv_backward_data)(struct rdp_device *device, struct rdp_conv *conv, const void *dy, void *dx, int first,
                              int count); /* range */
    /* Whole batch: overwrites stored_count f32 at dw. */
    int (*conv_backward_weights)(struct rdp_device *device, struct rdp_conv *conv, const void *x, const void *dy,
                                 float *dw);

    int (*bn_create)(struct rdp_device *device, struct rdp_bn **bn, const struct rdp_bn_desc *desc);
    void (*bn_destroy)(struct rdp_device *device, struct rdp_bn *bn);
    /* range: partial sums of y, shifted by running_mean for accuracy (so the variance does not cancel). */
    int (*bn_statistics)(struct rdp_device *device, struct rdp_bn *bn, const void *y, int first, int count);
    /* bn->sums = sums over the batch of (y - running_mean) and its square. May be left out unless desc.synchronised. */
    int (*bn_statistics_sum)(struct rdp_device *device, struct rdp_bn *bn);
    /* From bn->sums over `elements` values per channel (all ranks' with sync-BN): batch mean and variance, the scale
     * and shift that apply uses; updates running_mean and running_var. */
    int (*bn_finalize)(struct rdp_device *device, struct rdp_bn *bn, double elements);
    /* Evaluation: scale and shift from the running statistics instead. */
    int (*bn_use_running)(struct rdp_device *device, struct rdp_bn *bn);
    int (*bn_apply)(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *residual, void *out,
                    int first, int count); /* range */
    /* range: dout += dout2 (NULL: nothing), then dout *= act'(...) in place, so that dout becomes dz, the gradient
     * before the activation (which is also the residual's gradient); partial sums of dz and dz * (y - mean). `joined`
     * is read only with a residual: it is out, whose sign tells, or with GELU the residual, which z is recomputed from;
     * without one z is recomputed from y. Without a residual and without dout2 a device may leave dout as it is: only
     * backward_apply reads it then. */
    int (*bn_backward_reduce)(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *joined,
                              void *dout, const void *dout2, int first, int count);
    /* bn->sums = the batch's sums; dgamma, dbeta become this rank's. */
    int (*bn_backward_sum)(struct rdp_device *device, struct rdp_bn *bn);
    /* From bn->sums over `elements` (all ranks' with sync-BN): the coefficients that backward_apply uses. */
    int (*bn_backward_finalize)(struct rdp_device *device, struct rdp_bn *bn, double elements);
    /* range: dy = gradient of y. dy may be dz. */
    int (*bn_backward_apply)(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *dz, void *dy,
                             int first, int count);

    /* range: He et al. 2016 option A: every stride-th pixel, missing channels zero; and its transpose. */
    int (*pad_forward)(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *x,
                       void *y, int first, int count);
    int (*pad_backward)(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *dy,
                        void *dx, int first, int count);

    /* range: dropout: y = x / (1 - probability) or 0, which is a pure function of (seed; values->step, `layer`,
     * samples[i], element of the image): kernels/common/dropout.h. So nothing is kept for the way back, where dx = (dy
     * + dy2) likewise (dy2 NULL: nothing). y may be x, dx may be dy. */
    int (*dropout_forward)(struct rdp_device *device, const struct rdp_dropout *dropout,
                           const struct rdp_step_values *values, const int64_t *samples, const void *x, void *y,
                           int first, int count);
    int (*dropout_backward)(struct rdp_device *device, const struct rdp_dropout *dropout,
                            const struct rdp_step_values *values, const int64_t *samples, const void *dy,
                            const void *dy2, void *dx, int first, int count);

    /* range: 2x2 max-pool of stride 2, y (C, (H + 1) / 2, (W + 1) / 2); where a side is odd, the last window is cut
     * (torch.nn.MaxPool2d with ceil_mode). And back: dx is dy where x is the first of its window's largest, row by
     * row, and 0 elsewhere. `input` is the shape of x and dx. */
    int (*max_pool_forward)(struct rdp_device *device, struct rdp_shape input, const void *x, void *y, int first,
                            int count);
    int (*max_pool_backward)(struct rdp_device *device, struct rdp_shape input, const void *x, const void *dy, void *dx,
                             int first, int count);

    /* range: global average pool: x -> features f32 (N, C); and back. */
    int (*pool_forward)(struct rdp_device *device, struct rdp_shape shape, const void *x, float *features, int first,
                        int count);
    int (*pool_backward)(struct rdp_device *device, struct rdp_shape shape, const float *dfeatures, void *dx, int first,
                         int count);

    /* Fully connected, f32: logits (N, classes) = features (N, C) weight (classes, C)^T + bias; and back (overwrites).
     */
    int (*fc_forward)(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                      const float *weight, const float *bias, float *logits);
    int (*fc_backward)(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                       const float *weight, const float *dlogits, float *dweight, float *dbias, float *dfeatures);
    /* Softmax cross-entropy with label smoothing (torch.nn.functional.cross_entropy), of the first `valid` of `batch`
     * rows: adds the sum of losses and the number of correct ones to totals f32 [2]; dlogits = scale * d(sum of
     * losses)/d(logits) (NULL: none), zero in rows >= valid; labels are u8 [batch]. `values` NULL: nothing is mixed.
     * Otherwise valid = batch, and row i's loss is mix x that of its own label + (1 - mix) x that of its partner's,
     * row batch - 1 - i. */
    int (*loss)(struct rdp_device *device, int batch, int valid, int classes, const float *logits,
                const uint8_t *labels, const struct rdp_step_values *values, float smoothing, float scale,
                float *dlogits, float *totals);

    /* Flat arrays of `count` f32. */
    int (*add)(struct rdp_device *device, float *to, const float *from, size_t count);
    /* One step of the optimiser: kernels/common/optimiser.h. All ranks' gradients are equal before it, and so the norms
     * that clipping, LARS and LAMB take are those of the global batch. Sums in a fixed order. */
    int (*update)(struct rdp_device *device, const struct rdp_optimiser *optimiser,
                  const struct rdp_step_values *values, const struct rdp_update *update);
    /* average += weight (array - average), with weight = values->average; 0: nothing happens, 1: a copy. */
    int (*average)(struct rdp_device *device, const struct rdp_step_values *values, float *average, const float *array,
                   size_t count);
    /* Zhang et al. 2019: if values->lookahead > 0: slow += lookahead (parameters - slow), parameters = slow. */
    int (*lookahead)(struct rdp_device *device, const struct rdp_step_values *values, float *slow, float *parameters,
                     void *copies, size_t count);
};

/* Opens the CPU device (kernels/cpu/). RDP_EUSAGE if the CPU or oneDNN cannot do the precision. Owned by the caller. */
int rdp_cpu_device_open(struct rdp_device **device, const struct rdp_device_config *config);
void rdp_device_close(struct rdp_device *device); /* NULL-safe */

/* Ranges for profilers, where the device has them. */
static inline void rdp_device_range_push(struct rdp_device *device, const char *name)
{
    if (device->ops->range_push != NULL)
        device->ops->range_push(device, name);
}
static inline void rdp_device_range_pop(struct rdp_device *device)
{
    if (device->ops->range_pop != NULL)
        device->ops->range_pop(device);
}

/* What names a CUDA device on its host. */
struct rdp_cuda_identity {
    char name[128];   /* "NVIDIA H200" */
    char pci_bus[32]; /* "0000:1b:00.0" */
    int major, minor; /* compute capability */
    size_t memory;    /* bytes */
};
/* Visible CUDA devices that this build has code for. 0: `why` says why there is none, in a sentence for users (no
 * driver, too old a driver, no device, build without CUDA). Never fails. */
int rdp_cuda_device_count(char *why, size_t why_size);
int rdp_cuda_device_identify(int index, struct rdp_cuda_identity *identity);
/* "CUDA runtime 13.0, driver 13.0, cuDNN 9.19.0", or "not in this build". */
const char *rdp_cuda_versions(void);
/* Opens CUDA device config->index (kernels/cuda/). RDP_EUSAGE in a build without CUDA or without a device, RDP_EDEVICE
 * for what CUDA or cuDNN report. Owned by the caller. */
int rdp_cuda_device_open(struct rdp_device **device, const struct rdp_device_config *config);

#endif
