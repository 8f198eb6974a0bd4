/*
 * The network's head in f32: fully connected layer and softmax cross-entropy. 0.01 % of the arithmetic, so what counts
 * is that each part is one short kernel; sums run in an order that depends on the shapes alone.
 */
#include "kernels/cuda/element.cuh"
#include "kernels/cuda/launchers.h"

namespace {

enum {
    WARP = 32,
    FORWARD_THREADS = 256,
    FORWARD_CLASSES = 5, /* a warp computes so many logits of an image at once */
    WEIGHT_THREADS = 1024,
    WEIGHT_WARPS = WEIGHT_THREADS / WARP,
    FEATURE_THREADS = 256,
    LOSS_THREADS = 1024
};

__device__ inline float sum_of_warp(float value)
{
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

/* A warp per image and `FORWARD_CLASSES` classes; `chunks` of them make all classes. */
__global__ __launch_bounds__(FORWARD_THREADS) void fc_forward_kernel(int batch, int channels, int classes, int chunks,
                                                                     const float *__restrict__ features,
                                                                     const float *__restrict__ weight,
                                                                     const float *__restrict__ bias,
                                                                     float *__restrict__ logits)
{
    const int lane = (int)threadIdx.x % WARP;
    const int task = (int)(blockIdx.x * (FORWARD_THREADS / WARP) + threadIdx.x / WARP);
    const int n = task / chunks, first = task % chunks * FORWARD_CLASSES;
    const int end = n < batch ? channels : 0; /* warps without an image take part in the shuffles only */
    float sum[FORWARD_CLASSES] = {};
#pragma unroll 4
    for (int c = lane; c < end; c += WARP) {
        const float x = features[(size_t)n * (size_t)channels + (size_t)c];
#pragma unroll
        for (int k = 0; k < FORWARD_CLASSES; k++)
            if (first + k < classes)
                sum[k] += x * weight[(size_t)(first + k) * (size_t)channels + (size_t)c];
    }
#pragma unroll
    for (int k = 0; k < FORWARD_CLASSES; k++) {
        const float total = sum_of_warp(sum[k]);
        if (lane == 0 && n < batch && first + k < classes)
            logits[(size_t)n * (size_t)classes + (size_t)(first + k)] = total + bias[first + k];
    }
}

/* dweight and dbias of CLASSES classes and, in x, a warp's width of channels: the warps share the batch. */
template <int CLASSES>
__global__ __launch_bounds__(WEIGHT_THREADS, 1) void fc_weight_kernel(int batch, int channels, int classes,
                                                                      const float *__restrict__ features,
                                                                      const float *__restrict__ dlogits,
                                                                      float *__restrict__ dweight,
                                                                      float *__restrict__ dbias)
{
    __shared__ float weights[WEIGHT_WARPS][CLASSES][WARP], biases[WEIGHT_WARPS][CLASSES];
    const int lane = (int)threadIdx.x % WARP, warp = (int)threadIdx.x / WARP;
    const int c = (int)blockIdx.x * WARP + lane, first = (int)blockIdx.y * CLASSES;
    float dw[CLASSES] = {}, db[CLASSES] = {};
#pragma unroll(CLASSES > 2 ? 4 : 8) /* what 64 registers hold */
    for (int n = warp; n < batch; n += WEIGHT_WARPS) {
        const float x = c < channels ? features[(size_t)n * (size_t)channels + (size_t)c] : 0.0f;
#pragma unroll
        for (int k = 0; k < CLASSES; k++) {
            const float d = first + k < classes ? dlogits[(size_t)n * (size_t)classes + (size_t)(first + k)] : 0.0f;
            dw[k] += d * x;
            db[k] += d;
        }
    }
#pragma unroll
    for (int k = 0; k < CLASSES; k++) {
        weights[warp][k][lane] = dw[k];
        if (lane == 0)
            biases[warp][k] = db[k];
    }
    __syncthreads();
    if (warp >= CLASSES || first + warp >= classes)
        return;
    float sum = 0, bias = 0;
    for (int i = 0; i < WEIGHT_WARPS; i++) {
        sum += weights[i][warp][lane];
        bias += biases[i][warp];
    }
    if (c < channels)
        dweight[(size_t)(first + warp) * (size_t)channels + (size_t)c] = sum;
    if (blockIdx.x == 0 && lane == 0)
        dbias[first + warp] = bias;
}

__global__ __launch_bounds__(FEATURE_THREADS) void fc_feature_kernel(int batch, int channels, int classes,
                                                                     const float *__restrict__ weight,
                                                                     const float *__restrict__ dlogits,
                                                                     float *__restrict__ dfeatures)
{
    const size_t i = (size_t)blockIdx.x * FEATURE_THREADS + threadIdx.x;
    if (i >= (size_t)batch * (size_t)channels)
        return;
    const size_t n = i / (size_t)channels, c = i % (size_t)channels;
    float sum = 0;
#pragma unroll 5
    for (int k = 0; k < classes; k++)
        sum += dlogits[n * (size_t)classes + (size_t)k] * weight[(size_t)k * (size_t)channels + c];
    dfeatures[i] = sum;
}

/* ---- Loss ---- */

/* What the LANES threads of a row add up or choose from; LANES is 1 or a warp. */
template <int LANES> __device__ inline float sum_of_row(float value)
{
    return LANES == 1 ? value : sum_of_warp(value);
}

/* The largest logit and the lowest class that has it. */
template <int LANES> __device__ inline void best_of_row(float *top, int *best)
{
#pragma unroll
    for (int offset = LANES / 2; offset > 0; offset /= 2) {
        const float other = __shfl_xor_sync(0xffffffffu, *top, offset);
        const int k = __shfl_xor_sync(0xffffffffu, *best, offset);
        if (other > *top || (other == *top && k < *best)) {
            *top = other;
            *best = k;
        }
    }
}

/* Adds the block's losses and correct ones, in a fixed tree, to totals. */
__device__ inline void add_totals(double loss, int correct, float *totals)
{
    __shared__ double losses[LOSS_THREADS];
    __shared__ int corrects[LOSS_THREADS];
    const int thread = (int)threadIdx.x;
    losses[thread] = loss;
    corrects[thread] = correct;
    for (int half = LOSS_THREADS / 2; half > 0; half /= 2) {
        __syncthreads();
        if (thread < half) {
            losses[thread] += losses[thread + half];
            corrects[thread] += corrects[thread + half];
        }
    }
    if (thread == 0) {
        totals[0] += (float)losses[0];
        totals[1] += (float)corrects[0];
    }
}

/* One block; LANES threads per row, so classes >= LANES. With s the smoothing and K classes:
 * loss = (1 - s) * -log p[label] + s / K * sum_k -log p[k]; d/dlogit[k] = p[k] - (1 - s) [k == label] - s / K. With
 * mixed images -log p[label] is that of the image's own label and its partner's, weighted. A row's arithmetic is f32
 * relative to its largest logit, the sum over rows f64. */
template <int LANES>
__global__ __launch_bounds__(LOSS_THREADS, 1) void loss_kernel(int batch, int valid, int classes,
                                                               const float *__restrict__ logits,
                                                               const uint8_t *__restrict__ labels,
                                                               const rdp_step_values *__restrict__ values,
                                                               float smoothing, float scale,
                                                               float *__restrict__ dlogits, float *totals)
{
    const int lane = (int)threadIdx.x % LANES, group = (int)threadIdx.x / LANES, groups = LOSS_THREADS / LANES;
    const float share = smoothing / (float)classes;
    const float mix = values == nullptr ? 1.0f : values->mix;
    const float own = (1.0f - smoothing) * mix, others = (1.0f - smoothing) * (1.0f - mix);
    double losses = 0;
    int correct = 0;
    for (int base = 0; base < batch; base += groups) { /* the same for all threads: they meet at shuffles */
        const int n = base + group;
        const bool counts = n < valid;
        const float *row = logits + (counts ? (size_t)n * (size_t)classes : 0);
        const int label = counts ? labels[n] : 0, partner = counts ? labels[values == nullptr ? n : batch - 1 - n] : 0;
        int best = lane;
        float top = row[lane], sum = 0, below = 0;
#pragma unroll 4
        for (int k = lane + LANES; k < classes; k += LANES) {
            if (row[k] > top) {
                top = row[k];
                best = k;
            }
        }
        best_of_row<LANES>(&top, &best);
#pragma unroll 4
        for (int k = lane; k < classes; k += LANES) {
            sum += expf(row[k] - top);
            below += top - row[k];
        }
        sum = sum_of_row<LANES>(sum);
        below = sum_of_row<LANES>(below);
        if (counts && lane == 0) {
            const float log_sum = logf(sum);
            losses += (double)(own * (log_sum + (top - row[label])) + others * (log_sum + (top - row[partner])) +
                               share * ((float)classes * log_sum + below));
            correct += best == label;
        }
        if (dlogits == nullptr || n >= batch)
            continue; /* to the next row; nobody meets anybody below */
#pragma unroll 4
        for (int k = lane; k < classes; k += LANES) {
            const float target = share + (k == label ? own : 0.0f) + (k == partner ? others : 0.0f);
            dlogits[(size_t)n * (size_t)classes + (size_t)k] =
                counts ? scale * (expf(row[k] - top) / sum - target) : 0.0f;
        }
    }
    add_totals(losses, correct, totals);
}

unsigned int divide_up(size_t a, size_t b)
{
    return (unsigned int)((a + b - 1) / b);
}

template <int CLASSES>
cudaError_t fc_weight(cudaStream_t stream, int batch, int channels, int classes, const float *features,
                      const float *dlogits, float *dweight, float *dbias)
{
    const dim3 grid(divide_up((size_t)channels, WARP), divide_up((size_t)classes, CLASSES));
    return launch(stream, grid, WEIGHT_THREADS, fc_weight_kernel<CLASSES>, batch, channels, classes, features, dlogits,
                  dweight, dbias);
}

} // namespace

extern "C" cudaError_t cuda_launch_fc_forward(cudaStream_t stream, int batch, int channels, int classes,
                                              const float *features, const float *weight, const float *bias,
                                              float *logits)
{
    const int chunks = (classes + FORWARD_CLASSES - 1) / FORWARD_CLASSES;
    const dim3 grid(divide_up((size_t)batch * (size_t)chunks, FORWARD_THREADS / WARP));
    return launch(stream, grid, FORWARD_THREADS, fc_forward_kernel, batch, channels, classes, chunks, features, weight,
                  bias, logits);
}

extern "C" cudaError_t cuda_launch_fc_backward(cudaStream_t stream, int batch, int channels, int classes,
                                               const float *features, const float *weight, const float *dlogits,
                                               float *dweight, float *dbias, float *dfeatures)
{
    /* Few classes: few per block, for more blocks. Many: more per block, for fewer reads of the features. */
    const cudaError_t error = classes <= 64
                                  ? fc_weight<2>(stream, batch, channels, classes, features, dlogits, dweight, dbias)
                                  : fc_weight<8>(stream, batch, channels, classes, features, dlogits, dweight, dbias);
    if (error != cudaSuccess)
        return error;
    const dim3 grid(divide_up((size_t)batch * (size_t)channels, FEATURE_THREADS));
    return launch(stream, grid, FEATURE_THREADS, fc_feature_kernel, batch, channels, classes, weight, dlogits,
                  dfeatures);
}

extern "C" cudaError_t cuda_launch_loss(cudaStream_t stream, int batch, int valid, int classes, const float *logits,
                                        const uint8_t *labels, const rdp_step_values *values, float smoothing,
                                        float scale, float *dlogits, float *totals)
{
    return launch(stream, dim3(1), LOSS_THREADS, classes <= WARP ? loss_kernel<1> : loss_kernel<WARP>, batch, valid,
                  classes, logits, labels, values, smoothing, scale, dlogits, totals);
}
