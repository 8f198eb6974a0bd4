#!/usr/bin/env python3
"""Trains recipes with resnet-dp and with PyTorch (peers/train_torch.py) at reduced length and compares their test accuracies.

    bench/accuracy.py --data-h5 cifar10.h5 --data DIR --python ~/venv/bin/python [--train-images 10000] [--epochs 5]
                      [--precision bf16] [--seeds 1] [--out FILE.json] [RECIPE...]

The reduced recipe is one list of options, computed here and given to both: the first --train-images images, --epochs epochs, and
every length of the recipe's own (milestones, step-epochs and -steps, warm-up, plateau's patience, ...) times the ratio of both
runs' lengths; cosine, one-cycle and polynomial schedules follow the epochs by themselves. What a step is, and so the batch, stays.
That both programs understand the list alike is checked: the options which resnet-dp writes into its run directory must be the
peer's.

--out (default: bench/results/accuracy.json) is written after each run, and a run that it holds with the same options is not
trained again: an interrupted comparison goes on where it stopped. --only trains one program's runs. Recipes are names in
jobs/recipes/ or files; default: all of that folder. Only Python's standard library is needed here; PYTHON needs PyTorch.
"""
import argparse
import datetime
import glob
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from compare import HERE, ROOT, machine

sys.path.insert(0, os.path.join(HERE, "peers"))
import peer_options  # noqa: E402

PEER = os.path.join(HERE, "peers", "train_torch.py")
FULL_SET = 50000
PROGRAMS = ("resnet-dp", "pytorch")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="*", metavar="RECIPE")
    parser.add_argument("--data-h5", help="the data set for resnet-dp")
    parser.add_argument("--data", help="directory of the official binaries, for PyTorch")
    parser.add_argument("--resnet-dp", default=os.path.join(ROOT, "build", "release", "resnet-dp"))
    parser.add_argument("--python", default="python3", help="an interpreter with PyTorch")
    parser.add_argument("--train-images", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    parser.add_argument("--seeds", default="1", help="as in 1,2,3")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--only", choices=PROGRAMS, help="train this program's runs only")
    parser.add_argument("--out", default=os.path.join(HERE, "results", "accuracy.json"))
    o = parser.parse_args()
    o.recipes = [recipe_path(r) for r in o.recipes] or sorted(glob.glob(os.path.join(ROOT, "jobs", "recipes", "*.ini")))
    o.seeds = [int(s) for s in o.seeds.split(",")]
    for program, needs in (("resnet-dp", "data_h5"), ("pytorch", "data")):
        if o.only in (None, program) and not getattr(o, needs):
            parser.error("--%s is needed to train with %s (or leave that out: --only)" % (needs.replace("_", "-"), program))
    return o


def recipe_path(recipe):
    named = os.path.join(ROOT, "jobs", "recipes", recipe + ".ini")
    path = recipe if os.path.isfile(recipe) else named
    if not os.path.isfile(path):
        raise SystemExit("accuracy.py: neither %s nor %s is a file" % (recipe, named))
    return path


def epoch_steps(images, full):
    kept = int(images * full["val-fraction"] + 0.5)
    return (images - kept) // full["batch"]


def reduced(path, o):
    """The recipe's options at reduced length, as words for both programs."""
    full = peer_options.effective(["--recipe", path])
    images = full["train-images"] or FULL_SET
    per_epoch, per_reduced_epoch = epoch_steps(images, full), epoch_steps(o.train_images, full)
    if per_reduced_epoch == 0:
        raise SystemExit("accuracy.py: %s: --train-images %d do not fill its batch of %d" % (path, o.train_images, full["batch"]))
    steps = full["epochs"] * per_epoch
    if 0 < full["max-steps"] < steps:
        steps = full["max-steps"]
    by_steps = o.epochs * per_reduced_epoch / steps
    by_epochs = o.epochs / (steps / per_epoch)
    values = {"epochs": o.epochs, "max-steps": 0, "train-images": o.train_images, "precision": o.precision,
              # Without a validation set an evaluation is of the test images and decides nothing: the last one is enough.
              "evaluate-every": 1 if full["val-fraction"] > 0 else 0}
    used = {"step": ("step-epochs", "step-steps"), "multistep": ("milestones",), "plateau": ("plateau-patience", "plateau-cooldown")}
    for name in ("warmup-epochs", "early-stopping", *used.get(full["schedule"], ())):
        if name == "milestones":
            values[name] = ",".join("%.10g" % (m * by_epochs) for m in full[name])
        elif name in ("warmup-epochs", "step-epochs"):
            values[name] = "%.10g" % (full[name] * by_epochs)
        elif full[name] > 0:  # whole numbers, of which 0 would mean another thing
            values[name] = max(1, round(full[name] * (by_steps if name == "step-steps" else by_epochs)))
    if full["ema"] > 0:
        values["ema"] = "%.10g" % full["ema"] ** (1 / by_steps)  # remembers the same share of the run
    if full["optimizer"] == "asgd":
        values["asgd-t0"] = "%.10g" % (full["asgd-t0"] * by_steps)
    return ["--%s=%s" % pair for pair in values.items()]


def run(words):
    """The finished process's output and its seconds; ends the program with its words if it failed."""
    begin = time.perf_counter()
    process = subprocess.run(words, capture_output=True, text=True, check=False)
    if process.returncode != 0:
        raise SystemExit("accuracy.py: %s\nfailed with exit code %d:\n%s" % (
            " ".join(words), process.returncode, (process.stdout + process.stderr)[-3000:]))
    return process.stdout, time.perf_counter() - begin


def compare_options(path, ours, peers):
    wrong = ["%s: %s and %s" % (k, ours[k], peers[k]) for k in peers if k != "threads" and ours[k] != peers[k]]
    if wrong:
        raise SystemExit("accuracy.py: %s: resnet-dp and the peer disagree on %s" % (path, "; ".join(wrong)))


def train_ours(path, words, o):
    folder = tempfile.mkdtemp(prefix="accuracy-")
    try:
        run_dir = os.path.join(folder, "run")
        out, seconds = run([o.resnet_dp, "train", "--recipe", path, *words, "--data", o.data_h5, "--threads", str(o.threads),
                            "--run-dir", run_dir, "--no-plot", "--no-progress"])
        compare_options(path, peer_options.effective(["--recipe", os.path.join(run_dir, "recipe.ini")]),
                        peer_options.effective(["--recipe", path, *words]))
        with open(os.path.join(run_dir, "metrics.csv"), encoding="utf-8") as file:
            metrics = file.read()
    finally:
        shutil.rmtree(folder)
    found = re.findall(r"^Test accuracy: .*\(([0-9,]+) of ([0-9,]+)\)", out, re.MULTILINE)
    if not found:
        raise SystemExit("accuracy.py: %s: resnet-dp ended without a test accuracy:\n%s" % (path, out[-1000:]))
    right, count = (int(text.replace(",", "")) for text in found[-1])
    summary = run([o.resnet_dp, "summary", "--recipe", path])[0]
    parameters = int(re.search(r"Total params: ([0-9,]+)", summary).group(1).replace(",", ""))
    return {"test_accuracy": right / count, "parameters": parameters, "seconds": seconds, "metrics": metrics}


def train_peer(path, words, o):
    out, seconds = run([o.python, PEER, "--recipe", path, *words, "--data", o.data, "--threads", str(o.threads)])
    result = json.loads(out.splitlines()[-1])
    return {"test_accuracy": result["test_accuracy"], "parameters": result["parameters"], "seconds": seconds,
            "training_seconds": result["training_seconds"], "epochs": result["epochs"], "torch": result["torch"]}


class Results:
    """The runs so far, in a file that is whole after every one."""

    def __init__(self, path):
        self.path, self.runs = path, []
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                self.runs = json.load(file)["runs"]

    def find(self, key):
        return next((r for r in self.runs if all(r[k] == v for k, v in key.items())), None)

    def add(self, key, result):
        date = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        same = ("recipe", "seed", "program")  # with other options: replaced
        self.runs = [r for r in self.runs if any(r[k] != key[k] for k in same)] + [dict(key, date=date, **result)]
        os.makedirs(os.path.dirname(os.path.abspath(self.path)), exist_ok=True)
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            json.dump({"machine": machine(), "runs": self.runs}, file, indent=2)
            file.write("\n")
        os.replace(self.path + ".new", self.path)


def summary_of(runs):
    """Mean (least..greatest) of accuracies in percent, and the mean of seconds."""
    accuracies = [100 * r["test_accuracy"] for r in runs]
    text = "%.2f" % statistics.mean(accuracies)
    if len(runs) > 1:
        text += " (%.2f..%.2f)" % (min(accuracies), max(accuracies))
    return text, "%.0f" % statistics.mean(r["seconds"] for r in runs), statistics.mean(accuracies)


def table(chosen):
    rows = [("recipe", "parameters", "resnet-dp %", "PyTorch %", "difference", "seconds", "PyTorch's")]
    for name, runs in chosen.items():
        counts = {r["parameters"] for r in runs["resnet-dp"] + runs["pytorch"]}
        if len(counts) > 1:
            raise SystemExit("accuracy.py: %s: the two programs' networks differ: %s parameters" % (name, counts))
        ours, theirs = (summary_of(runs[p]) if runs[p] else None for p in PROGRAMS)
        rows.append((name, "{:,}".format(counts.pop()) if counts else "-", ours[0] if ours else "-", theirs[0] if theirs else "-",
                     "%+.2f" % (ours[2] - theirs[2]) if ours and theirs else "-", ours[1] if ours else "-",
                     theirs[1] if theirs else "-"))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths)))
                     for row in rows)


def main():
    o = options()
    results, chosen = Results(o.out), {}
    for path in o.recipes:
        name = os.path.splitext(os.path.basename(path))[0]
        words = reduced(path, o)
        chosen[name] = {program: [] for program in PROGRAMS}
        for seed in o.seeds:
            for program, train in zip(PROGRAMS, (train_ours, train_peer)):
                key = {"recipe": name, "seed": seed, "program": program, "options": peer_options.recipe_words(path) + words}
                if results.find(key) is None and o.only in (None, program):
                    result = train(path, words + ["--seed=%d" % seed], o)
                    results.add(key, result)
                    print("%s, seed %d, %s: %.2f %%, %.0f s" % (name, seed, program, 100 * result["test_accuracy"],
                                                               result["seconds"]), file=sys.stderr, flush=True)
                found = results.find(key)
                chosen[name][program] += [found] if found else []
    print(table(chosen))


if __name__ == "__main__":
    main()
