/*
 * draw.h: the networks of all recipes' kinds as Graphviz text: every layer a node in the cluster of its stage and
 * block, every array that is read an edge, the same text twice; and, where Graphviz is installed, that it takes it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "draw.h"

static const char *const recipes[] = {
    "blocks=1,1,1,1\n",
    "blocks=5,4,3\nwidths=64,128,256\n",
    "block=bottleneck\nblocks=3,3,3\nstem-width=32\nwidths=64,128,256\nactivation=leaky-relu\n",
    "blocks=3,3,3\nstem-width=16\nwidths=16,32,64\nshortcut=pad\n",
    "blocks=1,2,1\nstem-width=16\nwidths=16,32,64\nshortcut=none\nactivation=gelu\n",
    "blocks=1,2\nstem-width=8\nwidths=8,16\nstrides=2\ndownsample=max-pool\n",
};
enum { RECIPES = sizeof recipes / sizeof *recipes };

static struct rdp_model *model_of(const char *recipe)
{
    struct rdp_options options;
    struct rdp_model *model = NULL;
    rdp_options_default(&options);
    if (rdp_options_read_text(&options, recipe, "test") != RDP_OK || rdp_options_check(&options) != RDP_OK ||
        rdp_model_create(&model, &options, 10) != RDP_OK)
        fail_msg("%s: %s", recipe, rdp_fail_message());
    return model;
}

/* Owned by the caller. */
static char *draw(const struct rdp_model *model)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    assert_non_null(out);
    rdp_draw_model(model, out);
    assert_int_equal(fclose(out), 0);
    return text;
}

static int count(const char *text, const char *part)
{
    int found = 0;
    for (const char *c = text; (c = strstr(c, part)) != NULL; c++)
        found++;
    return found;
}

/* Braces and brackets are balanced, quotes closed within their line, and nothing stands after the last brace. */
static void check_structure(const char *text)
{
    int depth = 0, brackets = 0;
    bool quoted = false;
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"')
            quoted = !quoted;
        assert_false(quoted && *c == '\n');
        if (quoted)
            continue;
        depth += (*c == '{') - (*c == '}');
        brackets += (*c == '[') - (*c == ']');
        assert_true(depth >= 0 && brackets >= 0 && brackets <= 1);
        if (*c == '}' && depth == 0)
            assert_string_equal(c, "}\n");
    }
    assert_true(depth == 0 && brackets == 0 && !quoted);
    assert_true(strncmp(text, "digraph ", 8) == 0);
}

static void test_nodes_and_edges(void **state)
{
    (void)state;
    for (int r = 0; r < RECIPES; r++) {
        struct rdp_model *model = model_of(recipes[r]);
        char *text = draw(model), *again = draw(model), line[256];
        int residuals = 0;
        assert_string_equal(text, again);
        check_structure(text);
        for (int i = 0; i < model->layer_count; i++) {
            const struct rdp_layer *layer = &model->layers[i];
            snprintf(line, sizeof line, "  n%d [label=\"%s\\n", i, layer->name);
            assert_int_equal(count(text, line), 1);
            if (layer->input == RDP_NO_LAYER)
                snprintf(line, sizeof line, "  image -> n%d;\n", i);
            else
                snprintf(line, sizeof line, "  n%d -> n%d;\n", layer->input, i);
            assert_int_equal(count(text, line), 1);
            if (layer->residual == RDP_NO_LAYER)
                continue;
            snprintf(line, sizeof line, "  n%d -> n%d [", layer->residual, i);
            assert_int_equal(count(text, line), 1);
            residuals++;
        }
        assert_int_equal(count(text, " -> "), model->layer_count + residuals);
        free(text);
        free(again);
        rdp_model_destroy(model);
    }
}

/* The cluster that a node's line lies in: the last opened that is not closed yet. */
static void check_cluster(const char *text, const char *node, const char *cluster)
{
    const char *at = strstr(text, node), *open = NULL;
    assert_non_null(at);
    int closed = 0;
    for (const char *c = at; c > text && open == NULL; c--) {
        closed += strncmp(c, "\n  }\n", 5) == 0;
        if (strncmp(c, "\n  subgraph ", 12) == 0 && closed-- == 0)
            open = c + 12;
    }
    if (cluster == NULL)
        assert_null(open);
    else if (open == NULL || strncmp(open, cluster, strlen(cluster)) != 0)
        fail_msg("%s is not in %s", node, cluster);
}

static void test_clusters(void **state)
{
    struct rdp_model *model = model_of(recipes[1]);
    char *text = draw(model);
    (void)state;
    assert_int_equal(count(text, "subgraph"), 3 + 5 + 4 + 3);
    check_cluster(text, "\"conv1\\n", NULL);
    check_cluster(text, "\"layer1.0.conv1\\n", "cluster_1_0 {");
    check_cluster(text, "\"layer1.4.bn2\\n", "cluster_1_4 {");
    check_cluster(text, "\"layer3.0.downsample.1\\n", "cluster_3_0 {");
    check_cluster(text, "\"avgpool\\n", NULL);
    assert_non_null(strstr(text, "4,771,146 parameters"));
    assert_non_null(strstr(text, "layer3.0.downsample.0\\nConv2d 1x1 stride 2\\n[256, 8, 8]\\n32,768 parameters"));
    free(text);
    rdp_model_destroy(model);
}

static void test_graphviz_takes_it(void **state)
{
    char path[] = "/tmp/rdp-test-draw-XXXXXX", command[128];
    (void)state;
    if (system("command -v dot >/dev/null") != 0)
        skip();
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    for (int r = 0; r < RECIPES; r++) {
        struct rdp_model *model = model_of(recipes[r]);
        char *text = draw(model);
        const size_t size = strlen(text);
        assert_int_equal(ftruncate(descriptor, 0), 0);
        assert_int_equal(pwrite(descriptor, text, size, 0), (ssize_t)size);
        snprintf(command, sizeof command, "test -n \"$(dot -Tsvg %s)\"", path);
        assert_int_equal(system(command), 0);
        free(text);
        rdp_model_destroy(model);
    }
    close(descriptor);
    unlink(path);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nodes_and_edges),
        cmocka_unit_test(test_clusters),
        cmocka_unit_test(test_graphviz_takes_it),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
