/*
 * The option table and what follows from it alone: defaults, look-up, comparison, checks across options.
 * options_values.c turns values into text and back, options_recipe.c reads and writes recipes, options_parse.c reads
 * the command line and options_help.c prints --help; all walk this table. A new option is a field in options.h and a
 * row here.
 */
#include "options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"
#include "base/text.h"
#include "options_table.h"

_Static_assert(sizeof(enum rdp_block) == sizeof(int), "choices are stored as int");

#define TRAIN    RDP_CMD_TRAIN
#define BENCH    RDP_CMD_BENCH
#define MODEL    (RDP_CMD_TRAIN | RDP_CMD_SUMMARY | RDP_CMD_BENCH)
#define EVAL     RDP_CMD_EVAL
#define NETWORK  (RDP_CMD_EVAL | RDP_CMD_PREDICT) /* take the model from a checkpoint */
#define COMPUTES (TRAIN | BENCH | NETWORK)
#define DECIDES  RDP_OPTION_DECIDES
#define ABOVE    RDP_OPTION_ABOVE_MIN
#define BELOW    RDP_OPTION_BELOW_MAX

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
#define TEXT(name, values, field, initial, flags, commands, help) \
    { \
        GROUP, name, values, RDP_OPTION_TEXT, FIELD(field), initial, 0, 0, flags, commands, help \
    }

const struct rdp_option rdp_option_rows[] = {
#define GROUP "files"
    TEXT("recipe", "FILE", recipe, "", RDP_OPTION_NO_RECIPE, MODEL, "INI file whose keys are option names"),
    TEXT("checkpoint", "FILE", checkpoint, "", 0, NETWORK, "the trained network"),
    TEXT("data", "FILE.h5", data, "cifar10.h5", 0, TRAIN | EVAL, "data set made by prepare"),
    TEXT("run-dir", "DIR", run_dir, "", 0, TRAIN, "where the run is written; default runs/<recipe>-<UTC date-time>"),
    YES_NO("force", force, "no", RDP_OPTION_NO_RECIPE, TRAIN, "reuse a run directory that holds another run"),
    TEXT("from", "PATH", from, "", 0, RDP_CMD_PREPARE,
         "directory with the official CIFAR-10 binaries, or their .tar.gz"),
    YES_NO("synthetic", synthetic, "no", 0, RDP_CMD_PREPARE, "make a small learnable data set instead of reading one"),
    INTEGER("synthetic-train", synthetic_train, "10000", 10, 1000000, 0, RDP_CMD_PREPARE, "synthetic training images"),
    INTEGER("synthetic-test", synthetic_test, "2000", 10, 1000000, 0, RDP_CMD_PREPARE, "synthetic test images"),
    TEXT("out", "PATH", out, "", 0, RDP_CMD_PREPARE | RDP_CMD_PLOT,
         "prepare: the data file to write; plot: the directory to draw into, default the run's"),
#undef GROUP
#define GROUP "model"
    CHOICE("block", "basic|bottleneck", block, "basic", DECIDES, MODEL, "kind of residual block"),
    LIST("blocks", blocks, "2,1,1,1", 1, 1000, DECIDES, MODEL, "residual blocks per stage"),
    INTEGER("stem-width", stem_width, "64", 1, 65536, DECIDES, MODEL, "channels of the first convolution"),
    LIST("widths", widths, "64,128,256,512", 1, 65536, DECIDES, MODEL,
         "channels per stage; bottleneck: of its inner convolution, a stage's output has 4 x as many"),
    CHOICE("activation", "relu|leaky-relu", activation, "relu", DECIDES, MODEL, "non-linearity"),
    REAL("leaky-slope", leaky_slope, "0.01", 0, 1, DECIDES | BELOW, MODEL, "leaky-relu: slope below zero"),
    CHOICE("shortcut", "conv|pad", shortcut, "conv", DECIDES, MODEL,
           "where the shape changes: 1x1 convolution and batch-norm, or every other pixel and zero channels"),
#undef GROUP
#define GROUP "device"
    CHOICE("device", "auto|cpu|cuda", device, "auto", 0, COMPUTES | RDP_CMD_INFO,
           "what computes; auto says what it chose"),
    CHOICE("precision", "fp32|tf32|bf16", precision, "fp32", DECIDES, COMPUTES,
           "of activations and convolutions; weights, statistics and sums are always fp32; tf32: GPUs only"),
    INTEGER("threads", threads, "0", 0, 4096, 0, COMPUTES | RDP_CMD_INFO,
            "CPU threads per rank; 0: as many as it may run on"),
    CHOICE("conv-algorithm", "auto|direct|winograd", conv_algorithm, "auto", DECIDES, COMPUTES,
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
    INTEGER("batch", batch, "128", 1, 1048576, DECIDES, TRAIN | BENCH | EVAL,
            "images per step, over all ranks and micro-batches"),
    INTEGER("accumulate", accumulate, "1", 1, 65536, DECIDES, TRAIN | BENCH, "micro-batches per step, to save memory"),
    INTEGER64("seed", seed, "1", 0, INFINITY, DECIDES, TRAIN | BENCH,
              "initial weights, sample order, augmentation, validation split"),
    INTEGER64("max-steps", max_steps, "0", 0, INFINITY, 0, TRAIN, "end the run after so many steps; 0: no limit"),
    REAL("label-smoothing", label_smoothing, "0", 0, 1, DECIDES | BELOW, TRAIN | BENCH,
         "share of the target spread over all classes"),
#undef GROUP
#define GROUP "optimiser"
    REAL("lr", lr, "0.1", 0, 1000, DECIDES | ABOVE, TRAIN | BENCH, "learning rate; one-cycle: its peak"),
    REAL("momentum", momentum, "0.9", 0, 1, DECIDES | BELOW, TRAIN | BENCH, "of SGD"),
    YES_NO("nesterov", nesterov, "no", DECIDES, TRAIN | BENCH, "Nesterov's momentum"),
    REAL("weight-decay", weight_decay, "5e-4", 0, 1, DECIDES, TRAIN | BENCH, "added to the gradient, times the weight"),
    YES_NO("decay-bn", decay_bn, "yes", DECIDES, TRAIN | BENCH,
           "weight decay also on batch-norm weights and biases and the last bias, as PyTorch does"),
#undef GROUP
#define GROUP "schedule"
    CHOICE("schedule", "constant|step|cosine|onecycle", schedule, "constant", DECIDES, TRAIN, "of the learning rate"),
    REAL("warmup-epochs", warmup_epochs, "0", 0, 1000000, DECIDES, TRAIN,
         "linear rise to the schedule's learning rate"),
    REAL("step-epochs", step_epochs, "30", 0, 1000000, DECIDES | ABOVE, TRAIN, "step: epochs between reductions"),
    REAL("step-gamma", step_gamma, "0.1", 0, 1, DECIDES | ABOVE, TRAIN, "step: factor of a reduction"),
    REAL("onecycle-peak", onecycle_peak, "0.3", 0, 1, DECIDES | ABOVE | BELOW, TRAIN,
         "onecycle: share of all steps that rises"),
    REAL("onecycle-start-div", onecycle_start_div, "25", 1, 1e12, DECIDES, TRAIN, "onecycle: starts at lr / this"),
    REAL("onecycle-final-div", onecycle_final_div, "1e4", 1, 1e12, DECIDES, TRAIN,
         "onecycle: ends at its start / this"),
    CHOICE("lr-scaling", "none|linear|sqrt", lr_scaling, "none", DECIDES, TRAIN,
           "lr times batch / lr-base-batch, or times its square root"),
    INTEGER("lr-base-batch", lr_base_batch, "128", 1, 1048576, DECIDES, TRAIN, "the batch that lr was chosen for"),
#undef GROUP
#define GROUP "augmentation"
    CHOICE("crop", "none|zero|reflect", crop, "reflect", DECIDES, TRAIN | BENCH,
           "random 32x32 crop of the image padded with zeros or its mirror image"),
    INTEGER("crop-padding", crop_padding, "4", 0, 31, DECIDES, TRAIN | BENCH, "pixels added on each side"),
    YES_NO("flip", flip, "yes", DECIDES, TRAIN | BENCH, "mirror half of the images, at random"),
#undef GROUP
#define GROUP "data order and evaluation"
    CHOICE("shuffle", "global|local", shuffle, "global", DECIDES, TRAIN,
           "re-deal the samples to the ranks before every epoch, or let each keep its own"),
    REAL("val-fraction", val_fraction, "0", 0, 1, DECIDES | BELOW, TRAIN,
         "share of the training data kept for validation"),
    CHOICE("evaluate-on", "rank0|all", evaluate_on, "rank0", 0, TRAIN | EVAL, "who evaluates"),
    INTEGER("evaluate-every", evaluate_every, "1", 0, 1000000, 0, TRAIN,
            "epochs between evaluations; 0: only after the last"),
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
    TEXT("resume", "none|auto|FILE", resume, "none", 0, TRAIN,
         "go on from a checkpoint; auto: from the run directory's latest, if any"),
#undef GROUP
#define GROUP "reporting"
    YES_NO("progress", progress, "yes", 0, TRAIN, "progress bar on a terminal, a line now and then elsewhere"),
    YES_NO("step-log", step_log, "no", 0, TRAIN, "write loss and learning rate of every step to steps.csv"),
    INTEGER("report-every", report_every, "0", 0, 256, 0, TRAIN,
            "steps between looks at the loss and at signals; 0: 1 on CPUs, 16 on GPUs"),
    TEXT("profile-steps", "A:B", profile_steps, "", 0, TRAIN,
         "GPU: steps that a profiler collects, as with nsys profile --capture-range=cudaProfilerApi"),
    YES_NO("plot", plot, "yes", 0, TRAIN, "draw loss, accuracy and learning rate when the run ends"),
    INTEGER("top", top, "3", 1, 10, 0, RDP_CMD_PREDICT, "classes to print per image"),
    INTEGER("steps", steps, "10", 1, 1000000, 0, BENCH, "timed steps per repeat"),
    INTEGER("repeats", repeats, "5", 1, 10000, 0, BENCH, "repeats; the median counts"),
    TEXT("json", "FILE", json, "", 0, BENCH, "also write the results as JSON"),
#undef GROUP
};
const size_t rdp_option_count = sizeof rdp_option_rows / sizeof rdp_option_rows[0];

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

const char *rdp_option_nearest(const char *name, unsigned commands, bool recipe)
{
    const char *names[128];
    size_t count = 0, length = strlen(name);
    for (size_t i = 0; i < rdp_option_count && count < 128; i++)
        if ((rdp_option_rows[i].commands & commands) && (!recipe || rdp_option_in_recipe(&rdp_option_rows[i])))
            names[count++] = rdp_option_rows[i].name;
    const char *nearest = rdp_nearest_name(name, names, count);
    /* "weight" is far from "weight-decay" by distance, and yet plain. */
    for (size_t i = 0; i < count && nearest == NULL && length >= 3; i++)
        if (strncmp(names[i], name, length) == 0)
            nearest = names[i];
    return nearest == NULL ? "" : nearest;
}

void rdp_options_default(struct rdp_options *options)
{
    char reason[RDP_OPTION_REASON_MAX];
    memset(options, 0, sizeof *options);
    for (size_t i = 0; i < rdp_option_count; i++)
        if (rdp_option_rows[i].initial[0] != '\0')
            rdp_option_set(&rdp_option_rows[i], options, rdp_option_rows[i].initial, reason);
}

void rdp_options_differences(const struct rdp_options *a, const struct rdp_options *b, char *names, size_t size)
{
    char text_a[RDP_OPTION_TEXT_MAX], text_b[RDP_OPTION_TEXT_MAX];
    size_t used = 0;
    if (size > 0)
        names[0] = '\0';
    for (size_t i = 0; i < rdp_option_count && used < size; i++) {
        const struct rdp_option *option = &rdp_option_rows[i];
        if (!(option->flags & RDP_OPTION_DECIDES))
            continue;
        /* A longer run is the shorter one continued, unless the learning rate follows the distance to the end. */
        if (option->offset == FIELD(epochs) && a->schedule == b->schedule &&
            (a->schedule == RDP_SCHEDULE_CONSTANT || a->schedule == RDP_SCHEDULE_STEP))
            continue;
        if (strcmp(rdp_option_format(option, a, text_a), rdp_option_format(option, b, text_b)) != 0)
            used += (size_t)snprintf(names + used, size - used, "%s%s", used == 0 ? "" : ", ", option->name);
    }
}

/* An option-A shortcut can only add channels. */
static int check_pad_shortcut(const struct rdp_options *options)
{
    int before = options->stem_width;
    for (int i = 0; i < options->widths.count; i++) {
        int output = options->widths.values[i] * (options->block == RDP_BLOCK_BOTTLENECK ? 4 : 1);
        if (output < before)
            return rdp_fail(RDP_EUSAGE,
                            "--shortcut pad: stage %d narrows from %d to %d channels, and padding can only add some; "
                            "raise --widths or use --shortcut conv",
                            i + 1, before, output);
        before = output;
    }
    return RDP_OK;
}

const char *rdp_precision_text(const struct rdp_options *options)
{
    return options->precision == RDP_BF16 ? "bf16" : options->precision == RDP_TF32 ? "tf32" : "fp32";
}

int rdp_options_profile(const struct rdp_options *options, int64_t *first, int64_t *last)
{
    const char *text = options->profile_steps;
    char *colon, *end;
    *first = *last = 0;
    if (text[0] == '\0')
        return RDP_OK;
    *first = strtoll(text, &colon, 10);
    *last = *colon == ':' ? strtoll(colon + 1, &end, 10) : 0;
    if (*colon != ':' || end == colon + 1 || *end != '\0' || *first < 1 || *last < *first)
        return rdp_fail(RDP_EUSAGE, "--profile-steps %s: give the first and the last step, from 1, as in 100:110",
                        text);
    return RDP_OK;
}

int rdp_options_check(const struct rdp_options *options)
{
    int64_t first, last;
    RDP_TRY(rdp_options_profile(options, &first, &last));
    if (options->blocks.count != options->widths.count)
        return rdp_fail(RDP_EUSAGE, "--blocks has %d stages, --widths has %d: give both one number per stage",
                        options->blocks.count, options->widths.count);
    if (options->shortcut == RDP_SHORTCUT_PAD)
        RDP_TRY(check_pad_shortcut(options));
    if (options->batch % options->accumulate != 0)
        return rdp_fail(RDP_EUSAGE,
                        "--batch %d is not a multiple of --accumulate %d: micro-batches must be of one size",
                        options->batch, options->accumulate);
    if (options->warmup_epochs >= options->epochs)
        return rdp_fail(RDP_EUSAGE, "--warmup-epochs %g leaves nothing of --epochs %d: choose a shorter warm-up",
                        options->warmup_epochs, options->epochs);
    if (options->schedule == RDP_SCHEDULE_ONECYCLE && options->warmup_epochs > 0)
        return rdp_fail(RDP_EUSAGE,
                        "--warmup-epochs %g with --schedule onecycle: one-cycle has its own rise, set by "
                        "--onecycle-peak and --onecycle-start-div; drop --warmup-epochs or choose another schedule",
                        options->warmup_epochs);
    if (options->fuse_statistics == RDP_FUSE_STATISTICS_YES && options->precision != RDP_BF16)
        return rdp_fail(RDP_EUSAGE,
                        "--fuse-statistics yes with --precision %s: only bf16 convolutions can; take "
                        "--precision bf16 or --fuse-statistics no",
                        rdp_precision_text(options));
    if (options->nesterov && options->momentum == 0)
        return rdp_fail(RDP_EUSAGE, "--nesterov needs a --momentum above 0");
    return RDP_OK;
}
