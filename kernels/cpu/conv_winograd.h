/* A convolution that runs as Winograd's: what conv.c keeps of it. See winograd.h for the algorithm. */
#ifndef RDP_KERNELS_CPU_CONV_WINOGRAD_H
#define RDP_KERNELS_CPU_CONV_WINOGRAD_H

#include "kernels/cpu/cpu.h"

struct cpu_winograd;

/* Whether the shape and --conv-algorithm ask for it. RDP_EUSAGE if it was asked for and the CPU or precision cannot. */
int cpu_winograd_wanted(struct rdp_device *device, const struct rdp_conv_desc *desc, bool *wanted);
/* Plans chunks and the whole batch, reserves the scratchpad. Weights are stored as OIhw16i16o f32. Owned by the caller.
 */
int cpu_winograd_create(struct rdp_device *device, struct cpu_winograd **winograd, const struct rdp_conv_desc *desc);
void cpu_winograd_destroy(struct cpu_winograd *winograd);
void cpu_winograd_weights(struct cpu_winograd *winograd, const float *stored, bool backward);
/* x and y point to the first image of a chunk. */
void cpu_winograd_forward(struct rdp_device *device, const struct cpu_winograd *winograd, const void *x, void *y);
void cpu_winograd_backward_data(struct rdp_device *device, const struct cpu_winograd *winograd, const void *dy,
                                void *dx);
/* The whole batch. */
void cpu_winograd_backward_weights(struct rdp_device *device, const struct cpu_winograd *winograd, const void *x,
                                   const void *dy, float *dw);

#endif
