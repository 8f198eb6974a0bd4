/*
 * Dropout's mask, as both devices compute it: inverted dropout (Srivastava et al. 2014, in the form of
 * torch.nn.Dropout): what is kept is scaled up, so that the expectation stays.
 *
 * Element (c, y, x) of an image is dropped or kept by 16 random bits. Eight elements share one call of Philox: channels
 * 8 i .. 8 i + 7 of one pixel, which lie side by side in either device's layout. The call's counter is made of the
 * step, the layer, the sample and the group's number ((c / 8) x height + y) x width + x, so the mask depends on nothing
 * else: not on the layout, the rank or the chunk, and backward computes it once more instead of keeping it.
 */
#ifndef RDP_KERNELS_COMMON_DROPOUT_H
#define RDP_KERNELS_COMMON_DROPOUT_H

#include "kernels/common/function.h"
#include "kernels/common/random.h"
#include "kernels/kernels.h"

enum { RDP_DROPOUT_GROUP = 8 /* elements of one call of Philox */, RDP_DROPOUT_GROUP_BITS = 28 };

/* Random bits below it drop an element: the probability in units of 2^-16, so that at least one in 65,536 is kept. */
RDP_DEVICE_FUNCTION uint32_t rdp_dropout_threshold(float probability)
{
    const uint32_t threshold = (uint32_t)(probability * 65536.0f + 0.5f);
    return threshold < 65535 ? threshold : 65535;
}

/* 1 / (1 - p) with the p that the threshold makes of the probability. */
RDP_DEVICE_FUNCTION float rdp_dropout_scale(uint32_t threshold)
{
    return 65536.0f / (float)(65536 - threshold);
}

/* The bits of a group. Groups are below 2^28, layers below 2^4, samples below 2^32. */
RDP_DEVICE_FUNCTION struct rdp_random rdp_dropout_draw(uint64_t seed, uint32_t layer, uint32_t step, int64_t sample,
                                                       uint32_t group)
{
    const uint64_t high = (uint64_t)(layer << RDP_DROPOUT_GROUP_BITS | group);
    return rdp_random_at(seed, RDP_RANDOM_DROPOUT, step, high << 32 | (uint32_t)sample);
}

/* Element i of the group: 16 bits. */
RDP_DEVICE_FUNCTION uint32_t rdp_dropout_bits(const struct rdp_random *random, int i)
{
    return random->word[i / 2] >> 16 * (i % 2) & 0xffff;
}

#endif
