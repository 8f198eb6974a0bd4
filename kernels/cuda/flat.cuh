/*
 * What the loops over flat arrays share. Four elements per thread and access; what is left over (none for the network's
 * arrays, which are multiples of 16) goes one by one. Few registers, so that the threads of a multiprocessor together
 * keep 32 to 96 KiB of loads in flight.
 */
#ifndef RDP_KERNELS_CUDA_FLAT_CUH
#define RDP_KERNELS_CUDA_FLAT_CUH

#include "kernels/cuda/element.cuh"

enum { THREADS = 256, FLAT_WAVES = 2, FOUR = 4 };

static __device__ inline void load_four(const float *from, float (&value)[FOUR])
{
    unpack(load_pack(from), value);
}

static __device__ inline void store_four(float *to, const float (&value)[FOUR])
{
    store_pack(to, pack_of(value));
}

static __device__ inline void store_four(bf16 *to, const float (&value)[FOUR])
{
    uint2 raw;
    raw.x = bf16_pair(value[0], value[1]);
    raw.y = bf16_pair(value[2], value[3]);
    *reinterpret_cast<uint2 *>(to) = raw;
}

static __device__ inline void load_four(const bf16 *from, float (&value)[FOUR])
{
    const uint2 raw = *reinterpret_cast<const uint2 *>(from);
    value[0] = float_of_bits(raw.x << 16);
    value[1] = float_of_bits(raw.x & 0xffff0000u);
    value[2] = float_of_bits(raw.y << 16);
    value[3] = float_of_bits(raw.y & 0xffff0000u);
}

static __device__ inline void store_one(float *to, float value)
{
    *to = value;
}

static __device__ inline void store_one(bf16 *to, float value)
{
    to->bits = (uint16_t)(bf16_pair(value, 0.0f) & 0xffffu);
}

static __device__ inline size_t first_four()
{
    return ((size_t)blockIdx.x * THREADS + threadIdx.x) * FOUR;
}

static __device__ inline size_t step_four()
{
    return (size_t)gridDim.x * THREADS * FOUR;
}

/* The thread that takes element `i` of the last, incomplete four: the first ones of the grid. */
static __device__ inline bool has_rest(size_t count, size_t *i)
{
    *i = count / FOUR * FOUR + (size_t)blockIdx.x * THREADS + threadIdx.x;
    return *i < count;
}

static inline dim3 grid_of(size_t count, int sms)
{
    return dim3(grid_for((count + FOUR - 1) / FOUR, THREADS, sms, FLAT_WAVES));
}

#endif
