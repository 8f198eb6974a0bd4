/* Mix-up and CutMix on the CPU: pairs of plain (3,32,32) images, row by row. See kernels/common/mix.h. */
#include "kernels/common/mix.h"
#include "kernels/cpu/cpu.h"

enum { SIDE = RDP_MIX_ROW, CHANNELS = 3 };

int cpu_mix(struct rdp_device *device, const struct rdp_step_values *values, void *images, int batch)
{
    const struct cpu_state *cpu = cpu_state(device);
    const size_t row_bytes = SIDE * cpu->element_size, image_bytes = CHANNELS * SIDE * row_bytes;
    float weights[SIDE][SIDE];
    for (int y = 0; y < SIDE; y++)
        for (int x = 0; x < SIDE; x++)
            weights[y][x] = rdp_mix_weight(values, y, x);
#pragma omp parallel for schedule(static)
    for (int i = 0; i < batch / 2; i++) { /* the image in the middle of an odd batch is its own partner */
        char *own = (char *)images + (size_t)i * image_bytes;
        char *other = (char *)images + (size_t)(batch - 1 - i) * image_bytes;
        for (int row = 0; row < CHANNELS * SIDE; row++)
            cpu->loops->mix(own + (size_t)row * row_bytes, other + (size_t)row * row_bytes, weights[row % SIDE]);
    }
    return RDP_OK;
}
