#!/usr/bin/env python3
"""Measures resnet-dp against PyTorch on this machine: alternating runs, medians, ratio, memory; writes a file into bench/results/.

    bench/compare.py [--pairs 5] [--python PYTHON]... [--recipe FILE] [--precision fp32,bf16]

One pair is one process of each program, one after the other, in turns which of them begins; each takes the median of its own
repeats. The figure of a program is the median over the pairs, its spread the least and the greatest. Several --python (virtual
environments with different versions) are several peers, each measured in every pair; the fastest in the median is *the* peer.
Before the pairs the peer runs once in each memory format; the pairs use its faster one. The program is $RESNET_DP or
build/release/resnet-dp. Only Python's standard library is needed here; PYTHON needs PyTorch.
"""
import argparse
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(HERE)
PEER = os.path.join(HERE, "peers", "train_torch.py")
FORMATS = ("channels-last", "contiguous")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--steps", type=int, default=8, help="timed steps per repeat")
    parser.add_argument("--repeats", type=int, default=3, help="repeats inside one process")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--precision", default="fp32,bf16")
    parser.add_argument("--recipe", default=os.path.join(ROOT, "jobs", "recipes", "basic-2111.ini"))
    parser.add_argument("--python", action="append", help="an interpreter with PyTorch; may be repeated (default: python3)")
    parser.add_argument("--compile", default="no", choices=("no", "default", "max-autotune"), help="torch.compile in the peer")
    parser.add_argument("--out", help="the JSON file (default: bench/results/compare-<UTC time>.json)")
    return parser.parse_args()


def run(words, **arguments):
    """The finished process's output; ends the program with its words if it failed."""
    process = subprocess.run(words, capture_output=True, text=True, **arguments)
    if process.returncode != 0:
        raise SystemExit("compare.py: %s\nfailed with exit code %d:\n%s" % (" ".join(words), process.returncode,
                                                                           process.stderr[-2000:]))
    return process.stdout


def run_ours(program, precision, o):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "bench.json")
        run([program, "bench", "--recipe", o.recipe, "--precision", precision, "--batch", str(o.batch), "--threads",
             str(o.threads), "--steps", str(o.steps), "--repeats", str(o.repeats), "--json", path])
        with open(path, encoding="utf-8") as file:
            return json.load(file)


def run_peer(python, precision, form, o):
    out = run([python, PEER, "--recipe", o.recipe, "--precision", precision, "--format", form, "--batch", str(o.batch),
               "--threads", str(o.threads), "--steps", str(o.steps), "--repeats", str(o.repeats), "--compile", o.compile])
    return json.loads(out.splitlines()[-1])


def measure(program, precision, o):
    """All pairs of one precision: our results, and per peer (interpreter) the results in its faster format."""
    ours, peers, form = [], {python: [] for python in o.python}, {}
    for python in o.python:
        tries = {f: run_peer(python, precision, f, o) for f in FORMATS}
        form[python] = max(tries, key=lambda f: tries[f]["images_per_second"])
        progress(precision, "PyTorch %s formats" % tries[FORMATS[0]]["torch"],
                 "  ".join("%s %.1f" % (f, t["images_per_second"]) for f, t in tries.items()))
    for pair in range(o.pairs):
        turns = [None] + o.python
        for python in turns if pair % 2 == 0 else reversed(turns):
            if python is None:
                ours.append(run_ours(program, precision, o))
                progress(precision, "resnet-dp", "%.1f images/s" % ours[-1]["images_per_second"])
            else:
                peers[python].append(run_peer(python, precision, form[python], o))
                progress(precision, "PyTorch " + peers[python][-1]["torch"],
                         "%.1f images/s" % peers[python][-1]["images_per_second"])
    return ours, peers


def progress(precision, who, what):
    print("%s  %-24s %s" % (precision, who, what), file=sys.stderr, flush=True)


def summary_of(runs):
    rates = [r["images_per_second"] for r in runs]
    return {"images_per_second": statistics.median(rates), "least": min(rates), "greatest": max(rates), "runs": rates,
            "peak_rss_bytes": max(r["peak_rss_bytes"] for r in runs)}


def summarise(ours, peers):
    mine = summary_of(ours)
    alone = [r["convolutions_alone_images_per_second"] for r in ours if r.get("convolutions_alone_images_per_second")]
    if alone:
        mine["convolutions_alone_images_per_second"] = statistics.median(alone)
        mine["fraction_of_convolutions_alone"] = statistics.median(
            r["images_per_second"] / r["convolutions_alone_images_per_second"] for r in ours
            if r.get("convolutions_alone_images_per_second"))
    theirs = []
    for runs in peers.values():
        theirs.append(dict(summary_of(runs), torch=runs[0]["torch"], format=runs[0]["format"], compile=runs[0]["compile"],
                           sgd=runs[0]["sgd"]))
        # Of neighbours in time, so that a slow minute of the machine counts on both sides.
        pairs = [a["images_per_second"] / b["images_per_second"] for a, b in zip(ours, runs)]
        theirs[-1].update(ratio=mine["images_per_second"] / theirs[-1]["images_per_second"], ratio_least=min(pairs),
                          ratio_greatest=max(pairs))
    theirs.sort(key=lambda t: -t["images_per_second"])
    return {"resnet_dp": mine, "peers": theirs, "peer": theirs[0]["torch"], "ratio": theirs[0]["ratio"]}


def machine():
    facts = {"threads_visible": len(os.sched_getaffinity(0)), "load_average": os.getloadavg()[0]}
    try:
        for line in run(["lscpu"], env=dict(os.environ, LC_ALL="C")).splitlines():
            name, _, value = line.partition(":")
            if name in ("Model name", "CPU(s)", "Thread(s) per core", "Core(s) per socket", "Socket(s)", "L3 cache", "L2 cache"):
                facts[name] = value.strip()
    except FileNotFoundError:
        facts["Model name"] = "unknown (no lscpu)"
    return facts


def table(result):
    lines = ["%s, %s CPUs; batch %d, %d threads; %d pairs; %s" % (
        result["machine"].get("Model name"), result["machine"].get("CPU(s)"), result["batch"], result["threads"],
        result["pairs"], result["date"])]
    for precision, r in result["precisions"].items():
        rows = [("resnet-dp", r["resnet_dp"])] + [("PyTorch %s, %s" % (t["torch"], t["format"]), t) for t in r["peers"]]
        for name, t in rows:
            ratio = "  ratio %.2f (%.2f..%.2f)" % (t["ratio"], t["ratio_least"], t["ratio_greatest"]) if "ratio" in t else ""
            lines.append("%s  %-38s %7.1f images/s (%.1f..%.1f)  peak %4.0f MiB%s" % (
                precision, name, t["images_per_second"], t["least"], t["greatest"], t["peak_rss_bytes"] / 2**20, ratio))
        if "fraction_of_convolutions_alone" in r["resnet_dp"]:
            lines.append("%s  convolutions alone %.1f images/s: resnet-dp reaches %.0f %% of them" % (
                precision, r["resnet_dp"]["convolutions_alone_images_per_second"],
                100 * r["resnet_dp"]["fraction_of_convolutions_alone"]))
    return "\n".join(lines)


def main():
    o = options()
    o.python = o.python or ["python3"]
    program = os.environ.get("RESNET_DP", os.path.join(ROOT, "build", "release", "resnet-dp"))
    if not os.access(program, os.X_OK):
        raise SystemExit("compare.py: no program at %s: build it, or set RESNET_DP to its path" % program)
    for python in o.python:
        run([python, "-c", "import torch"])
    now = datetime.datetime.now(datetime.timezone.utc)
    result = {"date": now.strftime("%Y-%m-%d %H:%M UTC"), "machine": machine(), "batch": o.batch, "threads": o.threads,
              "recipe": os.path.basename(o.recipe), "pairs": o.pairs, "steps": o.steps, "repeats": o.repeats,
              "resnet_dp_info": run([program, "info"]), "precisions": {}}
    for precision in o.precision.split(","):
        result["precisions"][precision] = summarise(*measure(program, precision, o))
    path = o.out or os.path.join(HERE, "results", now.strftime("compare-%Y%m%dT%H%M%SZ.json"))
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=2)
        file.write("\n")
    print(table(result))
    print("written to " + path)


if __name__ == "__main__":
    main()
