/*
 * The small operations that change an activation's shape, there and back: the padded shortcut of He et al. 2016 (option
 * A), the 2x2 max-pool, the global average pool. One thread makes one pack (max-pool's way back: those of one window);
 * missing channels are always written as zero.
 */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launchers.h"

namespace {

enum { THREADS = 256, WAVES = 4 };

/* Both ends of the shortcut. */
struct shortcut {
    int batch, stride, before;                      /* before: new channels in front */
    int small_channels, small_packs, small_side[2]; /* the block's input: channels; packs of a pixel; height, width */
    int large_channels, large_packs, large_side[2]; /* its output */
};

/* Channels [first, first + LANES) of one pixel, shifted: value[k] = pixel[first + k - shift], zero outside of it. Where
 * the shift is whole packs this is one load. */
template <typename T, int LANES>
__device__ inline void load_shifted(const T *pixel, int channels, int packs, int first, int shift,
                                    float (&value)[LANES])
{
#pragma unroll
    for (int k = 0; k < LANES; k++)
        value[k] = 0.0f;
    if (shift % LANES == 0) {
        const int pack = (first - shift) / LANES;
        if (first >= shift && pack < packs)
            unpack(load_pack(pixel + pack * LANES), value);
        return;
    }
#pragma unroll
    for (int k = 0; k < LANES; k++) {
        const int c = first + k - shift;
        if (c >= 0 && c < channels)
            value[k] = load_one(pixel + c);
    }
}

template <typename T>
__global__ __launch_bounds__(THREADS) void pad_forward_kernel(shortcut s, const T *__restrict__ x, T *__restrict__ y)
{
    constexpr int LANES = pack<T>::LANES;
    const size_t total = (size_t)s.batch * (size_t)(s.large_side[0] * s.large_side[1]) * (size_t)s.large_packs;
    const size_t step = (size_t)gridDim.x * THREADS;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += step) {
        const int first = (int)(i % (size_t)s.large_packs) * LANES;
        const int pixel = (int)(i / (size_t)s.large_packs), w = pixel % s.large_side[1];
        const int h = pixel / s.large_side[1] % s.large_side[0], n = pixel / s.large_side[1] / s.large_side[0];
        const size_t from = ((size_t)n * (size_t)s.small_side[0] + (size_t)(h * s.stride)) * (size_t)s.small_side[1] +
                            (size_t)(w * s.stride);
        float value[LANES];
        load_shifted(x + from * (size_t)(s.small_packs * LANES), s.small_channels, s.small_packs, first, s.before,
                     value);
        store_pack(y + i * LANES, pack_of(value));
    }
}

template <typename T>
__global__ __launch_bounds__(THREADS) void pad_backward_kernel(shortcut s, const T *__restrict__ dy, T *__restrict__ dx)
{
    constexpr int LANES = pack<T>::LANES;
    const size_t total = (size_t)s.batch * (size_t)(s.small_side[0] * s.small_side[1]) * (size_t)s.small_packs;
    const size_t step = (size_t)gridDim.x * THREADS;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += step) {
        const int first = (int)(i % (size_t)s.small_packs) * LANES;
        const int pixel = (int)(i / (size_t)s.small_packs), w = pixel % s.small_side[1];
        const int h = pixel / s.small_side[1] % s.small_side[0], n = pixel / s.small_side[1] / s.small_side[0];
        const bool kept =
            h % s.stride == 0 && h / s.stride < s.large_side[0] && w % s.stride == 0 && w / s.stride < s.large_side[1];
        float value[LANES] = {};
        if (kept) {
            const size_t from =
                ((size_t)n * (size_t)s.large_side[0] + (size_t)(h / s.stride)) * (size_t)s.large_side[1] +
                (size_t)(w / s.stride);
            load_shifted(dy + from * (size_t)(s.large_packs * LANES), s.large_channels, s.large_packs, first, -s.before,
                         value);
#pragma unroll
            for (int k = 0; k < LANES; k++)
                if (first + k >= s.small_channels)
                    value[k] = 0.0f; /* there dy has channels that the input has not */
        }
        store_pack(dx + i * LANES, pack_of(value));
    }
}

/* The images of a max-pool. */
struct windows {
    int batch, packs;        /* packs of a pixel */
    int height, width;       /* before the pool */
    int out_height, out_width;
};

/* Reads window i's packs, row by row; pixel[k] is where pack k lies, -1 where an odd edge cuts the window. largest and
 * which say for each lane what the largest value is and which pack has it first; a NaN counts as the largest. */
template <typename T, int LANES>
__device__ inline void read_window(const windows &s, const T *__restrict__ x, size_t i, long long (&pixel)[4],
                                   float (&largest)[LANES], int (&which)[LANES])
{
    const int part = (int)(i % (size_t)s.packs);
    const size_t out = i / (size_t)s.packs;
    const int w = (int)(out % (size_t)s.out_width), h = (int)(out / (size_t)s.out_width % (size_t)s.out_height);
    const size_t n = out / (size_t)s.out_width / (size_t)s.out_height;
#pragma unroll
    for (int k = 0; k < 4; k++) {
        const int row = 2 * h + k / 2, column = 2 * w + k % 2;
        const bool inside = row < s.height && column < s.width;
        const size_t at = (n * (size_t)s.height + (size_t)row) * (size_t)s.width + (size_t)column;
        pixel[k] = inside ? (long long)((at * (size_t)s.packs + (size_t)part) * LANES) : -1;
        if (!inside)
            continue;
        float value[LANES];
        unpack(load_pack(x + pixel[k]), value);
#pragma unroll
        for (int lane = 0; lane < LANES; lane++)
            if (k == 0 || value[lane] > largest[lane] || value[lane] != value[lane]) {
                largest[lane] = value[lane];
                which[lane] = k;
            }
    }
}

template <typename T>
__global__ __launch_bounds__(THREADS) void max_pool_forward_kernel(windows s, const T *__restrict__ x,
                                                                   T *__restrict__ y)
{
    constexpr int LANES = pack<T>::LANES;
    const size_t total = (size_t)s.batch * (size_t)(s.out_height * s.out_width) * (size_t)s.packs;
    const size_t step = (size_t)gridDim.x * THREADS;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += step) {
        long long pixel[4];
        float largest[LANES] = {};
        int which[LANES] = {};
        read_window(s, x, i, pixel, largest, which);
        store_pack(y + i * LANES, pack_of(largest));
    }
}

template <typename T>
__global__ __launch_bounds__(THREADS) void max_pool_backward_kernel(windows s, const T *__restrict__ x,
                                                                    const T *__restrict__ dy, T *__restrict__ dx)
{
    constexpr int LANES = pack<T>::LANES;
    const size_t total = (size_t)s.batch * (size_t)(s.out_height * s.out_width) * (size_t)s.packs;
    const size_t step = (size_t)gridDim.x * THREADS;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += step) {
        long long pixel[4];
        float largest[LANES] = {}, share[LANES];
        int which[LANES] = {};
        read_window(s, x, i, pixel, largest, which);
        unpack(load_pack(dy + i * LANES), share);
#pragma unroll
        for (int k = 0; k < 4; k++) {
            float value[LANES];
#pragma unroll
            for (int lane = 0; lane < LANES; lane++)
                value[lane] = which[lane] == k ? share[lane] : 0.0f;
            if (pixel[k] >= 0)
                store_pack(dx + pixel[k], pack_of(value));
        }
    }
}

/* features[n][c] = mean over the pixels, added in their order. */
template <typename T>
__global__ __launch_bounds__(THREADS) void pool_forward_kernel(int images, int pixels, int channels, int packs,
                                                               const T *__restrict__ x, float *__restrict__ features)
{
    constexpr int LANES = pack<T>::LANES;
    const int i = (int)(blockIdx.x * THREADS + threadIdx.x), first = i % packs * LANES, n = i / packs;
    if (n >= images)
        return;
    const T *from = x + (size_t)n * (size_t)pixels * (size_t)(packs * LANES) + first;
    float sum[LANES] = {};
#pragma unroll 8
    for (int p = 0; p < pixels; p++) {
        float value[LANES];
        unpack(load_pack(from + (size_t)p * (size_t)(packs * LANES)), value);
#pragma unroll
        for (int k = 0; k < LANES; k++)
            sum[k] += value[k];
    }
#pragma unroll
    for (int k = 0; k < LANES; k++)
        if (first + k < channels)
            features[(size_t)n * (size_t)channels + (size_t)(first + k)] = sum[k] / (float)pixels;
}

template <typename T>
__global__ __launch_bounds__(THREADS) void pool_backward_kernel(int images, int pixels, int channels, int packs,
                                                                const float *__restrict__ dfeatures, T *__restrict__ dx)
{
    constexpr int LANES = pack<T>::LANES;
    const size_t total = (size_t)images * (size_t)pixels * (size_t)packs, step = (size_t)gridDim.x * THREADS;
    for (size_t i = (size_t)blockIdx.x * THREADS + threadIdx.x; i < total; i += step) {
        const int first = (int)(i % (size_t)packs) * LANES;
        const size_t n = i / (size_t)packs / (size_t)pixels;
        float value[LANES];
#pragma unroll
        for (int k = 0; k < LANES; k++)
            value[k] =
                first + k < channels ? dfeatures[n * (size_t)channels + (size_t)(first + k)] / (float)pixels : 0.0f;
        store_pack(dx + i * LANES, pack_of(value));
    }
}

int packs_of(int channels, int lanes)
{
    return (channels + 7) / 8 * 8 / lanes;
}

template <typename T> shortcut shortcut_of(rdp_shape input, rdp_shape output, int count)
{
    const int lanes = pack<T>::LANES;
    return {count,           input.height / output.height,     (output.channels - input.channels) / 2,
            input.channels,  packs_of(input.channels, lanes),  {input.height, input.width},
            output.channels, packs_of(output.channels, lanes), {output.height, output.width}};
}

template <typename T>
cudaError_t pad_forward(cudaStream_t stream, rdp_shape input, rdp_shape output, const void *x, void *y, int sms,
                        int count)
{
    const shortcut s = shortcut_of<T>(input, output, count);
    const size_t packs = (size_t)count * (size_t)(output.height * output.width) * (size_t)s.large_packs;
    return launch(stream, dim3(grid_for(packs, THREADS, sms, WAVES)), THREADS, pad_forward_kernel<T>, s,
                  static_cast<const T *>(x), static_cast<T *>(y));
}

template <typename T>
cudaError_t pad_backward(cudaStream_t stream, rdp_shape input, rdp_shape output, const void *dy, void *dx, int sms,
                         int count)
{
    const shortcut s = shortcut_of<T>(input, output, count);
    const size_t packs = (size_t)count * (size_t)(input.height * input.width) * (size_t)s.small_packs;
    return launch(stream, dim3(grid_for(packs, THREADS, sms, WAVES)), THREADS, pad_backward_kernel<T>, s,
                  static_cast<const T *>(dy), static_cast<T *>(dx));
}

template <typename T> windows windows_of(rdp_shape input, int count)
{
    const rdp_shape output = rdp_shape_strided(input, input.channels, 2);
    return {count,        packs_of(input.channels, pack<T>::LANES), input.height, input.width, output.height,
            output.width};
}

template <typename T>
cudaError_t max_pool_forward(cudaStream_t stream, rdp_shape input, const void *x, void *y, int sms, int count)
{
    const windows s = windows_of<T>(input, count);
    const size_t packs = (size_t)count * (size_t)(s.out_height * s.out_width) * (size_t)s.packs;
    return launch(stream, dim3(grid_for(packs, THREADS, sms, WAVES)), THREADS, max_pool_forward_kernel<T>, s,
                  static_cast<const T *>(x), static_cast<T *>(y));
}

template <typename T>
cudaError_t max_pool_backward(cudaStream_t stream, rdp_shape input, const void *x, const void *dy, void *dx, int sms,
                              int count)
{
    const windows s = windows_of<T>(input, count);
    const size_t packs = (size_t)count * (size_t)(s.out_height * s.out_width) * (size_t)s.packs;
    return launch(stream, dim3(grid_for(packs, THREADS, sms, WAVES)), THREADS, max_pool_backward_kernel<T>, s,
                  static_cast<const T *>(x), static_cast<const T *>(dy), static_cast<T *>(dx));
}

template <typename T>
cudaError_t pool_forward(cudaStream_t stream, rdp_shape shape, const void *x, float *features, int count)
{
    const int packs = packs_of(shape.channels, pack<T>::LANES);
    const dim3 grid((unsigned int)((count * packs + THREADS - 1) / THREADS));
    return launch(stream, grid, THREADS, pool_forward_kernel<T>, count, shape.height * shape.width, shape.channels,
                  packs, static_cast<const T *>(x), features);
}

template <typename T>
cudaError_t pool_backward(cudaStream_t stream, rdp_shape shape, const float *dfeatures, void *dx, int sms, int count)
{
    const int packs = packs_of(shape.channels, pack<T>::LANES), pixels = shape.height * shape.width;
    const dim3 grid(grid_for((size_t)count * (size_t)pixels * (size_t)packs, THREADS, sms, WAVES));
    return launch(stream, grid, THREADS, pool_backward_kernel<T>, count, pixels, shape.channels, packs, dfeatures,
                  static_cast<T *>(dx));
}

} // namespace

extern "C" cudaError_t cuda_launch_pad_forward(cudaStream_t stream, rdp_shape input, rdp_shape output, const void *x,
                                               void *y, bool is_bf16, int sms, int count)
{
    return is_bf16 ? pad_forward<bf16>(stream, input, output, x, y, sms, count)
                   : pad_forward<float>(stream, input, output, x, y, sms, count);
}

extern "C" cudaError_t cuda_launch_pad_backward(cudaStream_t stream, rdp_shape input, rdp_shape output, const void *dy,
                                                void *dx, bool is_bf16, int sms, int count)
{
    return is_bf16 ? pad_backward<bf16>(stream, input, output, dy, dx, sms, count)
                   : pad_backward<float>(stream, input, output, dy, dx, sms, count);
}

extern "C" cudaError_t cuda_launch_max_pool_forward(cudaStream_t stream, rdp_shape input, const void *x, void *y,
                                                    bool is_bf16, int sms, int count)
{
    return is_bf16 ? max_pool_forward<bf16>(stream, input, x, y, sms, count)
                   : max_pool_forward<float>(stream, input, x, y, sms, count);
}

extern "C" cudaError_t cuda_launch_max_pool_backward(cudaStream_t stream, rdp_shape input, const void *x,
                                                     const void *dy, void *dx, bool is_bf16, int sms, int count)
{
    return is_bf16 ? max_pool_backward<bf16>(stream, input, x, dy, dx, sms, count)
                   : max_pool_backward<float>(stream, input, x, dy, dx, sms, count);
}

extern "C" cudaError_t cuda_launch_pool_forward(cudaStream_t stream, rdp_shape shape, const void *x, float *features,
                                                bool is_bf16, int count)
{
    return is_bf16 ? pool_forward<bf16>(stream, shape, x, features, count)
                   : pool_forward<float>(stream, shape, x, features, count);
}

extern "C" cudaError_t cuda_launch_pool_backward(cudaStream_t stream, rdp_shape shape, const float *dfeatures, void *dx,
                                                 bool is_bf16, int sms, int count)
{
    return is_bf16 ? pool_backward<bf16>(stream, shape, dfeatures, dx, sms, count)
                   : pool_backward<float>(stream, shape, dfeatures, dx, sms, count);
}
