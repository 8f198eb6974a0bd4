"""Optimisers of the PyTorch peer: PyTorch's own, and what it does not have as small classes: Lookahead around any of them, LARS and
LAMB. Defaults are resnet-dp's ("auto" is resolved by peer_options.parse)."""
import torch
from torch import nn


def groups_of(model, o):
    """Groups by weight decay and rate: batch-norm parameters and biases without decay if --decay-bn no, batch-norm weights and
    biases at --bn-weight-lr and --bn-bias-lr times the rate and as much less decay, nothing of what has no rate or is of a frozen
    stem. `adapts`: LARS and LAMB give the group's tensors trust ratios."""
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d)]
    rates = {**{id(m.weight): o.bn_weight_lr for m in norms}, **{id(m.bias): o.bn_bias_lr for m in norms}}
    groups = {}
    for name, p in model.named_parameters():
        rate = rates.get(id(p), 1.0)
        if rate == 0 or name in ("conv1.weight", "bn1.weight", "bn1.bias") and o.freeze_stem == "yes":
            p.requires_grad_(False)
            continue
        key = (p.ndim > 1, rate)
        groups.setdefault(key, []).append(p)
    return [dict(params=parameters, lr=o.lr * rate, adapts=is_weight,
                 weight_decay=o.weight_decay / rate if (is_weight or o.decay_bn == "yes") else 0.0)
            for (is_weight, rate), parameters in groups.items()]


class Trusting(torch.optim.Optimizer):
    """What LARS and LAMB share: a direction per tensor, walked at the rate times that tensor's trust ratio."""

    def __init__(self, groups, o, **momenta):
        super().__init__(groups, dict(lr=o.lr, weight_decay=o.weight_decay, adapts=True, **momenta))
        self.o = o

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.walk(p, group, self.state[p])

    def walk(self, p, group, state):
        raise NotImplementedError


class LARS(Trusting):
    """You, Gitman, Ginsburg 2017, in the form of PyTorch's SGD: v = momentum v + trust (g + decay w), w -= lr v, with
    trust = coefficient |w| / (|g| + decay |w| + epsilon); 1 for batch-norm and biases, and where a norm is 0."""

    def walk(self, p, group, state):
        trust, decay = 1.0, group["weight_decay"]
        weight, gradient = p.norm().item(), p.grad.norm().item()
        if group["adapts"] and weight > 0 and gradient > 0:
            trust = self.o.trust_coefficient * weight / (gradient + decay * weight + self.o.epsilon)
        velocity = state.setdefault("velocity", torch.zeros_like(p))
        velocity.mul_(group["momentum"]).add_(p.grad.add(p, alpha=decay), alpha=trust)
        p.sub_(velocity, alpha=group["lr"])


class LAMB(Trusting):
    """You et al. 2020, algorithm 2, bias corrected: u = m / (sqrt(v) + epsilon) + decay w, w -= lr |w| / |u| u; the ratio is 1 for
    batch-norm and biases, and where a norm is 0."""

    def walk(self, p, group, state):
        beta1, beta2 = group["betas"]
        step = state["step"] = state.get("step", 0) + 1
        m = state.setdefault("m", torch.zeros_like(p)).lerp_(p.grad, 1 - beta1)
        v = state.setdefault("v", torch.zeros_like(p)).mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
        update = (m / (1 - beta1 ** step)) / ((v / (1 - beta2 ** step)).sqrt() + self.o.epsilon) + group["weight_decay"] * p
        weight, length = p.norm().item(), update.norm().item()
        trust = weight / length if group["adapts"] and weight > 0 and length > 0 else 1.0
        p.sub_(update, alpha=group["lr"] * trust)


class Lookahead:
    """Zhang et al. 2019 around `inner`: every `every` steps slow += alpha (fast - slow), fast = slow. Not an Optimizer itself:
    schedules act on `inner`."""

    def __init__(self, inner, every, alpha):
        self.inner, self.every, self.alpha, self.count = inner, every, alpha, 0
        self.fast = [p for group in inner.param_groups for p in group["params"]]
        self.slow = [p.detach().clone() for p in self.fast]

    @torch.no_grad()
    def step(self):
        self.inner.step()
        self.count += 1
        if self.count % self.every == 0:
            for slow, fast in zip(self.slow, self.fast):
                slow.lerp_(fast, self.alpha)
                fast.copy_(slow)

    def zero_grad(self, set_to_none=True):
        self.inner.zero_grad(set_to_none=set_to_none)


def plain(groups, o):
    """The optimiser that --optimizer names, and how PyTorch runs it."""
    betas = dict(betas=(o.beta1, o.beta2), eps=o.epsilon)
    if o.optimizer == "lars":
        return LARS(groups, o, momentum=o.momentum), "plain"
    if o.optimizer == "lamb":
        return LAMB(groups, o, betas=(o.beta1, o.beta2)), "plain"
    kinds = {
        "sgd": (torch.optim.SGD, dict(momentum=o.momentum, nesterov=o.nesterov == "yes")),
        "adam": (torch.optim.Adam, betas),
        "adamw": (torch.optim.AdamW, betas),
        "adamax": (torch.optim.Adamax, betas),
        "adagrad": (torch.optim.Adagrad, dict(lr_decay=o.adagrad_lr_decay, eps=o.epsilon)),
        "rmsprop": (torch.optim.RMSprop, dict(alpha=o.rmsprop_alpha, momentum=o.momentum, eps=o.epsilon)),
        "asgd": (torch.optim.ASGD, dict(lambd=o.asgd_lambda, alpha=o.asgd_alpha, t0=o.asgd_t0)),
    }
    kind, arguments = kinds[o.optimizer]
    for how in ("fused", "foreach"):
        try:
            return kind(groups, lr=o.lr, **arguments, **{how: True}), how
        except (TypeError, RuntimeError):  # this version has no such form of it, or not on a CPU
            continue
    return kind(groups, lr=o.lr, **arguments), "plain"


def make(model, o):
    """(what to step, the optimiser whose rate a schedule sets, how PyTorch runs it: fused, foreach or plain)."""
    groups = groups_of(model, o)
    if o.optimizer not in ("lars", "lamb"):
        for group in groups:
            del group["adapts"]
    optimizer, how = plain(groups, o)
    return (Lookahead(optimizer, o.lookahead, o.lookahead_alpha) if o.lookahead else optimizer), optimizer, how


def clip(model, o):
    """--clip-value, then --clip-norm, of the whole gradient."""
    if o.clip_value > 0:
        nn.utils.clip_grad_value_(model.parameters(), o.clip_value)
    if o.clip_norm > 0:
        nn.utils.clip_grad_norm_(model.parameters(), o.clip_norm)


def average_of(model, o):
    """The moving average of weights and running statistics that --ema asks for, else None."""
    if o.ema == 0:
        return None

    def towards(averaged, current, _count):
        return averaged.lerp(current, 1 - o.ema) if averaged.is_floating_point() else current
    return torch.optim.swa_utils.AveragedModel(model, avg_fn=towards, use_buffers=True)
