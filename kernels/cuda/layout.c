/* Augmentation, mixing, padded shortcut, dropout and pools on a CUDA device: the kernels of augment.cu, mix.cu, pool.cu
 * and dropout.cu on a range of images. */
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

int cuda_mix(struct rdp_device *device, const struct rdp_step_values *values, void *images, int batch)
{
    const struct cuda_state *cuda = cuda_state(device);
    RDP_CUDA(cuda_launch_mix(cuda->stream, values, images, cuda->bf16, batch));
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

static int drop(struct rdp_device *device, const struct rdp_dropout *dropout, const struct rdp_step_values *values,
                const int64_t *samples, const void *x, const void *x2, void *y, int first, int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    const size_t bytes = image_bytes(device, dropout->shape);
    RDP_CUDA(cuda_launch_dropout(cuda->stream, dropout, values, samples + first, image(x, bytes, first),
                                 x2 == NULL ? NULL : image(x2, bytes, first), image_to_write(y, bytes, first),
                                 cuda->bf16, count));
    return RDP_OK;
}

int cuda_dropout_forward(struct rdp_device *device, const struct rdp_dropout *dropout,
                         const struct rdp_step_values *values, const int64_t *samples, const void *x, void *y,
                         int first, int count)
{
    return drop(device, dropout, values, samples, x, NULL, y, first, count);
}

int cuda_dropout_backward(struct rdp_device *device, const struct rdp_dropout *dropout,
                          const struct rdp_step_values *values, const int64_t *samples, const void *dy, const void *dy2,
                          void *dx, int first, int count)
{
    return drop(device, dropout, values, samples, dy, dy2, dx, first, count);
}

int cuda_max_pool_forward(struct rdp_device *device, struct rdp_shape input, const void *x, void *y, int first,
                          int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    const size_t x_bytes = image_bytes(device, input),
                 y_bytes = image_bytes(device, rdp_shape_strided(input, input.channels, 2));
    RDP_CUDA(cuda_launch_max_pool_forward(cuda->stream, input, image(x, x_bytes, first),
                                          image_to_write(y, y_bytes, first), cuda->bf16, cuda->sm_count, count));
    return RDP_OK;
}

int cuda_max_pool_backward(struct rdp_device *device, struct rdp_shape input, const void *x, const void *dy, void *dx,
                           int first, int count)
{
    const struct cuda_state *cuda = cuda_state(device);
    const size_t x_bytes = image_bytes(device, input),
                 y_bytes = image_bytes(device, rdp_shape_strided(input, input.channels, 2));
    RDP_CUDA(cuda_launch_max_pool_backward(cuda->stream, input, image(x, x_bytes, first), image(dy, y_bytes, first),
                                           image_to_write(dx, x_bytes, first), cuda->bf16, cuda->sm_count, count));
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
