"""CIFAR-10 for the PyTorch peer: the whole set resident in memory as bytes, augmented a batch at a time by tensor operations.

This is the fastest loader we know for a set of this size: no worker processes, no per-image Python, one gather that crops,
reflects and flips at once, one conversion to normalised floats. Batcher.augmented is what the steps on GPUs take, on the device;
augment_torch.Augmenter does all that a recipe can ask for.
"""
import os

import torch

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
PAD = 4


def load(directory):
    """The official binaries in `directory`: ((images, labels) of training, the same of test); images u8 (N,32,32,3)."""
    train = [read_batch(os.path.join(directory, "data_batch_%d.bin" % n)) for n in range(1, 6)]
    images, labels = zip(*train)
    return (torch.cat(images), torch.cat(labels)), read_batch(os.path.join(directory, "test_batch.bin"))


def read_batch(path):
    size = os.path.getsize(path)
    if size == 0 or size % 3073:
        raise SystemExit("%s: %d bytes is no multiple of 3073, so no CIFAR-10 binary batch" % (path, size))
    with open(path, "rb") as file:
        raw = torch.frombuffer(bytearray(file.read()), dtype=torch.uint8).view(-1, 3073)
    images = raw[:, 1:].reshape(-1, 3, 32, 32).permute(0, 2, 3, 1).contiguous()
    return images, raw[:, 0].long()


def split(images, labels, o):
    """(training, validation or None) of the first --train-images, --val-fraction of them drawn at random for validation."""
    if o.train_images > 0:
        images, labels = images[:o.train_images], labels[:o.train_images]
    kept = int(len(labels) * o.val_fraction + 0.5)
    if kept == 0:
        return (images, labels), None
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(o.seed))
    rest, validation = order[kept:].sort().values, order[:kept].sort().values
    return (images[rest], labels[rest]), (images[validation], labels[validation])


def random_set(count):
    """Bytes of the same shapes, for timing without the data."""
    return torch.randint(0, 256, (count, 32, 32, 3), dtype=torch.uint8), torch.randint(0, 10, (count,))


class Batcher:
    """Normalised batches of one resident set, on its device, in the memory format of the network that reads them."""

    def __init__(self, images, labels, memory_format, dtype=torch.float32, normalisation=(MEAN, STD)):
        self.images, self.labels, self.memory_format, self.dtype = images, labels, memory_format, dtype
        mean, std = (torch.tensor(v, dtype=dtype, device=images.device) for v in normalisation)
        self.scale = (1 / (255 * std)).view(1, 1, 1, 3)
        self.shift = (-mean / std).view(1, 1, 1, 3)

    def plain(self, first, last):
        return self.normalise(self.images[first:last]), self.labels[first:last]

    def picked(self, index):
        return self.normalise(self.images[index]), self.labels[index]

    def augmented(self, index):
        """Images `index`, each reflect-padded by PAD, cropped at random to 32x32 and flipped half of the time."""
        n, device = len(index), index.device
        place = torch.arange(32, device=device)
        draw = torch.rand(3, n, 1, device=device)
        offset = (draw * (2 * PAD + 1)).long() - PAD  # -PAD .. PAD
        rows = reflect(place + offset[0])
        columns = reflect(torch.where(draw[2] < 0.5, 31 - place, place) + offset[1])
        picked = self.images[index.view(n, 1, 1), rows.view(n, 32, 1), columns.view(n, 1, 32)]
        return self.normalise(picked), self.labels[index]

    def normalise(self, bytes_nhwc):
        x = bytes_nhwc.to(self.dtype).mul_(self.scale).add_(self.shift).permute(0, 3, 1, 2)
        return x.contiguous(memory_format=self.memory_format)


def reflect(position):
    """Positions outside 0..31 mirrored at the edge pixels, which are not repeated."""
    # Not by abs, which says the same: torch.compile of PyTorch 2.15 fails on the range of such an index.
    position = torch.where(position < 0, -position, position)
    return torch.where(position > 31, 62 - position, position)
