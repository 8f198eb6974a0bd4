/*
 * Whole networks on the CUDA device: ten training steps against PyTorch (tests/reference/, as test-pytorch.c does for
 * the CPU) in f32, tf32 and bf16, twenty with every optimiser in f32, and a recorded step against the same step run as
 * it is, bit for bit. Exit 77 without a GPU.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/memory.h"
#include "support_devices.h"
#include "support_network.h"
#include "support_optimisers.h"
#include "support_training.h"

static const char *const files[] = {"basic", "bottleneck", "pooled", "smooth", "plain"};
static const char *const precision_names[] = {"f32", "tf32", "bf16"};

/*
 * f32: as test-pytorch.c with algorithms that the library chooses. The others show that the network is put together
 * right, not how exact its operations are (gpu-devices.c does that): with batches of 3 and 4 images, rounding moves some
 * pre-activations over ReLU's kink and with them whole elements of the gradient, and ten steps at the runs' high rates
 * multiply that. The CPU in bf16 is off by 8e-2, 1.3e-1, 1.5e-1, 2.3e-1 and 4.5e-1; about three times that is allowed. A
 * wrong operation would leave errors of 1 and more in the gradients.
 */
static const double tolerances[3][RDP_FOLLOWED_KINDS] = {
    {[RDP_FOLLOWED_LOSS] = 1e-4,
     [RDP_FOLLOWED_GRADIENT] = 1e-4,
     [RDP_FOLLOWED_FINAL] = 1e-3,
     [RDP_FOLLOWED_STATE] = 1e-4,
     [RDP_FOLLOWED_LOGITS] = 1e-3},
    {[RDP_FOLLOWED_LOSS] = 0.15,
     [RDP_FOLLOWED_GRADIENT] = 0.2,
     [RDP_FOLLOWED_FINAL] = 0.3,
     [RDP_FOLLOWED_STATE] = 0.4,
     [RDP_FOLLOWED_LOGITS] = 1},
    {[RDP_FOLLOWED_LOSS] = 0.25,
     [RDP_FOLLOWED_GRADIENT] = 0.4,
     [RDP_FOLLOWED_FINAL] = 0.5,
     [RDP_FOLLOWED_STATE] = 0.7,
     [RDP_FOLLOWED_LOGITS] = 1.5},
};

/* The first `count` of the references; closes the device. */
static void follow(struct rdp_device *device, int count)
{
    if (device == NULL) /* there is a GPU, but without this precision */
        skip();
    const enum rdp_kernel_precision precision = device->config.precision;
    for (int i = 0; i < count; i++) {
        struct rdp_reference reference;
        struct rdp_outcome outcome = {.run = ""};
        rdp_training_reference(files[i], &reference);
        memcpy(outcome.tolerance, tolerances[precision], sizeof outcome.tolerance);
        snprintf(outcome.run, sizeof outcome.run, "%s, %s", files[i], precision_names[precision]);
        rdp_training_follow(&reference, device, &outcome);
        rdp_reference_free(&reference);
    }
    rdp_device_close(device);
}

static void test_f32(void **unused)
{
    (void)unused;
    follow(rdp_open_cuda(RDP_KERNEL_F32), 5);
}

static void test_tf32(void **unused)
{
    (void)unused;
    follow(rdp_open_cuda(RDP_KERNEL_TF32), 5);
}

static void test_bf16(void **unused)
{
    (void)unused;
    follow(rdp_open_cuda(RDP_KERNEL_BF16), 5);
}

/* Batch-norm statistics from the convolutions: bf16's tolerances, and no other rounding. The widths of `bottleneck` are no
 * multiples of 8. */
static void test_fused(void **unused)
{
    (void)unused;
    follow(rdp_open_cuda_fused(), 1);
}

/* All that a step changes, on the host: parameters, running statistics, the updater's arrays. */
enum { ARRAYS_MAX = RDP_UPDATER_ARRAYS_MAX + 2, STEPS = 6, WARM = 2, BATCH = 5 };
struct snapshot {
    float *values[ARRAYS_MAX];
    double losses[STEPS];
};

static int list_arrays(const struct rdp_training *training, struct rdp_updater_array arrays[ARRAYS_MAX])
{
    arrays[0] = (struct rdp_updater_array){"parameters", training->network->parameters, false};
    arrays[1] = (struct rdp_updater_array){"state", training->network->state, true};
    return 2 + rdp_updater_arrays(training->updater, arrays + 2);
}

static size_t array_bytes(const struct rdp_training *training, const struct rdp_updater_array *array)
{
    const struct rdp_network *network = training->network;
    return (array->of_state ? network->state_count : network->parameter_count) * sizeof(float);
}

static void take(struct rdp_training *training, struct snapshot *snapshot)
{
    struct rdp_updater_array arrays[ARRAYS_MAX];
    const int count = list_arrays(training, arrays);
    for (int i = 0; i < count; i++) {
        const size_t bytes = array_bytes(training, &arrays[i]);
        RDP_MUST(rdp_calloc((void **)&snapshot->values[i], 1, bytes, "a snapshot"));
        RDP_MUST(training->device->ops->download(training->device, snapshot->values[i], arrays[i].flat, bytes));
    }
}

static void put_back(struct rdp_training *training, const struct snapshot *snapshot)
{
    struct rdp_updater_array arrays[ARRAYS_MAX];
    const int count = list_arrays(training, arrays);
    for (int i = 0; i < count; i++)
        RDP_MUST(training->device->ops->upload(training->device, arrays[i].flat, snapshot->values[i],
                                               array_bytes(training, &arrays[i])));
    RDP_MUST(rdp_network_weights_changed(training->network));
    training->steps = 0;
}

/* Some steps as they are, the rest from a recording, each on its own samples. */
static void train(struct rdp_training *training, int as_they_are, struct snapshot *end)
{
    const struct rdp_device_ops *ops = training->device->ops;
    struct rdp_recording *recording = NULL;
    for (int step = 0; step < STEPS; step++) {
        rdp_training_load(training, (int64_t)step * training->batch);
        if (step < as_they_are) {
            rdp_training_step(training);
        } else {
            if (recording == NULL) {
                RDP_MUST(ops->record_begin(training->device));
                rdp_training_step(training);
                RDP_MUST(ops->record_end(training->device, &recording));
            }
            RDP_MUST(ops->replay(training->device, recording));
        }
        end->losses[step] = rdp_training_loss(training);
    }
    ops->recording_destroy(training->device, recording);
    take(training, end);
}

static void free_snapshot(struct snapshot *snapshot)
{
    for (int i = 0; i < ARRAYS_MAX; i++)
        free(snapshot->values[i]);
}

/* One network for both, so that both run the same convolution plans. */
static void compare_recording(struct rdp_device *device, const struct rdp_options *options)
{
    struct rdp_training training;
    struct snapshot start = {.losses = {0}}, eager = start, recorded = start;
    struct rdp_updater_array arrays[ARRAYS_MAX];
    rdp_training_open(&training, device, options, BATCH);
    training.steps = 0; /* opening has loaded a batch already */
    take(&training, &start);
    train(&training, STEPS, &eager);
    put_back(&training, &start);
    train(&training, WARM, &recorded);
    const int count = list_arrays(&training, arrays);
    for (int i = 0; i < count; i++) {
        const size_t bytes = array_bytes(&training, &arrays[i]);
        assert_memory_equal(recorded.values[i], eager.values[i], bytes);
        assert_memory_not_equal(start.values[i], eager.values[i], bytes); /* it did learn */
    }
    assert_memory_equal(recorded.losses, eager.losses, sizeof eager.losses);
    assert_true(eager.losses[STEPS - 1] != eager.losses[0]);
    free_snapshot(&start);
    free_snapshot(&eager);
    free_snapshot(&recorded);
    rdp_training_close(&training);
}

static void test_recorded_step(void **unused)
{
    static const int blocks[] = {1, 2, 0}, widths[] = {12, 30};
    (void)unused;
    for (int precision = RDP_KERNEL_F32; precision <= RDP_KERNEL_BF16; precision++) {
        struct rdp_device *device = rdp_open_cuda((enum rdp_kernel_precision)precision);
        if (device == NULL) /* there is a GPU, but without this precision */
            continue;
        for (int form = 0; form < 2; form++) {
            struct rdp_test_setup setup =
                rdp_test_setup(form ? RDP_BLOCK_BOTTLENECK : RDP_BLOCK_BASIC, blocks, 10, widths);
            setup.options.shortcut = form ? RDP_SHORTCUT_CONV : RDP_SHORTCUT_PAD;
            setup.options.lr = 0.05;
            compare_recording(device, &setup.options);
            setup.options.dropout.values[0] = 0.3; /* what they draw changes from replay to replay */
            setup.options.mixup = setup.options.cutmix = 1;
            setup.options.freeze_stem = form;
            compare_recording(device, &setup.options);
        }
        rdp_device_close(device);
    }
}

/* Every array that an updater can keep, and all that changes per step: bias corrections, the steps of lookahead. */
static void test_recorded_optimiser(void **unused)
{
    static const int blocks[] = {1, 1, 0}, widths[] = {8, 16};
    static const enum rdp_optimizer optimisers[] = {RDP_OPTIMIZER_ADAMW, RDP_OPTIMIZER_LAMB};
    (void)unused;
    for (int precision = RDP_KERNEL_F32; precision <= RDP_KERNEL_BF16; precision++) {
        struct rdp_device *device = rdp_open_cuda((enum rdp_kernel_precision)precision);
        if (device == NULL) /* there is a GPU, but without this precision */
            continue;
        for (int i = 0; i < 2; i++) {
            struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, blocks, 8, widths);
            setup.options.optimizer = optimisers[i];
            setup.options.lr = 0.002;
            setup.options.lookahead = 4;
            setup.options.ema = 0.9;
            setup.options.clip_norm = 0.5;
            compare_recording(device, &setup.options);
        }
        rdp_device_close(device);
    }
}

/* As test-pytorch.c. */
static void test_optimisers(void **unused)
{
    static const struct rdp_optimiser_tolerances limits = {.loss = 1e-5, .parameters = 1e-4, .state = 1e-4};
    struct rdp_device *device = rdp_open_cuda(RDP_KERNEL_F32);
    (void)unused;
    rdp_optimisers_follow(device, &limits);
    rdp_device_close(device);
}

/* With every convolution's statistics fused: the network says so, and evaluation does without. */
static void test_recorded_fused_step(void **unused)
{
    static const int blocks[] = {1, 1, 0}, widths[] = {8, 24};
    struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, blocks, 16, widths);
    struct rdp_device *device = rdp_open_cuda_fused();
    struct rdp_training training;
    char text[1024];
    (void)unused;
    if (device == NULL)
        skip();
    setup.options.lr = 0.05;
    rdp_training_open(&training, device, &setup.options, BATCH);
    rdp_network_algorithms(training.network, text, sizeof text);
    if (strstr(text, "; 7 of 7 with batch-norm statistics") == NULL)
        fail_msg("not all convolutions are fused: %s", text);
    rdp_training_close(&training);
    compare_recording(device, &setup.options);
    rdp_device_close(device);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f32),   cmocka_unit_test(test_tf32),          cmocka_unit_test(test_bf16),
        cmocka_unit_test(test_fused), cmocka_unit_test(test_recorded_step), cmocka_unit_test(test_recorded_fused_step),
        cmocka_unit_test(test_recorded_optimiser), cmocka_unit_test(test_optimisers),
    };
    char why[256];
    if (rdp_cuda_device_count(why, sizeof why) == 0) {
        print_message("skipped: %s\n", why);
        return 77;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
