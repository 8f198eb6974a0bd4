/*
 * Augmentation of one sample, as both devices compute it: which crop offset and flip it gets, and which source pixel an
 * output pixel takes. The reflection is torchvision's padding_mode="reflect": the edge pixel is not repeated.
 */
#ifndef RDP_KERNELS_COMMON_AUGMENT_H
#define RDP_KERNELS_COMMON_AUGMENT_H

#include "kernels/common/random.h"
#include "kernels/kernels.h"

struct rdp_augment_draw {
    int dy, dx; /* source = output + d, before reflection: -padding .. padding */
    int flip;
};

static inline struct rdp_augment_draw rdp_augment_draw_for(const struct rdp_augment *augment, int64_t sample)
{
    struct rdp_augment_draw draw = {0, 0, 0};
    if (!augment->enabled)
        return draw;
    struct rdp_random random = rdp_random_at(augment->seed, RDP_RANDOM_AUGMENT, augment->epoch, (uint64_t)sample);
    if (augment->crop != RDP_PAD_NONE) {
        uint32_t offsets = 2 * (uint32_t)augment->padding + 1;
        draw.dy = (int)rdp_random_below(random.word[0], offsets) - augment->padding;
        draw.dx = (int)rdp_random_below(random.word[1], offsets) - augment->padding;
    }
    draw.flip = augment->flip && (random.word[2] & 1);
    return draw;
}

/* Coordinate of the source pixel in 0 .. size-1, or -1 for a zero-padded one. */
static inline int rdp_augment_source(int position, int size, enum rdp_kernel_crop crop)
{
    if (position >= 0 && position < size)
        return position;
    if (crop != RDP_PAD_REFLECT)
        return -1;
    return position < 0 ? -position : 2 * (size - 1) - position;
}

#endif
