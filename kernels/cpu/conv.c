/*
 * Convolutions: 3 x 3 ones of stride 1 as Winograd's (conv_winograd.c) where the CPU has AVX-512, all others through
 * oneDNN. Descriptors, algorithms and weight forms are settled when a convolution is created; a call in the step sets
 * three pointers and executes.
 *
 * Weights: the flat arrays hold the form in which backward-weights delivers the gradient, so the gradient is never
 * moved. Forward and backward-data may want other forms (bf16 always does): conv_weights() reorders once per step.
 */
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "kernels/cpu/conv_winograd.h"

enum { FORWARD, BACKWARD_DATA, BACKWARD_WEIGHTS, PASSES };

/* One executable direction; memories are views whose pointers are set per call. */
struct pass {
    dnnl_primitive_t primitive;
    dnnl_memory_t x, w, y, scratchpad;
    const char *algorithm;
};

/* A form of the weights that a pass reads, when it is not the stored one. */
struct weights_copy {
    dnnl_primitive_t reorder;
    dnnl_memory_t from, to;
    void *data; /* what the pass reads: own memory, or the stored weights themselves if reorder is NULL */
    void *owned;
};

struct cpu_conv {
    struct pass passes[PASSES];
    struct weights_copy copies[2]; /* for FORWARD, BACKWARD_DATA */
    struct rdp_md stored;          /* the form in the flat arrays, f32 */
    struct rdp_md plain;           /* OIHW f32 */
    struct cpu_winograd *winograd; /* instead of the passes; or NULL */
};

/* The forms of one convolution's tensors for `batch` images; weights as the library likes. */
struct forms {
    struct rdp_md x, w, dw, y;
    struct rdp_conv_recipe recipe;
};

static void free_forms(struct forms *forms)
{
    rdp_md_free(&forms->x);
    rdp_md_free(&forms->w);
    rdp_md_free(&forms->dw);
    rdp_md_free(&forms->y);
}

static int make_forms(struct rdp_device *device, const struct rdp_conv_desc *desc, int batch, struct forms *forms)
{
    dnnl_data_type_t type = cpu_is_bf16(device) ? dnnl_bf16 : dnnl_f32;
    dnnl_format_tag_t blocked = cpu_state(device)->lanes == 16 ? dnnl_nChw16c : dnnl_nChw8c;
    dnnl_dim_t x[4] = {batch, desc->input.channels, desc->input.height, desc->input.width};
    dnnl_dim_t y[4] = {batch, desc->output.channels, desc->output.height, desc->output.width};
    dnnl_dim_t w[4] = {desc->output.channels, desc->input.channels, desc->kernel, desc->kernel};
    memset(forms, 0, sizeof *forms);
    RDP_DNN(rdp_md_make(&forms->x, 4, x, type, desc->input_is_image ? dnnl_nchw : blocked));
    RDP_DNN(rdp_md_make(&forms->y, 4, y, type, blocked));
    RDP_DNN(rdp_md_make(&forms->w, 4, w, type, dnnl_format_tag_any));
    RDP_DNN(rdp_md_make(&forms->dw, 4, w, dnnl_f32, dnnl_format_tag_any));
    forms->recipe = (struct rdp_conv_recipe){
        .x = rdp_md_view(&forms->x),
        .y = rdp_md_view(&forms->y),
        .w = rdp_md_view(&forms->w),
        .strides = {desc->stride, desc->stride},
        .padding = {desc->kernel / 2, desc->kernel / 2},
    };
    return RDP_OK;
}

static dnnl_status_t pass_pd(struct rdp_device *device, const struct rdp_conv_desc *desc, struct forms *forms,
                             int direction, dnnl_alg_kind_t algorithm, dnnl_primitive_desc_t hint,
                             dnnl_primitive_desc_t *pd)
{
    dnnl_engine_t engine = cpu_state(device)->engine;
    forms->recipe.algorithm = algorithm;
    forms->recipe.w = rdp_md_view(direction == BACKWARD_WEIGHTS ? &forms->dw : &forms->w);
    switch (direction) {
    case FORWARD:
        return rdp_conv_forward_pd(pd, engine, &forms->recipe, desc->training);
    case BACKWARD_DATA:
        return rdp_conv_backward_data_pd(pd, engine, &forms->recipe, hint);
    default:
        return rdp_conv_backward_weights_pd(pd, engine, &forms->recipe, hint);
    }
}

static int choose_pd(struct rdp_device *device, const struct rdp_conv_desc *desc, struct forms *forms, int direction,
                     dnnl_primitive_desc_t hint, dnnl_primitive_desc_t *pd)
{
    dnnl_status_t status = pass_pd(device, desc, forms, direction, dnnl_convolution_direct, hint, pd);
    if (status == dnnl_unimplemented && cpu_is_bf16(device))
        return rdp_fail(RDP_EUSAGE,
                        "--precision bf16: oneDNN has no bf16 convolution for this CPU (it needs AVX-512); use "
                        "--precision fp32");
    RDP_DNN(status);
    return RDP_OK;
}

static int make_memory(struct rdp_device *device, rdp_const_md md, dnnl_memory_t *memory)
{
    RDP_DNN(dnnl_memory_create(memory, md, cpu_state(device)->engine, DNNL_MEMORY_NONE));
    return RDP_OK;
}

static rdp_const_md query(dnnl_primitive_desc_t pd, dnnl_query_t what)
{
    return dnnl_primitive_desc_query_md(pd, what, 0);
}

static int make_pass(struct rdp_device *device, dnnl_primitive_desc_t pd, int direction, struct pass *pass)
{
    static const dnnl_query_t queries[PASSES][3] = {
        [FORWARD] = {dnnl_query_src_md, dnnl_query_weights_md, dnnl_query_dst_md},
        [BACKWARD_DATA] = {dnnl_query_diff_src_md, dnnl_query_weights_md, dnnl_query_diff_dst_md},
        [BACKWARD_WEIGHTS] = {dnnl_query_src_md, dnnl_query_diff_weights_md, dnnl_query_diff_dst_md},
    };
    rdp_const_md scratchpad = query(pd, dnnl_query_scratchpad_md);
    RDP_DNN(dnnl_primitive_desc_query(pd, dnnl_query_impl_info_str, 0, (void *)&pass->algorithm));
    RDP_DNN(dnnl_primitive_create(&pass->primitive, pd));
    RDP_TRY(make_memory(device, query(pd, queries[direction][0]), &pass->x));
    RDP_TRY(make_memory(device, query(pd, queries[direction][1]), &pass->w));
    RDP_TRY(make_memory(device, query(pd, queries[direction][2]), &pass->y));
    RDP_TRY(make_memory(device, scratchpad, &pass->scratchpad));
    return cpu_scratchpad_reserve(device, dnnl_memory_desc_get_size(scratchpad));
}

/* Prepares the form of the weights that a pass wants. */
static int make_copy(struct rdp_device *device, struct cpu_conv *state, rdp_const_md wanted, struct weights_copy *copy)
{
    rdp_const_md stored = rdp_md_view(&state->stored);
    if (dnnl_memory_desc_equal(wanted, stored))
        return RDP_OK;
    dnnl_engine_t engine = cpu_state(device)->engine;
    dnnl_primitive_desc_t pd;
    RDP_TRY(rdp_alloc_aligned(&copy->owned, dnnl_memory_desc_get_size(wanted), "weights in the convolution's form"));
    copy->data = copy->owned;
    RDP_TRY(make_memory(device, stored, &copy->from));
    RDP_DNN(dnnl_memory_create(&copy->to, wanted, engine, copy->owned));
    RDP_DNN(dnnl_reorder_primitive_desc_create(&pd, stored, engine, wanted, engine, NULL));
    dnnl_status_t status = dnnl_primitive_create(&copy->reorder, pd);
    dnnl_primitive_desc_destroy(pd);
    RDP_DNN(status);
    return RDP_OK;
}

static int plan(struct rdp_device *device, struct rdp_conv *conv, struct forms *part, struct forms *whole)
{
    const struct rdp_conv_desc *desc = &conv->desc;
    struct cpu_conv *state = conv->state;
    dnnl_primitive_desc_t pds[PASSES] = {NULL, NULL, NULL};
    dnnl_dim_t w[4] = {desc->output.channels, desc->input.channels, desc->kernel, desc->kernel};
    int status;

    RDP_TRY_GOTO(status, make_forms(device, desc, desc->chunk, part), done);
    RDP_TRY_GOTO(status, make_forms(device, desc, desc->batch, whole), done);
    RDP_TRY_GOTO(status, choose_pd(device, desc, part, FORWARD, NULL, &pds[FORWARD]), done);
    if (desc->training) {
        if (!desc->input_is_image)
            RDP_TRY_GOTO(status, choose_pd(device, desc, part, BACKWARD_DATA, pds[FORWARD], &pds[BACKWARD_DATA]), done);
        RDP_TRY_GOTO(status, choose_pd(device, desc, whole, BACKWARD_WEIGHTS, pds[FORWARD], &pds[BACKWARD_WEIGHTS]),
                     done);
    }
    status = RDP_EDEVICE;
    if (rdp_md_make(&state->plain, 4, w, dnnl_f32, dnnl_oihw) != dnnl_success ||
        rdp_md_copy(&state->stored, desc->training ? query(pds[BACKWARD_WEIGHTS], dnnl_query_diff_weights_md)
                                                   : rdp_md_view(&state->plain)) != dnnl_success) {
        rdp_fail(status, "oneDNN: no memory description for the weights of a %d x %d convolution", desc->kernel,
                 desc->kernel);
        goto done;
    }
    conv->stored_count = dnnl_memory_desc_get_size(rdp_md_view(&state->stored)) / sizeof(float);
    for (int direction = 0; direction < PASSES; direction++) {
        if (pds[direction] == NULL)
            continue;
        RDP_TRY_GOTO(status, make_pass(device, pds[direction], direction, &state->passes[direction]), done);
        conv->algorithms[direction] = state->passes[direction].algorithm;
        if (direction != BACKWARD_WEIGHTS)
            RDP_TRY_GOTO(
                status,
                make_copy(device, state, query(pds[direction], dnnl_query_weights_md), &state->copies[direction]),
                done);
    }
    status = RDP_OK;
done:
    for (int direction = 0; direction < PASSES; direction++)
        if (pds[direction] != NULL)
            dnnl_primitive_desc_destroy(pds[direction]);
    return status;
}

static int plan_winograd(struct rdp_device *device, struct rdp_conv *conv)
{
    const struct rdp_conv_desc *desc = &conv->desc;
    struct cpu_conv *state = conv->state;
    dnnl_dim_t w[4] = {desc->output.channels, desc->input.channels, desc->kernel, desc->kernel};
    RDP_DNN(rdp_md_make(&state->plain, 4, w, dnnl_f32, dnnl_oihw));
    RDP_DNN(rdp_md_make(&state->stored, 4, w, dnnl_f32, dnnl_OIhw16i16o));
    conv->stored_count = dnnl_memory_desc_get_size(rdp_md_view(&state->stored)) / sizeof(float);
    conv->algorithms[FORWARD] = "own Winograd F(4x4,3x3)";
    if (desc->training)
        conv->algorithms[BACKWARD_DATA] = conv->algorithms[BACKWARD_WEIGHTS] = conv->algorithms[FORWARD];
    return cpu_winograd_create(device, &state->winograd, desc);
}

int cpu_conv_create(struct rdp_device *device, struct rdp_conv **conv, const struct rdp_conv_desc *desc)
{
    struct forms part = {0}, whole = {0};
    RDP_TRY(rdp_calloc((void **)conv, 1, sizeof **conv, "a convolution"));
    (*conv)->desc = *desc;
    bool winograd = false;
    int status = rdp_calloc(&(*conv)->state, 1, sizeof(struct cpu_conv), "a convolution");
    if (status == RDP_OK)
        status = cpu_winograd_wanted(device, desc, &winograd);
    if (status == RDP_OK)
        status = winograd ? plan_winograd(device, *conv) : plan(device, *conv, &part, &whole);
    free_forms(&part);
    free_forms(&whole);
    if (status != RDP_OK) {
        cpu_conv_destroy(device, *conv);
        *conv = NULL;
    }
    return status;
}

static void free_memory(dnnl_memory_t memory)
{
    if (memory != NULL)
        dnnl_memory_destroy(memory);
}

static void free_primitive(dnnl_primitive_t primitive)
{
    if (primitive != NULL)
        dnnl_primitive_destroy(primitive);
}

void cpu_conv_destroy(struct rdp_device *device, struct rdp_conv *conv)
{
    (void)device;
    if (conv == NULL)
        return;
    struct cpu_conv *state = conv->state;
    if (state != NULL) {
        for (int i = 0; i < PASSES; i++) {
            struct pass *pass = &state->passes[i];
            free_memory(pass->x);
            free_memory(pass->w);
            free_memory(pass->y);
            free_memory(pass->scratchpad);
            free_primitive(pass->primitive);
        }
        for (int i = 0; i < 2; i++) {
            free_primitive(state->copies[i].reorder);
            free_memory(state->copies[i].from);
            free_memory(state->copies[i].to);
            free(state->copies[i].owned);
        }
        cpu_winograd_destroy(state->winograd);
        rdp_md_free(&state->stored);
        rdp_md_free(&state->plain);
    }
    free(state);
    free(conv);
}

/* Reorders host weights between the plain and the stored form; set-up and checkpoints only. */
static int translate(struct rdp_device *device, const struct rdp_md *from, void *from_data, const struct rdp_md *to,
                     void *to_data)
{
    struct cpu_state *cpu = cpu_state(device);
    dnnl_memory_t source = NULL, target = NULL;
    dnnl_primitive_desc_t pd = NULL;
    dnnl_primitive_t reorder = NULL;
    dnnl_status_t status = dnnl_memory_create(&source, rdp_md_view(from), cpu->engine, from_data);
    if (status == dnnl_success)
        status = dnnl_memory_create(&target, rdp_md_view(to), cpu->engine, to_data);
    if (status == dnnl_success)
        status =
            dnnl_reorder_primitive_desc_create(&pd, rdp_md_view(from), cpu->engine, rdp_md_view(to), cpu->engine, NULL);
    if (status == dnnl_success)
        status = dnnl_primitive_create(&reorder, pd);
    if (status == dnnl_success) {
        dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, source}, {DNNL_ARG_TO, target}};
        status = dnnl_primitive_execute(reorder, cpu->stream, 2, arguments);
    }
    if (status == dnnl_success)
        status = dnnl_stream_wait(cpu->stream);
    free_primitive(reorder);
    if (pd != NULL)
        dnnl_primitive_desc_destroy(pd);
    free_memory(source);
    free_memory(target);
    RDP_DNN(status);
    return RDP_OK;
}

int cpu_conv_pack(struct rdp_device *device, struct rdp_conv *conv, const float *host_oihw, float *stored)
{
    struct cpu_conv *state = conv->state;
    return translate(device, &state->plain, (void *)(uintptr_t)host_oihw, &state->stored, stored);
}

int cpu_conv_unpack(struct rdp_device *device, struct rdp_conv *conv, const float *stored, float *host_oihw)
{
    struct cpu_conv *state = conv->state;
    return translate(device, &state->stored, (void *)(uintptr_t)stored, &state->plain, host_oihw);
}

int cpu_conv_weights(struct rdp_device *device, struct rdp_conv *conv, const float *stored, void *flat_copy,
                     bool backward)
{
    (void)flat_copy; /* copy_size is 0: the forms belong to the convolution */
    struct cpu_conv *state = conv->state;
    struct cpu_state *cpu = cpu_state(device);
    if (state->winograd != NULL) {
        cpu_winograd_weights(state->winograd, stored, backward);
        return RDP_OK;
    }
    for (int i = FORWARD; i <= (backward ? BACKWARD_DATA : FORWARD); i++) {
        struct weights_copy *copy = &state->copies[i];
        if (state->passes[i].primitive == NULL)
            continue;
        if (copy->reorder == NULL) {
            copy->data = (void *)(uintptr_t)stored; /* read only: the pass takes the stored form as it is */
            continue;
        }
        dnnl_exec_arg_t arguments[] = {{DNNL_ARG_FROM, copy->from}, {DNNL_ARG_TO, copy->to}};
        RDP_DNN(dnnl_memory_set_data_handle(copy->from, (void *)(uintptr_t)stored));
        RDP_DNN(dnnl_primitive_execute(copy->reorder, cpu->stream, 2, arguments));
    }
    return RDP_OK;
}

static int execute(struct rdp_device *device, struct pass *pass, int x_arg, const void *x, int w_arg, const void *w,
                   int y_arg, const void *y)
{
    struct cpu_state *cpu = cpu_state(device);
    dnnl_exec_arg_t arguments[] = {
        {x_arg, pass->x}, {w_arg, pass->w}, {y_arg, pass->y}, {DNNL_ARG_SCRATCHPAD, pass->scratchpad}};
    RDP_DNN(dnnl_memory_set_data_handle(pass->x, (void *)(uintptr_t)x));
    RDP_DNN(dnnl_memory_set_data_handle(pass->w, (void *)(uintptr_t)w));
    RDP_DNN(dnnl_memory_set_data_handle(pass->y, (void *)(uintptr_t)y));
    RDP_DNN(dnnl_memory_set_data_handle(pass->scratchpad, cpu->scratchpad));
    RDP_DNN(dnnl_primitive_execute(pass->primitive, cpu->stream, 4, arguments));
    RDP_DNN(dnnl_stream_wait(cpu->stream));
    return RDP_OK;
}

/* A range is a whole number of the planned chunks. */
static int check_range(const struct rdp_conv_desc *desc, int first, int count)
{
    if (first % desc->chunk != 0 || count % desc->chunk != 0 || first + count > desc->batch)
        return rdp_fail(RDP_EINTERNAL,
                        "convolution planned for chunks of %d of %d images was called for images %d to %d", desc->chunk,
                        desc->batch, first, first + count - 1);
    return RDP_OK;
}

int cpu_conv_forward(struct rdp_device *device, struct rdp_conv *conv, const void *x, void *y, int first, int count)
{
    struct cpu_conv *state = conv->state;
    size_t x_bytes = cpu_image_bytes(device, conv->desc.input, conv->desc.input_is_image);
    size_t y_bytes = cpu_image_bytes(device, conv->desc.output, false);
    RDP_TRY(check_range(&conv->desc, first, count));
    for (int i = first; i < first + count; i += conv->desc.chunk) {
        const char *from = (const char *)x + (size_t)i * x_bytes;
        char *to = (char *)y + (size_t)i * y_bytes;
        if (state->winograd != NULL)
            cpu_winograd_forward(device, state->winograd, from, to);
        else
            RDP_TRY(execute(device, &state->passes[FORWARD], DNNL_ARG_SRC, from, DNNL_ARG_WEIGHTS,
                            state->copies[FORWARD].data, DNNL_ARG_DST, to));
    }
    return RDP_OK;
}

int cpu_conv_backward_data(struct rdp_device *device, struct rdp_conv *conv, const void *dy, void *dx, int first,
                           int count)
{
    struct cpu_conv *state = conv->state;
    size_t x_bytes = cpu_image_bytes(device, conv->desc.input, false);
    size_t y_bytes = cpu_image_bytes(device, conv->desc.output, false);
    RDP_TRY(check_range(&conv->desc, first, count));
    for (int i = first; i < first + count; i += conv->desc.chunk) {
        const char *from = (const char *)dy + (size_t)i * y_bytes;
        char *to = (char *)dx + (size_t)i * x_bytes;
        if (state->winograd != NULL)
            cpu_winograd_backward_data(device, state->winograd, from, to);
        else
            RDP_TRY(execute(device, &state->passes[BACKWARD_DATA], DNNL_ARG_DIFF_SRC, to, DNNL_ARG_WEIGHTS,
                            state->copies[BACKWARD_DATA].data, DNNL_ARG_DIFF_DST, from));
    }
    return RDP_OK;
}

int cpu_conv_backward_weights(struct rdp_device *device, struct rdp_conv *conv, const void *x, const void *dy,
                              float *dw)
{
    struct cpu_conv *state = conv->state;
    if (state->winograd != NULL) {
        cpu_winograd_backward_weights(device, state->winograd, x, dy, dw);
        return RDP_OK;
    }
    return execute(device, &state->passes[BACKWARD_WEIGHTS], DNNL_ARG_SRC, x, DNNL_ARG_DIFF_WEIGHTS, dw,
                   DNNL_ARG_DIFF_DST, dy);
}

/*
 * A chunk's input and output together should fit the cores' private caches, and hold enough images that reading the
 * weights again for each chunk is cheap against reading the activations. Measured in bench/README.md.
 */
int cpu_chunk(struct rdp_device *device, const struct rdp_conv_desc *desc)
{
    const size_t cache_per_core = (size_t)1 << 20;
    size_t image =
        cpu_image_bytes(device, desc->input, desc->input_is_image) + cpu_image_bytes(device, desc->output, false);
    size_t weights = (size_t)desc->kernel * (size_t)desc->kernel * (size_t)desc->input.channels *
                     (size_t)desc->output.channels * cpu_state(device)->element_size;
    size_t wanted = (size_t)device->config.threads * cache_per_core / image;
    if (wanted < 4 * weights / image)
        wanted = 4 * weights / image;
    if (wanted >= (size_t)desc->batch)
        return desc->batch;
    /* The largest divisor of the batch that is no larger; threads share a chunk by images, so it should not be tiny. */
    for (int chunk = (int)wanted; chunk >= device->config.threads; chunk--)
        if (desc->batch % chunk == 0)
            return chunk;
    return desc->batch;
}
