#!/usr/bin/env python3
"""Measures resnet-dp against PyTorch (peers/ddp.py) on one GPU: alternating runs, medians, ratios, share of the roof; writes
bench/results/gpu-<GPU>-compare.json.

    bench/gpu.py [--pairs 3] [--batches 128,512,2048] [--precisions bf16,tf32] [--python PYTHON] [--recipe FILE]

For each precision and batch the peer first times all its variants; the pairs use the fastest. One pair is one process of each
program, one after the other, in turns which of them begins; a program's figure is the median over the pairs of the medians of its
repeats. The file is written after every batch, and a later call adds to it, so that the work can be split into several calls. The
program is $RESNET_DP or build/release/resnet-dp. Only Python's standard library is needed here; PYTHON needs PyTorch.
"""
import argparse
import datetime
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile

from compare import HERE, ROOT

sys.path.insert(0, os.path.join(HERE, "peers"))
import peer_options  # noqa: E402

PEER = os.path.join(HERE, "peers", "ddp.py")
# The one kind of step that the peer has, whatever else the recipe says: its optimiser and its augmentation.
PLAIN_STEP = ("--optimizer=sgd --momentum=0.9 --nesterov=yes --weight-decay=5e-4 --clip-value=0 --clip-norm=0 --lookahead=0 --ema=0 "
              "--mixup=0 --cutmix=0 --dropout=0 --rotation-min=0 --rotation-max=0 --jitter-brightness=0 --jitter-contrast=0 "
              "--jitter-saturation=0 --jitter-hue=0 --erase-probability=0 --cutout=0").split()
TARGETS = {128: 1.5, 512: 1.3, 2048: 1.3}  # resnet-dp's images/s over the peer's


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--steps", type=int, default=100, help="timed steps per repeat")
    parser.add_argument("--repeats", type=int, default=5, help="repeats inside one process")
    parser.add_argument("--batches", default="128,512,2048")
    parser.add_argument("--precisions", default="bf16,tf32")
    parser.add_argument("--recipe", default=os.path.join(ROOT, "jobs", "recipes", "basic-2111.ini"))
    parser.add_argument("--python", default="python3", help="an interpreter with PyTorch")
    parser.add_argument("--variant", default="best", help="of the peer: best, or a list to choose from")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: to test this script")
    parser.add_argument("--ours", default="", help="more options for `resnet-dp bench`, in one word")
    parser.add_argument("--out", help="the JSON file (default: bench/results/gpu-<GPU>-compare.json)")
    return parser.parse_args()


def run(words):
    """The finished process's output, what it says on stderr passing through; ends the program if it failed."""
    process = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=False)
    if process.returncode != 0:
        raise SystemExit("gpu.py: %s\nfailed with exit code %d: %s" % (" ".join(words), process.returncode,
                                                                      process.stdout[-2000:]))
    return process.stdout


def model_words(recipe):
    """The peer's options from a recipe of ours, so that both sides build the one network the recipe describes."""
    values = peer_options.recipe_values(recipe)
    names = ("block", "blocks", "stem-width", "widths", "strides", "downsample", "activation", "leaky-slope", "shortcut",
             "label-smoothing")
    return ["--%s=%s" % (name, values[name]) for name in names if name in values]


def run_ours(program, precision, batch, o):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        run([program, "bench", "--recipe", o.recipe, "--device", o.device, "--precision", precision, "--batch", str(batch),
             "--steps", str(o.steps), "--repeats", str(o.repeats), "--json", path] + PLAIN_STEP + o.ours.split())
        with open(path, encoding="utf-8") as file:
            return json.load(file)


def run_peer(precision, batch, o, words):
    out = run([o.python, PEER, "--device", o.device, "--precision", precision, "--batch", str(batch), "--steps", str(o.steps),
               "--repeats", str(o.repeats)] + words + model_words(o.recipe))
    return json.loads(out.splitlines()[-1])


def measure(program, precision, batch, o):
    """Our results, the peer's, and the peer's search for its fastest variant."""
    search = run_peer(precision, batch, o, ["--variant", o.variant])
    fixed = ["--variant", search["variant"], "--stem-pad", search["stem_pad"]]
    ours, peers = [], []
    for pair in range(o.pairs):
        for mine in (True, False) if pair % 2 == 0 else (False, True):
            result = run_ours(program, precision, batch, o) if mine else run_peer(precision, batch, o, fixed)
            (ours if mine else peers).append(result)
            print("%s, batch %d, %s: %.0f images/s" % (precision, batch, "resnet-dp" if mine else "PyTorch",
                                                       result["images_per_second"]), file=sys.stderr, flush=True)
    return ours, peers, search


def summary_of(runs):
    rates = [r["images_per_second"] for r in runs]
    return {"images_per_second": statistics.median(rates), "least": min(rates), "greatest": max(rates), "runs": rates}


def summarise(ours, peers, search):
    # What separate convolution and batch-norm kernels can reach at most; none on a GPU whose peaks resnet-dp does not know.
    roof_rate = ours[-1].get("roof", {}).get("images_per_second")
    mine, theirs = summary_of(ours), summary_of(peers)
    # Of neighbours in time, so that a slow minute of the machine counts on both sides.
    ratios = [a["images_per_second"] / b["images_per_second"] for a, b in zip(ours, peers)]
    facts = {k: peers[0].get(k) for k in ("variant", "stem_pad", "torch", "cuda", "cudnn")}
    theirs.update(facts, peak_memory_bytes=max((p.get("peak_memory_bytes") or 0) for p in peers),
                  variants=search.get("variants", []))
    mine["device"] = ours[0].get("device")
    mine["device_memory_bytes"] = max((r.get("device_memory_bytes") or 0) for r in ours)
    mine["last_run"] = ours[-1]
    result = {"resnet_dp": mine, "pytorch": theirs, "ratio": mine["images_per_second"] / theirs["images_per_second"],
              "ratio_least": min(ratios), "ratio_greatest": max(ratios), "roof_images_per_second": roof_rate}
    if roof_rate:
        mine["share_of_roof"] = mine["images_per_second"] / roof_rate
        theirs["share_of_roof"] = theirs["images_per_second"] / roof_rate
    return result


def table(result):
    lines = ["%s; %s; %s" % (result["gpu"], result["recipe"], result["date"]),
             "%-9s %6s %12s %12s   %-20s %-22s %7s %7s %s" % ("precision", "batch", "resnet-dp", "PyTorch", "its variant",
                                                              "ratio", "of roof", "PyTorch", "target")]
    for key, r in sorted(result["measurements"].items(), key=lambda kv: (kv[0].split("/")[0], int(kv[0].split("/")[1]))):
        precision, batch = key.split("/")
        target = TARGETS.get(int(batch)) if precision == "bf16" else None
        shares = ["%.0f %%" % (100 * r[side]["share_of_roof"]) if "share_of_roof" in r[side] else "-"
                  for side in ("resnet_dp", "pytorch")]
        lines.append("%-9s %6s %12.0f %12.0f   %-20s %-22s %7s %7s %s" % (
            precision, batch, r["resnet_dp"]["images_per_second"], r["pytorch"]["images_per_second"], r["pytorch"]["variant"],
            "%.2f (%.2f..%.2f)" % (r["ratio"], r["ratio_least"], r["ratio_greatest"]), *shares,
            "" if target is None else "%.1f: %s" % (target, "met" if r["ratio"] >= target else "missed")))
    return "\n".join(lines)


def load(path, facts):
    """What an earlier call left, if it measured the same; else it would be lost, so the file is not touched."""
    if not os.path.exists(path):
        return dict(facts, measurements={})
    with open(path, encoding="utf-8") as file:
        result = json.load(file)
    for key in ("gpu", "recipe", "resnet_dp_info"):
        if result.get(key) != facts[key]:
            raise SystemExit("gpu.py: %s was measured with another %s; move it away or name another file with --out" % (path, key))
    result["date"] = facts["date"]
    return result


def store(path, result):
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump(result, file, indent=2)
        file.write("\n")
    os.replace(path + ".new", path)


def main():
    o = options()
    program = os.environ.get("RESNET_DP", os.path.join(ROOT, "build", "release", "resnet-dp"))
    if not os.access(program, os.X_OK):
        raise SystemExit("gpu.py: no program at %s: build it, or set RESNET_DP to its path" % program)
    gpu = "CPU"
    if o.device == "cuda":
        gpu = run([o.python, "-c", "import torch; print(torch.cuda.get_device_name())"]).strip()
    path = o.out or os.path.join(HERE, "results", "gpu-%s-compare.json" % re.sub(r"[^a-z0-9]+", "-", gpu.lower()).strip("-"))
    version = run([program, "info"]).splitlines()[0]
    date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    facts = {"gpu": gpu, "recipe": os.path.basename(o.recipe), "resnet_dp_info": version, "date": date}
    result = load(path, facts)
    for precision in o.precisions.split(","):
        for batch in (int(b) for b in o.batches.split(",")):
            measured = summarise(*measure(program, precision, batch, o))
            result["measurements"]["%s/%d" % (precision, batch)] = dict(measured, date=date, pairs=o.pairs, steps=o.steps,
                                                                        repeats=o.repeats)
            store(path, result)
    print(table(result))
    print("written to " + path)


if __name__ == "__main__":
    main()
