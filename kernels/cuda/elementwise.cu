/* The loops over flat f32 arrays that have no rows: sum, averages, conversions. optimiser.cu has the others. */
#include "kernels/cuda/flat.cuh"
#include "kernels/cuda/launchers.h"

namespace {

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

/* Of one element; what weight 1 gives is the array, whatever the average was. */
__device__ inline float averaged(float average, float value, float weight)
{
    return weight == 1.0f ? value : average + weight * (value - average);
}

__global__ __launch_bounds__(THREADS) void average_kernel(const rdp_step_values *__restrict__ values,
                                                          float *__restrict__ average, const float *__restrict__ array,
                                                          size_t count)
{
    const float weight = values->average;
    if (weight == 0.0f)
        return;
    for (size_t i = first_four(); i + FOUR <= count; i += step_four()) {
        float own[FOUR], value[FOUR];
        load_four(average + i, own);
        load_four(array + i, value);
#pragma unroll
        for (int k = 0; k < FOUR; k++)
            own[k] = averaged(own[k], value[k], weight);
        store_four(average + i, own);
    }
    size_t i;
    if (has_rest(count, &i))
        average[i] = averaged(average[i], array[i], weight);
}

template <bool COPIES>
__global__ __launch_bounds__(THREADS) void lookahead_kernel(const rdp_step_values *__restrict__ values,
                                                            float *__restrict__ slow, float *__restrict__ parameters,
                                                            bf16 *__restrict__ copies, size_t count)
{
    const float share = values->lookahead;
    if (!(share > 0.0f))
        return;
    for (size_t i = first_four(); i + FOUR <= count; i += step_four()) {
        float own[FOUR], fast[FOUR];
        load_four(slow + i, own);
        load_four(parameters + i, fast);
#pragma unroll
        for (int k = 0; k < FOUR; k++)
            own[k] += share * (fast[k] - own[k]);
        store_four(slow + i, own);
        store_four(parameters + i, own);
        if (COPIES)
            store_four(copies + i, own);
    }
    size_t i;
    if (has_rest(count, &i)) {
        const float own = slow[i] + share * (parameters[i] - slow[i]);
        slow[i] = parameters[i] = own;
        if (COPIES)
            store_one(copies + i, own);
    }
}

} // namespace

extern "C" cudaError_t cuda_launch_add(cudaStream_t stream, float *to, const float *from, size_t count, int sms)
{
    return launch(stream, grid_of(count, sms), THREADS, add_kernel, to, from, count);
}

extern "C" cudaError_t cuda_launch_average(cudaStream_t stream, const rdp_step_values *values, float *average,
                                           const float *array, size_t count, int sms)
{
    return launch(stream, grid_of(count, sms), THREADS, average_kernel, values, average, array, count);
}

extern "C" cudaError_t cuda_launch_lookahead(cudaStream_t stream, const rdp_step_values *values, float *slow,
                                             float *parameters, void *copies, size_t count, int sms)
{
    return launch(stream, grid_of(count, sms), THREADS,
                  copies != nullptr ? lookahead_kernel<true> : lookahead_kernel<false>, values, slow, parameters,
                  static_cast<bf16 *>(copies), count);
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
