/*
 * Augmentation of one sample, as both devices compute it: what it gets (struct rdp_augment_plan), a pure function of
 * (seed, epoch, sample). Each kind of augmentation has random numbers of its own (random.h), so that turning one on
 * does not change what the others draw. What is then done to the pixels is augment_pixel.h.
 *
 * The order is crop, flip, rotation, colour jitter, erasing, cutout, normalisation. The distributions are those of
 * torchvision.transforms.v2 (0.29): RandomCrop with padding, RandomHorizontalFlip, RandomRotation, ColorJitter,
 * RandomErasing; alternating flips are Jordan's (2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", section 3.6),
 * cutout is DeVries and Taylor's (2017).
 */
#ifndef RDP_KERNELS_COMMON_AUGMENT_H
#define RDP_KERNELS_COMMON_AUGMENT_H

#include <math.h>

#include "kernels/common/function.h"
#include "kernels/common/random.h"
#include "kernels/kernels.h"

enum {
    RDP_AUGMENT_SIDE = 32,
    RDP_AUGMENT_COLOURS = 3,
    RDP_AUGMENT_PIXELS = RDP_AUGMENT_SIDE * RDP_AUGMENT_SIDE,
    RDP_AUGMENT_BYTES = RDP_AUGMENT_PIXELS * RDP_AUGMENT_COLOURS
};

/* Crop and flip. */
struct rdp_augment_draw {
    int dy, dx; /* source = output + d, before reflection: -padding .. padding */
    int flip;
};

enum rdp_jitter { RDP_BRIGHTNESS, RDP_CONTRAST, RDP_SATURATION, RDP_HUE, RDP_JITTERS };

/* Rows y0 <= y < y1, columns x0 <= x < x1; y0 = y1: empty. */
struct rdp_augment_box {
    int y0, x0, y1, x1;
};

/* All that happens to a sample before normalisation. */
struct rdp_augment_plan {
    struct rdp_augment_draw draw;
    bool rotates;
    float cosine, sine;        /* of the angle, counter-clockwise */
    int jitters;               /* how many of `order` */
    int order[RDP_JITTERS];    /* enum rdp_jitter */
    float factor[RDP_JITTERS]; /* by enum rdp_jitter; hue's is its shift, in circles */
    struct rdp_augment_box erased, cut;
};

RDP_DEVICE_FUNCTION struct rdp_augment_draw rdp_augment_draw_for(const struct rdp_augment *augment, uint32_t epoch,
                                                                 int64_t sample)
{
    struct rdp_augment_draw draw = {0, 0, 0};
    if (!augment->enabled) {
        draw.dy = draw.dx = augment->shift;
        draw.flip = augment->mirror;
        return draw;
    }
    struct rdp_random random = rdp_random_at(augment->seed, RDP_RANDOM_AUGMENT, epoch, (uint64_t)sample);
    if (augment->crop != RDP_PAD_NONE) {
        uint32_t offsets = 2 * (uint32_t)augment->padding + 1;
        draw.dy = (int)rdp_random_below(random.word[0], offsets) - augment->padding;
        draw.dx = (int)rdp_random_below(random.word[1], offsets) - augment->padding;
    }
    if (augment->flip == RDP_FLIP_RANDOM)
        draw.flip = random.word[2] & 1;
    if (augment->flip == RDP_FLIP_ALTERNATING) {
        random = rdp_random_at(augment->seed, RDP_RANDOM_ALTERNATE, 0, (uint64_t)sample);
        draw.flip = (random.word[0] + epoch) & 1;
    }
    return draw;
}

/* Coordinate of the source pixel in 0 .. size-1, or -1 for a zero-padded one. The reflection is torchvision's
 * padding_mode="reflect": the edge pixel is not repeated. */
RDP_DEVICE_FUNCTION int rdp_augment_source(int position, int size, enum rdp_kernel_crop crop)
{
    if (position >= 0 && position < size)
        return position;
    if (crop != RDP_PAD_REFLECT)
        return -1;
    return position < 0 ? -position : 2 * (size - 1) - position;
}

RDP_DEVICE_FUNCTION bool rdp_augment_rotates(const struct rdp_augment *augment)
{
    return augment->enabled && (augment->rotation_min != 0 || augment->rotation_max != 0);
}

RDP_DEVICE_FUNCTION bool rdp_augment_jitters(const struct rdp_augment *augment)
{
    return augment->enabled &&
           (augment->brightness > 0 || augment->contrast > 0 || augment->saturation > 0 || augment->hue > 0);
}

RDP_DEVICE_FUNCTION bool rdp_augment_erases(const struct rdp_augment *augment)
{
    return augment->enabled && (augment->erase_probability > 0 || augment->cutout > 0);
}

/* Whether pixels are only moved: crop and flip are all there is. */
RDP_DEVICE_FUNCTION bool rdp_augment_only_moves(const struct rdp_augment *augment)
{
    return !rdp_augment_rotates(augment) && !rdp_augment_jitters(augment) && !rdp_augment_erases(augment);
}

/* A product that nvcc does not merge with a sum into one operation with one rounding (compilers of ISO C do not,
 * across functions), so that devices agree to the bit. */
RDP_DEVICE_FUNCTION float rdp_augment_product(float a, float b)
{
#ifdef __CUDA_ARCH__
    return __fmul_rn(a, b);
#else
    return a * b;
#endif
}

/* Uniform in [least, most]. */
RDP_DEVICE_FUNCTION float rdp_augment_between(uint32_t word, float least, float most)
{
    const float way = rdp_augment_product(most - least, rdp_random_unit(word));
    return least + way;
}

/*
 * Cosine and sine of an angle from -180 to 180 degrees, rounded to f32 and the same on every device: Taylor's series in
 * f64 within 45 degrees of a right angle (the first term left out is below 4e-13). Right angles are exact, so that they
 * move every pixel onto another.
 */
RDP_DEVICE_FUNCTION void rdp_augment_turn(float degrees, float *cosine, float *sine)
{
    const int quarters = (int)((degrees < 0 ? degrees - 45.0f : degrees + 45.0f) / 90.0f);
    const double x = ((double)degrees - 90.0 * quarters) * (3.14159265358979323846 / 180.0), xx = x * x;
    const double s = x * (1 - xx / 6 * (1 - xx / 20 * (1 - xx / 42 * (1 - xx / 72 * (1 - xx / 110 * (1 - xx / 156))))));
    const double c = 1 - xx / 2 * (1 - xx / 12 * (1 - xx / 30 * (1 - xx / 56 * (1 - xx / 90 * (1 - xx / 132)))));
    const float near = (float)(quarters & 1 ? s : c), far = (float)(quarters & 1 ? c : s);
    *cosine = ((quarters + 1) & 2) != 0 ? -near : near;
    *sine = (quarters & 2) != 0 ? -far : far;
}

/* The jitters that are on, in an order drawn from all 24 (so that it does not depend on which are on), with factors. */
RDP_DEVICE_FUNCTION void rdp_augment_plan_jitter(const struct rdp_augment *augment, uint32_t epoch, int64_t sample,
                                                 struct rdp_augment_plan *plan)
{
    const struct rdp_random random = rdp_random_at(augment->seed, RDP_RANDOM_JITTER, epoch, (uint64_t)sample);
    const struct rdp_random shuffle = rdp_random_at(augment->seed, RDP_RANDOM_JITTER_ORDER, epoch, (uint64_t)sample);
    const float range[RDP_JITTERS] = {augment->brightness, augment->contrast, augment->saturation, augment->hue};
    uint32_t permutation = rdp_random_below(shuffle.word[0], 24), left = 0x3210; /* a jitter in every 4 bits */
    plan->jitters = 0;
    for (int k = 0; k < RDP_JITTERS; k++) {
        const float centre = k == RDP_HUE ? 0.0f : 1.0f;
        plan->factor[k] = rdp_augment_between(random.word[k], centre - range[k], centre + range[k]);
    }
    for (uint32_t k = RDP_JITTERS; k > 0; k--) {
        const uint32_t at = 4 * (permutation % k), jitter = (left >> at) & 15, below = (1u << at) - 1;
        permutation /= k;
        left = (left & below) | ((left >> 4) & ~below);
        if ((jitter == RDP_BRIGHTNESS   ? augment->brightness
             : jitter == RDP_CONTRAST   ? augment->contrast
             : jitter == RDP_SATURATION ? augment->saturation
                                        : augment->hue) > 0)
            plan->order[plan->jitters++] = (int)jitter;
    }
}

/* RandomErasing: up to ten draws of a rectangle until one is smaller than the image in height and width; if none is,
 * nothing is erased. In f64, whose exp and log differ too little between devices for the size in pixels to do so. */
RDP_DEVICE_FUNCTION struct rdp_augment_box rdp_augment_erase_for(const struct rdp_augment *augment, uint32_t epoch,
                                                                 int64_t sample)
{
    struct rdp_augment_box box = {0, 0, 0, 0};
    struct rdp_random random = rdp_random_at(augment->seed, RDP_RANDOM_ERASE, epoch, (uint64_t)sample);
    if (!(rdp_random_unit(random.word[0]) < augment->erase_probability))
        return box;
    const double least = log((double)augment->erase_ratio[0]), most = log((double)augment->erase_ratio[1]);
    for (int t = 1; t <= RDP_ERASE_TRIES; t++) {
        random = rdp_random_at(augment->seed, (enum rdp_random_purpose)(RDP_RANDOM_ERASE + t), epoch, (uint64_t)sample);
        const double area = RDP_AUGMENT_PIXELS * (double)rdp_augment_between(random.word[0], augment->erase_scale[0],
                                                                             augment->erase_scale[1]);
        const double ratio = exp(least + (most - least) * (double)rdp_random_unit(random.word[1]));
        const double height = rint(sqrt(area * ratio)), width = rint(sqrt(area / ratio));
        if (height >= RDP_AUGMENT_SIDE || width >= RDP_AUGMENT_SIDE)
            continue;
        box.y0 = (int)rdp_random_below(random.word[2], (uint32_t)(RDP_AUGMENT_SIDE - (int)height + 1));
        box.x0 = (int)rdp_random_below(random.word[3], (uint32_t)(RDP_AUGMENT_SIDE - (int)width + 1));
        box.y1 = box.y0 + (int)height;
        box.x1 = box.x0 + (int)width;
        return box;
    }
    return box;
}

/* A square of augment->cutout pixels around a pixel that is drawn from all; where it leaves the image, it is smaller.
 */
RDP_DEVICE_FUNCTION struct rdp_augment_box rdp_augment_cutout_for(const struct rdp_augment *augment, uint32_t epoch,
                                                                  int64_t sample)
{
    const struct rdp_random random = rdp_random_at(augment->seed, RDP_RANDOM_CUTOUT, epoch, (uint64_t)sample);
    const int y = (int)rdp_random_below(random.word[0], RDP_AUGMENT_SIDE) - augment->cutout / 2;
    const int x = (int)rdp_random_below(random.word[1], RDP_AUGMENT_SIDE) - augment->cutout / 2;
    const int bottom = y + augment->cutout, right = x + augment->cutout;
    struct rdp_augment_box box;
    box.y0 = y < 0 ? 0 : y;
    box.x0 = x < 0 ? 0 : x;
    box.y1 = bottom > RDP_AUGMENT_SIDE ? RDP_AUGMENT_SIDE : bottom;
    box.x1 = right > RDP_AUGMENT_SIDE ? RDP_AUGMENT_SIDE : right;
    return box;
}

RDP_DEVICE_FUNCTION void rdp_augment_plan_for(const struct rdp_augment *augment, uint32_t epoch, int64_t sample,
                                              struct rdp_augment_plan *plan)
{
    const struct rdp_augment_box empty = {0, 0, 0, 0};
    plan->draw = rdp_augment_draw_for(augment, epoch, sample);
    plan->rotates = rdp_augment_rotates(augment);
    plan->jitters = 0;
    plan->erased = plan->cut = empty;
    if (plan->rotates) {
        const struct rdp_random random = rdp_random_at(augment->seed, RDP_RANDOM_ROTATE, epoch, (uint64_t)sample);
        rdp_augment_turn(rdp_augment_between(random.word[0], augment->rotation_min, augment->rotation_max),
                         &plan->cosine, &plan->sine);
    }
    if (rdp_augment_jitters(augment))
        rdp_augment_plan_jitter(augment, epoch, sample, plan);
    if (augment->enabled && augment->erase_probability > 0)
        plan->erased = rdp_augment_erase_for(augment, epoch, sample);
    if (augment->enabled && augment->cutout > 0)
        plan->cut = rdp_augment_cutout_for(augment, epoch, sample);
}

RDP_DEVICE_FUNCTION bool rdp_augment_box_has(const struct rdp_augment_box *box, int y, int x)
{
    return y >= box->y0 && y < box->y1 && x >= box->x0 && x < box->x1;
}

/* Byte -> normalised activation of colour channel c. */
RDP_DEVICE_FUNCTION float rdp_augment_normalise(const struct rdp_augment *augment, int c, int byte)
{
    return ((float)byte / 255.0f - augment->mean[c]) / augment->std[c];
}

/* What an erased pixel is, normalised. */
RDP_DEVICE_FUNCTION float rdp_augment_fill(const struct rdp_augment *augment, int c)
{
    return augment->erase_mean ? 0.0f : rdp_augment_normalise(augment, c, 0);
}

#endif
