/*
 * In place of kernels/cuda/conv.c: the convolutions of cuda.h as plain loops, since cuDNN is not emulated.
 *
 * Layouts and roundings are those that cuda.h and kernels.h document: activations (N,H,W,C) and weights (K,R,S,C) with
 * channels padded to CUDA_LANES; bf16 devices read bf16, sum in f32 and write bf16; tf32 ones round what they multiply;
 * gradients of weights are f32. Each call spoils the shared workspace, as cuDNN's would.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cuda/cuda.h"
#include "tests/emulation/emulation.h"

enum direction { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS, CONVERT_WEIGHTS };
enum { WORKSPACE = 4096 };

struct emulated_conv {
    const void *weights; /* what forward and backward-data read: `stored` or its bf16 copy */
    bool backward;       /* the last conv_weights was for backward as well */
};

/* One call: sizes with padded channels, and x, w, y by their role in the forward direction, whatever is written. */
struct call {
    enum direction direction;
    enum rdp_kernel_precision precision;
    int images, in, out, height, width, out_height, out_width, kernel, stride;
    const void *x, *w, *y;
    void *result;
    const float *mean; /* forward with sums: of y - mean and of its square, as bn.c wants them; NULL: none */
    float *sums;
    void *workspace;
};

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Round to nearest: ties to even (bf16), away from zero (tf32, 10 bits of mantissa). */
static uint16_t bf16_of(float value)
{
    uint32_t bits = bits_of(value);
    if (value != value)
        return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

static float *read_as_f32(const struct call *call, const void *from, size_t count)
{
    float *to = malloc(count * sizeof *to);
    if (to == NULL)
        rdp_emulation_die("out of memory");
    for (size_t i = 0; i < count; i++) {
        if (call->precision == RDP_KERNEL_BF16) {
            to[i] = float_of((uint32_t)((const uint16_t *)from)[i] << 16);
        } else {
            uint32_t bits = ((const uint32_t *)from)[i];
            to[i] = float_of(call->precision == RDP_KERNEL_TF32 ? (bits + 0x1000) & ~0x1fffu : bits);
        }
    }
    return to;
}

static void write_from_f32(const struct call *call, const float *from, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (call->precision == RDP_KERNEL_BF16)
            ((uint16_t *)call->result)[i] = bf16_of(from[i]);
        else
            ((float *)call->result)[i] = from[i];
    }
}

/* Four channels: compilers do not find these by themselves here. Any processor has them. */
typedef float four __attribute__((vector_size(16)));
enum { FOUR = 4 }; /* divides CUDA_LANES, and so every count of channels */

static four load(const float *from)
{
    four value;
    memcpy(&value, from, sizeof value);
    return value;
}

/* to[columns] += row[rows] * matrix[rows][columns], rows of which are `stride` apart. */
static void add_product(float *to, const float *row, int rows, const float *matrix, size_t stride, int columns)
{
    for (int j = 0; j < columns; j += CUDA_LANES, to += CUDA_LANES) {
        four low = {0}, high = {0}, more_low = {0}, more_high = {0}; /* several, as additions wait for each other */
        for (int i = 0; i < rows; i += 2) {
            const float *from = matrix + (size_t)i * stride + (size_t)j;
            low += row[i] * load(from);
            high += row[i] * load(from + FOUR);
            more_low += row[i + 1] * load(from + stride);
            more_high += row[i + 1] * load(from + stride + FOUR);
        }
        low += more_low + load(to);
        high += more_high + load(to + FOUR);
        memcpy(to, &low, sizeof low);
        memcpy(to + FOUR, &high, sizeof high);
    }
}

/* matrix[rows][columns] += column[rows] * row[columns], likewise. */
static void add_outer(float *matrix, size_t stride, const float *column, int rows, const float *row, int columns)
{
    for (int j = 0; j < columns; j += FOUR) {
        const four part = load(row + j);
        for (int i = 0; i < rows; i++) {
            float *to = matrix + (size_t)i * stride + (size_t)j;
            const four sum = load(to) + column[i] * part;
            memcpy(to, &sum, sizeof sum);
        }
    }
}

/* (K,R,S,C) to (R,S,C,K), in which one tap's inputs go to all outputs by rows. */
static float *turned(const struct call *call, float *weights)
{
    const size_t outputs = (size_t)call->out, taps = (size_t)call->kernel * (size_t)call->kernel * (size_t)call->in;
    float *to = malloc(outputs * taps * sizeof *to);
    if (to == NULL)
        rdp_emulation_die("out of memory");
    for (size_t k = 0; k < outputs; k++)
        for (size_t i = 0; i < taps; i++)
            to[i * outputs + k] = weights[k * taps + i];
    free(weights);
    return to;
}

/* One output pixel and tap number `rs`: `x` [in] and `y` [out]. */
static void tap(const struct call *call, int rs, float *x, float *w, float *y)
{
    const size_t in = (size_t)call->in, filter = (size_t)call->kernel * (size_t)call->kernel * in;
    switch (call->direction) {
    case FORWARD:
        add_product(y, x, call->in, w + (size_t)rs * in * (size_t)call->out, (size_t)call->out, call->out);
        break;
    case BACKWARD_DATA:
        add_product(x, y, call->out, w + (size_t)rs * in, filter, call->in);
        break;
    default:
        add_outer(w + (size_t)rs * in, filter, y, call->out, x, call->in);
        break;
    }
}

static void convolve(const struct call *call, float *x, float *w, float *y)
{
    const int pad = call->kernel / 2, pixels = call->out_height * call->out_width;
    for (int i = 0; i < call->images * pixels; i++) {
        const int image = i / pixels, p = i % pixels / call->out_width, q = i % call->out_width;
        for (int rs = 0; rs < call->kernel * call->kernel; rs++) {
            const int h = p * call->stride + rs / call->kernel - pad, v = q * call->stride + rs % call->kernel - pad;
            if (h < 0 || h >= call->height || v < 0 || v >= call->width)
                continue;
            tap(call, rs, x + ((size_t)(image * call->height + h) * (size_t)call->width + (size_t)v) * (size_t)call->in,
                w, y + (size_t)i * (size_t)call->out);
        }
    }
}

/* Before y is rounded, as cuDNN may. */
static void sum(const struct call *call, const float *y, size_t count)
{
    const size_t channels = (size_t)call->out;
    for (size_t c = 0; c < channels; c++) {
        double total = 0, squares = 0;
        for (size_t i = c; i < count; i += channels) {
            const double difference = (double)y[i] - (double)call->mean[c];
            total += difference;
            squares += difference * difference;
        }
        call->sums[c] = (float)total;
        call->sums[channels + c] = (float)squares;
    }
}

static bool run(void *argument, bool first)
{
    const struct call *call = argument;
    const size_t x_count = (size_t)call->images * (size_t)call->height * (size_t)call->width * (size_t)call->in;
    const size_t y_count =
        (size_t)call->images * (size_t)call->out_height * (size_t)call->out_width * (size_t)call->out;
    const size_t w_count = (size_t)call->kernel * (size_t)call->kernel * (size_t)call->in * (size_t)call->out;
    (void)first;
    if (call->direction == CONVERT_WEIGHTS) {
        write_from_f32(call, call->w, w_count);
        return true;
    }
    memset(call->workspace, 0xff, WORKSPACE);
    float *x = call->direction == BACKWARD_DATA ? calloc(x_count, sizeof *x) : read_as_f32(call, call->x, x_count);
    float *w = call->direction == BACKWARD_WEIGHTS ? calloc(w_count, sizeof *w) : read_as_f32(call, call->w, w_count);
    float *y = call->direction == FORWARD ? calloc(y_count, sizeof *y) : read_as_f32(call, call->y, y_count);
    if (x == NULL || w == NULL || y == NULL)
        rdp_emulation_die("out of memory");
    if (call->direction == FORWARD)
        w = turned(call, w);
    convolve(call, x, w, y);
    if (call->sums != NULL)
        sum(call, y, y_count);
    if (call->direction == BACKWARD_WEIGHTS)
        memcpy(call->result, w, w_count * sizeof *w);
    else if (call->direction == FORWARD)
        write_from_f32(call, y, y_count);
    else
        write_from_f32(call, x, x_count);
    free(x);
    free(w);
    free(y);
    return true;
}

static int enqueue(struct rdp_device *device, const struct rdp_conv *conv, struct call call)
{
    const struct rdp_conv_desc *desc = &conv->desc;
    call.precision = device->config.precision;
    call.in = cuda_padded(desc->input.channels);
    call.out = cuda_padded(desc->output.channels);
    call.height = desc->input.height;
    call.width = desc->input.width;
    call.out_height = desc->output.height;
    call.out_width = desc->output.width;
    call.kernel = desc->kernel;
    call.stride = desc->stride;
    call.workspace = cuda_state(device)->workspace;
    RDP_CUDA(rdp_emulation_enqueue(cuda_state(device)->stream, run, &call, sizeof call));
    return RDP_OK;
}

int cuda_library_open(struct rdp_device *device)
{
    (void)device;
    return RDP_OK;
}

void cuda_library_close(struct rdp_device *device)
{
    (void)device;
}

const char *cuda_library_version(void)
{
    return "emulated convolutions";
}

int cuda_chunk(struct rdp_device *device, const struct rdp_conv_desc *desc)
{
    (void)device;
    return desc->batch;
}

int cuda_conv_create(struct rdp_device *device, struct rdp_conv **conv, const struct rdp_conv_desc *desc)
{
    struct emulated_conv *state;
    RDP_TRY(cuda_workspace_reserve(device, WORKSPACE));
    RDP_TRY(rdp_calloc((void **)conv, 1, sizeof **conv, "a convolution"));
    (*conv)->desc = *desc;
    (*conv)->stored_count = (size_t)cuda_padded(desc->output.channels) * (size_t)desc->kernel * (size_t)desc->kernel *
                            (size_t)cuda_padded(desc->input.channels);
    for (int i = 0; i < (desc->training ? 3 : 1); i++)
        (*conv)->algorithms[i] = "emulated";
    if (device->config.fuse_statistics != RDP_FUSE_NEVER && cuda_state(device)->bf16 && desc->statistics &&
        desc->chunk == desc->batch && desc->output.channels % CUDA_LANES == 0)
        (*conv)->algorithms[RDP_CONV_STATISTICS] = "emulated with statistics";
    int status = rdp_calloc((void **)&state, 1, sizeof *state, "a convolution");
    if (status != RDP_OK) {
        free(*conv);
        *conv = NULL;
        return status;
    }
    (*conv)->state = state;
    return RDP_OK;
}

void cuda_conv_destroy(struct rdp_device *device, struct rdp_conv *conv)
{
    (void)device;
    if (conv != NULL)
        free(conv->state);
    free(conv);
}

/* Copies between OIHW and the stored form, whose padding is zeroed. */
static void reorder(const struct rdp_conv *conv, float *oihw, float *stored, bool pack)
{
    const int kernel = conv->desc.kernel, in = conv->desc.input.channels, padded = cuda_padded(in);
    for (int i = 0; i < conv->desc.output.channels * in * kernel * kernel; i++) {
        const int rs = i % (kernel * kernel), c = i / (kernel * kernel) % in, k = i / (kernel * kernel * in);
        float *place = stored + ((size_t)k * (size_t)(kernel * kernel) + (size_t)rs) * (size_t)padded + (size_t)c;
        if (pack)
            *place = oihw[i];
        else
            oihw[i] = *place;
    }
}

int cuda_conv_pack(struct rdp_device *device, struct rdp_conv *conv, const float *host_oihw, float *stored)
{
    float *host;
    RDP_TRY(rdp_calloc((void **)&host, conv->stored_count, sizeof *host, "weights"));
    reorder(conv, (float *)host_oihw, host, true);
    int status = device->ops->upload(device, stored, host, conv->stored_count * sizeof *host);
    free(host);
    return status;
}

int cuda_conv_unpack(struct rdp_device *device, struct rdp_conv *conv, const float *stored, float *host_oihw)
{
    float *host;
    RDP_TRY(rdp_calloc((void **)&host, conv->stored_count, sizeof *host, "weights"));
    int status = device->ops->download(device, host, stored, conv->stored_count * sizeof *host);
    if (status == RDP_OK)
        reorder(conv, host_oihw, host, false);
    free(host);
    return status;
}

int cuda_conv_weights(struct rdp_device *device, struct rdp_conv *conv, const float *stored, void *copy, bool backward)
{
    struct emulated_conv *state = conv->state;
    state->backward = backward;
    state->weights = stored;
    if (!cuda_state(device)->bf16)
        return RDP_OK;
    state->weights = copy;
    return enqueue(device, conv, (struct call){.direction = CONVERT_WEIGHTS, .w = stored, .result = copy});
}

static const char *at_image(struct rdp_device *device, const void *tensor, struct rdp_shape shape, int first)
{
    return (const char *)tensor + (size_t)first * device->ops->image_bytes(device, shape, false);
}

/* The caller's range and the order of its calls, which cuDNN would not check. */
static int check(const struct rdp_conv *conv, int first, int count, bool backward)
{
    const struct emulated_conv *state = conv->state;
    if (count != conv->desc.chunk || first < 0 || first % count != 0 || first + count > conv->desc.batch)
        return rdp_fail(RDP_EINTERNAL, "images %d..%d are no chunk of %d of a batch of %d", first, first + count,
                        conv->desc.chunk, conv->desc.batch);
    if (state->weights == NULL || (backward && (!state->backward || !conv->desc.training)))
        return rdp_fail(RDP_EINTERNAL, "a convolution whose weights were not made known by conv_weights");
    return RDP_OK;
}

int cuda_conv_forward(struct rdp_device *device, struct rdp_conv *conv, const void *x, void *y, int first, int count)
{
    const struct emulated_conv *state = conv->state;
    RDP_TRY(check(conv, first, count, false));
    return enqueue(device, conv,
                   (struct call){.direction = FORWARD,
                                 .images = count,
                                 .x = at_image(device, x, conv->desc.input, first),
                                 .w = state->weights,
                                 .result = (void *)at_image(device, y, conv->desc.output, first)});
}

int cuda_conv_forward_statistics(struct rdp_device *device, struct rdp_conv *conv, struct rdp_bn *bn, const void *x,
                                 void *y)
{
    const struct emulated_conv *state = conv->state;
    RDP_TRY(check(conv, 0, conv->desc.batch, false));
    if (conv->algorithms[RDP_CONV_STATISTICS] == NULL || (uintptr_t)bn->running_mean % 16 != 0)
        return rdp_fail(RDP_EINTERNAL, "a convolution that was not planned with statistics, or whose means lie askew");
    RDP_TRY(enqueue(device, conv,
                    (struct call){.direction = FORWARD,
                                  .images = conv->desc.batch,
                                  .x = x,
                                  .w = state->weights,
                                  .result = y,
                                  .mean = bn->running_mean,
                                  .sums = cuda_bn_own_sums(bn)}));
    return cuda_bn_take_sums(device, bn);
}

int cuda_conv_backward_data(struct rdp_device *device, struct rdp_conv *conv, const void *dy, void *dx, int first,
                            int count)
{
    const struct emulated_conv *state = conv->state;
    RDP_TRY(check(conv, first, count, true));
    return enqueue(device, conv,
                   (struct call){.direction = BACKWARD_DATA,
                                 .images = count,
                                 .y = at_image(device, dy, conv->desc.output, first),
                                 .w = state->weights,
                                 .result = (void *)at_image(device, dx, conv->desc.input, first)});
}

int cuda_conv_backward_weights(struct rdp_device *device, struct rdp_conv *conv, const void *x, const void *dy,
                               float *dw)
{
    return enqueue(
        device, conv,
        (struct call){.direction = BACKWARD_WEIGHTS, .images = conv->desc.batch, .x = x, .y = dy, .result = dw});
}
