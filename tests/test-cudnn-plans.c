/*
 * cuDNN plans without a GPU: every convolution of every recipe gets at least one execution plan that finalises, in each
 * direction and precision, for GPUs of compute capability 8.0, 9.0 and 10.0 that exist only as text; true f32 stays free
 * of tensor cores; a choice survives the way through the plan cache; choices that mean nothing are refused.
 *
 * Of all combinations (shape, direction, precision, GPU, batch) every 23rd is tried: some six per shape, and, as 23 has no
 * factor in common with the lengths of the other lists, these meet each other in all combinations. RDP_TEST_EVERY=1
 * tries everything (minutes), 101 is for builds that are slow.
 * Engines that compile at run time need a driver and count as refused there. Those that sum batch-norm's statistics all
 * do. For them the program starts itself once more and loads the toolkit's stub of the driver, with which cuDNN names
 * engines and compiles, and fails only when it loads what it compiled: such convolutions have engines, and of some the
 * kernel is compiled. That takes seconds, so that every 6th shape is tried, or with RDP_TEST_EVERY=1 every one.
 */
#include <dlfcn.h>
#include <glob.h>
#include <inttypes.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include "base/status.h"
#include "kernels/cuda/conv_plan.h"
#include "kernels/cuda/cuda.h"
#include "model.h"
#include "options.h"

enum { SHAPES_MAX = 128, ENGINES = 128, SKIP = 77 };

static const int batches[] = {1, 128, 512, 2048, 4096};
enum { BATCHES = sizeof batches / sizeof *batches, PRECISIONS = 3 };
static const char *const precision_names[PRECISIONS] = {"f32", "tf32", "bf16"};

/* What differs between the GPUs, from NVIDIA's CUDA programming guide and data sheets. */
static const struct gpu {
    const char *name;
    int version, sm_count, shared_memory;
    long memory, l2;
    int clock, memory_clock; /* kHz */
} gpus[] = {
    {"NVIDIA A100-SXM4-80GB", 800, 108, 166912, 85000000000, 41943040, 1410000, 1593000},
    {"NVIDIA H200", 900, 132, 232448, 150000000000, 52428800, 1980000, 3201000},
    {"NVIDIA B200", 1000, 148, 232448, 192000000000, 132644864, 1965000, 3996000},
};
enum { GPUS = sizeof gpus / sizeof *gpus, H200 = 1, DIRECTIONS = CONV_FUSED };

static struct conv_target targets[GPUS];
static struct conv_problem shapes[SHAPES_MAX]; /* of the recipes; kind, precision and batch open */
static int shape_count;

static void must(int status)
{
    if (status != RDP_OK)
        fail_msg("%s", rdp_fail_message());
}

/* ---- what is planned --------------------------------------------------------------------------------------------- */

static void describe(struct conv_target *target, const struct gpu *gpu)
{
    char json[2048];
    snprintf(json, sizeof json,
             "{\"deviceVer\":%d,\"multiProcessorCount\":%d,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
             "\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":1024,\"maxRegistersPerSM\":65536,"
             "\"maxCtasPerSM\":32,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":2048,\"regsPerBlock\":65536,"
             "\"totalGlobalMem\":%ld,\"smClockRateKHz\":%d,\"memClockRateKHz\":%d,\"l2CacheSize\":%ld,"
             "\"maxBlockSize\":[1024,1024,64],\"maxGridSize\":[2147483647,65535,65535],\"supportCoopLaunch\":1,"
             "\"pciDeviceId\":0,\"cudaDeviceId\":0,\"isTccDriver\":0,\"driverVer\":13000,\"deviceName\":\"%s\"}",
             gpu->version, gpu->sm_count, gpu->shared_memory, gpu->memory, gpu->clock, gpu->memory_clock, gpu->l2,
             gpu->name);
    must(conv_target_describe(target, json, gpu->name, gpu->version / 100, gpu->version / 10 % 10, gpu->sm_count));
}

static void add_shape(const struct rdp_layer *layer)
{
    const struct conv_problem shape = {.channels = cuda_padded(layer->in.channels),
                                       .height = layer->in.height,
                                       .width = layer->in.width,
                                       .filters = cuda_padded(layer->out.channels),
                                       .kernel = layer->kernel,
                                       .stride = layer->stride};
    assert_int_equal(conv_output_extent(&shape, shape.height), layer->out.height);
    assert_int_equal(conv_output_extent(&shape, shape.width), layer->out.width);
    for (int i = 0; i < shape_count; i++)
        if (memcmp(&shapes[i], &shape, sizeof shape) == 0)
            return;
    assert_true(shape_count < SHAPES_MAX);
    shapes[shape_count++] = shape;
}

static void add_recipe(const char *path)
{
    struct rdp_options options;
    struct rdp_model *model = NULL;
    rdp_options_default(&options);
    must(rdp_options_read_recipe(&options, path));
    must(rdp_model_create(&model, &options, 10));
    for (int i = 0; i < model->layer_count; i++)
        if (model->layers[i].kind == RDP_LAYER_CONV)
            add_shape(&model->layers[i]);
    rdp_model_destroy(model);
}

static int prepare(void **state)
{
    (void)state;
    const char *source = getenv("SOURCE_DIR");
    char pattern[4096];
    glob_t found;
    if (source == NULL)
        fail_msg("SOURCE_DIR must name the source tree (ctest sets it)");
    snprintf(pattern, sizeof pattern, "%s/jobs/recipes/*.ini", source);
    assert_int_equal(glob(pattern, 0, NULL, &found), 0);
    for (size_t i = 0; i < found.gl_pathc; i++)
        add_recipe(found.gl_pathv[i]);
    globfree(&found);
    for (int i = 0; i < GPUS; i++)
        describe(&targets[i], &gpus[i]);
    return 0;
}

static int clean_up(void **state)
{
    (void)state;
    for (int i = 0; i < GPUS; i++)
        conv_target_close(&targets[i]);
    return 0;
}

/* ---- every convolution has a plan -------------------------------------------------------------------------------- */

struct tally {
    int problems, fewest, most;
    int64_t candidates;
    int first_engines[ENGINES]; /* how often an engine is the first that finalises */
};

static void note_problem(struct tally *tally, int candidates, int64_t engine)
{
    tally->fewest = tally->problems == 0 || candidates < tally->fewest ? candidates : tally->fewest;
    tally->most = candidates > tally->most ? candidates : tally->most;
    tally->problems++;
    tally->candidates += candidates;
    if (engine < ENGINES)
        tally->first_engines[engine]++;
}

/* Whether a candidate finalises; notes it. */
static bool has_plan(const struct conv_target *target, const struct conv_problem *problem, struct tally *tally)
{
    static struct plan_choice choices[CONV_CANDIDATES];
    struct conv_census census = {0};
    struct conv_graph graph;
    struct conv_plan *plan = NULL;
    must(conv_graph_open(&graph, target, problem, PLAN_PLAIN));
    int count = conv_candidates(&graph, choices, &census);
    assert_true(count >= 0 && count <= CONV_CANDIDATES);
    for (int i = 0; i < count && plan == NULL; i++)
        must(conv_plan_create(&plan, &graph, &choices[i], NULL));
    if (plan != NULL)
        note_problem(tally, count, plan->choice.engine);
    bool found = plan != NULL;
    conv_plan_destroy(plan);
    conv_graph_close(&graph);
    return found;
}

static void print_tally(const struct tally *tally, int gpu, int precision, int kind)
{
    printf("%-22s %-5s %-8s %4d problems, %3d to %3d candidates, mean %5.1f; first engines:", gpus[gpu].name,
           precision_names[precision], conv_kind_name(kind), tally->problems, tally->fewest, tally->most,
           (double)tally->candidates / (tally->problems > 0 ? tally->problems : 1));
    for (int i = 0; i < ENGINES; i++)
        if (tally->first_engines[i] > 0)
            printf(" %d (%d)", i, tally->first_engines[i]);
    printf("\n");
}

/* One of how many combinations is tried. */
static int every_of(void)
{
    const char *text = getenv("RDP_TEST_EVERY");
    const int every = text != NULL ? atoi(text) : 23;
    assert_true(every > 0);
    return every;
}

static void test_every_convolution(void **state)
{
    (void)state;
    static struct tally tallies[GPUS][PRECISIONS][DIRECTIONS];
    const int every = every_of();
    int failures = 0;
    int all = shape_count * DIRECTIONS * PRECISIONS * GPUS * BATCHES;
    for (int i = 0; i < all; i += every) {
        int rest = i;
        int gpu = rest % GPUS, batch = batches[(rest /= GPUS) % BATCHES];
        int precision = (rest /= BATCHES) % PRECISIONS, kind = (rest /= PRECISIONS) % DIRECTIONS;
        struct conv_problem problem = shapes[rest / DIRECTIONS];
        problem.kind = kind;
        problem.precision = precision;
        problem.batch = batch;
        if (!has_plan(&targets[gpu], &problem, &tallies[gpu][precision][kind])) {
            char key[PLAN_KEY];
            conv_problem_key(&problem, &targets[gpu], key);
            print_error("no plan: %s\n", key);
            failures++;
        }
    }
    printf("%d shapes\n", shape_count);
    for (int gpu = 0; gpu < GPUS; gpu++)
        for (int precision = 0; precision < PRECISIONS; precision++)
            for (int kind = 0; kind < DIRECTIONS; kind++)
                print_tally(&tallies[gpu][precision][kind], gpu, precision, kind);
    assert_int_equal(failures, 0);
    assert_true(shape_count >= 20);
}

/* ---- the parts --------------------------------------------------------------------------------------------------- */

/* The 3x3 convolution of a first stage. */
static struct conv_problem stage_one(enum conv_kind kind, enum rdp_kernel_precision precision)
{
    return (struct conv_problem){.kind = kind,
                                 .precision = precision,
                                 .batch = 128,
                                 .channels = 64,
                                 .height = 32,
                                 .width = 32,
                                 .filters = 64,
                                 .kernel = 3,
                                 .stride = 1};
}

static int count_candidates(const struct conv_problem *problem, enum plan_family family, struct plan_choice *choices,
                            struct conv_census *census)
{
    struct conv_graph graph;
    *census = (struct conv_census){0};
    must(conv_graph_open(&graph, &targets[H200], problem, family));
    int count = conv_candidates(&graph, choices, census);
    conv_graph_close(&graph);
    return count;
}

/* The same graph in f32 and tf32: what is dropped for precision in f32 stays in tf32, and something is left in f32. */
static void test_true_f32(void **state)
{
    (void)state;
    static struct plan_choice exact[CONV_CANDIDATES], fast[CONV_CANDIDATES];
    for (int kind = 0; kind < DIRECTIONS; kind++) {
        struct conv_census f32, tf32;
        struct conv_problem problem = stage_one(kind, RDP_KERNEL_F32);
        int exact_count = count_candidates(&problem, PLAN_PLAIN, exact, &f32);
        problem.precision = RDP_KERNEL_TF32;
        int fast_count = count_candidates(&problem, PLAN_PLAIN, fast, &tf32);
        printf("%s: f32 %d of %d, tf32 %d\n", conv_kind_name(kind), exact_count, f32.named, fast_count);
        assert_true(exact_count > 0);
        assert_true(f32.imprecise > 0);
        assert_true(fast_count > exact_count);
        for (int i = 0; i < exact_count; i++) {
            bool listed = false;
            for (int k = 0; k < fast_count; k++)
                listed |= plan_choice_equal(&exact[i], &fast[k]);
            assert_true(listed);
        }
    }
}

/* cuDNN 9.19 names engines whose f32 gradients differ from run to run: they must not be candidates. */
static void test_deterministic(void **state)
{
    (void)state;
    static struct plan_choice choices[CONV_CANDIDATES];
    struct conv_census census;
    struct conv_problem problem = stage_one(CONV_WEIGHTS, RDP_KERNEL_TF32);
    int count = count_candidates(&problem, PLAN_PLAIN, choices, &census);
    printf("weights, tf32: %d of %d dropped as not deterministic\n", census.nondeterministic, census.named);
    assert_true(census.nondeterministic > 0);
    assert_true(count + census.nondeterministic <= census.named);
}

static void test_families(void **state)
{
    (void)state;
    struct conv_problem problem = stage_one(CONV_WEIGHTS, RDP_KERNEL_BF16);
    struct conv_graph graph;
    assert_true(conv_family_applies(&problem, PLAN_PLAIN));
    assert_true(conv_family_applies(&problem, PLAN_CAST));
    assert_int_equal(conv_tensor_bytes(&problem, PLAN_PLAIN, CONV_W), 64 * 9 * 64 * 2);
    assert_int_equal(conv_tensor_bytes(&problem, PLAN_CAST, CONV_W), 64 * 9 * 64 * 4);
    assert_int_equal(conv_tensor_bytes(&problem, PLAN_CAST, CONV_X), (size_t)128 * 32 * 32 * 64 * 2);
    /* The cast behind the gradient is a graph that cuDNN takes; its engines compile at run time. */
    must(conv_graph_open(&graph, &targets[H200], &problem, PLAN_CAST));
    conv_graph_close(&graph);
    problem.precision = RDP_KERNEL_TF32;
    assert_false(conv_family_applies(&problem, PLAN_CAST));
    problem = stage_one(CONV_FORWARD, RDP_KERNEL_BF16);
    assert_false(conv_family_applies(&problem, PLAN_CAST));
    assert_false(conv_family_applies(&problem, PLAN_SUMS));
    problem.kind = CONV_EITHER;
    assert_true(conv_family_applies(&problem, PLAN_PLAIN));
    assert_true(conv_family_applies(&problem, PLAN_SUMS));
    problem.kind = CONV_FUSED;
    assert_false(conv_family_applies(&problem, PLAN_PLAIN));
    assert_true(conv_family_applies(&problem, PLAN_SUMS));
    assert_int_equal(conv_tensor_bytes(&problem, PLAN_SUMS, CONV_Y), (size_t)128 * 32 * 32 * 64 * 2);
    assert_int_equal(conv_tensor_bytes(&problem, PLAN_SUMS, CONV_SQUARES), 64 * 4);
    problem.precision = RDP_KERNEL_TF32;
    assert_false(conv_family_applies(&problem, PLAN_SUMS));
}

/* From a candidate to the file, back, and to the same plan. */
static void test_through_the_cache(void **state)
{
    (void)state;
    static struct plan_choice choices[CONV_CANDIDATES];
    char directory[] = "/tmp/rdp-cudnn-XXXXXX", path[64];
    struct conv_problem problem = stage_one(CONV_DATA, RDP_KERNEL_BF16);
    struct plan_entry entry = {.microseconds = 12.5};
    struct conv_census census = {0};
    struct conv_graph graph;
    struct conv_plan *plan, *again;
    struct plan_cache *cache;
    assert_non_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/plans.txt", directory);
    must(conv_graph_open(&graph, &targets[H200], &problem, PLAN_PLAIN));
    assert_true(conv_candidates(&graph, choices, &census) > 0);
    must(conv_plan_create(&plan, &graph, &choices[0], NULL));
    assert_non_null(plan);
    assert_true(plan->choice.knob_count > 0);
    conv_problem_key(&problem, &targets[H200], entry.key);
    entry.choice = choices[0];
    must(plan_cache_open(&cache, path));
    must(plan_cache_store(cache, &entry, NULL));
    plan_cache_close(cache);
    must(plan_cache_open(&cache, path));
    const struct plan_entry *found = plan_cache_find(cache, entry.key);
    assert_non_null(found);
    assert_true(plan_choice_equal(&found->choice, &choices[0]));
    must(conv_plan_create(&again, &graph, &found->choice, NULL));
    assert_non_null(again);
    assert_int_equal(again->workspace, plan->workspace);
    plan_cache_close(cache);
    conv_plan_destroy(plan);
    conv_plan_destroy(again);
    conv_graph_close(&graph);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rmdir(directory), 0);
}

/* Keys differ in everything that changes the plan. */
static void test_keys(void **state)
{
    (void)state;
    const struct conv_problem problem = stage_one(CONV_FORWARD, RDP_KERNEL_BF16);
    struct conv_problem others[11];
    for (int i = 0; i < 11; i++)
        others[i] = problem;
    others[0].kind = CONV_DATA;
    others[1].precision = RDP_KERNEL_TF32;
    others[2].batch = 1;
    others[3].channels = 8;
    others[4].height = 16;
    others[5].width = 16;
    others[6].filters = 128;
    others[7].kernel = 1;
    others[8].stride = 2;
    others[9].kind = CONV_FUSED;
    others[10].kind = CONV_EITHER;
    char key[PLAN_KEY], other[PLAN_KEY];
    conv_problem_key(&problem, &targets[H200], key);
    assert_null(strchr(key, '\t'));
    assert_true(strlen(key) + 40 < PLAN_KEY); /* names of GPUs may be longer */
    for (int i = 0; i < 11; i++) {
        conv_problem_key(&others[i], &targets[H200], other);
        assert_string_not_equal(key, other);
    }
    conv_problem_key(&problem, &targets[0], other);
    assert_string_not_equal(key, other);
}

/* What a damaged or old cache may hold: refused, and not an error that ends the program. */
static void test_refused_choices(void **state)
{
    (void)state;
    const struct plan_choice wrong[] = {
        {.engine = 100000},
        {.engine = 62, .knob_count = 1, .knobs = {{.type = 2, .value = 1000000}}},
        {.engine = 62, .knob_count = 1, .knobs = {{.type = 4711, .value = 0}}},
    };
    struct conv_problem problem = stage_one(CONV_FORWARD, RDP_KERNEL_BF16);
    struct conv_graph graph;
    must(conv_graph_open(&graph, &targets[H200], &problem, PLAN_PLAIN));
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        struct conv_plan *plan = NULL;
        cudnnStatus_t refusal = CUDNN_STATUS_SUCCESS;
        must(conv_plan_create(&plan, &graph, &wrong[i], &refusal));
        assert_null(plan);
        assert_int_not_equal(refusal, CUDNN_STATUS_SUCCESS);
        assert_string_equal(rdp_fail_message(), "");
    }
    conv_graph_close(&graph);
}

/* A graph that makes no sense is an error with cuDNN's words. */
static void test_impossible_graph(void **state)
{
    (void)state;
    struct conv_problem problem = stage_one(CONV_FORWARD, RDP_KERNEL_BF16);
    struct conv_graph graph;
    problem.filters = -8;
    assert_int_equal(conv_graph_open(&graph, &targets[H200], &problem, PLAN_PLAIN), RDP_EDEVICE);
    assert_non_null(strstr(rdp_fail_message(), "CUDNN_STATUS_BAD_PARAM"));
    assert_non_null(strstr(rdp_fail_message(), "K -8"));
    rdp_fail_clear();
    conv_graph_close(&graph);
}

/* ---- with sums --------------------------------------------------------------------------------------------------- */

static const char sums_argument[] = "with-sums";

static void test_sums_in_a_process_of_their_own(void **state)
{
    (void)state;
    int status;
    fflush(stdout);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl("/proc/self/exe", "test-cudnn-plans", sums_argument, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == SKIP)
        skip();
    assert_int_equal(WEXITSTATUS(status), 0);
}

/* The driver, or the toolkit's stub of it, which lies below the runtime or where NVIDIA puts it; cuDNN finds it loaded. */
static bool load_driver(void)
{
    Dl_info runtime;
    char below[PATH_MAX + 32] = "", file[PATH_MAX];
    if (dladdr((void *)cudaGetLastError, &runtime) != 0 && realpath(runtime.dli_fname, file) != NULL)
        snprintf(below, sizeof below, "%.*s/stubs/libcuda.so", (int)(strrchr(file, '/') - file), file);
    const char *const paths[] = {"libcuda.so.1", below, "/usr/local/cuda/lib64/stubs/libcuda.so"};
    for (size_t i = 0; i < sizeof paths / sizeof *paths; i++)
        if (paths[i][0] != '\0' && dlopen(paths[i], RTLD_NOW | RTLD_GLOBAL) != NULL)
            return true;
    return false;
}

/* Whether a candidate compiles; the stub cannot load what came out. */
static bool compiles(const struct conv_graph *graph, const struct plan_choice *choice)
{
    struct conv_plan *plan;
    cudnnStatus_t refusal;
    must(conv_plan_create(&plan, graph, choice, &refusal));
    const bool compiled = plan != NULL || refusal == CUDNN_STATUS_EXECUTION_FAILED_CUDA_DRIVER;
    conv_plan_destroy(plan);
    return compiled;
}

/* GPUs and batches take turns. */
static void test_sums(void **state)
{
    (void)state;
    enum { COMPILED = 4 };
    const int every = (every_of() + 3) / 4;
    static struct plan_choice choices[CONV_CANDIDATES];
    int fewest = CONV_CANDIDATES, failures = 0;
    for (int i = 0; i * every < shape_count; i++) {
        const struct conv_target *target = &targets[i % GPUS];
        struct conv_problem problem = shapes[i * every];
        struct conv_census census = {0};
        struct conv_graph graph;
        char key[PLAN_KEY];
        problem.kind = CONV_FUSED;
        problem.precision = RDP_KERNEL_BF16;
        problem.batch = batches[i % BATCHES];
        must(conv_graph_open(&graph, target, &problem, PLAN_SUMS));
        const int count = conv_candidates(&graph, choices, &census);
        fewest = count < fewest ? count : fewest;
        if (count <= 0 || (i % COMPILED == 0 && !compiles(&graph, &choices[0]))) {
            conv_problem_key(&problem, target, key);
            print_error("%s: %s\n", count <= 0 ? "no engine sums" : "does not compile", key);
            failures++;
        }
        conv_graph_close(&graph);
    }
    printf("with sums: every %d of %d shapes, at least %d candidates each\n", every, shape_count, fewest);
    assert_int_equal(failures, 0);
}

static int run_sums(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_sums)};
    if (!load_driver()) {
        printf("skipped: neither a driver nor the toolkit's stub of it (stubs/libcuda.so) was found\n");
        return SKIP;
    }
    return cmocka_run_group_tests(tests, prepare, clean_up);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_true_f32),
        cmocka_unit_test(test_deterministic),
        cmocka_unit_test(test_families),
        cmocka_unit_test(test_through_the_cache),
        cmocka_unit_test(test_keys),
        cmocka_unit_test(test_refused_choices),
        cmocka_unit_test(test_impossible_graph),
        cmocka_unit_test(test_every_convolution),
        cmocka_unit_test(test_sums_in_a_process_of_their_own),
    };
    if (CUDNN_VERSION < 91100 || cudnnGetVersion() < 91100) {
        printf("skipped: planning for a GPU that is not there needs cuDNN 9.11 or newer\n");
        return SKIP;
    }
    if (argc > 1 && strcmp(argv[1], sums_argument) == 0)
        return run_sums();
    return cmocka_run_group_tests(tests, prepare, clean_up);
}
