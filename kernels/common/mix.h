/*
 * Mix-up (Zhang et al. 2018) and CutMix (Yun et al. 2019) of an image with its partner, as both devices compute them: a
 * pixel becomes weight x own + (1 - weight) x other. What the weights are is drawn by src/mixing.c.
 */
#ifndef RDP_KERNELS_COMMON_MIX_H
#define RDP_KERNELS_COMMON_MIX_H

#include <stdbool.h>

#include "kernels/common/function.h"
#include "kernels/kernels.h"

/* Of an image's own pixel (y, x): 0 inside of the box. */
RDP_DEVICE_FUNCTION float rdp_mix_weight(const struct rdp_step_values *values, int y, int x)
{
    const int32_t *box = values->mix_box;
    const bool inside = y >= box[0] && y < box[2] && x >= box[1] && x < box[3];
    return inside ? 0.0f : values->mix_pixels;
}

RDP_DEVICE_FUNCTION float rdp_mix(float weight, float own, float other)
{
    return weight * own + (1.0f - weight) * other;
}

#endif
