/*
 * Batch normalisation, its elementwise passes: out from y (and a residual), dy from y and dz. bn.cu has made the
 * per-channel coefficients.
 */
#include "kernels/cuda/bn.cuh"

namespace {

enum {
    APPLY_THREADS = 256,
    APPLY_WIDTH = 64 /* packs, at most */
};

template <typename T, bool RESIDUAL, bool GELU>
__global__ __launch_bounds__(APPLY_THREADS) void apply_kernel(cuda_bn bn, const T *__restrict__ y,
                                                              const T *__restrict__ residual, T *__restrict__ out,
                                                              int pixels, int width)
{
    constexpr int LANES = pack<T>::LANES, AHEAD = 4;
    const place own = place_of<LANES>(width, bn.padded, pixels);
    float scale[LANES] = {}, shift[LANES] = {};
    if (own.row < own.end) {
        load_channels(bn.scale + own.channel, scale);
        load_channels(bn.shift + own.channel, shift);
    }
    for (int row = own.row; row < own.end; row += AHEAD * own.step) {
        uint4 raw[AHEAD], raw_residual[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (row + i * own.step < own.end) {
                const size_t at = (size_t)(row + i * own.step) * (size_t)bn.padded + (size_t)own.channel;
                raw[i] = load_pack(y + at);
                if (RESIDUAL)
                    raw_residual[i] = load_pack(residual + at);
            }
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (row + i * own.step < own.end) {
                float value[LANES], other[LANES];
                unpack(raw[i], value);
                if (RESIDUAL)
                    unpack(raw_residual[i], other);
#pragma unroll
                for (int k = 0; k < LANES; k++) {
                    float z = normalise(value[k], scale[k], shift[k]);
                    if (RESIDUAL)
                        z += other[k];
                    value[k] = activated<GELU>(z, bn.slope);
                }
                store_pack(out + (size_t)(row + i * own.step) * (size_t)bn.padded + own.channel, pack_of(value));
            }
        }
    }
}

/* dz and dy may be the same array: a pack is loaded before it is stored, by the same thread. GELU matters only where
 * dz is not masked yet. */
template <typename T, bool MASKED, bool GELU>
__global__ __launch_bounds__(APPLY_THREADS) void backward_apply_kernel(cuda_bn bn, const T *__restrict__ y, const T *dz,
                                                                       T *dy, int pixels, int width)
{
    constexpr int LANES = pack<T>::LANES, AHEAD = 4;
    const place own = place_of<LANES>(width, bn.padded, pixels);
    float a[LANES] = {}, b[LANES] = {}, c[LANES] = {}, scale[LANES] = {}, shift[LANES] = {};
    if (own.row < own.end) {
        load_channels(bn.a + own.channel, a);
        load_channels(bn.b + own.channel, b);
        load_channels(bn.c + own.channel, c);
        if (!MASKED) {
            load_channels(bn.scale + own.channel, scale);
            load_channels(bn.shift + own.channel, shift);
        }
    }
    for (int row = own.row; row < own.end; row += AHEAD * own.step) {
        uint4 raw_y[AHEAD], raw_d[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (row + i * own.step < own.end) {
                const size_t at = (size_t)(row + i * own.step) * (size_t)bn.padded + (size_t)own.channel;
                raw_y[i] = load_pack(y + at);
                raw_d[i] = load_pack(dz + at);
            }
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (row + i * own.step < own.end) {
                float value[LANES], d[LANES];
                unpack(raw_y[i], value);
                unpack(raw_d[i], d);
#pragma unroll
                for (int k = 0; k < LANES; k++) {
                    if (!MASKED)
                        d[k] = masked<GELU>(normalise(value[k], scale[k], shift[k]), d[k], bn.slope);
                    d[k] = fmaf(a[k], d[k], fmaf(b[k], value[k], c[k]));
                }
                store_pack(dy + (size_t)(row + i * own.step) * (size_t)bn.padded + own.channel, pack_of(d));
            }
        }
    }
}

/* An elementwise pass over `count` images. */
struct pass {
    dim3 grid;
    int pixels, width;
};

template <typename T> pass pass_of(const cuda_bn *bn, int sms, int count)
{
    const int packs = bn->padded / pack<T>::LANES, tiles = divide_up(packs, APPLY_WIDTH);
    const int width = divide_up(packs, tiles), rows = APPLY_THREADS / width, pixels = count * bn->pixels;
    const size_t threads = (size_t)divide_up(pixels, rows * 4) * (size_t)tiles * APPLY_THREADS;
    const int blocks = (int)grid_for(threads, APPLY_THREADS, sms, 1), slabs = blocks / tiles;
    return {dim3((unsigned int)(slabs < 1 ? 1 : slabs), (unsigned int)tiles), pixels, width};
}

template <typename T>
cudaError_t apply(cudaStream_t stream, const cuda_bn *bn, int sms, const void *y, const void *residual, void *out,
                  int count)
{
    const pass over = pass_of<T>(bn, sms, count);
    auto kernel = bn->gelu ? apply_kernel<T, false, true> : apply_kernel<T, false, false>;
    if (residual != nullptr)
        kernel = bn->gelu ? apply_kernel<T, true, true> : apply_kernel<T, true, false>;
    return launch(stream, over.grid, APPLY_THREADS, kernel, *bn, static_cast<const T *>(y),
                  static_cast<const T *>(residual), static_cast<T *>(out), over.pixels, over.width);
}

template <typename T>
cudaError_t backward_apply(cudaStream_t stream, const cuda_bn *bn, int sms, const void *y, const void *dz, bool masked,
                           void *dy, int count)
{
    const pass over = pass_of<T>(bn, sms, count);
    auto kernel = bn->gelu ? backward_apply_kernel<T, false, true> : backward_apply_kernel<T, false, false>;
    if (masked)
        kernel = backward_apply_kernel<T, true, false>;
    return launch(stream, over.grid, APPLY_THREADS, kernel, *bn, static_cast<const T *>(y), static_cast<const T *>(dz),
                  static_cast<T *>(dy), over.pixels, over.width);
}

} // namespace

extern "C" cudaError_t cuda_launch_bn_apply(cudaStream_t stream, const cuda_bn *bn, int sms, const void *y,
                                            const void *residual, void *out, int count)
{
    return bn->bf16 ? apply<bf16>(stream, bn, sms, y, residual, out, count)
                    : apply<float>(stream, bn, sms, y, residual, out, count);
}

extern "C" cudaError_t cuda_launch_bn_backward_apply(cudaStream_t stream, const cuda_bn *bn, int sms, const void *y,
                                                     const void *dz, bool masked, void *dy, int count)
{
    return bn->bf16 ? backward_apply<bf16>(stream, bn, sms, y, dz, masked, dy, count)
                    : backward_apply<float>(stream, bn, sms, y, dz, masked, dy, count);
}
