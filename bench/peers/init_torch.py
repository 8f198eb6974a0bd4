"""A network of resnet_torch with the initial weights that a recipe asks for; PyTorch's own unless it does."""
import torch
from torch import nn
from torch.nn import functional

import resnet_torch

WHITENING_IMAGES = 5000
WHITENING_FLOOR = 5e-4  # added to the eigenvalues, lest the smallest ones' noise be blown up


def make(o, batcher):
    model = resnet_torch.from_options(o)
    if o.zero_init_residual == "yes":
        for module in model.modules():
            if isinstance(module, (resnet_torch.BasicBlock, resnet_torch.Bottleneck)):
                nn.init.zeros_((module.bn2 if module.expansion == 1 else module.bn3).weight)
    if o.conv_init == "dirac":
        for module in model.modules():
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) and module is not model.conv1:
                nn.init.dirac_(module.weight.data[:module.in_channels])
    if o.stem_init == "whiten":
        whiten(model.conv1, batcher)
    return model


@torch.no_grad()
def whiten(stem, batcher):
    """Page 2019, Jordan 2024: the filters are eigenvectors of the covariance of the training images' 3x3 patches, divided by the
    root of their eigenvalue, those of the greatest first and then the same with the other sign; what is left of an odd or wide
    stem keeps its default."""
    count = len(batcher.labels)
    images = min(WHITENING_IMAGES, count)
    x = batcher.picked(torch.arange(images) * count // images)[0]
    patches = functional.unfold(x.contiguous(), 3).transpose(1, 2).reshape(-1, 27).double()
    values, vectors = torch.linalg.eigh(torch.cov(patches.T, correction=0))
    filters = (vectors / (values + WHITENING_FLOOR).sqrt()).T.flip(0).float().view(27, 3, 3, 3)
    taken = min(27, stem.out_channels // 2)
    stem.weight[:2 * taken] = torch.cat((filters[:taken], -filters[:taken]))
