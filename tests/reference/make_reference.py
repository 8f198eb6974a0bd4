#!/usr/bin/env python3
"""Writes the reference files beside it: what PyTorch computes for small networks and learning-rate schedules.

    python3 tests/reference/make_reference.py [--check | --search SEEDS]

The training runs are computed in float64 from initial weights that are exact in float32, and stored rounded to float32, so that
the file's own error is half a unit in the last place and a comparison shows the error of the program under test alone.

(Leaky) ReLU has a kink at zero. Where rounding puts one pre-activation on its other side, the gradient changes by a finite
amount, and ten steps later the weights of two correct programs differ by 1e-4 to 1e-2 instead of 1e-7. A seed is therefore
chosen for which no pre-activation of the ten steps comes close to zero, nor a max-pool's window to a tie: --search tries that many seeds and prints the best, and
the batches are small because the closest approach shrinks with the number of activations. --check writes nothing; it prints
that margin and how far a float32 run of PyTorch drifts from the float64 one, the yardstick for the tests' tolerances.
README.md in this folder describes the arrays; tests/support_reference.h reads them.
"""
import os
import struct
import sys
import warnings

import torch
from torch import nn
from torch.nn import functional

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "..", "bench", "peers"))
from resnet_torch import ResNet, parameter_groups  # noqa: E402

MEAN = (0.4914, 0.4822, 0.4465)
STD = (0.2470, 0.2435, 0.2616)
STEPS = 10

RUNS = {
    "basic": dict(model=dict(block="basic", blocks=(1, 1, 1), stem_width=8, widths=(8, 16, 32)),
                  batch=4, label_smoothing=0.0, weight_decay=5e-4, decay_bn=True,
                  sgd=dict(lr=0.05, momentum=0.9, nesterov=True), seed=1259),
    "bottleneck": dict(model=dict(block="bottleneck", blocks=(1, 2), stem_width=6, widths=(5, 7),
                                  activation="leaky-relu", leaky_slope=0.01),
                       batch=3, label_smoothing=0.1, weight_decay=1e-4, decay_bn=False,
                       sgd=dict(lr=0.05, momentum=0.9, nesterov=False), seed=1004),
    "pooled": dict(model=dict(block="basic", blocks=(1, 1), stem_width=4, widths=(6, 9), strides=(2,), downsample="max-pool"),
                   batch=3, label_smoothing=0.1, weight_decay=5e-4, decay_bn=True,
                   sgd=dict(lr=0.05, momentum=0.9, nesterov=True), seed=144),
    "smooth": dict(model=dict(block="basic", blocks=(2, 1), stem_width=4, widths=(4, 7), activation="gelu"),
                   batch=3, label_smoothing=0.1, weight_decay=5e-4, decay_bn=True,
                   sgd=dict(lr=0.05, momentum=0.9, nesterov=True), seed=1),
    "plain": dict(model=dict(block="bottleneck", blocks=(1, 1), stem_width=4, widths=(4, 5), shortcut_kind="none",
                             activation="gelu"),
                  batch=3, label_smoothing=0.0, weight_decay=1e-4, decay_bn=True,
                  sgd=dict(lr=0.05, momentum=0.9, nesterov=False), seed=1),
}
ACTIVATIONS = ("relu", "leaky-relu", "gelu")  # a file holds their numbers, and the shortcuts'
SHORTCUTS = ("conv", "pad", "none")


class TooClose(Exception):
    """A pre-activation nearer to the kink, or a max-pool nearer to a tie, than the search still cares for."""


def labels_of(first, count):
    """The label of image n; tests/support_reference.c holds the same formula."""
    n = torch.arange(first, first + count, dtype=torch.int64)
    return (7 * n + n // 10) % 10


def images_of(first, count):
    """The bytes of images first.. in NHWC, u8; byte i counts from the very first image. The same in support_reference.c."""
    labels = labels_of(first, count)
    i = torch.arange(first * 3072, (first + count) * 3072, dtype=torch.int64)
    mask = 0xFFFFFFFF
    h = (i * 2654435761) & mask
    h = h ^ (h >> 15)
    h = (h * 2246822519) & mask
    return ((h >> 25).view(count, 3072) + 12 * labels.view(count, 1)).to(torch.uint8).view(count, 32, 32, 3)


def normalised(images, dtype):
    mean, std = torch.tensor(MEAN, dtype=torch.float64), torch.tensor(STD, dtype=torch.float64)
    x = (images.to(torch.float64) / 255 - mean) / std
    return x.permute(0, 3, 1, 2).contiguous().to(dtype)


def make_model(run, dtype):
    """PyTorch's default initialisation, but batch-norm weights and biases at random, lest their terms be all one or zero."""
    torch.manual_seed(run["seed"])
    model = ResNet(**run["model"])
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.to(dtype)  # drawn in float32, so exact in float32


def watch_margin(model, floor):
    """A list whose one element becomes the least |pre-activation| met, or distance of a max-pool's largest value from its second;
    TooClose once it falls below `floor`."""
    least = [float("inf")]

    def narrow(distances):
        least[0] = min(least[0], distances.min().item())
        if least[0] < floor:
            raise TooClose

    def look(_module, inputs):
        narrow(inputs[0].detach().abs())

    def compare(_module, inputs):
        first, second = functional.unfold(inputs[0].detach().flatten(0, 1).unsqueeze(1), 2, stride=2).topk(2, 1).values.unbind(1)
        narrow(first - second)

    if not isinstance(model.act, nn.GELU):  # which has no kink
        model.act.register_forward_pre_hook(look)
    for module in model.modules():
        if isinstance(module, nn.MaxPool2d):
            module.register_forward_pre_hook(compare)
    return least


def config_of(run):
    """The run's options as arrays, so that a test needs no copy of them."""
    model, sgd = run["model"], run["sgd"]
    values = dict(bottleneck=model["block"] == "bottleneck", blocks=model["blocks"], stem_width=model["stem_width"],
                  widths=model["widths"], strides=model.get("strides", (1, 2)),
                  max_pool=model.get("downsample") == "max-pool",
                  activation=ACTIVATIONS.index(model.get("activation", "relu")),
                  shortcut=SHORTCUTS.index(model.get("shortcut_kind", "conv")),
                  leaky_slope=model.get("leaky_slope", 0.01), batch=run["batch"], steps=STEPS,
                  label_smoothing=run["label_smoothing"], weight_decay=run["weight_decay"], decay_bn=run["decay_bn"],
                  lr=sgd["lr"], momentum=sgd["momentum"], nesterov=sgd["nesterov"])
    return {"config/" + key: torch.tensor(value if isinstance(value, tuple) else (value,), dtype=torch.float64)
            for key, value in values.items()}


def train(run, dtype, floor=0.0):
    """Ten steps: the arrays of the file, by name, and the least |pre-activation| of all steps."""
    model = make_model(run, dtype)
    margin = watch_margin(model, floor)
    arrays = config_of(run)
    for name, p in model.named_parameters():
        arrays["initial/" + name] = p.detach().clone()
    groups = parameter_groups(model, run["weight_decay"], run["decay_bn"])
    optimizer = torch.optim.SGD(groups, **run["sgd"])
    criterion = nn.CrossEntropyLoss(label_smoothing=run["label_smoothing"])
    batch, losses = run["batch"], []
    for step in range(STEPS):
        x, y = normalised(images_of(step * batch, batch), dtype), labels_of(step * batch, batch)
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        if step == 0:
            for name, p in model.named_parameters():
                arrays["gradient/" + name] = p.grad.clone()
        optimizer.step()
        losses.append(loss.item())
    arrays["losses"] = torch.tensor(losses, dtype=torch.float64)
    for name, value in model.state_dict().items():
        if not name.endswith("num_batches_tracked"):
            arrays["final/" + name] = value.detach().clone()
    least = margin[0]
    model.eval()
    with torch.no_grad():
        arrays["eval_logits"] = model(normalised(images_of(0, batch), dtype))
    return arrays, least


def search(name, run, seeds):
    """Prints the seed whose run stays furthest from the kink."""
    best = (0.0, 0)
    for seed in range(1, seeds + 1):
        try:
            best = (train(dict(run, seed=seed), torch.float64, best[0])[1], seed)
            print("%s: seed %d keeps %.2e from the kink" % (name, best[1], best[0]), flush=True)
        except TooClose:
            pass


def schedules():
    """The learning rate used by each step, from torch.optim.lr_scheduler."""
    lr = torch.optim.lr_scheduler

    def rates(base, steps, make, of="lr"):
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base, momentum=0.9)
        schedule = make(optimizer)
        values = []
        for step in range(steps):
            values.append(optimizer.param_groups[0][of])
            optimizer.step()
            if step + 1 < steps:  # OneCycleLR raises beyond its last step
                schedule.step()
        return torch.tensor(values, dtype=torch.float64)

    # SequentialLR warns about its own inner calls.
    warnings.filterwarnings("ignore", message="The epoch parameter")

    def warm(steps, make):
        """A rise over that many steps, then the schedule, which counts from there."""
        def sequence(optimizer):
            rise = lr.LinearLR(optimizer, start_factor=1 / steps, end_factor=1.0, total_iters=steps - 1)
            return lr.SequentialLR(optimizer, [rise, make(optimizer)], milestones=[steps])
        return sequence

    def plateau(base, losses, **values):
        """The rate after each of the losses."""
        optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=base)
        schedule = lr.ReduceLROnPlateau(optimizer, **values)
        rates = []
        for loss in losses:
            schedule.step(loss)
            rates.append(optimizer.param_groups[0]["lr"])
        return torch.tensor(rates, dtype=torch.float64)

    # A loss that falls ever more slowly, with noise, a jump and a loss that is no number; exact in float32, as the file holds it.
    noise = torch.rand(120, generator=torch.Generator().manual_seed(1))
    epochs = torch.arange(120, dtype=torch.float32)
    losses = (2 * torch.exp(-epochs / 15) + 0.3 + 0.08 * noise)
    losses[40:44] += 1
    losses[50] = float("nan")
    losses[5] = losses[4] * (1 - 1e-3)

    return {
        "onecycle": rates(0.2, 390, lambda o: lr.OneCycleLR(o, 0.2, total_steps=390, pct_start=0.3, anneal_strategy="cos",
                                                            div_factor=25, final_div_factor=1e4, cycle_momentum=False)),
        "cosine": rates(0.1, 300, lambda o: lr.CosineAnnealingLR(o, T_max=300)),
        "step": rates(0.1, 100, lambda o: lr.StepLR(o, 30, 0.1)),
        "warmup_cosine": rates(0.1, 300, warm(20, lambda o: lr.CosineAnnealingLR(o, T_max=280))),
        "cosine_min": rates(0.1, 77, lambda o: lr.CosineAnnealingLR(o, T_max=77, eta_min=1e-3)),
        "step_steps": rates(0.3, 61, lambda o: lr.StepLR(o, 8, 0.2)),
        "multistep": rates(0.1, 97, lambda o: lr.MultiStepLR(o, [20, 45, 46], 0.2)),
        "polynomial": rates(0.1, 101, lambda o: lr.PolynomialLR(o, total_iters=101, power=2.0)),
        # PolynomialLR ends at 0: the way down to 1e-3 is its way down from 1e-3 less.
        "polynomial_min": 1e-3 + rates(0.1 - 1e-3, 53, lambda o: lr.PolynomialLR(o, total_iters=53, power=0.9)),
        "onecycle_linear": rates(0.2, 391, lambda o: lr.OneCycleLR(o, 0.2, total_steps=391, pct_start=0.25,
                                                                   anneal_strategy="linear", div_factor=10,
                                                                   final_div_factor=100, cycle_momentum=False)),
        "warmup_onecycle": rates(0.2, 101, warm(7, lambda o: lr.OneCycleLR(o, 0.2, total_steps=94, pct_start=0.3,
                                                                           div_factor=25, final_div_factor=1e4,
                                                                           cycle_momentum=False))),
        "momentum": rates(0.2, 390, lambda o: lr.OneCycleLR(o, 0.2, total_steps=390), "momentum"),
        "momentum_linear": rates(0.2, 391, lambda o: lr.OneCycleLR(o, 0.2, total_steps=391, pct_start=0.25, base_momentum=0.7,
                                                                   max_momentum=0.9, anneal_strategy="linear"), "momentum"),
        "warmup_momentum": rates(0.2, 101, warm(7, lambda o: lr.OneCycleLR(o, 0.2, total_steps=94)), "momentum"),
        "warmup_step": rates(0.1, 101, warm(7, lambda o: lr.StepLR(o, 20, 0.1))),
        "warmup_multistep": rates(0.1, 101, warm(7, lambda o: lr.MultiStepLR(o, [20, 40], 0.1))),
        "warmup_polynomial": rates(0.1, 101, warm(7, lambda o: lr.PolynomialLR(o, total_iters=94, power=2.0))),
        "warmup_constant": rates(0.1, 21, warm(7, lambda o: lr.ConstantLR(o, factor=1.0))),
        "plateau_losses": losses.double(),
        "plateau": plateau(0.1, losses.tolist(), factor=0.5, patience=2, threshold=1e-2, cooldown=3, min_lr=1e-3),
        "plateau_default": plateau(0.1, losses.tolist()),
        "plateau_eager": plateau(0.1, losses.tolist(), factor=0.1, patience=0, threshold=0.0, cooldown=0),
    }


def write(name, arrays):
    path = os.path.join(HERE, name + ".ref")
    with open(path, "wb") as file:
        file.write(b"rdp-reference 1\n")
        for key, value in arrays.items():
            file.write((" ".join([key, str(value.dim())] + [str(d) for d in value.shape]) + "\n").encode())
        file.write(b"\n")
        for value in arrays.values():
            flat = value.reshape(-1).tolist()
            file.write(struct.pack("<%df" % len(flat), *flat))
    print("%s: %d arrays, %d bytes" % (os.path.basename(path), len(arrays), os.path.getsize(path)))


def check(name, run):
    """Prints the margin and the drift of float32, relative in the norm of each array."""
    exact, margin = train(run, torch.float64)
    single, _ = train(run, torch.float32)
    print("%s: margin %.1e, losses %s" % (name, margin, " ".join("%.5f" % v for v in exact["losses"])))
    worst = {}
    for key, value in exact.items():
        difference = (single[key].double() - value).norm().item() / max(value.norm().item(), 1e-30)
        group = key.split("/")[0]
        worst[group] = max(worst.get(group, (0.0, "")), (difference, key))
    for group in ("gradient", "losses", "final", "eval_logits"):
        print("%s: float32 against float64, worst relative norm of %-11s %.1e (%s)" % ((name, group) + worst[group]))


def main():
    words = sys.argv[1:]
    if words and words != ["--check"] and not (len(words) == 2 and words[0] == "--search" and words[1].isdigit()):
        raise SystemExit(__doc__)
    print("PyTorch " + torch.__version__)
    for name, run in RUNS.items():
        if not words:
            write(name, train(run, torch.float64)[0])
        elif words[0] == "--check":
            check(name, run)
        elif run["model"].get("activation") != "gelu":
            search(name, run, int(words[1]))
    if not words:
        write("schedules", schedules())


if __name__ == "__main__":
    main()
