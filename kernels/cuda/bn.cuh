/*
 * What the batch-norm kernels share. A thread keeps its channels (one pack) and walks over pixels, so that per-channel
 * values stay in registers; the threads of a block are `width` packs wide and blockDim.x / width pixels deep.
 */
#ifndef RDP_KERNELS_CUDA_BN_CUH
#define RDP_KERNELS_CUDA_BN_CUH

#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launchers.h"

/* Which pixels and channels a thread works on: channels from `channel`, pixels row, row + step, ... below `end`. */
struct place {
    int channel, row, end, step;
};

/* Threads without channels walk over nothing, but meet the others at barriers. */
template <int LANES> static __device__ inline place place_of(int width, int padded, int pixels)
{
    const int thread = (int)threadIdx.x, rows = (int)blockDim.x / width, row = thread / width;
    place own;
    own.channel = ((int)blockIdx.y * width + thread % width) * LANES;
    own.step = (int)gridDim.x * rows;
    own.row = (int)blockIdx.x * rows + row;
    own.end = row < rows && own.channel < padded ? pixels : 0;
    return own;
}

/* z before a residual. One fused multiply-add wherever it is needed, so that the sign that backward recomputes from y is
 * the sign that forward saw. */
static __device__ inline float normalise(float y, float scale, float shift)
{
    return fmaf(y, scale, shift);
}

template <bool GELU> static __device__ inline float activated(float z, float slope)
{
    if (GELU)
        return z * normcdff(z);
    return z > 0 ? z : z * slope;
}

/* The gradient before the activation; without GELU only z's sign matters. */
template <bool GELU> static __device__ inline float masked(float z, float d, float slope)
{
    if (GELU)
        return d * (normcdff(z) + z * 0.398942280f * expf(-0.5f * z * z));
    return z > 0 ? d : d * slope;
}

static inline int divide_up(int a, int b)
{
    return (a + b - 1) / b;
}

#endif
