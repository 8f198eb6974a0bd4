/*
 * Randomness as a pure function: Philox4x32-10 (Salmon et al. 2011; the Random123 library) of a key and a counter.
 * Nothing is ever "the next random number", so no result depends on the number of ranks or threads and nothing has to
 * be saved.
 */
#ifndef RDP_KERNELS_COMMON_RANDOM_H
#define RDP_KERNELS_COMMON_RANDOM_H

#include <stdint.h>

#include <Random123/philox.h>

#include "kernels/common/function.h"

/* What the numbers are for: part of the counter, so that uses never share numbers. */
enum rdp_random_purpose {
    RDP_RANDOM_AUGMENT = 1,
    RDP_RANDOM_ORDER = 2,      /* the order of the samples in an epoch */
    RDP_RANDOM_SPLIT = 3,      /* which samples form the validation set */
    RDP_RANDOM_INITIALISE = 4, /* initial weights */
    RDP_RANDOM_DEAL = 5,       /* the one deal of --shuffle local */
    RDP_RANDOM_DROPOUT = 8,    /* what dropout drops */
    RDP_RANDOM_MIX = 9,        /* how a step's images are mixed */
    /* What augmentation draws besides crop and random flip, each for itself: none changes another's numbers. */
    RDP_RANDOM_ALTERNATE = 16, /* whether alternating flips begin with the image or its mirror image */
    RDP_RANDOM_ROTATE = 17,
    RDP_RANDOM_JITTER = 18, /* the four factors */
    RDP_RANDOM_JITTER_ORDER = 19,
    RDP_RANDOM_CUTOUT = 20,
    RDP_RANDOM_ERASE = 32 /* whether; from 33 on, one for each of RDP_ERASE_TRIES */
};
enum { RDP_ERASE_TRIES = 10 };

struct rdp_random {
    uint32_t word[4];
};

/* 128 random bits of (seed; purpose, a, b). */
RDP_DEVICE_FUNCTION struct rdp_random rdp_random_at(uint64_t seed, enum rdp_random_purpose purpose, uint32_t a,
                                                    uint64_t b)
{
    philox4x32_key_t key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}};
    philox4x32_ctr_t counter = {{(uint32_t)b, (uint32_t)(b >> 32), a, (uint32_t)purpose}};
    philox4x32_ctr_t value = philox4x32(counter, key);
    struct rdp_random random = {{value.v[0], value.v[1], value.v[2], value.v[3]}}; /* no compound literal: C++ too */
    return random;
}

/* Uniform in 0 .. n-1 (Lemire's multiply; the bias is below n / 2^32). */
RDP_DEVICE_FUNCTION uint32_t rdp_random_below(uint32_t word, uint32_t n)
{
    return (uint32_t)(((uint64_t)word * n) >> 32);
}

/* Uniform in [0, 1): 24 bits, exact in f32. */
RDP_DEVICE_FUNCTION float rdp_random_unit(uint32_t word)
{
    return (float)(word >> 8) * 0x1p-24f;
}

#endif
