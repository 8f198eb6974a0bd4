/*
 * The memory-bound inner loops, compiled once per instruction set and chosen at run time: a binary built on one machine
 * of a cluster runs, fast, on the others. Each works on one channel block of one image: `count` pixels of RDP_LANES
 * channels, nChw16c (AVX-512) or nChw8c (everything else), f32 or bf16. Threads are the callers' affair.
 */
#ifndef RDP_KERNELS_CPU_VECTOR_H
#define RDP_KERNELS_CPU_VECTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/common/optimiser.h"

enum { RDP_MIX_ROW = 32 /* a multiple of every set's lanes */ };

/* GELU, or z > 0 ? z : slope * z, with slope 1 (none), 0 (ReLU) or LeakyReLU's. */
struct rdp_vector_activation {
    bool gelu;
    float slope;
};

struct rdp_vector_ops {
    const char *name; /* "avx512", "avx2", "generic" */
    int lanes;        /* channels in a block: 16 or 8 */
    /* sum[c] = sum of (y - shift[c]); square[c] = sum of its square. */
    void (*statistics)(const void *y, size_t count, const float *shift, float *sum, float *square);
    /* out = act(y * scale + shift + residual); residual may be NULL. */
    void (*apply)(const void *y, const void *residual, void *out, size_t count, const float *scale, const float *shift,
                  struct rdp_vector_activation activation);
    /* dout = (dout + dout2) * act'(z); dout2 may be NULL. `joined`: kernels.h's of bn_backward_reduce; NULL: z = y *
     * scale + shift. sum[c] = sum of dout, product[c] = sum of dout * (y - mean[c]). */
    void (*backward_reduce)(const void *y, const void *joined, void *dout, const void *dout2, size_t count,
                            const float *scale, const float *shift, const float *mean,
                            struct rdp_vector_activation activation, float *sum, float *product);
    /* dy = a * dz + b * y + c */
    void (*backward_apply)(const void *y, const void *dz, void *dy, size_t count, const float *a, const float *b,
                           const float *c);
    /* y = (x + x2) / (1 - p) or 0, of channel block `block` of a whole image; x2 may be NULL, y may be x. */
    void (*dropout)(const struct rdp_dropout *dropout, uint32_t step, int64_t sample, int block, const void *x,
                    const void *x2, void *y);
    /* kernels.h's max_pool of a whole image's channel block of height x width pixels. */
    void (*max_pool)(const void *x, int height, int width, void *y);
    void (*max_pool_backward)(const void *x, const void *dy, int height, int width, void *dx);
    /* A row of RDP_MIX_ROW elements: a = w * a + (1 - w) * b, and b with a's old values likewise. */
    void (*mix)(void *a, void *b, const float *weights);
};

/* The loops over flat f32 arrays; flat_body.h. Arrays of one call do not overlap. */
struct rdp_flat_ops {
    void (*add)(float *to, const float *from, size_t count);
    /* By rule of kernels/common/optimiser.h; arrays that the rule does not use may be NULL. */
    void (*update[RDP_UPDATE_RULES])(const struct rdp_update_terms *terms, float *parameters, float *gradients,
                                     float *first, float *second, size_t count);
    /* Sum of the squares of the elements, each first clipped to +-limit. */
    double (*square)(const float *array, size_t count, float limit);
    void (*average)(float *average, const float *array, size_t count, float weight);
    void (*lookahead)(float *slow, float *parameters, size_t count, float share);
};

struct rdp_vector_set {
    struct rdp_vector_ops f32, bf16;
    struct rdp_flat_ops flat;
};

extern const struct rdp_vector_set rdp_vector_generic;
#if defined(__x86_64__)
extern const struct rdp_vector_set rdp_vector_avx2;
extern const struct rdp_vector_set rdp_vector_avx512;
#endif

#endif
