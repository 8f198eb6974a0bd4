/*
 * The single-threaded parts of winograd.c, compiled for one instruction set. A "line" is 16 channels of one tile or
 * pixel in f32, one 64-byte vector. `stride` is the distance, in floats, between two of the 36 positions.
 */
#ifndef RDP_KERNELS_CPU_WINOGRAD_KERNELS_H
#define RDP_KERNELS_CPU_WINOGRAD_KERNELS_H

#include <stdbool.h>
#include <stddef.h>

enum {
    RDP_WINOGRAD_POSITIONS = 36,
    RDP_WINOGRAD_LINE = 16, /* floats */
    /* Tiles that product() works on at once: 14 x 2 sums, 2 lines of weights and 1 input fill 31 of 32 registers. */
    RDP_WINOGRAD_PANEL = 14
};

/* A tile of outputs: the plane (height, width, 16) of its image and channel block, and its first row and column
 * there. */
struct rdp_winograd_tile {
    int height, width, row, column;
    bool bf16;
};

struct rdp_winograd_kernels {
    /* B^T d B of the 6 x 6 inputs around the tile; zeros outside the plane */
    void (*input)(const void *plane, const struct rdp_winograd_tile *tile, float *v, size_t stride);
    /* A dY A^T of the tile's 4 x 4 gradients; zeros outside the plane */
    void (*gradient)(const void *plane, const struct rdp_winograd_tile *tile, float *v, size_t stride);
    /* A^T m A, written to the tile as far as it lies in the plane */
    void (*output)(const float *m, size_t stride, void *plane, const struct rdp_winograd_tile *tile);
    /* G g G^T of one 16 x 16 block of weights (3, 3, 16i, 16o); the 16 rows of a result lie `row` floats apart. With
     * `transpose`: of the rotated weights, rows are o, lines are i. */
    void (*weights)(const float *block, bool transpose, float *u, size_t row, size_t stride);
    /* G^T m G of one 16i x 16o block: (3, 3, 16i, 16o) */
    void (*weights_gradient)(const float *m, size_t stride, float *block);
    /* m[j][t] = sum over b, c of v[b][t][c] * u[b][c][j], for 1 to 14 tiles and j < outputs, 1 or 2 lines.
     * v's channel blocks lie v_block floats apart, m's m_block. */
    void (*product)(const float *v, size_t v_block, int blocks, const float *u, int tiles, int outputs, float *m,
                    size_t m_block);
    /* sum[j][c] (+)= sum over t of v[t][c] * g[j][t], for 16 c and j < outputs, 1 or 2 lines. */
    void (*accumulate)(const float *v, const float *g, size_t g_block, int tiles, int outputs, float *sum,
                       size_t sum_block, bool add);
};

#if defined(__x86_64__)
extern const struct rdp_winograd_kernels rdp_winograd_avx512;
#endif

#endif
