/*
 * Batch normalisation, its reductions: one read of y for the statistics, one of y and the gradient (and what stands at
 * the join) backward, and what becomes of the sums. bn_apply.cu has the elementwise passes. The formulas are those of
 * kernels/cpu/bn.c.
 */
#include "kernels/cuda/bn.cuh"

namespace {

enum {
    REDUCE_THREADS = 512,
    PARTS = 16 /* threads that share the sum of one channel over the slabs, at most */
};

/* ---- The end of a reduction ---- */

/* First the sums of a block's threads, then what its last block adds up. */
template <int LANES> union scratch {
    float sums[2 * LANES][REDUCE_THREADS];
    double totals[4][REDUCE_THREADS];
};

/* Adds `own` over the rows of the block in a fixed tree; complete in the threads of row 0. */
template <int LANES>
__device__ inline void sum_rows(float (&sums)[2 * LANES][REDUCE_THREADS], float (&own)[2 * LANES], int width)
{
    const int thread = (int)threadIdx.x, row = thread / width;
#pragma unroll
    for (int k = 0; k < 2 * LANES; k++)
        sums[k][thread] = own[k];
    for (int left = REDUCE_THREADS / width; left > 1;) {
        const int half = (left + 1) / 2;
        __syncthreads();
        if (row < left - half) {
#pragma unroll
            for (int k = 0; k < 2 * LANES; k++) {
                own[k] += sums[k][thread + half * width];
                sums[k][thread] = own[k];
            }
        }
        left = half;
    }
}

/* Whether this is the last of `total` blocks to come here, for all threads of it; what the others stored before is
 * then visible. */
__device__ inline bool last_of(unsigned int *ticket, unsigned int total)
{
    __shared__ bool last;
    __threadfence();
    __syncthreads();
    if (threadIdx.x == 0) {
        last = atomicAdd(ticket, 1u) == total - 1;
        if (last)
            *ticket = 0;
    }
    __syncthreads();
    __threadfence();
    return last;
}

/* totals = the slabs' sums of one tile, [total][2 * tile] at `partial`, each shared by `parts` threads. */
__device__ inline void sum_slabs(double (&totals)[4][REDUCE_THREADS], const float *partial, int tile, int total,
                                 int parts)
{
    const int columns = tile / 2, thread = (int)threadIdx.x, part = thread / columns;
    if (part < parts) {
        const float4 *from = reinterpret_cast<const float4 *>(partial) + thread % columns;
        double s0 = 0, s1 = 0, s2 = 0, s3 = 0;
#pragma unroll 8
        for (int slab = part; slab < total; slab += parts) {
            const float4 four = load_shared_by_blocks(from + (size_t)slab * (size_t)columns);
            s0 += (double)four.x;
            s1 += (double)four.y;
            s2 += (double)four.z;
            s3 += (double)four.w;
        }
        totals[0][thread] = s0;
        totals[1][thread] = s1;
        totals[2][thread] = s2;
        totals[3][thread] = s3;
    }
}

__device__ inline double total_of(const double (&totals)[4][REDUCE_THREADS], int i, int columns, int parts)
{
    double sum = 0;
    for (int part = 0; part < parts; part++)
        sum += totals[i % 4][part * columns + i / 4];
    return sum;
}

__device__ inline void set_scale(const cuda_bn &bn, int c, double mean, double variance)
{
    const double invstd = 1.0 / sqrt(variance + bn.epsilon), gamma = (double)bn.gamma[c];
    bn.mean[c] = (float)mean;
    bn.invstd[c] = (float)invstd;
    bn.scale[c] = (float)(gamma * invstd);
    bn.shift[c] = (float)((double)bn.beta[c] - mean * gamma * invstd);
}

__device__ inline void finalize_channel(const cuda_bn &bn, int c, double sum, double square, double elements)
{
    const double shift = (double)bn.running_mean[c], shifted = sum / elements, mean = shift + shifted;
    double variance = square / elements - shifted * shifted;
    if (variance < 0)
        variance = 0;
    set_scale(bn, c, mean, variance);
    const double unbiased = elements > 1 ? variance * elements / (elements - 1) : variance;
    bn.running_mean[c] = (float)((1 - bn.momentum) * shift + bn.momentum * mean);
    bn.running_var[c] = (float)((1 - bn.momentum) * (double)bn.running_var[c] + bn.momentum * unbiased);
}

/* dy = gamma * invstd * (dz - mean(dz) - xhat * mean(dz * xhat)), Ioffe & Szegedy 2015 section 3, as
 * a * dz + b * y + c. */
__device__ inline void backward_finalize_channel(const cuda_bn &bn, int c, double sum, double product, double elements)
{
    const double invstd = (double)bn.invstd[c], a = (double)bn.gamma[c] * invstd;
    const double mean_dz = sum / elements, mean_dz_xhat = product * invstd / elements, b = -a * invstd * mean_dz_xhat;
    bn.a[c] = (float)a;
    bn.b[c] = (float)b;
    bn.c[c] = (float)(-a * mean_dz - b * (double)bn.mean[c]);
}

/* What a reduction leaves of channel c once its sums over the batch are known. */
template <bool BACKWARD> __device__ inline void finish_channel(const cuda_bn &bn, int c, double first, double second)
{
    const double elements = (double)bn.batch * (double)bn.pixels;
    bn.sums[c] = first;
    bn.sums[bn.channels + c] = second;
    if (BACKWARD) {
        bn.dbeta[c] = (float)first;
        bn.dgamma[c] = (float)(second * (double)bn.invstd[c]);
    }
    if (bn.synchronised)
        return;
    if (BACKWARD)
        backward_finalize_channel(bn, c, first, second, elements);
    else
        finalize_channel(bn, c, first, second, elements);
}

/* Which of the pass's slabs a launch computes. */
struct slab_range {
    int first, total;
};

/* Called by all threads of a reduction with their sums: [LANES] of the first kind, then of the second. */
template <int LANES, bool BACKWARD>
__device__ inline void finish(const cuda_bn &bn, slab_range slabs, float (&own)[2 * LANES])
{
    __shared__ scratch<LANES> shared;
    const int thread = (int)threadIdx.x, width = bn.tile / LANES, tile = bn.tile, columns = tile / 2;
    sum_rows<LANES>(shared.sums, own, width);
    float *partial = bn.partial + (size_t)blockIdx.y * (size_t)slabs.total * 2 * (size_t)tile;
    if (thread < width) {
        float *to = partial + (size_t)(slabs.first + (int)blockIdx.x) * 2 * (size_t)tile + thread * LANES;
#pragma unroll
        for (int k = 0; k < LANES; k++) {
            to[k] = own[k];
            to[tile + k] = own[LANES + k];
        }
    }
    unsigned int *ticket = bn.tickets + (BACKWARD ? bn.tiles : 0) + blockIdx.y;
    if (!last_of(ticket, (unsigned int)slabs.total))
        return; /* all threads of the block */
    const int parts = min(REDUCE_THREADS / columns, (int)PARTS), c = (int)blockIdx.y * tile + thread;
    sum_slabs(shared.totals, partial, tile, slabs.total, parts);
    __syncthreads();
    if (thread < tile && c < bn.channels)
        finish_channel<BACKWARD>(bn, c, total_of(shared.totals, thread, columns, parts),
                                 total_of(shared.totals, tile + thread, columns, parts));
}

/* ---- Reductions ---- */

template <typename T>
__global__ __launch_bounds__(REDUCE_THREADS) void statistics_kernel(cuda_bn bn, const T *__restrict__ y, int pixels,
                                                                    slab_range slabs)
{
    constexpr int LANES = pack<T>::LANES, AHEAD = 8;
    const place own = place_of<LANES>(bn.tile / LANES, bn.padded, pixels);
    float shift[LANES], sums[2 * LANES];
#pragma unroll
    for (int k = 0; k < LANES; k++) {
        shift[k] = own.channel + k < bn.channels ? bn.running_mean[own.channel + k] : 0.0f;
        sums[k] = sums[LANES + k] = 0.0f;
    }
    for (int row = own.row; row < own.end; row += AHEAD * own.step) {
        uint4 raw[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++)
            if (row + i * own.step < own.end)
                raw[i] = load_pack(y + (size_t)(row + i * own.step) * (size_t)bn.padded + own.channel);
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (row + i * own.step < own.end) {
                float value[LANES];
                unpack(raw[i], value);
#pragma unroll
                for (int k = 0; k < LANES; k++) {
                    const float difference = value[k] - shift[k];
                    sums[k] += difference;
                    sums[LANES + k] += difference * difference;
                }
            }
        }
    }
    finish<LANES, false>(bn, slabs, sums);
}

/* JOINED: behind a residual; z is that of kernels.h's `joined`. Otherwise it is recomputed from y. SECOND: with dout2.
 * Either: dz is stored. */
template <typename T, bool JOINED, bool SECOND, bool GELU>
__global__ __launch_bounds__(REDUCE_THREADS) void backward_reduce_kernel(cuda_bn bn, const T *__restrict__ y,
                                                                         const T *__restrict__ joined, T *dout,
                                                                         const T *__restrict__ dout2, int pixels,
                                                                         slab_range slabs)
{
    constexpr int LANES = pack<T>::LANES, AHEAD = JOINED || SECOND ? 2 : 4;
    const place own = place_of<LANES>(bn.tile / LANES, bn.padded, pixels);
    float mean[LANES] = {}, scale[LANES] = {}, shift[LANES] = {}, sums[2 * LANES] = {};
    if (own.channel < bn.padded) {
        load_channels(bn.mean + own.channel, mean);
        load_channels(bn.scale + own.channel, scale);
        load_channels(bn.shift + own.channel, shift);
    }
    for (int row = own.row; row < own.end; row += AHEAD * own.step) {
        uint4 raw_y[AHEAD], raw_joined[AHEAD], raw_d[AHEAD], raw_d2[AHEAD];
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (row + i * own.step < own.end) {
                const size_t at = (size_t)(row + i * own.step) * (size_t)bn.padded + (size_t)own.channel;
                raw_y[i] = load_pack(y + at);
                raw_d[i] = load_pack(dout + at);
                if (JOINED)
                    raw_joined[i] = load_pack(joined + at);
                if (SECOND)
                    raw_d2[i] = load_pack(dout2 + at);
            }
        }
#pragma unroll
        for (int i = 0; i < AHEAD; i++) {
            if (row + i * own.step < own.end) {
                float value[LANES], d[LANES], other[LANES];
                unpack(raw_y[i], value);
                unpack(raw_d[i], d);
                if (SECOND) {
                    unpack(raw_d2[i], other);
#pragma unroll
                    for (int k = 0; k < LANES; k++)
                        d[k] += other[k];
                }
                if (JOINED)
                    unpack(raw_joined[i], other);
#pragma unroll
                for (int k = 0; k < LANES; k++) {
                    float z = normalise(value[k], scale[k], shift[k]);
                    if (JOINED)
                        z = GELU ? z + other[k] : other[k];
                    d[k] = masked<GELU>(z, d[k], bn.slope);
                    sums[k] += d[k];
                    sums[LANES + k] += d[k] * (value[k] - mean[k]);
                }
                if (JOINED || SECOND)
                    store_pack(dout + (size_t)(row + i * own.step) * (size_t)bn.padded + own.channel, pack_of(d));
            }
        }
    }
    finish<LANES, true>(bn, slabs, sums);
}

/* ---- Per channel ---- */

__global__ void take_sums_kernel(cuda_bn bn)
{
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < bn.channels)
        finish_channel<false>(bn, c, (double)bn.partial[c], (double)bn.partial[bn.padded + c]);
}

template <bool BACKWARD> __global__ void finalize_kernel(cuda_bn bn, double elements)
{
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c >= bn.channels)
        return;
    if (BACKWARD)
        backward_finalize_channel(bn, c, bn.sums[c], bn.sums[bn.channels + c], elements);
    else
        finalize_channel(bn, c, bn.sums[c], bn.sums[bn.channels + c], elements);
}

__global__ void use_running_kernel(cuda_bn bn)
{
    const int c = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (c < bn.channels)
        set_scale(bn, c, (double)bn.running_mean[c], (double)bn.running_var[c]);
}

/* ---- Grids ---- */

/* A reduction over a range: how many slabs the range has and where they lie among the pass's. */
struct reduction {
    dim3 grid;
    slab_range slabs;
    int pixels;
};

template <typename T> reduction reduction_of(const cuda_bn *bn, cuda_range range)
{
    const int rows = REDUCE_THREADS / (bn->tile / pack<T>::LANES), pixels = range.count * bn->pixels;
    const int calls = bn->batch / range.count, most = bn->slabs / calls, useful = divide_up(pixels, rows * 4);
    const int slabs = most < 1 ? 1 : useful < most ? useful : most;
    return {
        dim3((unsigned int)slabs, (unsigned int)bn->tiles), {range.first / range.count * slabs, calls * slabs}, pixels};
}

template <typename T> cudaError_t statistics(cudaStream_t stream, const cuda_bn *bn, const void *y, cuda_range range)
{
    const reduction over = reduction_of<T>(bn, range);
    return launch(stream, over.grid, REDUCE_THREADS, statistics_kernel<T>, *bn, static_cast<const T *>(y), over.pixels,
                  over.slabs);
}

template <typename T, bool GELU>
cudaError_t backward_reduce(cudaStream_t stream, const cuda_bn *bn, const void *y, const void *joined, void *dout,
                            const void *dout2, cuda_range range)
{
    const reduction over = reduction_of<T>(bn, range);
    auto kernel = backward_reduce_kernel<T, false, false, GELU>;
    if (joined != nullptr)
        kernel = dout2 != nullptr ? backward_reduce_kernel<T, true, true, GELU>
                                  : backward_reduce_kernel<T, true, false, GELU>;
    else if (dout2 != nullptr)
        kernel = backward_reduce_kernel<T, false, true, GELU>;
    return launch(stream, over.grid, REDUCE_THREADS, kernel, *bn, static_cast<const T *>(y),
                  static_cast<const T *>(joined), static_cast<T *>(dout), static_cast<const T *>(dout2), over.pixels,
                  over.slabs);
}

} // namespace

extern "C" cudaError_t cuda_launch_bn_statistics(cudaStream_t stream, const cuda_bn *bn, const void *y,
                                                 cuda_range range)
{
    return bn->bf16 ? statistics<bf16>(stream, bn, y, range) : statistics<float>(stream, bn, y, range);
}

extern "C" cudaError_t cuda_launch_bn_take_sums(cudaStream_t stream, const cuda_bn *bn)
{
    return launch(stream, dim3((unsigned int)divide_up(bn->channels, 128)), 128, take_sums_kernel, *bn);
}

extern "C" cudaError_t cuda_launch_bn_finalize(cudaStream_t stream, const cuda_bn *bn, double elements)
{
    return launch(stream, dim3((unsigned int)divide_up(bn->channels, 128)), 128, finalize_kernel<false>, *bn, elements);
}

extern "C" cudaError_t cuda_launch_bn_use_running(cudaStream_t stream, const cuda_bn *bn)
{
    return launch(stream, dim3((unsigned int)divide_up(bn->channels, 128)), 128, use_running_kernel, *bn);
}

extern "C" cudaError_t cuda_launch_bn_backward_reduce(cudaStream_t stream, const cuda_bn *bn, const void *y,
                                                      const void *joined, void *dout, const void *dout2,
                                                      cuda_range range)
{
    auto reduce = bn->gelu ? backward_reduce<float, true> : backward_reduce<float, false>;
    if (bn->bf16)
        reduce = bn->gelu ? backward_reduce<bf16, true> : backward_reduce<bf16, false>;
    return reduce(stream, bn, y, joined, dout, dout2, range);
}

extern "C" cudaError_t cuda_launch_bn_backward_finalize(cudaStream_t stream, const cuda_bn *bn, double elements)
{
    return launch(stream, dim3((unsigned int)divide_up(bn->channels, 128)), 128, finalize_kernel<true>, *bn, elements);
}
