/* See conv_plan.h: targets, candidates and plans. Attribute names and order: NVIDIA cuDNN developer guide, "Graph API",
 * and cudnn_graph.h. */
#include "kernels/cuda/conv_plan.h"

#include <cuda_runtime_api.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "kernels/cuda/cuda.h"

enum { NOTES = 16 };

/* ---- target ------------------------------------------------------------------------------------------------------ */

int conv_target_open(struct conv_target *target, int index, cudnnHandle_t handle)
{
    struct cudaDeviceProp properties;
    RDP_CUDA(cudaGetDeviceProperties(&properties, index));
    *target = (struct conv_target){.major = properties.major,
                                   .minor = properties.minor,
                                   .sm_count = properties.multiProcessorCount,
                                   .handle = handle};
    snprintf(target->name, sizeof target->name, "%.*s", (int)sizeof target->name - 1, properties.name);
#if CONV_DEVICE_PROPERTIES
    struct cudnn_builder *builder = &target->builder;
    int32_t device = index;
    target->device = rdp_cudnn_add(builder, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    rdp_cudnn_set(builder, target->device, CUDNN_ATTR_DEVICEPROP_DEVICE_ID, CUDNN_TYPE_INT32, 1, &device);
    rdp_cudnn_finalize(builder, target->device);
    return rdp_cudnn_built(builder, "the properties of the device");
#else
    return RDP_OK;
#endif
}

int conv_target_describe(struct conv_target *target, const char *json, const char *name, int major, int minor,
                         int sm_count)
{
    *target = (struct conv_target){.major = major, .minor = minor, .sm_count = sm_count};
    snprintf(target->name, sizeof target->name, "%s", name);
#if CUDNN_VERSION >= 91100
    struct cudnn_builder *builder = &target->builder;
    target->device = rdp_cudnn_add(builder, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR);
    rdp_cudnn_set(builder, target->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                  (int64_t)strlen(json) + 1, json);
    rdp_cudnn_finalize(builder, target->device);
    return rdp_cudnn_built(builder, "the description of a device");
#else
    (void)json;
    return rdp_fail(RDP_EDEVICE, "plans for a GPU that is not there need cuDNN 9.11 or newer, this build has %d.%d",
                    CUDNN_MAJOR, CUDNN_MINOR);
#endif
}

void conv_target_close(struct conv_target *target)
{
    rdp_cudnn_clear(&target->builder);
    target->device = NULL;
}

/* ---- candidates -------------------------------------------------------------------------------------------------- */

static bool has_note(const cudnnBackendNumericalNote_t *notes, int64_t count, cudnnBackendNumericalNote_t note)
{
    for (int64_t i = 0; i < count; i++)
        if (notes[i] == note)
            return true;
    return false;
}

/*
 * Whether the engine's numerical notes break a promise; counts it. cuDNN has no attribute that forbids tf32: what tells is
 * that an engine that feeds f32 operands to tensor cores carries TENSOR_CORE (all of those that cuDNN 9.19 names for f32)
 * or, where it converts them in a pass before, DOWN_CONVERT_INPUTS.
 */
static bool notes_refuse(const struct conv_problem *problem, const cudnnBackendNumericalNote_t *notes, int64_t count,
                         struct conv_census *census)
{
    if (has_note(notes, count, CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC)) {
        census->nondeterministic++;
        return true;
    }
    bool tf32 = has_note(notes, count, CUDNN_NUMERICAL_NOTE_TENSOR_CORE) ||
                has_note(notes, count, CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS);
    if (has_note(notes, count, CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION) ||
        (tf32 && problem->precision == RDP_KERNEL_F32)) {
        census->imprecise++;
        return true;
    }
    return false;
}

static int by_type(const void *a, const void *b)
{
    const struct plan_knob *first = a, *second = b;
    return (first->type > second->type) - (first->type < second->type);
}

/* An engine configuration as numbers, and its engine's numerical notes. False if cuDNN does not tell. */
static bool read_config(cudnnBackendDescriptor_t config, struct plan_choice *choice, cudnnBackendNumericalNote_t *notes,
                        int64_t *note_count)
{
    struct cudnn_builder builder = {.count = 0};
    cudnnBackendDescriptor_t engine = rdp_cudnn_add(&builder, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knobs[PLAN_KNOBS];
    rdp_cudnn_get(&builder, config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &engine);
    rdp_cudnn_get(&builder, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &choice->engine);
    *note_count =
        rdp_cudnn_get(&builder, engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, NOTES, notes);
    for (int i = 0; i < PLAN_KNOBS; i++)
        knobs[i] = rdp_cudnn_add(&builder, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    choice->knob_count = (int)rdp_cudnn_get(&builder, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, PLAN_KNOBS, knobs);
    for (int i = 0; i < choice->knob_count; i++) {
        cudnnBackendKnobType_t type = CUDNN_KNOB_TYPE_COUNTS;
        rdp_cudnn_get(&builder, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        rdp_cudnn_get(&builder, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1,
                      &choice->knobs[i].value);
        choice->knobs[i].type = (int)type;
    }
    qsort(choice->knobs, (size_t)choice->knob_count, sizeof *choice->knobs, by_type);
    bool known = rdp_cudnn_ok(&builder);
    rdp_cudnn_clear(&builder);
    return known;
}

static bool is_listed(const struct plan_choice *choices, int count, const struct plan_choice *choice)
{
    for (int i = 0; i < count; i++)
        if (plan_choice_equal(&choices[i], choice))
            return true;
    return false;
}

/* Fills `choices` with what one heuristic mode names, best first; a mode that cuDNN does not have for the graph names
 * nothing. Returns how many. */
static int ask_mode(const struct conv_graph *graph, cudnnBackendHeurMode_t mode, struct plan_choice *choices,
                    struct conv_census *census)
{
    struct cudnn_builder query = {.count = 0}, results = {.count = 0};
    cudnnBackendDescriptor_t configs[CONV_NAMED],
        heuristics = rdp_cudnn_add(&query, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    rdp_cudnn_set_descriptor(&query, heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph->operations);
    rdp_cudnn_set(&query, heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &mode);
#if CONV_DEVICE_PROPERTIES
    rdp_cudnn_set_descriptor(&query, heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, graph->target->device);
#endif
    rdp_cudnn_finalize(&query, heuristics);
    for (int i = 0; i < CONV_NAMED; i++)
        configs[i] = rdp_cudnn_add(&results, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    int64_t named = 0;
    if (rdp_cudnn_ok(&results))
        named = rdp_cudnn_get(&query, heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                              CONV_NAMED, configs);
    int count = 0;
    for (int64_t i = 0; i < named; i++) {
        struct plan_choice choice = {.family = graph->family};
        cudnnBackendNumericalNote_t notes[NOTES];
        int64_t note_count = 0;
        census->named++;
        if (read_config(configs[i], &choice, notes, &note_count) && !is_listed(choices, count, &choice) &&
            !notes_refuse(&graph->problem, notes, note_count, census))
            choices[count++] = choice;
    }
    rdp_cudnn_clear(&results);
    rdp_cudnn_clear(&query);
    return count;
}

/* A and B take turns: each puts its best first, and which of the two is right shows in the timing alone. FALLBACK, which
 * only promises to work, comes last. */
int conv_candidates(const struct conv_graph *graph, struct plan_choice choices[CONV_CANDIDATES],
                    struct conv_census *census)
{
    static const cudnnBackendHeurMode_t modes[CONV_MODES] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B,
                                                             CUDNN_HEUR_MODE_FALLBACK};
    struct plan_choice *named = malloc(CONV_CANDIDATES * sizeof *named);
    int counts[CONV_MODES] = {0}, count = 0;
    if (named == NULL)
        return rdp_fail(RDP_ENOMEM, "no memory for the candidates of a convolution");
    for (int mode = 0; mode < CONV_MODES; mode++)
        counts[mode] = ask_mode(graph, modes[mode], named + mode * CONV_NAMED, census);
    for (int i = 0; i < 2 * CONV_NAMED + counts[2]; i++) {
        int mode = i < 2 * CONV_NAMED ? i % 2 : 2, rank = i < 2 * CONV_NAMED ? i / 2 : i - 2 * CONV_NAMED;
        const struct plan_choice *choice = named + mode * CONV_NAMED + rank;
        if (rank < counts[mode] && !is_listed(choices, count, choice))
            choices[count++] = *choice;
    }
    free(named);
    return count;
}

/* ---- plan -------------------------------------------------------------------------------------------------------- */

static void build_plan(struct conv_plan *plan, const struct conv_graph *graph)
{
    struct cudnn_builder *builder = &plan->builder;
    const struct plan_choice *choice = &plan->choice;
    cudnnBackendDescriptor_t knobs[PLAN_KNOBS], engine = rdp_cudnn_add(builder, CUDNN_BACKEND_ENGINE_DESCRIPTOR);
    rdp_cudnn_set_descriptor(builder, engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph->operations);
    rdp_cudnn_set_int64(builder, engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, choice->engine);
#if CONV_DEVICE_PROPERTIES
    rdp_cudnn_set_descriptor(builder, engine, CUDNN_ATTR_ENGINE_DEVICEPROP, graph->target->device);
#endif
    rdp_cudnn_finalize(builder, engine);
    for (int i = 0; i < choice->knob_count; i++) {
        cudnnBackendKnobType_t type = (cudnnBackendKnobType_t)choice->knobs[i].type;
        knobs[i] = rdp_cudnn_add(builder, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
        rdp_cudnn_set(builder, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type);
        rdp_cudnn_set_int64(builder, knobs[i], CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, choice->knobs[i].value);
        rdp_cudnn_finalize(builder, knobs[i]);
    }
    cudnnBackendDescriptor_t config = rdp_cudnn_add(builder, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    rdp_cudnn_set_descriptor(builder, config, CUDNN_ATTR_ENGINECFG_ENGINE, engine);
    if (choice->knob_count > 0)
        rdp_cudnn_set(builder, config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR,
                      choice->knob_count, knobs);
    rdp_cudnn_finalize(builder, config);
    plan->plan = rdp_cudnn_add(builder, CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR);
    rdp_cudnn_set_descriptor(builder, plan->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, config);
#if CONV_DEVICE_PROPERTIES
    rdp_cudnn_set_descriptor(builder, plan->plan, CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP, graph->target->device);
#else
    rdp_cudnn_set(builder, plan->plan, CUDNN_ATTR_EXECUTION_PLAN_HANDLE, CUDNN_TYPE_HANDLE, 1, &graph->target->handle);
#endif
    rdp_cudnn_finalize(builder, plan->plan);
}

int conv_plan_create(struct conv_plan **plan, const struct conv_graph *graph, const struct plan_choice *choice,
                     cudnnStatus_t *refusal)
{
    void *memory;
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **plan, "a convolution plan"));
    struct conv_plan *new = memory;
    new->choice = *choice;
    build_plan(new, graph);
    int64_t workspace = 0;
    rdp_cudnn_get(&new->builder, new->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &workspace);
    new->workspace = workspace > 0 ? (size_t)workspace : 0;
    *plan = new;
    if (refusal != NULL)
        *refusal = new->builder.status;
    if (!rdp_cudnn_ok(&new->builder)) {
        *plan = NULL;
        conv_plan_destroy(new);
    }
    return RDP_OK;
}

void conv_plan_destroy(struct conv_plan *plan)
{
    if (plan == NULL)
        return;
    rdp_cudnn_clear(&plan->builder);
    free(plan);
}
