/*
 * The vector loops of kernels/cpu/vector.h, each set that this CPU can run, against plain loops in double.
 *
 * Tolerances. An f32 result of a few operations: EPSILON x the sum of the terms' magnitudes, EPSILON = 4 x 2^-24 (up to
 * four roundings). A stored bf16 adds half a unit in its last place, 2^-8 of the value (8 significant bits). Sums over
 * n pixels, in f32: n roundings of at most the sum of magnitudes, which for random signs is sqrt(n) in practice; n x
 * 2^-24 is the proof. GELU is a dozen operations on top: GELU_TERMS times as much.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/common/dropout.h"
#include "kernels/cpu/vector.h"
#include "support_network.h"

#define EPSILON (4 * 0x1p-24)
#define GELU_TERMS 3
enum { LANES_MAX = 16 };

static const size_t pixel_counts[] = {1, 3, 49, 1024};
static const struct rdp_vector_activation activations[] = {
    {.slope = 0}, {.slope = 0.01f}, {.slope = 1}, {.gelu = true}};
static struct rdp_test_worst f32_worst = {"f32 loops, of the tolerance", 0},
                             bf16_worst = {"bf16 loops, of the tolerance", 0};

struct set {
    const struct rdp_vector_set *vectors;
    const char *name;
};

/* The sets that this CPU runs; says which it leaves out. */
static int sets(struct set list[3])
{
    int count = 0;
    list[count++] = (struct set){&rdp_vector_generic, "generic"};
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        list[count++] = (struct set){&rdp_vector_avx2, "avx2"};
    else
        print_message("skipped: this CPU has no AVX2\n");
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        list[count++] = (struct set){&rdp_vector_avx512, "avx512"};
    else
        print_message("skipped: this CPU has no AVX-512\n");
#endif
    return count;
}

/* One loop's surroundings: arrays of `count` pixels, in double and, guarded, as the loop wants them. */
struct bench {
    const struct rdp_vector_ops *ops;
    bool bf16;
    size_t count, elements;
    struct rdp_test_worst *worst;
};

static double as_double(const struct bench *bench, const void *data, size_t i)
{
    uint32_t bits;
    float value;
    if (!bench->bf16)
        return (double)((const float *)data)[i];
    bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    memcpy(&value, &bits, sizeof value);
    return (double)value;
}

/* Random values in the loop's type; the same in `plain`. */
static void *fill(const struct bench *bench, uint32_t stream, double *plain)
{
    float *data = rdp_test_floats(bench->bf16 ? bench->elements / 2 : bench->elements); /* 8 or 16 lanes: never odd */
    for (size_t i = 0; i < bench->elements; i++) {
        float value = (float)rdp_test_value(stream, i);
        uint32_t bits;
        if (bench->bf16)
            value = (float)rdp_test_to_bf16((double)value);
        memcpy(&bits, &value, sizeof bits);
        if (bench->bf16)
            ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
        else
            data[i] = value;
        plain[i] = (double)value;
    }
    return data;
}

static float *fill_lanes(const struct bench *bench, uint32_t stream)
{
    float *values = rdp_test_floats((size_t)bench->ops->lanes);
    for (int c = 0; c < bench->ops->lanes; c++)
        values[c] = (float)rdp_test_value(stream, (uint64_t)c);
    return values;
}

/* `terms`: sum of the magnitudes that were added. */
static void check_stored(const struct bench *bench, double got, double want, double terms)
{
    double tolerance = EPSILON * terms + (bench->bf16 ? 0x1p-8 * fabs(want) : 0);
    rdp_test_note(bench->worst, fabs(got - want) / (tolerance + 1e-300));
    if (!(fabs(got - want) <= tolerance))
        fail_msg("%s %s, %zu pixels: %.9g, not %.9g", bench->ops->name, bench->bf16 ? "bf16" : "f32", bench->count, got,
                 want);
}

static void check_sum(const struct bench *bench, float got, double want, double terms)
{
    double tolerance = ((double)bench->count + 4) * 0x1p-24 * terms;
    rdp_test_note(bench->worst, fabs((double)got - want) / (tolerance + 1e-300));
    if (!(fabs((double)got - want) <= tolerance))
        fail_msg("%s %s, %zu pixels: a sum is %.9g, not %.9g", bench->ops->name, bench->bf16 ? "bf16" : "f32",
                 bench->count, (double)got, want);
}

static void check_statistics(const struct bench *bench)
{
    const int lanes = bench->ops->lanes;
    double *plain = rdp_test_doubles(bench->elements);
    void *y = fill(bench, 1, plain);
    float *shift = fill_lanes(bench, 2), *sum = rdp_test_floats((size_t)lanes),
          *square = rdp_test_floats((size_t)lanes);
    bench->ops->statistics(y, bench->count, shift, sum, square);
    for (int c = 0; c < lanes; c++) {
        double s = 0, q = 0, terms = 0;
        for (size_t i = 0; i < bench->count; i++) {
            double d = plain[i * (size_t)lanes + (size_t)c] - (double)shift[c];
            s += d;
            q += d * d;
            terms += fabs(d);
        }
        check_sum(bench, sum[c], s, terms);
        check_sum(bench, square[c], q, q);
    }
    rdp_test_free(y);
    rdp_test_free(shift);
    rdp_test_free(sum);
    rdp_test_free(square);
    free(plain);
}

/* The activation and its derivative, in double. */
static double activated(struct rdp_vector_activation activation, double z)
{
    if (activation.gelu)
        return 0.5 * z * erfc(-z / sqrt(2));
    return z > 0 ? z : (double)activation.slope * z;
}

static double derivative(struct rdp_vector_activation activation, double z)
{
    if (activation.gelu)
        return 0.5 * erfc(-z / sqrt(2)) + z * exp(-z * z / 2) / sqrt(2 * acos(-1));
    return z > 0 ? 1 : (double)activation.slope;
}

static void check_apply(const struct bench *bench, bool with_residual, struct rdp_vector_activation activation)
{
    const size_t lanes = (size_t)bench->ops->lanes;
    double *plain = rdp_test_doubles(bench->elements), *plain_residual = rdp_test_doubles(bench->elements);
    double *before = rdp_test_doubles(bench->elements);
    void *y = fill(bench, 3, plain), *residual = fill(bench, 4, plain_residual), *out = fill(bench, 5, before);
    float *scale = fill_lanes(bench, 6), *shift = fill_lanes(bench, 7);
    bench->ops->apply(y, with_residual ? residual : NULL, out, bench->count, scale, shift, activation);
    for (size_t i = 0; i < bench->elements; i++) {
        double a = plain[i] * (double)scale[i % lanes], b = (double)shift[i % lanes];
        double r = with_residual ? plain_residual[i] : 0, z = a + b + r;
        check_stored(bench, as_double(bench, out, i), activated(activation, z),
                     (fabs(a) + fabs(b) + fabs(r)) * (activation.gelu ? GELU_TERMS : 1));
    }
    rdp_test_free(y);
    rdp_test_free(residual);
    rdp_test_free(out);
    rdp_test_free(scale);
    rdp_test_free(shift);
    free(plain);
    free(plain_residual);
    free(before);
}

static void check_backward_reduce(const struct bench *bench, bool joins, bool with_dout2,
                                  struct rdp_vector_activation activation)
{
    const size_t lanes = (size_t)bench->ops->lanes;
    double *plain[4], sums[LANES_MAX] = {0}, products[LANES_MAX] = {0}, terms[2][LANES_MAX] = {{0}};
    void *data[4]; /* y, joined, dout, dout2 */
    for (int k = 0; k < 4; k++) {
        plain[k] = rdp_test_doubles(bench->elements);
        data[k] = fill(bench, 10 + (uint32_t)k, plain[k]);
    }
    float *scale = fill_lanes(bench, 14), *shift = fill_lanes(bench, 15), *mean = fill_lanes(bench, 16);
    float *sum = rdp_test_floats(lanes), *product = rdp_test_floats(lanes);
    bench->ops->backward_reduce(data[0], joins ? data[1] : NULL, data[2], with_dout2 ? data[3] : NULL, bench->count,
                                scale, shift, mean, activation, sum, product);
    for (size_t i = 0; i < bench->elements; i++) {
        const size_t c = i % lanes;
        /* The sign of y * scale + shift is that of the f32 result: with a fused multiply-add, of the exact value. */
        double z = fma(plain[0][i], (double)scale[c], (double)shift[c]);
        if (joins)
            z = activation.gelu ? z + plain[1][i] : plain[1][i];
        double d = plain[2][i] + (with_dout2 ? plain[3][i] : 0), all = fabs(plain[2][i]) + fabs(plain[3][i]);
        double centred = plain[0][i] - (double)mean[c];
        const double got = as_double(bench, data[2], i);
        if (!joins && !activation.gelu && fabs(z) < 1e-6) /* rounding may choose either side */
            z = fabs(got - d) <= fabs(got - (double)activation.slope * d) ? 1 : -1;
        d *= derivative(activation, z);
        check_stored(bench, got, d, all * (activation.gelu ? GELU_TERMS : 1));
        sums[c] += d;
        products[c] += d * centred;
        terms[0][c] += all;
        terms[1][c] += all * (fabs(plain[0][i]) + fabs((double)mean[c]));
    }
    for (size_t c = 0; c < lanes; c++) { /* the sums are of the values before they are rounded to bf16 */
        check_sum(bench, sum[c], sums[c], terms[0][c] * (activation.gelu ? GELU_TERMS : 1));
        check_sum(bench, product[c], products[c], terms[1][c] * (activation.gelu ? GELU_TERMS : 1));
    }
    for (int k = 0; k < 4; k++) {
        rdp_test_free(data[k]);
        free(plain[k]);
    }
    float *lanes_arrays[] = {scale, shift, mean, sum, product};
    for (int k = 0; k < 5; k++)
        rdp_test_free(lanes_arrays[k]);
}

static void check_backward_apply(const struct bench *bench, bool in_place)
{
    const size_t lanes = (size_t)bench->ops->lanes;
    double *plain_y = rdp_test_doubles(bench->elements), *plain_dz = rdp_test_doubles(bench->elements);
    double *unused = rdp_test_doubles(bench->elements);
    void *y = fill(bench, 20, plain_y), *dz = fill(bench, 21, plain_dz), *dy = fill(bench, 22, unused);
    float *a = fill_lanes(bench, 23), *b = fill_lanes(bench, 24), *c = fill_lanes(bench, 25);
    bench->ops->backward_apply(y, dz, in_place ? dz : dy, bench->count, a, b, c);
    for (size_t i = 0; i < bench->elements; i++) {
        const size_t k = i % lanes;
        double terms[] = {(double)a[k] * plain_dz[i], (double)b[k] * plain_y[i], (double)c[k]};
        check_stored(bench, as_double(bench, in_place ? dz : dy, i), terms[0] + terms[1] + terms[2],
                     fabs(terms[0]) + fabs(terms[1]) + fabs(terms[2]));
    }
    void *all[] = {y, dz, dy, a, b, c};
    for (int k = 0; k < 6; k++)
        rdp_test_free(all[k]);
    free(plain_y);
    free(plain_dz);
    free(unused);
}

/* Block 3 of an image of `count` pixels in a column: the formula, element by element; what is dropped is exactly 0. */
static void check_dropout(const struct bench *bench, bool with_second)
{
    const int lanes = bench->ops->lanes, block = 3;
    const struct rdp_dropout dropout = {
        .shape = {(block + 1) * lanes, (int)bench->count, 1}, .probability = 0.4f, .seed = 9, .layer = 2};
    const uint32_t threshold = rdp_dropout_threshold(0.4f);
    double *plain[2] = {rdp_test_doubles(bench->elements), rdp_test_doubles(bench->elements)};
    void *x = fill(bench, 26, plain[0]), *x2 = fill(bench, 27, plain[1]);
    bench->ops->dropout(&dropout, 12, 4321, block, x, with_second ? x2 : NULL, x);
    for (size_t i = 0; i < bench->elements; i++) {
        const int c = block * lanes + (int)i % lanes;
        const uint32_t pixel = (uint32_t)(i / (size_t)lanes);
        const uint32_t group = (uint32_t)(c / 8) * (uint32_t)bench->count + pixel;
        const struct rdp_random random = rdp_dropout_draw(9, 2, 12, 4321, group);
        const double scale = rdp_dropout_bits(&random, c % 8) >= threshold ? (double)rdp_dropout_scale(threshold) : 0;
        const double second = with_second ? plain[1][i] : 0;
        check_stored(bench, as_double(bench, x, i), scale * (plain[0][i] + second),
                     scale * (fabs(plain[0][i]) + fabs(second)));
    }
    rdp_test_free(x);
    rdp_test_free(x2);
    free(plain[0]);
    free(plain[1]);
}

static void check_mix(const struct bench *bench)
{
    const struct bench row = {bench->ops, bench->bf16, 1, RDP_MIX_ROW, bench->worst};
    double *plain[2] = {rdp_test_doubles(RDP_MIX_ROW), rdp_test_doubles(RDP_MIX_ROW)};
    void *a = fill(&row, 28, plain[0]), *b = fill(&row, 29, plain[1]);
    float weights[RDP_MIX_ROW];
    for (int i = 0; i < RDP_MIX_ROW; i++)
        weights[i] = i % 5 == 0 ? 0 : i % 5 == 1 ? 1 : (float)(rdp_test_value(33, (uint64_t)i) + 1) / 2;
    bench->ops->mix(a, b, weights);
    for (size_t i = 0; i < RDP_MIX_ROW; i++)
        for (int k = 0; k < 2; k++) {
            const double w = (double)weights[i], own = plain[k][i], other = plain[1 - k][i];
            check_stored(&row, as_double(&row, k ? b : a, i), w * own + (1 - w) * other, w * fabs(own) + fabs(other));
        }
    rdp_test_free(a);
    rdp_test_free(b);
    free(plain[0]);
    free(plain[1]);
}

static void test_loops(void **unused)
{
    struct set list[3];
    const int set_count = sets(list);
    (void)unused;
    for (int s = 0; s < set_count; s++)
        for (int bf16 = 0; bf16 < 2; bf16++)
            for (size_t p = 0; p < sizeof pixel_counts / sizeof *pixel_counts; p++) {
                struct bench bench = {.ops = bf16 ? &list[s].vectors->bf16 : &list[s].vectors->f32,
                                      .bf16 = bf16,
                                      .count = pixel_counts[p],
                                      .worst = bf16 ? &bf16_worst : &f32_worst};
                bench.elements = bench.count * (size_t)bench.ops->lanes;
                assert_string_equal(bench.ops->name, list[s].name);
                assert_true(bench.ops->lanes <= LANES_MAX);
                check_statistics(&bench);
                for (size_t k = 0; k < sizeof activations / sizeof *activations; k++) {
                    for (int residual = 0; residual < 2; residual++)
                        check_apply(&bench, residual, activations[k]);
                    for (int variant = 0; variant < 4; variant++)
                        check_backward_reduce(&bench, variant & 1, variant & 2, activations[k]);
                }
                check_backward_apply(&bench, false);
                check_backward_apply(&bench, true);
                check_dropout(&bench, false);
                check_dropout(&bench, true);
                check_mix(&bench);
            }
    print_message("worst errors as a share of the tolerance: f32 %.2f, bf16 %.2f\n", f32_worst.error, bf16_worst.error);
}

/* Terms that are all at work; clipping reaches a quarter of the gradients. */
static const struct rdp_update_terms terms = {.clip_value = 0.75f,
                                              .clip_scale = 0.8f,
                                              .decay = 0.05f,
                                              .trust = 1.5f,
                                              .rate = 0.1f,
                                              .shrink = 0.01f,
                                              .keep1 = 0.9f,
                                              .add1 = 0.1f,
                                              .keep2 = 0.99f,
                                              .add2 = 0.01f,
                                              .correct1 = 2,
                                              .correct2 = 3,
                                              .epsilon = 0.1f, /* a g near 0 is divided by it, with its roundings */
                                              .decoupled = 0.02f};

/* kernels/common/optimiser.h in double; x = {parameter, gradient, first, second}. */
static void update_in_double(enum rdp_update_rule rule, bool nesterov, double x[4])
{
    const double clip = (double)terms.clip_value, keep1 = (double)terms.keep1, epsilon = (double)terms.epsilon;
    const double g =
        (double)terms.trust * ((double)terms.clip_scale * fmax(-clip, fmin(clip, x[1])) + (double)terms.decay * x[0]);
    const double m = keep1 * x[2] + (double)terms.add1 * g, hat = (double)terms.correct1 * m;
    double direction = g;
    switch (rule) {
    case RDP_RULE_MOMENTUM:
        x[2] = keep1 * x[2] + g;
        direction = nesterov ? g + keep1 * x[2] : x[2];
        break;
    case RDP_RULE_SQUARE:
    case RDP_RULE_SQUARE_MOMENTUM:
        x[2] = (double)terms.keep2 * x[2] + (double)terms.add2 * g * g;
        direction = g / (sqrt(x[2]) + epsilon);
        if (rule == RDP_RULE_SQUARE_MOMENTUM)
            direction = x[3] = keep1 * x[3] + direction;
        break;
    case RDP_RULE_ADAM:
    case RDP_RULE_LAMB:
        x[2] = m;
        x[3] = (double)terms.keep2 * x[3] + (double)terms.add2 * g * g;
        direction = hat / ((double)terms.correct2 * sqrt(x[3]) + epsilon);
        break;
    case RDP_RULE_ADAMAX:
        x[2] = m;
        x[3] = fmax((double)terms.keep2 * x[3], fabs(g) + epsilon);
        direction = hat / x[3];
        break;
    default:
        break;
    }
    if (rule == RDP_RULE_LAMB)
        x[1] = direction + (double)terms.decoupled * x[0];
    else
        x[0] -= (double)terms.rate * direction + (double)terms.shrink * x[0];
}

/* Three steps of every rule; f32 may differ by a few roundings per step of what is added, and a quotient of them. */
static void test_update(void **unused)
{
    static const size_t counts[] = {1, 7, 16, 33, 1000};
    struct set list[3];
    const int set_count = sets(list);
    double worst = 0;
    (void)unused;
    for (int s = 0; s < set_count; s++)
        for (int k = 0; k < 5 * 2 * RDP_UPDATE_RULES; k++) {
            const size_t count = counts[k % 5];
            const enum rdp_update_rule rule = (enum rdp_update_rule)(k / 10);
            struct rdp_update_terms t = terms;
            float *x[4];
            t.nesterov = k / 5 % 2;
            for (int j = 0; j < 4; j++)
                x[j] = rdp_test_floats(count);
            double *exact = rdp_test_doubles(4 * count);
            for (size_t i = 0; i < count; i++)
                exact[4 * i] = (double)(x[0][i] = (float)rdp_test_value(30, i));
            for (uint32_t step = 0; step < 3; step++) {
                for (size_t i = 0; i < count; i++)
                    exact[4 * i + 1] = (double)(x[1][i] = (float)rdp_test_value(31 + step, i));
                list[s].vectors->flat.update[rule](&t, x[0], x[1], x[2], x[3], count);
                for (size_t i = 0; i < count; i++)
                    update_in_double(rule, t.nesterov, exact + 4 * i);
            }
            for (size_t i = 0; i < 4 * count; i++) {
                const double error = fabs((double)x[i % 4][i / 4] - exact[i]) / fmax(1, fabs(exact[i]));
                worst = fmax(worst, error);
                assert_true(error <= 2e-6);
            }
            for (int j = 0; j < 4; j++)
                rdp_test_free(x[j]);
            free(exact);
        }
    print_message("worst error of three steps of the optimisers' rules: %.1e\n", worst);
}

static void test_square_and_averages(void **unused)
{
    struct set list[3];
    const int set_count = sets(list);
    (void)unused;
    for (int s = 0; s < set_count; s++)
        for (size_t count = 1; count < 100; count += 7) {
            const struct rdp_flat_ops *flat = &list[s].vectors->flat;
            float *a = rdp_test_floats(count), *b = rdp_test_floats(count);
            double sum = 0, clipped = 0;
            for (size_t i = 0; i < count; i++) {
                a[i] = (float)rdp_test_value(42, i);
                b[i] = (float)rdp_test_value(43, i);
                sum += (double)a[i] * (double)a[i];
                clipped += fmin((double)a[i] * (double)a[i], 0.25);
            }
            assert_true(fabs(flat->square(a, count, INFINITY) - sum) <= 1e-14 * sum);
            assert_true(fabs(flat->square(a, count, 0.5f) - clipped) <= 1e-14 * clipped);
            flat->average(a, b, count, 0.25f);
            for (size_t i = 0; i < count; i++)
                assert_true(fabs((double)a[i] - 0.75 * rdp_test_value(42, i) - 0.25 * (double)b[i]) <= 0x1p-22);
            memcpy(b, a, count * sizeof *a);
            for (size_t i = 0; i < count; i++)
                b[i] += 1;
            flat->lookahead(a, b, count, 0.5f);
            for (size_t i = 0; i < count; i++) {
                const double want = 0.75 * rdp_test_value(42, i) + 0.25 * (double)(float)rdp_test_value(43, i) + 0.5;
                assert_true(a[i] == b[i] && fabs((double)a[i] - want) <= 0x1p-21);
            }
            rdp_test_free(a);
            rdp_test_free(b);
        }
}

static void test_add(void **unused)
{
    struct set list[3];
    const int set_count = sets(list);
    (void)unused;
    for (int s = 0; s < set_count; s++)
        for (size_t count = 1; count < 100; count += 7) {
            float *to = rdp_test_floats(count), *from = rdp_test_floats(count);
            for (size_t i = 0; i < count; i++) {
                to[i] = (float)rdp_test_value(40, i);
                from[i] = (float)rdp_test_value(41, i);
            }
            list[s].vectors->flat.add(to, from, count);
            for (size_t i = 0; i < count; i++)
                assert_true(to[i] == (float)rdp_test_value(40, i) + (float)rdp_test_value(41, i));
            rdp_test_free(to);
            rdp_test_free(from);
        }
}

/* GELU far from zero, where e^(-z^2/2) vanishes: what is finite stays so, a NaN stays one. */
static void test_gelu_tail(void **unused)
{
    static const float cases[] = {4, 6, 9, 13, 13.25f, 40, 0x1p20f, 0x1p64f, 0x1p127f, NAN};
    static const struct rdp_vector_activation gelu = {.gelu = true};
    struct set list[3];
    const int set_count = sets(list);
    (void)unused;
    for (int s = 0; s < set_count; s++)
        for (size_t k = 0; k < 2 * sizeof cases / sizeof *cases; k++) {
            const struct rdp_vector_ops *ops = &list[s].vectors->f32;
            const float z = k % 2 ? -cases[k / 2] : cases[k / 2];
            const double want = 0.5 * (double)z * erfc((double)-z / sqrt(2));
            const double derivative =
                want / (double)z + (double)z * exp(-(double)z * (double)z / 2) / sqrt(2 * acos(-1));
            float y[LANES_MAX], scale[LANES_MAX], zero[LANES_MAX] = {0}, out[LANES_MAX], d[LANES_MAX];
            float sum[LANES_MAX], product[LANES_MAX];
            for (int c = 0; c < LANES_MAX; c++) {
                y[c] = d[c] = 1;
                scale[c] = z;
            }
            ops->apply(y, NULL, out, 1, scale, zero, gelu);
            ops->backward_reduce(y, NULL, d, NULL, 1, scale, zero, zero, gelu, sum, product);
            for (int c = 0; c < ops->lanes; c++)
                if (isnan(z)) {
                    assert_true(isnan(out[c]) && isnan(d[c]));
                } else {
                    assert_true(fabs((double)out[c] - want) <= 4e-7 * fmax(1, want));
                    assert_true(fabs((double)d[c] - derivative) <= 1e-6);
                }
        }
}

/* f32 bits through apply with scale 1 and shift -0 (which changes no value, not even -0), slope 1. */
static void test_rounding(void **unused)
{
    static const struct {
        uint32_t from;
        uint16_t to;
    } cases[] = {
        {0x3f800000, 0x3f80}, {0x3f808000, 0x3f80}, {0x3f818000, 0x3f82}, /* ties go to even */
        {0x3f807fff, 0x3f80}, {0x3f808001, 0x3f81}, {0x3f817fff, 0x3f81},
        {0xbf808000, 0xbf80}, {0xbf818000, 0xbf82}, {0x3fffffff, 0x4000}, /* a carry into the exponent */
        {0x7f7f0000, 0x7f7f}, {0x7f7f7fff, 0x7f7f}, {0x7f7f8000, 0x7f80}, /* the largest, and beyond it */
        {0x7f800000, 0x7f80}, {0xff800000, 0xff80},                       /* infinities */
        {0x00000000, 0x0000}, {0x80000000, 0x8000}, {0x00010000, 0x0001}, /* zeros, the smallest */
        {0x00008000, 0x0000}, {0x00008001, 0x0001},
    };
    static const uint32_t nans[] = {0x7fc00000, 0xffc00000, 0x7fc00001, 0x7f810000, 0x7fff0000};
    struct set list[3];
    const int set_count = sets(list);
    const size_t count = sizeof cases / sizeof *cases, nan_count = sizeof nans / sizeof *nans;
    (void)unused;
    for (int s = 0; s < set_count; s++) {
        const struct rdp_vector_ops *ops = &list[s].vectors->bf16;
        for (size_t k = 0; k < count + nan_count; k++) {
            /* bf16 holds no such value: it comes in as the shift, added to -0 * 1. */
            uint32_t from = k < count ? cases[k].from : nans[k - count];
            uint16_t y[LANES_MAX], out[LANES_MAX + 1] = {0};
            float scale[LANES_MAX], shift[LANES_MAX];
            out[ops->lanes] = 0x5a5a;
            for (int c = 0; c < ops->lanes; c++) {
                y[c] = 0x8000;
                scale[c] = 1;
                memcpy(shift + c, &from, sizeof from);
            }
            ops->apply(y, NULL, out, 1, scale, shift, (struct rdp_vector_activation){.slope = 1});
            for (int c = 0; c < ops->lanes; c++) {
                if (k < count)
                    assert_int_equal(out[c], cases[k].to);
                else
                    assert_true((out[c] & 0x7f80) == 0x7f80 && (out[c] & 0x7f) != 0);
            }
            assert_int_equal(out[ops->lanes], 0x5a5a);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_loops), cmocka_unit_test(test_update),   cmocka_unit_test(test_square_and_averages),
        cmocka_unit_test(test_add),   cmocka_unit_test(test_rounding), cmocka_unit_test(test_gelu_tail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
