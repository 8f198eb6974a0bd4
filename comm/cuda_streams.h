/*
 * Streams and events of the CUDA runtime, as the reducers use them; inside comm/ and in builds with CUDA only. RDP_CUDA
 * is comm's own: no file sees this header and kernels/cuda's.
 */
#ifndef RDP_COMM_CUDA_STREAMS_H
#define RDP_COMM_CUDA_STREAMS_H

#include <cuda_runtime_api.h>
#include <stdbool.h>

/* The words for a failed call. Returns RDP_EDEVICE (RDP_ENOMEM for an allocation). */
int rdp_stream_failed(cudaError_t error, const char *call, const char *file, int line);

/* Evaluates the call once; on failure the function returns. */
#define RDP_CUDA(call) \
    do { \
        cudaError_t rdp_cuda_error_ = (call); \
        if (rdp_cuda_error_ != cudaSuccess) \
            return rdp_stream_failed(rdp_cuda_error_, #call, __FILE__, __LINE__); \
    } while (0)

/* A stream that the legacy default stream does not hold up, of the highest priority: what it carries is short, and
 * others wait for it. */
int rdp_stream_create(cudaStream_t *stream);
/* Without timing, which makes it cheap. */
int rdp_event_create(cudaEvent_t *event);
/* What `stream` is given from now on starts after what `leader` was given so far. `event` is free for reuse at once. */
int rdp_stream_follow(cudaStream_t stream, cudaStream_t leader, cudaEvent_t event);
/* Whether what was recorded has happened; never blocks. Not for events of a capture. */
int rdp_event_happened(cudaEvent_t event, bool *happened);

#endif
