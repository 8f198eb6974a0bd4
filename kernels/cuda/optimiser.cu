/*
 * One step of an optimiser over the flat arrays: kernels/common/optimiser.h, which the CPU path runs too. A thread
 * takes four elements, which lie in one row, and makes the row's terms from a few numbers that are in cache.
 *
 * Sums of squares, where clipping or an optimiser needs them: a block per slice leaves those of each row's piece in the
 * workspace, then one block adds up each row's pieces and decides the scale of clipping and the rows' ratios, which the
 * step reads there. All orders are fixed, and nothing goes to the host.
 */
#include "kernels/common/optimiser.h"
#include "kernels/cuda/flat.cuh"
#include "kernels/cuda/launchers.h"

namespace {

enum { WARP = 32, WARPS = THREADS / WARP, DECIDE_THREADS = 512, DECIDE_WARPS = DECIDE_THREADS / WARP };

/* ---- The step ---- */

/* Everything a thread needs to know of its row: from what was decided, if anything was. `along`: LAMB's second step. */
__device__ inline rdp_update_terms terms_of(const rdp_optimiser &optimiser, const rdp_step_values *values,
                                            const rdp_update &update, const rdp_update_row &row, int r, bool along)
{
    if (along)
        return rdp_update_along(values->lr * row.lr * (float)*rdp_update_ratio_of(&update, r));
    const float scale = rdp_update_measures(&optimiser) ? (float)update.workspace[0] : 1.0f;
    const float trust = optimiser.kind == RDP_LARS ? (float)*rdp_update_ratio_of(&update, r) : 1.0f;
    return rdp_update_terms_of(&optimiser, values, &row, scale, trust);
}

/* RULE: of enum rdp_update_rule; a number, which tools print shorter. */
template <int RULE, bool COPIES>
__global__ __launch_bounds__(THREADS) void update_kernel(rdp_optimiser optimiser,
                                                         const rdp_step_values *__restrict__ values, rdp_update update,
                                                         bool along)
{
    const rdp_update_rule rule = (rdp_update_rule)RULE;
    const int arrays = rdp_update_arrays(rule);
    for (size_t i = first_four(); i < update.count; i += step_four()) {
        float parameter[FOUR], gradient[FOUR], first[FOUR] = {}, second[FOUR] = {};
        load_four(update.parameters + i, parameter); /* on their way while the row is looked up */
        load_four(update.gradients + i, gradient);
        if (arrays > 0)
            load_four(update.state[0] + i, first);
        if (arrays > 1)
            load_four(update.state[1] + i, second);
        const int r = update.row_of[i / RDP_ROW_BLOCK];
        const rdp_update_row row = update.rows[r];
        if (row.lr == 0.0f || i < row.offset || i >= row.offset + row.count)
            continue;
        const size_t left = row.offset + row.count - i; /* of the row; what follows it stays as it is */
        const rdp_update_terms terms = terms_of(optimiser, values, update, row, r, along);
#pragma unroll
        for (int k = 0; k < FOUR; k++)
            if ((size_t)k < left)
                rdp_update_element(rule, &terms, parameter + k, gradient + k, first + k, second + k);
        if (arrays > 0)
            store_four(update.state[0] + i, first);
        if (arrays > 1)
            store_four(update.state[1] + i, second);
        if (RULE == RDP_RULE_LAMB) {
            store_four(update.gradients + i, gradient);
        } else {
            store_four(update.parameters + i, parameter);
            if (COPIES)
                store_four(static_cast<bf16 *>(update.copies) + i, parameter);
        }
    }
}

typedef void (*update_function)(rdp_optimiser, const rdp_step_values *, rdp_update, bool);

template <bool COPIES> update_function update_of(rdp_update_rule rule)
{
    switch (rule) {
    case RDP_RULE_MOMENTUM:
        return update_kernel<RDP_RULE_MOMENTUM, COPIES>;
    case RDP_RULE_SQUARE:
        return update_kernel<RDP_RULE_SQUARE, COPIES>;
    case RDP_RULE_SQUARE_MOMENTUM:
        return update_kernel<RDP_RULE_SQUARE_MOMENTUM, COPIES>;
    case RDP_RULE_ADAM:
        return update_kernel<RDP_RULE_ADAM, COPIES>;
    case RDP_RULE_ADAMAX:
        return update_kernel<RDP_RULE_ADAMAX, COPIES>;
    case RDP_RULE_LAMB:
        return update_kernel<RDP_RULE_LAMB, false>;
    default:
        return update_kernel<RDP_RULE_GRADIENT, COPIES>;
    }
}

cudaError_t step(cudaStream_t stream, const rdp_optimiser *optimiser, const rdp_step_values *values,
                 const rdp_update *update, rdp_update_rule rule, bool along, int sms)
{
    return launch(stream, grid_of(update->count, sms), THREADS,
                  update->copies != nullptr ? update_of<true>(rule) : update_of<false>(rule), *optimiser, values,
                  *update, along);
}

/* ---- Sums of squares ---- */

__device__ inline double sum_of_warp(double value)
{
#pragma unroll
    for (int offset = WARP / 2; offset > 0; offset /= 2)
        value += __shfl_xor_sync(0xffffffffu, value, offset);
    return value;
}

/* A thread's share of a piece: the squares of every THREADS-th four elements. */
__device__ inline double square_of(const float *array, rdp_update_piece piece, float limit)
{
    double sum = 0;
    for (size_t i = (size_t)threadIdx.x * FOUR; i < piece.count; i += (size_t)THREADS * FOUR) {
        float value[FOUR];
        load_four(array + piece.begin + i, value); /* past the row's end too, but not past its last block */
#pragma unroll
        for (int k = 0; k < FOUR; k++)
            if (i + (size_t)k < piece.count) {
                const double clipped = (double)rdp_update_clip(value[k], limit);
                sum += clipped * clipped;
            }
    }
    return sum;
}

/* Leaves the sums of the block's slice: of the parameters if `both`, and of the gradients clipped to +-limit. */
__global__ __launch_bounds__(THREADS) void square_kernel(rdp_update update, bool both, float limit)
{
    __shared__ double sums[2][WARPS];
    const size_t slice = blockIdx.x, end = (slice + 1) * RDP_UPDATE_SLICE;
    const int warp = (int)threadIdx.x / WARP;
    for (int r = update.row_of[slice * (RDP_UPDATE_SLICE / RDP_ROW_BLOCK)];
         r < update.row_count && update.rows[r].offset < end; r++) {
        const rdp_update_row row = update.rows[r];
        const rdp_update_piece piece = rdp_update_piece_of(&row, slice);
        if (piece.count == 0 || row.lr == 0.0f)
            continue;
        const double p = sum_of_warp(both ? square_of(update.parameters, piece, INFINITY) : 0);
        const double g = sum_of_warp(square_of(update.gradients, piece, limit));
        if (threadIdx.x % WARP == 0) {
            sums[0][warp] = p;
            sums[1][warp] = g;
        }
        __syncthreads();
        if (threadIdx.x < 2) {
            double sum = 0;
            for (int w = 0; w < WARPS; w++)
                sum += sums[threadIdx.x][w];
            rdp_update_sums_of(&update, slice, r)[threadIdx.x] = sum;
        }
        __syncthreads();
    }
}

/* ---- What follows from them ---- */

/* Adds up a row's pieces by a warp; the sums replace those of the row's first piece. */
__device__ inline void add_pieces(const rdp_update &update, const rdp_update_row &row, int r)
{
    const size_t first = row.offset / RDP_UPDATE_SLICE, end = row.offset + row.count;
    double p = 0, g = 0;
    for (size_t slice = first + threadIdx.x % WARP; slice * RDP_UPDATE_SLICE < end; slice += WARP) {
        const double *sums = rdp_update_sums_of(&update, slice, r);
        p += sums[0];
        g += sums[1];
    }
    p = sum_of_warp(p);
    g = sum_of_warp(g);
    if (threadIdx.x % WARP == 0) {
        double *sums = rdp_update_sums_of(&update, first, r);
        sums[0] = p;
        sums[1] = g;
    }
}

/* `scales`: the scale of clipping is decided; `ratios`: the rows' ratios are. */
__global__ __launch_bounds__(DECIDE_THREADS) void decide_kernel(rdp_optimiser optimiser, rdp_update update, bool scales,
                                                                bool ratios)
{
    __shared__ double scale;
    for (int r = (int)threadIdx.x / WARP; r < update.row_count; r += DECIDE_WARPS)
        if (update.rows[r].lr != 0.0f)
            add_pieces(update, update.rows[r], r);
    if (threadIdx.x == 0)
        scale = 1;
    __syncthreads();
    if (scales && threadIdx.x < WARP) {
        double square = 0;
        for (int r = (int)threadIdx.x; r < update.row_count; r += WARP)
            if (update.rows[r].lr != 0.0f)
                square += rdp_update_sums_of(&update, update.rows[r].offset / RDP_UPDATE_SLICE, r)[1];
        square = sum_of_warp(square);
        if (threadIdx.x == 0)
            update.workspace[0] = scale = rdp_update_clip_scale(&optimiser, square);
    }
    __syncthreads();
    for (int r = (int)threadIdx.x; ratios && r < update.row_count; r += DECIDE_THREADS) {
        const rdp_update_row row = update.rows[r];
        const double *sums = rdp_update_sums_of(&update, row.offset / RDP_UPDATE_SLICE, r);
        if (row.lr != 0.0f)
            *rdp_update_ratio_of(&update, r) = rdp_update_ratio(&optimiser, &row, scale, sums[0], sums[1]);
    }
}

cudaError_t measure(cudaStream_t stream, const rdp_optimiser *optimiser, const rdp_update *update, bool scales,
                    bool ratios)
{
    const unsigned int slices = (unsigned int)((update->count + RDP_UPDATE_SLICE - 1) / RDP_UPDATE_SLICE);
    const float limit = scales && optimiser->clip_value > 0 ? optimiser->clip_value : INFINITY;
    const cudaError_t error = launch(stream, dim3(slices), THREADS, square_kernel, *update, ratios, limit);
    if (error != cudaSuccess)
        return error;
    return launch(stream, dim3(1), DECIDE_THREADS, decide_kernel, *optimiser, *update, scales, ratios);
}

} // namespace

extern "C" cudaError_t cuda_launch_update(cudaStream_t stream, const rdp_optimiser *optimiser,
                                          const rdp_step_values *values, const rdp_update *update, int sms)
{
    cudaError_t error = cudaSuccess;
    if (rdp_update_measures(optimiser))
        error = measure(stream, optimiser, update, true, optimiser->kind == RDP_LARS);
    if (error == cudaSuccess)
        error = step(stream, optimiser, values, update, rdp_update_rule_of(optimiser), false, sms);
    if (error != cudaSuccess || optimiser->kind != RDP_LAMB)
        return error;
    error = measure(stream, optimiser, update, false, true);
    return error != cudaSuccess ? error : step(stream, optimiser, values, update, RDP_RULE_GRADIENT, true, sms);
}
