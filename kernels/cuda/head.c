/* The network's head on a CUDA device: starts the kernels of head.cu. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launchers.h"

int cuda_fc_forward(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                    const float *weight, const float *bias, float *logits)
{
    RDP_CUDA(
        cuda_launch_fc_forward(cuda_state(device)->stream, batch, channels, classes, features, weight, bias, logits));
    return RDP_OK;
}

int cuda_fc_backward(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                     const float *weight, const float *dlogits, float *dweight, float *dbias, float *dfeatures)
{
    RDP_CUDA(cuda_launch_fc_backward(cuda_state(device)->stream, batch, channels, classes, features, weight, dlogits,
                                     dweight, dbias, dfeatures));
    return RDP_OK;
}

int cuda_loss(struct rdp_device *device, int batch, int valid, int classes, const float *logits, const uint8_t *labels,
              const struct rdp_step_values *values, float smoothing, float scale, float *dlogits, float *totals)
{
    RDP_CUDA(cuda_launch_loss(cuda_state(device)->stream, batch, valid, classes, logits, labels, values, smoothing,
                              scale, dlogits, totals));
    return RDP_OK;
}
