/*
 * SGD of one element, as torch.optim.SGD (2.x) defines it with dampening 0:
 *   g += weight_decay * p;  m = momentum * m + g  (m starts at 0, so its first value is g);  p -= lr * (nesterov ? g +
 * momentum * m : m)
 */
#ifndef RDP_KERNELS_COMMON_SGD_H
#define RDP_KERNELS_COMMON_SGD_H

#include "kernels/common/function.h"

RDP_DEVICE_FUNCTION void rdp_sgd_update(float *parameter, float gradient, float *velocity, float lr, float momentum,
                                        float weight_decay, int nesterov)
{
    gradient += weight_decay * *parameter;
    float next = momentum * *velocity + gradient;
    *velocity = next;
    *parameter -= lr * (nesterov ? gradient + momentum * next : next);
}

#endif
