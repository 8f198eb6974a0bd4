/* What the files of kernels/cpu/ share: the device's state and its operations by file. Nobody else includes this. */
#ifndef RDP_KERNELS_CPU_CPU_H
#define RDP_KERNELS_CPU_CPU_H

#include <string.h>

#include "kernels/cpu/dnnl_make.h"
#include "kernels/cpu/vector.h"
#include "kernels/kernels.h"

struct cpu_state {
    dnnl_engine_t engine;
    dnnl_stream_t stream;
    const struct rdp_vector_set *vectors; /* chosen by the CPU's instruction set */
    const struct rdp_vector_ops *loops;   /* vectors' f32 or bf16 */
    int lanes;                            /* channels in an activation block: vectors' */
    size_t element_size;                  /* of an activation: 4 or 2 bytes */
    void *scratchpad;                     /* shared by all primitives, which run one after the other */
    size_t scratchpad_size;
    double stamps[RDP_STAMPS]; /* seconds */
};

static inline struct cpu_state *cpu_state(struct rdp_device *device)
{
    return device->state;
}

static inline bool cpu_is_bf16(const struct rdp_device *device)
{
    return device->config.precision == RDP_KERNEL_BF16;
}

static inline uint16_t cpu_to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += 0x7fff + ((bits >> 16) & 1); /* round to nearest even, as vector_body.h */
    return (uint16_t)(bits >> 16);
}

/* Channel blocks of a shape: activations are (N, blocks, H, W, lanes), missing channels zero. */
static inline int cpu_blocks(struct rdp_device *device, int channels)
{
    return (channels + cpu_state(device)->lanes - 1) / cpu_state(device)->lanes;
}

/* Makes the scratchpad at least `bytes` large; called when a primitive is planned, never in the step. */
int cpu_scratchpad_reserve(struct rdp_device *device, size_t bytes);
size_t cpu_image_bytes(struct rdp_device *device, struct rdp_shape shape, bool is_image);

/* conv.c */
int cpu_chunk(struct rdp_device *device, const struct rdp_conv_desc *desc);
int cpu_conv_create(struct rdp_device *device, struct rdp_conv **conv, const struct rdp_conv_desc *desc);
void cpu_conv_destroy(struct rdp_device *device, struct rdp_conv *conv);
int cpu_conv_pack(struct rdp_device *device, struct rdp_conv *conv, const float *host_oihw, float *stored);
int cpu_conv_unpack(struct rdp_device *device, struct rdp_conv *conv, const float *stored, float *host_oihw);
int cpu_conv_weights(struct rdp_device *device, struct rdp_conv *conv, const float *stored, void *flat_copy,
                     bool backward);
int cpu_conv_forward(struct rdp_device *device, struct rdp_conv *conv, const void *x, void *y, int first, int count);
int cpu_conv_backward_data(struct rdp_device *device, struct rdp_conv *conv, const void *dy, void *dx, int first,
                           int count);
int cpu_conv_backward_weights(struct rdp_device *device, struct rdp_conv *conv, const void *x, const void *dy,
                              float *dw);

/* bn.c */
int cpu_bn_create(struct rdp_device *device, struct rdp_bn **bn, const struct rdp_bn_desc *desc);
void cpu_bn_destroy(struct rdp_device *device, struct rdp_bn *bn);
int cpu_bn_statistics(struct rdp_device *device, struct rdp_bn *bn, const void *y, int first, int count);
int cpu_bn_statistics_sum(struct rdp_device *device, struct rdp_bn *bn);
int cpu_bn_finalize(struct rdp_device *device, struct rdp_bn *bn, double elements);
int cpu_bn_use_running(struct rdp_device *device, struct rdp_bn *bn);
int cpu_bn_apply(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *residual, void *out,
                 int first, int count);
int cpu_bn_backward_reduce(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *joined, void *dout,
                           const void *dout2, int first, int count);
int cpu_bn_backward_sum(struct rdp_device *device, struct rdp_bn *bn);
int cpu_bn_backward_finalize(struct rdp_device *device, struct rdp_bn *bn, double elements);
int cpu_bn_backward_apply(struct rdp_device *device, struct rdp_bn *bn, const void *y, const void *dz, void *dy,
                          int first, int count);

/* augment.c */
struct rdp_augment_plan;
int cpu_augment(struct rdp_device *device, const struct rdp_augment *augment, const struct rdp_step_values *values,
                const uint8_t *images, const int64_t *rows, const int64_t *samples, void *out, int first, int count);
/* What the plan does to an image's bytes, without erasing and normalisation. Both (32,32,3), apart from each other. */
void cpu_augment_bytes(const struct rdp_augment *augment, const struct rdp_augment_plan *plan, const uint8_t *image,
                       uint8_t *out);

/* layout.c: pad shortcut, pool */
int cpu_pad_forward(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *x, void *y,
                    int first, int count);
int cpu_pad_backward(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *dy,
                     void *dx, int first, int count);
int cpu_max_pool_forward(struct rdp_device *device, struct rdp_shape input, const void *x, void *y, int first,
                         int count);
int cpu_max_pool_backward(struct rdp_device *device, struct rdp_shape input, const void *x, const void *dy, void *dx,
                          int first, int count);
int cpu_pool_forward(struct rdp_device *device, struct rdp_shape shape, const void *x, float *features, int first,
                     int count);
int cpu_pool_backward(struct rdp_device *device, struct rdp_shape shape, const float *dfeatures, void *dx, int first,
                      int count);

/* dropout.c */
int cpu_dropout_forward(struct rdp_device *device, const struct rdp_dropout *dropout,
                        const struct rdp_step_values *values, const int64_t *samples, const void *x, void *y, int first,
                        int count);
int cpu_dropout_backward(struct rdp_device *device, const struct rdp_dropout *dropout,
                         const struct rdp_step_values *values, const int64_t *samples, const void *dy, const void *dy2,
                         void *dx, int first, int count);

/* mix.c */
int cpu_mix(struct rdp_device *device, const struct rdp_step_values *values, void *images, int batch);

/* head.c: fully connected, loss */
int cpu_fc_forward(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                   const float *weight, const float *bias, float *logits);
int cpu_fc_backward(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                    const float *weight, const float *dlogits, float *dweight, float *dbias, float *dfeatures);
int cpu_loss(struct rdp_device *device, int batch, int valid, int classes, const float *logits, const uint8_t *labels,
             const struct rdp_step_values *values, float smoothing, float scale, float *dlogits, float *totals);

/* flat.c */
int cpu_add(struct rdp_device *device, float *to, const float *from, size_t count);
int cpu_update(struct rdp_device *device, const struct rdp_optimiser *optimiser, const struct rdp_step_values *values,
               const struct rdp_update *update);
int cpu_average(struct rdp_device *device, const struct rdp_step_values *values, float *average, const float *array,
                size_t count);
int cpu_lookahead(struct rdp_device *device, const struct rdp_step_values *values, float *slow, float *parameters,
                  void *copies, size_t count);

#endif
