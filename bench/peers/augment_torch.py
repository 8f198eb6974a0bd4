"""Augmentation of the PyTorch peer: batches of the resident bytes, every image with draws of its own, by tensor operations.

In resnet-dp's order: crop, flip, rotation, colour jitter, erasing, cutout, normalisation. Crop and flip are one gather of bytes.
What each step does is torchvision's transform of that name on PIL images, drawn per image, with two differences that are below a
grey level or a pixel's tie: jitter is in floats without rounding to bytes between its four parts (as torchvision on tensors), and a
rotation's nearest pixel is that of float32 arithmetic. check_augment.py compares them.
"""
import math

import torch

GREY = (0.299, 0.587, 0.114)
SIDE = 32


class Augmenter:
    """Augmented batches of a cifar_torch.Batcher's set. `epoch` is the caller's to set; alternating flips go by it."""

    def __init__(self, batcher, o):
        self.set, self.o, self.epoch = batcher, o, 0
        self.flipped = torch.rand(len(batcher.labels)) < 0.5  # alternating: drawn once

    def batch(self, index):
        o, labels = self.o, self.set.labels[index]
        x = self.crop_and_flip(index)
        if o.rotation_min != 0 or o.rotation_max != 0:
            x = rotate(x, torch.empty(len(x)).uniform_(o.rotation_min, o.rotation_max), o.rotation_interpolation)
        if o.jitter_brightness or o.jitter_contrast or o.jitter_saturation or o.jitter_hue:
            x = jitter(x.float() / 255, o).mul_(255)
        erased = self.erased(len(x))
        if erased is not None and o.erase_fill == "black":
            x = x.masked_fill(erased, 0)
        x = self.set.normalise(x)
        if erased is not None and o.erase_fill == "mean":
            x = x.masked_fill(erased.permute(0, 3, 1, 2), 0)
        return x, labels

    def flips(self, index):
        n = len(index)
        if self.o.flip == "none":
            return torch.zeros(n, 1, dtype=torch.bool)
        if self.o.flip == "random":
            return torch.rand(n, 1) < 0.5
        return (self.flipped[index] ^ bool(self.epoch % 2)).view(n, 1)

    def crop_and_flip(self, index):
        n, place = len(index), torch.arange(SIDE)
        pad = 0 if self.o.crop == "none" else self.o.crop_padding
        offset = torch.randint(-pad, pad + 1, (2, n, 1))
        rows = place + offset[0]
        columns = torch.where(self.flips(index), SIDE - 1 - place, place) + offset[1]
        images = self.set.images
        if self.o.crop != "zero":
            return images[index.view(n, 1, 1), reflect(rows).view(n, SIDE, 1), reflect(columns).view(n, 1, SIDE)]
        inside = ((rows >= 0) & (rows < SIDE)).view(n, SIDE, 1) & ((columns >= 0) & (columns < SIDE)).view(n, 1, SIDE)
        edge = SIDE - 1
        picked = images[index.view(n, 1, 1), rows.clamp(0, edge).view(n, SIDE, 1), columns.clamp(0, edge).view(n, 1, SIDE)]
        return picked.mul_(inside.unsqueeze(3))

    def erased(self, n):
        """(n,32,32,1) of what erasing and cutout take, None if neither is asked for."""
        masks = []
        if self.o.erase_probability > 0:
            masks.append(erasing(n, self.o))
        if self.o.cutout > 0:
            first = torch.randint(0, SIDE, (2, n)) - self.o.cutout // 2
            masks.append(boxes(first[0], first[1], torch.full((n,), self.o.cutout), torch.full((n,), self.o.cutout)))
        return None if not masks else masks[0] if len(masks) == 1 else masks[0] | masks[1]


def reflect(position):
    """Positions mirrored at the edge pixels, which are not repeated."""
    position = position.abs()
    return torch.where(position > SIDE - 1, 2 * (SIDE - 1) - position, position)


def boxes(y, x, height, width):
    """(n,32,32,1): image i's box from y[i], x[i] on; what lies outside of the image is left out."""
    place = torch.arange(SIDE)
    rows = (place >= y.view(-1, 1)) & (place < (y + height).view(-1, 1))
    columns = (place >= x.view(-1, 1)) & (place < (x + width).view(-1, 1))
    return (rows.view(-1, SIDE, 1) & columns.view(-1, 1, SIDE)).unsqueeze(3)


def erasing(n, o):
    """RandomErasing's boxes: of ten draws of area and ratio the first that fits, none for 1 - --erase-probability of the images."""
    area = torch.empty(n, 10).uniform_(o.erase_scale_min, o.erase_scale_max) * SIDE * SIDE
    ratio = torch.empty(n, 10).uniform_(math.log(o.erase_ratio_min), math.log(o.erase_ratio_max)).exp()
    height, width = (area * ratio).sqrt().round().long(), (area / ratio).sqrt().round().long()
    fits = (height < SIDE) & (width < SIDE)
    first = fits.long().argmax(1, keepdim=True)
    height, width = height.gather(1, first).view(n), width.gather(1, first).view(n)
    wanted = (torch.rand(n) < o.erase_probability) & fits.any(1)
    y, x = ((torch.rand(n) * (SIDE + 1 - extent)).long() for extent in (height, width))
    return boxes(y, x, torch.where(wanted, height, 0), torch.where(wanted, width, 0))


def rotate(images, degrees, interpolation):
    """u8 (n,32,32,3), each counter-clockwise by its angle around its centre; black where no pixel was."""
    n, centre = len(images), (SIDE - 1) / 2
    place = torch.arange(SIDE) - centre
    sine, cosine = (f(degrees * (math.pi / 180)).view(n, 1, 1) for f in (torch.sin, torch.cos))
    y, x = place.view(1, SIDE, 1), place.view(1, 1, SIDE)
    source_y, source_x = sine * x + cosine * y + centre, cosine * x - sine * y + centre
    number, edge = torch.arange(n).view(n, 1, 1), SIDE - 1
    rows, columns = (source_y + 0.5).floor().long(), (source_x + 0.5).floor().long()
    inside = ((rows >= 0) & (rows < SIDE) & (columns >= 0) & (columns < SIDE)).unsqueeze(3)

    def pixels(rows, columns):
        return images[number, rows.clamp(0, edge), columns.clamp(0, edge)]

    if interpolation == "nearest":
        return pixels(rows, columns).mul_(inside)
    top, left = source_y.floor(), source_x.floor()
    down, right = (source_y - top).unsqueeze(3), (source_x - left).unsqueeze(3)
    top, left = top.long(), left.long()
    upper = torch.lerp(pixels(top, left).float(), pixels(top, left + 1).float(), right)
    lower = torch.lerp(pixels(top + 1, left).float(), pixels(top + 1, left + 1).float(), right)
    return torch.lerp(upper, lower, down).round_().to(torch.uint8).mul_(inside)


def jitter(x, o):
    """f32 (n,32,32,3) from 0 to 1: brightness, contrast, saturation and hue, in an order drawn for every image."""
    n = len(x)
    parts = [(darken, o.jitter_brightness), (contrast, o.jitter_contrast), (saturate, o.jitter_saturation),
             (turn_hue, o.jitter_hue)]
    order = torch.rand(n, len(parts)).argsort(1)
    for place in range(len(parts)):
        for number, (change, strength) in enumerate(parts):
            chosen = (order[:, place] == number).nonzero().view(-1)
            if strength > 0 and len(chosen) > 0:
                draw = torch.empty(len(chosen), 1, 1, 1).uniform_(-strength, strength)
                x[chosen] = change(x[chosen], draw)
    return x


def grey(x):
    return (x * torch.tensor(GREY)).sum(3, keepdim=True)


def blend(x, other, draw):
    """x (1 + draw) - other draw, clamped: torchvision's blend by a factor around 1."""
    return (x * (1 + draw) - other * draw).clamp_(0, 1)


def darken(x, draw):
    return blend(x, torch.zeros(()), draw)


def contrast(x, draw):
    return blend(x, grey(x).mean((1, 2), keepdim=True), draw)


def saturate(x, draw):
    return blend(x, grey(x), draw)


def turn_hue(x, draw):
    """By way of HSV: hue plus the draw, of a full circle of 1."""
    high, low = x.amax(3), x.amin(3)
    span = high - low
    safe = torch.where(span == 0, 1, span)
    red, green, blue = ((high - x[..., c]) / safe for c in range(3))
    hue = torch.where(x[..., 0] == high, blue - green, torch.where(x[..., 1] == high, 2 + red - blue, 4 + green - red))
    hue = (hue / 6 + draw.squeeze(3)) % 1
    # Each channel's distance on the circle from where it is greatest.
    sector = ((hue * 6).unsqueeze(3) + torch.tensor((5.0, 3.0, 1.0))) % 6
    return high.unsqueeze(3) - span.unsqueeze(3) * torch.minimum(sector, 4 - sector).clamp_(0, 1)


class Mixer:
    """Mix-up and CutMix of a batch with itself in reverse order; one draw per batch, with both one of the two."""

    def __init__(self, o):
        self.o = o

    def mix(self, x):
        """(the mixed batch, the weight of an image's own label)."""
        o = self.o
        if o.mixup == 0 and o.cutmix == 0:
            return x, 1.0
        cut = o.cutmix > 0 and (o.mixup == 0 or torch.rand(()).item() < 0.5)
        alpha = o.cutmix if cut else o.mixup
        own = torch.distributions.Beta(alpha, alpha).sample().item()
        if not cut:
            return torch.lerp(x.flip(0), x, own), own
        side, centre = int(SIDE * math.sqrt(1 - own)), torch.randint(0, SIDE, (2,)).tolist()
        (y0, x0), (y1, x1) = ([min(max(c + half, 0), SIDE) for c in centre] for half in (-(side // 2), side // 2))
        mixed = x.clone(memory_format=torch.preserve_format)
        mixed[:, :, y0:y1, x0:x1] = x.flip(0)[:, :, y0:y1, x0:x1]
        return mixed, 1 - (y1 - y0) * (x1 - x0) / SIDE ** 2
