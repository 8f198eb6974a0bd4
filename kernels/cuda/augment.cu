/*
 * Augmentation: bytes of the resident shard to the padded, normalised input of the first convolution, in one pass. The
 * per-sample and per-byte arithmetic is kernels/common/augment.h, which the CPU path runs too.
 *
 * A block takes one image after the other. Each thread draws the image's crop and flip for itself, which is cheaper
 * than a barrier; the 3 x 256 normalised values are computed once per block.
 */
#include "kernels/common/augment.h"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launchers.h"

namespace {

enum { THREADS = 256 /* as many as bytes have values */, SIDE = 32, COLOURS = 3, PIXELS = SIDE * SIDE, PADDED = 8 };

__device__ inline void store_pixel(float *to, const float (&value)[PADDED])
{
    const float low[4] = {value[0], value[1], value[2], value[3]}, high[4] = {value[4], value[5], value[6], value[7]};
    store_pack(to, pack_of(low));
    store_pack(to + 4, pack_of(high));
}

__device__ inline void store_pixel(bf16 *to, const float (&value)[PADDED])
{
    store_pack(to, pack_of(value));
}

template <typename T>
__global__
__launch_bounds__(THREADS) void augment_kernel(rdp_augment augment, const rdp_step_values *__restrict__ values,
                                               const uint8_t *__restrict__ images, const int64_t *__restrict__ rows,
                                               const int64_t *__restrict__ samples, T *__restrict__ out, int count)
{
    __shared__ float table[COLOURS][256];
#pragma unroll
    for (int c = 0; c < COLOURS; c++)
        table[c][threadIdx.x] = rdp_augment_normalise(&augment, c, (int)threadIdx.x);
    __syncthreads();
    const uint32_t epoch = values->epoch;
    for (int n = (int)blockIdx.x; n < count; n += (int)gridDim.x) {
        const rdp_augment_draw draw = rdp_augment_draw_for(&augment, epoch, samples[n]);
        const uint8_t *image = images + (size_t)rows[n] * (PIXELS * COLOURS);
#pragma unroll
        for (int i = 0; i < PIXELS / THREADS; i++) {
            const int pixel = i * THREADS + (int)threadIdx.x, x = pixel % SIDE, y = pixel / SIDE;
            const int row = rdp_augment_source(y + draw.dy, SIDE, augment.crop);
            const int column = rdp_augment_source((draw.flip ? SIDE - 1 - x : x) + draw.dx, SIDE, augment.crop);
            const bool inside = row >= 0 && column >= 0; /* else a zero byte, as torchvision pads bytes */
            float value[PADDED] = {};
#pragma unroll
            for (int c = 0; c < COLOURS; c++)
                value[c] = table[c][inside ? image[(row * SIDE + column) * COLOURS + c] : 0];
            store_pixel(out + ((size_t)n * PIXELS + (size_t)pixel) * PADDED, value);
        }
    }
}

} // namespace

extern "C" cudaError_t cuda_launch_augment(cudaStream_t stream, const rdp_augment *augment,
                                           const rdp_step_values *values, const uint8_t *images, const int64_t *rows,
                                           const int64_t *samples, void *out, bool is_bf16, int sms, int count)
{
    const dim3 grid(grid_for((size_t)count * THREADS, THREADS, sms, 1));
    if (is_bf16)
        return launch(stream, grid, THREADS, augment_kernel<bf16>, *augment, values, images, rows, samples,
                      static_cast<bf16 *>(out), count);
    return launch(stream, grid, THREADS, augment_kernel<float>, *augment, values, images, rows, samples,
                  static_cast<float *>(out), count);
}
