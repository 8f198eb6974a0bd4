/*
 * The synthetic data set; see cifar.h. For machines without a network and for tests that must learn something in a
 * minute.
 *
 * Ten classes: five patterns (horizontal, vertical and diagonal stripes, checks, rings), each fine or coarse.
 * Everything else is chance: phase or centre, exact frequency, a slight tilt, two colours, a brightness ramp, noise.
 * Phase and the order of the colours are uniform, so every class has the same mean image, uniform grey, and no linear
 * function of the pixels tells the classes apart; orientation and scale do, which a convolution sees at once. A
 * horizontal flip or a shifted crop keeps the class.
 *
 * All arithmetic is on integers: the set is the same bytes with every compiler, library and processor. An angle or
 * phase is a uint32_t whose range is one turn. Image i depends on (seed, split, i) alone: its random numbers are a
 * Philox stream of its own (Salmon et al. 2011).
 */
#include <inttypes.h>
#include <Random123/philox.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/cifar.h"

enum { CLASSES = 10, CENTRE = RDP_IMAGE_SIZE / 2, COUNT_MAX = 10000000 };

static const char *const class_names[CLASSES] = {
    "horizontal-fine", "horizontal-coarse", "vertical-fine", "vertical-coarse", "diagonal-fine",
    "diagonal-coarse", "checks-fine",       "checks-coarse", "rings-fine",      "rings-coarse",
};

/* The random numbers of one image. */
struct stream {
    philox4x32_key_t key;
    philox4x32_ctr_t counter; /* v[0] counts, v[1], v[2] the image, v[3] the split */
    philox4x32_ctr_t words;
    int used;
};

static uint32_t next(struct stream *stream)
{
    if (stream->used == 4) {
        stream->words = philox4x32(stream->counter, stream->key);
        stream->counter.v[0]++;
        stream->used = 0;
    }
    return stream->words.v[stream->used++];
}

/* Uniform on [low, high]. The bias of the multiplication is below 2^-20 for the ranges used here. */
static int32_t between(struct stream *stream, int32_t low, int32_t high)
{
    uint64_t span = (uint64_t)((int64_t)high - low + 1);
    return (int32_t)(low + (int64_t)((uint64_t)next(stream) * span >> 32));
}

/* A sine made of two parabolas, 4 x (1 - |x|) on [-1, 1): -4096..4096 for a full turn of the phase. */
static int32_t wave(uint32_t phase)
{
    int64_t x = (int64_t)phase - ((int64_t)1 << 31); /* [-2^31, 2^31) is [-1, 1) */
    int64_t magnitude = x < 0 ? -x : x;
    return (int32_t)(4 * ((x >> 16) * ((((int64_t)1 << 31) - magnitude) >> 16)) >> 18);
}

static uint32_t square_root(uint64_t value)
{
    uint64_t root = 0;
    for (uint64_t bit = (uint64_t)1 << 31; bit > 0; bit >>= 1)
        if ((root | bit) * (root | bit) <= value)
            root |= bit;
    return (uint32_t)root;
}

/* What an image's pattern is made of: two plane waves, or one circular wave. */
struct pattern {
    int kind;                     /* 0..4 as class_names: class / 2 */
    uint32_t across[2], phase[2]; /* per direction: turns per pixel (2^32 is one) and phase */
    uint32_t along[2];            /* the tilt: turns per pixel in the other direction */
    int32_t centre_x, centre_y;   /* rings: in 1/256 pixel */
};

static struct pattern draw_pattern(struct stream *stream, int label)
{
    /* Cycles per pixel in units of 1/1024: fine 0.18 to 0.26 (periods of 4 to 6 pixels), coarse 0.07 to 0.13 (8 to 14).
     * Wide ranges, because a linear function can match one frequency and phase. */
    int32_t low = label % 2 == 0 ? 184 : 72, high = label % 2 == 0 ? 266 : 133;
    struct pattern pattern = {.kind = label / 2};
    for (int i = 0; i < 2; i++) {
        uint32_t frequency = (uint32_t)between(stream, low << 12, high << 12) << 10;
        int32_t tilt = between(stream, -200, 200); /* tangent of the angle x 1024: up to 11 degrees */
        pattern.across[i] = frequency;
        pattern.along[i] = (uint32_t)((int64_t)frequency * tilt / 1024);
        pattern.phase[i] = next(stream);
    }
    if (pattern.kind == 2) { /* stripes at 45 degrees, rising or falling: frequency / sqrt(2) in both directions */
        uint32_t frequency = (uint32_t)((uint64_t)pattern.across[0] * 724 / 1024);
        pattern.across[0] = frequency + pattern.along[0];
        pattern.along[0] = next(stream) & 1 ? frequency : 0U - frequency;
    }
    pattern.centre_x = between(stream, 0, 256 * RDP_IMAGE_SIZE);
    pattern.centre_y = between(stream, 0, 256 * RDP_IMAGE_SIZE);
    return pattern;
}

/* -4096..4096 */
static int32_t pattern_at(const struct pattern *pattern, int y, int x)
{
    uint32_t row = (uint32_t)y, column = (uint32_t)x;
    uint32_t down = pattern->phase[0] + row * pattern->across[0] + column * pattern->along[0];
    uint32_t right = pattern->phase[1] + column * pattern->across[1] + row * pattern->along[1];
    int64_t dx = 256 * x - pattern->centre_x, dy = 256 * y - pattern->centre_y;
    switch (pattern->kind) {
    case 0:
    case 2:
        return wave(down);
    case 1:
        return wave(right);
    case 3:
        return wave(down) * wave(right) / 4096;
    default:
        return wave(pattern->phase[0] +
                    (uint32_t)((uint64_t)square_root((uint64_t)(dx * dx + dy * dy)) * pattern->across[0] / 256));
    }
}

static void draw_image(uint8_t *image, uint64_t seed, int split, int64_t index, int label)
{
    struct stream stream = {.key = {{(uint32_t)seed, (uint32_t)(seed >> 32)}},
                            .counter = {{0, (uint32_t)index, (uint32_t)(index >> 32), (uint32_t)split}},
                            .used = 4};
    struct pattern pattern = draw_pattern(&stream, label);
    int32_t middle[RDP_IMAGE_CHANNELS], amplitude[RDP_IMAGE_CHANNELS];
    int strongest = between(&stream, 0, RDP_IMAGE_CHANNELS - 1);
    for (int c = 0; c < RDP_IMAGE_CHANNELS; c++) {
        int32_t size =
            between(&stream, c == strongest ? 22 : 0, 48); /* one channel at least shows the pattern clearly */
        middle[c] = between(&stream, 80, 175);
        amplitude[c] = next(&stream) & 1 ? size : -size;
    }
    int32_t ramp_x = between(&stream, -256, 256),
            ramp_y = between(&stream, -256, 256); /* up to 1 grey level per pixel */
    for (int y = 0; y < RDP_IMAGE_SIZE; y++)
        for (int x = 0; x < RDP_IMAGE_SIZE; x++) {
            int32_t value = pattern_at(&pattern, y, x);
            int32_t ramp = ((x - CENTRE) * ramp_x + (y - CENTRE) * ramp_y) / 256;
            for (int c = 0; c < RDP_IMAGE_CHANNELS; c++) {
                uint32_t bytes = next(&stream);
                /* Four uniform bytes: nearly normal, standard deviation 148; a sixth of it is 25 grey levels. */
                int32_t noise =
                    (int32_t)((bytes & 255) + (bytes >> 8 & 255) + (bytes >> 16 & 255) + (bytes >> 24)) - 510;
                int32_t level = middle[c] + amplitude[c] * value / 4096 + ramp + noise / 6;
                *image++ = (uint8_t)(level < 0 ? 0 : level > 255 ? 255 : level);
            }
        }
}

static int make_split(struct rdp_dataset_content *content, int split, int64_t count, uint64_t seed)
{
    void *images, *labels;
    RDP_TRY(rdp_calloc(&images, (size_t)count, RDP_IMAGE_BYTES, "the synthetic images"));
    content->images[split] = images;
    RDP_TRY(rdp_calloc(&labels, (size_t)count, 1, "the synthetic labels"));
    content->labels[split] = labels;
    content->count[split] = count;
    for (int64_t i = 0; i < count; i++) {
        ((uint8_t *)labels)[i] = (uint8_t)(i % CLASSES);
        draw_image((uint8_t *)images + i * RDP_IMAGE_BYTES, seed, split, i, (int)(i % CLASSES));
    }
    return RDP_OK;
}

int rdp_synthetic_make(struct rdp_dataset_content *content, int64_t train, int64_t test, uint64_t seed)
{
    memset(content, 0, sizeof *content);
    if (train < 1 || test < 1 || train > COUNT_MAX || test > COUNT_MAX)
        return rdp_fail(RDP_EUSAGE,
                        "a synthetic set of %" PRId64 " training and %" PRId64
                        " test images is not possible; both must "
                        "be 1 to %d",
                        train, test, COUNT_MAX);
    content->classes = CLASSES;
    for (int i = 0; i < CLASSES; i++)
        snprintf(content->class_names[i], RDP_CLASS_NAME_MAX, "%s", class_names[i]);
    snprintf(content->source, sizeof content->source,
             "synthetic patterns, %" PRId64 " training and %" PRId64 " test images, seed %" PRIu64, train, test, seed);
    int status = make_split(content, RDP_SPLIT_TRAIN, train, seed);
    if (status == RDP_OK)
        status = make_split(content, RDP_SPLIT_TEST, test, seed);
    if (status != RDP_OK)
        rdp_content_free(content);
    return status;
}
