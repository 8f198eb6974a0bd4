/*
 * What augmentation draws: that every kind has the distribution it should have, that none changes what the others draw,
 * and that alternating flips alternate. Erasing's rectangles against torchvision's own (tests/reference/augment.ref).
 * The numbers are fixed by the seeds, so a statistical test passes always or never.
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

#include "base/status.h"
#include "kernels/common/augment.h"
#include "support_reference.h"

enum { SAMPLES = 40000, EPOCH = 3, BINS = 40 };

static struct rdp_augment everything(void)
{
    return (struct rdp_augment){.crop = RDP_PAD_REFLECT,
                                .padding = 4,
                                .flip = RDP_FLIP_RANDOM,
                                .rotation_min = -15,
                                .rotation_max = 30,
                                .brightness = 0.5f,
                                .contrast = 0.25f,
                                .saturation = 1,
                                .hue = 0.125f,
                                .erase_probability = 0.3f,
                                .erase_scale = {0.02f, 0.33f},
                                .erase_ratio = {0.3f, 3.3f},
                                .cutout = 8,
                                .seed = 7,
                                .enabled = true};
}

/* Chi-square of counts that should be equal, against its 99.9 % point (Wilson and Hilferty's approximation). */
static void check_uniform(const char *what, const int *counts, int bins)
{
    double total = 0, chi = 0;
    for (int i = 0; i < bins; i++)
        total += counts[i];
    for (int i = 0; i < bins; i++)
        chi += pow(counts[i] - total / bins, 2) / (total / bins);
    const double freedom = bins - 1, part = 2 / (9 * freedom);
    const double limit = freedom * pow(1 - part + 3.09 * sqrt(part), 3);
    print_message("%s: chi-square %.1f of %.0f degrees of freedom\n", what, chi, freedom);
    if (!(chi < limit))
        fail_msg("%s: chi-square %.1f, limit %.1f", what, chi, limit);
}

static int bin_of(double value, double least, double most)
{
    assert_true(value >= least - 1e-5 && value <= most + 1e-5);
    const int bin = (int)((value - least) / (most - least) * BINS);
    return bin < 0 ? 0 : bin >= BINS ? BINS - 1 : bin;
}

/* Recorded before there was anything but crop and random flip: whoever changes these changes every run. */
static void test_crop_and_flip_stay(void **unused)
{
    static const int recorded[][3] = {
        {4, 0, 1},  {3, 4, 0}, {1, 0, 0},  {1, 2, 1},  {-2, -2, 1}, {-4, 2, 0},
        {1, -4, 0}, {4, 4, 1}, {4, -2, 1}, {-3, 3, 0}, {-2, 0, 0},  {-3, -1, 1},
    };
    const struct rdp_augment all = everything();
    struct rdp_augment plain = {
        .crop = RDP_PAD_REFLECT, .padding = 4, .flip = RDP_FLIP_RANDOM, .seed = 7, .enabled = true};
    (void)unused;
    for (int64_t s = 0; s < (int64_t)(sizeof recorded / sizeof *recorded); s++) {
        struct rdp_augment_plan plan;
        const struct rdp_augment_draw draw = rdp_augment_draw_for(&plain, EPOCH, s);
        assert_true(draw.dy == recorded[s][0] && draw.dx == recorded[s][1] && draw.flip == recorded[s][2]);
        rdp_augment_plan_for(&all, EPOCH, s, &plan);
        assert_memory_equal(&draw, &plan.draw, sizeof draw);
    }
}

/* One kind alone draws what it draws among all. */
static void test_kinds_do_not_mix(void **unused)
{
    const struct rdp_augment all = everything();
    struct rdp_augment turn = {.rotation_min = -15, .rotation_max = 30, .seed = 7, .enabled = true};
    struct rdp_augment contrast = {.contrast = 0.25f, .seed = 7, .enabled = true};
    struct rdp_augment cut = {.cutout = 8, .seed = 7, .enabled = true};
    struct rdp_augment erase = all;
    erase.rotation_max = erase.rotation_min = erase.brightness = erase.contrast = erase.saturation = erase.hue = 0;
    erase.cutout = 0;
    (void)unused;
    for (int64_t s = 0; s < 200; s++) {
        struct rdp_augment_plan together, alone;
        rdp_augment_plan_for(&all, EPOCH, s, &together);
        rdp_augment_plan_for(&turn, EPOCH, s, &alone);
        assert_true(alone.cosine == together.cosine && alone.sine == together.sine);
        rdp_augment_plan_for(&contrast, EPOCH, s, &alone);
        assert_true(alone.jitters == 1 && alone.order[0] == RDP_CONTRAST);
        assert_true(alone.factor[RDP_CONTRAST] == together.factor[RDP_CONTRAST]);
        rdp_augment_plan_for(&cut, EPOCH, s, &alone);
        assert_memory_equal(&alone.cut, &together.cut, sizeof alone.cut);
        rdp_augment_plan_for(&erase, EPOCH, s, &alone);
        assert_memory_equal(&alone.erased, &together.erased, sizeof alone.erased);
        assert_true(!alone.rotates && alone.jitters == 0);
    }
}

static void test_angles(void **unused)
{
    struct rdp_augment augment = everything();
    int counts[BINS] = {0};
    struct rdp_augment_plan plan;
    (void)unused;
    for (int64_t s = 0; s < SAMPLES; s++) {
        rdp_augment_plan_for(&augment, EPOCH, s, &plan);
        counts[bin_of(atan2((double)plan.sine, (double)plan.cosine) * (180 / 3.14159265358979323846), -15, 30)]++;
    }
    check_uniform("angle", counts, BINS);
    augment.rotation_max = augment.rotation_min = 90; /* a range of one angle */
    rdp_augment_plan_for(&augment, EPOCH, 1, &plan);
    assert_true(plan.rotates && plan.cosine == 0 && plan.sine == 1);
}

static void test_jitters(void **unused)
{
    static const char *const names[] = {"brightness", "contrast", "saturation", "hue"};
    const struct rdp_augment augment = everything();
    const double range[] = {0.5, 0.25, 1, 0.125};
    int counts[RDP_JITTERS][BINS] = {{0}}, orders[256] = {0}, pairs[BINS] = {0}, permutations[24], found = 0;
    (void)unused;
    for (int64_t s = 0; s < SAMPLES; s++) {
        struct rdp_augment_plan plan;
        rdp_augment_plan_for(&augment, EPOCH, s, &plan);
        assert_int_equal(plan.jitters, RDP_JITTERS);
        for (int k = 0, seen = 0; k < RDP_JITTERS; k++) {
            const double centre = k == RDP_HUE ? 0 : 1;
            counts[k][bin_of((double)plan.factor[k], centre - range[k], centre + range[k])]++;
            seen |= 1 << plan.order[k];
            assert_true(k < RDP_JITTERS - 1 || seen == 15);
        }
        orders[plan.order[0] * 64 + plan.order[1] * 16 + plan.order[2] * 4 + plan.order[3]]++;
        /* Were two factors alike, their difference would be. */
        const double difference = (double)(plan.factor[0] - 1) / 0.5 - (double)(plan.factor[1] - 1) / 0.25;
        pairs[bin_of(difference - 2 * floor(difference / 2), 0, 2)]++;
    }
    for (int k = 0; k < RDP_JITTERS; k++)
        check_uniform(names[k], counts[k], BINS);
    check_uniform("two factors", pairs, BINS);
    for (int i = 0; i < 256; i++)
        if (orders[i] > 0 && found < 24)
            permutations[found++] = orders[i];
    assert_int_equal(found, 24);
    check_uniform("order", permutations, 24);
}

static void test_alternating(void **unused)
{
    struct rdp_augment augment = everything();
    int first[2] = {0}, same_as_other_seed = 0;
    (void)unused;
    augment.flip = RDP_FLIP_ALTERNATING;
    struct rdp_augment other = augment;
    other.seed++;
    for (int64_t s = 0; s < SAMPLES; s++) {
        const int flip = rdp_augment_draw_for(&augment, 0, s).flip;
        first[flip]++;
        same_as_other_seed += rdp_augment_draw_for(&other, 0, s).flip == flip;
        for (uint32_t epoch = 1; epoch < 6; epoch++)
            assert_int_equal(rdp_augment_draw_for(&augment, epoch, s).flip, (int)(flip ^ (epoch & 1)));
    }
    check_uniform("flips of the first epoch", first, 2);
    assert_true(abs(same_as_other_seed - SAMPLES / 2) < 330); /* 3.3 standard deviations */
}

static void test_cutout(void **unused)
{
    struct rdp_augment augment = everything();
    static int rows[32], columns[32], cells[32 * 32];
    (void)unused;
    for (int side = 1; side <= 64; side += 7)
        for (int64_t s = 0; s < SAMPLES / 10; s++) {
            augment.cutout = side;
            const struct rdp_augment_box box = rdp_augment_cutout_for(&augment, EPOCH, s);
            assert_true(box.y0 >= 0 && box.y1 <= 32 && box.y1 > box.y0 && box.y1 - box.y0 <= side);
            assert_true(box.x0 >= 0 && box.x1 <= 32 && box.x1 > box.x0 && box.x1 - box.x0 <= side);
            assert_true(box.y1 - box.y0 == side || box.y0 == 0 || box.y1 == 32);
        }
    augment.cutout = 8;
    for (int64_t s = 0; s < SAMPLES; s++) {
        const struct rdp_augment_box box = rdp_augment_cutout_for(&augment, EPOCH, s);
        const int y = box.y0 > 0 ? box.y0 + 4 : box.y1 - 4, x = box.x0 > 0 ? box.x0 + 4 : box.x1 - 4;
        rows[y]++;
        columns[x]++;
        cells[32 * y + x]++;
    }
    check_uniform("rows of cutout's centre", rows, 32);
    check_uniform("columns of cutout's centre", columns, 32);
    check_uniform("cutout's centre", cells, 32 * 32);
}

/* How often, and what rectangles: means and deviations as those of 200,000 draws of torchvision's, within 4.5 standard
 * errors of the difference (of a deviation: taken as those of a mean, which are larger for these distributions). */
static void test_erasing(void **unused)
{
    enum { HEIGHT, WIDTH, TOP, LEFT, AREA, LOG_RATIO, MOMENTS, DRAWS = 200000 };
    static const char *const names[] = {"height", "width", "top", "left", "area", "log ratio"};
    struct rdp_augment augment = everything();
    double sum[MOMENTS] = {0}, squares[MOMENTS] = {0};
    int erased = 0, fitted = 0;
    struct rdp_reference reference;
    char path[4096];
    size_t count;
    (void)unused;
    for (int64_t s = 0; s < SAMPLES; s++) {
        const struct rdp_augment_box box = rdp_augment_erase_for(&augment, EPOCH, s);
        erased += box.y1 > box.y0;
    }
    print_message("erased: %d of %d, probability %.2f\n", erased, SAMPLES, (double)augment.erase_probability);
    assert_true(abs(erased - (int)(0.3 * SAMPLES)) < 303); /* 3.3 standard deviations */
    snprintf(path, sizeof path, "%s/tests/reference/augment.ref", getenv("SOURCE_DIR") ? getenv("SOURCE_DIR") : ".");
    assert_int_equal(rdp_reference_read(path, &reference), RDP_OK);
    const float *expected = rdp_reference_array(&reference, "erase/moments", &count);
    assert_true(expected != NULL && count == 1 + 2 * MOMENTS);
    augment.erase_probability = 1;
    augment.erase_scale[0] = 0.05f;
    augment.erase_scale[1] = 0.95f;
    augment.erase_ratio[0] = 0.25f;
    augment.erase_ratio[1] = 3.5f;
    for (int64_t s = 0; s < DRAWS; s++) {
        const struct rdp_augment_box box = rdp_augment_erase_for(&augment, EPOCH, s);
        const double height = box.y1 - box.y0, width = box.x1 - box.x0;
        const double values[] = {height, width, box.y0, box.x0, height * width, log(height / width)};
        if (height == 0)
            continue;
        assert_true(height < 32 && width < 32 && box.y0 >= 0 && box.x0 >= 0 && box.y1 <= 32 && box.x1 <= 32);
        fitted++;
        for (int m = 0; m < MOMENTS; m++) {
            sum[m] += values[m];
            squares[m] += values[m] * values[m];
        }
    }
    print_message("nothing fits: %.5f, torchvision %.5f\n", 1 - (double)fitted / DRAWS, (double)expected[0]);
    assert_true(fabs(1 - (double)fitted / DRAWS - (double)expected[0]) <
                4.5 * sqrt(2 * (double)expected[0] / DRAWS) + 1e-5);
    for (int m = 0; m < MOMENTS; m++) {
        const double mean = sum[m] / fitted, deviation = sqrt(squares[m] / fitted - mean * mean);
        const double want = (double)expected[1 + m], want_deviation = (double)expected[1 + MOMENTS + m];
        const double error = 4.5 * want_deviation * sqrt(2.0 / DRAWS);
        print_message("%s: %.4f +- %.4f, torchvision %.4f +- %.4f\n", names[m], mean, deviation, want, want_deviation);
        assert_true(fabs(mean - want) < error && fabs(deviation - want_deviation) < error);
    }
    rdp_reference_free(&reference);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crop_and_flip_stay),
        cmocka_unit_test(test_kinds_do_not_mix),
        cmocka_unit_test(test_angles),
        cmocka_unit_test(test_jitters),
        cmocka_unit_test(test_alternating),
        cmocka_unit_test(test_cutout),
        cmocka_unit_test(test_erasing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
