/*
 * What the tests of kernels/ and of the network share: numbers that depend on nothing but their index, activations in
 * and out of the CPU device's layout, comparisons that remember the worst error, small networks. Failures end the test
 * (cmocka).
 *
 * References are computed in double, on plain NCHW arrays.
 */
#ifndef RDP_TEST_SUPPORT_NETWORK_H
#define RDP_TEST_SUPPORT_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "network.h"
#include "options.h"
#include "updater.h"

/* A call that must succeed; prints its message if not. */
#define RDP_MUST(call) rdp_test_must((call), #call, __FILE__, __LINE__)
void rdp_test_must(int status, const char *call, const char *file, int line);

/* Uniform in [-1, 1): number `index` of stream `stream`. */
double rdp_test_value(uint32_t stream, uint64_t index);
/* `count` of them in `values`, each exact in f32 or, with bf16, in bf16; returns `values`. */
double *rdp_test_fill(double *values, size_t count, uint32_t stream, bool bf16);
/* Zeroed; the caller's (free). */
double *rdp_test_doubles(size_t count);
/* Nearest bf16, ties to even, by arithmetic on the value rather than on its bits. */
double rdp_test_to_bf16(double value);

/* The CPU device. NULL if bf16 was asked for and this CPU or library has none of it (found by making a convolution). */
struct rdp_device *rdp_test_device(int threads, bool bf16, enum rdp_kernel_algorithm algorithm);
bool rdp_test_is_bf16(const struct rdp_device *device);
size_t rdp_test_values(struct rdp_shape shape, int batch); /* channels x height x width x batch */

/* Activations of `batch` images in the device's layout, with 64 bytes on either side that must keep their value: made,
 * written and read as NCHW, freed with rdp_test_free. Reading checks that the channels that pad the last block are 0.
 */
void *rdp_test_activations(struct rdp_device *device, struct rdp_shape shape, int batch, bool is_image);
void rdp_test_put(struct rdp_device *device, struct rdp_shape shape, int batch, bool is_image, const double *nchw,
                  void *data);
void rdp_test_take(struct rdp_device *device, struct rdp_shape shape, int batch, bool is_image, const void *data,
                   double *nchw);
/* All the same with f32 arrays of the device's memory (parameters, features). */
float *rdp_test_floats(size_t count);
/* Checks the 64 bytes on either side and frees. */
void rdp_test_free(void *guarded);
size_t rdp_test_bytes(struct rdp_device *device, struct rdp_shape shape, int batch, bool is_image);

/* Worst errors by kind, as multiples of the tolerance-free scale; printed at the end. */
struct rdp_test_worst {
    const char *kind;
    double error;
};
void rdp_test_note(struct rdp_test_worst *worst, double error);

/* |a - b| / |b| in the 2-norm over the arrays; 0 for two arrays of zeros. */
double rdp_test_distance(const float *a, const float *b, size_t count);
double rdp_test_cosine(const float *a, const float *b, size_t count);

/* Model, device, network and one batch of images with labels (a learnable formula: rdp_reference_images). */
struct rdp_test_network {
    struct rdp_model *model;
    struct rdp_device *device;
    struct rdp_network *network;
    struct rdp_updater *updater; /* NULL for inference */
    int64_t steps;               /* updates so far */
    uint8_t *images, *labels;
    int64_t *rows;
    struct rdp_batch batch;
    struct rdp_step_values values; /* of the next pass: what step 0 of the options draws */
};
/* What the network is made of; model from options->block, blocks, widths, ... */
struct rdp_test_setup {
    struct rdp_options options;
    int threads, batch;
    bool bf16, whole_batch_chunks, inference;
    enum rdp_kernel_algorithm algorithm;
};
/* Options of a basic-block network with these blocks per stage and widths (terminated by 0), ReLU, batch 8. */
struct rdp_test_setup rdp_test_setup(enum rdp_block block, const int *blocks, int stem_width, const int *widths);
/* False: bf16 is not to be had here. The network is initialised with seed 1. */
bool rdp_test_network_open(struct rdp_test_network *test, const struct rdp_test_setup *setup);
void rdp_test_network_close(struct rdp_test_network *test);
/* The batch holds images first .. first + batch - 1 of the formula. */
void rdp_test_network_load(struct rdp_test_network *test, int64_t first);
/* Forward, and backward with gradients of the mean loss; returns the mean loss. */
double rdp_test_network_pass(struct rdp_test_network *test);
double rdp_test_network_loss(struct rdp_test_network *test, bool training); /* forward alone */
/* One step of the optimiser; the options are those it was opened with. */
void rdp_test_network_update(struct rdp_test_network *test, const struct rdp_options *options);
/* A row in PyTorch's layout, from `flat`; the caller's (free). */
float *rdp_test_network_row(struct rdp_test_network *test, int row, const float *flat);
bool rdp_test_is_trained(const struct rdp_test_network *test, int row);

#endif
