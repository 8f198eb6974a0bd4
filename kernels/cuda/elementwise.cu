/*
 * The loops over flat f32 arrays: sum, optimiser, conversions. Four elements per thread and access; what is left over
 * (none for the network's arrays, which are multiples of 16) goes one by one. Few registers, so that the threads of a
 * multiprocessor together keep 32 to 96 KiB of loads in flight. An element's update is kernels/common/sgd.h, which the
 * CPU path runs too.
 */
#include "kernels/common/sgd.h"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launchers.h"

namespace {

enum { THREADS = 256, WAVES = 2, FOUR = 4 };

__device__ inline void load_four(const float *from, float (&value)[FOUR])
{
    unpack(load_pack(from), value);
}

__device__ inline void store_four(float *to, const float (&value)[FOUR])
{
    store_pack(to, pack_of(value));
}

__device__ inline void store_four(bf16 *to, const float (&value)[FOUR])
{
    uint2 raw;
    raw.x = bf16_pair(value[0], value[1]);
    raw.y = bf16_pair(value[2], value[3]);
    *reinterpret_cast<uint2 *>(to) = raw;
}

__device__ inline void load_four(const bf16 *from, float (&value)[FOUR])
{
    const uint2 raw = *reinterpret_cast<const uint2 *>(from);
    value[0] = float_of_bits(raw.x << 16);
    value[1] = float_of_bits(raw.x & 0xffff0000u);
    value[2] = float_of_bits(raw.y << 16);
    value[3] = float_of_bits(raw.y & 0xffff0000u);
}

__device__ inline void store_one(float *to, float value)
{
    *to = value;
}

__device__ inline void store_one(bf16 *to, float value)
{
    to->bits = (uint16_t)(bf16_pair(value, 0.0f) & 0xffffu);
}

__device__ inline size_t first_four()
{
    return ((size_t)blockIdx.x * THREADS + threadIdx.x) * FOUR;
}

__device__ inline size_t step_four()
{
    return (size_t)gridDim.x * THREADS * FOUR;
}

/* The thread that takes element `i` of the last, incomplete four: the first ones of the grid. */
__device__ inline bool has_rest(size_t count, size_t *i)
{
    *i = count / FOUR * FOUR + (size_t)blockIdx.x * THREADS + threadIdx.x;
    return *i < count;
}

__global__ __launch_bounds__(THREADS) void add_kernel(float *__restrict__ to, const float *__restrict__ from,
                                                      size_t count)
{
    for (size_t i = first_four(); i + FOUR <= count; i += step_four()) {
        float sum[FOUR], other[FOUR];
        load_four(to + i, sum);
        load_four(from + i, other);
#pragma unroll
        for (int k = 0; k < FOUR; k++)
            sum[k] += other[k];
        store_four(to + i, sum);
    }
    size_t i;
    if (has_rest(count, &i))
        to[i] += from[i];
}

template <typename From, typename To>
__global__ __launch_bounds__(THREADS) void convert_kernel(const From *__restrict__ from, To *__restrict__ to,
                                                          size_t count)
{
    for (size_t i = first_four(); i + FOUR <= count; i += step_four()) {
        float value[FOUR];
        load_four(from + i, value);
        store_four(to + i, value);
    }
    size_t i;
    if (has_rest(count, &i))
        store_one(to + i, load_one(from + i));
}

/* One element with its block's weight decay. */
__device__ inline void update(const rdp_sgd &sgd, float lr, bool decays, float *parameter, float gradient,
                              float *velocity)
{
    rdp_sgd_update(parameter, gradient, velocity, lr, sgd.momentum, decays ? sgd.weight_decay : 0.0f, sgd.nesterov);
}

template <bool COPIES>
__global__ __launch_bounds__(THREADS) void sgd_kernel(rdp_sgd sgd, const rdp_step_values *__restrict__ values,
                                                      const uint8_t *__restrict__ decays,
                                                      float *__restrict__ parameters, bf16 *__restrict__ copies,
                                                      const float *__restrict__ gradients, float *__restrict__ momentum,
                                                      size_t count)
{
    const float lr = values->lr;
    for (size_t i = first_four(); i + FOUR <= count; i += step_four()) {
        float parameter[FOUR], gradient[FOUR], velocity[FOUR];
        load_four(parameters + i, parameter);
        load_four(gradients + i, gradient);
        load_four(momentum + i, velocity);
        const bool decay = decays[i / RDP_DECAY_BLOCK] != 0; /* whole blocks of four lie in one block of decays */
#pragma unroll
        for (int k = 0; k < FOUR; k++)
            update(sgd, lr, decay, parameter + k, gradient[k], velocity + k);
        store_four(parameters + i, parameter);
        store_four(momentum + i, velocity);
        if (COPIES)
            store_four(copies + i, parameter);
    }
    size_t i;
    if (has_rest(count, &i)) {
        update(sgd, lr, decays[i / RDP_DECAY_BLOCK] != 0, parameters + i, gradients[i], momentum + i);
        if (COPIES)
            store_one(copies + i, parameters[i]);
    }
}

dim3 grid_of(size_t count, int sms)
{
    return dim3(grid_for((count + FOUR - 1) / FOUR, THREADS, sms, WAVES));
}

} // namespace

extern "C" cudaError_t cuda_launch_add(cudaStream_t stream, float *to, const float *from, size_t count, int sms)
{
    return launch(stream, grid_of(count, sms), THREADS, add_kernel, to, from, count);
}

extern "C" cudaError_t cuda_launch_sgd(cudaStream_t stream, const rdp_sgd *sgd, const rdp_step_values *values,
                                       const uint8_t *decays, float *parameters, void *copies, const float *gradients,
                                       float *momentum, size_t count, int sms)
{
    return launch(stream, grid_of(count, sms), THREADS, copies != nullptr ? sgd_kernel<true> : sgd_kernel<false>, *sgd,
                  values, decays, parameters, static_cast<bf16 *>(copies), gradients, momentum, count);
}

extern "C" cudaError_t cuda_launch_f32_to_bf16(cudaStream_t stream, const float *from, void *to, size_t count, int sms)
{
    return launch(stream, grid_of(count, sms), THREADS, convert_kernel<float, bf16>, from, static_cast<bf16 *>(to),
                  count);
}

extern "C" cudaError_t cuda_launch_bf16_to_f32(cudaStream_t stream, const void *from, float *to, size_t count, int sms)
{
    return launch(stream, grid_of(count, sms), THREADS, convert_kernel<bf16, float>, static_cast<const bf16 *>(from),
                  to, count);
}
