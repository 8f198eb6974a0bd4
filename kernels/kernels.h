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
 * device may run them asynchronously but for those marked "blocking". All functions return a status (status.h).
 */
#ifndef RDP_KERNELS_KERNELS_H
#define RDP_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rdp_device;

enum rdp_kernel_activation { RDP_ACT_NONE, RDP_ACT_RELU, RDP_ACT_LEAKY_RELU };
enum rdp_kernel_crop { RDP_PAD_NONE, RDP_PAD_ZERO, RDP_PAD_REFLECT };
enum rdp_kernel_algorithm { RDP_ALGORITHM_AUTO, RDP_ALGORITHM_DIRECT, RDP_ALGORITHM_WINOGRAD };

struct rdp_device_config {
    int threads; /* CPU: size of the OpenMP team */
    bool bf16;   /* activations and convolution arithmetic in bf16, sums and parameters in f32 */
    enum rdp_kernel_algorithm algorithm; /* convolution algorithm; AUTO lets the device choose by shape */
};

struct rdp_device {
    const struct rdp_device_ops *ops;
    struct rdp_device_config config;
    char description[256]; /* "CPU, 2 threads, oneDNN 2.6.3, avx512_core_bf16" */
    void *state;           /* the device's own */
};

/* Channels, height, width of one image's activations. */
struct rdp_shape {
    int channels, height, width;
};

/* A 2-d convolution without bias; square kernel, padding kernel / 2. */
struct rdp_conv_desc {
    struct rdp_shape input, output;
    int kernel, stride;
    int batch;           /* images of a whole pass */
    int chunk;           /* images of one range call; divides batch */
    bool input_is_image; /* the network's first layer: input in the augment operation's layout, no gradient of it */
    bool training;       /* backward will be used */
};
struct rdp_conv {
    struct rdp_conv_desc desc;
    size_t stored_count;       /* f32 elements of the weights (and their gradient) in the flat arrays */
    const char *algorithms[3]; /* what was chosen for forward, backward data, backward weights; NULL: not planned */
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
    bool training;
};
struct rdp_bn {
    struct rdp_bn_desc desc;
    double *sums; /* 2 x channels f64, filled by statistics_sum and backward_sum, all-reduced in place for sync-BN */
    size_t sums_count;
    void *state;
};

/* Random crop and flip of sample s in epoch e are a pure function of (seed, e, s): kernels/common/augment.h. */
struct rdp_augment {
    float mean[3], std[3]; /* of pixel / 255 */
    enum rdp_kernel_crop crop;
    int padding;
    bool flip;
    uint64_t seed;
    uint32_t epoch;
    bool enabled; /* false: normalisation alone (evaluation) */
};

struct rdp_sgd {
    float lr, momentum, weight_decay;
    bool nesterov;
};

struct rdp_device_ops {
    const char *name; /* "cpu", "cuda" */
    bool host_memory; /* device memory is host memory: pointers of either kind may be used for the other */
    void (*close)(struct rdp_device *device);

    /* Memory: zeroed; `what` names it in errors. copies are blocking; `synchronize` waits for all that was started. */
    int (*alloc)(struct rdp_device *device, void **pointer, size_t bytes, const char *what);
    void (*free)(struct rdp_device *device, void *pointer);
    int (*upload)(struct rdp_device *device, void *to, const void *host_from, size_t bytes);
    int (*download)(struct rdp_device *device, void *host_to, const void *from, size_t bytes);
    int (*zero)(struct rdp_device *device, void *pointer, size_t bytes);
    int (*synchronize)(struct rdp_device *device);

    /* Bytes of one image's activations of this shape; `is_image`: as the augment operation writes it. */
    size_t (*image_bytes)(struct rdp_device *device, struct rdp_shape shape, bool is_image);
    /* How many images of a convolution's range fit the cache well: a divisor of `batch`. */
    int (*chunk)(struct rdp_device *device, const struct rdp_conv_desc *desc);

    /* range: rows[i] of the shard `images` u8 (.,32,32,3), cropped, flipped, normalised, into image i of `out`;
     * rows and samples are host i64 [batch]; samples[i] is the index in the data set, the key of the randomness. */
    int (*augment)(struct rdp_device *device, const struct rdp_augment *augment, const uint8_t *images,
                   const int64_t *rows, const int64_t *samples, void *out, int first, int count);

    int (*conv_create)(struct rdp_device *device, struct rdp_conv **conv, const struct rdp_conv_desc *desc);
    void (*conv_destroy)(struct rdp_device *device, struct rdp_conv *conv);
    /* blocking: host OIHW f32 <-> stored form in the flat arrays. */
    int (*conv_pack)(struct rdp_device *device, struct rdp_conv *conv, const float *host_oihw, float *stored);
    int (*conv_unpack)(struct rdp_device *device, struct rdp_conv *conv, const float *stored, float *host_oihw);
    /* The stored weights changed: makes the copies that forward (and backward, when training) read. */
    int (*conv_weights)(struct rdp_device *device, struct rdp_conv *conv, const float *stored, bool backward);
    int (*conv_forward)(struct rdp_device *device, struct rdp_conv *conv, const void *x, void *y, int first,
                        int count); /* range */
    int (*conv_backward_data)(struct rdp_device *device, struct rdp_conv *conv, const void *dy, void *dx, int first,
                              int count); /* range */
    /* Whole batch: overwrites stored_count f32 at dw. */
    int (*conv_backward_weights)(struct rdp_device *device, struct rdp_conv *conv, const void *x, const void *dy,
                                 float *dw);

    int (*bn_create)(struct rdp_device *device, struct rdp_bn **bn, const struct rdp_bn_desc *desc);
    void (*bn_destroy)(struct rdp_device *device, struct rdp_bn *bn);
    /* range: partial sums of y, shifted by running_mean for accuracy (so the variance does not cancel). */
    int (*bn_statistics)(struct rdp_device *device, struct rdp_bn *bn, const void *y, const float *running_mean,
                         int first, int count);
    /* bn->sums = sums over the batch of (y - running_mean) and its square. */
    int (*bn_statistics_sum)(struct rdp_device *device, struct rdp_bn *bn);
    /* From bn->sums over `elements` values per channel (all ranks' with sync-BN): batch mean and variance, the scale
     * and shift that apply uses; updates running_mean and running_var f32 [channels]. */
    int (*bn_finalize)(struct rdp_device *device, struct rdp_bn *bn, double elements, const float *gamma,
                       const float *beta, float *running_mean, float *running_var);
    /* Evaluation: scale and shift from the running statistics instead. */
    int (*bn_use_running)(struct rdp_device *device, struct rdp_bn *bn, const float *gamma, const float *beta,
                          const float *running_mean, const float *running_var);
    int (*bn_apply)(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *residual, void *out,
                    int first, int count); /* range */
    /* range: dout += dout2 (NULL: nothing), then dout *= act'(...) in place, so that dout becomes dz, the gradient
     * before the activation (which is also the residual's gradient); partial sums of dz and dz * (y - mean). `out` is
     * read only with a residual: without one the sign is recomputed from y. */
    int (*bn_backward_reduce)(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *out, void *dout,
                              const void *dout2, int first, int count);
    /* bn->sums = the batch's sums; dgamma, dbeta f32 [channels] are this rank's (overwritten). */
    int (*bn_backward_sum)(struct rdp_device *device, struct rdp_bn *bn, float *dgamma, float *dbeta);
    /* From bn->sums over `elements` (all ranks' with sync-BN): the coefficients that backward_apply uses. */
    int (*bn_backward_finalize)(struct rdp_device *device, struct rdp_bn *bn, double elements, const float *gamma);
    /* range: dy = gradient of y. dy may be dz. */
    int (*bn_backward_apply)(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *dz, void *dy,
                             int first, int count);

    /* range: He et al. 2016 option A: every stride-th pixel, missing channels zero; and its transpose. */
    int (*pad_forward)(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *x,
                       void *y, int first, int count);
    int (*pad_backward)(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *dy,
                        void *dx, int first, int count);

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
     * losses)/d(logits) (NULL: none), zero in rows >= valid; labels are host u8 [batch]. */
    int (*loss)(struct rdp_device *device, int batch, int valid, int classes, const float *logits,
                const uint8_t *labels, float smoothing, float scale, float *dlogits, float *totals);

    /* Flat arrays of `count` f32. */
    int (*add)(struct rdp_device *device, float *to, const float *from, size_t count);
    /* One pass over a range that shares its weight decay: kernels/common/sgd.h. */
    int (*sgd)(struct rdp_device *device, const struct rdp_sgd *sgd, float *parameters, const float *gradients,
               float *momentum, size_t count);
};

/* Opens the CPU device (kernels/cpu/). RDP_EUSAGE if bf16 is asked for and the CPU or oneDNN cannot. Owned by the
 * caller. */
int rdp_cpu_device_open(struct rdp_device **device, const struct rdp_device_config *config);
void rdp_device_close(struct rdp_device *device); /* NULL-safe */

#endif
