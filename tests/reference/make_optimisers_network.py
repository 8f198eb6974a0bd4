#!/usr/bin/env python3
"""Writes optimisers_network.ref beside it: twenty steps of a small network with each optimiser of PyTorch.

    python3 tests/reference/make_optimisers_network.py [--check]

Float64 runs rounded to float32, as make_reference.py's, which holds the batches' formula and the file's form. The network's
LeakyReLU has a slope of 0.999 below zero: its kink is then a thousandth of ReLU's, so that rounding cannot change a run by
choosing another branch, and any seed will do (8: the least drift of the first eight). --check writes nothing; it prints how far a float32 run of PyTorch is
from the float64 one (relative, norm of each array), the yardstick for the tolerances of tests/support_optimisers.c, whose
table of options is RUNS in the words of recipes.

What PyTorch does not have is written out here: Lookahead (Zhang et al. 2019, algorithm 1), LARS (You et al. 2017) and LAMB
(You et al. 2020, algorithm 2), as kernels/common/optimiser.h defines them.
"""
import sys

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_avg_fn

from make_reference import ResNet, images_of, labels_of, normalised, write

STEPS, BATCH, SEED, LARGE = 20, 4, 8, 1000
MODEL = dict(block="basic", blocks=(1,), stem_width=16, widths=(16,), activation="leaky-relu", leaky_slope=0.999)


class Lars(torch.optim.Optimizer):
    def __init__(self, params, lr, momentum, weight_decay, trust, eps):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay, trust=trust, eps=eps))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                g, decay, ratio = p.grad, group["weight_decay"], 1.0
                if p.ndim > 1 and p.norm() > 0 and g.norm() > 0:
                    ratio = group["trust"] * p.norm() / (g.norm() + decay * p.norm() + group["eps"])
                buffer = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                buffer.mul_(group["momentum"]).add_(ratio * (g + decay * p))
                p.sub_(group["lr"] * buffer)


class Lamb(torch.optim.Optimizer):
    def __init__(self, params, lr, betas, eps, weight_decay):
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))
        self.steps = 0

    @torch.no_grad()
    def step(self):
        self.steps += 1
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                v = self.state[p].setdefault("exp_avg_sq", torch.zeros_like(p))
                m.mul_(beta1).add_((1 - beta1) * p.grad)
                v.mul_(beta2).add_((1 - beta2) * p.grad ** 2)
                r = m / (1 - beta1 ** self.steps) / ((v / (1 - beta2 ** self.steps)).sqrt() + group["eps"])
                r += group["weight_decay"] * p
                ratio = p.norm() / r.norm() if p.ndim > 1 and p.norm() > 0 and r.norm() > 0 else 1.0
                p.sub_(group["lr"] * ratio * r)


O = torch.optim
# `make` gets the parameter groups; `rate` is that of the first step, from which it falls.
RUNS = {
    "sgd": dict(rate=0.01, make=lambda g, lr: O.SGD(g, lr, momentum=0.9, nesterov=True), decay=5e-4, bn_bias_lr=4),
    "plain": dict(rate=0.1, make=lambda g, lr: O.SGD(g, lr), decay=0.0, clip_value=0.05, clip_norm=0.5, freeze_stem=True),
    "adam": dict(rate=0.003, make=lambda g, lr: O.Adam(g, lr), decay=0.01),
    "sgd-cycled": dict(rate=0.01, make=lambda g, lr: O.SGD(g, lr, momentum=0.9, nesterov=True), decay=5e-4, cycled="momentum"),
    "adam-cycled": dict(rate=0.003, make=lambda g, lr: O.Adam(g, lr), decay=0.01, cycled="betas"),
    "adamax-cycled": dict(rate=0.001, make=lambda g, lr: O.Adamax(g, lr), decay=0.01, cycled="betas"),
    "adamw": dict(rate=0.001, make=lambda g, lr: O.AdamW(g, lr, betas=(0.8, 0.95), eps=1e-4), decay=0.5, decay_bn=False, ema=0.9),
    "adamax": dict(rate=0.001, make=lambda g, lr: O.Adamax(g, lr), decay=0.01),
    "adagrad": dict(rate=0.005, make=lambda g, lr: O.Adagrad(g, lr, lr_decay=0.1), decay=0.01),
    "rmsprop": dict(rate=0.0005, make=lambda g, lr: O.RMSprop(g, lr, alpha=0.9, momentum=0.5), decay=0.01),
    "rmsprop-plain": dict(rate=0.001, make=lambda g, lr: O.RMSprop(g, lr, eps=1e-3), decay=0.0, lookahead=3, ema=0.8),
    "asgd": dict(rate=0.1, make=lambda g, lr: O.ASGD(g, lr, lambd=1e-2, alpha=0.75, t0=5), decay=1e-3),
    "lookahead": dict(rate=0.02, make=lambda g, lr: O.SGD(g, lr, momentum=0.9), decay=5e-4, lookahead=5),
    "lars": dict(rate=0.2, make=lambda g, lr: Lars(g, lr, 0.9, 5e-4, 0.02, 1e-8), decay=5e-4, decay_bn=False, clip_norm=1.0),
    "lamb": dict(rate=0.002, make=lambda g, lr: Lamb(g, lr, (0.9, 0.999), 1e-3, 0.01), decay=0.01),
}


def groups_of(model, run):
    """One group per parameter, with what the options say of its row."""
    biases = {id(m.bias) for m in model.modules() if isinstance(m, nn.BatchNorm2d)}
    groups, factors = [], []
    for name, p in model.named_parameters():
        if run.get("freeze_stem") and name in ("conv1.weight", "bn1.weight", "bn1.bias"):
            p.requires_grad_(False)
            continue
        factor = run.get("bn_bias_lr", 1) if id(p) in biases else 1
        decay = run["decay"] if p.ndim > 1 or run.get("decay_bn", True) else 0.0
        groups.append(dict(params=[p], weight_decay=decay / factor, lr=run["rate"] * factor))
        factors.append(factor)
    return groups, factors


def initial_model(dtype):
    """PyTorch's initialisation, batch-norm's at random: a gradient that is exactly zero has no sign for Adam to follow."""
    torch.manual_seed(SEED)
    model = ResNet(**MODEL)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.to(dtype)


def arrays_of(prefix, state):
    return {prefix + "/" + name: value.detach().clone() for name, value in state.items()
            if not name.endswith("num_batches_tracked")}


def thinned(arrays):
    """Of large arrays every eighth element: what happens to the others is no different."""
    return {key: value.reshape(-1)[::8] if value.numel() > LARGE else value for key, value in arrays.items()}


def train(run, dtype):
    model = initial_model(dtype)
    groups, factors = groups_of(model, run)
    optimizer = run["make"](groups, run["rate"])
    trained = [p for p in model.parameters() if p.requires_grad]
    slow = [p.detach().clone() for p in trained]
    ema = AveragedModel(model, avg_fn=get_ema_avg_fn(run["ema"]), use_buffers=True) if "ema" in run else None
    statistics, losses = None, []
    for step in range(STEPS):
        for group, factor in zip(optimizer.param_groups, factors):
            group["lr"] = run["rate"] * factor * (1 - step / 40)
            if "cycled" in run:  # momentum or beta1, another in every step
                momentum = 0.95 - 0.005 * step
                group[run["cycled"]] = (momentum, group["betas"][1]) if run["cycled"] == "betas" else momentum
        x, y = normalised(images_of(step * BATCH, BATCH), dtype), labels_of(step * BATCH, BATCH)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        if "clip_value" in run:
            nn.utils.clip_grad_value_(trained, run["clip_value"])
        if "clip_norm" in run:
            nn.utils.clip_grad_norm_(trained, run["clip_norm"])
        optimizer.step()
        if (step + 1) % run.get("lookahead", STEPS + 1) == 0:
            with torch.no_grad():
                for p, q in zip(trained, slow):
                    q.add_(0.5 * (p - q))
                    p.copy_(q)
        if ema is not None:
            ema.update_parameters(model)
        if isinstance(optimizer, O.ASGD):  # running statistics are averaged as its weights are
            current = {n: b.detach().clone() for n, b in model.named_buffers() if b.is_floating_point()}
            mu = 1 / max(1, step - 5)
            statistics = current if step == 0 else {n: s + mu * (current[n] - s) for n, s in statistics.items()}
        losses.append(loss.item())
    arrays = arrays_of("final", model.state_dict())
    arrays["losses"] = torch.tensor(losses, dtype=torch.float64)
    if ema is not None:
        arrays.update(arrays_of("average", ema.module.state_dict()))
    if statistics is not None:
        averages = {n: optimizer.state[p]["ax"] for n, p in model.named_parameters()}
        arrays.update(arrays_of("average", {**averages, **statistics}))
    return arrays


def main():
    words = sys.argv[1:]
    if words not in ([], ["--check"]):
        raise SystemExit(__doc__)
    print("PyTorch " + torch.__version__)
    arrays = arrays_of("initial", dict(initial_model(torch.float64).named_parameters()))
    for name, run in RUNS.items():
        exact = train(run, torch.float64)
        arrays.update({name + "/" + key: value for key, value in thinned(exact).items()})
        if words:
            single = train(run, torch.float32)
            drift = {key: ((single[key].double() - value).norm() / value.norm()).item() for key, value in exact.items()}
            worst = max(drift, key=drift.get)
            print("%-14s loss %.4f to %.4f; float32 is off by %.1e (%s), losses by %.1e" %
                  (name, exact["losses"][0], exact["losses"][-1], drift[worst], worst, drift["losses"]))
    if not words:
        write("optimisers_network", arrays)


if __name__ == "__main__":
    main()
