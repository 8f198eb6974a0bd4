/* Augmentation, padded shortcut and pool on a CUDA device: the kernels of augment.cu and pool.cu on a range of images. */
#include "kernels/cuda/cuda.h"
#include "kernels/cuda/launchers.h"

static size_t image_bytes(struct rdp_device *device, struct rdp_shape shape)
{
    return (size_t)(shape.height * shape.width) * (size_t)cuda_padded(shape.channels) *
           cuda_state(device)->element_size;
}

static const void *image(const void *tensor, size_t bytes, int first)
{
    return (const char *)tensor + (size_t)first * bytes;
}

static void *image_to_write(void *tensor, size_t bytes, int first)
{
    return (char *)tensor + (size_t)first * bytes;
}

int cuda_augment(struct rdp_device *device, const struct rdp_augment *augment, const struct rdp_step_values *values,
                 const uint8_t *images, const int64_t *rows, const int64_t *samples, void *out, int first, int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    const size_t bytes = image_bytes(device, (struct rdp_shape){3, 32, 32});
    RDP_CUDA(cuda_launch_augment(cuda->stream, augment, values, images, rows + first, samples + first,
                                 image_to_write(out, bytes, first), cuda->bf16, cuda->sm_count, count));
    return RDP_OK;
}

int cuda_pad_forward(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *x, void *y,
                     int first, int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_pad_forward(cuda->stream, input, output, image(x, image_bytes(device, input), first),
                                     image_to_write(y, image_bytes(device, output), first), cuda->bf16, cuda->sm_count,
                                     count));
    return RDP_OK;
}

int cuda_pad_backward(struct rdp_device *device, struct rdp_shape input, struct rdp_shape output, const void *dy,
                      void *dx, int first, int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_pad_backward(cuda->stream, input, output, image(dy, image_bytes(device, output), first),
                                      image_to_write(dx, image_bytes(device, input), first), cuda->bf16, cuda->sm_count,
                                      count));
    return RDP_OK;
}

int cuda_pool_forward(struct rdp_device *device, struct rdp_shape shape, const void *x, float *features, int first,
                      int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_pool_forward(cuda->stream, shape, image(x, image_bytes(device, shape), first),
                                      features + (size_t)first * (size_t)shape.channels, cuda->bf16, count));
    return RDP_OK;
}

int cuda_pool_backward(struct rdp_device *device, struct rdp_shape shape, const float *dfeatures, void *dx, int first,
                       int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_pool_backward(cuda->stream, shape, dfeatures + (size_t)first * (size_t)shape.channels,
                                       image_to_write(dx, image_bytes(device, shape), first), cuda->bf16,
                                       cuda->sm_count, count));
    return RDP_OK;
}
