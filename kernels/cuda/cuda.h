/* What the files of kernels/cuda/ share: the device's state and its operations by file. Nobody else includes this. */
#ifndef RDP_KERNELS_CUDA_CUDA_H
#define RDP_KERNELS_CUDA_CUDA_H

#include <cuda_runtime_api.h>

#include "base/status.h"
#include "kernels/kernels.h"

struct cuda_feed;    /* device.c: pinned staging ring */
struct cuda_library; /* conv.c: cuDNN handle, device properties, plan cache */
struct cuda_block;   /* memory.c: what alloc has given */

enum {
    CUDA_LANES = 8 /* channels of an activation are padded to a multiple of this: 16-byte accesses in bf16 */
};

/* Activations are (N,H,W,C) with C padded to a multiple of CUDA_LANES, missing channels zero; the image likewise (3
 * channels in 8). Stored convolution weights are (K,R,S,C) f32 with K and C padded alike, missing ones zero; their
 * copies (bf16 devices) have the same shape. */
struct cuda_state {
    cudaStream_t stream; /* everything that computes */
    bool bf16;           /* element type of activations: bf16, else f32 */
    size_t element_size; /* 2 or 4 */
    int sm_count;
    void *workspace; /* shared by all convolutions, which run one after the other */
    size_t workspace_size;
    struct cuda_block *blocks; /* the workspace among them */
    size_t memory_used;        /* bytes of them */
    struct cuda_feed *feed;
    struct cuda_library *library;
    cudaEvent_t *stamps; /* [RDP_STAMPS], created at first use */
    bool recording;
    int recordings; /* that are kept: they know the workspace by its address */
};

static inline struct cuda_state *cuda_state(struct rdp_device *device)
{
    return device->state;
}

static inline int cuda_padded(int channels)
{
    return (channels + CUDA_LANES - 1) / CUDA_LANES * CUDA_LANES;
}

/* The words for a failed call; defined in device.c. Returns RDP_EDEVICE (RDP_ENOMEM for an allocation). */
int rdp_cuda_failed(cudaError_t error, const char *call, const char *file, int line);

#define RDP_CUDA(call) \
    do { \
        cudaError_t rdp_cuda_error_ = (call); \
        if (rdp_cuda_error_ != cudaSuccess) \
            return rdp_cuda_failed(rdp_cuda_error_, #call, __FILE__, __LINE__); \
    } while (0)

/* device.c: makes the workspace at least `bytes` large; called when a convolution is planned, never in the step. */
int cuda_workspace_reserve(struct rdp_device *device, size_t bytes);

/* conv.c */
int cuda_library_open(struct rdp_device *device); /* fills cuda_state.library */
void cuda_library_close(struct rdp_device *device);
const char *cuda_library_version(void); /* "cuDNN 9.19.0" */
int cuda_chunk(struct rdp_device *device, const struct rdp_conv_desc *desc);
int cuda_conv_create(struct rdp_device *device, struct rdp_conv **conv, const struct rdp_conv_desc *desc);
void cuda_conv_destroy(struct rdp_device *device, struct rdp_conv *conv);
int cuda_conv_pack(struct rdp_device *device, struct rdp_conv *conv, const float *host_oihw, float *stored);
int cuda_conv_unpack(struct rdp_device *device, struct rdp_conv *conv, const float *stored, float *host_oihw);
int cuda_conv_weights(struct rdp_device *device, struct rdp_conv *conv, const float *stored, void *copy, bool backward);
int cuda_conv_forward(struct rdp_device *device, struct rdp_conv *conv, const void *x, void *y, int first, int count);
int cuda_conv_forward_statistics(struct rdp_device *device, struct rdp_conv *conv, struct rdp_bn *bn, const void *x,
                                 void *y);
int cuda_conv_backward_data(struct rdp_device *device, struct rdp_conv *conv, const void *dy, void *dx, int first,
                            int count);
int cuda_conv_backward_weights(struct rdp_device *device, struct rdp_conv *conv, const void *x, const void *dy,
                               float *dw);

/* bn.c */
int cuda_bn_create(struct rdp_device *device, struct rdp_bn **bn, const struct rdp_bn_desc *desc);
void cuda_bn_destroy(struct rdp_device *device, struct rdp_bn *bn);
int cuda_bn_statistics(struct rdp_device *device, struct rdp_bn *bn, const void *y, int first, int count);
/* In place of bn_statistics, for a convolution that sums what it writes: where it leaves, f32, 16-byte aligned, the sums
 * over the batch of y - running_mean [padded channels] and of its square [padded channels]; and what makes of them
 * what bn_statistics leaves. */
float *cuda_bn_own_sums(struct rdp_bn *bn);
int cuda_bn_take_sums(struct rdp_device *device, struct rdp_bn *bn);
int cuda_bn_statistics_sum(struct rdp_device *device, struct rdp_bn *bn);
int cuda_bn_finalize(struct rdp_device *device, struct rdp_bn *bn, double elements);
int cuda_bn_use_running(struct rdp_device *device, struct rdp_bn *bn);
int cuda_bn_apply(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *residual, void *out,
                  int first, int count);
int cuda_bn_backward_reduce(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *joined, void *dout,
                            const void *dout2, int first, int count);
int cuda_bn_backward_sum(struct rdp_device *device, struct rdp_bn *bn);
int cuda_bn_backward_finalize(struct rdp_device *device, struct rdp_bn *bn, double elements);
int cuda_bn_backward_apply(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *dz, void *dy,
                           int first, int count);

/* layout.c: augmentation, mixing, pad shortcut, dropout, pools */
int cuda_augment(struct rdp_device *device, const struct rdp_augment *augment, const struct rdp_step_values *values,
                 const uint8_t *images, const int64_t *rows, const int64_t *samples, void *out, int first, int count);
int cuda_mix(struct rdp_device *device, const struct rdp_step_values *values, void *images, int batch);
int cuda_pad_forward(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *x, void *y,
                     int first, int count);
int cuda_pad_backward(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *dy,
                      void *dx, int first, int count);
int cuda_dropout_forward(struct rdp_device *device, const struct rdp_dropout *dropout,
                         const struct rdp_step_values *values, const int64_t *samples, const void *x, void *y,
                         int first, int count);
int cuda_dropout_backward(struct rdp_device *device, const struct rdp_dropout *dropout,
                          const struct rdp_step_values *values, const int64_t *samples, const void *dy, const void *dy2,
                          void *dx, int first, int count);
int cuda_max_pool_forward(struct rdp_device *device, struct rdp_shape input, const void *x, void *y, int first,
                          int count);
int cuda_max_pool_backward(struct rdp_device *device, struct rdp_shape input, const void *x, const void *dy, void *dx,
                           int first, int count);
int cuda_pool_forward(struct rdp_device *device, struct rdp_shape shape, const void *x, float *features, int first,
                      int count);
int cuda_pool_backward(struct rdp_device *device, struct rdp_shape shape, const float *dfeatures, void *dx, int first,
                       int count);

/* head.c: fully connected, loss */
int cuda_fc_forward(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                    const float *weight, const float *bias, float *logits);
int cuda_fc_backward(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                     const float *weight, const float *dlogits, float *dweight, float *dbias, float *dfeatures);
int cuda_loss(struct rdp_device *device, int batch, int valid, int classes, const float *logits, const uint8_t *labels,
              const struct rdp_step_values *values, float smoothing, float scale, float *dlogits, float *totals);

/* flat.c */
int cuda_add(struct rdp_device *device, float *to, const float *from, size_t count);
int cuda_update(struct rdp_device *device, const struct rdp_optimiser *optimiser, const struct rdp_step_values *values,
                const struct rdp_update *update);
int cuda_average(struct rdp_device *device, const struct rdp_step_values *values, float *average, const float *array,
                 size_t count);
int cuda_lookahead(struct rdp_device *device, const struct rdp_step_values *values, float *slow, float *parameters,
                   void *copies, size_t count);

#endif
