/*
 * Memory and tensors on any device, through its own layout: a test writes and reads plain arrays, (N,C,H,W) f32 for
 * activations. Every block lies between guard bytes, which are checked whenever it is read and when it is freed.
 *
 * Layouts. CPU: (N, C / lanes, H, W, lanes), images (N,C,H,W). CUDA: (N,H,W,C), C padded to a multiple of 8, images
 * alike. f32, or bf16 on a bf16 device. Channels that only pad are zero.
 */
#ifndef RDP_TEST_SUPPORT_DEVICES_H
#define RDP_TEST_SUPPORT_DEVICES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/kernels.h"

/* The CPU device with 2 threads; the first CUDA device. NULL, after printing why, without a GPU, or if it or the CPU has
 * not got the precision; anything else that fails ends the test. */
struct rdp_device *rdp_open_cpu(enum rdp_kernel_precision precision, enum rdp_kernel_algorithm algorithm);
struct rdp_device *rdp_open_cuda(enum rdp_kernel_precision precision);
/* The same in bf16, with batch-norm statistics fused into convolutions wherever that can be done. */
struct rdp_device *rdp_open_cuda_fused(void);

/* Device memory of a test: `data` is what operations get. Filled with bytes 0x7f, which is no value that an operation
 * may leave. */
struct rdp_guarded {
    struct rdp_device *device;
    char *memory; /* guard, data, guard */
    void *data;
    size_t bytes;
};
struct rdp_guarded rdp_guarded_make(struct rdp_device *device, size_t bytes);
struct rdp_guarded rdp_guarded_of(struct rdp_device *device, const void *host, size_t bytes);
void rdp_guarded_put(const struct rdp_guarded *block, const void *host);
void rdp_guarded_take(const struct rdp_guarded *block, void *host);
void rdp_guarded_free(struct rdp_guarded *block);

/* Activations of `batch` images. */
struct rdp_activations {
    struct rdp_guarded block;
    struct rdp_shape shape;
    int batch;
    bool is_image;
};
struct rdp_activations rdp_activations_make(struct rdp_device *device, struct rdp_shape shape, int batch,
                                            bool is_image);
/* On a bf16 device the values must be exact in bf16. */
void rdp_activations_put(const struct rdp_activations *tensor, const float *nchw);
/* Checks that channels that only pad are zero. */
void rdp_activations_take(const struct rdp_activations *tensor, float *nchw);
void rdp_activations_free(struct rdp_activations *tensor);
size_t rdp_activations_count(struct rdp_shape shape, int batch); /* values without padding */

float rdp_bf16_value(uint16_t bits);
uint16_t rdp_bf16_bits(float value); /* nearest, ties to even */

#endif
