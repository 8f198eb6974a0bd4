#!/usr/bin/env python3
"""The speed that no step with separate convolution and batch-norm kernels can exceed: every kernel takes at least its operations at
the GPU's sustained rate and at least its bytes at the GPU's sustained bandwidth, kernels one after the other.

    bench/roof.py [RECIPE]        bytes, operations and roof per GPU; default jobs/recipes/basic-2111.ini

Per convolution with batch-norm and activation, in elements E of its output (and I of its input): forward I + E, weight gradient
I + E, data gradient I + E; statistics E, normalisation 2 E, backward's sums 2 E (the activation's mask is computed again from the
convolution's output), backward's normalisation 3 E. Where a block joins: the residual is read in forward, its mask once more in
backward, the joined gradient is written, and added to the main path's. A convolution on the shortcut is normalised in the join.
Left out, as too small: weights, optimiser, launch gaps, the fully connected layer.
"""
import os
import sys

from compare import ROOT, settings

# By the name that CUDA reports: TFLOP/s by precision and TB/s, taken as sustained: 0.80 and 0.90 of the data sheet.
GPUS = {
    "NVIDIA H200": ({"bf16": 790, "tf32": 395, "fp32": 54}, 4.3),
    "NVIDIA H100 80GB HBM3": ({"bf16": 790, "tf32": 395, "fp32": 54}, 3.0),
    "NVIDIA A100-SXM4-80GB": ({"bf16": 250, "tf32": 125, "fp32": 15.6}, 1.83),
}
STEM_CHANNELS = 8  # 3 padded
IMAGE_BYTES = 3072


class Model:
    """The kernels of one image's training step, as (operations, elements moved, bytes besides)."""

    def __init__(self, recipe):
        keys = settings(recipe)

        def numbers(key, default):
            return [int(v) for v in keys.get(key, default).split(",")]

        self.kernels = []
        self.bottleneck = keys.get("block", "basic") == "bottleneck"
        self.pad = keys.get("shortcut", "conv") == "pad"
        channels, side = numbers("stem-width", "64")[0], 32
        image = STEM_CHANNELS * side * side
        self.kernels.append((0, image, IMAGE_BYTES))  # augmentation
        for _ in range(2):  # forward and weight gradient: the image needs none
            self.kernels.append((2 * 27 * channels * side * side, image + channels * side * side, 0))
        self.batch_norm(channels * side * side)
        for stage, (count, width) in enumerate(zip(numbers("blocks", "2,1,1,1"), numbers("widths", "64,128,256,512"))):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                channels, side = self.block(channels, side, width, stride)
        self.kernels.append((0, channels * side * side, 0))  # average pool, forward
        self.kernels.append((0, channels * side * side, 0))  # and backward

    def batch_norm(self, elements):
        for times in (1, 2, 2, 3):
            self.kernels.append((0, times * elements, 0))

    def convolution(self, inputs, outputs, side_in, stride, taps):
        """Three kernels; returns the elements of the output."""
        side = side_in // stride
        moved = inputs * side_in * side_in + outputs * side * side
        for _ in range(3):
            self.kernels.append((2 * taps * inputs * outputs * side * side, moved, 0))
        return outputs * side * side

    def block(self, channels, side, width, stride):
        outputs = 4 * width if self.bottleneck else width
        shapes = [(channels, width, 9, stride), (width, width, 9, 1)]  # inputs, outputs, taps, stride
        if self.bottleneck:
            shapes = [(channels, width, 1, 1), (width, width, 9, stride), (width, outputs, 1, 1)]
        at = side
        for inputs, made, taps, step in shapes:
            elements = self.convolution(inputs, made, at, step, taps)
            at //= step
            self.batch_norm(elements)
        if (stride != 1 or channels != outputs) and not self.pad:
            self.convolution(channels, outputs, side, stride, 1)
            for times in (1, 1, 1, 2, 1):  # statistics; read in the join; backward's sums and normalisation; joined gradient
                self.kernels.append((0, times * elements, 0))
        else:
            for _ in range(4):  # the residual, the mask's source, the joined gradient written, and added
                self.kernels.append((0, elements, 0))
        return outputs, at

    def megabytes(self, precision):
        size = 2 if precision == "bf16" else 4
        return sum(size * moved + extra for _, moved, extra in self.kernels) / 1e6

    def gigaflop(self):
        return sum(operations for operations, _, _ in self.kernels) / 1e9

    def images_per_second(self, gpu, precision):
        """None for a GPU whose figures are not known."""
        if gpu not in GPUS or precision not in GPUS[gpu][0]:
            return None
        rate, bandwidth, size = GPUS[gpu][0][precision] * 1e12, GPUS[gpu][1] * 1e12, 2 if precision == "bf16" else 4
        return 1 / sum(max(operations / rate, (size * moved + extra) / bandwidth) for operations, moved, extra in self.kernels)


def main():
    recipe = sys.argv[1] if len(sys.argv) > 1 else os.path.join(ROOT, "jobs", "recipes", "basic-2111.ini")
    model = Model(recipe)
    print("%s: %.3f GFLOP per image and step" % (os.path.basename(recipe), model.gigaflop()))
    for gpu, (rates, bandwidth) in GPUS.items():
        for precision in rates:
            print("%-24s %s at %5.1f TFLOP/s, %.2f TB/s: %5.2f MB per image, %7.0f images/s" % (
                gpu, precision, rates[precision], bandwidth, model.megabytes(precision),
                model.images_per_second(gpu, precision)))


if __name__ == "__main__":
    main()
