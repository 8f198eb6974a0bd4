/* Dropout on the CPU: the mask of kernels/common/dropout.h over blocks of channels, in the loops of vector.h. */
#include "kernels/cpu/cpu.h"

static int drop(struct rdp_device *device, const struct rdp_dropout *dropout, const struct rdp_step_values *values,
                const int64_t *samples, const void *x, const void *x2, void *y, int first, int count)
{
    const struct cpu_state *cpu = cpu_state(device);
    const int blocks = cpu_blocks(device, dropout->shape.channels);
    const size_t bytes = cpu_image_bytes(device, dropout->shape, false) / (size_t)blocks;
#pragma omp parallel for schedule(static)
    for (int i = first * blocks; i < (first + count) * blocks; i++) {
        const size_t offset = (size_t)i * bytes;
        cpu->loops->dropout(dropout, values->step, samples[i / blocks], i % blocks, (const char *)x + offset,
                            x2 == NULL ? NULL : (const char *)x2 + offset, (char *)y + offset);
    }
    return RDP_OK;
}

int cpu_dropout_forward(struct rdp_device *device, const struct rdp_dropout *dropout,
                        const struct rdp_step_values *values, const int64_t *samples, const void *x, void *y, int first,
                        int count)
{
    return drop(device, dropout, values, samples, x, NULL, y, first, count);
}

int cpu_dropout_backward(struct rdp_device *device, const struct rdp_dropout *dropout,
                         const struct rdp_step_values *values, const int64_t *samples, const void *dy, const void *dy2,
                         void *dx, int first, int count)
{
    return drop(device, dropout, values, samples, dy, dy2, dx, first, count);
}
