/*
 * Builds one `struct rdp_vector_set` from RDP_LANES and RDP_SET (its name); included by vector_<set>.c, each of which
 * CMake compiles with its own instruction set flags. Written in the vector extensions that gcc and clang share.
 */
#include <string.h>

#include "kernels/common/dropout.h"
#include "kernels/cpu/vector.h"

typedef float vf __attribute__((vector_size(RDP_LANES * 4)));
typedef int32_t vi __attribute__((vector_size(RDP_LANES * 4)));
typedef uint32_t vu __attribute__((vector_size(RDP_LANES * 4)));
typedef uint16_t vh __attribute__((vector_size(RDP_LANES * 2)));

static inline vf load_f32(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void store_f32(float *p, vf v)
{
    memcpy(p, &v, sizeof v);
}

static inline vf load_bf16(const uint16_t *p)
{
    vh half;
    memcpy(&half, p, sizeof half);
    return (vf)(__builtin_convertvector(half, vu) << 16);
}

/* Round to nearest, ties to even: as the hardware converts. A NaN stays a NaN unless its payload is all ones. */
static inline void store_bf16(uint16_t *p, vf v)
{
    vu bits = (vu)v;
    bits += 0x7fff + ((bits >> 16) & 1);
    vh half = __builtin_convertvector(bits >> 16, vh);
    memcpy(p, &half, sizeof half);
}

static inline vf choose(vi mask, vf yes, vf no)
{
    return (vf)(((vi)yes & mask) | ((vi)no & ~mask));
}

/* e^x for x <= 0, 0 below -87: to 2e-7 of its value, 2^n times the Taylor series of what is left. */
static inline vf exponential(vf x)
{
    const vf zero = {0}, least = zero - 87.0f;
    const vi seen = x > least;
    x = choose(seen, x, least);
    const vi n = __builtin_convertvector(x * 1.44269504f - 0.5f, vi);
    const vf whole = __builtin_convertvector(n, vf), r = x - whole * 0.693145752f - whole * 1.42860677e-6f;
    const vf tail = 1.0f / 6 + r * (1.0f / 24 + r * (1.0f / 120 + r * (1.0f / 720)));
    return choose(seen, (1.0f + r * (1.0f + r * (0.5f + r * tail))) * (vf)((n + 127) << 23), zero);
}

/* The standard normal distribution at z: its function to 1e-7 (Abramowitz & Stegun 1964, formula 26.2.17) and density.
 */
struct normal {
    vf function, density;
};

static inline struct normal normal_at(vf z)
{
    const vf e = exponential(z * z * -0.5f), t = 1.0f / (1.0f + 0.231641888f * choose(z > 0, z, -z));
    const vf series =
        t * (0.127414796f + t * (-0.142248368f + t * (0.710706871f + t * (-0.726576013f + t * 0.530702715f))));
    return (struct normal){choose(z > 0, 1.0f - e * series, e * series), e * 0.398942280f};
}

static inline vf activate(vf z, bool gelu, float slope)
{
    return gelu ? z * normal_at(z).function : choose(z > 0, z, z * slope);
}

/* d times the activation's derivative at z, of which only GELU's needs more than the sign. */
static inline vf activate_backward(vf z, vf d, bool gelu, float slope)
{
    if (!gelu)
        return choose(z > 0, d, d * slope);
    const struct normal normal = normal_at(z);
    return d * (normal.function + z * normal.density);
}

/* Where `next` takes the place of the largest so far, as PyTorch has it: if it is larger or a NaN. */
static inline vi exceeds(vf next, vf largest)
{
    return (next > largest) | (next != next);
}

/* The pixels of a max-pool's window, row by row; at an odd edge some stand for themselves twice. */
struct window {
    size_t pixels[4];
};

static inline struct window window_at(int height, int width, int h, int w)
{
    const size_t top = (size_t)(2 * h) * (size_t)width, below = 2 * h + 1 < height ? top + (size_t)width : top;
    const size_t left = (size_t)(2 * w), right = 2 * w + 1 < width ? left + 1 : left;
    return (struct window){{top + left, top + right, below + left, below + right}};
}

/* Random bits of `count` groups from `group` on, of pixels one after another: RDP_LANES apart. */
static void dropout_bits(const struct rdp_dropout *dropout, uint32_t step, int64_t sample, uint32_t group, size_t count,
                         uint16_t *bits)
{
#pragma omp simd
    for (size_t i = 0; i < count; i++) {
        const struct rdp_random random =
            rdp_dropout_draw(dropout->seed, dropout->layer, step, sample, group + (uint32_t)i);
        for (int k = 0; k < RDP_DROPOUT_GROUP; k++)
            bits[i * RDP_LANES + (size_t)k] = (uint16_t)rdp_dropout_bits(&random, k);
    }
}

enum { DROPOUT_PIXELS = 64 /* whose bits are computed together */ };

#define RDP_NAME(x)     x##_f32
#define RDP_ELEMENT     float
#define RDP_LOAD(p)     load_f32(p)
#define RDP_STORE(p, v) store_f32(p, v)
#include "kernels/cpu/vector_element.h"
#undef RDP_NAME
#undef RDP_ELEMENT
#undef RDP_LOAD
#undef RDP_STORE

#define RDP_NAME(x)     x##_bf16
#define RDP_ELEMENT     uint16_t
#define RDP_LOAD(p)     load_bf16(p)
#define RDP_STORE(p, v) store_bf16(p, v)
#include "kernels/cpu/vector_element.h"

#include "kernels/cpu/flat_body.h"

#define RDP_STRING_(x) #x
#define RDP_STRING(x)  RDP_STRING_(x)
#define RDP_OPS(type) \
    { \
        .name = RDP_STRING(RDP_SET_NAME), .lanes = RDP_LANES, .statistics = statistics_##type, .apply = apply_##type, \
        .backward_reduce = backward_reduce_##type, .backward_apply = backward_apply_##type, .dropout = dropout_##type, \
        .max_pool = max_pool_##type, .max_pool_backward = max_pool_backward_##type, .mix = mix_##type \
    }

const struct rdp_vector_set RDP_SET = {
    .f32 = RDP_OPS(f32),
    .bf16 = RDP_OPS(bf16),
    .flat = RDP_FLAT_OPS,
};
