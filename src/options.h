/*
 * The options: one table (options.c) that feeds the parser, --help, recipe files, the start banner and the
 * checkpoint's record. Precedence: defaults < recipe < command line. An unknown key or value is an error that names
 * the nearest valid one.
 */
#ifndef RDP_OPTIONS_H
#define RDP_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum { RDP_STAGES_MAX = 8, RDP_PATH_MAX = 1024, RDP_OPTIONS_MAX = 256 };

enum rdp_device_kind { RDP_DEVICE_AUTO, RDP_DEVICE_CPU, RDP_DEVICE_CUDA };
enum rdp_precision { RDP_FP32, RDP_TF32, RDP_BF16 };
enum rdp_block { RDP_BLOCK_BASIC, RDP_BLOCK_BOTTLENECK };
enum rdp_activation { RDP_RELU, RDP_LEAKY_RELU, RDP_GELU };
/* 1x1 convolution + BN; He et al.'s option A (subsample, pad with zeros); none, their plain networks. */
enum rdp_shortcut { RDP_SHORTCUT_CONV, RDP_SHORTCUT_PAD, RDP_SHORTCUT_NONE };
enum rdp_downsample { RDP_DOWNSAMPLE_STRIDE, RDP_DOWNSAMPLE_MAX_POOL };
enum rdp_optimizer {
    RDP_OPTIMIZER_SGD,
    RDP_OPTIMIZER_ADAM,
    RDP_OPTIMIZER_ADAMW,
    RDP_OPTIMIZER_ADAMAX,
    RDP_OPTIMIZER_ADAGRAD,
    RDP_OPTIMIZER_RMSPROP,
    RDP_OPTIMIZER_ASGD,
    RDP_OPTIMIZER_LARS,
    RDP_OPTIMIZER_LAMB,
    RDP_OPTIMIZERS /* how many */
};
enum rdp_schedule_kind {
    RDP_SCHEDULE_CONSTANT,
    RDP_SCHEDULE_STEP,
    RDP_SCHEDULE_MULTISTEP,
    RDP_SCHEDULE_COSINE,
    RDP_SCHEDULE_ONECYCLE,
    RDP_SCHEDULE_POLYNOMIAL,
    RDP_SCHEDULE_PLATEAU
};
enum rdp_anneal { RDP_ANNEAL_COSINE, RDP_ANNEAL_LINEAR };
enum rdp_conv_init { RDP_CONV_INIT_DEFAULT, RDP_CONV_INIT_DIRAC };
enum rdp_stem_init { RDP_STEM_DEFAULT, RDP_STEM_WHITEN };
enum rdp_weights { RDP_WEIGHTS_AUTO, RDP_WEIGHTS_TRAINED, RDP_WEIGHTS_AVERAGED };
enum rdp_views { RDP_VIEWS_1, RDP_VIEWS_2, RDP_VIEWS_6 };
enum rdp_final_test { RDP_FINAL_AUTO, RDP_FINAL_LAST, RDP_FINAL_BEST };
enum rdp_flip { RDP_FLIP_MODE_NONE, RDP_FLIP_MODE_RANDOM, RDP_FLIP_MODE_ALTERNATING };
enum rdp_interpolation { RDP_INTERPOLATE_NEAREST, RDP_INTERPOLATE_BILINEAR };
enum rdp_fill { RDP_FILL_MEAN, RDP_FILL_BLACK };
enum rdp_lr_scaling { RDP_LR_SCALING_NONE, RDP_LR_SCALING_LINEAR, RDP_LR_SCALING_SQRT };
enum rdp_crop { RDP_CROP_NONE, RDP_CROP_ZERO, RDP_CROP_REFLECT };
enum rdp_shuffle { RDP_SHUFFLE_GLOBAL, RDP_SHUFFLE_LOCAL };
enum rdp_evaluate_on { RDP_EVALUATE_RANK0, RDP_EVALUATE_ALL };
enum rdp_transport { RDP_COMM_AUTO, RDP_COMM_MPI, RDP_COMM_NCCL };
enum rdp_conv_algorithm { RDP_CONV_AUTO, RDP_CONV_DIRECT, RDP_CONV_WINOGRAD };
enum rdp_fuse_statistics { RDP_FUSE_STATISTICS_NO, RDP_FUSE_STATISTICS_AUTO, RDP_FUSE_STATISTICS_YES };

struct rdp_int_list {
    int count;
    int values[RDP_STAGES_MAX];
};
struct rdp_real_list {
    int count;
    double values[RDP_STAGES_MAX];
};

struct rdp_options {
    /* files */
    char recipe[RDP_PATH_MAX];  /* --recipe FILE: INI file, keys are option names */
    char data[RDP_PATH_MAX];    /* --data FILE.h5, default cifar10.h5 */
    char run_dir[RDP_PATH_MAX]; /* --run-dir DIR, default "runs/<recipe or resnet>-<UTC date-time>": train fills it */
    bool force;                 /* --force: reuse a run directory that holds another run */
    /* model */
    enum rdp_block block;        /* --block basic|bottleneck, default basic */
    struct rdp_int_list blocks;  /* --blocks 2,1,1,1 */
    int stem_width;              /* --stem-width 64 */
    struct rdp_int_list widths;  /* --widths 64,128,256,512: bottleneck: the inner width, output is 4 x */
    struct rdp_int_list strides; /* --strides 1,2: of the stages' first blocks; the last is also all further stages' */
    enum rdp_downsample downsample; /* --downsample stride|max-pool */
    enum rdp_activation activation; /* --activation relu|leaky-relu|gelu */
    double leaky_slope;             /* --leaky-slope 0.01 */
    enum rdp_shortcut shortcut;     /* --shortcut conv|pad|none */
    struct rdp_real_list dropout;   /* --dropout 0: after each stage; one value for all stages or one per stage */
    bool zero_init_residual;        /* --zero-init-residual yes|no: last BN weight of a block starts at 0 */
    enum rdp_conv_init conv_init;   /* --conv-init default|dirac: 3x3 filters behind the stem start as the identity */
    enum rdp_stem_init stem_init;   /* --stem-init default|whiten: the stem's filters whiten 3x3 patches */
    bool freeze_stem;               /* --freeze-stem yes|no: first convolution and its BN keep their parameters */
    /* device */
    enum rdp_device_kind device;              /* --device auto|cpu|cuda */
    enum rdp_precision precision;             /* --precision fp32|tf32|bf16 */
    int threads;                              /* --threads 0: sized from the affinity mask */
    enum rdp_conv_algorithm conv_algorithm;   /* --conv-algorithm auto|direct|winograd */
    bool graph;                               /* --graph yes|no: GPU: record the step once and replay it */
    enum rdp_fuse_statistics fuse_statistics; /* --fuse-statistics no|auto|yes: GPU, bf16: sums in convolutions */
    char plan_cache[RDP_PATH_MAX]; /* --plan-cache auto|none|FILE: GPU: where timed convolution plans are kept */
    /* training */
    int epochs;             /* --epochs 10 */
    int batch;              /* --batch 128: global batch, over all ranks and micro-batches */
    int accumulate;         /* --accumulate 1: micro-batches per step */
    int64_t seed;           /* --seed 1 */
    int64_t max_steps;      /* --max-steps 0: stop after so many steps of the whole run (0: no limit) */
    double label_smoothing; /* --label-smoothing 0 */
    double mixup, cutmix;   /* --mixup 0, --cutmix 0: alpha of the Beta distribution; 0: off; both: one or the other */
    double clip_value;      /* --clip-value 0: gradients to +-this; 0: off */
    double clip_norm;       /* --clip-norm 0: the whole gradient to this length; 0: off */
    /* optimiser: NaN is "auto" until rdp_options_resolve, which puts in the optimiser's own default */
    enum rdp_optimizer optimizer;      /* --optimizer sgd|adam|... */
    double lr;                         /* --lr auto */
    double momentum;                   /* --momentum auto: sgd, rmsprop, lars */
    bool nesterov;                     /* --nesterov yes|no, default no: sgd */
    double weight_decay;               /* --weight-decay auto */
    bool decay_bn;                     /* --decay-bn yes|no: also BN weight and bias and the fc bias; yes, as PyTorch */
    double bn_weight_lr;               /* --bn-weight-lr 1: learning rate of BN weights, times the others' */
    double bn_bias_lr;                 /* --bn-bias-lr 1: and of BN biases */
    double beta1, beta2;               /* --beta1 0.9 --beta2 0.999: adam, adamw, adamax, lamb */
    double epsilon;                    /* --epsilon auto: adam, adamw, adamax, adagrad, rmsprop, lars, lamb */
    double rmsprop_alpha;              /* --rmsprop-alpha 0.99 */
    double adagrad_lr_decay;           /* --adagrad-lr-decay 0 */
    double asgd_lambda;                /* --asgd-lambda 1e-4 */
    double asgd_alpha;                 /* --asgd-alpha 0.75 */
    double asgd_t0;                    /* --asgd-t0 1e6: steps before averaging begins */
    double trust_coefficient;          /* --trust-coefficient 0.001: lars */
    int lookahead;                     /* --lookahead 0: steps between synchronisations with the slow weights; 0: off */
    double lookahead_alpha;            /* --lookahead-alpha 0.5 */
    double ema;                        /* --ema 0: decay of an exponential moving average of the weights; 0: off */
    enum rdp_weights evaluate_weights; /* --evaluate-weights auto|trained|averaged; auto: averaged with --ema */
    /* schedule */
    enum rdp_schedule_kind schedule; /* --schedule constant|step|multistep|cosine|onecycle|polynomial|plateau */
    double warmup_epochs;            /* --warmup-epochs 0: linear warm-up before/over the schedule */
    double step_epochs;              /* --step-epochs 30: step schedule: lr x gamma every so many epochs */
    int64_t step_steps;              /* --step-steps 0: the same in training steps; 0: --step-epochs counts */
    double step_gamma;               /* --step-gamma 0.1: also multistep's */
    struct rdp_real_list milestones; /* --milestones 30,60,80: multistep: epochs */
    double min_lr;                   /* --min-lr 0: where cosine and polynomial end, what plateau never goes below */
    double polynomial_power;         /* --polynomial-power 1 */
    double plateau_factor;           /* --plateau-factor 0.1 */
    int plateau_patience;            /* --plateau-patience 10: evaluations without improvement that are borne */
    double plateau_threshold;        /* --plateau-threshold 1e-4: relative */
    int plateau_cooldown;            /* --plateau-cooldown 0 */
    double onecycle_peak;            /* --onecycle-peak 0.3: fraction of all steps spent rising */
    double onecycle_start_div;       /* --onecycle-start-div 25: initial lr = lr / this */
    double onecycle_final_div;       /* --onecycle-final-div 1e4: last lr = initial lr / this */
    enum rdp_anneal onecycle_anneal; /* --onecycle-anneal cosine|linear */
    /* --onecycle-momentum 0: off; or two values: at the rate's peak, and at both ends */
    struct rdp_real_list onecycle_momentum;
    enum rdp_lr_scaling lr_scaling; /* --lr-scaling none|linear|sqrt */
    int lr_base_batch;              /* --lr-base-batch 128 */
    /* augmentation */
    enum rdp_crop crop;                            /* --crop none|zero|reflect, default reflect */
    int crop_padding;                              /* --crop-padding 4 */
    enum rdp_flip flip;                            /* --flip none|random|alternating, default random */
    double rotation_min, rotation_max;             /* --rotation-min 0 --rotation-max 0: degrees, counter-clockwise */
    enum rdp_interpolation rotation_interpolation; /* --rotation-interpolation nearest|bilinear */
    double jitter_brightness;                      /* --jitter-brightness 0: factor from 1 - this to 1 + this */
    double jitter_contrast;                        /* --jitter-contrast 0 */
    double jitter_saturation;                      /* --jitter-saturation 0 */
    double jitter_hue;                             /* --jitter-hue 0: turned by -this to this, of a full circle */
    double erase_probability;                      /* --erase-probability 0 */
    double erase_scale_min, erase_scale_max; /* --erase-scale-min 0.02 --erase-scale-max 0.33: share of the image */
    double erase_ratio_min, erase_ratio_max; /* --erase-ratio-min 0.3 --erase-ratio-max 3.3: height / width */
    int cutout;                              /* --cutout 0: side of the square, pixels; 0: off */
    enum rdp_fill erase_fill;                /* --erase-fill mean|black: erasing's and cutout's colour */
    char normalisation[RDP_PATH_MAX];        /* --normalisation dataset|legacy|M,M,M/S,S,S */
    /* data order, evaluation */
    enum rdp_shuffle shuffle;         /* --shuffle global|local */
    double val_fraction;              /* --val-fraction 0 */
    int64_t train_images;             /* --train-images 0: only the first so many of the data set; 0: all */
    enum rdp_views evaluate_views;    /* --evaluate-views 1|2|6: of an image, whose mean logits are evaluated */
    int early_stopping;               /* --early-stopping 0: evaluations without a better validation loss; 0: off */
    enum rdp_final_test final_test;   /* --final-test auto|last|best; auto: best with a validation set, else last */
    enum rdp_evaluate_on evaluate_on; /* --evaluate-on rank0|all */
    int evaluate_every;               /* --evaluate-every 1: epochs; the last one always; 0: only the last */
    /* ranks */
    enum rdp_transport transport; /* --comm auto|mpi|nccl: what sums gradients that lie on GPUs */
    double bucket_mb;             /* --bucket-mb 4: MiB per all-reduce */
    bool overlap;                 /* --overlap yes|no */
    bool sync_bn;                 /* --sync-bn yes|no */
    double comm_timeout;          /* --comm-timeout 120: seconds; 0: none */
    /* checkpoints */
    int checkpoint_epochs;     /* --checkpoint-epochs 1; 0 off */
    int64_t checkpoint_steps;  /* --checkpoint-steps 0 */
    double checkpoint_minutes; /* --checkpoint-minutes 0 */
    int keep;                  /* --keep 3 */
    char resume[RDP_PATH_MAX]; /* --resume none|auto|FILE */
    /* reporting */
    bool progress;    /* --progress yes|no, default yes; a bar on a terminal, plain lines elsewhere */
    bool step_log;    /* --step-log yes|no, default no: loss and learning rate of every step in steps.csv */
    int report_every; /* --report-every 0: steps between looks at the loss; 0: the device's choice */
    char profile_steps
        [RDP_PATH_MAX]; /* --profile-steps A:B: GPU: the steps (from 1) that a profiler collects; "": none */
    bool plot;          /* --plot yes|no, default yes: plots at the end of the run */
    /* other commands */
    char from[RDP_PATH_MAX];             /* prepare: --from DIR|FILE.tar.gz */
    char out[RDP_PATH_MAX];              /* prepare, plot, augment, draw: --out FILE */
    int samples, variants;               /* augment: --samples 8 --variants 8: rows and columns of the sheet */
    char vary[RDP_PATH_MAX];             /* sweep: --vary "lr=0.1,0.3,0.5;batch=64,128" */
    char title[RDP_PATH_MAX];            /* sweep: --title TEXT: of table and plot */
    bool synthetic;                      /* prepare: --synthetic */
    int synthetic_train, synthetic_test; /* prepare: --synthetic-train 10000 --synthetic-test 2000 */
    char checkpoint[RDP_PATH_MAX];       /* eval, predict: --checkpoint FILE */
    int top;                             /* predict: --top 3 */
    int steps;                           /* bench: --steps 10 timed steps per repeat */
    int repeats;                         /* bench: --repeats 5 */
    char json[RDP_PATH_MAX];             /* bench: --json FILE */
    /* words that are no options: image files, the file to inspect, the run directory to plot */
    int argument_count;
    char **arguments; /* point into argv */
    /* by row of the table: set by the command line, or by the section of a sweep's file; not by a recipe */
    bool given[RDP_OPTIONS_MAX];
    enum rdp_optimizer recipe_optimizer; /* what the recipe's values were chosen for; rdp_options_read_recipe sets it */
};

/* Which commands take an option: bits. */
enum {
    RDP_CMD_TRAIN = 1,
    RDP_CMD_PREPARE = 2,
    RDP_CMD_SUMMARY = 4,
    RDP_CMD_EVAL = 8,
    RDP_CMD_PREDICT = 16,
    RDP_CMD_INSPECT = 32,
    RDP_CMD_INFO = 64,
    RDP_CMD_BENCH = 128,
    RDP_CMD_PLOT = 256,
    RDP_CMD_AUGMENT = 512,
    RDP_CMD_DRAW = 1024,
    RDP_CMD_SWEEP = 2048
};

void rdp_options_default(struct rdp_options *options);
/* Parses argv[1..] of `command` ("--name value", "--name=value", "--flag" and "--no-flag" for yes|no options, "--"
 * ends options). Starts from the defaults, reads the recipe named on the command line, then applies the command
 * line; of an option given twice the last counts. Then checks what the command requires and, where it takes model
 * options, calls rdp_options_check(). A sweep's recipe and checks are left to sweep.h, which puts each case together.
 * Words that are no options are moved to argv's front, and options->arguments points there. RDP_EUSAGE with the option,
 * the value, what is valid and the nearest name. */
int rdp_options_parse(struct rdp_options *options, int command, const char *command_name, int argc, char **argv);
/* Which options act (options_effect.c). What --NAME needs to act and these options lack ("--schedule step"), or NULL. */
const char *rdp_options_missing(const struct rdp_options *options, const char *name);
/* Walks, from *next = 0 on, those that the command line gives and that do nothing: their names, then NULL. */
const char *rdp_options_idle(const struct rdp_options *options, size_t *next, const char **needs);
/* The values of the options that act, a group a line; the text is the caller's to free. RDP_ENOMEM. */
int rdp_options_in_force(const struct rdp_options *options, char **text);
/* If the command line has put another optimiser in the place of the recipe's: what of the recipe's values for that one
 * stays in force, as "lr 0.01 (--lr auto: 0.001)"; else "". Returns text. */
char *rdp_options_of_recipe(const struct rdp_options *options, char *text, size_t size);
/* The value of the option of that name, as on the command line. Returns text. */
char *rdp_options_choice(const struct rdp_options *options, const char *name, char *text, size_t size);
/* Applies the keys of an INI text/file (sections are for the reader only: keys are unique). RDP_EUSAGE names file
 * and line. The keys are the train options but --recipe and --force; all commands accept all of them (a recipe
 * serves every command). */
int rdp_options_read_recipe(struct rdp_options *options, const char *path);
int rdp_options_read_text(struct rdp_options *options, const char *text, const char *name);
/* What happens at each [heading] of a file whose sections are sets of options: a sweep's. */
struct rdp_option_sections {
    void *user;
    /* Stores where the section's options are to go; of them, the given ones are marked. false, with the reason. */
    bool (*begin)(void *user, const char *heading, int line, struct rdp_options **options, char *reason, size_t size);
    /* Whether the section that began last may set this option. */
    bool (*takes)(void *user, const char *option);
};
/* Reads such a file with the rules of recipes; a key may stand once in each section. RDP_EUSAGE names file and line. */
int rdp_options_read_sections(const char *path, const struct rdp_option_sections *sections);
/* Whether the command line (or a sweep's section) has the option `name`, which the table must have: its value may equal
 * the default. */
bool rdp_options_given(const struct rdp_options *options, const char *name);
/* Sets in `options` what `from` was given, and marks it as given. */
void rdp_options_overlay(struct rdp_options *options, const struct rdp_options *from);
/* "fp32", as --precision says it. */
const char *rdp_precision_text(const struct rdp_options *options);
/* The first and last step (from 1) of --profile-steps; 0 and 0 without it. RDP_EUSAGE unless "A:B", 1 <= A <= B. */
int rdp_options_profile(const struct rdp_options *options, int64_t *first, int64_t *last);
/* Replaces what is still "auto" among the numbers by the optimiser's default (options.c: the table of optimisers). */
void rdp_options_resolve(struct rdp_options *options);
/* Checks what one option alone cannot know (lists of one length, batch >= accumulate, warm-up < epochs, ...). */
int rdp_options_check(const struct rdp_options *options);
/* The same for augmentation alone, for commands without a model: ranges in order, --normalisation as it should be. */
int rdp_options_check_augmentation(const struct rdp_options *options);
/* What --normalisation says of mean and deviation (of pixels / 255): `dataset` leaves both as they are, those of the
 * data. RDP_EUSAGE for a text that is none of the three. */
int rdp_options_normalisation(const struct rdp_options *options, float mean[3], float std[3]);
/* --help of a command: grouped, with defaults, ranges and choices, from the table. */
void rdp_options_help(FILE *out, int command);
/* All options that a recipe may set with their effective values as an INI text that read_text takes back to the
 * same values (doubles with 17 significant digits where needed). Owned by the caller (free). Groups become
 * sections. */
int rdp_options_to_text(const struct rdp_options *options, char **text);
/* Names of the options whose values differ and which decide the training's result (not paths, threads, reporting),
 * joined by ", " into `names`; "" if none. For resume: what may not change. epochs counts only with a schedule that
 * looks at the run's end (cosine, onecycle, polynomial): otherwise a longer run is the shorter one continued; what
 * decides evaluations (evaluate-every, -flip, -weights) only with plateau, which goes by them. */
void rdp_options_differences(const struct rdp_options *a, const struct rdp_options *b, char *names, size_t size);

#endif
