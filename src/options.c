/*
 * The option table and what follows from it alone: defaults, look-up, comparison. options_values.c turns values into
 * text and back, options_recipe.c reads and writes recipes, options_parse.c reads the command line and options_help.c
 * prints --help; all walk this table. options_check.c checks what one option alone cannot know. A new option is a
 * field in options.h and a row here.
 */
#include "options.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/text.h"
#include "options_table.h"

_Static_assert(sizeof(enum rdp_block) == sizeof(int), "choices are stored as int");

#define TRAIN    (RDP_CMD_TRAIN | RDP_CMD_SWEEP)
#define BENCH    RDP_CMD_BENCH
#define MODEL    (TRAIN | RDP_CMD_SUMMARY | RDP_CMD_DRAW | RDP_CMD_BENCH)
#define SHEET    RDP_CMD_AUGMENT
#define EVAL     RDP_CMD_EVAL
#define NETWORK  (RDP_CMD_EVAL | RDP_CMD_PREDICT) /* take the model from a checkpoint */
#define COMPUTES (TRAIN | BENCH | NETWORK)
#define DECIDES  RDP_OPTION_DECIDES
#define AUTO     RDP_OPTION_AUTO
#define ABOVE    RDP_OPTION_ABOVE_MIN
#define BELOW    RDP_OPTION_BELOW_MAX
#define OF_RUN   RDP_OPTION_OF_RUN

#define FIELD(field) offsetof(struct rdp_options, field)
#define YES_NO(name, field, initial, flags, commands, help) \
    { \
        GROUP, name, "yes|no", RDP_OPTION_YES_NO, FIELD(field), initial, 0, 0, flags, commands, help \
    }
#define CHOICE(name, values, field, initial, flags, commands, help) \
    { \
        GROUP, name, values, RDP_OPTION_CHOICE, FIELD(field), initial, 0, 0, flags, commands, help \
    }
#define INTEGER(name, field, initial, min, max, flags, commands, help) \
    { \
        GROUP, name, "N", RDP_OPTION_INTEGER, FIELD(field), initial, min, max, flags, commands, help \
    }
#define INTEGER64(name, field, initial, min, max, flags, commands, help) \
    { \
        GROUP, name, "N", RDP_OPTION_INTEGER64, FIELD(field), initial, min, max, flags, commands, help \
    }
#define REAL(name, field, initial, min, max, flags, commands, help) \
    { \
        GROUP, name, "X", RDP_OPTION_REAL, FIELD(field), initial, min, max, flags, commands, help \
    }
#define LIST(name, field, initial, min, max, flags, commands, help) \
    { \
        GROUP, name, "N,N,...", RDP_OPTION_LIST, FIELD(field), initial, min, max, flags, commands, help \
    }
#define REALS(name, field, initial, min, max, flags, commands, help) \
    { \
        GROUP, name, "X,X,...", RDP_OPTION_REALS, FIELD(field), initial, min, max, flags, commands, help \
    }
#define TEXT(name, values, field, initial, flags, commands, help) \
    { \
        GROUP, name, values, RDP_OPTION_TEXT, FIELD(field), initial, 0, 0, flags, commands, help \
    }

const struct rdp_option rdp_option_rows[] = {
#define GROUP "files"
    TEXT("recipe", "FILE|NAME", recipe, "", RDP_OPTION_NO_RECIPE, MODEL | SHEET,
         "INI file whose keys are option names, or the name of one that comes with resnet-dp, as basic-2111"),
    TEXT("checkpoint", "FILE", checkpoint, "", 0, NETWORK, "the trained network"),
    TEXT("data", "FILE.h5", data, "cifar10.h5", 0, TRAIN | EVAL | SHEET, "data set made by prepare"),
    TEXT("run-dir", "DIR", run_dir, "", 0, TRAIN,
         "where the run is written; train: default runs/<recipe>-<UTC date-time>; sweep: default runs/sweep-<file>"),
    YES_NO("force", force, "no", RDP_OPTION_NO_RECIPE, TRAIN,
           "reuse a run directory that holds another run; sweep: run cases anew whose options have changed"),
    TEXT("from", "PATH", from, "", 0, RDP_CMD_PREPARE,
         "directory with the official CIFAR-10 binaries, or their .tar.gz"),
    YES_NO("synthetic", synthetic, "no", 0, RDP_CMD_PREPARE, "make a small learnable data set instead of reading one"),
    INTEGER("synthetic-train", synthetic_train, "10000", 10, 1000000, 0, RDP_CMD_PREPARE, "synthetic training images"),
    INTEGER("synthetic-test", synthetic_test, "2000", 10, 1000000, 0, RDP_CMD_PREPARE, "synthetic test images"),
    TEXT("out", "PATH", out, "", 0, RDP_CMD_PREPARE | RDP_CMD_PLOT | SHEET | RDP_CMD_DRAW,
         "prepare: the data file to write; plot: the directory to draw into, default the run's; augment: the PNG file "
         "to "
         "write; draw: the Graphviz file to write"),
#undef GROUP
#define GROUP "model"
    CHOICE("block", "basic|bottleneck", block, "basic", DECIDES, MODEL, "kind of residual block"),
    LIST("blocks", blocks, "2,1,1,1", 1, 1000, DECIDES, MODEL, "residual blocks per stage"),
    INTEGER("stem-width", stem_width, "64", 1, 65536, DECIDES, MODEL, "channels of the first convolution"),
    LIST("widths", widths, "64,128,256,512", 1, 65536, DECIDES, MODEL,
         "channels per stage; bottleneck: of its inner convolution, a stage's output has 4 x as many"),
    LIST("strides", strides, "1,2", 1, 2, DECIDES, MODEL,
         "per stage: 2 halves the image's sides, 1 keeps them; stages beyond the list's end do as the last one in it"),
    CHOICE(
        "downsample", "stride|max-pool", downsample, "stride", DECIDES, MODEL,
        "where a stage halves the image: a 3x3 convolution of stride 2, or one of stride 1 and a 2x2 max-pool before "
        "its batch-norm (Page 2018)"),
    CHOICE("activation", "relu|leaky-relu|gelu", activation, "relu", DECIDES, MODEL, "non-linearity"),
    REAL("leaky-slope", leaky_slope, "0.01", 0, 1, DECIDES | BELOW, MODEL, "leaky-relu: slope below zero"),
    CHOICE("shortcut", "conv|pad|none", shortcut, "conv", DECIDES, MODEL,
           "where the shape changes: 1x1 convolution and batch-norm, or every other pixel and zero channels; none: no "
           "block has a shortcut, a plain network"),
    REALS("dropout", dropout, "0", 0, 1, DECIDES | BELOW, MODEL,
          "probability after each stage: one for all stages, or one per stage"),
    YES_NO("zero-init-residual", zero_init_residual, "no", DECIDES, TRAIN | BENCH,
           "the last batch-norm weight of each block starts at 0 (Goyal et al. 2017)"),
    CHOICE("conv-init", "default|dirac", conv_init, "default", DECIDES, TRAIN | BENCH,
           "dirac: 3x3 convolutions behind the stem start by passing on their input, channel by channel for as many as "
           "it has; further filters start as by default (Jordan 2024)"),
    CHOICE(
        "stem-init", "default|whiten", stem_init, "default", DECIDES, TRAIN | BENCH,
        "whiten: the first convolution's filters are the eigenvectors of the training images' 3x3 patches, scaled to "
        "equal variance, in both signs (Page 2019, Jordan 2024)"),
    YES_NO("freeze-stem", freeze_stem, "no", DECIDES, TRAIN | BENCH,
           "the first convolution and its batch-norm are not trained"),
#undef GROUP
#define GROUP "device"
    CHOICE("device", "auto|cpu|cuda", device, "auto", 0, COMPUTES | RDP_CMD_INFO,
           "what computes; auto says what it chose"),
    CHOICE("precision", "fp32|tf32|bf16", precision, "fp32", DECIDES | OF_RUN, COMPUTES,
           "of activations and convolutions; weights, statistics and sums are always fp32; tf32: GPUs only"),
    INTEGER("threads", threads, "0", 0, 4096, 0, COMPUTES | RDP_CMD_INFO,
            "CPU threads per rank; 0: as many as it may run on"),
    CHOICE("conv-algorithm", "auto|direct|winograd", conv_algorithm, "auto", DECIDES | OF_RUN, COMPUTES,
           "of convolutions on the CPU"),
    YES_NO("graph", graph, "yes", 0, TRAIN | BENCH, "GPU: record a step as a CUDA graph and replay it"),
    CHOICE("fuse-statistics", "no|auto|yes", fuse_statistics, "no", DECIDES, TRAIN | BENCH,
           "GPU, bf16: convolutions sum the statistics of their batch-norms; auto: where that is faster; yes: all that "
           "can"),
    TEXT("plan-cache", "auto|none|FILE", plan_cache, "auto", 0, COMPUTES,
         "GPU: keeps the convolution algorithms that were timed; auto: ~/.cache/resnet-dp/convolutions"),
#undef GROUP
#define GROUP "training"
    INTEGER("epochs", epochs, "10", 1, 1000000, DECIDES, TRAIN, "passes over the training data"),
    INTEGER("batch", batch, "128", 1, 1048576, DECIDES | OF_RUN, TRAIN | BENCH | EVAL,
            "images per step, over all ranks and micro-batches"),
    INTEGER("accumulate", accumulate, "1", 1, 65536, DECIDES, TRAIN | BENCH, "micro-batches per step, to save memory"),
    INTEGER64("seed", seed, "1", 0, INFINITY, DECIDES, TRAIN | BENCH | SHEET,
              "initial weights, sample order, augmentation, validation split"),
    INTEGER64("max-steps", max_steps, "0", 0, INFINITY, 0, TRAIN,
              "end the run after so many steps, where its schedule then is: that goes by --epochs; 0: no limit"),
    REAL("label-smoothing", label_smoothing, "0", 0, 1, DECIDES | BELOW, TRAIN | BENCH,
         "share of the target spread over all classes"),
    REAL("mixup", mixup, "0", 0, 100, DECIDES, TRAIN | BENCH,
         "alpha of mix-up (Zhang et al. 2018); 0: off; with --cutmix, each step draws one of the two"),
    REAL("cutmix", cutmix, "0", 0, 100, DECIDES, TRAIN | BENCH, "alpha of CutMix (Yun et al. 2019); 0: off"),
    REAL("clip-value", clip_value, "0", 0, INFINITY, DECIDES, TRAIN | BENCH,
         "every element of the gradient to within +-this; 0: off"),
    REAL("clip-norm", clip_norm, "0", 0, INFINITY, DECIDES, TRAIN | BENCH,
         "the global batch's whole gradient to at most this length; 0: off"),
#undef GROUP
#define GROUP "optimiser"
    CHOICE("optimizer", "sgd|adam|adamw|adamax|adagrad|rmsprop|asgd|lars|lamb", optimizer, "sgd", DECIDES,
           TRAIN | BENCH,
           "as PyTorch's of that name; asgd: averaged SGD (Polyak and Juditsky); lars, lamb: You et al. 2017, 2020"),
    REAL("lr", lr, "auto", 0, 1000, DECIDES | ABOVE | AUTO, TRAIN | BENCH,
         "learning rate; one-cycle: its peak; auto: 0.1 for sgd, 1 for lars, else PyTorch's (0.001 for adam)"),
    REAL("momentum", momentum, "auto", 0, 1, DECIDES | BELOW | AUTO, TRAIN | BENCH,
         "of sgd, lars and rmsprop; auto: 0.9, rmsprop 0"),
    YES_NO("nesterov", nesterov, "no", DECIDES, TRAIN | BENCH, "sgd: Nesterov's momentum"),
    REAL("weight-decay", weight_decay, "auto", 0, 1, DECIDES | AUTO, TRAIN | BENCH,
         "added to the gradient, times the weight (adamw, lamb: decoupled); auto: sgd and lars 5e-4, adamw and lamb "
         "0.01, else 0"),
    YES_NO("decay-bn", decay_bn, "yes", DECIDES, TRAIN | BENCH,
           "weight decay also on batch-norm weights and biases and the last bias, as PyTorch does"),
    REAL("bn-weight-lr", bn_weight_lr, "1", 0, 1e6, DECIDES, TRAIN | BENCH,
         "learning rate of batch-norm weights, times the others'; their weight decay is divided by it, so that they "
         "shrink like the others; 0: they stay as they start (Page 2019, Jordan 2024)"),
    REAL("bn-bias-lr", bn_bias_lr, "1", 0, 1e6, DECIDES, TRAIN | BENCH,
         "likewise of batch-norm biases (Jordan 2024: 64)"),
    REAL("beta1", beta1, "0.9", 0, 1, DECIDES | BELOW, TRAIN | BENCH, "adam, adamw, adamax, lamb"),
    REAL("beta2", beta2, "0.999", 0, 1, DECIDES | BELOW, TRAIN | BENCH, "adam, adamw, adamax, lamb"),
    REAL("epsilon", epsilon, "auto", 1e-30, 1, DECIDES | AUTO, TRAIN | BENCH,
         "in the denominators; auto: 1e-8, adagrad 1e-10, lamb 1e-6"),
    REAL("rmsprop-alpha", rmsprop_alpha, "0.99", 0, 1, DECIDES | BELOW, TRAIN | BENCH,
         "rmsprop: decay of the mean square"),
    REAL("adagrad-lr-decay", adagrad_lr_decay, "0", 0, INFINITY, DECIDES, TRAIN | BENCH,
         "adagrad: rate is divided by 1 + steps times this"),
    REAL("asgd-lambda", asgd_lambda, "1e-4", 0, 1, DECIDES, TRAIN | BENCH, "asgd: decay term"),
    REAL("asgd-alpha", asgd_alpha, "0.75", 0, 10, DECIDES, TRAIN | BENCH, "asgd: power of the rate's decay"),
    REAL("asgd-t0", asgd_t0, "1e6", 0, 1e15, DECIDES, TRAIN | BENCH, "asgd: steps before averaging begins"),
    REAL("trust-coefficient", trust_coefficient, "0.001", 0, 1000, DECIDES | ABOVE, TRAIN | BENCH, "lars"),
    INTEGER("lookahead", lookahead, "0", 0, 1000000, DECIDES, TRAIN | BENCH,
            "steps between the fast weights' returns to the slow ones (Zhang et al. 2019: 5); 0: off"),
    REAL("lookahead-alpha", lookahead_alpha, "0.5", 0, 1, DECIDES | ABOVE, TRAIN | BENCH,
         "share of the way that the slow weights go"),
    REAL("ema", ema, "0", 0, 1, DECIDES | BELOW, TRAIN | BENCH,
         "decay of an exponential moving average of weights and running statistics, taken every step; 0: off"),
    CHOICE("evaluate-weights", "auto|trained|averaged", evaluate_weights, "auto", OF_RUN, TRAIN | NETWORK,
           "which weights are evaluated; auto: the averaged ones with --ema, else the trained ones"),
#undef GROUP
#define GROUP "schedule"
    CHOICE(
        "schedule", "constant|step|multistep|cosine|onecycle|polynomial|plateau", schedule, "constant", DECIDES, TRAIN,
        "of the learning rate, as PyTorch's of that name, stepped every batch; plateau: after every evaluation, by the "
        "validation loss"),
    REAL("warmup-epochs", warmup_epochs, "0", 0, 1000000, DECIDES, TRAIN,
         "linear rise to the schedule's first learning rate; the schedule, and its epochs, begin after it"),
    REAL("step-epochs", step_epochs, "30", 0, 1000000, DECIDES | ABOVE, TRAIN, "step: epochs between reductions"),
    INTEGER64("step-steps", step_steps, "0", 0, INFINITY, DECIDES, TRAIN,
              "step: training steps between reductions; 0: --step-epochs counts"),
    REAL("step-gamma", step_gamma, "0.1", 0, 1, DECIDES | ABOVE, TRAIN, "step, multistep: factor of a reduction"),
    REALS("milestones", milestones, "30,60,80", 0, 1000000, DECIDES | ABOVE, TRAIN,
          "multistep: epochs of the reductions, ascending"),
    REAL("min-lr", min_lr, "0", 0, 1000, DECIDES, TRAIN, "cosine, polynomial: last rate; plateau: lowest rate"),
    REAL("polynomial-power", polynomial_power, "1", 0, 100, DECIDES | ABOVE, TRAIN, "polynomial: 1 is a straight line"),
    REAL("plateau-factor", plateau_factor, "0.1", 0, 1, DECIDES | ABOVE | BELOW, TRAIN, "plateau: of a reduction"),
    INTEGER("plateau-patience", plateau_patience, "10", 0, 1000000, DECIDES, TRAIN,
            "plateau: evaluations without improvement before a reduction"),
    REAL("plateau-threshold", plateau_threshold, "1e-4", 0, 1, DECIDES | BELOW, TRAIN,
         "plateau: share by which the loss must fall to count as improved"),
    INTEGER("plateau-cooldown", plateau_cooldown, "0", 0, 1000000, DECIDES, TRAIN,
            "plateau: evaluations after a reduction that do not count"),
    REAL("onecycle-peak", onecycle_peak, "0.3", 0, 1, DECIDES | ABOVE | BELOW, TRAIN,
         "onecycle: share of all steps that rises"),
    REAL("onecycle-start-div", onecycle_start_div, "25", 1, 1e12, DECIDES, TRAIN, "onecycle: starts at lr / this"),
    REAL("onecycle-final-div", onecycle_final_div, "1e4", 1, 1e12, DECIDES, TRAIN,
         "onecycle: ends at its start / this"),
    CHOICE("onecycle-anneal", "cosine|linear", onecycle_anneal, "cosine", DECIDES, TRAIN,
           "onecycle: form of rise and fall"),
    REALS("onecycle-momentum", onecycle_momentum, "0", 0, 1, DECIDES | BELOW, TRAIN,
          "onecycle: momentum (adam, adamw, adamax, lamb: beta1) at the rate's peak and at both ends, as PyTorch's "
          "cycle_momentum, whose default is 0.85,0.95; 0: it stays as it is"),
    CHOICE("lr-scaling", "none|linear|sqrt", lr_scaling, "none", DECIDES, TRAIN,
           "lr times batch / lr-base-batch, or times its square root"),
    INTEGER("lr-base-batch", lr_base_batch, "128", 1, 1048576, DECIDES, TRAIN, "the batch that lr was chosen for"),
#undef GROUP
#define GROUP "augmentation"
    CHOICE("crop", "none|zero|reflect", crop, "reflect", DECIDES, TRAIN | BENCH | SHEET,
           "random 32x32 crop of the image padded with zeros or its mirror image"),
    INTEGER("crop-padding", crop_padding, "4", 0, 31, DECIDES, TRAIN | BENCH | SHEET, "pixels added on each side"),
    CHOICE("flip", "none|random|alternating", flip, "random", DECIDES, TRAIN | BENCH | SHEET,
           "mirror half of the images: drawn anew every epoch, or drawn once and then every other epoch (Jordan 2024)"),
    REAL("rotation-min", rotation_min, "0", -180, 180, DECIDES, TRAIN | BENCH | SHEET,
         "degrees, counter-clockwise; with --rotation-max the range of random rotations"),
    REAL("rotation-max", rotation_max, "0", -180, 180, DECIDES, TRAIN | BENCH | SHEET, "degrees; corners become black"),
    CHOICE("rotation-interpolation", "nearest|bilinear", rotation_interpolation, "nearest", DECIDES,
           TRAIN | BENCH | SHEET, "of rotations"),
    REAL("jitter-brightness", jitter_brightness, "0", 0, 1, DECIDES, TRAIN | BENCH | SHEET,
         "factor from 1 - this to 1 + this; the four jitters come in random order"),
    REAL("jitter-contrast", jitter_contrast, "0", 0, 1, DECIDES, TRAIN | BENCH | SHEET,
         "likewise, around the mean grey"),
    REAL("jitter-saturation", jitter_saturation, "0", 0, 1, DECIDES, TRAIN | BENCH | SHEET,
         "likewise, around each pixel's grey"),
    REAL("jitter-hue", jitter_hue, "0", 0, 0.5, DECIDES, TRAIN | BENCH | SHEET,
         "hue turned by at most this share of the circle either way"),
    REAL("erase-probability", erase_probability, "0", 0, 1, DECIDES, TRAIN | BENCH | SHEET,
         "of erasing a random rectangle (Zhong et al. 2017)"),
    REAL("erase-scale-min", erase_scale_min, "0.02", 0, 1, DECIDES | ABOVE, TRAIN | BENCH | SHEET,
         "least share of the image that is erased"),
    REAL("erase-scale-max", erase_scale_max, "0.33", 0, 1, DECIDES | ABOVE, TRAIN | BENCH | SHEET,
         "greatest share of the image that is erased"),
    REAL("erase-ratio-min", erase_ratio_min, "0.3", 0, 100, DECIDES | ABOVE, TRAIN | BENCH | SHEET,
         "least height / width of what is erased"),
    REAL("erase-ratio-max", erase_ratio_max, "3.3", 0, 100, DECIDES | ABOVE, TRAIN | BENCH | SHEET,
         "greatest height / width of what is erased"),
    INTEGER("cutout", cutout, "0", 0, 64, DECIDES, TRAIN | BENCH | SHEET,
            "side in pixels of a square erased around a random pixel (DeVries and Taylor 2017); 0: off"),
    CHOICE("erase-fill", "mean|black", erase_fill, "mean", DECIDES, TRAIN | BENCH | SHEET,
           "colour of what erasing and cutout erase: zero after or before normalisation"),
    TEXT("normalisation", "dataset|legacy|M,M,M/S,S,S", normalisation, "dataset", DECIDES, TRAIN | SHEET,
         "mean and deviation of pixels from 0 to 1: the data set's own, the often copied 0.4914 0.4822 0.4465 / 0.2023 "
         "0.1994 0.2010, or these"),
#undef GROUP
#define GROUP "data order and evaluation"
    CHOICE("shuffle", "global|local", shuffle, "global", DECIDES, TRAIN,
           "re-deal the samples to the ranks before every epoch, or let each keep its own"),
    REAL("val-fraction", val_fraction, "0", 0, 1, DECIDES | BELOW, TRAIN,
         "share of the training data kept for validation"),
    INTEGER64("train-images", train_images, "0", 0, INFINITY, DECIDES, TRAIN,
              "use only the first so many training images (before the validation set is taken); 0: all"),
    CHOICE("evaluate-on", "rank0|all", evaluate_on, "rank0", 0, TRAIN | EVAL, "who evaluates"),
    INTEGER("evaluate-every", evaluate_every, "1", 0, 1000000, 0, TRAIN,
            "epochs between evaluations; 0: only after the last"),
    CHOICE("evaluate-views", "1|2|6", evaluate_views, "1", OF_RUN, TRAIN | EVAL,
           "evaluate the mean logits (test-time augmentation) of 2: each image and its mirror image; 6: these two, "
           "half of "
           "the mean, and both moved by a pixel up and left and down and right (Jordan 2024)"),
    INTEGER("early-stopping", early_stopping, "0", 0, 1000000, 0, TRAIN,
            "end the run after so many evaluations without a better validation loss; 0: off"),
    CHOICE("final-test", "auto|last|best", final_test, "auto", 0, TRAIN,
           "which weights the run's last line tests; auto: those of the best validation loss if there is a validation "
           "set, else the last"),
#undef GROUP
#define GROUP "ranks"
    CHOICE("comm", "auto|mpi|nccl", transport, "auto", 0, TRAIN | BENCH,
           "what sums gradients; auto: NCCL between GPUs, MPI between CPUs and for ranks that share a GPU"),
    REAL("bucket-mb", bucket_mb, "4", 0, 65536, ABOVE, TRAIN | BENCH, "MiB of gradients per all-reduce"),
    YES_NO("overlap", overlap, "yes", 0, TRAIN | BENCH, "all-reduce while backward goes on"),
    YES_NO("sync-bn", sync_bn, "no", DECIDES, TRAIN | BENCH, "batch-norm statistics over all ranks"),
    REAL("comm-timeout", comm_timeout, "120", 0, 1e6, 0, TRAIN | BENCH | EVAL | RDP_CMD_INFO,
         "seconds after which a silent rank ends the run; 0: never"),
#undef GROUP
#define GROUP "checkpoints"
    INTEGER("checkpoint-epochs", checkpoint_epochs, "1", 0, 1000000, 0, TRAIN, "epochs between checkpoints; 0: off"),
    INTEGER64("checkpoint-steps", checkpoint_steps, "0", 0, INFINITY, 0, TRAIN, "steps between checkpoints; 0: off"),
    REAL("checkpoint-minutes", checkpoint_minutes, "0", 0, 1e6, 0, TRAIN, "minutes between checkpoints; 0: off"),
    INTEGER("keep", keep, "3", 0, 1000000, 0, TRAIN, "latest checkpoints to keep, besides the best; 0: all"),
    TEXT("resume", "none|auto|FILE", resume, "none", 0, RDP_CMD_TRAIN, /* a sweep always goes on */
         "go on from a checkpoint; auto: from the run directory's latest, if any"),
#undef GROUP
#define GROUP "reporting"
    YES_NO("progress", progress, "yes", 0, TRAIN, "progress bar on a terminal, a line now and then elsewhere"),
    YES_NO("step-log", step_log, "no", 0, TRAIN, "write loss and learning rate of every step to steps.csv"),
    INTEGER("report-every", report_every, "0", 0, 256, 0, TRAIN,
            "steps between looks at the loss and at signals; 0: 1 on CPUs, 16 on GPUs"),
    TEXT("profile-steps", "A:B", profile_steps, "", 0, TRAIN,
         "GPU: steps that a profiler collects, as with nsys profile --capture-range=cudaProfilerApi"),
    YES_NO("plot", plot, "yes", 0, TRAIN,
           "draw losses, accuracy, learning rate and confusion matrix when the run ends"),
    INTEGER("samples", samples, "8", 1, 64, 0, SHEET, "training images on the sheet, one per row"),
    INTEGER("variants", variants, "8", 1, 64, 0, SHEET, "epochs on the sheet, one per column behind the image itself"),
    TEXT("vary", "NAME=V,V;...", vary, "", RDP_OPTION_NO_RECIPE, RDP_CMD_SWEEP,
         "options to vary and their values, as in \"lr=0.1,0.3;batch=64,128\"; of several, all combinations; values "
         "that hold commas are separated by |, as in \"blocks=5,4,3|3,3,3\""),
    TEXT("title", "TEXT", title, "", RDP_OPTION_NO_RECIPE, RDP_CMD_SWEEP,
         "heading of the table and the plot; default the name of the sweep's file"),
    INTEGER("top", top, "3", 1, 10, 0, RDP_CMD_PREDICT, "classes to print per image"),
    INTEGER("steps", steps, "10", 1, 1000000, 0, BENCH, "timed steps per repeat"),
    INTEGER("repeats", repeats, "5", 1, 10000, 0, BENCH, "repeats; the median counts"),
    TEXT("json", "FILE", json, "", 0, BENCH, "also write the results as JSON"),
#undef GROUP
};
const size_t rdp_option_count = sizeof rdp_option_rows / sizeof rdp_option_rows[0];
_Static_assert(sizeof rdp_option_rows / sizeof rdp_option_rows[0] <= RDP_OPTIONS_MAX, "given[] has a place for each");

const struct rdp_command_name rdp_command_names[] = {
    {RDP_CMD_TRAIN, "train", "", 0, 0},
    {RDP_CMD_PREPARE, "prepare", "", 0, 0},
    {RDP_CMD_SUMMARY, "summary", "", 0, 0},
    {RDP_CMD_EVAL, "eval", "", 0, 0},
    {RDP_CMD_PREDICT, "predict", " IMAGE...", 1, 1 << 30},
    {RDP_CMD_INSPECT, "inspect", " FILE", 1, 1},
    {RDP_CMD_INFO, "info", "", 0, 0},
    {RDP_CMD_BENCH, "bench", "", 0, 0},
    {RDP_CMD_PLOT, "plot", " RUN-DIR", 1, 1},
    {RDP_CMD_AUGMENT, "augment", "", 0, 0},
    {RDP_CMD_DRAW, "draw", "", 0, 0},
    {RDP_CMD_SWEEP, "sweep", " [SWEEP.ini]", 0, 1},
};
const size_t rdp_command_count = sizeof rdp_command_names / sizeof rdp_command_names[0];

const struct rdp_option *rdp_option_find(const char *name)
{
    for (size_t i = 0; i < rdp_option_count; i++)
        if (strcmp(rdp_option_rows[i].name, name) == 0)
            return &rdp_option_rows[i];
    return NULL;
}

bool rdp_option_in_recipe(const struct rdp_option *option)
{
    return (option->commands & RDP_CMD_TRAIN) && !(option->flags & RDP_OPTION_NO_RECIPE);
}

/* What other trainers call them. */
static const char *known_as(const char *name)
{
    static const char *const names[][2] = {{"learning-rate", "lr"},
                                           {"wd", "weight-decay"},
                                           {"gamma", "step-gamma"},
                                           {"patience", "plateau-patience"},
                                           {"grad-clip", "clip-norm"},
                                           {"max-lr", "lr"},
                                           {"cycle-momentum", "onecycle-momentum"}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(names[i][0], name) == 0)
            return names[i][1];
    return name;
}

const char *rdp_option_nearest(const char *name, unsigned commands, bool recipe)
{
    const char *names[RDP_OPTIONS_MAX];
    name = known_as(name);
    size_t count = 0, length = strlen(name);
    for (size_t i = 0; i < rdp_option_count; i++)
        if ((rdp_option_rows[i].commands & commands) && (!recipe || rdp_option_in_recipe(&rdp_option_rows[i])))
            names[count++] = rdp_option_rows[i].name;
    const char *nearest = rdp_nearest_name(name, names, count);
    /* "weight" is far from "weight-decay" by distance, and yet plain. */
    for (size_t i = 0; i < count && nearest == NULL && length >= 3; i++)
        if (strncmp(names[i], name, length) == 0)
            nearest = names[i];
    return nearest == NULL ? "" : nearest;
}

void rdp_options_begin(struct rdp_options *options)
{
    char reason[RDP_OPTION_REASON_MAX];
    memset(options, 0, sizeof *options);
    for (size_t i = 0; i < rdp_option_count; i++)
        if (rdp_option_rows[i].initial[0] != '\0')
            rdp_option_set(&rdp_option_rows[i], options, rdp_option_rows[i].initial, reason);
}

/* Whether the learning rate follows the distance to the run's end. If not, a longer run continues a shorter one. */
static bool looks_at_the_end(enum rdp_schedule_kind schedule)
{
    return schedule == RDP_SCHEDULE_COSINE || schedule == RDP_SCHEDULE_ONECYCLE || schedule == RDP_SCHEDULE_POLYNOMIAL;
}

bool rdp_options_given(const struct rdp_options *options, const char *name)
{
    return options->given[rdp_option_find(name) - rdp_option_rows];
}

void rdp_option_copy(const struct rdp_option *option, struct rdp_options *to, const struct rdp_options *from)
{
    char text[RDP_OPTION_TEXT_MAX], reason[RDP_OPTION_REASON_MAX];
    rdp_option_set(option, to, rdp_option_format(option, from, text), reason);
}

void rdp_options_overlay(struct rdp_options *options, const struct rdp_options *from)
{
    for (size_t i = 0; i < rdp_option_count; i++) {
        if (!from->given[i])
            continue;
        rdp_option_copy(&rdp_option_rows[i], options, from);
        options->given[i] = true;
    }
}

/* --schedule plateau goes by the evaluations, so what they are decides the training's result. */
static bool decides(const struct rdp_option *option, bool plateau)
{
    const bool of_evaluations = option->offset == FIELD(evaluate_every) || option->offset == FIELD(evaluate_views) ||
                                option->offset == FIELD(evaluate_weights);
    return (option->flags & RDP_OPTION_DECIDES) || (plateau && of_evaluations);
}

void rdp_options_differences(const struct rdp_options *a, const struct rdp_options *b, char *names, size_t size)
{
    char text_a[RDP_OPTION_TEXT_MAX], text_b[RDP_OPTION_TEXT_MAX];
    size_t used = 0;
    if (size > 0)
        names[0] = '\0';
    for (size_t i = 0; i < rdp_option_count && used < size; i++) {
        const struct rdp_option *option = &rdp_option_rows[i];
        if (!decides(option, a->schedule == RDP_SCHEDULE_PLATEAU))
            continue;
        if (option->offset == FIELD(epochs) && a->schedule == b->schedule && !looks_at_the_end(a->schedule))
            continue;
        if (strcmp(rdp_option_format(option, a, text_a), rdp_option_format(option, b, text_b)) != 0)
            used += (size_t)snprintf(names + used, size - used, "%s%s", used == 0 ? "" : ", ", option->name);
    }
}

const char *rdp_precision_text(const struct rdp_options *options)
{
    return options->precision == RDP_BF16 ? "bf16" : options->precision == RDP_TF32 ? "tf32" : "fp32";
}

/* What an optimiser's options are unless the user says otherwise; the order is enum rdp_optimizer's. PyTorch's values,
 * but for SGD, whose are those of ResNet training, and LARS and LAMB, which PyTorch does not have. */
static const struct {
    double lr, momentum, weight_decay, epsilon;
} optimizer_defaults[RDP_OPTIMIZERS] = {
    [RDP_OPTIMIZER_SGD] = {0.1, 0.9, 5e-4, 1e-8},    [RDP_OPTIMIZER_ADAM] = {1e-3, 0.9, 0, 1e-8},
    [RDP_OPTIMIZER_ADAMW] = {1e-3, 0.9, 0.01, 1e-8}, [RDP_OPTIMIZER_ADAMAX] = {2e-3, 0.9, 0, 1e-8},
    [RDP_OPTIMIZER_ADAGRAD] = {0.01, 0.9, 0, 1e-10}, [RDP_OPTIMIZER_RMSPROP] = {0.01, 0, 0, 1e-8},
    [RDP_OPTIMIZER_ASGD] = {0.01, 0.9, 0, 1e-8},     [RDP_OPTIMIZER_LARS] = {1, 0.9, 5e-4, 1e-8},
    [RDP_OPTIMIZER_LAMB] = {1e-3, 0.9, 0.01, 1e-6},
};

static void resolve(double *value, double automatic)
{
    if (isnan(*value))
        *value = automatic;
}

void rdp_options_resolve(struct rdp_options *options)
{
    resolve(&options->lr, optimizer_defaults[options->optimizer].lr);
    resolve(&options->momentum, optimizer_defaults[options->optimizer].momentum);
    resolve(&options->weight_decay, optimizer_defaults[options->optimizer].weight_decay);
    resolve(&options->epsilon, optimizer_defaults[options->optimizer].epsilon);
}

void rdp_options_default(struct rdp_options *options)
{
    rdp_options_begin(options);
    rdp_options_resolve(options);
}
