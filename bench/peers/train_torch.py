#!/usr/bin/env python3
"""The PyTorch peer of resnet-dp: the same network, data, augmentation, optimiser and schedule, with PyTorch set up as well as we
can on a CPU.

    train_torch.py --steps 10 --repeats 5                 times training steps on random bytes, prints one JSON line
    train_torch.py --data DIR --epochs 10                 trains on the official binaries and reports test accuracy

What is tuned for it: memory format, thread count and placement, glibc's allocator (large blocks are kept rather than returned to
the kernel and faulted in again every step), in-place activations, SGD fused or foreach where the version has it, data resident as
bytes, torch.compile on request. `--plain-malloc` leaves the allocator as it is.
"""
import argparse
import json
import os
import resource
import statistics
import sys
import time

import peer_options

# glibc reads these at start-up only, so the program starts itself once more with them.
ALLOCATOR = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184", "MALLOC_TOP_PAD_": "67108864"}


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    peer_options.add_model(parser)
    parser.add_argument("--precision", default="fp32", choices=("fp32", "bf16"))
    parser.add_argument("--format", default="channels-last", choices=("channels-last", "contiguous"))
    parser.add_argument("--compile", default="no", choices=("no", "default", "max-autotune"))
    parser.add_argument("--plain-malloc", action="store_true", help="leave glibc's allocator as it is")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    peer_options.add_training(parser)
    parser.add_argument("--steps", type=int, default=10, help="timed steps per repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=3, help="untimed steps (the first repeats of a compiled network)")
    parser.add_argument("--epochs", type=int, default=0, help="train so many epochs instead of timing")
    return parser.parse_args()


def restart_tuned(o):
    """Sets what must be in the environment before the C library and OpenMP start."""
    wanted = {"OMP_NUM_THREADS": str(o.threads)}
    if not o.plain_malloc:
        wanted.update(ALLOCATOR)
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable] + sys.argv)


def make_optimizer(torch, model, o):
    arguments = dict(lr=o.lr, momentum=o.momentum, nesterov=o.nesterov == "yes", weight_decay=o.weight_decay)
    for kind in ("fused", "foreach"):
        try:
            optimizer = torch.optim.SGD(model.parameters(), **arguments, **{kind: True})
            return optimizer, kind
        except (TypeError, RuntimeError):  # this version has no such SGD, or not on a CPU
            continue
    return torch.optim.SGD(model.parameters(), **arguments), "plain"


def make_step(torch, model, optimizer, o):
    criterion = torch.nn.CrossEntropyLoss(label_smoothing=o.label_smoothing)

    def loss_of(x, y):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.precision == "bf16"):
            logits = model(x)
        return criterion(logits.float(), y)

    if o.compile != "no":
        loss_of = torch.compile(loss_of, mode=None if o.compile == "default" else o.compile)

    def step(x, y):
        loss = loss_of(x, y)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        return loss

    return step


def time_steps(torch, batcher, step, o):
    count = len(batcher.labels)
    order = torch.randperm(count)
    at = 0

    def run(steps):
        nonlocal at
        for _ in range(steps):
            if at + o.batch > count:
                at = 0
            step(*batcher.augmented(order[at:at + o.batch]))
            at += o.batch

    run(o.warmup)
    rates = []
    for _ in range(o.repeats):
        start = time.perf_counter()
        run(o.steps)
        rates.append(o.steps * o.batch / (time.perf_counter() - start))
    return {"images_per_second": statistics.median(rates), "images_per_second_repeats": rates}


def train(torch, model, optimizer, batcher, test, step, o):
    count = len(batcher.labels)
    steps = count // o.batch
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, o.lr, total_steps=o.epochs * steps, pct_start=0.3,
                                                   anneal_strategy="cos", cycle_momentum=False)
    seconds, accuracy = [], 0.0
    for epoch in range(o.epochs):
        start = time.perf_counter()
        total = 0.0
        order = torch.randperm(count)
        for at in range(steps):
            total += step(*batcher.augmented(order[at * o.batch:(at + 1) * o.batch])).item()
            schedule.step()
        seconds.append(time.perf_counter() - start)
        accuracy = evaluate(torch, model, test, o)
        print("epoch %d: loss %.4f, test accuracy %.2f %%, %.1f s" % (epoch + 1, total / steps, 100 * accuracy,
                                                                     seconds[-1]), file=sys.stderr)
    return {"test_accuracy": accuracy, "seconds_per_epoch": statistics.median(seconds)}


def evaluate(torch, model, test, o):
    model.eval()
    right, count, batch = 0, len(test.labels), 500
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=o.precision == "bf16"):
        for first in range(0, count, batch):
            x, y = test.plain(first, min(first + batch, count))
            right += (model(x).argmax(1) == y).sum().item()
    model.train()
    return right / count


def main():
    o = options()
    if o.epochs and not o.data:
        raise SystemExit("--epochs needs --data DIR, the directory of the official CIFAR-10 binaries")
    restart_tuned(o)
    import torch
    import cifar_torch
    import resnet_torch
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    memory_format = torch.channels_last if o.format == "channels-last" else torch.contiguous_format
    train_set, test_set = cifar_torch.load(o.data) if o.data else (cifar_torch.random_set(o.images), None)
    batcher = cifar_torch.Batcher(*train_set, memory_format)
    model = resnet_torch.from_options(o).to(memory_format=memory_format)
    optimizer, kind = make_optimizer(torch, model, o)
    step = make_step(torch, model, optimizer, o)
    if o.epochs:
        test = cifar_torch.Batcher(*test_set, memory_format)
        result = train(torch, model, optimizer, batcher, test, step, o)
    else:
        result = time_steps(torch, batcher, step, o)
    result.update(torch=torch.__version__, precision=o.precision, format=o.format, compile=o.compile, sgd=kind,
                  tuned_malloc=not o.plain_malloc, threads=o.threads, batch=o.batch,
                  parameters=sum(p.numel() for p in model.parameters()),
                  peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
