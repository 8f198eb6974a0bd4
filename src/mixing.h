/*
 * Mix-up and CutMix: what a step draws for them. One draw per step, a pure function of (seed, step), so the same on
 * every rank; each micro-batch of each rank mixes its image i with its image batch - 1 - i, as timm's batch mode does.
 * So an image's partner does depend on how the global batch is cut, and P ranks do not train what one rank trains.
 */
#ifndef RDP_MIXING_H
#define RDP_MIXING_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/kernels.h"
#include "options.h"

/* Whether --mixup or --cutmix is on. */
bool rdp_mixing_asked(const struct rdp_options *options);
/* Fills values->mix, mix_pixels and mix_box for a step (from 0); with neither option: nothing is mixed. With both, each
 * step takes one of them, one time in two. */
void rdp_mixing_draw(const struct rdp_options *options, int64_t step, struct rdp_step_values *values);

/* The parts of it. lambda ~ Beta(alpha, alpha) of a step; alpha > 0. As X / (X + Y) of two Gamma(alpha) variates, each
 * by Marsaglia & Tsang 2000, "A simple method for generating gamma variables", with their section 6 for alpha < 1. */
double rdp_mixing_beta(uint64_t seed, int64_t step, double alpha);
/* CutMix's box about the pixel (y, x), of 1 - lambda of a 32x32 image where it does not stick out; returns lambda
 * corrected to the area that is left: torchvision.transforms.v2.CutMix (0.29). */
double rdp_mixing_cut(double lambda, int y, int x, int32_t box[4]);

#endif
