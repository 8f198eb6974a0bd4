/*
 * Augmentation of one sample, as both devices compute it: which crop offset and flip it gets, and which source pixel an
 * output pixel takes. The reflection is torchvision's padding_mode="reflect": the edge pixel is not repeated.
 */
#ifndef RDP_KERNELS_COMMON_AUGMENT_H
#define RDP_KERNELS_COMMON_AUGMENT_H

#include "kernels/common/function.h"
#include "kernels/common/random.h"
#include "kernels/kernels.h"

struct rdp_augment_draw {
    int dy, dx; /* source = output + d, before reflection: -padding .. padding */
    int flip;
};

RDP_DEVICE_FUNCTION struct rdp_augment_draw rdp_augment_draw_for(const struct rdp_augment *augment, uint32_t epoch,
                                                                 int64_t sample)
{
    struct rdp_augment_draw draw = {0, 0, 0};
    if (!augment->enabled) {
        draw.flip = augment->mirror;
        return draw;
    }
    struct rdp_random random = rdp_random_at(augment->seed, RDP_RANDOM_AUGMENT, epoch, (uint64_t)sample);
    if (augment->crop != RDP_PAD_NONE) {
        uint32_t offsets = 2 * (uint32_t)augment->padding + 1;
        draw.dy = (int)rdp_random_below(random.word[0], offsets) - augment->padding;
        draw.dx = (int)rdp_random_below(random.word[1], offsets) - augment->padding;
    }
    draw.flip = augment->flip && (random.word[2] & 1);
    return draw;
}

/* Coordinate of the source pixel in 0 .. size-1, or -1 for a zero-padded one. */
RDP_DEVICE_FUNCTION int rdp_augment_source(int position, int size, enum rdp_kernel_crop crop)
{
    if (position >= 0 && position < size)
        return position;
    if (crop != RDP_PAD_REFLECT)
        return -1;
    return position < 0 ? -position : 2 * (size - 1) - position;
}

/* Byte -> normalised activation of colour channel c. */
RDP_DEVICE_FUNCTION float rdp_augment_normalise(const struct rdp_augment *augment, int c, int byte)
{
    return ((float)byte / 255.0f - augment->mean[c]) / augment->std[c];
}

#endif
