/* The CPU device: one rank's share of a host's cores, driven through oneDNN and OpenMP. See kernels/kernels.h. */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/memory.h"
#include "kernels/cpu/cpu.h"

size_t cpu_image_bytes(struct rdp_device *device, struct rdp_shape shape, bool is_image)
{
    size_t pixels = (size_t)shape.height * (size_t)shape.width;
    size_t channels = is_image ? (size_t)shape.channels
                               : (size_t)cpu_blocks(device, shape.channels) * (size_t)cpu_state(device)->lanes;
    return channels * pixels * cpu_state(device)->element_size;
}

int cpu_scratchpad_reserve(struct rdp_device *device, size_t bytes)
{
    struct cpu_state *cpu = cpu_state(device);
    if (bytes <= cpu->scratchpad_size)
        return RDP_OK;
    free(cpu->scratchpad);
    cpu->scratchpad = NULL;
    cpu->scratchpad_size = 0;
    RDP_TRY(rdp_alloc_aligned(&cpu->scratchpad, bytes, "the convolutions' scratchpad"));
    cpu->scratchpad_size = bytes;
    return RDP_OK;
}

static int cpu_alloc(struct rdp_device *device, void **pointer, size_t bytes, const char *what)
{
    (void)device;
    return rdp_alloc_aligned(pointer, bytes, what);
}

static void cpu_free(struct rdp_device *device, void *pointer)
{
    (void)device;
    free(pointer);
}

static int cpu_copy(struct rdp_device *device, void *to, const void *from, size_t bytes)
{
    (void)device;
    if (bytes > 0)
        memcpy(to, from, bytes);
    return RDP_OK;
}

static int cpu_zero(struct rdp_device *device, void *pointer, size_t bytes)
{
    (void)device;
    memset(pointer, 0, bytes);
    return RDP_OK;
}

static int cpu_synchronize(struct rdp_device *device)
{
    RDP_DNN(dnnl_stream_wait(cpu_state(device)->stream));
    return RDP_OK;
}

static int cpu_idle(struct rdp_device *device, bool *idle)
{
    (void)device;
    *idle = true; /* every call is finished when it returns */
    return RDP_OK;
}

static void *cpu_stream(struct rdp_device *device)
{
    (void)device;
    return NULL;
}

static size_t cpu_copy_size(struct rdp_device *device)
{
    (void)device;
    return 0;
}

static int cpu_stamp(struct rdp_device *device, int i)
{
    cpu_state(device)->stamps[i] = rdp_now();
    return RDP_OK;
}

static int cpu_stamp_seconds(struct rdp_device *device, int from, int to, double *seconds)
{
    *seconds = cpu_state(device)->stamps[to] - cpu_state(device)->stamps[from];
    return RDP_OK;
}

static void cpu_close(struct rdp_device *device)
{
    struct cpu_state *cpu = cpu_state(device);
    if (cpu != NULL) {
        if (cpu->stream != NULL)
            dnnl_stream_destroy(cpu->stream);
        if (cpu->engine != NULL)
            dnnl_engine_destroy(cpu->engine);
        free(cpu->scratchpad);
        free(cpu);
    }
    free(device);
}

static const struct rdp_device_ops cpu_ops = {
    .name = "cpu",
    .host_memory = true,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .upload = cpu_copy,
    .download = cpu_copy,
    .zero = cpu_zero,
    .synchronize = cpu_synchronize,
    .feed = cpu_copy,
    .copy = cpu_copy,
    .idle = cpu_idle,
    .stream = cpu_stream,
    .stamp = cpu_stamp,
    .stamp_seconds = cpu_stamp_seconds,
    .image_bytes = cpu_image_bytes,
    .chunk = cpu_chunk,
    .augment = cpu_augment,
    .mix = cpu_mix,
    .conv_create = cpu_conv_create,
    .conv_destroy = cpu_conv_destroy,
    .conv_pack = cpu_conv_pack,
    .conv_unpack = cpu_conv_unpack,
    .copy_size = cpu_copy_size,
    .conv_weights = cpu_conv_weights,
    .conv_forward = cpu_conv_forward,
    .conv_backward_data = cpu_conv_backward_data,
    .conv_backward_weights = cpu_conv_backward_weights,
    .bn_create = cpu_bn_create,
    .bn_destroy = cpu_bn_destroy,
    .bn_statistics = cpu_bn_statistics,
    .bn_statistics_sum = cpu_bn_statistics_sum,
    .bn_finalize = cpu_bn_finalize,
    .bn_use_running = cpu_bn_use_running,
    .bn_apply = cpu_bn_apply,
    .bn_backward_reduce = cpu_bn_backward_reduce,
    .bn_backward_sum = cpu_bn_backward_sum,
    .bn_backward_finalize = cpu_bn_backward_finalize,
    .bn_backward_apply = cpu_bn_backward_apply,
    .pad_forward = cpu_pad_forward,
    .pad_backward = cpu_pad_backward,
    .max_pool_forward = cpu_max_pool_forward,
    .max_pool_backward = cpu_max_pool_backward,
    .dropout_forward = cpu_dropout_forward,
    .dropout_backward = cpu_dropout_backward,
    .pool_forward = cpu_pool_forward,
    .pool_backward = cpu_pool_backward,
    .fc_forward = cpu_fc_forward,
    .fc_backward = cpu_fc_backward,
    .loss = cpu_loss,
    .add = cpu_add,
    .update = cpu_update,
    .average = cpu_average,
    .lookahead = cpu_lookahead,
};

static const struct rdp_vector_set *choose_vectors(void)
{
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
        __builtin_cpu_supports("avx512vl"))
        return &rdp_vector_avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        return &rdp_vector_avx2;
#endif
    return &rdp_vector_generic;
}

int rdp_cpu_device_open(struct rdp_device **device, const struct rdp_device_config *config)
{
    const bool bf16 = config->precision == RDP_KERNEL_BF16;
    *device = NULL;
    if (config->precision == RDP_KERNEL_TF32)
        return rdp_fail(RDP_EUSAGE,
                        "--precision tf32: the CPU has no such arithmetic; use fp32 or bf16, or --device cuda");
    RDP_TRY(rdp_calloc((void **)device, 1, sizeof **device, "the CPU device"));
    (*device)->ops = &cpu_ops;
    (*device)->config = *config;
    int status = rdp_calloc(&(*device)->state, 1, sizeof(struct cpu_state), "the CPU device");
    if (status != RDP_OK)
        goto fail;
    struct cpu_state *cpu = cpu_state(*device);
    cpu->vectors = choose_vectors();
    cpu->loops = bf16 ? &cpu->vectors->bf16 : &cpu->vectors->f32;
    cpu->lanes = cpu->loops->lanes;
    cpu->element_size = bf16 ? 2 : 4;
    omp_set_dynamic(0);
    omp_set_num_threads(config->threads);
    if (dnnl_engine_create(&cpu->engine, dnnl_cpu, 0) != dnnl_success ||
        dnnl_stream_create(&cpu->stream, cpu->engine, dnnl_stream_default_flags) != dnnl_success) {
        status = rdp_fail(RDP_EDEVICE, "oneDNN: no CPU engine could be created");
        goto fail;
    }
    const dnnl_version_t *version = dnnl_version();
    snprintf((*device)->description, sizeof(*device)->description, "CPU, %d thread%s, oneDNN %d.%d.%d, %s loops",
             config->threads, config->threads == 1 ? "" : "s", version->major, version->minor, version->patch,
             cpu->loops->name);
    snprintf((*device)->rounding, sizeof(*device)->rounding, "CPU, oneDNN %d.%d.%d for ISA %#x, %s loops",
             version->major, version->minor, version->patch, (unsigned)dnnl_get_effective_cpu_isa(), cpu->loops->name);
    return RDP_OK;
fail:
    rdp_device_close(*device);
    *device = NULL;
    return status;
}
