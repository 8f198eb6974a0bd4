"""The options that the PyTorch peers share: names, values and defaults are those of resnet-dp (src/options.c), so that one recipe
file drives both programs. Imports no PyTorch: a peer may have to set its environment before that.

train_torch.py takes all of them and reads recipes; ddp.py takes MODEL and its own choice of the rest; accuracy.py compares what
both programs make of a recipe. Defaults < recipe < command line. A key that resnet-dp does not have either is an error that names
the nearest one; keys that do not decide what is trained (IGNORED: devices, ranks, files, reports) are read over.
"""
import argparse
import configparser
import difflib


def int_list(text):
    return tuple(int(v) for v in text.split(","))


def real_list(text):
    return tuple(float(v) for v in text.split(","))


def automatic(text):
    """A number, or None for the optimiser's own default."""
    return None if text == "auto" else float(text)


def normalisation(text):
    """(mean, std) of pixels from 0 to 1, per channel."""
    known = {"dataset": ((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)),
             "legacy": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))}
    if text in known:
        return known[text]
    mean, slash, std = text.partition("/")
    values = tuple(real_list(part) for part in (mean, std) if slash)
    if [len(v) for v in values] != [3, 3]:
        raise argparse.ArgumentTypeError("%s: it is dataset, legacy or M,M,M/S,S,S" % text)
    return values


YES_NO = ("yes", "no")
MODEL = {
    "block": (("basic", "bottleneck"), "basic"),
    "blocks": (int_list, "2,1,1,1"),
    "stem-width": (int, "64"),
    "widths": (int_list, "64,128,256,512"),
    "strides": (int_list, "1,2"),
    "downsample": (("stride", "max-pool"), "stride"),
    "activation": (("relu", "leaky-relu", "gelu"), "relu"),
    "leaky-slope": (float, "0.01"),
    "shortcut": (("conv", "pad", "none"), "conv"),
}
MODEL_TRAINING = {
    "dropout": (real_list, "0"),
    "zero-init-residual": (YES_NO, "no"),
    "conv-init": (("default", "dirac"), "default"),
    "stem-init": (("default", "whiten"), "default"),
    "freeze-stem": (YES_NO, "no"),
}
TRAINING = {
    "batch": (int, "128"),
    "accumulate": (int, "1"),
    "seed": (int, "1"),
    "max-steps": (int, "0"),
    "label-smoothing": (float, "0"),
    "mixup": (float, "0"),
    "cutmix": (float, "0"),
    "clip-value": (float, "0"),
    "clip-norm": (float, "0"),
}
OPTIMISER = {
    "optimizer": (("sgd", "adam", "adamw", "adamax", "adagrad", "rmsprop", "asgd", "lars", "lamb"), "sgd"),
    "lr": (automatic, "auto"),
    "momentum": (automatic, "auto"),
    "nesterov": (YES_NO, "no"),
    "weight-decay": (automatic, "auto"),
    "decay-bn": (YES_NO, "yes"),
    "bn-weight-lr": (float, "1"),
    "bn-bias-lr": (float, "1"),
    "beta1": (float, "0.9"),
    "beta2": (float, "0.999"),
    "epsilon": (automatic, "auto"),
    "rmsprop-alpha": (float, "0.99"),
    "adagrad-lr-decay": (float, "0"),
    "asgd-lambda": (float, "1e-4"),
    "asgd-alpha": (float, "0.75"),
    "asgd-t0": (float, "1e6"),
    "trust-coefficient": (float, "0.001"),
    "lookahead": (int, "0"),
    "lookahead-alpha": (float, "0.5"),
    "ema": (float, "0"),
    "evaluate-weights": (("auto", "trained", "averaged"), "auto"),
}
SCHEDULE = {
    "schedule": (("constant", "step", "multistep", "cosine", "onecycle", "polynomial", "plateau"), "constant"),
    "warmup-epochs": (float, "0"),
    "step-epochs": (float, "30"),
    "step-steps": (int, "0"),
    "step-gamma": (float, "0.1"),
    "milestones": (real_list, "30,60,80"),
    "min-lr": (float, "0"),
    "polynomial-power": (float, "1"),
    "plateau-factor": (float, "0.1"),
    "plateau-patience": (int, "10"),
    "plateau-threshold": (float, "1e-4"),
    "plateau-cooldown": (int, "0"),
    "onecycle-peak": (float, "0.3"),
    "onecycle-start-div": (float, "25"),
    "onecycle-final-div": (float, "1e4"),
    "onecycle-anneal": (("cosine", "linear"), "cosine"),
    "onecycle-momentum": (real_list, "0"),
    "lr-scaling": (("none", "linear", "sqrt"), "none"),
    "lr-base-batch": (int, "128"),
}
AUGMENTATION = {
    "crop": (("none", "zero", "reflect"), "reflect"),
    "crop-padding": (int, "4"),
    "flip": (("none", "random", "alternating"), "random"),
    "rotation-min": (float, "0"),
    "rotation-max": (float, "0"),
    "rotation-interpolation": (("nearest", "bilinear"), "nearest"),
    "jitter-brightness": (float, "0"),
    "jitter-contrast": (float, "0"),
    "jitter-saturation": (float, "0"),
    "jitter-hue": (float, "0"),
    "erase-probability": (float, "0"),
    "erase-scale-min": (float, "0.02"),
    "erase-scale-max": (float, "0.33"),
    "erase-ratio-min": (float, "0.3"),
    "erase-ratio-max": (float, "3.3"),
    "cutout": (int, "0"),
    "erase-fill": (("mean", "black"), "mean"),
    "normalisation": (normalisation, "dataset"),
}
EVALUATION = {
    "val-fraction": (float, "0"),
    "train-images": (int, "0"),
    "evaluate-every": (int, "1"),
    "evaluate-views": (("1", "2", "6"), "1"),
    "early-stopping": (int, "0"),
    "final-test": (("auto", "last", "best"), "auto"),
}
RUN = {"epochs": (int, "10"), "precision": (("fp32", "bf16"), "fp32"), "threads": (int, "0")}
RECIPE = {**RUN, **MODEL, **MODEL_TRAINING, **TRAINING, **OPTIMISER, **SCHEDULE, **AUGMENTATION, **EVALUATION}
# Keys of resnet-dp that say where and how fast, not what. sync-bn: one process has nothing to synchronise.
IGNORED = ("data", "run-dir", "device", "conv-algorithm", "graph", "fuse-statistics", "plan-cache", "shuffle", "evaluate-on",
           "comm", "bucket-mb", "overlap", "sync-bn", "comm-timeout", "checkpoint-epochs", "checkpoint-steps",
           "checkpoint-minutes", "keep", "resume", "progress", "step-log", "report-every", "profile-steps", "plot")
# What "auto" stands for: resnet-dp's values, which are PyTorch's but for SGD (those of ResNet training), LARS and LAMB.
OPTIMIZER_DEFAULTS = {
    "sgd": (0.1, 0.9, 5e-4, 1e-8), "adam": (1e-3, 0.9, 0, 1e-8), "adamw": (1e-3, 0.9, 0.01, 1e-8),
    "adamax": (2e-3, 0.9, 0, 1e-8), "adagrad": (0.01, 0.9, 0, 1e-10), "rmsprop": (0.01, 0, 0, 1e-8),
    "asgd": (0.01, 0.9, 0, 1e-8), "lars": (1, 0.9, 5e-4, 1e-8), "lamb": (1e-3, 0.9, 0.01, 1e-6)}


def add(parser, table):
    for name, (kind, default) in table.items():
        if isinstance(kind, tuple):
            parser.add_argument("--" + name, choices=kind, default=default)
        else:
            parser.add_argument("--" + name, type=kind, default=default, metavar="X")


def add_model(parser):
    add(parser, MODEL)


def add_training(parser):
    """What timing and ddp.py's one schedule need: SGD with Nesterov's momentum, one-cycle."""
    parser.add_argument("--batch", type=int, default=128, help="images per step, over all processes")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--label-smoothing", type=float, default=0.0)
    parser.add_argument("--lr", type=float, default=0.2, help="the one-cycle schedule's maximum")
    parser.add_argument("--momentum", type=float, default=0.9)
    parser.add_argument("--nesterov", default="yes", choices=YES_NO)
    parser.add_argument("--weight-decay", type=float, default=5e-4)
    add_data(parser)


def add_data(parser):
    parser.add_argument("--data", help="directory of the official CIFAR-10 binaries; timing works without")
    parser.add_argument("--images", type=int, default=50000, help="random training images when timing without --data")


def recipe_values(path):
    """All keys of a recipe as texts, whatever their section; SystemExit if it is none."""
    reader = configparser.ConfigParser(strict=False, interpolation=None, inline_comment_prefixes=(";",))
    try:
        with open(path, encoding="utf-8") as file:
            reader.read_string("[file]\n" + file.read(), path)
    except (OSError, configparser.Error) as error:
        raise SystemExit("recipe %s: %s" % (path, error)) from None
    return {key: value for section in reader.sections() for key, value in reader.items(section)}


def recipe_words(path):
    """A recipe as a command line."""
    words = []
    for key, value in recipe_values(path).items():
        if key in RECIPE:
            words.append("--%s=%s" % (key, value))
        elif key not in IGNORED:
            near = difflib.get_close_matches(key, [*RECIPE, *IGNORED], 1)
            raise SystemExit("recipe %s: %s: no such option%s" % (path, key, "; did you mean %s?" % near[0] if near else ""))
    return words


def add_recipe(parser):
    """All that a recipe may hold, for parse()."""
    parser.add_argument("--recipe", help="INI file whose keys are option names")
    add(parser, RECIPE)


def parse(parser, words):
    """Recipe, then command line, of a parser with add_recipe's options. Lists of one value and "auto" are resolved."""
    path = parser.parse_known_args(words)[0].recipe
    o = parser.parse_args((recipe_words(path) if path else []) + words)
    for name, value in zip(("lr", "momentum", "weight_decay", "epsilon"), OPTIMIZER_DEFAULTS[o.optimizer]):
        if getattr(o, name) is None:
            setattr(o, name, value)
    if len(o.dropout) == 1:
        o.dropout = o.dropout * len(o.blocks)
    return o


def effective(words):
    """The value of every option of a recipe after these words of a command line, by name."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    add_recipe(parser)
    return named(parse(parser, words))


def named(o):
    return {name: getattr(o, name.replace("-", "_")) for name in RECIPE}
