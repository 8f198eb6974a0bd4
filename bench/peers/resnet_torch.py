"""The networks of resnet-dp as a PyTorch module, with the same parameter names, so that both programs can be compared.

One description (block, blocks per stage, stem width, stage widths) builds what src/options.h calls by the same option names:
a 3x3 stem without bias, batch-norm and activation; stages of basic or bottleneck blocks, the first block with its stage's
stride (in a bottleneck on its 3x3 convolution; or there a 2x2 max-pool); on the shortcut where the shape changes a 1x1 convolution
and batch-norm (`downsample.0`, `downsample.1`), or every other pixel and zero channels, or no shortcuts at all; dropout behind each
stage; global average pool and one fully connected layer. Initialisation is PyTorch's default.

Used by train_torch.py (CPU: speed and accuracy), ddp.py (GPUs) and tests/reference/make_reference.py (numerical references).
Works with PyTorch 1.13 and later.
"""
import torch
from torch import nn
from torch.nn import functional


class BasicBlock(nn.Module):
    expansion = 1

    def __init__(self, inputs, width, stride, act, kind, pools):
        super().__init__()
        self.conv1, self.pool = halving(inputs, width, stride, pools)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.act = act
        self.downsample = shortcut(inputs, width, stride, kind)

    def forward(self, x):
        y = self.act(self.bn1(self.pool(self.conv1(x))))
        y = self.bn2(self.conv2(y))
        return self.act(joined(y, x, self.downsample))


class Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs, width, stride, act, kind, pools):
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2, self.pool = halving(width, width, stride, pools)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.act = act
        self.downsample = shortcut(inputs, outputs, stride, kind)

    def forward(self, x):
        y = self.act(self.bn1(self.conv1(x)))
        y = self.act(self.bn2(self.pool(self.conv2(y))))
        y = self.bn3(self.conv3(y))
        return self.act(joined(y, x, self.downsample))


class PadShortcut(nn.Module):
    """Option A of He et al.: every `stride`th pixel, zero channels before and after. Has no parameters."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.stride = stride
        self.before = (outputs - inputs) // 2
        self.after = outputs - inputs - self.before

    def forward(self, x):
        return functional.pad(x[:, :, ::self.stride, ::self.stride], (0, 0, 0, 0, self.before, self.after))


def halving(inputs, outputs, stride, pools):
    """A 3x3 convolution and what follows it: nothing, or the max-pool that does instead of its stride."""
    pools = pools and stride == 2
    return (nn.Conv2d(inputs, outputs, 3, 1 if pools else stride, 1, bias=False),
            nn.MaxPool2d(2, ceil_mode=True) if pools else nn.Identity())


class NoShortcut(nn.Module):
    """Of a plain network's block."""


def joined(y, x, way):
    """The main path y and what comes over the shortcut from x."""
    return y if isinstance(way, NoShortcut) else y + (x if way is None else way(x))


def shortcut(inputs, outputs, stride, kind):
    """NoShortcut for a plain network; None (identity) where the shape stays, else a strided 1x1 convolution and batch-norm or the
    padded shortcut."""
    if kind == "none":
        return NoShortcut()
    if inputs == outputs and stride == 1:
        return None
    if kind == "pad":
        return PadShortcut(inputs, outputs, stride)
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    def __init__(self, block="basic", blocks=(2, 1, 1, 1), stem_width=64, widths=(64, 128, 256, 512),
                 activation="relu", leaky_slope=0.01, shortcut_kind="conv", dropout=None, strides=(1, 2),
                 downsample="stride"):
        super().__init__()
        kind = {"basic": BasicBlock, "bottleneck": Bottleneck}[block]
        # In place where PyTorch can, as its own models do: it saves one activation per layer.
        self.act = {"relu": lambda: nn.ReLU(inplace=True), "leaky-relu": lambda: nn.LeakyReLU(leaky_slope, inplace=True),
                    "gelu": nn.GELU}[activation]()
        self.conv1 = nn.Conv2d(3, stem_width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(stem_width)
        self.stages, self.dropout = len(blocks), dropout or (0,) * len(blocks)
        channels = stem_width
        for stage, (count, width) in enumerate(zip(blocks, widths)):
            layers = []
            for index in range(count):
                stride = strides[min(stage, len(strides) - 1)] if index == 0 else 1
                layers.append(kind(channels, width, stride, self.act, shortcut_kind, downsample == "max-pool"))
                channels = width * kind.expansion
            setattr(self, "layer%d" % (stage + 1), nn.Sequential(*layers))
        self.fc = nn.Linear(channels, 10)

    def forward(self, x):
        x = self.act(self.bn1(self.conv1(x)))
        for stage in range(self.stages):
            x = getattr(self, "layer%d" % (stage + 1))(x)
            if self.dropout[stage] > 0:
                x = functional.dropout(x, self.dropout[stage], self.training)
        return self.fc(x.mean((2, 3)))


def from_options(o):
    """The network that peer_options.add_model's options describe."""
    return ResNet(o.block, o.blocks, o.stem_width, o.widths, o.activation, o.leaky_slope, o.shortcut,
                  getattr(o, "dropout", None), o.strides, o.downsample)


def parameter_groups(model, weight_decay, decay_bn):
    """Optimiser groups; with decay_bn false, batch-norm parameters and biases get no weight decay."""
    if decay_bn:
        return [{"params": list(model.parameters()), "weight_decay": weight_decay}]
    flat = [p for p in model.parameters() if p.ndim == 1]
    rest = [p for p in model.parameters() if p.ndim > 1]
    return [{"params": rest, "weight_decay": weight_decay}, {"params": flat, "weight_decay": 0.0}]
