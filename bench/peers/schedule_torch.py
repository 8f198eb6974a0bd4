"""Learning-rate schedules of the PyTorch peer: torch.optim.lr_scheduler's own, stepped after every batch, as resnet-dp's are."""
import math

from torch.optim import lr_scheduler


def scaled_lr(o):
    """--lr after --lr-scaling."""
    ratio = o.batch / o.lr_base_batch
    return o.lr * {"none": 1.0, "linear": ratio, "sqrt": math.sqrt(ratio)}[o.lr_scaling]


def nearest(step):
    """The whole step nearest to where a rate is to fall; of two the earlier."""
    return math.ceil(step - 0.5)


def after_warmup(optimizer, o, epoch_steps, steps):
    """The schedule over its `steps` steps, None for a constant rate."""
    if o.schedule == "step":
        every = o.step_steps or o.step_epochs * epoch_steps
        at = [nearest(every * k) for k in range(1, int(steps / every) + 2)]
        return lr_scheduler.MultiStepLR(optimizer, at, o.step_gamma)
    if o.schedule == "multistep":
        return lr_scheduler.MultiStepLR(optimizer, [nearest(m * epoch_steps) for m in o.milestones], o.step_gamma)
    if o.schedule == "cosine":
        return lr_scheduler.CosineAnnealingLR(optimizer, steps, o.min_lr)
    if o.schedule == "polynomial":
        if o.min_lr == 0:
            return lr_scheduler.PolynomialLR(optimizer, steps, o.polynomial_power)
        floor = o.min_lr / o.lr  # PyTorch's ends at 0
        return lr_scheduler.LambdaLR(optimizer, lambda step: floor + (1 - floor) * (1 - step / steps) ** o.polynomial_power)
    if o.schedule == "onecycle":
        cycles = len(o.onecycle_momentum) == 2 and o.optimizer not in ("adagrad", "asgd")  # which have none
        low, high = o.onecycle_momentum if cycles else (0.85, 0.95)  # PyTorch's defaults
        return lr_scheduler.OneCycleLR(optimizer, [group["lr"] for group in optimizer.param_groups], total_steps=steps,
                                       pct_start=o.onecycle_peak, anneal_strategy="cos" if o.onecycle_anneal == "cosine" else
                                       "linear", cycle_momentum=cycles, base_momentum=low, max_momentum=high,
                                       div_factor=o.onecycle_start_div, final_div_factor=o.onecycle_final_div)
    return None


class Schedule:
    """Steps whatever is asked for: `batch()` after every optimiser step, `evaluated(loss)` after every evaluation."""

    def __init__(self, optimizer, o, epoch_steps):
        total = o.epochs * epoch_steps
        warmup = round(o.warmup_epochs * epoch_steps)
        main = after_warmup(optimizer, o, epoch_steps, total - warmup)
        self.left, self.parts = total - 1, [main] if main is not None else []
        if warmup > 1:
            rise = lr_scheduler.LinearLR(optimizer, 1 / warmup, 1.0, warmup - 1)
            self.parts = [rise] if main is None else [lr_scheduler.SequentialLR(optimizer, [rise, main], [warmup])]
        self.plateau = None
        if o.schedule == "plateau":
            self.plateau = lr_scheduler.ReduceLROnPlateau(optimizer, "min", o.plateau_factor, o.plateau_patience,
                                                          threshold=o.plateau_threshold, threshold_mode="rel",
                                                          cooldown=o.plateau_cooldown, min_lr=o.min_lr)

    def batch(self):
        if self.left == 0:  # one-cycle refuses a step after its last
            return
        self.left -= 1
        for part in self.parts:
            part.step()

    def evaluated(self, loss):
        if self.plateau is not None:
            self.plateau.step(loss)
