/*
 * Mix-up and CutMix, in place on what the augmentation wrote (N,32,32,8): a thread takes one pixel of a pair of images,
 * reads both and writes both. The formula is kernels/common/mix.h, the CPU's too.
 */
#include "kernels/common/mix.h"
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launchers.h"

namespace {

enum { THREADS = 256, SIDE = 32, PIXELS = SIDE * SIDE, PADDED = 8, PAIRS_MOST = 65535 /* CUDA's limit */ };

template <typename T>
__global__ __launch_bounds__(THREADS) void mix_kernel(const rdp_step_values *__restrict__ values, T *images, int batch)
{
    constexpr int LANES = pack<T>::LANES;
    const int pixel = (int)(blockIdx.x * THREADS + threadIdx.x);
    const float weight = rdp_mix_weight(values, pixel / SIDE, pixel % SIDE);
    for (int i = (int)blockIdx.y; i < batch / 2; i += (int)gridDim.y) {
        T *own = images + ((size_t)i * PIXELS + (size_t)pixel) * PADDED;
        T *other = images + ((size_t)(batch - 1 - i) * PIXELS + (size_t)pixel) * PADDED;
#pragma unroll
        for (int p = 0; p < PADDED; p += LANES) {
            float a[LANES], b[LANES], mixed[LANES], partner[LANES];
            unpack(load_pack(own + p), a);
            unpack(load_pack(other + p), b);
#pragma unroll
            for (int k = 0; k < LANES; k++) {
                mixed[k] = rdp_mix(weight, a[k], b[k]);
                partner[k] = rdp_mix(weight, b[k], a[k]);
            }
            store_pack(own + p, pack_of(mixed));
            store_pack(other + p, pack_of(partner));
        }
    }
}

} // namespace

extern "C" cudaError_t cuda_launch_mix(cudaStream_t stream, const rdp_step_values *values, void *images, bool is_bf16,
                                       int batch)
{
    const int pairs = batch / 2;
    if (pairs == 0)
        return cudaSuccess;
    const dim3 grid(PIXELS / THREADS, (unsigned int)(pairs < PAIRS_MOST ? pairs : PAIRS_MOST));
    return is_bf16 ? launch(stream, grid, THREADS, mix_kernel<bf16>, values, static_cast<bf16 *>(images), batch)
                   : launch(stream, grid, THREADS, mix_kernel<float>, values, static_cast<float *>(images), batch);
}
