/* How the shared per-element functions are declared: plain inline functions in C and in host C++, for both sides of a
 * CUDA compilation. */
#ifndef RDP_KERNELS_COMMON_FUNCTION_H
#define RDP_KERNELS_COMMON_FUNCTION_H

#ifdef __CUDACC__
#define RDP_DEVICE_FUNCTION static __host__ __device__ inline
#else
#define RDP_DEVICE_FUNCTION static inline
#endif

#endif
