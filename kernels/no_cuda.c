/* The CUDA device of a build without CUDA: there is none, and asking for one says so. See kernels.h. */
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "kernels/kernels.h"

int rdp_cuda_device_count(char *why, size_t why_size)
{
    snprintf(why, why_size, "this resnet-dp was built without CUDA");
    return 0;
}

static int no_cuda(void)
{
    return rdp_fail(RDP_EUSAGE, "no CUDA device can be used: this resnet-dp was built without CUDA. Build it with "
                                "-DRESNET_DP_CUDA=ON, or train on the CPU with --device cpu");
}

int rdp_cuda_device_identify(int index, struct rdp_cuda_identity *identity)
{
    (void)index;
    memset(identity, 0, sizeof *identity);
    return no_cuda();
}

const char *rdp_cuda_versions(void)
{
    return "not in this build";
}

int rdp_cuda_device_open(struct rdp_device **device, const struct rdp_device_config *config)
{
    (void)config;
    *device = NULL;
    return no_cuda();
}
