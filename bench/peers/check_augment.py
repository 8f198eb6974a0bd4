#!/usr/bin/env python3
"""Whether augment_torch.py does what torchvision's transforms do (torchvision and Pillow needed): rotations and colour jitter of
given strength image by image, erased boxes in distribution."""
import argparse

import torch
from PIL import Image
from torchvision import transforms
from torchvision.transforms import functional

import augment_torch

COUNT, BOXES = 64, 20000


def smooth_images():
    small = torch.rand(COUNT, 3, 6, 6)
    return torch.nn.functional.interpolate(small, size=32, mode="bilinear").mul(255).byte().permute(0, 2, 3, 1).contiguous()


def rotated(image, degrees, mode):
    turned = functional.rotate(Image.fromarray(image.numpy()), degrees.item(), mode)
    return torch.frombuffer(bytearray(turned.tobytes()), dtype=torch.uint8).view(32, 32, 3)


def check(what, value, limit):
    print("%-40s %.2g (at most %.2g)" % (what, value, limit))
    if not value <= limit:
        raise SystemExit("check_augment.py: %s" % what)


def check_rotation(images):
    degrees = torch.empty(COUNT).uniform_(-180, 180)
    for name, mode in (("nearest", transforms.InterpolationMode.NEAREST), ("bilinear", transforms.InterpolationMode.BILINEAR)):
        ours = augment_torch.rotate(images, degrees, name).int()
        theirs = torch.stack([rotated(i, d, mode) for i, d in zip(images, degrees)]).int()
        # Of float32's ties: Pillow's arithmetic is in fixed point.
        check("rotation, %s: share off by over a level" % name, ((ours - theirs).abs() > 1).float().mean().item(), 1e-3)


def check_jitter(images):
    x = images.float() / 255
    planes = x.permute(0, 3, 1, 2)
    for change in (-0.3, 0.25):
        draw = torch.full((COUNT, 1, 1, 1), change)
        pairs = {"brightness": (augment_torch.darken, functional.adjust_brightness),
                 "contrast": (augment_torch.contrast, functional.adjust_contrast),
                 "saturation": (augment_torch.saturate, functional.adjust_saturation),
                 "hue": (augment_torch.turn_hue, functional.adjust_hue)}
        for name, (ours, theirs) in pairs.items():
            expected = theirs(planes, change if name == "hue" else 1 + change)
            # torchvision's weights of grey have four digits on tensors, ours (and Pillow's) three: 1e-4 of a full white.
            off = (ours(x, draw).permute(0, 3, 1, 2) - expected).abs().max().item()
            check("%s %+.2f: greatest difference" % (name, change), off, 1e-4)


def check_erasing():
    o = argparse.Namespace(erase_probability=0.5, erase_scale_min=0.02, erase_scale_max=0.33, erase_ratio_min=0.3,
                           erase_ratio_max=3.3)
    ours = augment_torch.erasing(BOXES, o).squeeze(3).float()
    erase = transforms.RandomErasing(0.5, (0.02, 0.33), (0.3, 3.3))
    theirs = torch.stack([1 - erase(torch.ones(1, 32, 32))[0] for _ in range(BOXES)])
    # Five standard deviations of a share near a half (0.0035) and of a pixel's (at most 0.2: 0.003), of two samples.
    check("erasing: share of images", abs((ours.amax((1, 2)) - theirs.amax((1, 2))).mean().item()), 0.025)
    check("erasing: worst pixel's share", (ours.mean(0) - theirs.mean(0)).abs().max().item(), 0.02)


if __name__ == "__main__":
    torch.manual_seed(1)
    smooth = smooth_images()
    check_rotation(smooth)
    check_jitter(smooth)
    check_erasing()
