#!/usr/bin/env python3
"""Writes optimisers.ref beside it: 20 steps of each optimiser on a toy set of parameters with given gradients.

    python3 tests/reference/make_optimisers.py

torch.optim and torch.nn.utils compute in float64, from parameters and gradients that are exact in float32, and the results are
stored rounded to float32. LARS and LAMB, which PyTorch does not have, are written out below after the papers: You, Gitman and
Ginsburg 2017 (arXiv:1708.03888) and You et al. 2020 (arXiv:1904.00962, algorithm 2). README.md in this folder describes the
arrays; tests/test-optimiser-kernels.c reads them.
"""
import math

import torch

from make_reference import write

STEPS = 20
COUNTS = (1, 7, 16, 33, 260, 20)  # elements of each row; the last one is frozen
ADAPTS = (1, 1, 0, 1, 1, 1)  # LARS and LAMB: the row has a ratio of its own
ZERO_AT_FIRST = 1  # a row of zeros, whose ratio is 1 in the first step
KINDS = ("sgd", "adam", "adamw", "adamax", "adagrad", "rmsprop", "asgd", "lars", "lamb")  # enum rdp_optimiser_kind's order
STATE = {"sgd": ("momentum_buffer",), "adam": ("exp_avg", "exp_avg_sq"), "adamw": ("exp_avg", "exp_avg_sq"),
         "adamax": ("exp_avg", "exp_inf"), "adagrad": ("sum",), "rmsprop": ("square_avg", "momentum_buffer"), "asgd": (),
         "lars": ("momentum_buffer",), "lamb": ("exp_avg", "exp_avg_sq")}

# What a run is unless it says otherwise; `config` of a run in the file is these values in this order, after the kind.
DEFAULTS = dict(lr=0.05, momentum=0.0, nesterov=0, beta1=0.9, beta2=0.999, epsilon=1e-8, alpha=0.99, asgd_lambda=1e-4,
                asgd_alpha=0.75, asgd_t0=1e6, adagrad_lr_decay=0.0, trust_coefficient=0.001, clip_value=0.0, clip_norm=0.0,
                weight_decay=0.0, multiples=1, lookahead=0, lookahead_alpha=0.5, ema=0.0)

RUNS = {
    "sgd": dict(kind="sgd"),
    "sgd_momentum": dict(kind="sgd", momentum=0.9, weight_decay=0.05),
    "sgd_nesterov": dict(kind="sgd", momentum=0.9, nesterov=1, weight_decay=0.05),
    "adam": dict(kind="adam", lr=0.01),
    "adam_decay": dict(kind="adam", lr=0.01, weight_decay=0.1, beta1=0.8, beta2=0.95, epsilon=1e-3),
    "adamw": dict(kind="adamw", lr=0.01, weight_decay=0.5),
    "adamax": dict(kind="adamax", lr=0.01, weight_decay=0.1),
    "adagrad": dict(kind="adagrad", epsilon=1e-10, adagrad_lr_decay=0.1, weight_decay=0.1),
    "rmsprop": dict(kind="rmsprop", lr=0.01),
    "rmsprop_momentum": dict(kind="rmsprop", lr=0.01, momentum=0.9, alpha=0.9, weight_decay=0.1),
    # PyTorch has no multiple of eta, so that a rate of its own gives a row another decay of it: none here.
    "asgd": dict(kind="asgd", asgd_lambda=0.05, asgd_t0=4, weight_decay=0.1, multiples=0),
    "lars": dict(kind="lars", lr=2.0, momentum=0.9, trust_coefficient=0.05, weight_decay=0.1),
    "lars_plain": dict(kind="lars", lr=2.0, trust_coefficient=0.05),
    "lamb": dict(kind="lamb", lr=0.01, epsilon=1e-6, weight_decay=0.1),
    "clip_value": dict(kind="sgd", momentum=0.9, clip_value=0.5),
    "clip_norm": dict(kind="sgd", clip_norm=3.0, weight_decay=0.05),
    "clip_both": dict(kind="sgd", momentum=0.9, nesterov=1, clip_value=1.0, clip_norm=2.0),
    "lars_clip": dict(kind="lars", lr=2.0, momentum=0.9, trust_coefficient=0.05, weight_decay=0.1, clip_value=1.0,
                      clip_norm=2.0),
    "lamb_clip": dict(kind="lamb", lr=0.01, epsilon=1e-2, weight_decay=0.1, clip_norm=0.5),
    "lookahead": dict(kind="sgd", momentum=0.9, weight_decay=0.05, lookahead=3, lookahead_alpha=0.4),
    "lookahead_adam": dict(kind="adam", lr=0.01, lookahead=5),
    "ema": dict(kind="sgd", momentum=0.9, ema=0.8),
}


class Lars(torch.optim.Optimizer):
    """v = momentum v + trust (g + decay p), p -= lr v; trust = coefficient |p| / (|g| + decay |p| + epsilon)."""

    def __init__(self, groups, **defaults):
        super().__init__(groups, defaults)

    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                size, force, trust = p.norm(), p.grad.norm(), 1.0
                if group["adapts"] and size > 0 and force > 0:
                    trust = group["trust_coefficient"] * size / (force + group["weight_decay"] * size + group["epsilon"])
                v = self.state[p].setdefault("momentum_buffer", torch.zeros_like(p))
                v.mul_(group["momentum"]).add_(trust * (p.grad + group["weight_decay"] * p))
                p.sub_(group["lr"] * v)


class Lamb(torch.optim.Optimizer):
    """Adam's m_hat / (sqrt(v_hat) + epsilon) + decay p, made as long as p."""

    def __init__(self, groups, **defaults):
        super().__init__(groups, defaults)
        self.t = 0

    def step(self):
        self.t += 1
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for p in group["params"]:
                m = self.state[p].setdefault("exp_avg", torch.zeros_like(p))
                v = self.state[p].setdefault("exp_avg_sq", torch.zeros_like(p))
                m.mul_(beta1).add_((1 - beta1) * p.grad)
                v.mul_(beta2).add_((1 - beta2) * p.grad ** 2)
                r = (m / (1 - beta1 ** self.t)) / ((v / (1 - beta2 ** self.t)).sqrt() + group["eps"])
                r = r + group["weight_decay"] * p
                ratio = p.norm() / r.norm() if group["adapts"] and p.norm() > 0 and r.norm() > 0 else 1.0
                p.sub_(group["lr"] * ratio * r)


def single(tensor):
    """Rounded to float32, in float64."""
    return tensor.float().double()


def make_optimizer(run, groups):
    betas = (run["beta1"], run["beta2"])
    optim = torch.optim
    return {
        "sgd": lambda: optim.SGD(groups, lr=1, momentum=run["momentum"], nesterov=bool(run["nesterov"])),
        "adam": lambda: optim.Adam(groups, betas=betas, eps=run["epsilon"]),
        "adamw": lambda: optim.AdamW(groups, betas=betas, eps=run["epsilon"]),
        "adamax": lambda: optim.Adamax(groups, betas=betas, eps=run["epsilon"]),
        "adagrad": lambda: optim.Adagrad(groups, lr_decay=run["adagrad_lr_decay"], eps=run["epsilon"]),
        "rmsprop": lambda: optim.RMSprop(groups, alpha=run["alpha"], eps=run["epsilon"], momentum=run["momentum"]),
        "asgd": lambda: optim.ASGD(groups, lambd=run["asgd_lambda"], alpha=run["asgd_alpha"], t0=run["asgd_t0"]),
        "lars": lambda: Lars(groups, lr=1, momentum=run["momentum"], trust_coefficient=run["trust_coefficient"],
                             epsilon=run["epsilon"]),
        "lamb": lambda: Lamb(groups, lr=1, betas=betas, eps=run["epsilon"]),
    }[run["kind"]]()


def clip(parameters, run):
    if run["clip_value"] > 0:
        torch.nn.utils.clip_grad_value_(parameters, run["clip_value"])
    if run["clip_norm"] > 0:
        torch.nn.utils.clip_grad_norm_(parameters, run["clip_norm"])


def follow(run, initial, gradients, rates):
    """The arrays that a run leaves: parameters, states, average and slow weights, each of all rows one after the other."""
    rows = [row.clone() for row in initial]
    multiples = [1, 2, 1, 0.5, 1] if run["multiples"] else [1] * 5
    decays = [run["weight_decay"] * factor for factor in (1, 1, 0, 1, 0.5)]
    groups = [dict(params=[row], weight_decay=decay, adapts=adapts, lr=multiple * run["lr"] * rates[0].item())
              for row, decay, adapts, multiple in zip(rows, decays, ADAPTS, multiples)]
    optimizer = make_optimizer(run, groups)
    slow = [row.clone() for row in rows]
    average = [row.clone() for row in rows]
    for step in range(STEPS):
        for group, multiple in zip(optimizer.param_groups, multiples):
            group["lr"] = multiple * run["lr"] * rates[step].item()
        for row, gradient in zip(rows[:-1], gradients[step]):
            row.grad = gradient.clone()
        clip(rows[:-1], run)
        optimizer.step()
        if run["lookahead"] > 0 and (step + 1) % run["lookahead"] == 0:
            for fast, kept in zip(rows, slow):
                kept.add_(run["lookahead_alpha"] * (fast - kept))
                fast.copy_(kept)
        if run["ema"] > 0:
            for row, kept in zip(rows, average):
                kept.copy_(row if step == 0 else run["ema"] * kept + (1 - run["ema"]) * row)
    arrays = {"final": rows}
    for i, name in enumerate(STATE[run["kind"]]):
        if name != "momentum_buffer" or run["momentum"] > 0:
            arrays["state%d" % i] = [optimizer.state[row][name] for row in rows[:-1]] + [torch.zeros(COUNTS[-1])]
    if run["lookahead"] > 0:
        arrays["slow"] = slow
    if run["ema"] > 0:
        arrays["average"] = average
    if run["kind"] == "asgd":
        arrays["average"] = [optimizer.state[row]["ax"] for row in rows[:-1]] + [rows[-1]]
    return {name: torch.cat([value.double().reshape(-1) for value in values]) for name, values in arrays.items()}


def main():
    print("PyTorch " + torch.__version__)
    torch.manual_seed(5)
    initial = [single(torch.randn(count)) for count in COUNTS]
    initial[ZERO_AT_FIRST].zero_()
    # A drift and noise, so that momentum, squares and clipping all have something to do.
    drift = [torch.randn(count) for count in COUNTS]
    gradients = [[single(0.7 * d + torch.randn(len(d))) for d in drift] for _ in range(STEPS)]
    rates = single(torch.tensor([0.5 + 0.5 * math.cos(math.pi * step / STEPS) + 0.1 * (step % 3) for step in range(STEPS)]))
    arrays = {"counts": torch.tensor(COUNTS), "adapts": torch.tensor(ADAPTS), "rates": rates,
              "initial": torch.cat(initial), "gradients": torch.stack([torch.cat(step) for step in gradients])}
    with torch.no_grad():
        for name, changes in RUNS.items():
            run = dict(DEFAULTS, **changes)
            arrays[name + "/config"] = torch.tensor([KINDS.index(run["kind"])] + [run[key] for key in DEFAULTS],
                                                    dtype=torch.float64)
            for key, value in follow(run, initial, gradients, rates).items():
                arrays[name + "/" + key] = value
    write("optimisers", arrays)


if __name__ == "__main__":
    main()
