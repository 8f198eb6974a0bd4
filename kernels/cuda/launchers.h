/*
 * Starts our own kernels (the .cu files) from C. Every function takes a stream first, starts one or a few kernels on it
 * and returns what the launch returned; nothing blocks or allocates, so all of it can be recorded. Pointers are device
 * memory, aligned to 16 bytes where they hold activations or flat arrays; activations are (N,H,W,C) as cuda.h says, f32
 * or (`bf16`) bf16, at the first image of the range. `sms` is the number of multiprocessors, which sizes the grids.
 *
 * Nothing here depends on the order in which threads run: no floating-point atomics, all sums in a fixed order.
 */
#ifndef RDP_KERNELS_CUDA_LAUNCHERS_H
#define RDP_KERNELS_CUDA_LAUNCHERS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <cuda_runtime_api.h>

#include "kernels/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- bn.cu (reductions) and bn_apply.cu ---- */

enum {
    CUDA_BN_TILE = 64 /* channels that one block of a reduction works on, at most */
};

/*
 * One batch-norm as its kernels see it; passed by value. The reductions share the batch between `slabs` blocks for each
 * of `tiles` channel ranges: each block leaves a tile's f32 sums in `partial`, and the last one to finish (a ticket per
 * tile, which it resets for the next run) adds them up in f64 and finishes the tile.
 */
struct cuda_bn {
    int channels, padded;    /* padded: a multiple of 8 */
    int batch, pixels;       /* pixels of one image */
    bool bf16, synchronised; /* synchronised: reductions end with `sums`, the finalise kernels do the rest */
    bool gelu;               /* the activation; otherwise: */
    float slope;             /* z > 0 ? z : slope * z; 1 for no activation, 0 for ReLU */
    double epsilon, momentum;
    const float *gamma, *beta; /* [channels], and the next four */
    float *running_mean, *running_var;
    float *dgamma, *dbeta;
    double *sums; /* [2][channels] */
    /* [padded], zero in the missing channels so that those stay zero: z = y * scale + shift; dy = a * dz + b * y + c */
    float *mean, *invstd, *scale, *shift, *a, *b, *c;
    int tiles, tile;       /* tile: its channels, a multiple of 8; the last one may be smaller */
    int slabs;             /* blocks per tile of a reduction over the whole batch in one call, at most */
    float *partial;        /* [tiles][max(slabs, batch)][2][tile] */
    unsigned int *tickets; /* [2][tiles]: statistics, backward; zero between runs */
};

/* A range of images [first, first + count); all calls of one pass over the batch share `count`. */
struct cuda_range {
    int first, count;
};

/* Sums of y - running_mean and its square; the range that completes the batch writes bn.sums and, unless synchronised,
 * finalises (mean, invstd, scale, shift, running statistics). y points to the range's first image. */
cudaError_t cuda_launch_bn_statistics(cudaStream_t stream, const struct cuda_bn *bn, const void *y,
                                      struct cuda_range range);
/* The same from the batch's sums, which lie as f32 [2][padded] at bn.partial. */
cudaError_t cuda_launch_bn_take_sums(cudaStream_t stream, const struct cuda_bn *bn);
/* bn.sums over `elements` values -> mean, invstd, scale, shift, running statistics. */
cudaError_t cuda_launch_bn_finalize(cudaStream_t stream, const struct cuda_bn *bn, double elements);
cudaError_t cuda_launch_bn_use_running(cudaStream_t stream, const struct cuda_bn *bn);
/* out = act(y * scale + shift + residual), residual may be NULL. */
cudaError_t cuda_launch_bn_apply(cudaStream_t stream, const struct cuda_bn *bn, int sms, const void *y,
                                 const void *residual, void *out, int count);
/* Sums of dz and dz * (y - mean), with dz = (dout + dout2) * act'(z); `joined` is kernels.h's, NULL: z is recomputed
 * from y alone; dz is written over dout if joined or dout2 is given. The range that completes the batch writes bn.sums,
 * dgamma, dbeta and, unless synchronised, the coefficients a, b, c. */
cudaError_t cuda_launch_bn_backward_reduce(cudaStream_t stream, const struct cuda_bn *bn, const void *y,
                                           const void *joined, void *dout, const void *dout2, struct cuda_range range);
cudaError_t cuda_launch_bn_backward_finalize(cudaStream_t stream, const struct cuda_bn *bn, double elements);
/* dy = a * dz + b * y + c; `masked`: dz has act' in it, otherwise act'(y * scale + shift) is applied here. dy may be
 * dz. */
cudaError_t cuda_launch_bn_backward_apply(cudaStream_t stream, const struct cuda_bn *bn, int sms, const void *y,
                                          const void *dz, bool masked, void *dy, int count);

/* ---- augment.cu: rows, samples and out at the range's first image ---- */
cudaError_t cuda_launch_augment(cudaStream_t stream, const struct rdp_augment *augment,
                                const struct rdp_step_values *values, const uint8_t *images, const int64_t *rows,
                                const int64_t *samples, void *out, bool bf16, int sms, int count);

/* ---- mix.cu: the whole batch, in place ---- */
cudaError_t cuda_launch_mix(cudaStream_t stream, const struct rdp_step_values *values, void *images, bool bf16,
                            int batch);

/* ---- dropout.cu: samples, x, x2 and y at the range's first image; y = (x + x2) / (1 - p) or 0; x2 may be NULL ---- */
cudaError_t cuda_launch_dropout(cudaStream_t stream, const struct rdp_dropout *dropout,
                                const struct rdp_step_values *values, const int64_t *samples, const void *x,
                                const void *x2, void *y, bool bf16, int count);

/* ---- pool.cu ---- */
cudaError_t cuda_launch_pad_forward(cudaStream_t stream, struct rdp_shape input, struct rdp_shape output, const void *x,
                                    void *y, bool bf16, int sms, int count);
cudaError_t cuda_launch_pad_backward(cudaStream_t stream, struct rdp_shape input, struct rdp_shape output,
                                     const void *dy, void *dx, bool bf16, int sms, int count);
cudaError_t cuda_launch_max_pool_forward(cudaStream_t stream, struct rdp_shape input, const void *x, void *y, bool bf16,
                                         int sms, int count);
cudaError_t cuda_launch_max_pool_backward(cudaStream_t stream, struct rdp_shape input, const void *x, const void *dy,
                                          void *dx, bool bf16, int sms, int count);
/* features and dfeatures: f32 [count][channels], not padded. */
cudaError_t cuda_launch_pool_forward(cudaStream_t stream, struct rdp_shape shape, const void *x, float *features,
                                     bool bf16, int count);
cudaError_t cuda_launch_pool_backward(cudaStream_t stream, struct rdp_shape shape, const float *dfeatures, void *dx,
                                      bool bf16, int sms, int count);

/* ---- head.cu ---- */
cudaError_t cuda_launch_fc_forward(cudaStream_t stream, int batch, int channels, int classes, const float *features,
                                   const float *weight, const float *bias, float *logits);
cudaError_t cuda_launch_fc_backward(cudaStream_t stream, int batch, int channels, int classes, const float *features,
                                    const float *weight, const float *dlogits, float *dweight, float *dbias,
                                    float *dfeatures);
cudaError_t cuda_launch_loss(cudaStream_t stream, int batch, int valid, int classes, const float *logits,
                             const uint8_t *labels, const struct rdp_step_values *values, float smoothing, float scale,
                             float *dlogits, float *totals);

/* ---- elementwise.cu: any count ---- */
cudaError_t cuda_launch_add(cudaStream_t stream, float *to, const float *from, size_t count, int sms);
/* copies: bf16 [count], or NULL. */
cudaError_t cuda_launch_lookahead(cudaStream_t stream, const struct rdp_step_values *values, float *slow,
                                  float *parameters, void *copies, size_t count, int sms);
cudaError_t cuda_launch_average(cudaStream_t stream, const struct rdp_step_values *values, float *average,
                                const float *array, size_t count, int sms);
cudaError_t cuda_launch_f32_to_bf16(cudaStream_t stream, const float *from, void *to, size_t count, int sms);
cudaError_t cuda_launch_bf16_to_f32(cudaStream_t stream, const void *from, float *to, size_t count, int sms);

/* ---- optimiser.cu: up to five kernels ---- */
cudaError_t cuda_launch_update(cudaStream_t stream, const struct rdp_optimiser *optimiser,
                               const struct rdp_step_values *values, const struct rdp_update *update, int sms);

#ifdef __cplusplus
}
#endif

#endif
