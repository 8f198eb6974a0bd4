/*
 * What the kernels share: activations' element types, accesses of 16 bytes, and how a kernel is started. The only file
 * that knows how f32 becomes bf16 (round to nearest, ties to even, as the hardware and the CPU path do).
 *
 * A kernel moves "packs": 16 bytes, 4 f32 or 8 bf16 neighbouring channels, kept raw (uint4) until they are used, so
 * that a thread can have several loads in flight.
 */
#ifndef RDP_KERNELS_CUDA_ELEMENT_CUH
#define RDP_KERNELS_CUDA_ELEMENT_CUH

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cuda_runtime.h>
#ifdef __CUDACC__
#include <cuda_bf16.h>
#endif

struct bf16 {
    uint16_t bits;
};

/* How many elements a pack holds. */
template <typename T> struct pack;
template <> struct pack<float> {
    enum { LANES = 4 };
};
template <> struct pack<bf16> {
    enum { LANES = 8 };
};

static __device__ inline float float_of_bits(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static __device__ inline uint32_t bits_of_float(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

/* Two bf16 in one word, `low` at the lower address. */
static __device__ inline uint32_t bf16_pair(float low, float high)
{
#ifdef __CUDA_ARCH__
    __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    uint32_t word;
    memcpy(&word, &pair, sizeof word);
    return word;
#else
    uint32_t a = bits_of_float(low), b = bits_of_float(high);
    a += 0x7fff + ((a >> 16) & 1);
    b += 0x7fff + ((b >> 16) & 1);
    return (a >> 16) | (b & 0xffff0000u);
#endif
}

template <typename T> static __device__ inline uint4 load_pack(const T *from)
{
    return *reinterpret_cast<const uint4 *>(from);
}

template <typename T> static __device__ inline void store_pack(T *to, uint4 raw)
{
    *reinterpret_cast<uint4 *>(to) = raw;
}

static __device__ inline void unpack(uint4 raw, float (&value)[4])
{
    value[0] = float_of_bits(raw.x);
    value[1] = float_of_bits(raw.y);
    value[2] = float_of_bits(raw.z);
    value[3] = float_of_bits(raw.w);
}

static __device__ inline void unpack(uint4 raw, float (&value)[8])
{
    const uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
    for (int i = 0; i < 4; i++) {
        value[2 * i] = float_of_bits(word[i] << 16);
        value[2 * i + 1] = float_of_bits(word[i] & 0xffff0000u);
    }
}

static __device__ inline uint4 pack_of(const float (&value)[4])
{
    uint4 raw;
    raw.x = bits_of_float(value[0]);
    raw.y = bits_of_float(value[1]);
    raw.z = bits_of_float(value[2]);
    raw.w = bits_of_float(value[3]);
    return raw;
}

static __device__ inline uint4 pack_of(const float (&value)[8])
{
    uint4 raw;
    raw.x = bf16_pair(value[0], value[1]);
    raw.y = bf16_pair(value[2], value[3]);
    raw.z = bf16_pair(value[4], value[5]);
    raw.w = bf16_pair(value[6], value[7]);
    return raw;
}

static __device__ inline float load_one(const float *from)
{
    return *from;
}

static __device__ inline float load_one(const bf16 *from)
{
    return float_of_bits((uint32_t)from->bits << 16);
}

/* LANES f32 of a per-channel array, whose rows are padded so that this is aligned. */
template <int LANES> static __device__ inline void load_channels(const float *from, float (&value)[LANES])
{
#pragma unroll
    for (int i = 0; i < LANES; i += 4) {
        float4 four = *reinterpret_cast<const float4 *>(from + i);
        value[i] = four.x;
        value[i + 1] = four.y;
        value[i + 2] = four.z;
        value[i + 3] = four.w;
    }
}

/* What other blocks of the same kernel wrote: past the L1 cache, which does not know of their writes. */
static __device__ inline float4 load_shared_by_blocks(const float4 *from)
{
#ifdef __CUDA_ARCH__
    return __ldcg(from);
#else
    return *from;
#endif
}

/* Blocks for `work` threads, at most `waves` times the `threads` that 2,048 threads per multiprocessor make. */
static inline unsigned int grid_for(size_t work, int threads, int sms, int waves)
{
    size_t blocks = (work + (size_t)threads - 1) / (size_t)threads;
    size_t most = (size_t)sms * (size_t)(2048 / threads) * (size_t)waves;
    return (unsigned int)(blocks < 1 ? 1 : blocks > most ? most : blocks);
}

template <typename... Parameters, typename... Arguments>
static cudaError_t launch(cudaStream_t stream, dim3 grid, int threads, void (*kernel)(Parameters...),
                          Arguments... arguments)
{
    cudaLaunchConfig_t config = {};
    config.gridDim = grid;
    config.blockDim = dim3((unsigned int)threads);
    config.stream = stream;
    return cudaLaunchKernelEx(&config, kernel, arguments...);
}

#endif
