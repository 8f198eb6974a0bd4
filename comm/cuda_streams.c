/* Streams and events of the CUDA runtime; see cuda_streams.h. */
#include "comm/cuda_streams.h"

#include "base/status.h"

int rdp_stream_failed(cudaError_t error, const char *call, const char *file, int line)
{
    return rdp_fail(error == cudaErrorMemoryAllocation ? RDP_ENOMEM : RDP_EDEVICE, "%s failed at %s:%d: %s (%s)", call,
                    file, line, cudaGetErrorString(error), cudaGetErrorName(error));
}

int rdp_stream_create(cudaStream_t *stream)
{
    int least, greatest;

    RDP_CUDA(cudaDeviceGetStreamPriorityRange(&least, &greatest));
    RDP_CUDA(cudaStreamCreateWithPriority(stream, cudaStreamNonBlocking, greatest));
    return RDP_OK;
}

int rdp_event_create(cudaEvent_t *event)
{
    RDP_CUDA(cudaEventCreateWithFlags(event, cudaEventDisableTiming));
    return RDP_OK;
}

int rdp_stream_follow(cudaStream_t stream, cudaStream_t leader, cudaEvent_t event)
{
    RDP_CUDA(cudaEventRecord(event, leader));
    RDP_CUDA(cudaStreamWaitEvent(stream, event, 0));
    return RDP_OK;
}

int rdp_event_happened(cudaEvent_t event, bool *happened)
{
    cudaError_t error = cudaEventQuery(event);

    *happened = error == cudaSuccess;
    if (error == cudaErrorNotReady) {
        /* Not an error, but the runtime keeps it as the last one, which whoever launches a kernel next would find. */
        (void)cudaGetLastError();
        return RDP_OK;
    }
    if (error != cudaSuccess)
        return rdp_stream_failed(error, "cudaEventQuery", __FILE__, __LINE__);
    return RDP_OK;
}
