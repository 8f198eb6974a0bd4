/*
 * The kernels of winograd_kernels.h for AVX-512. The transforms keep a tile's lines in registers; the constants are
 * those of Lavin & Gray 2016 (arXiv:1509.09308, section 4.3), for the interpolation points 0, 1, -1, 2, -2 and
 * infinity:
 *
 *          [ 4  0 -5  0  1  0 ]          [ 1/4    0     0   ]
 *          [ 0 -4 -4  1  1  0 ]          [-1/6  -1/6  -1/6  ]          [ 1  1  1  1  1  0 ]
 *    B^T = [ 0  4 -4 -1  1  0 ]      G = [-1/6   1/6  -1/6  ]    A^T = [ 0  1 -1  2 -2  0 ]
 *          [ 0 -2 -1  2  1  0 ]          [ 1/24  1/12  1/6  ]          [ 0  1  1  4  4  0 ]
 *          [ 0  2 -1 -2  1  0 ]          [ 1/24 -1/12  1/6  ]          [ 0  1 -1  8 -8  1 ]
 *          [ 0  4  0 -5  0  1 ]          [ 0      0     1   ]
 *
 * The matrix products live on one fused multiply-add per cycle, which all register tiles here feed with less than one
 * load.
 */
#include <immintrin.h>
#include <stdint.h>

#include "kernels/cpu/winograd_kernels.h"

#define INLINE static inline __attribute__((always_inline))

/* Before a loop of at most 16 rounds over an array of vectors: without it the array is not kept in registers. */
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

enum { LINE = RDP_WINOGRAD_LINE };

INLINE __m512 times(float factor, __m512 x)
{
    return _mm512_mul_ps(_mm512_set1_ps(factor), x);
}

/* factor * x + y */
INLINE __m512 times_add(float factor, __m512 x, __m512 y)
{
    return _mm512_fmadd_ps(_mm512_set1_ps(factor), x, y);
}

INLINE __m512 add(__m512 x, __m512 y)
{
    return _mm512_add_ps(x, y);
}

INLINE __m512 sub(__m512 x, __m512 y)
{
    return _mm512_sub_ps(x, y);
}

INLINE __m512 load_element(const void *plane, size_t index, bool bf16)
{
    if (!bf16)
        return _mm512_loadu_ps((const float *)plane + index);
    __m256i half = _mm256_loadu_si256((const __m256i *)(const void *)((const uint16_t *)plane + index));
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

/* bf16: to nearest, ties to even, as the loops of vector.h do. */
INLINE void store_element(void *plane, size_t index, bool bf16, __m512 value)
{
    if (!bf16) {
        _mm512_storeu_ps((float *)plane + index, value);
        return;
    }
    __m512i bits = _mm512_castps_si512(value);
    __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    bits = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    _mm256_storeu_si256((__m256i *)(void *)((uint16_t *)plane + index),
                        _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
}

/* Asks for the tile's columns of the four rows from `row` on: the row of tiles below is read next, in strips too
 * short for the processor to foresee. */
INLINE void fetch_ahead(const void *plane, const struct rdp_winograd_tile *tile, int row)
{
    size_t pixel_bytes = tile->bf16 ? 32 : 64;
    if (row + 4 > tile->height)
        return;
    for (int i = row; i < row + 4; i++) {
        const char *strip =
            (const char *)plane + ((size_t)i * (size_t)tile->width + (size_t)tile->column) * pixel_bytes;
        for (size_t byte = 0; byte < 4 * pixel_bytes; byte += 64)
            _mm_prefetch(strip + byte, _MM_HINT_T0);
    }
}

/* Copies a square of pixels from (row, column) on, zeros outside the plane, to `square` (side, side, 16) f32. */
INLINE void copy_square(const void *plane, const struct rdp_winograd_tile *tile, int row, int column, int side,
                        float *square)
{
    int left = column < 0 ? -column : 0, right = column + side > tile->width ? tile->width - column : side;
    for (int i = 0; i < side; i++, square += side * LINE) {
        bool inside = row + i >= 0 && row + i < tile->height;
        for (int j = 0; j < side; j++)
            if (!inside || j < left || j >= right)
                _mm512_store_ps(square + j * LINE, _mm512_setzero_ps());
        if (!inside)
            continue;
        size_t pixel = (size_t)(row + i) * (size_t)tile->width;
        if (tile->bf16)
            for (int j = left; j < right; j++)
                _mm512_store_ps(square + j * LINE, load_element(plane, (pixel + (size_t)(column + j)) * LINE, true));
        else
            for (int j = left; j < right; j++)
                _mm512_store_ps(square + j * LINE, load_element(plane, (pixel + (size_t)(column + j)) * LINE, false));
    }
}

/* ---- B^T d B
 * --------------------------------------------------------------------------------------------------------- */

/* One row of the result: r B, 6 lines */
INLINE void store_input_row(const __m512 *r, float *v, size_t stride)
{
    __m512 even = times_add(-4, r[2], r[4]), odd = times_add(-4, r[1], r[3]);
    __m512 near = sub(r[4], r[2]), far = times(2, sub(r[3], r[1]));
    _mm512_store_ps(v, times_add(4, r[0], times_add(-5, r[2], r[4])));
    _mm512_store_ps(v + stride, add(even, odd));
    _mm512_store_ps(v + 2 * stride, sub(even, odd));
    _mm512_store_ps(v + 3 * stride, add(near, far));
    _mm512_store_ps(v + 4 * stride, sub(near, far));
    _mm512_store_ps(v + 5 * stride, times_add(4, r[1], times_add(-5, r[3], r[5])));
}

/* Two rows of the result at a time: reading d three times costs less than parking B^T d on the stack. */
INLINE void transform_input(const float *d, size_t row, float *v, size_t stride)
{
#define AT(i) _mm512_loadu_ps(d + (i)*row + (size_t)j * LINE)
    __m512 r[6], s[6];
    UNROLL
    for (int j = 0; j < 6; j++) {
        r[j] = times_add(4, AT(0), times_add(-5, AT(2), AT(4)));
        s[j] = times_add(4, AT(1), times_add(-5, AT(3), AT(5)));
    }
    store_input_row(r, v, stride);
    store_input_row(s, v + 30 * stride, stride);
    UNROLL
    for (int j = 0; j < 6; j++) {
        __m512 even = times_add(-4, AT(2), AT(4)), odd = times_add(-4, AT(1), AT(3));
        r[j] = add(even, odd);
        s[j] = sub(even, odd);
    }
    store_input_row(r, v + 6 * stride, stride);
    store_input_row(s, v + 12 * stride, stride);
    UNROLL
    for (int j = 0; j < 6; j++) {
        __m512 near = sub(AT(4), AT(2)), far = times(2, sub(AT(3), AT(1)));
        r[j] = add(near, far);
        s[j] = sub(near, far);
    }
    store_input_row(r, v + 18 * stride, stride);
    store_input_row(s, v + 24 * stride, stride);
#undef AT
}

static void input(const void *plane, const struct rdp_winograd_tile *tile, float *v, size_t stride)
{
    int row = tile->row - 1, column = tile->column - 1;
    fetch_ahead(plane, tile, row + 6);
    if (!tile->bf16 && row >= 0 && column >= 0 && row + 6 <= tile->height && column + 6 <= tile->width) {
        size_t pixel = (size_t)row * (size_t)tile->width + (size_t)column;
        transform_input((const float *)plane + pixel * LINE, (size_t)tile->width * LINE, v, stride);
        return;
    }
    _Alignas(64) float square[36 * LINE];
    copy_square(plane, tile, row, column, 6, square);
    transform_input(square, 6 * LINE, v, stride);
}

/* ---- A dY A^T
 * -------------------------------------------------------------------------------------------------------- */

INLINE void spread(const __m512 *y, __m512 *s)
{
    __m512 even = add(y[0], y[2]), odd = add(y[1], y[3]);
    __m512 even2 = times_add(4, y[2], y[0]), odd2 = times(2, times_add(4, y[3], y[1]));
    s[0] = y[0];
    s[1] = add(even, odd);
    s[2] = sub(even, odd);
    s[3] = add(even2, odd2);
    s[4] = sub(even2, odd2);
    s[5] = y[3];
}

static void gradient(const void *plane, const struct rdp_winograd_tile *tile, float *v, size_t stride)
{
    _Alignas(64) float square[16 * LINE];
    __m512 columns[4][6];
    fetch_ahead(plane, tile, tile->row + 4);
    copy_square(plane, tile, tile->row, tile->column, 4, square);
    UNROLL
    for (int j = 0; j < 4; j++) {
        __m512 y[4];
        UNROLL
        for (int i = 0; i < 4; i++)
            y[i] = _mm512_load_ps(square + (i * 4 + j) * LINE);
        spread(y, columns[j]);
    }
    UNROLL
    for (int i = 0; i < 6; i++) {
        __m512 y[4] = {columns[0][i], columns[1][i], columns[2][i], columns[3][i]}, s[6];
        spread(y, s);
        UNROLL
        for (int j = 0; j < 6; j++)
            _mm512_store_ps(v + (size_t)(i * 6 + j) * stride, s[j]);
    }
}

/* ---- A^T m A
 * --------------------------------------------------------------------------------------------------------- */

INLINE void gather(const __m512 *m, __m512 *y)
{
    __m512 sum1 = add(m[1], m[2]), difference1 = sub(m[1], m[2]), sum2 = add(m[3], m[4]), difference2 = sub(m[3], m[4]);
    y[0] = add(m[0], add(sum1, sum2));
    y[1] = times_add(2, difference2, difference1);
    y[2] = times_add(4, sum2, sum1);
    y[3] = add(times_add(8, difference2, difference1), m[5]);
}

INLINE void write_tile(__m512 (*rows)[6], void *plane, const struct rdp_winograd_tile *tile, bool bf16)
{
    int right = tile->width - tile->column;
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512 y[4];
        if (tile->row + i >= tile->height)
            return;
        gather(rows[i], y);
        size_t pixel = (size_t)(tile->row + i) * (size_t)tile->width + (size_t)tile->column;
        UNROLL
        for (int j = 0; j < 4; j++)
            if (j < right)
                store_element(plane, (pixel + (size_t)j) * LINE, bf16, y[j]);
    }
}

static void output(const float *m, size_t stride, void *plane, const struct rdp_winograd_tile *tile)
{
    __m512 rows[4][6];
    UNROLL
    for (int j = 0; j < 6; j++) {
        __m512 column[6], y[4];
        UNROLL
        for (int i = 0; i < 6; i++)
            column[i] = _mm512_load_ps(m + (size_t)(i * 6 + j) * stride);
        gather(column, y);
        UNROLL
        for (int i = 0; i < 4; i++)
            rows[i][j] = y[i];
    }
    if (tile->bf16)
        write_tile(rows, plane, tile, true);
    else
        write_tile(rows, plane, tile, false);
}

/* ---- matrix products
 * ------------------------------------------------------------------------------------------------- */

INLINE void product_panel(const float *v, size_t v_block, int blocks, const float *u, int tiles, int outputs, float *m,
                          size_t m_block)
{
    __m512 sums[RDP_WINOGRAD_PANEL][2];
    UNROLL
    for (int t = 0; t < tiles; t++)
        sums[t][0] = sums[t][1] = _mm512_setzero_ps();
    for (int b = 0; b < blocks; b++, v += v_block) {
        for (int c = 0; c < LINE; c++, u += outputs * LINE) {
            __m512 u0 = _mm512_load_ps(u), u1 = outputs > 1 ? _mm512_load_ps(u + LINE) : u0;
            UNROLL
            for (int t = 0; t < tiles; t++) {
                __m512 x = _mm512_set1_ps(v[t * LINE + c]);
                sums[t][0] = _mm512_fmadd_ps(x, u0, sums[t][0]);
                if (outputs > 1)
                    sums[t][1] = _mm512_fmadd_ps(x, u1, sums[t][1]);
            }
        }
    }
    UNROLL
    for (int t = 0; t < tiles; t++) {
        _mm512_store_ps(m + t * LINE, sums[t][0]);
        if (outputs > 1)
            _mm512_store_ps(m + m_block + t * LINE, sums[t][1]);
    }
}

static void product(const float *v, size_t v_block, int blocks, const float *u, int tiles, int outputs, float *m,
                    size_t m_block)
{
/* A constant number of tiles keeps the sums in registers. */
#define CASE(n) \
    case n: \
        outputs == 2 ? product_panel(v, v_block, blocks, u, n, 2, m, m_block) \
                     : product_panel(v, v_block, blocks, u, n, 1, m, m_block); \
        break
    switch (tiles) {
        CASE(1);
        CASE(2);
        CASE(3);
        CASE(4);
        CASE(5);
        CASE(6);
        CASE(7);
        CASE(8);
        CASE(9);
        CASE(10);
        CASE(11);
        CASE(12);
        CASE(13);
        CASE(14);
    }
#undef CASE
}

/* 8 channels x 2 lines of outputs in registers, over all tiles. */
INLINE void accumulate_half(const float *v, const float *g, size_t g_block, int tiles, int outputs, float *sum,
                            size_t sum_block, bool add_to)
{
    __m512 sums[8][2];
    UNROLL
    for (int c = 0; c < 8; c++)
        sums[c][0] = sums[c][1] = _mm512_setzero_ps();
    for (int t = 0; t < tiles; t++) {
        __m512 g0 = _mm512_load_ps(g + t * LINE), g1 = outputs > 1 ? _mm512_load_ps(g + g_block + t * LINE) : g0;
        UNROLL
        for (int c = 0; c < 8; c++) {
            __m512 x = _mm512_set1_ps(v[t * LINE + c]);
            sums[c][0] = _mm512_fmadd_ps(x, g0, sums[c][0]);
            if (outputs > 1)
                sums[c][1] = _mm512_fmadd_ps(x, g1, sums[c][1]);
        }
    }
    UNROLL
    for (int c = 0; c < 8; c++)
        for (int j = 0; j < outputs; j++) {
            float *to = sum + (size_t)j * sum_block + c * LINE;
            _mm512_store_ps(to, add_to ? add(sums[c][j], _mm512_load_ps(to)) : sums[c][j]);
        }
}

static void accumulate(const float *v, const float *g, size_t g_block, int tiles, int outputs, float *sum,
                       size_t sum_block, bool add_to)
{
    for (int half = 0; half < 2; half++, v += 8, sum += 8 * LINE)
        if (outputs == 2)
            accumulate_half(v, g, g_block, tiles, 2, sum, sum_block, add_to);
        else
            accumulate_half(v, g, g_block, tiles, 1, sum, sum_block, add_to);
}

/* ---- weights
 * --------------------------------------------------------------------------------------------------------- */

/* G applied to 3 lines */
INLINE void widen(__m512 g0, __m512 g1, __m512 g2, __m512 *u)
{
    __m512 ends = times(-1.0f / 6, add(g0, g2)), middle = times(1.0f / 6, g1);
    __m512 ends2 = times_add(1.0f / 24, g0, times(1.0f / 6, g2)), middle2 = times(1.0f / 12, g1);
    u[0] = times(0.25f, g0);
    u[1] = sub(ends, middle);
    u[2] = add(ends, middle);
    u[3] = add(ends2, middle2);
    u[4] = sub(ends2, middle2);
    u[5] = g2;
}

static void transpose_16x16(const float *from, float *to)
{
    __m512i index = _mm512_mullo_epi32(_mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0),
                                       _mm512_set1_epi32(LINE));
    for (int i = 0; i < LINE; i++)
        _mm512_store_ps(to + i * LINE, _mm512_i32gather_ps(index, from + i, 4));
}

/* Four times the size of the weights is written, too much for the caches where it takes time: past them. */
static void weights(const float *block, bool transpose, float *u, size_t row, size_t stride)
{
    _Alignas(64) float turned[9 * LINE * LINE];
    if (transpose) {
        for (int i = 0; i < 9; i++)
            transpose_16x16(block + i * LINE * LINE, turned + (8 - i) * LINE * LINE);
        block = turned;
    }
    for (int line = 0; line < LINE; line++, block += LINE, u += row) {
        __m512 rows[3][6];
        UNROLL
        for (int j = 0; j < 3; j++)
            widen(_mm512_loadu_ps(block + j * 256), _mm512_loadu_ps(block + (3 + j) * 256),
                  _mm512_loadu_ps(block + (6 + j) * 256), rows[j]);
        UNROLL
        for (int i = 0; i < 6; i++) {
            __m512 s[6];
            widen(rows[0][i], rows[1][i], rows[2][i], s);
            UNROLL
            for (int j = 0; j < 6; j++)
                _mm512_stream_ps(u + (size_t)(i * 6 + j) * stride, s[j]);
        }
    }
    _mm_sfence(); /* before the caller lets other threads read */
}

/* G^T applied to 6 lines */
INLINE void narrow(const __m512 *m, __m512 *g)
{
    __m512 sum1 = add(m[1], m[2]), sum2 = add(m[3], m[4]);
    g[0] = times_add(0.25f, m[0], times_add(-1.0f / 6, sum1, times(1.0f / 24, sum2)));
    g[1] = times_add(1.0f / 6, sub(m[2], m[1]), times(1.0f / 12, sub(m[3], m[4])));
    g[2] = times_add(1.0f / 6, sub(sum2, sum1), m[5]);
}

static void weights_gradient(const float *m, size_t stride, float *block)
{
    for (int line = 0; line < LINE; line++, block += LINE, m += LINE) {
        __m512 rows[3][6];
        UNROLL
        for (int j = 0; j < 6; j++) {
            __m512 column[6], g[3];
            UNROLL
            for (int i = 0; i < 6; i++)
                column[i] = _mm512_load_ps(m + (size_t)(i * 6 + j) * stride);
            narrow(column, g);
            rows[0][j] = g[0];
            rows[1][j] = g[1];
            rows[2][j] = g[2];
        }
        UNROLL
        for (int i = 0; i < 3; i++) {
            __m512 g[3];
            narrow(rows[i], g);
            UNROLL
            for (int j = 0; j < 3; j++)
                _mm512_storeu_ps(block + (i * 3 + j) * LINE * LINE, g[j]);
        }
    }
}

const struct rdp_winograd_kernels rdp_winograd_avx512 = {
    .input = input,
    .gradient = gradient,
    .output = output,
    .weights = weights,
    .weights_gradient = weights_gradient,
    .product = product,
    .accumulate = accumulate,
};
