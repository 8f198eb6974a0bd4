/* See support_devices.h. */
#include "support_devices.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"
#include "support_network.h"

enum { GUARD = 256, GUARD_BYTE = 0xA5, FILL_BYTE = 0x7f };

/* What is not to be had here: says so, and lets the test go on without it. */
static struct rdp_device *not_here(void)
{
    print_message("%s\n", rdp_fail_message());
    rdp_fail_clear();
    return NULL;
}

struct rdp_device *rdp_open_cpu(enum rdp_kernel_precision precision, enum rdp_kernel_algorithm algorithm)
{
    const struct rdp_device_config config = {
        .precision = precision, .threads = 2, .algorithm = algorithm, .plan_cache = ""};
    const struct rdp_conv_desc desc = {
        .input = {16, 4, 4}, .output = {16, 4, 4}, .kernel = 3, .stride = 1, .batch = 1, .chunk = 1, .training = true};
    struct rdp_device *device = NULL;
    struct rdp_conv *conv;
    int status = rdp_cpu_device_open(&device, &config);
    if (status == RDP_OK) { /* only a convolution shows whether there is bf16 */
        status = device->ops->conv_create(device, &conv, &desc);
        if (status == RDP_OK)
            device->ops->conv_destroy(device, conv);
        else
            rdp_device_close(device);
    }
    if (precision == RDP_KERNEL_BF16 && status == RDP_EUSAGE)
        return not_here();
    rdp_test_must(status, "opening the CPU device", __FILE__, __LINE__);
    return device;
}

static struct rdp_device *open_cuda(enum rdp_kernel_precision precision, enum rdp_kernel_fuse fuse)
{
    const struct rdp_device_config config = {
        .precision = precision, .threads = 1, .plan_cache = "", .fuse_statistics = fuse};
    struct rdp_device *device = NULL;
    struct rdp_cuda_identity identity;
    char why[256];
    if (rdp_cuda_device_count(why, sizeof why) == 0) {
        print_message("no CUDA device: %s\n", why);
        return NULL;
    }
    RDP_MUST(rdp_cuda_device_identify(0, &identity));
    const int status = rdp_cuda_device_open(&device, &config);
    /* Too old a GPU, or for fused statistics too old a cuDNN. */
    if (status == RDP_EUSAGE && (fuse != RDP_FUSE_NEVER || (precision != RDP_KERNEL_F32 && identity.major < 8)))
        return not_here();
    rdp_test_must(status, "opening the CUDA device", __FILE__, __LINE__);
    return device;
}

struct rdp_device *rdp_open_cuda(enum rdp_kernel_precision precision)
{
    return open_cuda(precision, RDP_FUSE_NEVER);
}

struct rdp_device *rdp_open_cuda_fused(void)
{
    return open_cuda(RDP_KERNEL_BF16, RDP_FUSE_ALWAYS);
}

struct rdp_guarded rdp_guarded_make(struct rdp_device *device, size_t bytes)
{
    struct rdp_guarded block = {.device = device, .bytes = bytes};
    char *host = malloc(bytes + 2 * GUARD);
    assert_non_null(host);
    memset(host, GUARD_BYTE, bytes + 2 * GUARD);
    memset(host + GUARD, FILL_BYTE, bytes);
    RDP_MUST(device->ops->alloc(device, (void **)&block.memory, bytes + 2 * GUARD, "a test's block"));
    RDP_MUST(device->ops->upload(device, block.memory, host, bytes + 2 * GUARD));
    block.data = block.memory + GUARD;
    free(host);
    return block;
}

struct rdp_guarded rdp_guarded_of(struct rdp_device *device, const void *host, size_t bytes)
{
    struct rdp_guarded block = rdp_guarded_make(device, bytes);
    rdp_guarded_put(&block, host);
    return block;
}

void rdp_guarded_put(const struct rdp_guarded *block, const void *host)
{
    RDP_MUST(block->device->ops->upload(block->device, block->data, host, block->bytes));
}

static void check_guards(const struct rdp_guarded *block)
{
    unsigned char guards[2][GUARD];
    RDP_MUST(block->device->ops->download(block->device, guards[0], block->memory, GUARD));
    RDP_MUST(block->device->ops->download(block->device, guards[1], block->memory + GUARD + block->bytes, GUARD));
    for (int i = 0; i < GUARD; i++)
        if (guards[0][i] != GUARD_BYTE || guards[1][i] != GUARD_BYTE)
            fail_msg("an operation wrote %s a block of %zu bytes",
                     guards[0][i] != GUARD_BYTE ? "in front of" : "behind", block->bytes);
}

void rdp_guarded_take(const struct rdp_guarded *block, void *host)
{
    check_guards(block);
    RDP_MUST(block->device->ops->download(block->device, host, block->data, block->bytes));
}

void rdp_guarded_free(struct rdp_guarded *block)
{
    check_guards(block);
    block->device->ops->free(block->device, block->memory);
    block->memory = NULL;
}

float rdp_bf16_value(uint16_t bits)
{
    uint32_t wide = (uint32_t)bits << 16;
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

uint16_t rdp_bf16_bits(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

size_t rdp_activations_count(struct rdp_shape shape, int batch)
{
    return (size_t)shape.channels * (size_t)shape.height * (size_t)shape.width * (size_t)batch;
}

struct rdp_activations rdp_activations_make(struct rdp_device *device, struct rdp_shape shape, int batch, bool is_image)
{
    return (struct rdp_activations){
        .block = rdp_guarded_make(device, device->ops->image_bytes(device, shape, is_image) * (size_t)batch),
        .shape = shape,
        .batch = batch,
        .is_image = is_image};
}

void rdp_activations_free(struct rdp_activations *tensor)
{
    rdp_guarded_free(&tensor->block);
}

static bool is_bf16(const struct rdp_activations *tensor)
{
    return tensor->block.device->config.precision == RDP_KERNEL_BF16;
}

/* How many channels the device keeps together; a tensor of one value shows it. */
static int lanes_of(const struct rdp_activations *tensor)
{
    struct rdp_device *device = tensor->block.device;
    const size_t element = is_bf16(tensor) ? 2 : 4;
    return (int)(device->ops->image_bytes(device, (struct rdp_shape){1, 1, 1}, tensor->is_image) / element);
}

/* Where the device keeps channel c of a pixel of image n; c may be one that pads. */
static size_t place(const struct rdp_activations *tensor, int lanes, int n, int c, int pixel)
{
    const struct rdp_shape shape = tensor->shape;
    const size_t pixels = (size_t)shape.height * (size_t)shape.width;
    const size_t blocks = (size_t)((shape.channels + lanes - 1) / lanes);
    if (!tensor->block.device->ops->host_memory)
        return ((size_t)n * pixels + (size_t)pixel) * blocks * (size_t)lanes + (size_t)c;
    return (((size_t)n * blocks + (size_t)(c / lanes)) * pixels + (size_t)pixel) * (size_t)lanes + (size_t)(c % lanes);
}

void rdp_activations_put(const struct rdp_activations *tensor, const float *nchw)
{
    const struct rdp_shape shape = tensor->shape;
    const int lanes = lanes_of(tensor);
    char *host = calloc(tensor->block.bytes, 1);
    assert_non_null(host);
    for (int n = 0; n < tensor->batch; n++)
        for (int c = 0; c < shape.channels; c++)
            for (int p = 0; p < shape.height * shape.width; p++) {
                const float value = *nchw++;
                const size_t i = place(tensor, lanes, n, c, p);
                const uint16_t bits = rdp_bf16_bits(value);
                if (is_bf16(tensor)) {
                    assert_true(rdp_bf16_value(bits) == value);
                    memcpy(host + 2 * i, &bits, 2);
                } else {
                    memcpy(host + 4 * i, &value, 4);
                }
            }
    rdp_guarded_put(&tensor->block, host);
    free(host);
}

void rdp_activations_take(const struct rdp_activations *tensor, float *nchw)
{
    const struct rdp_shape shape = tensor->shape;
    const int lanes = lanes_of(tensor), padded = (shape.channels + lanes - 1) / lanes * lanes;
    char *host = malloc(tensor->block.bytes);
    assert_non_null(host);
    rdp_guarded_take(&tensor->block, host);
    for (int n = 0; n < tensor->batch; n++)
        for (int c = 0; c < padded; c++)
            for (int p = 0; p < shape.height * shape.width; p++) {
                const size_t i = place(tensor, lanes, n, c, p);
                float value;
                uint16_t bits;
                if (is_bf16(tensor)) {
                    memcpy(&bits, host + 2 * i, 2);
                    value = rdp_bf16_value(bits);
                } else {
                    memcpy(&value, host + 4 * i, 4);
                }
                if (c < shape.channels)
                    *nchw++ = value;
                else if (value != 0)
                    fail_msg("channel %d of %d only pads and holds %g, not 0", c, shape.channels, (double)value);
            }
    free(host);
}
