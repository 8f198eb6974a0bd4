/*
 * Emulated devices, their memory, pinned host memory, and errors.
 *
 * Device memory comes from one range of addresses that the host can only touch while an operation runs (device_access):
 * a host pointer mistaken for a device pointer fails in the kernel, a device pointer mistaken for a host pointer fails
 * at once. New memory is full of NaN (all bits set, in any floating-point type) and stands between guards of the same;
 * nothing is given out twice, and what was freed cannot be touched ever after, by operations neither.
 *
 * To open and close memory costs what it holds in pages, and is done for every queue that is drained: so only what is
 * allocated is opened, and pages go back to the system when they are freed.
 */
#include <sys/mman.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include <cuda_profiler_api.h>

#include "internal.h"

#ifdef RDP_EMULATION_ASAN
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(address, size)   ((void)(address), (void)(size))
#define ASAN_UNPOISON_MEMORY_REGION(address, size) ((void)(address), (void)(size))
#endif

namespace rdp_emulation {
namespace {

constexpr size_t arena_bytes = size_t{1} << 37, guard = 256, page = 4096;
constexpr int multiprocessors = 5; /* few, for speed; odd, so that nothing relies on a power of two */

struct allocation {
    size_t bytes;
    memory kind;
};

std::map<char *, allocation> allocations; /* by the address that the caller got */
char *arena;
size_t used, live; /* bytes of the arena */
int access_depth;
int current_device;
cudaError_t last_error;

/* Bytes of the device's memory, and those that are free. */
size_t capacity()
{
    const char *text = getenv("RDP_EMULATION_MEMORY");
    return text ? strtoull(text, nullptr, 10) : arena_bytes;
}

size_t available_bytes()
{
    size_t taken = 0;
    for (const auto &[start, block] : allocations)
        taken += block.kind == memory::device ? block.bytes : 0;
    return taken < capacity() ? capacity() - taken : 0;
}

/* What an allocation takes, guards included. */
size_t whole_pages(size_t bytes)
{
    return (bytes + 2 * guard + page - 1) / page * page;
}

void protect(char *begin, const char *end, int protection)
{
    if (begin < end && mprotect(begin, static_cast<size_t>(end - begin), protection))
        rdp_emulation_die("the memory of the emulated device cannot be protected");
}

/* All that is allocated. Neighbours are one call. */
void protect_all(int protection)
{
    char *begin = nullptr, *end = nullptr;
    for (const auto &[start, block] : allocations) {
        if (block.kind != memory::device)
            continue;
        if (start - guard != end) {
            protect(begin, end, protection);
            begin = start - guard;
        }
        end = start - guard + whole_pages(block.bytes);
    }
    protect(begin, end, protection);
}

void check(const char *start, size_t bytes)
{
    for (size_t i = 0; i < guard; i++) {
        long at = start[-1 - static_cast<long>(i)] != '\xff' ? -1 - static_cast<long>(i) : static_cast<long>(bytes + i);
        if (start[at] != '\xff')
            rdp_emulation_die("something wrote outside an allocation of %zu bytes: at byte %ld", bytes, at);
    }
}

char *arena_take(size_t bytes)
{
    if (!arena) {
        void *range = mmap(nullptr, arena_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (range == MAP_FAILED)
            rdp_emulation_die("no addresses for the memory of the emulated device");
        arena = static_cast<char *>(range);
        atexit(rdp_emulation_check_guards);
    }
    if (bytes > arena_bytes - used || whole_pages(bytes) > arena_bytes - used || bytes > available_bytes())
        return nullptr;
    char *start = arena + used;
    used += whole_pages(bytes);
    return start + guard;
}

cudaError_t allocate(void **pointer, size_t bytes, memory kind)
{
    if (cudaError_t error = refuse_capture())
        return error;
    *pointer = nullptr;
    if (!bytes)
        return cudaSuccess;
    char *start = nullptr;
    if (kind == memory::device)
        start = arena_take(bytes);
    else if (char *block = static_cast<char *>(aligned_alloc(page, whole_pages(bytes))))
        start = block + guard;
    if (!start)
        return failed(cudaErrorMemoryAllocation);
    if (kind == memory::device)
        protect(start - guard, start + bytes + guard, PROT_READ | PROT_WRITE);
    memset(start - guard, 0xff, bytes + 2 * guard);
    if (kind == memory::device)
        protect(start - guard, start + bytes + guard, PROT_NONE);
    ASAN_POISON_MEMORY_REGION(start - guard, guard);
    ASAN_POISON_MEMORY_REGION(start + bytes, guard);
    allocations[start] = {bytes, kind};
    live += bytes;
    *pointer = start;
    return cudaSuccess;
}

cudaError_t release(void *pointer, memory kind)
{
    if (!pointer)
        return cudaSuccess;
    if (cudaError_t error = refuse_capture())
        return error;
    auto found = allocations.find(static_cast<char *>(pointer));
    if (found == allocations.end() || found->second.kind != kind)
        return failed(cudaErrorInvalidValue);
    synchronize_all();
    auto [start, block] = *found;
    ASAN_UNPOISON_MEMORY_REGION(start - guard, block.bytes + 2 * guard);
    if (kind == memory::device) {
        protect(start - guard, start + block.bytes + guard, PROT_READ);
        check(start, block.bytes);
        protect(start - guard, start + block.bytes + guard, PROT_NONE);
        if (madvise(start - guard, whole_pages(block.bytes), MADV_DONTNEED))
            rdp_emulation_die("the memory of the emulated device cannot be given back");
        ASAN_POISON_MEMORY_REGION(start, block.bytes);
    } else {
        check(start, block.bytes);
        free(start - guard);
    }
    live -= block.bytes;
    allocations.erase(found);
    return cudaSuccess;
}

int device_count()
{
    const char *text = getenv("RDP_EMULATION_DEVICES");
    return text ? atoi(text) : 1;
}

} // namespace

cudaError_t failed(cudaError_t error)
{
    return last_error = error;
}

device_access::device_access()
{
    if (!access_depth++)
        protect_all(PROT_READ | PROT_WRITE);
}

device_access::~device_access()
{
    if (!--access_depth)
        protect_all(PROT_NONE);
}

memory kind_of(const void *pointer, size_t bytes)
{
    const char *start = static_cast<const char *>(pointer);
    auto next = allocations.upper_bound(const_cast<char *>(start));
    if (next != allocations.begin()) {
        auto [block_start, block] = *--next;
        if (start < block_start + block.bytes) {
            if (start + bytes > block_start + block.bytes)
                rdp_emulation_die("%zu bytes at byte %zu of an allocation of %zu", bytes,
                                  static_cast<size_t>(start - block_start), block.bytes);
            return block.kind;
        }
    }
    if (arena && start >= arena && start < arena + arena_bytes)
        rdp_emulation_die("an address of device memory that belongs to no allocation (freed?)");
    return memory::pageable;
}

} // namespace rdp_emulation

using namespace rdp_emulation;

void rdp_emulation_die(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("CUDA emulation: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    abort();
}

void rdp_emulation_check_guards(void)
{
    device_access access;
    for (auto [start, block] : allocations) {
        ASAN_UNPOISON_MEMORY_REGION(start - guard, block.bytes + 2 * guard);
        check(start, block.bytes);
        ASAN_POISON_MEMORY_REGION(start - guard, guard);
        ASAN_POISON_MEMORY_REGION(start + block.bytes, guard);
    }
}

size_t rdp_emulation_allocations(void)
{
    return allocations.size() + stream_objects();
}

cudaError_t cudaMalloc(void **pointer, size_t bytes)
{
    return allocate(pointer, bytes, memory::device);
}

cudaError_t cudaFree(void *pointer)
{
    return release(pointer, memory::device);
}

cudaError_t cudaHostAlloc(void **pointer, size_t bytes, unsigned)
{
    return allocate(pointer, bytes, memory::pinned);
}

cudaError_t cudaMallocHost(void **pointer, size_t bytes)
{
    return allocate(pointer, bytes, memory::pinned);
}

cudaError_t cudaFreeHost(void *pointer)
{
    return release(pointer, memory::pinned);
}

cudaError_t cudaMemGetInfo(size_t *available, size_t *total)
{
    *total = capacity();
    *available = available_bytes();
    return cudaSuccess;
}

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = device_count();
    return *count > 0 ? cudaSuccess : failed(cudaErrorNoDevice);
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= device_count())
        return failed(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device)
{
    if (device < 0 || device >= device_count())
        return failed(cudaErrorInvalidDevice);
    *properties = {};
    snprintf(properties->name, sizeof properties->name, "emulated device");
    properties->major = 9;
    properties->multiProcessorCount = multiprocessors;
    properties->totalGlobalMem = arena_bytes;
    properties->maxThreadsPerMultiProcessor = 2048;
    properties->warpSize = 32;
    properties->pciBusID = device + 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp properties;
    if (cudaError_t error = cudaGetDeviceProperties(&properties, device))
        return error;
    switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor:
        *value = properties.major;
        break;
    case cudaDevAttrComputeCapabilityMinor:
        *value = properties.minor;
        break;
    case cudaDevAttrMultiProcessorCount:
        *value = properties.multiProcessorCount;
        break;
    default:
        return failed(cudaErrorInvalidValue);
    }
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int size, int device)
{
    if (device < 0 || device >= device_count())
        return failed(cudaErrorInvalidDevice);
    snprintf(text, static_cast<size_t>(size), "0000:%02X:00.0", device + 1);
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaFuncGetAttributes(cudaFuncAttributes *attributes, const void *)
{
    *attributes = {};
    attributes->maxThreadsPerBlock = 1024;
    return cudaSuccess;
}

cudaError_t cudaProfilerStart(void)
{
    return cudaSuccess;
}

cudaError_t cudaProfilerStop(void)
{
    return cudaSuccess;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define NAME(name) \
    case name: \
        return #name
        NAME(cudaSuccess);
        NAME(cudaErrorInvalidValue);
        NAME(cudaErrorMemoryAllocation);
        NAME(cudaErrorInvalidConfiguration);
        NAME(cudaErrorNoDevice);
        NAME(cudaErrorInvalidDevice);
        NAME(cudaErrorInvalidResourceHandle);
        NAME(cudaErrorNotReady);
        NAME(cudaErrorStreamCaptureUnsupported);
        NAME(cudaErrorStreamCaptureInvalidated);
        NAME(cudaErrorStreamCaptureUnjoined);
        NAME(cudaErrorStreamCaptureIsolation);
        NAME(cudaErrorIllegalState);
        NAME(cudaErrorCapturedEvent);
#undef NAME
    default:
        return "an error that the emulation does not make";
    }
}

const char *cudaGetErrorString(cudaError_t error)
{
    return cudaGetErrorName(error);
}
