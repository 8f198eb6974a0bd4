/* See support_network.h. */
#include "support_network.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "base/status.h"
#include "kernels/common/random.h"
#include "mixing.h"
#include "optimiser.h"
#include "support_reference.h"

void rdp_test_must(int status, const char *call, const char *file, int line)
{
    if (status == RDP_OK)
        return;
    fail_msg("%s:%d: %s: %s: %s", file, line, call, rdp_status_name(status), rdp_fail_message());
}

double rdp_test_value(uint32_t stream, uint64_t index)
{
    struct rdp_random random = rdp_random_at(20160616, RDP_RANDOM_ORDER, stream, index);
    return 2 * (double)rdp_random_unit(random.word[0]) - 1;
}

double rdp_test_to_bf16(double value)
{
    int exponent;
    if (value == 0)
        return 0;
    double fraction = frexp(value, &exponent); /* 0.5 <= |fraction| < 1: eight bits of it stay */
    return ldexp(nearbyint(fraction * 256), exponent - 8);
}

double *rdp_test_doubles(size_t count)
{
    double *values;
    RDP_MUST(rdp_calloc((void **)&values, count, sizeof *values, "a test's reference"));
    return values;
}

double *rdp_test_fill(double *values, size_t count, uint32_t stream, bool bf16)
{
    for (size_t i = 0; i < count; i++) {
        double value = rdp_test_value(stream, i);
        values[i] = bf16 ? rdp_test_to_bf16(value) : value;
    }
    return values;
}

bool rdp_test_is_bf16(const struct rdp_device *device)
{
    return device->config.precision == RDP_KERNEL_BF16;
}

struct rdp_device *rdp_test_device(int threads, bool bf16, enum rdp_kernel_algorithm algorithm)
{
    struct rdp_device *device;
    struct rdp_conv *conv;
    const struct rdp_device_config config = {
        .precision = bf16 ? RDP_KERNEL_BF16 : RDP_KERNEL_F32, .threads = threads, .algorithm = algorithm};
    const struct rdp_conv_desc desc = {
        .input = {16, 4, 4}, .output = {16, 4, 4}, .kernel = 3, .stride = 1, .batch = 1, .chunk = 1, .training = true};
    int status = rdp_cpu_device_open(&device, &config);
    if (status == RDP_OK) {
        status = device->ops->conv_create(device, &conv, &desc);
        if (status == RDP_OK)
            device->ops->conv_destroy(device, conv);
        else
            rdp_device_close(device);
    }
    if (bf16 && status == RDP_EUSAGE) {
        rdp_fail_clear();
        return NULL;
    }
    rdp_test_must(status, "opening the CPU device", __FILE__, __LINE__);
    return device;
}

size_t rdp_test_values(struct rdp_shape shape, int batch)
{
    return (size_t)shape.channels * (size_t)shape.height * (size_t)shape.width * (size_t)batch;
}

/* A guarded block: its size, then the guard, the block that the test sees, the guard again. */
enum { GUARD = 64, GUARD_BYTE = 0xA5 };

static void *guarded(size_t bytes)
{
    void *block;
    size_t room = rdp_align(bytes); /* what lies between a block's end and the next multiple of 64 is guard too */
    RDP_MUST(rdp_alloc_aligned(&block, room + 3 * GUARD, "a test's block"));
    memset(block, GUARD_BYTE, room + 3 * GUARD);
    memcpy(block, &bytes, sizeof bytes);
    memset((char *)block + 2 * GUARD, 0, bytes);
    return (char *)block + 2 * GUARD;
}

void rdp_test_free(void *data)
{
    unsigned char *block = (unsigned char *)data - 2 * GUARD;
    size_t bytes;
    memcpy(&bytes, block, sizeof bytes);
    for (size_t i = GUARD; i < 2 * GUARD; i++)
        assert_int_equal(block[i], GUARD_BYTE);
    for (size_t i = 2 * GUARD + bytes; i < rdp_align(bytes) + 3 * GUARD; i++)
        assert_int_equal(block[i], GUARD_BYTE);
    free(block);
}

float *rdp_test_floats(size_t count)
{
    return guarded(count * sizeof(float));
}

size_t rdp_test_bytes(struct rdp_device *device, struct rdp_shape shape, int batch, bool is_image)
{
    return device->ops->image_bytes(device, shape, is_image) * (size_t)batch;
}

void *rdp_test_activations(struct rdp_device *device, struct rdp_shape shape, int batch, bool is_image)
{
    return guarded(rdp_test_bytes(device, shape, batch, is_image));
}

static void store(void *data, size_t i, bool bf16, double value)
{
    float single = (float)value;
    uint32_t bits;
    memcpy(&bits, &single, sizeof bits);
    if (bf16) {
        assert_int_equal(bits & 0xffff, 0); /* the caller's values are exact in bf16 */
        ((uint16_t *)data)[i] = (uint16_t)(bits >> 16);
    } else {
        ((float *)data)[i] = single;
    }
}

static double load(const void *data, size_t i, bool bf16)
{
    if (!bf16)
        return (double)((const float *)data)[i];
    uint32_t bits = (uint32_t)((const uint16_t *)data)[i] << 16;
    float single;
    memcpy(&single, &bits, sizeof single);
    return (double)single;
}

/* (N, C, H, W) of images, else the CPU's (N, C / lanes, H, W, lanes); one image with one channel and pixel shows the
 * lanes. */
static size_t place(struct rdp_shape shape, int lanes, int n, int c, int pixel)
{
    size_t pixels = (size_t)shape.height * (size_t)shape.width, blocks = (size_t)((shape.channels + lanes - 1) / lanes);
    return (((size_t)n * blocks + (size_t)(c / lanes)) * pixels + (size_t)pixel) * (size_t)lanes + (size_t)(c % lanes);
}

static int lanes_of(struct rdp_device *device, bool is_image)
{
    size_t element = rdp_test_is_bf16(device) ? 2 : 4;
    return (int)(device->ops->image_bytes(device, (struct rdp_shape){1, 1, 1}, is_image) / element);
}

void rdp_test_put(struct rdp_device *device, struct rdp_shape shape, int batch, bool is_image, const double *nchw,
                  void *data)
{
    const int lanes = lanes_of(device, is_image), pixels = shape.height * shape.width;
    memset(data, 0, rdp_test_bytes(device, shape, batch, is_image));
    for (int n = 0; n < batch; n++)
        for (int c = 0; c < shape.channels; c++)
            for (int p = 0; p < pixels; p++)
                store(data, place(shape, lanes, n, c, p), rdp_test_is_bf16(device), *nchw++);
}

void rdp_test_take(struct rdp_device *device, struct rdp_shape shape, int batch, bool is_image, const void *data,
                   double *nchw)
{
    const int lanes = lanes_of(device, is_image), pixels = shape.height * shape.width;
    const int padded = (shape.channels + lanes - 1) / lanes * lanes;
    for (int n = 0; n < batch; n++)
        for (int c = 0; c < padded; c++)
            for (int p = 0; p < pixels; p++) {
                double value = load(data, place(shape, lanes, n, c, p), rdp_test_is_bf16(device));
                if (c < shape.channels)
                    *nchw++ = value;
                else
                    assert_true(value == 0);
            }
}

void rdp_test_note(struct rdp_test_worst *worst, double error)
{
    if (!(error <= worst->error)) /* a NaN stays */
        worst->error = error;
}

double rdp_test_distance(const float *a, const float *b, size_t count)
{
    double difference = 0, norm = 0;
    for (size_t i = 0; i < count; i++) {
        difference += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        norm += (double)b[i] * (double)b[i];
    }
    return difference == 0 ? 0 : sqrt(difference / norm);
}

double rdp_test_cosine(const float *a, const float *b, size_t count)
{
    double ab = 0, aa = 0, bb = 0;
    for (size_t i = 0; i < count; i++) {
        ab += (double)a[i] * (double)b[i];
        aa += (double)a[i] * (double)a[i];
        bb += (double)b[i] * (double)b[i];
    }
    return ab / sqrt(aa * bb);
}

struct rdp_test_setup rdp_test_setup(enum rdp_block block, const int *blocks, int stem_width, const int *widths)
{
    struct rdp_test_setup setup = {.threads = 1, .batch = 8};
    rdp_options_default(&setup.options);
    setup.options.block = block;
    setup.options.stem_width = stem_width;
    setup.options.blocks.count = 0;
    for (int i = 0; blocks[i] > 0; i++) {
        setup.options.blocks.values[i] = blocks[i];
        setup.options.widths.values[i] = widths[i];
        setup.options.widths.count = setup.options.blocks.count = i + 1;
    }
    return setup;
}

bool rdp_test_network_open(struct rdp_test_network *test, const struct rdp_test_setup *setup)
{
    const size_t batch = (size_t)setup->batch;
    const struct rdp_network_config config = {.batch = setup->batch,
                                              .training = !setup->inference,
                                              .whole_batch_chunks = setup->whole_batch_chunks,
                                              .label_smoothing = setup->options.label_smoothing,
                                              .mixing = rdp_mixing_asked(&setup->options),
                                              .seed = (uint64_t)setup->options.seed};
    memset(test, 0, sizeof *test);
    test->device = rdp_test_device(setup->threads, setup->bf16, setup->algorithm);
    if (test->device == NULL)
        return false;
    RDP_MUST(rdp_model_create(&test->model, &setup->options, 10));
    RDP_MUST(rdp_network_create(&test->network, test->model, test->device, &config));
    RDP_MUST(rdp_network_initialise(test->network, 1));
    if (!setup->inference)
        RDP_MUST(rdp_updater_create(&test->updater, test->network, &setup->options));
    RDP_MUST(rdp_calloc((void **)&test->images, batch, 3072, "images"));
    RDP_MUST(rdp_calloc((void **)&test->labels, batch, 1, "labels"));
    RDP_MUST(rdp_calloc((void **)&test->rows, batch, sizeof *test->rows, "rows"));
    for (int i = 0; i < setup->batch; i++)
        test->rows[i] = i;
    test->batch = (struct rdp_batch){.images = test->images,
                                     .rows = test->rows,
                                     .samples = test->rows,
                                     .labels = test->labels,
                                     .count = setup->batch,
                                     .valid = setup->batch};
    rdp_mixing_draw(&setup->options, 0, &test->values);
    memcpy(test->batch.augment.mean, rdp_reference_mean, sizeof test->batch.augment.mean);
    memcpy(test->batch.augment.std, rdp_reference_std, sizeof test->batch.augment.std);
    rdp_test_network_load(test, 0);
    return true;
}

void rdp_test_network_close(struct rdp_test_network *test)
{
    rdp_updater_destroy(test->updater);
    rdp_network_destroy(test->network);
    rdp_model_destroy(test->model);
    rdp_device_close(test->device);
    free(test->images);
    free(test->labels);
    free(test->rows);
}

void rdp_test_network_load(struct rdp_test_network *test, int64_t first)
{
    rdp_reference_images(first, test->network->config.batch, test->images);
    rdp_reference_labels(first, test->network->config.batch, test->labels);
}

double rdp_test_network_loss(struct rdp_test_network *test, bool training)
{
    struct rdp_network *network = test->network;
    const struct rdp_inputs inputs = {.values = test->values};
    RDP_MUST(rdp_network_load(network, &test->batch, &inputs));
    RDP_MUST(rdp_network_begin_totals(network));
    RDP_MUST(rdp_network_forward(network, 0, training, 1.0f / (float)network->config.batch, NULL, NULL));
    return (double)network->totals[RDP_TOTAL_LOSS] / network->config.batch;
}

double rdp_test_network_pass(struct rdp_test_network *test)
{
    double loss = rdp_test_network_loss(test, true);
    RDP_MUST(rdp_network_backward(test->network, NULL, NULL, NULL));
    return loss;
}

bool rdp_test_is_trained(const struct rdp_test_network *test, int row)
{
    return test->model->parameters[row].kind == RDP_PARAMETER_TRAINED;
}

void rdp_test_network_update(struct rdp_test_network *test, const struct rdp_options *options)
{
    test->network->inputs->values = rdp_optimiser_step_values(options, 0, test->steps++, options->lr, options->lr, NAN);
    RDP_MUST(rdp_updater_run(test->updater));
}

float *rdp_test_network_row(struct rdp_test_network *test, int row, const float *flat)
{
    float *values;
    RDP_MUST(rdp_calloc((void **)&values, (size_t)test->model->parameters[row].count, sizeof *values, "a row"));
    RDP_MUST(rdp_network_take(test->network, row, flat, values));
    return values;
}
