/*
 * Dropout, forward and backward: one kernel, since both scale what is kept. A thread takes the eight channels of a
 * pixel whose bits are one call of Philox (kernels/common/dropout.h): some 80 integer instructions per 32 bytes, which
 * hide behind the memory. Its loads are started before it draws.
 */
#include "kernels/common/dropout.h"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launchers.h"

namespace {

enum { THREADS = 256, GROUP = RDP_DROPOUT_GROUP, IMAGES_MOST = 65535 /* CUDA's limit of a grid's height */ };

struct mask {
    uint64_t seed;
    uint32_t layer, threshold;
    float scale;
    unsigned int pixels, packs; /* of an image; groups of channels */
};

/* A group of activations, raw: one pack of bf16, two of f32. */
template <typename T> struct group {
    enum { PACKS = GROUP / pack<T>::LANES };
    uint4 raw[PACKS];
};

template <typename T> __device__ inline group<T> load_group(const T *from)
{
    group<T> loaded;
#pragma unroll
    for (int i = 0; i < group<T>::PACKS; i++)
        loaded.raw[i] = load_pack(from + i * pack<T>::LANES);
    return loaded;
}

/* y = (x + x2) * scale, or 0; y may be x. Rows of the grid are images, a row's threads the groups of one. */
template <typename T, bool TWO>
__global__ __launch_bounds__(THREADS) void dropout_kernel(mask m, const rdp_step_values *__restrict__ values,
                                                          const int64_t *__restrict__ samples, const T *x, const T *x2,
                                                          T *y, int images)
{
    constexpr int LANES = pack<T>::LANES;
    const unsigned int groups = m.pixels * m.packs, i = blockIdx.x * THREADS + threadIdx.x;
    if (i >= groups)
        return;
    const uint32_t step = values->step, number = i % m.packs * m.pixels + i / m.packs;
    for (int n = (int)blockIdx.y; n < images; n += (int)gridDim.y) {
        const size_t at = ((size_t)n * groups + i) * GROUP;
        const group<T> own = load_group(x + at);
        const group<T> other = load_group((TWO ? x2 : x) + at);
        const rdp_random random = rdp_dropout_draw(m.seed, m.layer, step, samples[n], number);
#pragma unroll
        for (int p = 0; p < group<T>::PACKS; p++) {
            float value[LANES], second[LANES];
            unpack(own.raw[p], value);
            unpack(other.raw[p], second);
#pragma unroll
            for (int k = 0; k < LANES; k++) {
                const float sum = TWO ? value[k] + second[k] : value[k];
                value[k] = rdp_dropout_bits(&random, p * LANES + k) >= m.threshold ? sum * m.scale : 0.0f;
            }
            store_pack(y + at + p * LANES, pack_of(value));
        }
    }
}

template <typename T>
cudaError_t dropout(cudaStream_t stream, const mask &m, const rdp_step_values *values, const int64_t *samples,
                    const void *x, const void *x2, void *y, int count)
{
    const dim3 grid((m.pixels * m.packs + THREADS - 1) / THREADS,
                    (unsigned int)(count < IMAGES_MOST ? count : IMAGES_MOST));
    return launch(stream, grid, THREADS, x2 != nullptr ? dropout_kernel<T, true> : dropout_kernel<T, false>, m, values,
                  samples, static_cast<const T *>(x), static_cast<const T *>(x2), static_cast<T *>(y), count);
}

} // namespace

extern "C" cudaError_t cuda_launch_dropout(cudaStream_t stream, const rdp_dropout *description,
                                           const rdp_step_values *values, const int64_t *samples, const void *x,
                                           const void *x2, void *y, bool is_bf16, int count)
{
    const rdp_shape shape = description->shape;
    const uint32_t threshold = rdp_dropout_threshold(description->probability);
    const mask m = {description->seed,
                    description->layer,
                    threshold,
                    rdp_dropout_scale(threshold),
                    (unsigned int)(shape.height * shape.width),
                    (unsigned int)((shape.channels + GROUP - 1) / GROUP)};
    return is_bf16 ? dropout<bf16>(stream, m, values, samples, x, x2, y, count)
                   : dropout<float>(stream, m, values, samples, x, x2, y, count);
}
