/* A kernel that is never launched: whether it can be loaded says whether any of ours can. See probe.h. */
#include "kernels/cuda/probe.h"

namespace {

__global__ void probe_kernel(int *nothing)
{
    *nothing = 0;
}

} // namespace

extern "C" cudaError_t rdp_cuda_probe(void)
{
    cudaFuncAttributes attributes;
    return cudaFuncGetAttributes(&attributes, probe_kernel);
}

extern "C" int rdp_cuda_oldest_architecture(void)
{
#ifdef __CUDA_ARCH_LIST__ /* nvcc: all architectures it compiles for, 800,900 */
    const int architectures[] = {__CUDA_ARCH_LIST__};
    int oldest = architectures[0];
    for (int architecture : architectures)
        oldest = architecture < oldest ? architecture : oldest;
    return oldest / 10;
#else
    return 0;
#endif
}
