/*
 * What rotation and colour jitter do to a pixel, as torchvision.transforms.v2.functional (0.29; _geometry.py and
 * _color.py) does it to uint8 tensors: the same f32 operations in the same order and with the same roundings, and bytes
 * between one augmentation and the next. All devices get the same bytes.
 */
#ifndef RDP_KERNELS_COMMON_AUGMENT_PIXEL_H
#define RDP_KERNELS_COMMON_AUGMENT_PIXEL_H

#include "kernels/common/augment.h"

RDP_DEVICE_FUNCTION float rdp_pixel_product_sum(float a, float b, float c, float d)
{
    const float left = rdp_augment_product(a, b), right = rdp_augment_product(c, d);
    return left + right;
}

/* To the nearest integer, halves to the even one, |value| < 2^22: what is below 1 falls out of a sum of that size. */
RDP_DEVICE_FUNCTION float rdp_pixel_round(float value)
{
    const float large = 12582912.0f; /* 1.5 x 2^23 */
    return (value + large) - large;
}

RDP_DEVICE_FUNCTION int rdp_pixel_floor(float value)
{
    const int truncated = (int)value;
    return truncated - (value < (float)truncated);
}

/* ---- rotation: rotate_image with _affine_grid and grid_sample(padding_mode="zeros", align_corners=False) ---- */

/* Adds `weight` of the pixel at (y, x) of an image (32,32,3) to `sum` and its weight to `inside`, if there is one. */
RDP_DEVICE_FUNCTION void rdp_pixel_gather(const uint8_t *image, int y, int x, float weight,
                                          float sum[RDP_AUGMENT_COLOURS], float *inside)
{
    if (y < 0 || y >= RDP_AUGMENT_SIDE || x < 0 || x >= RDP_AUGMENT_SIDE)
        return;
    const uint8_t *pixel = image + (y * RDP_AUGMENT_SIDE + x) * RDP_AUGMENT_COLOURS;
    for (int c = 0; c < RDP_AUGMENT_COLOURS; c++) {
        const float share = rdp_augment_product(weight, (float)pixel[c]);
        sum[c] += share;
    }
    *inside += weight;
}

/*
 * Pixel (y, x) of the image turned about its centre. What comes from outside is black. Bilinear: the weight that lies
 * inside counts twice at the border, once in the sum and once as the mask with which RandomRotation(fill=0) blends.
 */
RDP_DEVICE_FUNCTION void rdp_pixel_rotate(const uint8_t *image, float cosine, float sine,
                                          enum rdp_kernel_interpolation interpolation, int y, int x,
                                          int rgb[RDP_AUGMENT_COLOURS])
{
    const float half = RDP_AUGMENT_SIDE / 2.0f, across = (float)x - half + 0.5f, down = (float)y - half + 0.5f;
    /* In units of half the image, then back to pixels, as grid_sample takes them. */
    const float grid_x = rdp_pixel_product_sum(across, cosine / half, down, -sine / half);
    const float grid_y = rdp_pixel_product_sum(across, sine / half, down, cosine / half);
    const float from_x = rdp_augment_product(grid_x + 1.0f, half) - 0.5f;
    const float from_y = rdp_augment_product(grid_y + 1.0f, half) - 0.5f;
    float sum[RDP_AUGMENT_COLOURS] = {0.0f, 0.0f, 0.0f}, inside = 0.0f;
    if (interpolation == RDP_NEAREST) {
        rdp_pixel_gather(image, (int)rdp_pixel_round(from_y), (int)rdp_pixel_round(from_x), 1.0f, sum, &inside);
    } else {
        const int left = rdp_pixel_floor(from_x), top = rdp_pixel_floor(from_y);
        const float w = from_x - (float)left, e = 1.0f - w, n = from_y - (float)top, s = 1.0f - n;
        rdp_pixel_gather(image, top, left, rdp_augment_product(s, e), sum, &inside);
        rdp_pixel_gather(image, top, left + 1, rdp_augment_product(s, w), sum, &inside);
        rdp_pixel_gather(image, top + 1, left, rdp_augment_product(n, e), sum, &inside);
        rdp_pixel_gather(image, top + 1, left + 1, rdp_augment_product(n, w), sum, &inside);
    }
    for (int c = 0; c < RDP_AUGMENT_COLOURS; c++)
        rgb[c] = (int)rdp_pixel_round(rdp_augment_product(sum[c], inside));
}

/* ---- colour jitter ---- */

RDP_DEVICE_FUNCTION int rdp_pixel_clamp(float value)
{
    const float above = value > 0.0f ? value : 0.0f;
    return (int)(above < 255.0f ? above : 255.0f);
}

/* floor(0.2989 R + 0.587 G + 0.114 B), exactly: the sums of greys are whole numbers and need no order. */
RDP_DEVICE_FUNCTION int rdp_pixel_grey(const int rgb[RDP_AUGMENT_COLOURS])
{
    return (int)((2989u * (uint32_t)rgb[0] + 5870u * (uint32_t)rgb[1] + 1140u * (uint32_t)rgb[2]) / 10000u);
}

/* a x b + c with one rounding, as PyTorch's add_(other, alpha=...) has it on CPUs with FMA and on GPUs. On the host in
 * f64, where the product is exact; without FMA instructions fmaf() would be a call that takes far longer. */
RDP_DEVICE_FUNCTION float rdp_pixel_multiply_add(float a, float b, float c)
{
#ifdef __CUDA_ARCH__
    return __fmaf_rn(a, b, c);
#else
    return (float)((double)a * (double)b + (double)c);
#endif
}

/* _blend */
RDP_DEVICE_FUNCTION int rdp_pixel_blend(int value, float other, float factor)
{
    return rdp_pixel_clamp(rdp_pixel_multiply_add(other, 1.0f - factor, rdp_augment_product((float)value, factor)));
}

/* adjust_hue_image: _rgb_to_hsv, the shift, _hsv_to_rgb. */
RDP_DEVICE_FUNCTION void rdp_pixel_hue(float shift, int rgb[RDP_AUGMENT_COLOURS])
{
    const float scale = (float)(1.0 / 255.0), sixth = (float)(1.0 / 6.0);
    const float r = rdp_augment_product((float)rgb[0], scale), g = rdp_augment_product((float)rgb[1], scale);
    const float b = rdp_augment_product((float)rgb[2], scale);
    const float most = r > g ? (r > b ? r : b) : (g > b ? g : b);
    const float least = r < g ? (r < b ? r : b) : (g < b ? g : b);
    const float range = most - least, divisor = range == 0.0f ? 1.0f : range;
    const float saturation = range / (range == 0.0f ? 1.0f : most);
    const float rc = (most - r) / divisor, gc = (most - g) / divisor, bc = (most - b) / divisor;
    float hue = most == r ? bc - gc : most == g ? rc + 2.0f - bc : gc + 4.0f - rc; /* in sixths of the circle */
    hue = rdp_augment_product(hue, sixth) + 1.0f;
    hue = (hue >= 1.0f ? hue - 1.0f : hue) + shift;
    hue = hue < 0.0f ? hue + 1.0f : hue >= 1.0f ? hue - 1.0f : hue;
    const float sixths = rdp_augment_product(hue, 6.0f);
    const int sector = (int)sixths;
    const float along = rdp_augment_product(saturation, sixths - (float)sector), rest = 1.0f - saturation;
    const float p = rdp_augment_product(rest, most), q = rdp_augment_product(1.0f - along, most);
    const float t = rdp_augment_product(along + rest, most);
    const float top = (float)255.999; /* to_dtype_image: 256 equal parts, but for 1 itself */
    const float red = sector == 1 ? q : sector == 2 || sector == 3 ? p : sector == 4 ? t : most;
    const float green = sector == 1 || sector == 2 ? most : sector == 3 ? q : sector == 4 || sector == 5 ? p : t;
    const float blue = sector == 2 ? t : sector == 3 || sector == 4 ? most : sector == 5 ? q : p;
    rgb[0] = rdp_pixel_clamp(rdp_augment_product(red, top));
    rgb[1] = rdp_pixel_clamp(rdp_augment_product(green, top));
    rgb[2] = rdp_pixel_clamp(rdp_augment_product(blue, top));
}

/* One jitter of one pixel; `mean` is the image's mean grey, which contrast needs. */
RDP_DEVICE_FUNCTION void rdp_pixel_jitter(enum rdp_jitter jitter, float factor, float mean,
                                          int rgb[RDP_AUGMENT_COLOURS])
{
    if (jitter == RDP_HUE) {
        rdp_pixel_hue(factor, rgb);
        return;
    }
    const float other = jitter == RDP_BRIGHTNESS ? 0.0f : jitter == RDP_CONTRAST ? mean : (float)rdp_pixel_grey(rgb);
    for (int c = 0; c < RDP_AUGMENT_COLOURS; c++)
        rgb[c] = rdp_pixel_blend(rgb[c], other, factor);
}

#endif
