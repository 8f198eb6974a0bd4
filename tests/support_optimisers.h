/*
 * Twenty steps with each optimiser on any device against PyTorch (tests/reference/optimisers_network.ref,
 * make_optimisers_network.py).
 * Used by test-pytorch.c for the CPU and by gpu-network.c for CUDA.
 */
#ifndef RDP_TEST_SUPPORT_OPTIMISERS_H
#define RDP_TEST_SUPPORT_OPTIMISERS_H

#include "kernels/kernels.h"

/* How far a device may be from PyTorch: relative, per loss and in the 2-norm of each array. */
struct rdp_optimiser_tolerances {
    double loss, parameters, state;
};

/* Trains as each of the reference's runs did, compares losses, weights, running statistics and the averages of both;
 * ends the test beyond a tolerance, prints the worst of each run. */
void rdp_optimisers_follow(struct rdp_device *device, const struct rdp_optimiser_tolerances *tolerances);

#endif
