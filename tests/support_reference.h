/*
 * Reads the reference files of tests/reference/ (written by make_reference.py there): named float arrays computed by
 * PyTorch, and makes the images and labels that those runs were trained on, which are a formula rather than data.
 *
 * Used by the tests that compare whole training steps and learning-rate schedules with PyTorch.
 */
#ifndef RDP_TESTS_SUPPORT_REFERENCE_H
#define RDP_TESTS_SUPPORT_REFERENCE_H

#include <stddef.h>
#include <stdint.h>

#include "options.h"

enum { RDP_REFERENCE_DIMS_MAX = 4, RDP_REFERENCE_NAME_MAX = 96 };

struct rdp_reference_entry {
    char name[RDP_REFERENCE_NAME_MAX];
    int ndims;
    int64_t dims[RDP_REFERENCE_DIMS_MAX];
    size_t count; /* product of dims */
    const float
        *values; /* row-major; weights as PyTorch holds them: OIHW, fc (10,C). A view into `data` of the reference. */
};

struct rdp_reference {
    int count;
    struct rdp_reference_entry *entries;
    float *data;
};

/* Reads a whole file. The caller owns *reference and frees it with rdp_reference_free. Returns RDP_EUSAGE with the path
 * and the reason if the file cannot be read or is not whole; *reference is then empty and needs no freeing. */
int rdp_reference_read(const char *path, struct rdp_reference *reference);
void rdp_reference_free(struct rdp_reference *reference);

/* The entry, or its values, by name, such as "final/layer1.0.conv1.weight"; NULL if there is none. Views, never to be
 * freed. */
const struct rdp_reference_entry *rdp_reference_find(const struct rdp_reference *reference, const char *name);
const float *rdp_reference_array(const struct rdp_reference *reference, const char *name, size_t *count);

/* The one value of a "config/..." array, for instance "config/batch"; NaN if there is none. */
double rdp_reference_config(const struct rdp_reference *reference, const char *name);
/* Sets the model, optimiser and batch options of `options` to those of the run: block, blocks, stem_width, widths,
 * strides, downsample, shortcut, activation, leaky_slope, batch, label_smoothing, lr, momentum, nesterov, weight_decay,
 * decay_bn; constant schedule, no warm-up, no crop, no flip, fp32. The rest stays as it is. RDP_EUSAGE if the file holds no such configuration. */
int rdp_reference_options(const struct rdp_reference *reference, struct rdp_options *options);

/* Labels of the images first..first+count-1: image n has label (7 n + n / 10) mod 10. */
void rdp_reference_labels(int64_t first, int64_t count, uint8_t *labels);
/* Their pixels, u8 (count,32,32,3). Byte i, counted from the first byte of image 0, is (h >> 25) + 12 x label with, in
 * 32 bits, h = i x 2654435761; h ^= h >> 15; h *= 2246822519. Step t of a run uses images t x batch .. t x batch +
 * batch - 1, normalised as (u8 / 255 - mean) / std with the two arrays below. */
void rdp_reference_images(int64_t first, int64_t count, uint8_t *images);

extern const float rdp_reference_mean[3];
extern const float rdp_reference_std[3];

#endif
