/*
 * Memory of the CUDA device and the ways into and out of it. Everything goes through the device's one stream, so that
 * it is in order with the kernels.
 *
 * feed() copies the caller's bytes into pinned host memory and starts their transfer from there; the host may be many
 * steps ahead of the device. The pinned memory is a ring of sections. A section is filled front to back and closed by
 * an event; before it is filled again, the host waits for that event, so that nothing is overwritten that is still to
 * be transferred.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cuda/device.h"

#define MIB 1048576.0

enum {
    SECTIONS = 8,
    SECTION_BYTES = 1 << 20 /* a step of 4096 images feeds 68 KiB: the ring holds more than 100 of them */
};

struct cuda_feed {
    char *pinned;                 /* SECTIONS x section_bytes */
    size_t section_bytes;         /* at least the largest feed so far */
    int section;                  /* that is being filled */
    size_t used;                  /* bytes of it */
    cudaEvent_t closed[SECTIONS]; /* the section's transfers are done */
};

/* What alloc has given: cudaFree does not tell how much it takes back. A network has some dozens. */
struct cuda_block {
    struct cuda_block *next;
    void *pointer;
    size_t bytes;
};

static int remember(struct rdp_device *device, void *pointer, size_t bytes)
{
    struct cuda_block *block;
    RDP_TRY(rdp_calloc((void **)&block, 1, sizeof *block, "the CUDA device"));
    *block = (struct cuda_block){cuda_state(device)->blocks, pointer, bytes};
    cuda_state(device)->blocks = block;
    cuda_state(device)->memory_used += bytes;
    return RDP_OK;
}

static void forget(struct rdp_device *device, const void *pointer)
{
    for (struct cuda_block **link = &cuda_state(device)->blocks; *link != NULL; link = &(*link)->next)
        if ((*link)->pointer == pointer) {
            struct cuda_block *block = *link;
            *link = block->next;
            cuda_state(device)->memory_used -= block->bytes;
            free(block);
            return;
        }
}

void cuda_blocks_close(struct rdp_device *device)
{
    while (cuda_state(device)->blocks != NULL)
        cuda_free(device, cuda_state(device)->blocks->pointer);
}

size_t cuda_memory_used(struct rdp_device *device)
{
    return cuda_state(device)->memory_used;
}

int cuda_alloc(struct rdp_device *device, void **pointer, size_t bytes, const char *what)
{
    *pointer = NULL;
    RDP_TRY(cuda_refuse_recording(device, "alloc"));
    if (bytes == 0)
        return RDP_OK;
    cudaError_t error = cudaMalloc(pointer, bytes);
    if (error == cudaErrorMemoryAllocation) {
        size_t available = 0, total = 0;
        (void)cudaGetLastError();
        *pointer = NULL;
        if (cudaMemGetInfo(&available, &total) != cudaSuccess)
            (void)cudaGetLastError();
        return rdp_fail(RDP_ENOMEM,
                        "%s: no %.1f MiB of GPU memory for %s: %.1f of %.1f MiB are free. Take a smaller --batch (with "
                        "--accumulate for the same step) or --precision bf16, or end what else uses this GPU",
                        device->description, (double)bytes / MIB, what, (double)available / MIB, (double)total / MIB);
    }
    if (error != cudaSuccess)
        return rdp_cuda_failed(error, "cudaMalloc", __FILE__, __LINE__);
    error = cudaMemsetAsync(*pointer, 0, bytes, cuda_state(device)->stream);
    if (error != cudaSuccess) {
        cuda_free(device, *pointer);
        *pointer = NULL;
        return rdp_cuda_failed(error, "cudaMemsetAsync", __FILE__, __LINE__);
    }
    int status = remember(device, *pointer, bytes);
    if (status != RDP_OK) {
        cuda_free(device, *pointer);
        *pointer = NULL;
    }
    return status;
}

/* cudaFree waits for what still uses the memory. What it may report belongs to an earlier call, which idle() tells of. */
void cuda_free(struct rdp_device *device, void *pointer)
{
    if (pointer == NULL)
        return;
    forget(device, pointer);
    if (cudaFree(pointer) != cudaSuccess)
        (void)cudaGetLastError();
}

int cuda_upload(struct rdp_device *device, void *to, const void *host_from, size_t bytes)
{
    RDP_TRY(cuda_refuse_recording(device, "upload"));
    if (bytes == 0)
        return RDP_OK;
    RDP_CUDA(cudaMemcpyAsync(to, host_from, bytes, cudaMemcpyHostToDevice, cuda_state(device)->stream));
    RDP_CUDA(cudaStreamSynchronize(cuda_state(device)->stream));
    return RDP_OK;
}

int cuda_download(struct rdp_device *device, void *host_to, const void *from, size_t bytes)
{
    RDP_TRY(cuda_refuse_recording(device, "download"));
    if (bytes == 0)
        return RDP_OK;
    RDP_CUDA(cudaMemcpyAsync(host_to, from, bytes, cudaMemcpyDeviceToHost, cuda_state(device)->stream));
    RDP_CUDA(cudaStreamSynchronize(cuda_state(device)->stream));
    return RDP_OK;
}

int cuda_zero(struct rdp_device *device, void *pointer, size_t bytes)
{
    if (bytes > 0)
        RDP_CUDA(cudaMemsetAsync(pointer, 0, bytes, cuda_state(device)->stream));
    return RDP_OK;
}

int cuda_copy(struct rdp_device *device, void *to, const void *from, size_t bytes)
{
    if (bytes > 0)
        RDP_CUDA(cudaMemcpyAsync(to, from, bytes, cudaMemcpyDeviceToDevice, cuda_state(device)->stream));
    return RDP_OK;
}

/* Pinned memory of SECTIONS x section_bytes in place of what there was, whose transfers must be done. */
static int reserve(struct cuda_feed *feed, size_t section_bytes)
{
    void *pinned;
    if (feed->pinned != NULL)
        RDP_CUDA(cudaFreeHost(feed->pinned));
    feed->pinned = NULL;
    feed->section_bytes = 0;
    cudaError_t error = cudaHostAlloc(&pinned, SECTIONS * section_bytes, cudaHostAllocDefault);
    if (error == cudaErrorMemoryAllocation) {
        (void)cudaGetLastError();
        return rdp_fail(RDP_ENOMEM,
                        "no %.1f MiB of pinned host memory to feed the GPU from: the host is out of memory, or the "
                        "container may not lock so much (ulimit -l); take a smaller --batch",
                        (double)(SECTIONS * section_bytes) / MIB);
    }
    if (error != cudaSuccess)
        return rdp_cuda_failed(error, "cudaHostAlloc", __FILE__, __LINE__);
    feed->pinned = pinned;
    feed->section_bytes = section_bytes;
    feed->used = 0;
    return RDP_OK;
}

int cuda_feed_open(struct rdp_device *device)
{
    struct cuda_feed *feed;
    RDP_TRY(rdp_calloc((void **)&feed, 1, sizeof *feed, "the CUDA device"));
    cuda_state(device)->feed = feed;
    for (int i = 0; i < SECTIONS; i++) /* a host that is too far ahead sleeps rather than spins */
        RDP_CUDA(cudaEventCreateWithFlags(&feed->closed[i], cudaEventDisableTiming | cudaEventBlockingSync));
    return reserve(feed, SECTION_BYTES);
}

void cuda_feed_close(struct rdp_device *device)
{
    struct cuda_feed *feed = cuda_state(device)->feed;
    if (feed == NULL)
        return;
    for (int i = 0; i < SECTIONS; i++)
        if (feed->closed[i] != NULL)
            (void)cudaEventDestroy(feed->closed[i]);
    if (feed->pinned != NULL)
        (void)cudaFreeHost(feed->pinned);
    free(feed);
    cuda_state(device)->feed = NULL;
}

/* Closes the section that is being filled and waits until the next one may be. An event that was never recorded counts
 * as done. */
static int next_section(struct cuda_feed *feed, cudaStream_t stream)
{
    RDP_CUDA(cudaEventRecord(feed->closed[feed->section], stream));
    feed->section = (feed->section + 1) % SECTIONS;
    feed->used = 0;
    RDP_CUDA(cudaEventSynchronize(feed->closed[feed->section]));
    return RDP_OK;
}

int cuda_feed(struct rdp_device *device, void *to, const void *host_from, size_t bytes)
{
    struct cuda_feed *feed = cuda_state(device)->feed;
    cudaStream_t stream = cuda_state(device)->stream;
    RDP_TRY(cuda_refuse_recording(device, "feed"));
    if (bytes == 0)
        return RDP_OK;
    if (bytes > feed->section_bytes) {
        RDP_CUDA(cudaStreamSynchronize(stream));
        RDP_TRY(reserve(feed, rdp_align(bytes)));
    } else if (bytes > feed->section_bytes - feed->used) {
        RDP_TRY(next_section(feed, stream));
    }
    char *staging = feed->pinned + (size_t)feed->section * feed->section_bytes + feed->used;
    memcpy(staging, host_from, bytes);
    feed->used += rdp_align(bytes); /* stays within the section, whose size is a multiple of the alignment */
    RDP_CUDA(cudaMemcpyAsync(to, staging, bytes, cudaMemcpyHostToDevice, stream));
    return RDP_OK;
}
