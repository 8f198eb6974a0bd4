/* What this build has code for; probe.cu. Used by identify.c and device.c. */
#ifndef RDP_KERNELS_CUDA_PROBE_H
#define RDP_KERNELS_CUDA_PROBE_H

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether this build's kernels can be loaded on the current device: cudaErrorNoKernelImageForDevice if it has no code
 * for it. Creates the device's context. */
cudaError_t rdp_cuda_probe(void);
/* The oldest architecture this build has code for: 10 x compute capability, 80 for 8.0; 0 if the compiler does not say.
 */
int rdp_cuda_oldest_architecture(void);

#ifdef __cplusplus
}
#endif

#endif
