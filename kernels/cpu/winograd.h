/*
 * Winograd convolution F(4x4, 3x3): 3 x 3 kernel, stride 1, padding 1, f32 arithmetic, activations f32 or bf16 in
 * nChw16c.
 *
 * The minimal filtering algorithm of Lavin & Gray 2016 (arXiv:1509.09308, section 4.3) computes a 4 x 4 tile of outputs
 * with 36 multiplications where the direct form needs 144:
 *
 *     Y  = A^T [ (G g G^T) . (B^T d B) ] A         d: 6 x 6 inputs, g: 3 x 3 weights
 *     dg = G^T [ (A dY A^T) . (B^T d B) ] G        its adjoint in g
 *
 * and dX is the forward convolution of dY with the rotated, transposed weights. Summed over channels, each of the 36
 * positions is a matrix product. oneDNN 2.6 has this for f32 only, oneDNN 3 has it no longer.
 *
 * Nothing here allocates or fails: the caller owns all memory, aligned to 64 bytes, and calls from outside parallel
 * regions. Forward and backward_data give the same bits for any number of threads and images per call; backward_weights
 * from call to call with the same number of threads.
 */
#ifndef RDP_KERNELS_CPU_WINOGRAD_H
#define RDP_KERNELS_CPU_WINOGRAD_H

#include <stdbool.h>
#include <stddef.h>

struct rdp_winograd {
    int height, width;               /* of the input and of the output */
    int input_blocks, output_blocks; /* channels / 16, rounded up */
    bool bf16;                       /* activations; weights and their gradient are always f32 */
    int threads;
    size_t transformed_bytes; /* of each of weights()'s two results */
    size_t workspace_bytes;   /* of each call's workspace; its contents need not survive between calls */
};

/* Whether this processor runs it: x86-64 with AVX-512 F, BW, DQ and VL. */
bool rdp_winograd_supported(void);

/* For any number of images per call. Channels are rounded up to whole blocks of 16: activations and stored weights
 * carry zeros there. */
void rdp_winograd_plan(struct rdp_winograd *plan, int height, int width, int input_channels, int output_channels,
                       bool bf16, int threads);

/* stored: OIhw16i16o f32. Writes G g G^T, for forward() and for backward_data(); either may be NULL. */
void rdp_winograd_weights(const struct rdp_winograd *plan, const float *stored, float *forward, float *backward);

/* y = x * w */
void rdp_winograd_forward(const struct rdp_winograd *plan, const void *x, const float *forward, void *y, int images,
                          void *workspace);
/* dx = the gradient by x */
void rdp_winograd_backward_data(const struct rdp_winograd *plan, const void *dy, const float *backward, void *dx,
                                int images, void *workspace);
/* dw: OIhw16i16o f32, overwritten with the gradient by w summed over `images` images. */
void rdp_winograd_backward_weights(const struct rdp_winograd *plan, const void *x, const void *dy, float *dw,
                                   int images, void *workspace);

#endif
