/*
 * What augmentation does to pixels, against torchvision (tests/reference/augment.ref): rotation by nine angles, each
 * jitter alone, all four in all 24 orders, and crop, flip, rotation and jitter in a row. Every byte within one grey
 * level; how many differ at all is printed. Erasing, cutout, their colours and the order of all of it against plain
 * loops.
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
#include "kernels/common/augment_pixel.h"
#include "kernels/cpu/cpu.h"
#include "support_network.h"
#include "support_reference.h"

enum { PIXELS = RDP_AUGMENT_PIXELS, BYTES = RDP_AUGMENT_BYTES, SIDE = RDP_AUGMENT_SIDE, IMAGES = 3 };

static struct rdp_reference reference;
static uint8_t images[IMAGES][BYTES];

static void unpack(const float *packed, uint8_t *bytes)
{
    for (int p = 0; p < PIXELS; p++)
        for (int c = 0; c < 3; c++)
            bytes[3 * p + c] = (uint8_t)((uint32_t)packed[p] >> (8 * c));
}

static int read_reference(void **unused)
{
    char path[4096];
    size_t count;
    const char *source = getenv("SOURCE_DIR");
    (void)unused;
    snprintf(path, sizeof path, "%s/tests/reference/augment.ref", source != NULL ? source : ".");
    if (rdp_reference_read(path, &reference) != RDP_OK) {
        rdp_fail_print();
        return 1;
    }
    const float *packed = rdp_reference_array(&reference, "images", &count);
    if (packed == NULL || count != IMAGES * PIXELS)
        return 1;
    for (int i = 0; i < IMAGES; i++)
        unpack(packed + i * PIXELS, images[i]);
    return 0;
}

static int free_reference(void **unused)
{
    (void)unused;
    rdp_reference_free(&reference);
    return 0;
}

/* Runs every case of a group: `read` turns a row of parameters into the plan and returns the image's number. */
static void check_group(const char *group,
                        int (*read)(const float *row, struct rdp_augment *, struct rdp_augment_plan *))
{
    char name[64];
    size_t count;
    int64_t differ = 0, all = 0;
    snprintf(name, sizeof name, "%s/parameters", group);
    const struct rdp_reference_entry *parameters = rdp_reference_find(&reference, name);
    snprintf(name, sizeof name, "%s/results", group);
    const float *results = rdp_reference_array(&reference, name, &count);
    assert_non_null(parameters);
    assert_true(count == (size_t)parameters->dims[0] * PIXELS);
    for (int64_t k = 0; k < parameters->dims[0]; k++) {
        struct rdp_augment augment = {.enabled = true};
        struct rdp_augment_plan plan = {.jitters = 0};
        uint8_t got[BYTES], want[BYTES];
        const int image = read(parameters->values + k * parameters->dims[1], &augment, &plan);
        cpu_augment_bytes(&augment, &plan, images[image], got);
        unpack(results + k * PIXELS, want);
        for (int i = 0; i < BYTES; i++, all++) {
            differ += got[i] != want[i];
            if (abs(got[i] - want[i]) > 1)
                fail_msg("%s %d, row %d, column %d, colour %d: %d, torchvision has %d", group, (int)k, i / 3 / SIDE,
                         i / 3 % SIDE, i % 3, got[i], want[i]);
        }
    }
    print_message("%s: %lld of %lld bytes differ from torchvision's, by 1\n", group, (long long)differ, (long long)all);
    assert_true(differ * 1000 < all); /* found: none */
}

static int read_rotation(const float *row, struct rdp_augment *augment, struct rdp_augment_plan *plan)
{
    plan->rotates = true;
    rdp_augment_turn(row[1], &plan->cosine, &plan->sine);
    augment->interpolation = row[2] != 0 ? RDP_BILINEAR : RDP_NEAREST;
    return (int)row[0];
}

static void read_jitters(const float *order, const float *factors, struct rdp_augment_plan *plan)
{
    for (int k = 0; k < RDP_JITTERS; k++) {
        if (order[k] >= 0)
            plan->order[plan->jitters++] = (int)order[k];
        plan->factor[k] = factors[k];
    }
}

static int read_jitter(const float *row, struct rdp_augment *augment, struct rdp_augment_plan *plan)
{
    (void)augment;
    read_jitters(row + 1, row + 5, plan);
    return (int)row[0];
}

static int read_chain(const float *row, struct rdp_augment *augment, struct rdp_augment_plan *plan)
{
    const float turn[] = {row[0], row[5], row[6]};
    plan->draw.dy = (int)row[1];
    plan->draw.dx = (int)row[2];
    augment->crop = row[3] != 0 ? RDP_PAD_REFLECT : RDP_PAD_ZERO;
    plan->draw.flip = (int)row[4];
    read_jitters(row + 7, row + 11, plan);
    return read_rotation(turn, augment, plan);
}

static void test_rotations(void **unused)
{
    (void)unused;
    check_group("rotate", read_rotation);
}

static void test_jitters(void **unused)
{
    (void)unused;
    check_group("jitter", read_jitter);
}

static void test_chains(void **unused)
{
    (void)unused;
    check_group("chain", read_chain);
}

/* Cosines and sines are the library's, and right angles are exact. */
static void test_turns(void **unused)
{
    float cosine, sine;
    (void)unused;
    for (int k = -1440; k <= 1440; k++) {
        const float degrees = (float)k / 8;
        rdp_augment_turn(degrees, &cosine, &sine);
        const double radians = (double)degrees * (3.14159265358979323846 / 180);
        if (k % 720 != 0) {
            assert_true(cosine == (float)cos(radians) && sine == (float)sin(radians));
            continue;
        }
        assert_true(cosine == (k == 0 ? 1 : k % 1440 == 0 ? -1 : 0));
        assert_true(sine == (k == 720 ? 1 : k == -720 ? -1 : 0));
    }
}

/* Everything on, through the device: the plan's bytes, then the boxes in their colour, normalised; in any batch. */
static void test_whole_operation(void **unused)
{
    enum { COUNT = 60 };
    const struct rdp_shape shape = {3, SIDE, SIDE};
    const struct rdp_step_values values = {.epoch = 5};
    struct rdp_augment augment = {.mean = {0.49f, 0.48f, 0.45f},
                                  .std = {0.25f, 0.24f, 0.26f},
                                  .crop = RDP_PAD_ZERO,
                                  .padding = 4,
                                  .flip = RDP_FLIP_RANDOM,
                                  .rotation_min = -15,
                                  .rotation_max = 15,
                                  .interpolation = RDP_BILINEAR,
                                  .brightness = 0.4f,
                                  .contrast = 0.4f,
                                  .saturation = 0.4f,
                                  .hue = 0.1f,
                                  .erase_probability = 0.5f,
                                  .erase_scale = {0.02f, 0.33f},
                                  .erase_ratio = {0.3f, 3.3f},
                                  .cutout = 8,
                                  .seed = 3,
                                  .enabled = true};
    int64_t rows[COUNT], samples[COUNT];
    double *got = rdp_test_doubles(COUNT * BYTES);
    (void)unused;
    for (int i = 0; i < COUNT; i++) {
        rows[i] = i % IMAGES;
        samples[i] = 7 * i;
    }
    for (int variant = 0; variant < 4; variant++) { /* colour of what is erased, threads */
        struct rdp_device *device = rdp_test_device(1 + variant / 2, false, RDP_ALGORITHM_DIRECT);
        void *out = rdp_test_activations(device, shape, COUNT, true);
        augment.erase_mean = variant % 2;
        for (int first = 0; first < COUNT; first += COUNT / 3)
            RDP_MUST(device->ops->augment(device, &augment, &values, images[0], rows, samples, out, first, COUNT / 3));
        rdp_test_take(device, shape, COUNT, true, out, got);
        for (int i = 0; i < COUNT; i++) {
            struct rdp_augment_plan plan;
            uint8_t bytes[BYTES];
            rdp_augment_plan_for(&augment, values.epoch, samples[i], &plan);
            cpu_augment_bytes(&augment, &plan, images[rows[i]], bytes);
            for (int v = 0; v < BYTES; v++) {
                const int c = v / PIXELS, y = v % PIXELS / SIDE, x = v % SIDE;
                const bool erased =
                    (y >= plan.erased.y0 && y < plan.erased.y1 && x >= plan.erased.x0 && x < plan.erased.x1) ||
                    (y >= plan.cut.y0 && y < plan.cut.y1 && x >= plan.cut.x0 && x < plan.cut.x1);
                const float byte = erased ? 0 : (float)bytes[(y * SIDE + x) * 3 + c];
                const float want =
                    erased && augment.erase_mean ? 0 : (byte / 255.0f - augment.mean[c]) / augment.std[c];
                assert_true(got[i * BYTES + v] == (double)want);
            }
        }
        rdp_test_free(out);
        rdp_device_close(device);
    }
    free(got);
}

/* What evaluation asks for: nothing but normalisation, and the mirror image where it is asked for. */
static void test_evaluation(void **unused)
{
    struct rdp_augment augment = {.crop = RDP_PAD_REFLECT,
                                  .padding = 4,
                                  .flip = RDP_FLIP_RANDOM,
                                  .rotation_max = 90,
                                  .brightness = 1,
                                  .erase_probability = 1,
                                  .erase_scale = {0.1f, 0.2f},
                                  .erase_ratio = {1, 1},
                                  .cutout = 16};
    struct rdp_augment_plan plan;
    uint8_t bytes[BYTES];
    (void)unused;
    for (int mirror = 0; mirror < 2; mirror++)
        for (int64_t sample = 0; sample < 20; sample++) {
            augment.mirror = mirror;
            rdp_augment_plan_for(&augment, 1, sample, &plan);
            cpu_augment_bytes(&augment, &plan, images[0], bytes);
            assert_true(plan.erased.y0 == plan.erased.y1 && plan.cut.y0 == plan.cut.y1);
            for (int v = 0; v < BYTES; v++) {
                const int x = v / 3 % SIDE, from = mirror ? SIDE - 1 - x : x;
                assert_int_equal(bytes[v], images[0][v + 3 * (from - x)]);
            }
        }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns),  cmocka_unit_test(test_rotations),       cmocka_unit_test(test_jitters),
        cmocka_unit_test(test_chains), cmocka_unit_test(test_whole_operation), cmocka_unit_test(test_evaluation),
    };
    return cmocka_run_group_tests(tests, read_reference, free_reference);
}
