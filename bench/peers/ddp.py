#!/usr/bin/env python3
"""The PyTorch peer of resnet-dp on GPUs: the same network, data, augmentation, optimiser and schedule, as fast as we can write
them in PyTorch (step_torch.py says what that is).

    ddp.py --precision bf16 --batch 512                        times every variant of the step, the fastest counts
    torchrun --nproc-per-node 4 ddp.py --batch 2048            the same over four GPUs (DDP); --batch is over all of them
    ddp.py --train --data DIR --epochs 16                      trains on the official binaries, reports accuracy and wall time
    ddp.py --check tests/reference/basic.ref                   ten steps against the reference, in every variant

Prints one JSON line last. With --variant best the parameters that only matter for speed are searched as well, one after the
other, with the fastest variant: padding of the stem's input and, across processes, DDP's bucket size. A variant that fails is
named with its error in the result and does not count. It also runs on a CPU (--device cpu), where steps cannot be recorded:
to test its logic, not its speed.
"""
import argparse
import gc
import json
import os
import statistics
import sys
import time

START = time.perf_counter()
import peer_options  # noqa: E402

CPU_VARIANTS = ("eager", "compile")
BUCKETS_MB = (1, 4, 10, 25)


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peer_options.add_model(parser)
    peer_options.add_training(parser)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--precision", default="bf16", choices=("fp32", "tf32", "bf16"))
    parser.add_argument("--variant", default="best", help="best, or a list of: eager, graph-eager, compile, graph-compile, "
                        "max-autotune, graph-max-autotune (default best: all)")
    parser.add_argument("--stem-pad", default="no", choices=("yes", "no"), help="pad the image to 8 channels")
    parser.add_argument("--decay-bn", default="yes", choices=("yes", "no"))
    parser.add_argument("--bucket-cap-mb", type=float, default=25, help="of DDP")
    parser.add_argument("--static-graph", default="yes", choices=("yes", "no"), help="of DDP")
    parser.add_argument("--steps", type=int, default=100, help="timed steps per repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--search-steps", type=int, default=50, help="timed steps per repeat (of 3) while searching")
    parser.add_argument("--report-every", type=int, default=50, help="steps between copies of the loss to the host")
    parser.add_argument("--train", action="store_true", help="a whole training run instead of timing alone")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--evaluate-every", type=int, default=0, help="epochs between evaluations; 0: only after the last")
    parser.add_argument("--check", metavar="FILE.ref", help="compare ten steps with a file of tests/reference/")
    o = parser.parse_args()
    if o.train and not o.data:
        parser.error("--train needs --data DIR, the directory of the official CIFAR-10 binaries")
    return o


class World:
    """This process among those that torchrun started; alone without torchrun."""

    def __init__(self, torch, o):
        self.torch = torch
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if o.batch % self.size:
            raise SystemExit("ddp.py: --batch %d is no multiple of %d processes" % (o.batch, self.size))
        if o.device == "cuda":
            if not torch.cuda.is_available():
                raise SystemExit("ddp.py: PyTorch %s finds no GPU; --device cpu tests the logic without" % torch.__version__)
            self.device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
            torch.cuda.set_device(self.device)
        else:
            self.device = torch.device("cpu")
        if self.size > 1:
            os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0")  # asked for by PyTorch's notes on recording DDP
            torch.distributed.init_process_group("nccl" if o.device == "cuda" else "gloo")

    def slowest(self, value):
        """The greatest value of all processes."""
        if self.size == 1:
            return value
        tensor = self.torch.tensor(value, dtype=self.torch.float64, device=self.device)
        self.torch.distributed.all_reduce(tensor, self.torch.distributed.ReduceOp.MAX)
        return tensor.item()

    def say(self, text):
        if self.rank == 0:
            print(text, file=sys.stderr, flush=True)


class Order:
    """Batches of image numbers on the device: this process's part of a permutation that all draw alike, anew every epoch."""

    def __init__(self, torch, count, o, world):
        self.torch, self.count, self.batch, self.world = torch, count, o.batch, world
        self.generator = torch.Generator(device=world.device)
        self.generator.manual_seed(o.seed)
        self.steps = count // o.batch
        if self.steps == 0:
            raise SystemExit("ddp.py: --batch %d is larger than the set of %d images" % (o.batch, count))
        self.at = self.steps

    def next(self):
        if self.at == self.steps:
            self.permutation = self.torch.randperm(self.count, generator=self.generator, device=self.world.device)
            self.at = 0
        part = self.batch // self.world.size
        first = self.at * self.batch + self.world.rank * part
        self.at += 1
        return self.permutation[first:first + part]


class LossReader:
    """Reads the sum of losses back every so many steps without waiting: the copy of one time is looked at the next."""

    def __init__(self, torch, step, every):
        self.step, self.every, self.count = step, every, 0
        self.host = torch.zeros((), pin_memory=step.device.type == "cuda")

    def tick(self):
        self.count += 1
        if self.count % self.every == 0:
            self.host.copy_(self.step.loss_sum, non_blocking=True)


def seconds_of(torch, device, work):
    """Of the device's time line, from events, or of the host's on a CPU."""
    if device.type != "cuda":
        begin = time.perf_counter()
        work()
        return time.perf_counter() - begin
    events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]
    torch.cuda.synchronize()
    events[0].record()
    work()
    events[1].record()
    torch.cuda.synchronize()
    return events[0].elapsed_time(events[1]) / 1e3


def time_step(torch, step, order, world, o, steps, repeats):
    """Images per second of all processes together, one figure per repeat."""
    reader = LossReader(torch, step, o.report_every)

    def work(count):
        for _ in range(count):
            step.run(order.next())
            reader.tick()

    work(max(1, steps // 5))
    rates = []
    for _ in range(repeats):
        if world.size > 1:
            torch.distributed.barrier()
        rates.append(steps * o.batch / world.slowest(seconds_of(torch, world.device, lambda: work(steps))))
    return rates


class Search:
    """Times variants and settings one after the other; each is made, timed and dropped, so that memory is one variant's."""

    def __init__(self, torch, batcher, world, o):
        self.torch, self.batcher, self.world, self.o = torch, batcher, world, o
        self.tried, self.best = [], None

    def attempt(self, variant, settings, steps, repeats):
        import step_torch
        torch, world = self.torch, self.world
        local = argparse.Namespace(**dict(vars(self.o), **settings))
        result = dict(variant=variant, **settings)
        begin = time.perf_counter()
        gc.collect()
        if world.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            step = step_torch.Step(variant, self.batcher, local, world.device, world.size)
            result["prepare_seconds"] = time.perf_counter() - begin
            rates = time_step(torch, step, Order(torch, len(self.batcher.labels), local, world), world, local, steps, repeats)
            result.update(images_per_second=statistics.median(rates), images_per_second_repeats=rates,
                          mean_loss=step.loss_sum.item() / (max(1, steps // 5) + steps * repeats))
            if world.device.type == "cuda":
                result["peak_memory_bytes"] = int(world.slowest(float(torch.cuda.max_memory_reserved())))
        except Exception as error:  # a variant that this version or machine cannot do must not hide the others
            if world.size > 1:
                raise  # the other processes are somewhere else in the same variant: nothing to go on with
            result["error"] = "%s: %s" % (type(error).__name__, str(error).strip()[:1000])
        world.say("%-20s %s  %s" % (variant, " ".join("%s=%s" % pair for pair in settings.items()), result.get("error") or
                                    "%.0f images/s" % result["images_per_second"]))
        return result

    def keep(self, result):
        self.tried.append(result)
        if "error" not in result and (self.best is None or result["images_per_second"] > self.best["images_per_second"]):
            self.best = result

    def run(self, variants):
        o = self.o
        base = {"stem_pad": o.stem_pad}
        if self.world.size > 1:
            base["bucket_cap_mb"] = o.bucket_cap_mb
        for variant in variants:
            self.keep(self.attempt(variant, base, o.search_steps, 3))
        if self.best is None:
            raise SystemExit("ddp.py: no variant ran: " + "; ".join("%(variant)s: %(error)s" % t for t in self.tried))
        if o.variant == "best":
            self.settings("stem_pad", ["no", "yes"])
            if self.world.size > 1:
                self.settings("bucket_cap_mb", BUCKETS_MB)

    def settings(self, name, values):
        for value in values:
            chosen = {k: v for k, v in self.best.items() if k in ("stem_pad", "bucket_cap_mb")}
            if chosen[name] != value and not any(t["variant"] == self.best["variant"] and
                                                 all(t.get(k) == v for k, v in dict(chosen, **{name: value}).items())
                                                 for t in self.tried):
                self.keep(self.attempt(self.best["variant"], dict(chosen, **{name: value}), self.o.search_steps, 3))

    def chosen(self):
        """The fastest: its variant and its settings."""
        return self.best["variant"], {k: v for k, v in self.best.items() if k in ("stem_pad", "bucket_cap_mb")}


def variants_of(o):
    import step_torch
    known = CPU_VARIANTS if o.device == "cpu" else tuple(step_torch.VARIANTS)
    names = known if o.variant == "best" else tuple(o.variant.split(","))
    for name in names:
        if name not in known:
            raise SystemExit("ddp.py: --variant %s: on %s there is best, %s" % (name, o.device, ", ".join(known)))
    return names


def measure(torch, batcher, world, o):
    search, names = Search(torch, batcher, world, o), variants_of(o)
    if len(names) == 1 and o.variant != "best":
        settings = {"stem_pad": o.stem_pad}
        if world.size > 1:
            settings["bucket_cap_mb"] = o.bucket_cap_mb
        final = search.attempt(names[0], settings, o.steps, o.repeats)
        if "error" in final:
            raise SystemExit("ddp.py: %(variant)s: %(error)s" % final)
        return final
    search.run(names)
    variant, settings = search.chosen()
    final = search.attempt(variant, settings, o.steps, o.repeats)
    if "error" in final:
        raise SystemExit("ddp.py: %(variant)s ran once, then failed: %(error)s" % final)
    return dict(final, variants=search.tried)


def one_cycle(torch, o, steps):
    """The rate of every step, from PyTorch's own schedule."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=o.lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, o.lr, total_steps=steps, pct_start=0.3, anneal_strategy="cos",
                                                   cycle_momentum=False)
    rates = []
    for at in range(steps):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        if at + 1 < steps:
            schedule.step()
    return rates


def train(torch, batcher, test, world, o):
    """One training run with the fastest of the variants asked for. Clocks: the whole process, preparation, training alone."""
    import step_torch
    names, settings, search_begin = variants_of(o), {}, time.perf_counter()
    if len(names) > 1:
        search = Search(torch, batcher, world, o)
        search.run(names)
        names, settings = search.chosen()[:1], search.chosen()[1]
    search_seconds = time.perf_counter() - search_begin
    local = argparse.Namespace(**dict(vars(o), **settings))
    begin = time.perf_counter()
    step = step_torch.Step(names[0], batcher, local, world.device, world.size)
    prepared = time.perf_counter()
    order = Order(torch, len(batcher.labels), o, world)
    rates = torch.tensor(one_cycle(torch, o, o.epochs * order.steps), device=world.device)
    accuracy, evaluating, epochs = 0.0, 0.0, []
    for epoch in range(o.epochs):
        epoch_begin = time.perf_counter()
        step.loss_sum.zero_()
        for at in range(order.steps):
            step.lr.copy_(rates[epoch * order.steps + at])
            step.run(order.next())
        loss = step.loss_sum.item() / order.steps  # the epoch's one wait
        epochs.append(time.perf_counter() - epoch_begin)
        if epoch + 1 == o.epochs or (o.evaluate_every and (epoch + 1) % o.evaluate_every == 0):
            evaluate_begin = time.perf_counter()
            accuracy = step.evaluate(test)
            evaluating += time.perf_counter() - evaluate_begin
            world.say("epoch %d: loss %.4f, test accuracy %.2f %%, %.2f s" % (epoch + 1, loss, 100 * accuracy, epochs[-1]))
    return dict(variant=names[0], test_accuracy=accuracy, train_loss=loss, epochs=o.epochs,
                seconds_per_epoch=statistics.median(epochs), training_seconds=sum(epochs), evaluation_seconds=evaluating,
                prepare_seconds=prepared - begin, search_seconds=search_seconds,
                wall_seconds=time.perf_counter() - START - search_seconds, **settings)


def versions(torch, world):
    facts = {"torch": torch.__version__, "cuda": torch.version.cuda, "processes": world.size, "gpu": None}
    if world.device.type == "cuda":
        facts.update(gpu=torch.cuda.get_device_name(), cudnn=torch.backends.cudnn.version(),
                     nccl=".".join(str(v) for v in torch.cuda.nccl.version()))
    return facts


def main():
    o = options()
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
    import torch
    import cifar_torch
    import step_torch
    world = World(torch, o)
    step_torch.set_precision(o.precision)
    if o.check:
        import check_torch
        result = check_torch.check(o, world, variants_of(o))
    else:
        train_set, test_set = cifar_torch.load(o.data) if o.data else (cifar_torch.random_set(o.images), None)
        batcher = cifar_torch.Batcher(*(t.to(world.device) for t in train_set), torch.channels_last)
        if o.train:
            test = cifar_torch.Batcher(*(t.to(world.device) for t in test_set), torch.channels_last)
            result = train(torch, batcher, test, world, o)
        else:
            result = measure(torch, batcher, world, o)
    result = dict(versions(torch, world), precision="fp64" if o.check else o.precision, batch=o.batch, **result)
    if world.rank == 0:
        print(json.dumps(result), flush=True)
    if world.size > 1:
        torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
