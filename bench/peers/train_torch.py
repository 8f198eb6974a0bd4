#!/usr/bin/env python3
"""The PyTorch peer of resnet-dp on a CPU: the same network, data, augmentation, optimiser and schedule, from the same recipe files,
with PyTorch set up as well as we can.

    train_torch.py --recipe FILE.ini --data DIR           trains on the official binaries and reports the test accuracy
    train_torch.py --recipe FILE.ini --steps 10           without --data: times training steps on random bytes

Options are named as resnet-dp's and mean the same; defaults < recipe < command line. Prints one JSON line last.

What is tuned for speed: memory format, thread count and placement, glibc's allocator (large blocks are kept rather than returned
to the kernel and faulted in again every step), in-place activations, optimisers fused or foreach where the version has them, data
resident as bytes, torch.compile on request. `--plain-malloc` leaves the allocator as it is.

Made of peer_options (options, recipes), cifar_torch (data), augment_torch, init_torch and resnet_torch (network), optim_torch,
schedule_torch and loop_torch (training).
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    peer_options.add_recipe(parser)
    peer_options.add_data(parser)
    parser.add_argument("--format", default="channels-last", choices=("channels-last", "contiguous"))
    parser.add_argument("--compile", default="no", choices=("no", "default", "max-autotune"))
    parser.add_argument("--plain-malloc", action="store_true", help="leave glibc's allocator as it is")
    parser.add_argument("--steps", type=int, default=10, help="timed steps per repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--warmup", type=int, default=3, help="untimed steps (the first repeats of a compiled network)")
    o = peer_options.parse(parser, sys.argv[1:])
    effective = peer_options.named(o)
    o.threads = o.threads or len(os.sched_getaffinity(0))
    return o, effective


def restart_tuned(o):
    """Sets what must be in the environment before the C library and OpenMP start."""
    wanted = {"OMP_NUM_THREADS": str(o.threads)}
    if not o.plain_malloc:
        wanted.update(ALLOCATOR)
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        os.environ.update(wanted)
        os.execv(sys.executable, [sys.executable] + sys.argv)


def time_steps(run, o):
    """Whole training steps of `run`, over its set again and again."""
    torch = sys.modules["torch"]
    count, at = len(run.training.labels), 0
    order = torch.randperm(count)

    def work(steps):
        nonlocal at
        for _ in range(steps):
            if at + o.batch > count:
                at = 0
            run.train_step(order[at:at + o.batch])
            at += o.batch

    work(o.warmup)
    rates = []
    for _ in range(o.repeats):
        start = time.perf_counter()
        work(o.steps)
        rates.append(o.steps * o.batch / (time.perf_counter() - start))
    return {"images_per_second": statistics.median(rates), "images_per_second_repeats": rates}


def main():
    o, effective = options()
    restart_tuned(o)
    import torch
    import cifar_torch
    import init_torch
    import loop_torch
    torch.set_num_threads(o.threads)
    torch.manual_seed(o.seed)
    memory_format = torch.channels_last if o.format == "channels-last" else torch.contiguous_format

    def batcher(images_and_labels):
        return cifar_torch.Batcher(*images_and_labels, memory_format, normalisation=o.normalisation)

    if o.data:
        whole, test_set = cifar_torch.load(o.data)
        training, validation = cifar_torch.split(*whole, o)
        training, test = batcher(training), batcher(test_set)
        validation = batcher(validation) if validation else None
    else:
        training, validation, test = batcher(cifar_torch.random_set(o.images)), None, None
    model = init_torch.make(o, training).to(memory_format=memory_format)
    run = loop_torch.Run(model, training, validation, test, o)
    result = run.run() if o.data else time_steps(run, o)
    result.update(torch=torch.__version__, precision=o.precision, format=o.format, compile=o.compile, sgd=run.how,
                  tuned_malloc=not o.plain_malloc, threads=o.threads, batch=o.batch, options=effective,
                  parameters=sum(p.numel() for p in model.parameters()),
                  peak_rss_bytes=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
