/* `resnet-dp augment`: the cells of the sheet are, to the grey level, the images and what training would make of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/status.h"
#include "commands.h"
#include "io/dataset.h"
#include "io/image.h"
#include "kernels/common/augment.h"
#include "kernels/cpu/cpu.h"
#include "support_io.h"

enum { IMAGES = 5, SIDE = 32, ENLARGED = 3, BORDER = 2, PITCH = SIDE * ENLARGED + BORDER };

static uint8_t images[IMAGES][RDP_IMAGE_BYTES];
static struct rdp_dataset_info info;

static int make_data(void **state)
{
    struct rdp_dataset_content content = {.count = {IMAGES, IMAGES}, .classes = 2, .class_names = {"one", "two"}};
    static const uint8_t labels[IMAGES] = {0, 1, 0, 1, 0};
    struct rdp_dataset *dataset;
    if (rdp_test_directory_make(state) != 0)
        return 1;
    for (int i = 0; i < IMAGES; i++) /* all grey levels, smooth enough for rotations to leave colours */
        for (int p = 0; p < RDP_IMAGE_BYTES; p++)
            images[i][p] = (uint8_t)(p % 3 * 85 + p / 12 + 11 * i + (p % 96) * (i + 1));
    for (int split = 0; split < 2; split++) {
        content.images[split] = images[0];
        content.labels[split] = labels;
    }
    if (rdp_dataset_write(rdp_test_path("data.h5"), &content) != RDP_OK ||
        rdp_dataset_open(&dataset, rdp_test_path("data.h5")) != RDP_OK)
        return 1;
    info = *rdp_dataset_info(dataset);
    rdp_dataset_close(dataset);
    return 0;
}

/* All samples, four epochs, no augmentation. */
static struct rdp_options settings(void)
{
    struct rdp_options options;
    rdp_options_default(&options);
    snprintf(options.data, sizeof options.data, "%s", rdp_test_path("data.h5"));
    snprintf(options.out, sizeof options.out, "%s", rdp_test_path("sheet.png"));
    options.samples = IMAGES;
    options.variants = 4;
    options.crop = RDP_CROP_NONE;
    options.flip = RDP_FLIP_MODE_NONE;
    return options;
}

static struct rdp_image sheet_of(const struct rdp_options *options)
{
    struct rdp_image sheet;
    assert_int_equal(rdp_cmd_augment(options), RDP_OK);
    assert_int_equal(rdp_image_read(&sheet, options->out), RDP_OK);
    assert_int_equal(sheet.width, (options->variants + 1) * PITCH + BORDER);
    assert_int_equal(sheet.height, options->samples * PITCH + BORDER);
    return sheet;
}

/* One cell as (32,32,3), every pixel of which must fill its square; the border around it must be white. */
static void take_cell(const struct rdp_image *sheet, int row, int column, uint8_t *cell)
{
    for (int y = -BORDER; y < SIDE * ENLARGED + BORDER; y++)
        for (int x = -BORDER; x < SIDE * ENLARGED + BORDER; x++)
            for (int c = 0; c < 3; c++) {
                const int at_y = BORDER + row * PITCH + y, at_x = BORDER + column * PITCH + x;
                const uint8_t value = sheet->pixels[(at_y * sheet->width + at_x) * 3 + c];
                const bool inside = y >= 0 && x >= 0 && y < SIDE * ENLARGED && x < SIDE * ENLARGED;
                uint8_t *pixel = inside ? &cell[(y / ENLARGED * SIDE + x / ENLARGED) * 3 + c] : NULL;
                if (inside && y % ENLARGED == 0 && x % ENLARGED == 0)
                    *pixel = value;
                assert_int_equal(value, inside ? *pixel : 255);
            }
}

static void test_images(void **state)
{
    static const char *const normalisations[] = {"dataset", "legacy", "0.1,0.5,0.9/1,0.01,0.3"};
    struct rdp_options options = settings();
    uint8_t cell[RDP_IMAGE_BYTES];
    (void)state;
    for (int n = 0; n < 3; n++) {
        snprintf(options.normalisation, sizeof options.normalisation, "%s", normalisations[n]);
        struct rdp_image sheet = sheet_of(&options);
        for (int row = 0; row < IMAGES; row++)
            for (int column = 0; column <= options.variants; column++) {
                take_cell(&sheet, row, column, cell);
                assert_memory_equal(cell, images[row], sizeof cell);
            }
        rdp_image_free(&sheet);
    }
}

/* Column k is epoch k - 1 of this seed, of sample = row. */
static void test_epochs(void **state)
{
    struct rdp_options options = settings();
    uint8_t cell[RDP_IMAGE_BYTES], want[RDP_IMAGE_BYTES];
    int turned[2] = {0};
    (void)state;
    options.crop = RDP_CROP_ZERO;
    options.flip = RDP_FLIP_MODE_ALTERNATING;
    options.rotation_min = -20;
    options.rotation_max = 20;
    options.rotation_interpolation = RDP_INTERPOLATE_BILINEAR;
    options.jitter_brightness = options.jitter_contrast = options.jitter_saturation = 0.3;
    options.jitter_hue = 0.05;
    for (options.seed = 1; options.seed <= 2; options.seed++) {
        const struct rdp_augment augment = rdp_session_augment(&options, info.mean, info.std);
        struct rdp_image sheet = sheet_of(&options);
        for (int row = 0; row < IMAGES; row++) {
            take_cell(&sheet, row, 0, cell);
            assert_memory_equal(cell, images[row], sizeof cell);
            for (int epoch = 0; epoch < options.variants; epoch++) {
                struct rdp_augment_plan plan;
                rdp_augment_plan_for(&augment, (uint32_t)epoch, row, &plan);
                cpu_augment_bytes(&augment, &plan, images[row], want);
                take_cell(&sheet, row, epoch + 1, cell);
                assert_memory_equal(cell, want, sizeof cell);
                turned[plan.draw.flip]++;
            }
        }
        rdp_image_free(&sheet);
    }
    assert_int_equal(turned[0], turned[1]); /* every other epoch, of an even number */
}

static void test_erased_colours(void **state)
{
    struct rdp_options options = settings();
    uint8_t cell[RDP_IMAGE_BYTES];
    (void)state;
    options.cutout = 64; /* the whole image, or nearly: the centre always */
    for (int black = 0; black < 2; black++) {
        options.erase_fill = black ? RDP_FILL_BLACK : RDP_FILL_MEAN;
        struct rdp_image sheet = sheet_of(&options);
        take_cell(&sheet, 1, 2, cell);
        for (int c = 0; c < 3; c++)
            assert_int_equal(cell[(16 * SIDE + 16) * 3 + c], black ? 0 : (int)(info.mean[c] * 255.0f + 0.5f));
        rdp_image_free(&sheet);
    }
}

static void test_refusals(void **state)
{
    struct rdp_options options = settings();
    (void)state;
    snprintf(options.out, sizeof options.out, "%s", rdp_test_path("other.png"));
    options.samples = IMAGES + 1;
    rdp_test_expect(rdp_cmd_augment(&options), RDP_EUSAGE, "has only 5 training images");
    options.samples = IMAGES;
    snprintf(options.data, sizeof options.data, "%s", rdp_test_path("nowhere.h5"));
    rdp_test_expect(rdp_cmd_augment(&options), RDP_EUSAGE, "No such file");
    assert_int_not_equal(access(options.out, F_OK), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_images),
        cmocka_unit_test(test_epochs),
        cmocka_unit_test(test_erased_colours),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, make_data, rdp_test_directory_remove);
}
