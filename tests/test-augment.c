/*
 * Augmentation and its randomness: the generator against Random123's own known answers, crop and flip against an
 * independent implementation (pad the image first, then cut), statistics of the draws, and that a sample's result
 * depends on the sample alone.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/common/augment.h"
#include "support_network.h"

enum { EPOCH = 3, SIDE = 32, IMAGE_BYTES = SIDE * SIDE * 3, BATCH = 12, PADDING_MAX = 31 };

/* kat_vectors of Random123: philox4x32 10 rounds. Words of the key are the seed's halves, of the counter (b low, b
 * high, a, purpose). */
static void test_known_answers(void **unused)
{
    static const struct {
        uint64_t seed, b;
        uint32_t a, purpose, words[4];
    } answers[] = {
        {0, 0, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
        {UINT64_MAX, UINT64_MAX, UINT32_MAX, UINT32_MAX, {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
        {0x299f31d0a4093822,
         0x85a308d3243f6a88,
         0x13198a2e,
         0x03707344,
         {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
    };
    (void)unused;
    for (size_t i = 0; i < sizeof answers / sizeof *answers; i++) {
        struct rdp_random random =
            rdp_random_at(answers[i].seed, (enum rdp_random_purpose)answers[i].purpose, answers[i].a, answers[i].b);
        for (int w = 0; w < 4; w++)
            assert_int_equal(random.word[w], answers[i].words[w]);
    }
    assert_int_equal(rdp_random_below(0, 9), 0);
    assert_int_equal(rdp_random_below(UINT32_MAX, 9), 8);
    assert_true(rdp_random_unit(0) == 0 && rdp_random_unit(UINT32_MAX) == 1 - 0x1p-24f);
}

/* The draw decides where; this does it by building the padded image. `out`: (3,32,32). */
static void naive(const struct rdp_augment *augment, int64_t sample, const uint8_t *image, float *out)
{
    static uint8_t padded[SIDE + 2 * PADDING_MAX][SIDE + 2 * PADDING_MAX][3];
    const int pad = augment->enabled && augment->crop != RDP_PAD_NONE ? augment->padding : 0;
    const struct rdp_augment_draw draw = rdp_augment_draw_for(augment, EPOCH, sample);
    memset(padded, 0, sizeof padded);
    for (int y = 0; y < SIDE; y++)
        memcpy(padded[y + pad][pad], image + y * SIDE * 3, SIDE * 3);
    if (augment->crop == RDP_PAD_REFLECT) {
        for (int k = 1; k <= pad; k++) { /* rows of the middle, then whole columns */
            memcpy(padded[pad - k], padded[pad + k], sizeof padded[0]);
            memcpy(padded[pad + SIDE - 1 + k], padded[pad + SIDE - 1 - k], sizeof padded[0]);
        }
        for (int y = 0; y < SIDE + 2 * pad; y++)
            for (int k = 1; k <= pad; k++) {
                memcpy(padded[y][pad - k], padded[y][pad + k], 3);
                memcpy(padded[y][pad + SIDE - 1 + k], padded[y][pad + SIDE - 1 - k], 3);
            }
    }
    assert_true(draw.dy >= -pad && draw.dy <= pad && draw.dx >= -pad && draw.dx <= pad);
    for (int c = 0; c < 3; c++)
        for (int y = 0; y < SIDE; y++)
            for (int x = 0; x < SIDE; x++) {
                const int from = draw.flip ? SIDE - 1 - x : x; /* the crop is flipped as a whole */
                const uint8_t v = padded[y + draw.dy + pad][from + draw.dx + pad][c];
                out[(c * SIDE + y) * SIDE + x] = ((float)v / 255.0f - augment->mean[c]) / augment->std[c];
            }
}

static const struct rdp_step_values values = {.epoch = EPOCH};

static struct rdp_augment settings(enum rdp_kernel_crop crop, int padding, bool flip)
{
    return (struct rdp_augment){.mean = {0.49f, 0.48f, 0.45f},
                                .std = {0.25f, 0.24f, 0.26f},
                                .crop = crop,
                                .padding = padding,
                                .flip = flip ? RDP_FLIP_RANDOM : RDP_FLIP_NONE,
                                .seed = 7,
                                .enabled = true};
}

static uint8_t *make_images(int count)
{
    uint8_t *images = malloc((size_t)count * IMAGE_BYTES);
    assert_non_null(images);
    for (size_t i = 0; i < (size_t)count * IMAGE_BYTES; i++)
        images[i] = (uint8_t)(128 + 128 * rdp_test_value(1, i));
    return images;
}

static void test_against_naive(void **unused)
{
    static const struct {
        enum rdp_kernel_crop crop;
        int padding;
        bool flip, enabled;
    } cases[] = {
        {RDP_PAD_NONE, 4, false, true},    {RDP_PAD_NONE, 4, true, true},     {RDP_PAD_ZERO, 4, false, true},
        {RDP_PAD_ZERO, 4, true, true},     {RDP_PAD_REFLECT, 4, false, true}, {RDP_PAD_REFLECT, 4, true, true},
        {RDP_PAD_REFLECT, 31, true, true}, {RDP_PAD_ZERO, 31, true, true},    {RDP_PAD_REFLECT, 4, true, false},
    };
    const struct rdp_shape shape = {3, SIDE, SIDE};
    uint8_t *images = make_images(BATCH);
    int64_t rows[BATCH], samples[BATCH];
    double *got = rdp_test_doubles(BATCH * IMAGE_BYTES);
    float want[IMAGE_BYTES];
    (void)unused;
    for (int i = 0; i < BATCH; i++) {
        rows[i] = (5 * i) % BATCH;
        samples[i] = 40000 + 977 * i + ((int64_t)i << 33);
    }
    for (int variant = 0; variant < 4; variant++) { /* threads, precision */
        struct rdp_device *device = rdp_test_device(1 + variant % 2, variant / 2, RDP_ALGORITHM_DIRECT);
        if (device == NULL)
            continue;
        for (size_t k = 0; k < sizeof cases / sizeof *cases; k++) {
            struct rdp_augment augment = settings(cases[k].crop, cases[k].padding, cases[k].flip);
            void *out = rdp_test_activations(device, shape, BATCH, true);
            augment.enabled = cases[k].enabled;
            for (int first = BATCH - 4; first >= 0; first -= 4)
                RDP_MUST(device->ops->augment(device, &augment, &values, images, rows, samples, out, first, 4));
            rdp_test_take(device, shape, BATCH, true, out, got);
            for (int i = 0; i < BATCH; i++) {
                naive(&augment, samples[i], images + rows[i] * IMAGE_BYTES, want);
                for (int v = 0; v < IMAGE_BYTES; v++) {
                    double value = (double)want[v];
                    assert_true(got[i * IMAGE_BYTES + v] == (variant / 2 ? rdp_test_to_bf16(value) : value));
                }
            }
            rdp_test_free(out);
        }
        rdp_device_close(device);
    }
    free(got);
    free(images);
}

/* The same sample, in another place of another batch, alone or not: the same bits. */
static void test_batch_independence(void **unused)
{
    const struct rdp_shape shape = {3, SIDE, SIDE};
    const struct rdp_augment augment = settings(RDP_PAD_REFLECT, 4, true);
    struct rdp_augment other = augment;
    struct rdp_device *device = rdp_test_device(2, false, RDP_ALGORITHM_DIRECT);
    uint8_t *images = make_images(BATCH);
    int64_t rows[BATCH], samples[BATCH], row = 5, sample = 1234;
    const size_t bytes = rdp_test_bytes(device, shape, 1, true);
    char *many = rdp_test_activations(device, shape, BATCH, true);
    char *one = rdp_test_activations(device, shape, 1, true), *again = rdp_test_activations(device, shape, 1, true);
    int differences = 0;
    (void)unused;
    for (int i = 0; i < BATCH; i++) {
        rows[i] = i;
        samples[i] = 1229 + i; /* sample 1234 is image 5 */
    }
    RDP_MUST(device->ops->augment(device, &augment, &values, images, rows, samples, many, 0, BATCH));
    RDP_MUST(device->ops->augment(device, &augment, &values, images, &row, &sample, one, 0, 1));
    assert_memory_equal(many + 5 * bytes, one, bytes);
    for (int change = 0; change < 20; change++) { /* other epochs and seeds draw other crops */
        const struct rdp_step_values later = {.epoch = EPOCH + (uint32_t)(change % 2 ? change : 0)};
        other.seed = augment.seed + (uint64_t)(change % 2 ? 0 : change + 1);
        RDP_MUST(device->ops->augment(device, &other, &later, images, &row, &sample, again, 0, 1));
        differences += memcmp(one, again, bytes) != 0;
    }
    assert_true(differences >= 18); /* each is equal by chance once in 162 */
    rdp_test_free(many);
    rdp_test_free(one);
    rdp_test_free(again);
    free(images);
    rdp_device_close(device);
}

/* Offsets and flips of 20,000 samples are uniform and independent: chi-square of the 9 x 9 x 2 cells and of each alone.
 */
static void test_statistics(void **unused)
{
    enum { SAMPLES = 20000, OFFSETS = 9 };
    const struct rdp_augment augment = settings(RDP_PAD_REFLECT, 4, true);
    int cells[OFFSETS][OFFSETS][2] = {{{0}}}, by_dy[OFFSETS] = {0}, by_dx[OFFSETS] = {0}, flips = 0;
    double all = 0, dy = 0, dx = 0;
    (void)unused;
    for (int64_t s = 0; s < SAMPLES; s++) {
        struct rdp_augment_draw draw = rdp_augment_draw_for(&augment, EPOCH, s);
        cells[draw.dy + 4][draw.dx + 4][draw.flip]++;
        by_dy[draw.dy + 4]++;
        by_dx[draw.dx + 4]++;
        flips += draw.flip;
    }
    const double per_cell = (double)SAMPLES / (OFFSETS * OFFSETS * 2), per_offset = (double)SAMPLES / OFFSETS;
    for (int i = 0; i < OFFSETS; i++) {
        dy += pow(by_dy[i] - per_offset, 2) / per_offset;
        dx += pow(by_dx[i] - per_offset, 2) / per_offset;
        for (int j = 0; j < OFFSETS * 2; j++)
            all += pow(cells[i][j / 2][j % 2] - per_cell, 2) / per_cell;
    }
    print_message("chi-square: cells %.1f of 161 degrees of freedom, dy %.1f and dx %.1f of 8; flips %d of %d\n", all,
                  dy, dx, flips, SAMPLES);
    /* 0.1 % and 99.9 % points. The numbers are fixed by the seed, so this passes always or never. */
    assert_true(all < 223 && all > 112);
    assert_true(dy < 26.1 && dx < 26.1);
    assert_true(abs(flips - SAMPLES / 2) < 233); /* 3.3 standard deviations */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_answers),
        cmocka_unit_test(test_against_naive),
        cmocka_unit_test(test_batch_independence),
        cmocka_unit_test(test_statistics),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
