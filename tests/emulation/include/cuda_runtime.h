/*
 * CUDA C++ for a host compiler: found before the toolkit's file of this name when a .cu file is compiled as C++17.
 *
 * Every thread of a block is a fiber (block.cpp), blocks run one after the other, and a fiber gives way only at a
 * barrier or a shuffle. The order of threads alternates from block to block, so that what a barrier should have
 * ordered differs from run to run. Only what the project's kernels use is here.
 */
#ifndef RDP_TESTS_EMULATION_CUDA_RUNTIME_H
#define RDP_TESTS_EMULATION_CUDA_RUNTIME_H

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <functional>
#include <tuple>

#include <cuda_runtime_api.h>
#include <vector_functions.h>

#define RDP_CUDA_EMULATION 1

#ifdef __SANITIZE_ADDRESS__
#define RDP_EMULATION_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RDP_EMULATION_ASAN 1
#endif
#endif

/* Shared memory is static. Without AddressSanitizer it is thread-local besides, because the block of such variables is
 * the one whose bounds are known: block.cpp fills it with NaN before each block. With it, it has red zones instead. */
#undef __shared__
#ifdef RDP_EMULATION_ASAN
#define __shared__ static
#else
#define __shared__ static thread_local
#endif
#undef __launch_bounds__
#define __launch_bounds__(...)
#undef __forceinline__
#define __forceinline__ inline
#undef __constant__
#define __constant__ static

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

namespace rdp_emulation {

struct launch {
    const void *kernel; /* to name it in messages */
    dim3 grid, block;
    std::function<void()> thread;
};

void run_grid(const launch &launch);                                  /* block.cpp */
cudaError_t enqueue(const cudaLaunchConfig_t *config, launch &&what); /* runtime.cpp */
void barrier();
/* The value that lane `source` of this warp passes; `source` outside the warp: the own one. */
uint64_t shuffle(unsigned mask, uint64_t value, int source);
int lane();

template <typename T> T shuffle_value(unsigned mask, T value, int source)
{
    static_assert(sizeof(T) <= sizeof(uint64_t), "shuffles move up to 8 bytes");
    uint64_t bits = 0;
    std::memcpy(&bits, &value, sizeof value);
    bits = shuffle(mask, bits, source);
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

} // namespace rdp_emulation

/* Arguments are copied now, the kernel runs later. */
template <typename... Parameters, typename... Arguments>
cudaError_t cudaLaunchKernelEx(const cudaLaunchConfig_t *config, void (*kernel)(Parameters...),
                               Arguments &&...arguments)
{
    std::tuple<Parameters...> values(std::forward<Arguments>(arguments)...);
    return rdp_emulation::enqueue(config, {reinterpret_cast<const void *>(kernel), config->gridDim, config->blockDim,
                                           [=] { std::apply(kernel, values); }});
}

template <typename... Parameters>
cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, void (*kernel)(Parameters...))
{
    return cudaFuncGetAttributes(attributes, reinterpret_cast<const void *>(kernel));
}

inline void __syncthreads()
{
    rdp_emulation::barrier();
}

inline void __syncwarp(unsigned mask = 0xffffffffu)
{
    rdp_emulation::shuffle(mask, 0, -1);
}

template <typename T> T __shfl_sync(unsigned mask, T value, int source)
{
    return rdp_emulation::shuffle_value(mask, value, source & 31);
}

template <typename T> T __shfl_xor_sync(unsigned mask, T value, int lane_mask)
{
    return rdp_emulation::shuffle_value(mask, value, rdp_emulation::lane() ^ lane_mask);
}

template <typename T> T __shfl_down_sync(unsigned mask, T value, unsigned delta)
{
    return rdp_emulation::shuffle_value(mask, value, rdp_emulation::lane() + static_cast<int>(delta));
}

/* One thread runs at a time, so memory is always in order and nothing interrupts a read-modify-write. */
inline void __threadfence()
{
}

template <typename T> T atomicAdd(T *address, T value)
{
    T old = *address;
    *address = old + value;
    return old;
}

template <typename T> T __ldg(const T *address)
{
    return *address;
}

inline uint32_t __float_as_uint(float value)
{
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

inline float __uint_as_float(uint32_t bits)
{
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

inline float normcdff(float value)
{
    return 0.5f * std::erfc(value * -0.707106781f);
}

inline float rsqrtf(float value)
{
    return 1.0f / std::sqrt(value);
}

using std::max;
using std::min;

#endif
