/*
 * Operations that know where an element lies: the padded shortcut, the max-pool and the global average pool. All are
 * small next to the convolutions.
 */
#include <string.h>

#include "kernels/cpu/cpu.h"

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
        ((uint16_t *)data)[i] = cpu_to_bf16(value);
    else
        ((float *)data)[i] = value;
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

/* Bytes of one channel block of an image. */
static size_t block_bytes(struct rdp_device *device, struct rdp_shape shape)
{
    return cpu_image_bytes(device, shape, false) / (size_t)cpu_blocks(device, shape.channels);
}

int cpu_max_pool_forward(struct rdp_device *device, struct rdp_shape input, const void *x, void *y, int first,
                         int count)
{
    const struct rdp_vector_ops *loops = cpu_state(device)->loops;
    const int blocks = cpu_blocks(device, input.channels);
    const size_t x_bytes = block_bytes(device, input),
                 y_bytes = block_bytes(device, rdp_shape_strided(input, input.channels, 2));
#pragma omp parallel for schedule(static)
    for (int i = first * blocks; i < (first + count) * blocks; i++)
        loops->max_pool((const char *)x + (size_t)i * x_bytes, input.height, input.width,
                        (char *)y + (size_t)i * y_bytes);
    return RDP_OK;
}

int cpu_max_pool_backward(struct rdp_device *device, struct rdp_shape input, const void *x, const void *dy, void *dx,
                          int first, int count)
{
    const struct rdp_vector_ops *loops = cpu_state(device)->loops;
    const int blocks = cpu_blocks(device, input.channels);
    const size_t x_bytes = block_bytes(device, input),
                 y_bytes = block_bytes(device, rdp_shape_strided(input, input.channels, 2));
#pragma omp parallel for schedule(static)
    for (int i = first * blocks; i < (first + count) * blocks; i++)
        loops->max_pool_backward((const char *)x + (size_t)i * x_bytes, (const char *)dy + (size_t)i * y_bytes,
                                 input.height, input.width, (char *)dx + (size_t)i * x_bytes);
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
