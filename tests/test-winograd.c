/*
 * Our Winograd convolutions against a direct convolution in double: all three directions, f32 and bf16 activations,
 * sizes with and without ragged tiles, both ways of sharing the work. Skipped where the processor lacks AVX-512.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <math.h>

#include "kernels/cpu/winograd.h"

struct problem {
    int height, width, inputs, outputs, images;
};

static const struct problem problems[] = {
    {4, 4, 16, 16, 1},    {4, 4, 64, 48, 8}, {8, 8, 32, 64, 3}, {16, 16, 48, 16, 3}, {32, 32, 16, 32, 3},
    {32, 32, 64, 64, 1},  {5, 5, 16, 48, 8}, {7, 7, 48, 48, 3}, {7, 5, 32, 16, 3},   {30, 30, 32, 32, 1},
    {30, 30, 16, 16, 8},  {1, 1, 16, 16, 3}, {2, 9, 16, 32, 1}, {4, 4, 192, 208, 3}, /* weights too big for each thread
                                                                                      */
    {8, 8, 176, 176, 33},
};

enum { GUARD = 64 }; /* bytes before and after every result that nobody may write */
static const unsigned char guard_byte = 0xa5;

static uint64_t random_state = 1;

/* Sum of four uniform numbers, standard deviation about 0.58: close enough to a Gaussian. */
static float random_value(void)
{
    double sum = 0;
    for (int i = 0; i < 4; i++) {
        random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        sum += (double)(random_state >> 40) / (1 << 24) - 0.5;
    }
    return (float)sum;
}

static float from_bf16(uint16_t value)
{
    uint32_t bits = (uint32_t)value << 16;
    float f;
    memcpy(&f, &bits, sizeof f);
    return f;
}

static uint16_t to_bf16(float f)
{
    uint32_t bits;
    memcpy(&bits, &f, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

/* 64-byte aligned and guarded on both sides. */
static void *guarded(size_t bytes)
{
    size_t total = (bytes + 2 * GUARD + 63) / 64 * 64;
    unsigned char *memory = aligned_alloc(64, total);
    assert_non_null(memory);
    memset(memory, guard_byte, total);
    return memory + GUARD;
}

static void release(void *memory, size_t bytes)
{
    unsigned char *start = memory;
    for (int i = 0; i < GUARD; i++) {
        assert_int_equal(start[-1 - i], guard_byte);
        assert_int_equal(start[bytes + (size_t)i], guard_byte);
    }
    free(start - GUARD);
}

/* Index of a pixel in (images, channels / 16, height, width, 16), and of a weight in OIhw16i16o. */
static size_t at(const struct problem *p, int channels, int image, int channel, int row, int column)
{
    size_t plane = ((size_t)image * (size_t)(channels / 16) + (size_t)(channel / 16)) * (size_t)p->height + (size_t)row;
    return (plane * (size_t)p->width + (size_t)column) * 16 + (size_t)(channel % 16);
}

static size_t weight_at(const struct problem *p, int output, int input, int row, int column)
{
    size_t block = (size_t)(output / 16) * (size_t)(p->inputs / 16) + (size_t)(input / 16);
    return ((block * 9 + (size_t)(row * 3 + column)) * 16 + (size_t)(input % 16)) * 16 + (size_t)(output % 16);
}

struct tensors {
    size_t x_count, y_count, w_count;
    float *x, *dy, *w;   /* what goes in, bf16 values if the activations are */
    double *y, *dx, *dw; /* what should come out */
};

/* One weight, all pixels: the inner loop runs over rows of both tensors. */
static void reference_tap(const struct problem *p, struct tensors *t, int image, int output, int input, int r, int s)
{
    size_t tap = weight_at(p, output, input, r, s);
    double w = t->w[tap], dw = 0;
    for (int i = r == 0; i < p->height - (r == 2); i++)
        for (int j = s == 0; j < p->width - (s == 2); j++) {
            size_t y = at(p, p->outputs, image, output, i, j), x = at(p, p->inputs, image, input, i + r - 1, j + s - 1);
            t->y[y] += w * (double)t->x[x];
            t->dx[x] += w * (double)t->dy[y];
            dw += (double)t->x[x] * (double)t->dy[y];
        }
    t->dw[tap] += dw;
}

static float *random_floats(size_t count, bool bf16)
{
    float *values = malloc(count * sizeof *values);
    assert_non_null(values);
    for (size_t i = 0; i < count; i++)
        values[i] = bf16 ? from_bf16(to_bf16(random_value())) : random_value();
    return values;
}

/* Random inputs, and what should come out of them; without `expected`, zeros for that. */
static void make_tensors(const struct problem *p, bool bf16, bool expected, struct tensors *t)
{
    size_t pixels = (size_t)p->images * (size_t)p->height * (size_t)p->width;
    t->x_count = pixels * (size_t)p->inputs;
    t->y_count = pixels * (size_t)p->outputs;
    t->w_count = (size_t)p->inputs * (size_t)p->outputs * 9;
    t->x = random_floats(t->x_count, bf16);
    t->dy = random_floats(t->y_count, bf16);
    t->w = random_floats(t->w_count, false);
    t->y = calloc(t->y_count, sizeof *t->y);
    t->dx = calloc(t->x_count, sizeof *t->dx);
    t->dw = calloc(t->w_count, sizeof *t->dw);
    assert_true(t->y != NULL && t->dx != NULL && t->dw != NULL);
    for (int image = 0; expected && image < p->images; image++)
        for (int output = 0; output < p->outputs; output++)
            for (int input = 0; input < p->inputs; input++)
                for (int tap = 0; tap < 9; tap++)
                    reference_tap(p, t, image, output, input, tap / 3, tap % 3);
}

static void free_tensors(struct tensors *t)
{
    free(t->x);
    free(t->dy);
    free(t->w);
    free(t->y);
    free(t->dx);
    free(t->dw);
}

/* An activation as the convolution takes it. */
static void *stored(const float *values, size_t count, bool bf16)
{
    if (!bf16)
        return memcpy(guarded(count * sizeof(float)), values, count * sizeof(float));
    uint16_t *half = guarded(count * sizeof *half);
    for (size_t i = 0; i < count; i++)
        half[i] = to_bf16(values[i]);
    return half;
}

/*
 * f32: the transforms' constants (up to 8 in each dimension) amplify the rounding of f32 sums; 1e-6 to 4e-6 is what
 * these sizes show, and an error in a formula is of the order of 1. bf16: the result itself is rounded to 8 bits, at
 * most 2^-9 of each value.
 */
static void compare(const struct problem *p, const char *what, const void *result, const double *expected, size_t count,
                    bool bf16)
{
    double difference = 0, norm = 0, limit = bf16 ? 1.0 / 512 + 1e-5 : 1e-5;
    for (size_t i = 0; i < count; i++) {
        double value = bf16 ? (double)from_bf16(((const uint16_t *)result)[i]) : (double)((const float *)result)[i];
        difference += (value - expected[i]) * (value - expected[i]);
        norm += expected[i] * expected[i];
    }
    double error = sqrt(difference / norm);
    if (!(error <= limit)) /* also when it is not a number */
        fail_msg("%s, %d x %d, %d -> %d channels, %d images, %s: relative error %.3g, at most %.3g is expected", what,
                 p->height, p->width, p->inputs, p->outputs, p->images, bf16 ? "bf16" : "f32", error, limit);
}

struct results {
    void *y, *dx;
    float *dw;
    size_t y_bytes, dx_bytes, dw_bytes;
};

/* All three directions, forward and backward data `chunk` images at a time. */
static void convolve(const struct problem *p, const struct tensors *t, bool bf16, int threads, int chunk,
                     struct results *r)
{
    struct rdp_winograd plan;
    size_t size = bf16 ? sizeof(uint16_t) : sizeof(float);
    size_t x_image = t->x_count / (size_t)p->images * size, y_image = t->y_count / (size_t)p->images * size;
    rdp_winograd_plan(&plan, p->height, p->width, p->inputs, p->outputs, bf16, threads);
    void *x = stored(t->x, t->x_count, bf16), *dy = stored(t->dy, t->y_count, bf16),
         *workspace = guarded(plan.workspace_bytes);
    float *forward = guarded(plan.transformed_bytes), *backward = guarded(plan.transformed_bytes);

    *r = (struct results){
        .y_bytes = t->y_count * size, .dx_bytes = t->x_count * size, .dw_bytes = t->w_count * sizeof(float)};
    r->y = guarded(r->y_bytes);
    r->dx = guarded(r->dx_bytes);
    r->dw = guarded(r->dw_bytes);
    rdp_winograd_weights(&plan, t->w, forward, backward);
    for (int i = 0; i < p->images; i += chunk) {
        size_t image = (size_t)i;
        int count = i + chunk <= p->images ? chunk : p->images - i;
        rdp_winograd_forward(&plan, (char *)x + image * x_image, forward, (char *)r->y + image * y_image, count,
                             workspace);
        rdp_winograd_backward_data(&plan, (char *)dy + image * y_image, backward, (char *)r->dx + image * x_image,
                                   count, workspace);
    }
    rdp_winograd_backward_weights(&plan, x, dy, r->dw, p->images, workspace);
    release(x, t->x_count * size);
    release(dy, t->y_count * size);
    release(workspace, plan.workspace_bytes);
    release(forward, plan.transformed_bytes);
    release(backward, plan.transformed_bytes);
}

static void free_results(struct results *r)
{
    release(r->y, r->y_bytes);
    release(r->dx, r->dx_bytes);
    release(r->dw, r->dw_bytes);
}

static void test_against_direct(bool bf16)
{
    for (size_t i = 0; i < sizeof problems / sizeof *problems; i++) {
        const struct problem *p = &problems[i];
        struct tensors t;
        struct results one, two, again;
        make_tensors(p, bf16, true, &t);
        convolve(p, &t, bf16, 1, p->images, &one);
        compare(p, "forward", one.y, t.y, t.y_count, bf16);
        compare(p, "backward data", one.dx, t.dx, t.x_count, bf16);
        compare(p, "backward weights", one.dw, t.dw, t.w_count, false);
        /* Threads and chunks change no bit of the first two; calls none of the third, but threads its order of sums. */
        convolve(p, &t, bf16, 2, 2, &two);
        assert_memory_equal(one.y, two.y, one.y_bytes);
        assert_memory_equal(one.dx, two.dx, one.dx_bytes);
        convolve(p, &t, bf16, 2, p->images, &again);
        compare(p, "backward weights", two.dw, t.dw, t.w_count, false);
        assert_memory_equal(two.dw, again.dw, two.dw_bytes);
        free_results(&again);
        free_results(&one);
        free_results(&two);
        free_tensors(&t);
    }
}

static void test_f32(void **unused)
{
    (void)unused;
    test_against_direct(false);
}

static void test_bf16(void **unused)
{
    (void)unused;
    test_against_direct(true);
}

/* Threads that find no tile to work on add nothing. */
static void test_more_threads_than_tiles(void **unused)
{
    (void)unused;
    const struct problem p = {4, 4, 16, 32, 3};
    struct tensors t;
    struct results r;
    make_tensors(&p, false, true, &t);
    convolve(&p, &t, false, 8, 1, &r);
    compare(&p, "forward", r.y, t.y, t.y_count, false);
    compare(&p, "backward data", r.dx, t.dx, t.x_count, false);
    compare(&p, "backward weights", r.dw, t.dw, t.w_count, false);
    free_results(&r);
    free_tensors(&t);
}

/* A diverged network must show: one infinity or NaN in the input makes a NaN in the output. */
/* Blocks that all threads share, and of different sizes (93, 93 and 94 tiles): the second's inputs lie where the
 * first's products were. */
static void test_uneven_blocks(void **unused)
{
    const struct problem p = {.height = 8, .width = 8, .inputs = 256, .outputs = 256, .images = 70};
    struct tensors t;
    struct results one, two;
    (void)unused;
    make_tensors(&p, false, false, &t);
    convolve(&p, &t, false, 1, p.images, &one);
    for (int i = 0; i < 5; i++) {
        convolve(&p, &t, false, 2, p.images, &two);
        assert_memory_equal(one.y, two.y, one.y_bytes);
        assert_memory_equal(one.dx, two.dx, one.dx_bytes);
        free_results(&two);
    }
    free_results(&one);
    free_tensors(&t);
}

static void test_not_finite(void **unused)
{
    (void)unused;
    const struct problem p = {8, 8, 16, 16, 1};
    struct tensors t;
    struct results r;
    make_tensors(&p, true, true, &t);
    t.x[at(&p, p.inputs, 0, 3, 5, 5)] = INFINITY;
    convolve(&p, &t, true, 1, 1, &r);
    for (int channel = 0; channel < p.outputs; channel++)
        assert_false(isfinite((double)from_bf16(((uint16_t *)r.y)[at(&p, p.outputs, 0, channel, 5, 5)])));
    free_results(&r);
    free_tensors(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),
        cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_more_threads_than_tiles),
        cmocka_unit_test(test_uneven_blocks),
        cmocka_unit_test(test_not_finite),
    };
    if (!rdp_winograd_supported()) {
        printf("skipped: this processor has no AVX-512\n");
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
