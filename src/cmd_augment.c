/*
 * `resnet-dp augment`: a contact sheet of augmentation. A row for each of the first training images: the image itself,
 * then what training with these options and this seed makes of it in epochs 0, 1, ... The augment operation of the CPU
 * device makes them, and its output is turned back into bytes, exactly: a grey level is 1/255 before normalisation, far
 * above f32's rounding.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "commands.h"
#include "io/dataset.h"
#include "io/image.h"

enum {
    SIDE = RDP_IMAGE_SIZE,
    ENLARGED = 3,                     /* pixels of the sheet per pixel and direction */
    BORDER = 2,                       /* white, between cells and around them */
    PITCH = SIDE * ENLARGED + BORDER, /* from one cell to the next */
    PLANE = SIDE * SIDE
};

struct sheet {
    const struct rdp_options *options;
    struct rdp_augment augment;
    struct rdp_device *device;
    uint8_t *images;    /* (samples,32,32,3) */
    int64_t *rows;      /* 0 .. samples - 1: the same in the data set, where no image is left out */
    float *activations; /* (samples,3,32,32), as the CPU device's augment operation writes them in f32 */
    struct rdp_image picture;
};

static int read_images(struct sheet *sheet)
{
    const struct rdp_options *options = sheet->options;
    struct rdp_dataset *dataset;
    RDP_TRY(rdp_dataset_open(&dataset, options->data));
    struct rdp_dataset_info info = *rdp_dataset_info(dataset);
    int status = rdp_options_normalisation(options, info.mean, info.std);
    sheet->augment = rdp_session_augment(options, info.mean, info.std);
    if (status == RDP_OK && options->samples > info.count[RDP_SPLIT_TRAIN])
        status = rdp_fail(RDP_EUSAGE, "--samples %d: %s has only %lld training images", options->samples, options->data,
                          (long long)info.count[RDP_SPLIT_TRAIN]);
    if (status == RDP_OK)
        status = rdp_dataset_read(dataset, RDP_SPLIT_TRAIN, 0, options->samples, sheet->images, NULL);
    rdp_dataset_close(dataset);
    return status;
}

static int prepare(struct sheet *sheet)
{
    const struct rdp_options *options = sheet->options;
    const size_t samples = (size_t)options->samples;
    const struct rdp_device_config config = {.threads = 1, .plan_cache = ""};
    RDP_TRY(rdp_calloc((void **)&sheet->images, samples, RDP_IMAGE_BYTES, "images"));
    RDP_TRY(rdp_calloc((void **)&sheet->rows, samples, sizeof *sheet->rows, "images"));
    RDP_TRY(rdp_calloc((void **)&sheet->activations, samples * RDP_IMAGE_BYTES, sizeof(float), "images"));
    for (size_t i = 0; i < samples; i++)
        sheet->rows[i] = (int64_t)i;
    RDP_TRY(read_images(sheet));
    sheet->picture.width = (options->variants + 1) * PITCH + BORDER;
    sheet->picture.height = options->samples * PITCH + BORDER;
    const size_t bytes = (size_t)sheet->picture.width * (size_t)sheet->picture.height * 3;
    RDP_TRY(rdp_calloc((void **)&sheet->picture.pixels, bytes, 1, "the contact sheet"));
    memset(sheet->picture.pixels, 255, bytes);
    return rdp_cpu_device_open(&sheet->device, &config);
}

static uint8_t byte_of(const struct rdp_augment *augment, int c, float activation)
{
    const float byte = rintf((activation * augment->std[c] + augment->mean[c]) * 255.0f);
    return (uint8_t)(byte < 0 ? 0 : byte > 255 ? 255 : byte);
}

static void draw_cell(struct sheet *sheet, int row, int column)
{
    const float *planes = sheet->activations + (size_t)row * RDP_IMAGE_BYTES;
    const int top = BORDER + row * PITCH, left = BORDER + column * PITCH;
    for (int y = 0; y < SIDE * ENLARGED; y++) {
        uint8_t *to = sheet->picture.pixels + 3 * ((size_t)(top + y) * (size_t)sheet->picture.width + (size_t)left);
        for (int x = 0; x < SIDE * ENLARGED; x++)
            for (int c = 0; c < 3; c++)
                *to++ = byte_of(&sheet->augment, c, planes[c * PLANE + y / ENLARGED * SIDE + x / ENLARGED]);
    }
}

static int draw_column(struct sheet *sheet, int column)
{
    const struct rdp_step_values values = {.epoch = column > 0 ? (uint32_t)column - 1 : 0};
    struct rdp_augment augment = sheet->augment;
    augment.enabled = column > 0;
    RDP_TRY(sheet->device->ops->augment(sheet->device, &augment, &values, sheet->images, sheet->rows, sheet->rows,
                                        sheet->activations, 0, sheet->options->samples));
    for (int row = 0; row < sheet->options->samples; row++)
        draw_cell(sheet, row, column);
    return RDP_OK;
}

int rdp_cmd_augment(const struct rdp_options *options)
{
    struct sheet sheet = {.options = options};
    int status = prepare(&sheet);
    for (int column = 0; status == RDP_OK && column <= options->variants; column++)
        status = draw_column(&sheet, column);
    if (status == RDP_OK)
        status = rdp_image_write_png(options->out, &sheet.picture);
    if (status == RDP_OK)
        rdp_say("%s: %d x %d pixels; a row per training image, first the image itself, then epochs 1 to %d\n",
                options->out, sheet.picture.width, sheet.picture.height, options->variants);
    rdp_device_close(sheet.device);
    rdp_image_free(&sheet.picture);
    free(sheet.activations);
    free(sheet.rows);
    free(sheet.images);
    return status;
}
