/*
 * Operations that know where an element lies: augmentation into the first convolution's plain (N,3,32,32) input, the
 * padded shortcut, and the global average pool. All are small next to the convolutions.
 */
#include <string.h>

#include "kernels/common/augment.h"
#include "kernels/cpu/cpu.h"

enum { SIDE = 32, CHANNELS = 3, PIXELS = SIDE * SIDE };

static inline uint16_t to_bf16(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    bits += 0x7fff + ((bits >> 16) & 1); /* round to nearest even, as vector_body.h */
    return (uint16_t)(bits >> 16);
}

static inline float load_element(const void *data, size_t i, bool bf16)
{
    if (!bf16)
        return ((const float *)data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static inline void store_element(void *data, size_t i, bool bf16, float value)
{
    if (bf16)
        ((uint16_t *)data)[i] = to_bf16(value);
    else
        ((float *)data)[i] = value;
}

/* Pixel value -> normalised activation, 256 entries a channel. */
struct normalise_table {
    float value[CHANNELS][256];
};

static void fill_table(const struct rdp_augment *augment, struct normalise_table *table)
{
    for (int c = 0; c < CHANNELS; c++)
        for (int v = 0; v < 256; v++)
            table->value[c][v] = rdp_augment_normalise(augment, c, v);
}

/* One image: from (32,32,3) u8 to three planes; a zero-padded pixel is 0 before normalisation, as torchvision pads
 * bytes. */
static void augment_one(const struct rdp_augment *augment, const struct normalise_table *table, uint32_t epoch,
                        int64_t sample, const uint8_t *image, void *out, bool bf16)
{
    struct rdp_augment_draw draw = rdp_augment_draw_for(augment, epoch, sample);
    int columns[SIDE];
    for (int x = 0; x < SIDE; x++)
        columns[x] = rdp_augment_source((draw.flip ? SIDE - 1 - x : x) + draw.dx, SIDE, augment->crop);
    for (int y = 0; y < SIDE; y++) {
        int row = rdp_augment_source(y + draw.dy, SIDE, augment->crop);
        for (int x = 0; x < SIDE; x++) {
            const uint8_t *pixel = row < 0 || columns[x] < 0 ? NULL : image + (row * SIDE + columns[x]) * CHANNELS;
            for (int c = 0; c < CHANNELS; c++)
                store_element(out, (size_t)(c * PIXELS + y * SIDE + x), bf16,
                              table->value[c][pixel == NULL ? 0 : pixel[c]]);
        }
    }
}

int cpu_augment(struct rdp_device *device, const struct rdp_augment *augment, const struct rdp_step_values *values,
                const uint8_t *images, const int64_t *rows, const int64_t *samples, void *out, int first, int count)
{
    const bool bf16 = cpu_is_bf16(device);
    const size_t bytes = cpu_image_bytes(device, (struct rdp_shape){CHANNELS, SIDE, SIDE}, true);
    struct normalise_table table;
    fill_table(augment, &table);
#pragma omp parallel for schedule(static)
    for (int i = first; i < first + count; i++)
        augment_one(augment, &table, values->epoch, samples[i], images + (size_t)rows[i] * PIXELS * CHANNELS,
                    (char *)out + (size_t)i * bytes, bf16);
    return RDP_OK;
}

/* Element of channel c at (y, x) of an image in blocked form. */
static inline size_t blocked_index(struct rdp_shape shape, int lanes, int c, int y, int x)
{
    return (((size_t)(c / lanes) * (size_t)shape.height + (size_t)y) * (size_t)shape.width + (size_t)x) *
               (size_t)lanes +
           (size_t)(c % lanes);
}

int cpu_pad_forward(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *x, void *y,
                    int first, int count)
{
    const size_t x_bytes = cpu_image_bytes(device, input, false), y_bytes = cpu_image_bytes(device, output, false);
    const int lanes = cpu_state(device)->lanes, stride = input.height / output.height;
    const int before =
        (output.channels - input.channels) / 2; /* half of the new channels in front, as He et al.'s code */
    const bool bf16 = cpu_is_bf16(device);
#pragma omp parallel for schedule(static)
    for (int n = first; n < first + count; n++) {
        const char *from = (const char *)x + (size_t)n * x_bytes;
        char *to = (char *)y + (size_t)n * y_bytes;
        memset(to, 0, y_bytes);
        for (int c = 0; c < input.channels; c++)
            for (int h = 0; h < output.height; h++)
                for (int w = 0; w < output.width; w++)
                    store_element(to, blocked_index(output, lanes, c + before, h, w), bf16,
                                  load_element(from, blocked_index(input, lanes, c, h * stride, w * stride), bf16));
    }
    return RDP_OK;
}

int cpu_pad_backward(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *dy,
                     void *dx, int first, int count)
{
    const size_t x_bytes = cpu_image_bytes(device, input, false), y_bytes = cpu_image_bytes(device, output, false);
    const int lanes = cpu_state(device)->lanes, stride = input.height / output.height;
    const int before = (output.channels - input.channels) / 2;
    const bool bf16 = cpu_is_bf16(device);
#pragma omp parallel for schedule(static)
    for (int n = first; n < first + count; n++) {
        const char *from = (const char *)dy + (size_t)n * y_bytes;
        char *to = (char *)dx + (size_t)n * x_bytes;
        memset(to, 0, x_bytes);
        for (int c = 0; c < input.channels; c++)
            for (int h = 0; h < output.height; h++)
                for (int w = 0; w < output.width; w++)
                    store_element(to, blocked_index(input, lanes, c, h * stride, w * stride), bf16,
                                  load_element(from, blocked_index(output, lanes, c + before, h, w), bf16));
    }
    return RDP_OK;
}

int cpu_pool_forward(struct rdp_device *device, struct rdp_shape shape, const void *x, float *features, int first,
                     int count)
{
    const size_t bytes = cpu_image_bytes(device, shape, false);
    const int lanes = cpu_state(device)->lanes, pixels = shape.height * shape.width;
    const bool bf16 = cpu_is_bf16(device);
#pragma omp parallel for schedule(static)
    for (int n = first; n < first + count; n++) {
        const char *image = (const char *)x + (size_t)n * bytes;
        for (int c = 0; c < shape.channels; c++) {
            size_t start = (size_t)(c / lanes) * (size_t)pixels * (size_t)lanes + (size_t)(c % lanes);
            float sum = 0;
            for (int p = 0; p < pixels; p++)
                sum += load_element(image, start + (size_t)p * (size_t)lanes, bf16);
            features[(size_t)n * (size_t)shape.channels + (size_t)c] = sum / (float)pixels;
        }
    }
    return RDP_OK;
}

int cpu_pool_backward(struct rdp_device *device, struct rdp_shape shape, const float *dfeatures, void *dx, int first,
                      int count)
{
    const size_t bytes = cpu_image_bytes(device, shape, false);
    const int lanes = cpu_state(device)->lanes, pixels = shape.height * shape.width;
    const int padded = cpu_blocks(device, shape.channels) * lanes;
    const bool bf16 = cpu_is_bf16(device);
#pragma omp parallel for schedule(static)
    for (int n = first; n < first + count; n++) {
        char *image = (char *)dx + (size_t)n * bytes;
        for (int c = 0; c < padded; c++) {
            size_t start = (size_t)(c / lanes) * (size_t)pixels * (size_t)lanes + (size_t)(c % lanes);
            float share =
                c < shape.channels ? dfeatures[(size_t)n * (size_t)shape.channels + (size_t)c] / (float)pixels : 0;
            for (int p = 0; p < pixels; p++)
                store_element(image, start + (size_t)p * (size_t)lanes, bf16, share);
        }
    }
    return RDP_OK;
}
