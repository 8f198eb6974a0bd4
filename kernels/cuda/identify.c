/*
 * Which CUDA devices there are, without opening one: nothing here creates a context, which on a host with eight GPUs
 * would cost every rank seconds and every GPU memory. A machine without a GPU, or without a driver, is no error: a
 * program built with CUDA trains there on the CPU.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "kernels/cuda/device.h"
#include "kernels/cuda/probe.h"

/* 10 x compute capability, 0 if it cannot be had. */
static int architecture_of(int ordinal)
{
    int major = 0, minor = 0;
    if (cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, ordinal) != cudaSuccess ||
        cudaDeviceGetAttribute(&minor, cudaDevAttrComputeCapabilityMinor, ordinal) != cudaSuccess) {
        (void)cudaGetLastError();
        return 0;
    }
    return 10 * major + minor;
}

/* Why CUDA gives no devices. */
static void explain(cudaError_t error, char *why, size_t why_size)
{
    int runtime = 0, driver = 0;
    (void)cudaRuntimeGetVersion(&runtime);
    (void)cudaDriverGetVersion(&driver);
    if (error == cudaErrorInsufficientDriver && driver > 0)
        snprintf(why, why_size,
                 "the NVIDIA driver is too old: it knows CUDA %d.%d, this resnet-dp was built with CUDA %d.%d (update "
                 "the driver, or build with an older CUDA)",
                 driver / 1000, driver % 1000 / 10, runtime / 1000, runtime % 1000 / 10);
    else if (error == cudaErrorInsufficientDriver || error == cudaErrorStubLibrary)
        snprintf(why, why_size, "this machine has no NVIDIA driver, or this container was not given it");
    else if (error == cudaErrorNoDevice || error == cudaSuccess)
        snprintf(why, why_size,
                 "the NVIDIA driver shows no GPU (is there one, and does CUDA_VISIBLE_DEVICES hide it?)");
    else
        snprintf(why, why_size, "CUDA cannot use this machine's GPUs: %s (%s)", cudaGetErrorString(error),
                 cudaGetErrorName(error));
    (void)cudaGetLastError();
}

int rdp_cuda_device_count(char *why, size_t why_size)
{
    int visible = 0, usable = 0, newest = 0;
    const int oldest = rdp_cuda_oldest_architecture();
    cudaError_t error = cudaGetDeviceCount(&visible);
    if (error != cudaSuccess || visible == 0) {
        explain(error, why, why_size);
        return 0;
    }
    for (int ordinal = 0; ordinal < visible; ordinal++) {
        int architecture = architecture_of(ordinal);
        newest = architecture > newest ? architecture : newest;
        usable += architecture >= oldest;
    }
    if (usable == 0)
        snprintf(
            why, why_size,
            "no GPU here is new enough: the newest has compute capability %d.%d, this resnet-dp has code for %d.%d "
            "and newer (-DCMAKE_CUDA_ARCHITECTURES chooses that when it is built)",
            newest / 10, newest % 10, oldest / 10, oldest % 10);
    else if (why_size > 0)
        why[0] = '\0';
    return usable;
}

int cuda_ordinal(int index)
{
    int visible = 0;
    if (cudaGetDeviceCount(&visible) != cudaSuccess) {
        (void)cudaGetLastError();
        return -1;
    }
    for (int ordinal = 0; index >= 0 && ordinal < visible; ordinal++)
        if (architecture_of(ordinal) >= rdp_cuda_oldest_architecture() && index-- == 0)
            return ordinal;
    return -1;
}

int rdp_cuda_device_identify(int index, struct rdp_cuda_identity *identity)
{
    struct cudaDeviceProp properties;
    char why[256];
    const int count = rdp_cuda_device_count(why, sizeof why), ordinal = cuda_ordinal(index);
    memset(identity, 0, sizeof *identity);
    if (count == 0)
        return rdp_fail(RDP_EUSAGE, "no CUDA device can be used: %s. --device cpu trains on the CPU", why);
    if (ordinal < 0)
        return rdp_fail(RDP_EUSAGE, "there is no CUDA device %d: this process sees %d (CUDA_VISIBLE_DEVICES)", index,
                        count);
    RDP_CUDA(cudaGetDeviceProperties(&properties, ordinal));
    RDP_CUDA(cudaDeviceGetPCIBusId(identity->pci_bus, (int)sizeof identity->pci_bus, ordinal));
    for (char *c = identity->pci_bus; *c != '\0'; c++)
        *c = (char)tolower((unsigned char)*c);
    snprintf(identity->name, sizeof identity->name, "%.127s", properties.name);
    identity->major = properties.major;
    identity->minor = properties.minor;
    identity->memory = properties.totalGlobalMem;
    return RDP_OK;
}

const char *rdp_cuda_versions(void)
{
    static char text[96];
    char driver_text[32] = "none";
    int runtime = 0, driver = 0;
    if (cudaRuntimeGetVersion(&runtime) != cudaSuccess || cudaDriverGetVersion(&driver) != cudaSuccess)
        (void)cudaGetLastError();
    if (driver > 0)
        snprintf(driver_text, sizeof driver_text, "%d.%d", driver / 1000, driver % 1000 / 10);
    snprintf(text, sizeof text, "CUDA runtime %d.%d, driver %s, %s", runtime / 1000, runtime % 1000 / 10, driver_text,
             cuda_library_version());
    return text;
}
