/*
 * Time stamps, which are CUDA events, and recordings, which are CUDA graphs captured from the device's stream. A
 * recording is made in "thread local" mode: what other threads do (MPI's, a profiler's) does not disturb it.
 */
#include <stdlib.h>

#include "base/memory.h"
#include "kernels/cuda/device.h"

struct rdp_recording {
    cudaGraphExec_t graph;
};

int cuda_stamp(struct rdp_device *device, int i)
{
    struct cuda_state *cuda = cuda_state(device);
    RDP_TRY(cuda_refuse_recording(device, "stamp"));
    if (i < 0 || i >= RDP_STAMPS)
        return rdp_fail(RDP_EINTERNAL, "CUDA: time stamp %d is none of 0 .. %d", i, RDP_STAMPS - 1);
    if (cuda->stamps == NULL)
        RDP_TRY(rdp_calloc((void **)&cuda->stamps, RDP_STAMPS, sizeof(cudaEvent_t), "time stamps"));
    if (cuda->stamps[i] == NULL)
        RDP_CUDA(cudaEventCreate(&cuda->stamps[i]));
    RDP_CUDA(cudaEventRecord(cuda->stamps[i], cuda->stream));
    return RDP_OK;
}

int cuda_stamp_seconds(struct rdp_device *device, int from, int to, double *seconds)
{
    struct cuda_state *cuda = cuda_state(device);
    float milliseconds = 0;
    RDP_TRY(cuda_refuse_recording(device, "stamp_seconds"));
    if (from < 0 || to < 0 || from >= RDP_STAMPS || to >= RDP_STAMPS || cuda->stamps == NULL ||
        cuda->stamps[from] == NULL || cuda->stamps[to] == NULL)
        return rdp_fail(RDP_EINTERNAL, "CUDA: time between stamps %d and %d, which were not both made", from, to);
    RDP_CUDA(cudaEventSynchronize(cuda->stamps[to]));
    RDP_CUDA(cudaEventElapsedTime(&milliseconds, cuda->stamps[from], cuda->stamps[to]));
    *seconds = (double)milliseconds * 1e-3;
    return RDP_OK;
}

void cuda_stamps_close(struct rdp_device *device)
{
    struct cuda_state *cuda = cuda_state(device);
    for (int i = 0; cuda->stamps != NULL && i < RDP_STAMPS; i++)
        if (cuda->stamps[i] != NULL)
            (void)cudaEventDestroy(cuda->stamps[i]);
    free(cuda->stamps);
    cuda->stamps = NULL;
}

static int cannot_record(cudaError_t error, const char *call)
{
    (void)cudaGetLastError();
    return rdp_fail(error == cudaErrorMemoryAllocation ? RDP_ENOMEM : RDP_EDEVICE,
                    "the training step could not be recorded as a CUDA graph: %s: %s (%s). Run with --graph no, which "
                    "launches the step's kernels one by one",
                    call, cudaGetErrorString(error), cudaGetErrorName(error));
}

int cuda_record_begin(struct rdp_device *device)
{
    struct cuda_state *cuda = cuda_state(device);
    RDP_TRY(cuda_refuse_recording(device, "record_begin"));
    cudaError_t error = cudaStreamBeginCapture(cuda->stream, cudaStreamCaptureModeThreadLocal);
    if (error != cudaSuccess)
        return cannot_record(error, "cudaStreamBeginCapture");
    cuda->recording = true;
    return RDP_OK;
}

/* The captured graph made ready to run. */
static int instantiate(struct cuda_state *cuda, cudaGraph_t graph, struct rdp_recording *recording)
{
    /* Each kernel keeps the priority of the stream it was captured from: sums over ranks go first. */
    cudaError_t error = cudaGraphInstantiate(&recording->graph, graph, cudaGraphInstantiateFlagUseNodePriority);
    if (error != cudaSuccess) {
        recording->graph = NULL;
        return cannot_record(error, "cudaGraphInstantiate");
    }
    error = cudaGraphUpload(recording->graph, cuda->stream);
    if (error != cudaSuccess)
        return cannot_record(error, "cudaGraphUpload");
    return RDP_OK;
}

int cuda_record_end(struct rdp_device *device, struct rdp_recording **recording)
{
    struct cuda_state *cuda = cuda_state(device);
    cudaGraph_t graph = NULL;
    if (recording != NULL)
        *recording = NULL;
    if (!cuda->recording)
        return rdp_fail(RDP_EINTERNAL, "CUDA: record_end without record_begin");
    cuda->recording = false;
    /* Ends the capture in any case; an error says that a call in between had made it worthless. */
    cudaError_t error = cudaStreamEndCapture(cuda->stream, &graph);
    int status = RDP_OK;
    if (error != cudaSuccess) {
        (void)cudaGetLastError();
        if (recording != NULL)
            status = cannot_record(error, "cudaStreamEndCapture");
    } else if (recording != NULL) {
        status = rdp_calloc((void **)recording, 1, sizeof **recording, "a recorded step");
        cuda->recordings += status == RDP_OK;
        if (status == RDP_OK)
            status = instantiate(cuda, graph, *recording);
        if (status != RDP_OK) {
            cuda_recording_destroy(device, *recording);
            *recording = NULL;
        }
    }
    if (graph != NULL)
        (void)cudaGraphDestroy(graph);
    return status;
}

int cuda_replay(struct rdp_device *device, struct rdp_recording *recording)
{
    RDP_TRY(cuda_refuse_recording(device, "replay"));
    RDP_CUDA(cudaGraphLaunch(recording->graph, cuda_state(device)->stream));
    return RDP_OK;
}

void cuda_recording_destroy(struct rdp_device *device, struct rdp_recording *recording)
{
    if (recording == NULL)
        return;
    cuda_state(device)->recordings--;
    if (recording->graph != NULL && cudaGraphExecDestroy(recording->graph) != cudaSuccess)
        (void)cudaGetLastError();
    free(recording);
}
