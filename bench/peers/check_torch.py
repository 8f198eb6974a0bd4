"""Whether ddp.py's steps train as the references of tests/reference/ do: the same initial weights and batches, ten steps, every
loss and the final state. A recorded or compiled step that left something out, or a fused optimiser that did, would show here.

In float64, as the references were made: in float32, rounding may put a pre-activation on the other side of ReLU's kink, after
which two correct programs differ by 1e-3 (seen here, with the fused optimiser on a CPU).
"""
import argparse
import os
import struct
import sys

import torch

import cifar_torch
import step_torch

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "tests", "reference"))
import make_reference  # noqa: E402

# The files hold float32, half a unit of which is 6e-8; so does the rate's tensor. A wrong formula is off by 1e-3 and more.
TOLERANCE = 1e-5


def read(path):
    with open(path, "rb") as file:
        if file.readline() != b"rdp-reference 1\n":
            raise SystemExit("%s: no reference file of this format" % path)
        heads = []
        while (line := file.readline().split()):
            heads.append((line[0].decode(), [int(v) for v in line[2:]]))
        arrays = {}
        for name, shape in heads:
            count = 1
            for extent in shape:
                count *= extent
            arrays[name] = torch.tensor(struct.unpack("<%df" % count, file.read(4 * count))).view(shape)
    return arrays


def configured(o, arrays):
    """The options with what the file says of network, batch and optimiser."""
    def value(name):
        return arrays["config/" + name].flatten().tolist()

    numbers = {k: value(k)[0] for k in ("leaky_slope", "label_smoothing", "weight_decay", "lr", "momentum")}
    return argparse.Namespace(**dict(
        vars(o), **numbers, block="bottleneck" if value("bottleneck")[0] else "basic",
        shortcut=make_reference.SHORTCUTS[int(value("shortcut")[0])],
        blocks=[int(v) for v in value("blocks")], widths=[int(v) for v in value("widths")], stem_width=int(value("stem_width")[0]),
        strides=[int(v) for v in value("strides")], downsample="max-pool" if value("max_pool")[0] else "stride",
        activation=make_reference.ACTIVATIONS[int(value("activation")[0])], batch=int(value("batch")[0]),
        nesterov="yes" if value("nesterov")[0] else "no", decay_bn="yes" if value("decay_bn")[0] else "no"))


def distance(got, want):
    return ((got - want).norm() / want.norm().clamp_min(1e-30)).item()


def follow(variant, arrays, o, device):
    """The worst relative errors of one variant."""
    steps = int(arrays["config/steps"].item())
    images, labels = make_reference.images_of(0, steps * o.batch), make_reference.labels_of(0, steps * o.batch)
    images, labels = images.to(device), labels.to(device)
    batcher = cifar_torch.Batcher(images, labels, torch.channels_last, torch.float64)
    initial = {k[len("initial/"):]: v for k, v in arrays.items() if k.startswith("initial/")}
    step = step_torch.Step(variant, batcher, o, device, augment=False, weights=initial)
    worst = {"losses": 0.0, "final": 0.0}
    for at in range(steps):
        step.loss_sum.zero_()
        step.run(torch.arange(at * o.batch, (at + 1) * o.batch, device=device))
        worst["losses"] = max(worst["losses"], abs(step.loss_sum.item() / arrays["losses"][at].item() - 1))
    for name, value in step.model.state_dict().items():
        worst["final"] = max(worst["final"], distance(value.cpu(), arrays["final/" + name]))
    return worst


def check(o, world, variants):
    if world.size > 1:
        raise SystemExit("ddp.py: --check compares one process")
    arrays = read(o.check)
    result = {"reference": os.path.basename(o.check), "errors": {}}  # relative; losses: the worst
    bad = []
    for variant in variants:
        for pad in ("no", "yes"):
            local = configured(argparse.Namespace(**dict(vars(o), precision="fp64", stem_pad=pad)), arrays)
            errors = follow(variant, arrays, local, world.device)
            result["errors"]["%s, stem_pad=%s" % (variant, pad)] = errors
            world.say("%-20s stem_pad=%-3s losses %.1e, final state %.1e" % (variant, pad, errors["losses"], errors["final"]))
            bad += ["%s, stem_pad=%s: %s off by %.1e" % (variant, pad, k, v) for k, v in errors.items() if not v <= TOLERANCE]
    if bad:
        raise SystemExit("ddp.py: " + "; ".join(bad))
    return result
