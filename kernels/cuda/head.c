/* The network's head and the flat arrays on a CUDA device: starts the kernels of head.cu and elementwise.cu. */
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

int cuda_add(struct rdp_device *device, float *to, const float *from, size_t count)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_add(cuda->stream, to, from, count, cuda->sm_count));
    return RDP_OK;
}

int cuda_sgd(struct rdp_device *device, const struct rdp_sgd *sgd, const struct rdp_step_values *values,
             const uint8_t *decays, float *parameters, void *copies, const float *gradients, float *momentum,
             size_t count)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_sgd(cuda->stream, sgd, values, decays, parameters, copies, gradients, momentum, count,
                             cuda->sm_count));
    return RDP_OK;
}
