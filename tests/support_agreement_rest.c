/* The cases of augmentation, padded shortcut, pools, head and flat arrays; see support_agreement.h. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "kernels/common/optimiser.h"
#include "support_agreement.h"
#include "support_network.h"
#include "support_update.h"

enum { SIDE = 32, IMAGE_BYTES = SIDE * SIDE * 3, IMAGES = 24 };

#define CASES(operation, arguments, run, table) \
    { \
        operation, arguments, run, table, sizeof(table) / sizeof *(table) \
    }

enum { CROP, PADDING, FLIP, ENABLED, EPOCH, AUGMENT_BATCH, AUGMENT_CHUNK, MORE };
enum {
    TURN = 1,
    SMOOTH = 2,
    JITTER = 4,
    ERASE = 8,
    CUT = 16,
    BLACK = 32,
    MIRROR = 64,
    SHIFT = 128,
    EVERYTHING = 31
}; /* of MORE */
static const int augmentations[][RDP_CASE_ARGUMENTS] = {
    {RDP_PAD_NONE, 4, 0, 1, 0, 3, 3},
    {RDP_PAD_NONE, 4, 1, 1, 1, 8, 4},
    {RDP_PAD_ZERO, 4, 0, 1, 2, 8, 8},
    {RDP_PAD_ZERO, 4, 1, 1, 3, 1, 1},
    {RDP_PAD_REFLECT, 4, 0, 1, 4, 8, 2},
    {RDP_PAD_REFLECT, 4, 1, 1, 5, 24, 24},
    {RDP_PAD_REFLECT, 31, 1, 1, 6, 8, 8},
    {RDP_PAD_ZERO, 31, 1, 1, 7, 8, 8},
    {RDP_PAD_REFLECT, 4, 1, 0, 8, 3, 1},
    {RDP_PAD_ZERO, 1, 1, 1, 4000000, 24, 8},
    {RDP_PAD_REFLECT, 4, RDP_FLIP_ALTERNATING, 1, 3, 24, 8},
    {RDP_PAD_NONE, 4, 0, 0, 3, 8, 8, MIRROR},
    {RDP_PAD_REFLECT, 4, 0, 0, 3, 8, 8, MIRROR | SHIFT},
    {RDP_PAD_REFLECT, 4, 1, 0, 3, 8, 8, EVERYTHING},
    {RDP_PAD_NONE, 4, 0, 1, 1, 24, 24, TURN},
    {RDP_PAD_ZERO, 4, 1, 1, 2, 24, 24, TURN | SMOOTH},
    {RDP_PAD_NONE, 4, 0, 1, 3, 24, 8, JITTER},
    {RDP_PAD_NONE, 4, 0, 1, 4, 24, 8, ERASE},
    {RDP_PAD_NONE, 4, 0, 1, 5, 24, 24, CUT},
    {RDP_PAD_NONE, 4, 0, 1, 6, 24, 12, ERASE | CUT | BLACK},
    {RDP_PAD_REFLECT, 4, RDP_FLIP_ALTERNATING, 1, 7, 24, 24, EVERYTHING},
    {RDP_PAD_ZERO, 4, 1, 1, 8, 24, 3, EVERYTHING & ~SMOOTH},
};

static void turn_on(struct rdp_augment *augment, int more)
{
    augment->interpolation = more & SMOOTH ? RDP_BILINEAR : RDP_NEAREST;
    augment->erase_mean = !(more & BLACK);
    augment->mirror = (more & MIRROR) != 0;
    augment->shift = more & SHIFT ? 1 : 0;
    if (more & TURN) {
        augment->rotation_min = -40;
        augment->rotation_max = 100;
    }
    if (more & JITTER) {
        augment->brightness = augment->contrast = augment->saturation = 0.7f;
        augment->hue = 0.5f;
    }
    if (more & ERASE) {
        augment->erase_probability = 0.75f;
        augment->erase_scale[0] = 0.02f;
        augment->erase_scale[1] = 0.9f;
        augment->erase_ratio[0] = 0.3f;
        augment->erase_ratio[1] = 3.3f;
    }
    if (more & CUT)
        augment->cutout = 11;
}

static void run_augment(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const struct rdp_shape shape = {3, SIDE, SIDE};
    const int batch = a[AUGMENT_BATCH];
    struct rdp_augment augment = {.mean = {0.49f, 0.48f, 0.45f},
                                  .std = {0.25f, 0.24f, 0.26f},
                                  .crop = (enum rdp_kernel_crop)a[CROP],
                                  .padding = a[PADDING],
                                  .flip = (enum rdp_kernel_flip)a[FLIP],
                                  .seed = 0x123456789abcdef0,
                                  .enabled = a[ENABLED]};
    const struct rdp_step_values values = {.lr = 1, .epoch = (uint32_t)a[EPOCH]};
    uint8_t *pixels = malloc(IMAGES * IMAGE_BYTES);
    int64_t rows[IMAGES], samples[IMAGES];
    turn_on(&augment, a[MORE]);
    assert_non_null(pixels);
    for (size_t i = 0; i < (size_t)IMAGES * IMAGE_BYTES; i++)
        pixels[i] = (uint8_t)(128 + 128 * rdp_test_value(1, i));
    for (int i = 0; i < IMAGES; i++) {
        rows[i] = (5 * i + 3) % IMAGES;
        samples[i] = 40000 + 977 * i + ((int64_t)(i % 2) << 33);
    }
    struct rdp_guarded blocks[] = {rdp_guarded_of(device, &values, sizeof values),
                                   rdp_guarded_of(device, pixels, IMAGES * IMAGE_BYTES),
                                   rdp_guarded_of(device, rows, (size_t)batch * sizeof *rows),
                                   rdp_guarded_of(device, samples, (size_t)batch * sizeof *samples)};
    struct rdp_activations out = rdp_activations_make(device, shape, batch, true);
    for (int first = batch - a[AUGMENT_CHUNK]; first >= 0; first -= a[AUGMENT_CHUNK])
        RDP_MUST(device->ops->augment(device, &augment, blocks[0].data, blocks[1].data, blocks[2].data, blocks[3].data,
                                      out.block.data, first, a[AUGMENT_CHUNK]));
    rdp_activations_take(&out, rdp_results_add(results, "out", RDP_AGREE_PIXEL, rdp_activations_count(shape, batch)));
    for (int i = 0; i < 4; i++)
        rdp_guarded_free(&blocks[i]);
    rdp_activations_free(&out);
    free(pixels);
}

const struct rdp_case rdp_augment_cases =
    CASES("augmentation", "crop,padding,flip,enabled,epoch,batch,chunk,more", run_augment, augmentations);

enum { PAD_IN, PAD_OUT, PAD_SIZE, PAD_STRIDE, PAD_BATCH, PAD_CHUNK };
static const int pads[][RDP_CASE_ARGUMENTS] = {
    {8, 12, 16, 2, 3, 3},  {12, 30, 8, 2, 8, 4}, {30, 64, 32, 2, 3, 1},
    {64, 128, 8, 2, 8, 8}, {3, 8, 4, 1, 1, 1},   {12, 64, 8, 1, 8, 2},
};

/* What an operation that changes an image's shape works on: x becomes y, and dy dx. */
struct passage {
    size_t in_count, out_count;
    float *x_host, *dy_host;
    struct rdp_activations x, y, dx, dy;
};

static struct passage passage_make(struct rdp_device *device, struct rdp_shape in, struct rdp_shape out, int batch,
                                   struct rdp_results *results)
{
    struct passage p = {.in_count = rdp_activations_count(in, batch), .out_count = rdp_activations_count(out, batch)};
    p.x_host = rdp_results_input(results, p.in_count, 1, 1);
    p.dy_host = rdp_results_input(results, p.out_count, 2, 1);
    p.x = rdp_activations_make(device, in, batch, false);
    p.y = rdp_activations_make(device, out, batch, false);
    p.dx = rdp_activations_make(device, in, batch, false);
    p.dy = rdp_activations_make(device, out, batch, false);
    return p;
}

static void passage_put(struct passage *p)
{
    rdp_activations_put(&p->x, p->x_host);
    rdp_activations_put(&p->dy, p->dy_host);
}

static void passage_finish(struct passage *p, struct rdp_results *results)
{
    rdp_activations_take(&p->y, rdp_results_add(results, "y", RDP_AGREE_EXACT, p->out_count));
    rdp_activations_take(&p->dx, rdp_results_add(results, "dx", RDP_AGREE_EXACT, p->in_count));
    rdp_activations_free(&p->x);
    rdp_activations_free(&p->y);
    rdp_activations_free(&p->dx);
    rdp_activations_free(&p->dy);
    free(p->x_host);
    free(p->dy_host);
}

static void run_pad(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const struct rdp_shape in = {a[PAD_IN], a[PAD_SIZE], a[PAD_SIZE]},
                           out = {a[PAD_OUT], a[PAD_SIZE] / a[PAD_STRIDE], a[PAD_SIZE] / a[PAD_STRIDE]};
    const int batch = a[PAD_BATCH], chunk = a[PAD_CHUNK];
    struct passage p = passage_make(device, in, out, batch, results);
    passage_put(&p);
    for (int first = batch - chunk; first >= 0; first -= chunk) {
        RDP_MUST(device->ops->pad_forward(device, in, out, p.x.block.data, p.y.block.data, first, chunk));
        RDP_MUST(device->ops->pad_backward(device, in, out, p.dy.block.data, p.dx.block.data, first, chunk));
    }
    passage_finish(&p, results);
}

const struct rdp_case rdp_pad_cases = CASES("padded shortcut", "in,out,size,stride,batch,chunk", run_pad, pads);

enum { MAX_POOL_CHANNELS, MAX_POOL_HEIGHT, MAX_POOL_WIDTH, MAX_POOL_BATCH, MAX_POOL_CHUNK };
static const int max_pools[][RDP_CASE_ARGUMENTS] = {
    {3, 2, 2, 1, 1}, {8, 8, 8, 3, 1}, {12, 5, 4, 8, 4}, {30, 4, 7, 3, 3}, {512, 1, 1, 3, 3}, {64, 32, 32, 8, 2},
};

/* Few distinct values: many windows have more than one largest. */
static void run_max_pool(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const struct rdp_shape in = {a[MAX_POOL_CHANNELS], a[MAX_POOL_HEIGHT], a[MAX_POOL_WIDTH]},
                           out = rdp_shape_strided(in, in.channels, 2);
    const int batch = a[MAX_POOL_BATCH], chunk = a[MAX_POOL_CHUNK];
    struct passage p = passage_make(device, in, out, batch, results);
    for (size_t i = 0; i < p.in_count; i++)
        p.x_host[i] = floorf(4 * p.x_host[i]) / 4;
    passage_put(&p);
    for (int first = batch - chunk; first >= 0; first -= chunk) {
        RDP_MUST(device->ops->max_pool_forward(device, in, p.x.block.data, p.y.block.data, first, chunk));
        RDP_MUST(
            device->ops->max_pool_backward(device, in, p.x.block.data, p.dy.block.data, p.dx.block.data, first, chunk));
    }
    passage_finish(&p, results);
}

const struct rdp_case rdp_max_pool_cases =
    CASES("max-pool", "channels,height,width,batch,chunk", run_max_pool, max_pools);

enum { POOL_CHANNELS, POOL_SIZE, POOL_BATCH, POOL_CHUNK };
static const int pools[][RDP_CASE_ARGUMENTS] = {
    {3, 4, 1, 1}, {8, 8, 3, 1}, {12, 4, 8, 4}, {30, 16, 3, 3}, {64, 4, 8, 8}, {512, 4, 3, 3}, {64, 32, 8, 2},
};

static void run_pool(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const struct rdp_shape shape = {a[POOL_CHANNELS], a[POOL_SIZE], a[POOL_SIZE]};
    const int batch = a[POOL_BATCH], chunk = a[POOL_CHUNK];
    const size_t count = rdp_activations_count(shape, batch), features = (size_t)(batch * shape.channels);
    float *x_host = rdp_results_input(results, count, 1, 1), *d_host = rdp_results_input(results, features, 2, 1);
    struct rdp_activations x = rdp_activations_make(device, shape, batch, false),
                           dx = rdp_activations_make(device, shape, batch, false);
    struct rdp_guarded pooled = rdp_guarded_make(device, features * sizeof(float)),
                       dpooled = rdp_guarded_of(device, d_host, features * sizeof(float));
    rdp_activations_put(&x, x_host);
    for (int first = batch - chunk; first >= 0; first -= chunk) {
        RDP_MUST(device->ops->pool_forward(device, shape, x.block.data, pooled.data, first, chunk));
        RDP_MUST(device->ops->pool_backward(device, shape, dpooled.data, dx.block.data, first, chunk));
    }
    rdp_guarded_take(&pooled, rdp_results_add(results, "features", RDP_AGREE_F32, features));
    rdp_activations_take(&dx, rdp_results_add(results, "dx", RDP_AGREE_STORED, count));
    rdp_activations_free(&x);
    rdp_activations_free(&dx);
    rdp_guarded_free(&pooled);
    rdp_guarded_free(&dpooled);
    free(x_host);
    free(d_host);
}

const struct rdp_case rdp_pool_cases = CASES("pool", "channels,size,batch,chunk", run_pool, pools);

enum { FC_BATCH, FC_CHANNELS, FC_CLASSES };
static const int fcs[][RDP_CASE_ARGUMENTS] = {
    {1, 3, 10}, {3, 30, 10}, {8, 64, 10}, {8, 12, 2}, {3, 512, 10}, {130, 64, 10}, {8, 2048, 100}, {513, 8, 10},
};

static void run_fc(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const size_t batch = (size_t)a[FC_BATCH], channels = (size_t)a[FC_CHANNELS], classes = (size_t)a[FC_CLASSES];
    const size_t counts[] = {batch * channels, classes * channels, classes, batch * classes};
    struct rdp_guarded in[4], out[4];
    for (uint32_t i = 0; i < 4; i++) {
        float *values = rdp_results_input(results, counts[i], 1 + i, 1);
        in[i] = rdp_guarded_of(device, values, counts[i] * sizeof *values);
        out[i] = rdp_guarded_make(device, counts[i] * sizeof *values);
        free(values);
    }
    RDP_MUST(device->ops->fc_forward(device, a[FC_BATCH], a[FC_CHANNELS], a[FC_CLASSES], in[0].data, in[1].data,
                                     in[2].data, out[3].data));
    RDP_MUST(device->ops->fc_backward(device, a[FC_BATCH], a[FC_CHANNELS], a[FC_CLASSES], in[0].data, in[1].data,
                                      in[3].data, out[1].data, out[2].data, out[0].data));
    static const char *const names[] = {"dfeatures", "dweight", "dbias", "logits"};
    for (int i = 0; i < 4; i++) {
        rdp_guarded_take(&out[i], rdp_results_add(results, names[i], RDP_AGREE_F32, counts[i]));
        rdp_guarded_free(&in[i]);
        rdp_guarded_free(&out[i]);
    }
}

const struct rdp_case rdp_fc_cases = CASES("fully connected", "batch,channels,classes", run_fc, fcs);

enum { LOSS_BATCH, LOSS_VALID, LOSS_CLASSES, LOSS_SMOOTHING, LOSS_SCALE, LOSS_GRADIENT, LOSS_MAGNITUDE, LOSS_MIX };
static const int losses[][RDP_CASE_ARGUMENTS] = {
    /* smoothing and the own label's weight in hundredths, scale as 1 / n; weight 0: not mixed */
    {1, 1, 10, 0, 1, 1, 1},  {3, 2, 10, 10, 3, 1, 5},      {8, 8, 10, 0, 8, 1, 80},   {8, 5, 10, 20, 8, 0, 5},
    {8, 0, 10, 10, 8, 1, 5}, {300, 257, 10, 5, 300, 1, 5}, {130, 130, 2, 0, 1, 1, 5}, {64, 63, 100, 10, 64, 1, 5},
    {8, 8, 10, 0, 8, 1, 5, 70},  {7, 7, 10, 10, 7, 1, 5, 100},  {300, 300, 10, 10, 1, 0, 5, 25},
    {65, 65, 100, 5, 65, 1, 5, 37},
};

static void run_loss(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    const int batch = a[LOSS_BATCH], classes = a[LOSS_CLASSES];
    const size_t count = (size_t)(batch * classes);
    const float before[2] = {1.25f, 3};
    float *host = rdp_results_input(results, count, 1, (float)a[LOSS_MAGNITUDE]);
    uint8_t *labels_host = malloc((size_t)batch);
    assert_non_null(labels_host);
    for (int n = 0; n < batch; n++)
        labels_host[n] = (uint8_t)((7 * n + 3) % classes);
    const struct rdp_step_values mixed = {.mix = (float)a[LOSS_MIX] / 100};
    struct rdp_guarded logits = rdp_guarded_of(device, host, count * sizeof *host),
                       values = rdp_guarded_of(device, &mixed, sizeof mixed),
                       labels = rdp_guarded_of(device, labels_host, (size_t)batch),
                       totals = rdp_guarded_of(device, before, sizeof before),
                       dlogits = rdp_guarded_make(device, count * sizeof *host);
    RDP_MUST(device->ops->loss(device, batch, a[LOSS_VALID], classes, logits.data, labels.data,
                               a[LOSS_MIX] > 0 ? values.data : NULL, (float)a[LOSS_SMOOTHING] / 100,
                               1 / (float)a[LOSS_SCALE],
                               a[LOSS_GRADIENT] ? dlogits.data : NULL, totals.data));
    float after[2];
    rdp_guarded_take(&totals, after);
    rdp_results_add(results, "loss", RDP_AGREE_F32, 1)[0] = after[0];
    rdp_results_add(results, "correct", RDP_AGREE_EXACT, 1)[0] = after[1];
    if (a[LOSS_GRADIENT])
        rdp_guarded_take(&dlogits, rdp_results_add(results, "dlogits", RDP_AGREE_F32, count));
    struct rdp_guarded *blocks[] = {&logits, &values, &labels, &totals, &dlogits};
    for (int i = 0; i < 5; i++)
        rdp_guarded_free(blocks[i]);
    free(host);
    free(labels_host);
}

const struct rdp_case rdp_loss_cases =
    CASES("loss", "batch,valid,classes,smoothing,1/scale,gradient,magnitude,mix", run_loss, losses);

enum { FLAT_KIND, FLAT_COUNT, FLAT_NESTEROV, FLAT_MOMENTUM, FLAT_CLIP_VALUE, FLAT_CLIP_NORM, FLAT_STEPS };
static const int flats[][RDP_CASE_ARGUMENTS] = {
    /* momentum and clip-value in hundredths, clip-norm in hundredths of the gradient's */
    {RDP_SGD, 16, 0, 90, 0, 0, 1},        {RDP_SGD, 48, 1, 90, 50, 0, 3},
    {RDP_SGD, 4096, 1, 85, 0, 50, 2},     {RDP_SGD, 70000 / 16 * 16, 0, 0, 0, 0, 1},
    {RDP_SGD, 1 << 20, 1, 90, 60, 30, 1}, {RDP_ADAM, 20000, 0, 0, 0, 0, 3},
    {RDP_ADAM, 48, 0, 0, 50, 50, 2},      {RDP_ADAMW, 20000, 0, 0, 0, 20, 3},
    {RDP_ADAMAX, 20000, 0, 0, 0, 0, 3},   {RDP_ADAGRAD, 20000, 0, 0, 0, 0, 3},
    {RDP_RMSPROP, 20000, 0, 0, 0, 0, 3},  {RDP_RMSPROP, 20000, 0, 90, 80, 0, 3},
    {RDP_ASGD, 20000, 0, 0, 0, 0, 3},     {RDP_LARS, 20000, 0, 90, 0, 0, 3},
    {RDP_LARS, 40000, 0, 0, 70, 40, 2},   {RDP_LAMB, 16, 0, 0, 0, 0, 2},
    {RDP_LAMB, 40000, 0, 0, 0, 0, 3},     {RDP_LAMB, 1 << 18, 0, 0, 0, 30, 2},
};

/* What the optimiser wrote along for the convolutions is the parameters, rounded to nearest. */
static void check_copies(struct rdp_device *device, const struct rdp_guarded *copies, const float *parameters,
                         size_t count)
{
    if (device->ops->copy_size(device) != 2)
        return;
    uint16_t *bits = malloc(count * sizeof *bits);
    assert_non_null(bits);
    rdp_guarded_take(copies, bits);
    for (size_t i = 0; i < count; i++)
        assert_int_equal(bits[i], rdp_bf16_bits(parameters[i]));
    free(bits);
}

enum { FLAT_ROWS_MAX = 128 };

/* Rows that end anywhere in a block, now and then with blocks between them: small ones as batch-norm's, large ones over
 * slices; decays, rates and ratios in turns, every ninth frozen. */
static int flat_rows(struct rdp_update_row *rows, size_t elements)
{
    uint64_t offset = 0;
    int count = 0;
    for (; count < FLAT_ROWS_MAX; count++) {
        const uint64_t size = count % 4 == 1 ? 10007 : 13 * (uint64_t)(count % 7) + 5;
        rows[count] = (struct rdp_update_row){.offset = offset,
                                              .count = offset + size > elements ? elements - offset : size,
                                              .weight_decay = count % 3 == 0 ? 0.01f : 0,
                                              .lr = count % 9 == 8 ? 0 : 1 + (float)(count % 2),
                                              .adapts = count % 4 < 2};
        offset = (offset + size + RDP_ROW_BLOCK - 1) / RDP_ROW_BLOCK * RDP_ROW_BLOCK;
        offset += count % 5 == 4 ? RDP_ROW_BLOCK : 0;
        if (offset >= elements)
            return count + 1;
    }
    return count;
}

static struct rdp_optimiser flat_optimiser(const int *a)
{
    const double norm = sqrt((double)a[FLAT_COUNT] / 3); /* of so many numbers uniform in -1 .. 1 */
    return (struct rdp_optimiser){.kind = (enum rdp_optimiser_kind)a[FLAT_KIND],
                                  .momentum = (float)a[FLAT_MOMENTUM] / 100,
                                  .beta1 = 0.9f,
                                  .beta2 = 0.99f,
                                  .epsilon = 1e-3f, /* not so small that what is near 0 decides a direction */
                                  .alpha = 0.9f,
                                  .lambda = 0.01f,
                                  .trust_coefficient = 0.1f,
                                  .nesterov = a[FLAT_NESTEROV],
                                  .clip_value = (float)a[FLAT_CLIP_VALUE] / 100,
                                  .clip_norm = (float)(a[FLAT_CLIP_NORM] / 100.0 * norm)};
}

/* Optimiser steps, each followed by an average and, the last one, by lookahead. */
static void run_flat(struct rdp_device *device, const int *a, struct rdp_results *results)
{
    static const char *const names[] = {"parameters", "first state", "second state", "average", "slow weights"};
    enum { PARAMETERS, FIRST, SECOND, AVERAGE, SLOW, GRADIENTS, FLAT_ARRAYS };
    const size_t count = (size_t)a[FLAT_COUNT], copy_size = device->ops->copy_size(device);
    const struct rdp_optimiser optimiser = flat_optimiser(a);
    const struct rdp_optimiser_decay decay = {.adagrad_lr_decay = 0.1, .asgd_lambda = 0.01, .asgd_alpha = 0.75};
    struct rdp_update_row table[FLAT_ROWS_MAX];
    struct rdp_test_rows rows = rdp_test_rows_of(device, table, flat_rows(table, count), count);
    struct rdp_guarded arrays[FLAT_ARRAYS], copies = rdp_guarded_make(device, count * copy_size);
    for (uint32_t i = 0; i < FLAT_ARRAYS; i++) {
        float *host = rdp_results_input(results, count, 1 + i, i == FIRST || i == SECOND ? 0 : 1);
        arrays[i] = rdp_guarded_of(device, host, count * sizeof *host);
        free(host);
    }
    rows.update.parameters = arrays[PARAMETERS].data;
    rows.update.copies = copy_size > 0 ? copies.data : NULL;
    rows.update.gradients = arrays[GRADIENTS].data;
    rows.update.state[0] = arrays[FIRST].data;
    rows.update.state[1] = arrays[SECOND].data;
    for (int step = 0; step < a[FLAT_STEPS]; step++) {
        struct rdp_step_values values = {
            .lr = 0.3f, .average = step == 0 ? 1 : 0.3f, .lookahead = step == a[FLAT_STEPS] - 1 ? 0.5f : 0};
        float *gradients = rdp_results_input(results, count, 20 + (uint32_t)step, 1);
        rdp_optimiser_values(&optimiser, &decay, step, 0.3, 0.3, values.optimiser);
        struct rdp_guarded at = rdp_guarded_of(device, &values, sizeof values);
        rdp_guarded_put(&arrays[GRADIENTS], gradients);
        RDP_MUST(device->ops->update(device, &optimiser, at.data, &rows.update));
        RDP_MUST(device->ops->average(device, at.data, arrays[AVERAGE].data, arrays[PARAMETERS].data, count - 1));
        RDP_MUST(device->ops->lookahead(device, at.data, arrays[SLOW].data, arrays[PARAMETERS].data, rows.update.copies,
                                        count));
        rdp_guarded_free(&at);
        free(gradients);
    }
    for (int i = PARAMETERS; i <= SLOW; i++)
        rdp_guarded_take(&arrays[i], rdp_results_add(results, names[i], RDP_AGREE_F32, count));
    check_copies(device, &copies, results->result[0].values, count);
    RDP_MUST(
        device->ops->add(device, arrays[AVERAGE].data, arrays[SLOW].data, count - 1)); /* no whole vector at the end */
    rdp_guarded_take(&arrays[AVERAGE], rdp_results_add(results, "sum", RDP_AGREE_F32, count));
    for (int i = 0; i < FLAT_ARRAYS; i++)
        rdp_guarded_free(&arrays[i]);
    rdp_guarded_free(&copies);
    rdp_test_rows_free(&rows);
}

const struct rdp_case rdp_flat_cases =
    CASES("optimiser, averages, add", "kind,count,Nesterov,momentum,clip-value,clip-norm,steps", run_flat, flats);
