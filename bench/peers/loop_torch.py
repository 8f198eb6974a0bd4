"""Training and evaluation of the PyTorch peer on a CPU, as resnet-dp's trainer does it: steps, schedule, evaluation after an
epoch on the validation set if there is one (else on the test set), the best weights by validation loss, early stopping, the final
test."""
import copy
import statistics
import sys
import time

import torch

import augment_torch
import optim_torch
import schedule_torch


def make_step(model, o):
    """step(x, y): forward, backward and gradient clipping of one batch; its mean loss. The optimiser's step is the caller's."""
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=o.label_smoothing)
    mixer = augment_torch.Mixer(o)

    def loss_of(x, y, own):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.precision == "bf16"):
            logits = model(x)
        logits = logits.float()
        if own == 1.0:
            return criterion(logits, y)
        return own * criterion(logits, y) + (1 - own) * criterion(logits, y.flip(0))

    if o.compile != "no":
        loss_of = torch.compile(loss_of, mode=None if o.compile == "default" else o.compile)

    def step(x, y):
        total = 0.0
        for part, labels in zip(x.chunk(o.accumulate), y.chunk(o.accumulate)):
            mixed, own = mixer.mix(part)
            loss = loss_of(mixed, labels, own) / o.accumulate
            loss.backward()
            total += loss.item()
        optim_torch.clip(model, o)
        return total

    return step


class Run:
    """One training run over `training` (a Batcher), with validation (None: none) and test sets."""

    def __init__(self, model, training, validation, test, o):
        self.model, self.training, self.validation, self.test, self.o = model, training, validation, test, o
        self.epoch_steps = len(training.labels) // o.batch
        if self.epoch_steps == 0:
            raise SystemExit("--batch %d is larger than the training set of %d images" % (o.batch, len(training.labels)))
        o.lr = schedule_torch.scaled_lr(o)
        self.augmenter = augment_torch.Augmenter(training, o)
        self.stepper, self.optimizer, self.how = optim_torch.make(model, o)
        self.schedule = schedule_torch.Schedule(self.optimizer, o, self.epoch_steps)
        self.average = optim_torch.average_of(model, o)
        self.step = make_step(model, o)
        self.steps, self.stale = 0, 0
        self.best = {"loss": float("inf"), "weights": None, "epoch": 0}

    def train_step(self, index):
        """One step on the images `index`, at whatever rate the optimiser has; its loss."""
        self.stepper.zero_grad(set_to_none=True)
        loss = self.step(*self.augmenter.batch(index))
        self.stepper.step()
        if self.average is not None:
            self.average.update_parameters(self.model)
        return loss

    def train_epoch(self, epoch):
        """(mean loss, whether the run ends here by --max-steps)."""
        o, total, done = self.o, 0.0, 0
        self.augmenter.epoch = epoch
        order = torch.randperm(len(self.training.labels))
        for at in range(self.epoch_steps):
            total += self.train_step(order[at * o.batch:(at + 1) * o.batch])
            self.schedule.batch()
            self.steps, done = self.steps + 1, done + 1
            if self.steps == o.max_steps:
                return total / done, True
        return total / done, False

    def evaluated_model(self):
        """The weights that --evaluate-weights names, as a network to evaluate."""
        averaged = self.o.evaluate_weights == "averaged" or (self.o.evaluate_weights == "auto" and self.average is not None)
        if not averaged:
            return self.model
        if self.average is not None:
            return self.average.module
        if self.o.optimizer != "asgd":
            raise SystemExit("--evaluate-weights averaged needs --ema or --optimizer asgd")
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for copied, p in zip(model.parameters(), self.model.parameters()):
                if "ax" in self.optimizer.state.get(p, {}):
                    copied.copy_(self.optimizer.state[p]["ax"])
        return model

    def after_epoch(self, epoch):
        """Evaluates; learns from the validation loss. What it measured, by name."""
        model = self.evaluated_model()
        if self.validation is None:
            loss, accuracy = evaluate(model, self.test, self.o)
            return {"test_loss": loss, "test_accuracy": accuracy}
        loss, accuracy = evaluate(model, self.validation, self.o)
        self.schedule.evaluated(loss)
        self.stale += 1
        if loss < self.best["loss"]:
            self.stale = 0
            weights = {k: v.clone() for k, v in model.state_dict().items()}
            self.best = {"loss": loss, "weights": weights, "epoch": epoch + 1}
        return {"validation_loss": loss, "validation_accuracy": accuracy}

    def run(self):
        o, seconds, epochs = self.o, [], []
        for epoch in range(o.epochs):
            lr, start = self.optimizer.param_groups[0]["lr"], time.perf_counter()
            loss, last = self.train_epoch(epoch)
            seconds.append(time.perf_counter() - start)
            entry = {"epoch": epoch + 1, "lr": lr, "train_loss": loss, "seconds": seconds[-1]}
            last = last or epoch + 1 == o.epochs
            if last or (o.evaluate_every > 0 and (epoch + 1) % o.evaluate_every == 0):
                entry.update(self.after_epoch(epoch))
            epochs.append(entry)
            print("  ".join("%s %.4g" % pair for pair in entry.items()), file=sys.stderr, flush=True)
            if last or (0 < o.early_stopping <= self.stale):
                break
        return {"test_accuracy": self.final_test(epochs[-1]), "epochs": epochs, "steps": self.steps,
                "best_epoch": self.best["epoch"] or None, "training_seconds": sum(seconds),
                "seconds_per_epoch": statistics.median(seconds)}

    def final_test(self, last):
        o, model = self.o, self.evaluated_model()
        if self.validation is None:
            if o.final_test == "best":
                raise SystemExit("--final-test best needs --val-fraction")
            return last["test_accuracy"]
        if o.final_test != "last" and self.best["weights"] is not None:
            model.load_state_dict(self.best["weights"])
        return evaluate(model, self.test, o)[1]


def views(x, count):
    """--evaluate-views: (weight, batch) of each view. Moved ones as Jordan 2024: crops of the batch padded by a pixel's reflection."""
    if count == "1":
        return [(1, x)]
    if count == "2":
        return [(1 / 2, x), (1 / 2, x.flip(3))]
    padded = torch.nn.functional.pad(x, (1, 1, 1, 1), "reflect")
    moved = [padded[:, :, at:at + 32, at:at + 32] for at in (0, 2)]
    return [(1 / 4, x), (1 / 4, x.flip(3))] + [(1 / 8, v) for m in moved for v in (m, m.flip(3))]


@torch.no_grad()
def evaluate(model, data, o):
    """(mean loss without label smoothing, accuracy)."""
    model.eval()
    loss, right, count, batch = 0.0, 0, len(data.labels), 500
    for first in range(0, count, batch):
        x, y = data.plain(first, min(first + batch, count))
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.precision == "bf16"):
            logits = sum(weight * model(view) for weight, view in views(x, o.evaluate_views))
        logits = logits.float()
        loss += torch.nn.functional.cross_entropy(logits, y, reduction="sum").item()
        right += (logits.argmax(1) == y).sum().item()
    model.train()
    return loss / count, right / count
