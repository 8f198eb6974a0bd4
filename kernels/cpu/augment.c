/*
 * Augmentation on the CPU: bytes of the resident shard to the first convolution's plain input (N,3,32,32), an image at
 * a time on a thread's stack. What a sample gets and what is done to a pixel is kernels/common/augment.h and
 * augment_pixel.h, which the CUDA kernel runs too; here is the way through the image. Crop and flip move bytes,
 * normalisation looks them up in a table of their 256 values; all else is done between the two.
 */
#include <string.h>

#include "kernels/common/augment_pixel.h"
#include "kernels/cpu/cpu.h"

enum { SIDE = RDP_AUGMENT_SIDE, COLOURS = RDP_AUGMENT_COLOURS, PIXELS = RDP_AUGMENT_PIXELS };

/* Byte -> normalised activation, in the device's type; [ERASED]: of what is erased. */
enum { ERASED = 256 };
union normalise_table {
    float f32[COLOURS][ERASED + 1];
    uint16_t bf16[COLOURS][ERASED + 1];
};

static void fill_table(const struct rdp_augment *augment, bool bf16, union normalise_table *table)
{
    for (int c = 0; c < COLOURS; c++)
        for (int v = 0; v <= ERASED; v++) {
            const float value = v == ERASED ? rdp_augment_fill(augment, c) : rdp_augment_normalise(augment, c, v);
            if (bf16)
                table->bf16[c][v] = cpu_to_bf16(value);
            else
                table->f32[c][v] = value;
        }
}

/* A zero-padded pixel is 0 before normalisation, as torchvision pads bytes. */
static void crop_and_flip(const struct rdp_augment_draw *draw, enum rdp_kernel_crop crop, const uint8_t *image,
                          uint8_t *out)
{
    int columns[SIDE];
    for (int x = 0; x < SIDE; x++)
        columns[x] = rdp_augment_source((draw->flip ? SIDE - 1 - x : x) + draw->dx, SIDE, crop) * COLOURS;
    for (int y = 0; y < SIDE; y++, out += SIDE * COLOURS) {
        const int row = rdp_augment_source(y + draw->dy, SIDE, crop);
        if (row < 0) {
            memset(out, 0, SIDE * COLOURS);
            continue;
        }
        for (int x = 0; x < SIDE; x++)
            for (int c = 0; c < COLOURS; c++)
                out[x * COLOURS + c] = columns[x] < 0 ? 0 : image[row * SIDE * COLOURS + columns[x] + c];
    }
}

static void rotate(const struct rdp_augment *augment, const struct rdp_augment_plan *plan, const uint8_t *image,
                   uint8_t *out)
{
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++, out += COLOURS) {
            int rgb[COLOURS];
            rdp_pixel_rotate(image, plan->cosine, plan->sine, augment->interpolation, y, x, rgb);
            for (int c = 0; c < COLOURS; c++)
                out[c] = (uint8_t)rgb[c];
        }
}

static float mean_grey(const uint8_t *image)
{
    int sum = 0;
    for (int p = 0; p < PIXELS; p++) {
        const int rgb[COLOURS] = {image[p * COLOURS], image[p * COLOURS + 1], image[p * COLOURS + 2]};
        sum += rdp_pixel_grey(rgb);
    }
    return (float)sum / PIXELS;
}

static void jitter(enum rdp_jitter kind, float factor, uint8_t *image)
{
    const float mean = kind == RDP_CONTRAST ? mean_grey(image) : 0.0f;
    for (int p = 0; p < PIXELS; p++) {
        int rgb[COLOURS] = {image[p * COLOURS], image[p * COLOURS + 1], image[p * COLOURS + 2]};
        rdp_pixel_jitter(kind, factor, mean, rgb);
        for (int c = 0; c < COLOURS; c++)
            image[p * COLOURS + c] = (uint8_t)rgb[c];
    }
}

void cpu_augment_bytes(const struct rdp_augment *augment, const struct rdp_augment_plan *plan, const uint8_t *image,
                       uint8_t *out)
{
    uint8_t cropped[RDP_AUGMENT_BYTES];
    crop_and_flip(&plan->draw, augment->crop, image, plan->rotates ? cropped : out);
    if (plan->rotates)
        rotate(augment, plan, cropped, out);
    for (int k = 0; k < plan->jitters; k++)
        jitter((enum rdp_jitter)plan->order[k], plan->factor[plan->order[k]], out);
}

static void erase(const union normalise_table *table, const struct rdp_augment_box *box, void *out, bool bf16)
{
    for (int c = 0; c < COLOURS; c++)
        for (int y = box->y0; y < box->y1; y++)
            for (int x = box->x0; x < box->x1; x++) {
                const int at = (c * SIDE + y) * SIDE + x;
                if (bf16)
                    ((uint16_t *)out)[at] = table->bf16[c][ERASED];
                else
                    ((float *)out)[at] = table->f32[c][ERASED];
            }
}

/* (32,32,3) bytes to three planes. */
static void normalise(const union normalise_table *table, const uint8_t *bytes, void *out, bool bf16)
{
    if (bf16) {
        uint16_t *plane = out;
        for (int c = 0; c < COLOURS; c++, plane += PIXELS)
            for (int p = 0; p < PIXELS; p++)
                plane[p] = table->bf16[c][bytes[p * COLOURS + c]];
    } else {
        float *plane = out;
        for (int c = 0; c < COLOURS; c++, plane += PIXELS)
            for (int p = 0; p < PIXELS; p++)
                plane[p] = table->f32[c][bytes[p * COLOURS + c]];
    }
}

static void augment_one(const struct rdp_augment *augment, const union normalise_table *table, uint32_t epoch,
                        int64_t sample, const uint8_t *image, void *out, bool bf16)
{
    struct rdp_augment_plan plan;
    uint8_t bytes[RDP_AUGMENT_BYTES];
    rdp_augment_plan_for(augment, epoch, sample, &plan);
    cpu_augment_bytes(augment, &plan, image, bytes);
    normalise(table, bytes, out, bf16);
    erase(table, &plan.erased, out, bf16);
    erase(table, &plan.cut, out, bf16);
}

int cpu_augment(struct rdp_device *device, const struct rdp_augment *augment, const struct rdp_step_values *values,
                const uint8_t *images, const int64_t *rows, const int64_t *samples, void *out, int first, int count)
{
    const bool bf16 = cpu_is_bf16(device);
    const size_t bytes = cpu_image_bytes(device, (struct rdp_shape){COLOURS, SIDE, SIDE}, true);
    union normalise_table table;
    fill_table(augment, bf16, &table);
#pragma omp parallel for schedule(static)
    for (int i = first; i < first + count; i++)
        augment_one(augment, &table, values->epoch, samples[i], images + (size_t)rows[i] * RDP_AUGMENT_BYTES,
                    (char *)out + (size_t)i * bytes, bf16);
    return RDP_OK;
}
