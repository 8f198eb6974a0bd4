/* The cases of dropout and of mixing; see support_agreement.h. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "support_agreement.h"
#include "support_network.h"

#define CASES(operation, arguments, run, table) \
    { \
        operation, arguments, run, table, sizeof(table) / sizeof *(table) \
    }

enum { DROP_CHANNELS, DROP_SIZE, DROP_BATCH, DROP_CHUNK, DROP_PROBABILITY, DROP_LAYER, DROP_STEP, DROP_TWO };
static const int drops[][RDP_CASE_ARGUMENTS] = {
    /* probability in hundredths */
    {3, 4, 1, 1, 50, 0, 0, 0},   {8, 8, 3, 1, 10, 1, 7, 1},      {12, 4, 8, 4, 30, 2, 100000, 0},
    {30, 16, 3, 3, 20, 3, 1, 1}, {64, 4, 8, 8, 99, 7, 31999, 1}, {264, 8, 3, 3, 1, 0, 5, 0},
    {16, 32, 8, 2, 10, 4, 9, 1},
};

/* Both devices must drop the same elements: one that differed would be off by its whole value. */
static void run_dropout(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const struct rdp_shape shape = {a[DROP_CHANNELS], a[DROP_SIZE], a[DROP_SIZE]};
    const int batch = a[DROP_BATCH], chunk = a[DROP_CHUNK];
    const size_t count = rdp_activations_count(shape, batch);
    const struct rdp_dropout dropout = {.shape = shape,
                                        .probability = (float)a[DROP_PROBABILITY] / 100,
                                        .seed = 0x123456789abcdef0,
                                        .layer = (uint32_t)a[DROP_LAYER]};
    const struct rdp_step_values host = {.lr = 1, .epoch = 3, .step = (uint32_t)a[DROP_STEP]};
    int64_t sample_numbers[8];
    for (int i = 0; i < 8; i++)
        sample_numbers[i] = 7919 * i % 50000;
    struct rdp_guarded values = rdp_guarded_of(device, &host, sizeof host),
                       samples = rdp_guarded_of(device, sample_numbers, (size_t)batch * sizeof *sample_numbers);
    struct rdp_activations tensors[5]; /* x, y, dy, dy2, dx */
    for (uint32_t i = 0; i < 5; i++) {
        float *input = rdp_results_input(results, count, 1 + i, 1);
        tensors[i] = rdp_activations_make(device, shape, batch, false);
        rdp_activations_put(&tensors[i], input);
        free(input);
    }
    void *y = a[DROP_TWO] ? tensors[0].block.data : tensors[1].block.data; /* in place, as the network does */
    void *dx = a[DROP_TWO] ? tensors[2].block.data : tensors[4].block.data;
    for (int first = batch - chunk; first >= 0; first -= chunk) {
        RDP_MUST(device->ops->dropout_forward(device, &dropout, values.data, samples.data, tensors[0].block.data, y,
                                              first, chunk));
        RDP_MUST(device->ops->dropout_backward(device, &dropout, values.data, samples.data, tensors[2].block.data,
                                               a[DROP_TWO] ? tensors[3].block.data : NULL, dx, first, chunk));
    }
    rdp_activations_take(&tensors[a[DROP_TWO] ? 0 : 1], rdp_results_add(results, "y", RDP_AGREE_STORED, count));
    rdp_activations_take(&tensors[a[DROP_TWO] ? 2 : 4], rdp_results_add(results, "dx", RDP_AGREE_STORED, count));
    for (int i = 0; i < 5; i++)
        rdp_activations_free(&tensors[i]);
    rdp_guarded_free(&values);
    rdp_guarded_free(&samples);
}

const struct rdp_case rdp_dropout_cases =
    CASES("dropout", "channels,size,batch,chunk,probability,layer,step,two and in place", run_dropout, drops);

enum { MIX_BATCH, MIX_PIXELS, MIX_Y0, MIX_X0, MIX_Y1, MIX_X1 };
static const int mixes[][RDP_CASE_ARGUMENTS] = {
    /* weight of an image's own pixels in hundredths */
    {1, 30, 0, 0, 0, 0},    {2, 70, 0, 0, 0, 0},      {7, 0, 0, 0, 0, 0},    {8, 100, 0, 0, 0, 0},
    {8, 100, 3, 0, 20, 32}, {5, 100, 31, 31, 32, 32}, {24, 50, 0, 7, 32, 9},
};

static void run_mix(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const struct rdp_shape shape = {3, 32, 32};
    const size_t count = rdp_activations_count(shape, a[MIX_BATCH]);
    const struct rdp_step_values host = {
        .mix = 0.5f, .mix_pixels = (float)a[MIX_PIXELS] / 100, .mix_box = {a[MIX_Y0], a[MIX_X0], a[MIX_Y1], a[MIX_X1]}};
    float *pixels = rdp_results_input(results, count, 1, 2);
    struct rdp_guarded values = rdp_guarded_of(device, &host, sizeof host);
    struct rdp_activations images = rdp_activations_make(device, shape, a[MIX_BATCH], true);
    rdp_activations_put(&images, pixels);
    RDP_MUST(device->ops->mix(device, values.data, images.block.data, a[MIX_BATCH]));
    rdp_activations_take(&images, rdp_results_add(results, "images", RDP_AGREE_STORED, count));
    rdp_guarded_free(&values);
    rdp_activations_free(&images);
    free(pixels);
}

const struct rdp_case rdp_mix_cases = CASES("mixing", "batch,own pixels,y0,x0,y1,x1", run_mix, mixes);
