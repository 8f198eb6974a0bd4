/* The flat arrays on a CUDA device: starts the kernels of elementwise.cu and optimiser.cu. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launchers.h"

int cuda_add(struct rdp_device *device, float *to, const float *from, size_t count)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_add(cuda->stream, to, from, count, cuda->sm_count));
    return RDP_OK;
}

int cuda_update(struct rdp_device *device, const struct rdp_optimiser *optimiser, const struct rdp_step_values *values,
                const struct rdp_update *update)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_update(cuda->stream, optimiser, values, update, cuda->sm_count));
    return RDP_OK;
}

int cuda_average(struct rdp_device *device, const struct rdp_step_values *values, float *average, const float *array,
                 size_t count)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_average(cuda->stream, values, average, array, count, cuda->sm_count));
    return RDP_OK;
}

int cuda_lookahead(struct rdp_device *device, const struct rdp_step_values *values, float *slow, float *parameters,
                   void *copies, size_t count)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_lookahead(cuda->stream, values, slow, parameters, copies, count, cuda->sm_count));
    return RDP_OK;
}
