/*
 * The CUDA device: one GPU, driven through one stream. See kernels/kernels.h for the contract and cuda.h for layouts.
 *
 * Everything that computes is started on the stream and not waited for; errors of what runs there come back from a
 * later call, idle() at the latest. A process drives one CUDA device, which is the current one of the thread that
 * opened it.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cuda_profiler_api.h>
#include <nvtx3/nvToolsExt.h>

#include "base/memory.h"
#include "kernels/cuda/device.h"
#include "kernels/cuda/probe.h"

#define GIB 1073741824.0

/* What the user can do about it; "" where only the error's own words help. */
static const char *advice(cudaError_t error)
{
    switch (error) {
    case cudaErrorMemoryAllocation:
        return ". Take a smaller --batch or --precision bf16, or end what else uses this GPU";
    case cudaErrorECCUncorrectable:
    case cudaErrorHardwareStackError:
        return ". The GPU reports a hardware fault: look at `nvidia-smi -q` and take another one "
               "(CUDA_VISIBLE_DEVICES)";
    case cudaErrorDevicesUnavailable:
        return ". Another process has the GPU for itself (compute mode \"exclusive\"), or it is not ready: see "
               "`nvidia-smi`";
    case cudaErrorNoKernelImageForDevice:
    case cudaErrorInvalidDeviceFunction:
    case cudaErrorUnsupportedPtxVersion:
        return ". This resnet-dp has no code for this GPU: build it with -DCMAKE_CUDA_ARCHITECTURES of its compute "
               "capability";
    case cudaErrorIllegalAddress:
    case cudaErrorMisalignedAddress:
    case cudaErrorIllegalInstruction:
    case cudaErrorInvalidPc:
    case cudaErrorLaunchFailure:
        return ". A kernel that ran earlier failed: CUDA_LAUNCH_BLOCKING=1 with --graph no names the call, "
               "compute-sanitizer the place";
    default:
        return "";
    }
}

int rdp_cuda_failed(cudaError_t error, const char *call, const char *file, int line)
{
    const char *in_repository = strstr(file, "kernels/cuda/");
    (void)cudaGetLastError(); /* reported here: the next call's check must not see it again */
    return rdp_fail(error == cudaErrorMemoryAllocation ? RDP_ENOMEM : RDP_EDEVICE, "CUDA: %s: %s (%s, %s:%d)%s", call,
                    cudaGetErrorString(error), cudaGetErrorName(error), in_repository != NULL ? in_repository : file,
                    line, advice(error));
}

int cuda_refuse_recording(struct rdp_device *device, const char *operation)
{
    if (!cuda_state(device)->recording)
        return RDP_OK;
    return rdp_fail(RDP_EINTERNAL,
                    "CUDA: %s was called while the step was being recorded, which it cannot be part of. Run with "
                    "--graph no and report this",
                    operation);
}

int cuda_workspace_reserve(struct rdp_device *device, size_t bytes)
{
    struct cuda_state *cuda = cuda_state(device);
    if (bytes <= cuda->workspace_size)
        return RDP_OK;
    RDP_TRY(cuda_refuse_recording(device, "a larger workspace"));
    if (cuda->recordings == 0) /* else it stays until the device is closed */
        cuda_free(device, cuda->workspace);
    cuda->workspace = NULL;
    cuda->workspace_size = 0;
    RDP_TRY(cuda_alloc(device, &cuda->workspace, bytes, "the convolutions' workspace"));
    cuda->workspace_size = bytes;
    return RDP_OK;
}

static int cuda_synchronize(struct rdp_device *device)
{
    RDP_TRY(cuda_refuse_recording(device, "synchronize"));
    RDP_CUDA(cudaStreamSynchronize(cuda_state(device)->stream));
    return RDP_OK;
}

static int cuda_idle(struct rdp_device *device, bool *idle)
{
    *idle = false;
    RDP_TRY(cuda_refuse_recording(device, "idle"));
    cudaError_t error = cudaStreamQuery(cuda_state(device)->stream);
    if (error == cudaErrorNotReady) {
        (void)cudaGetLastError(); /* not an error, but it would be the "last" one */
        return RDP_OK;
    }
    if (error != cudaSuccess)
        return rdp_cuda_failed(error, "what was started on the GPU", __FILE__, __LINE__);
    *idle = true;
    return RDP_OK;
}

static void *cuda_stream(struct rdp_device *device)
{
    return cuda_state(device)->stream;
}

static void cuda_range_push(struct rdp_device *device, const char *name)
{
    (void)device;
    nvtxRangePushA(name);
}

static void cuda_range_pop(struct rdp_device *device)
{
    (void)device;
    nvtxRangePop();
}

/* The stream is drained first, so that the window holds what was started in it and nothing else. */
static int cuda_profile(struct rdp_device *device, bool on)
{
    RDP_TRY(cuda_synchronize(device));
    if (on)
        RDP_CUDA(cudaProfilerStart());
    else
        RDP_CUDA(cudaProfilerStop());
    return RDP_OK;
}

static size_t cuda_image_bytes(struct rdp_device *device, struct rdp_shape shape, bool is_image)
{
    (void)is_image; /* the image is an activation like the others */
    return (size_t)cuda_padded(shape.channels) * (size_t)shape.height * (size_t)shape.width *
           cuda_state(device)->element_size;
}

/* f32 devices convolve from the stored weights; bf16 ones from their bf16 copy. */
static size_t cuda_copy_size(struct rdp_device *device)
{
    return cuda_state(device)->bf16 ? cuda_state(device)->element_size : 0;
}

static void cuda_close(struct rdp_device *device)
{
    struct cuda_state *cuda = cuda_state(device);
    if (cuda != NULL) {
        if (cuda->recording) /* the run ends with an error in between */
            (void)cuda_record_end(device, NULL);
        if (cuda->stream != NULL)
            (void)cudaStreamSynchronize(cuda->stream);
        if (cuda->library != NULL)
            cuda_library_close(device);
        cuda_free(device, cuda->workspace);
        cuda_blocks_close(device);
        cuda_stamps_close(device);
        cuda_feed_close(device);
        if (cuda->stream != NULL)
            (void)cudaStreamDestroy(cuda->stream);
        (void)cudaGetLastError();
        free(cuda);
    }
    free(device);
}

static const struct rdp_device_ops cuda_ops = {
    .name = "cuda",
    .host_memory = false,
    .close = cuda_close,
    .alloc = cuda_alloc,
    .free = cuda_free,
    .memory_used = cuda_memory_used,
    .upload = cuda_upload,
    .download = cuda_download,
    .zero = cuda_zero,
    .synchronize = cuda_synchronize,
    .feed = cuda_feed,
    .copy = cuda_copy,
    .idle = cuda_idle,
    .stream = cuda_stream,
    .stamp = cuda_stamp,
    .stamp_seconds = cuda_stamp_seconds,
    .record_begin = cuda_record_begin,
    .record_end = cuda_record_end,
    .replay = cuda_replay,
    .recording_destroy = cuda_recording_destroy,
    .range_push = cuda_range_push,
    .range_pop = cuda_range_pop,
    .profile = cuda_profile,
    .image_bytes = cuda_image_bytes,
    .chunk = cuda_chunk,
    .augment = cuda_augment,
    .mix = cuda_mix,
    .conv_create = cuda_conv_create,
    .conv_destroy = cuda_conv_destroy,
    .conv_pack = cuda_conv_pack,
    .conv_unpack = cuda_conv_unpack,
    .copy_size = cuda_copy_size,
    .conv_weights = cuda_conv_weights,
    .conv_forward = cuda_conv_forward,
    .conv_forward_statistics = cuda_conv_forward_statistics,
    .conv_backward_data = cuda_conv_backward_data,
    .conv_backward_weights = cuda_conv_backward_weights,
    .bn_create = cuda_bn_create,
    .bn_destroy = cuda_bn_destroy,
    .bn_statistics = cuda_bn_statistics,
    .bn_statistics_sum = cuda_bn_statistics_sum,
    .bn_finalize = cuda_bn_finalize,
    .bn_use_running = cuda_bn_use_running,
    .bn_apply = cuda_bn_apply,
    .bn_backward_reduce = cuda_bn_backward_reduce,
    .bn_backward_sum = cuda_bn_backward_sum,
    .bn_backward_finalize = cuda_bn_backward_finalize,
    .bn_backward_apply = cuda_bn_backward_apply,
    .pad_forward = cuda_pad_forward,
    .pad_backward = cuda_pad_backward,
    .max_pool_forward = cuda_max_pool_forward,
    .max_pool_backward = cuda_max_pool_backward,
    .dropout_forward = cuda_dropout_forward,
    .dropout_backward = cuda_dropout_backward,
    .pool_forward = cuda_pool_forward,
    .pool_backward = cuda_pool_backward,
    .fc_forward = cuda_fc_forward,
    .fc_backward = cuda_fc_backward,
    .loss = cuda_loss,
    .add = cuda_add,
    .update = cuda_update,
    .average = cuda_average,
    .lookahead = cuda_lookahead,
};

/* What the precision asks of the GPU: tensor cores for tf32 and bf16 begin with compute capability 8.0. */
static int check_precision(const struct rdp_cuda_identity *identity, enum rdp_kernel_precision precision)
{
    if (precision == RDP_KERNEL_F32 || identity->major >= 8)
        return RDP_OK;
    return rdp_fail(RDP_EUSAGE,
                    "%s (%s) has no %s arithmetic: that begins with compute capability 8.0, it has %d.%d. Take "
                    "--precision fp32",
                    identity->name, identity->pci_bus, precision == RDP_KERNEL_BF16 ? "bf16" : "tf32", identity->major,
                    identity->minor);
}

static int start(struct rdp_device *device, const struct rdp_cuda_identity *identity)
{
    struct cuda_state *cuda = cuda_state(device);
    const int ordinal = cuda_ordinal(device->config.index);
    cuda->bf16 = device->config.precision == RDP_KERNEL_BF16;
    cuda->element_size = cuda->bf16 ? 2 : 4;
    RDP_CUDA(cudaSetDevice(ordinal));
    cudaError_t error = rdp_cuda_probe();
    if (error != cudaSuccess)
        return rdp_cuda_failed(error, "loading this program's kernels", __FILE__, __LINE__);
    RDP_CUDA(cudaDeviceGetAttribute(&cuda->sm_count, cudaDevAttrMultiProcessorCount, ordinal));
    RDP_CUDA(cudaStreamCreateWithFlags(&cuda->stream, cudaStreamNonBlocking));
    RDP_TRY(cuda_feed_open(device));
    RDP_TRY(cuda_library_open(device));
    snprintf(device->description, sizeof device->description,
             "%s (%s, compute %d.%d, %d SMs, %.1f GiB), CUDA %d.%d, %s", identity->name, identity->pci_bus,
             identity->major, identity->minor, cuda->sm_count, (double)identity->memory / GIB, CUDART_VERSION / 1000,
             CUDART_VERSION % 1000 / 10, cuda_library_version());
    snprintf(device->rounding, sizeof device->rounding, "%s, compute %d.%d, %d SMs, %s", identity->name,
             identity->major, identity->minor, cuda->sm_count, cuda_library_version());
    return RDP_OK;
}

int rdp_cuda_device_open(struct rdp_device **device, const struct rdp_device_config *config)
{
    struct rdp_cuda_identity identity;
    *device = NULL;
    RDP_TRY(rdp_cuda_device_identify(config->index, &identity));
    RDP_TRY(check_precision(&identity, config->precision));
    RDP_TRY(rdp_calloc((void **)device, 1, sizeof **device, "the CUDA device"));
    (*device)->ops = &cuda_ops;
    (*device)->config = *config;
    int status = rdp_calloc(&(*device)->state, 1, sizeof(struct cuda_state), "the CUDA device");
    if (status == RDP_OK)
        status = start(*device, &identity);
    if (status != RDP_OK) {
        rdp_device_close(*device);
        *device = NULL;
    }
    return status;
}
