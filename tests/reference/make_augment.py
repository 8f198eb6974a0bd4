#!/usr/bin/env python3
"""Writes augment.ref: what torchvision's transforms (v2, on uint8 tensors) make of three small pictures.

    python3 tests/reference/make_augment.py

The pictures are drawn by code: smooth shades with objects on them, a picture with black, white and strong colours, and one of
greys with little noise. A picture is stored with one float per pixel, r + 256 g + 65536 b, which float32 holds exactly. Factors
and angles are exact in float32, so that nobody rounds them. README.md in this folder describes the arrays.
"""
import itertools
import math

import torch
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as F

from make_reference import write

SIZE = 32
MODES = (InterpolationMode.NEAREST, InterpolationMode.BILINEAR)
ANGLES = (0.0, 90.0, -15.0, 30.0, -90.0, 180.0, 45.0, 7.25, -171.375)
JITTERS = (F.adjust_brightness, F.adjust_contrast, F.adjust_saturation, F.adjust_hue)
ERASE_DRAWS = 200000


def single(value):
    """The nearest float32."""
    return torch.tensor(value, dtype=torch.float32).item()


def pictures():
    """u8 (3, 3, 32, 32)."""
    generator = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.arange(SIZE) / (SIZE - 1), torch.arange(SIZE) / (SIZE - 1), indexing="ij")
    noise = torch.rand(3, SIZE, SIZE, generator=generator)
    sky = torch.stack((0.35 + 0.3 * y, 0.55 + 0.2 * y, 0.9 - 0.3 * y))
    ground = torch.stack((0.3 + 0.1 * x, 0.45 - 0.2 * x, 0.15 + 0.05 * y))
    first = torch.where(y < 0.65, sky, ground)
    first = torch.where((x - 0.55) ** 2 + (y - 0.6) ** 2 < 0.05, torch.tensor([0.8, 0.25, 0.1]).view(3, 1, 1), first)
    first = first + 0.06 * (noise - 0.5)
    second = torch.stack(((x > 0.5).float(), (y > 0.5).float(), ((x + y) % 0.5 > 0.25).float()))
    second = torch.where((y - x).abs() < 0.1, noise, second)
    third = (0.5 + 0.5 * torch.sin(7 * x + 3 * y)).expand(3, -1, -1) + 0.02 * (noise - 0.5)
    return (torch.stack((first, second, third)).clamp(0, 1) * 255).round().to(torch.uint8)


def packed(images):
    """(N, 3, 32, 32) -> (N, 32, 32)"""
    images = torch.stack(images).to(torch.float32)
    return images[:, 0] + 256 * images[:, 1] + 65536 * images[:, 2]


def rotate(image, angle, mode):
    return F.rotate(image, angle, interpolation=MODES[mode], fill=0)  # as RandomRotation calls it


def jitter(image, order, factors):
    for which in order:
        if which >= 0:
            image = JITTERS[which](image, factors[which])
    return image


def rotations(images):
    parameters = [(i % 3, angle, mode) for i, (angle, mode) in enumerate(itertools.product(ANGLES, (0, 1)))]
    return parameters, [rotate(images[i], angle, mode) for i, angle, mode in parameters]


def jitters(images):
    """Each alone, weak and strong; then all in every order."""
    cases = []
    for image in range(3):
        for which, factor in ((0, 0.618), (0, 1.71), (1, 0.51), (1, 1.83), (2, 0.0), (2, 1.47), (3, 0.13), (3, -0.43)):
            factors = [1.0, 1.0, 1.0, 0.0]
            factors[which] = single(factor)
            cases.append((image, (which, -1, -1, -1), tuple(factors)))
    for i, order in enumerate(itertools.permutations(range(4))):
        factors = (1.23 if i % 2 else 0.77, 1.37 if i % 4 > 1 else 0.69, 0.5 + i / 15, i / 31 - 0.38)
        cases.append((i % 3, order, tuple(single(f) for f in factors)))
    return [(i, *order, *factors) for i, order, factors in cases], [jitter(images[i], o, f) for i, o, f in cases]


def chains(images):
    """Crop, flip, rotation, jitter: image, dy, dx, reflect?, flip?, angle, mode, order, factors."""
    parameters, results = [], []
    for i, (reflect, flip, mode) in enumerate(itertools.product((0, 1), (0, 1), (0, 1))):
        dy, dx, angle, order = i - 4, 3 - i, 11.5 * (i - 3), list(itertools.permutations(range(4)))[3 * i]
        factors = tuple(single(f) for f in (0.87 + i / 31, 1.13 - i / 15, 1.01 + i / 17, i / 63 - 0.06))
        image = F.pad(images[i % 3], [4], padding_mode="reflect" if reflect else "constant")
        image = F.crop(image, 4 + dy, 4 + dx, SIZE, SIZE)
        image = F.horizontal_flip(image) if flip else image
        parameters.append((i % 3, dy, dx, reflect, flip, angle, mode, *order, *factors))
        results.append(jitter(rotate(image, angle, mode), order, factors))
    return parameters, results


def erasing():
    """Of RandomErasing's boxes, with a range of sizes of which many do not fit: how often none did; mean and standard deviation
    of height, width, top, left, area and log(height / width) of the others."""
    torch.manual_seed(2)
    transform = v2.RandomErasing(p=1, scale=(0.05, 0.95), ratio=(0.25, 3.5))
    image, values, none = torch.zeros(3, SIZE, SIZE), [], 0
    for _ in range(ERASE_DRAWS):
        box = transform.make_params([image])
        if box["v"] is None:
            none += 1
        else:
            values.append((box["h"], box["w"], box["i"], box["j"], box["h"] * box["w"], math.log(box["h"] / box["w"])))
    values = torch.tensor(values, dtype=torch.float64)
    return torch.cat((torch.tensor([none / ERASE_DRAWS]), values.mean(0), values.std(0)))


def main():
    torch.set_num_threads(1)
    images = pictures()
    arrays = {"images": packed(list(images))}
    for name, (parameters, results) in (("rotate", rotations(images)), ("jitter", jitters(images)), ("chain", chains(images))):
        arrays[name + "/parameters"] = torch.tensor(parameters, dtype=torch.float32)
        arrays[name + "/results"] = packed(results)
    arrays["erase/moments"] = erasing()
    write("augment", arrays)


if __name__ == "__main__":
    main()
