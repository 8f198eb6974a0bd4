/*
 * Augmentation: bytes of the resident shard to the padded, normalised input of the first convolution, in one pass. The
 * per-sample and per-pixel arithmetic is kernels/common/augment.h and augment_pixel.h, which the CPU path runs too.
 *
 * A block takes one image after the other; the 3 x 256 normalised values are computed once per block. Where pixels are
 * only moved (move_kernel), each thread draws the image's crop and flip for itself, which is cheaper than a barrier.
 * Otherwise (augment_kernel) thread 0 draws, and the image lies in shared memory, where rotation finds its neighbours;
 * the mean grey that contrast needs is a sum of whole numbers, which needs no order.
 */
#include "kernels/common/augment_pixel.h"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launchers.h"

namespace {

enum {
    THREADS = 256, /* as many as bytes have values */
    SIDE = RDP_AUGMENT_SIDE,
    COLOURS = RDP_AUGMENT_COLOURS,
    PIXELS = RDP_AUGMENT_PIXELS,
    WARP = 32,
    PADDED = 8
};

struct byte_table {
    float value[COLOURS][256];
};

__device__ inline void fill_table(const rdp_augment &augment, byte_table &table)
{
#pragma unroll
    for (int c = 0; c < COLOURS; c++)
        table.value[c][threadIdx.x] = rdp_augment_normalise(&augment, c, (int)threadIdx.x);
}

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

/* Pixel (y, x) of the cropped and flipped image; zeros where it was padded, as torchvision pads bytes. */
__device__ inline void take_pixel(const rdp_augment_draw &draw, rdp_kernel_crop crop, const uint8_t *__restrict__ image,
                                  int y, int x, int (&rgb)[COLOURS])
{
    const int row = rdp_augment_source(y + draw.dy, SIDE, crop);
    const int column = rdp_augment_source((draw.flip ? SIDE - 1 - x : x) + draw.dx, SIDE, crop);
    const bool inside = row >= 0 && column >= 0;
#pragma unroll
    for (int c = 0; c < COLOURS; c++)
        rgb[c] = inside ? image[(row * SIDE + column) * COLOURS + c] : 0;
}

template <typename T>
__global__
__launch_bounds__(THREADS) void move_kernel(rdp_augment augment, const rdp_step_values *__restrict__ values,
                                            const uint8_t *__restrict__ images, const int64_t *__restrict__ rows,
                                            const int64_t *__restrict__ samples, T *__restrict__ out, int count)
{
    __shared__ byte_table table;
    fill_table(augment, table);
    __syncthreads();
    const uint32_t epoch = values->epoch;
    for (int n = (int)blockIdx.x; n < count; n += (int)gridDim.x) {
        const rdp_augment_draw draw = rdp_augment_draw_for(&augment, epoch, samples[n]);
        const uint8_t *image = images + (size_t)rows[n] * RDP_AUGMENT_BYTES;
#pragma unroll
        for (int i = 0; i < PIXELS / THREADS; i++) {
            const int pixel = i * THREADS + (int)threadIdx.x;
            int rgb[COLOURS];
            take_pixel(draw, augment.crop, image, pixel / SIDE, pixel % SIDE, rgb);
            float value[PADDED] = {};
#pragma unroll
            for (int c = 0; c < COLOURS; c++)
                value[c] = table.value[c][rgb[c]];
            store_pixel(out + ((size_t)n * PIXELS + (size_t)pixel) * PADDED, value);
        }
    }
}

struct workspace {
    rdp_augment_plan plan;
    int greys;                            /* their sum over the image */
    uint8_t images[2][RDP_AUGMENT_BYTES]; /* before and after rotation */
};

__device__ inline void read_pixel(const uint8_t *image, int pixel, int (&rgb)[COLOURS])
{
#pragma unroll
    for (int c = 0; c < COLOURS; c++)
        rgb[c] = image[pixel * COLOURS + c];
}

__device__ inline void write_pixel(uint8_t *image, int pixel, const int (&rgb)[COLOURS])
{
#pragma unroll
    for (int c = 0; c < COLOURS; c++)
        image[pixel * COLOURS + c] = (uint8_t)rgb[c];
}

/* The image's mean grey; all threads call it, once per image. */
__device__ inline float mean_grey(workspace &shared, const uint8_t *image)
{
    int sum = 0;
    for (int pixel = (int)threadIdx.x; pixel < PIXELS; pixel += THREADS) {
        int rgb[COLOURS];
        read_pixel(image, pixel, rgb);
        sum += rdp_pixel_grey(rgb);
    }
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(0xffffffffu, sum, offset);
    if (threadIdx.x % WARP == 0)
        atomicAdd(&shared.greys, sum);
    __syncthreads();
    return (float)shared.greys / PIXELS;
}

/* Each thread its own pixels, which are those that it will store. */
__device__ inline void jitter(workspace &shared, uint8_t *image)
{
    for (int k = 0; k < shared.plan.jitters; k++) {
        const rdp_jitter kind = (rdp_jitter)shared.plan.order[k];
        const float factor = shared.plan.factor[kind], mean = kind == RDP_CONTRAST ? mean_grey(shared, image) : 0.0f;
        for (int pixel = (int)threadIdx.x; pixel < PIXELS; pixel += THREADS) {
            int rgb[COLOURS];
            read_pixel(image, pixel, rgb);
            rdp_pixel_jitter(kind, factor, mean, rgb);
            write_pixel(image, pixel, rgb);
        }
    }
}

/* Where the image lies after crop, flip, rotation and jitter. */
__device__ inline uint8_t *change(const rdp_augment &augment, workspace &shared, const uint8_t *__restrict__ image)
{
    for (int pixel = (int)threadIdx.x; pixel < PIXELS; pixel += THREADS) {
        int rgb[COLOURS];
        take_pixel(shared.plan.draw, augment.crop, image, pixel / SIDE, pixel % SIDE, rgb);
        write_pixel(shared.images[0], pixel, rgb);
    }
    if (shared.plan.rotates) {
        __syncthreads();
        for (int pixel = (int)threadIdx.x; pixel < PIXELS; pixel += THREADS) {
            int rgb[COLOURS];
            rdp_pixel_rotate(shared.images[0], shared.plan.cosine, shared.plan.sine, augment.interpolation,
                             pixel / SIDE, pixel % SIDE, rgb);
            write_pixel(shared.images[1], pixel, rgb);
        }
    }
    uint8_t *changed = shared.images[shared.plan.rotates];
    jitter(shared, changed);
    return changed;
}

template <typename T>
__global__
__launch_bounds__(THREADS) void augment_kernel(rdp_augment augment, const rdp_step_values *__restrict__ values,
                                               const uint8_t *__restrict__ images, const int64_t *__restrict__ rows,
                                               const int64_t *__restrict__ samples, T *__restrict__ out, int count)
{
    __shared__ byte_table table;
    __shared__ workspace shared;
    fill_table(augment, table);
    const uint32_t epoch = values->epoch;
    for (int n = (int)blockIdx.x; n < count; n += (int)gridDim.x) {
        __syncthreads(); /* the table is whole, and nobody reads the last image's plan any more */
        if (threadIdx.x == 0) {
            rdp_augment_plan_for(&augment, epoch, samples[n], &shared.plan);
            shared.greys = 0;
        }
        __syncthreads();
        const uint8_t *changed = change(augment, shared, images + (size_t)rows[n] * RDP_AUGMENT_BYTES);
        for (int pixel = (int)threadIdx.x; pixel < PIXELS; pixel += THREADS) {
            const int y = pixel / SIDE, x = pixel % SIDE;
            const bool erased =
                rdp_augment_box_has(&shared.plan.erased, y, x) || rdp_augment_box_has(&shared.plan.cut, y, x);
            int rgb[COLOURS];
            read_pixel(changed, pixel, rgb);
            float value[PADDED] = {};
#pragma unroll
            for (int c = 0; c < COLOURS; c++)
                value[c] = !erased ? table.value[c][rgb[c]] : augment.erase_mean ? 0.0f : table.value[c][0];
            store_pixel(out + ((size_t)n * PIXELS + (size_t)pixel) * PADDED, value);
        }
    }
}

template <typename T>
cudaError_t start(cudaStream_t stream, const rdp_augment *augment, const rdp_step_values *values, const uint8_t *images,
                  const int64_t *rows, const int64_t *samples, T *out, int sms, int count)
{
    const dim3 grid(grid_for((size_t)count * THREADS, THREADS, sms, 1));
    return launch(stream, grid, THREADS, rdp_augment_only_moves(augment) ? move_kernel<T> : augment_kernel<T>, *augment,
                  values, images, rows, samples, out, count);
}

} // namespace

extern "C" cudaError_t cuda_launch_augment(cudaStream_t stream, const rdp_augment *augment,
                                           const rdp_step_values *values, const uint8_t *images, const int64_t *rows,
                                           const int64_t *samples, void *out, bool is_bf16, int sms, int count)
{
    return is_bf16 ? start(stream, augment, values, images, rows, samples, static_cast<bf16 *>(out), sms, count)
                   : start(stream, augment, values, images, rows, samples, static_cast<float *>(out), sms, count);
}
