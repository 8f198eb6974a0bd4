/* The drawing of a model; see draw.h. Where a layer belongs is read from its name: layer2.0.conv1 is of stage 2's block
 * 0, conv1 of none. The layers of a stage, and of a block, lie together in the model's list. */
#include "draw.h"

#include <stdbool.h>
#include <string.h>

#include "base/text.h"

/* A layer's stage and block by its name; -1: none. */
struct place {
    int stage, block;
};

static struct place place_of(const struct rdp_layer *layer)
{
    struct place place = {-1, -1};
    if (sscanf(layer->name, "layer%d.%d.", &place.stage, &place.block) < 1)
        place.stage = -1;
    return place;
}

static const char *colour_of(enum rdp_layer_kind kind)
{
    switch (kind) {
    case RDP_LAYER_CONV:
        return "#cfe2f3";
    case RDP_LAYER_BN:
        return "#fff2cc";
    case RDP_LAYER_FC:
        return "#d9ead3";
    default:
        return "#eeeeee";
    }
}

static void put_node(FILE *out, const struct rdp_model *model, int index)
{
    const struct rdp_layer *layer = &model->layers[index];
    const int64_t parameters = rdp_layer_parameters(model, layer);
    char kind[RDP_NAME_MAX], shape[RDP_NAME_MAX], number[32];
    rdp_layer_describe(layer, kind, shape);
    fprintf(out, "  n%d [label=\"%s\\n%s\\n%s", index, layer->name, kind, shape);
    if (parameters > 0)
        fprintf(out, "\\n%s parameters", rdp_format_thousands(number, sizeof number, parameters));
    fprintf(out, "\", fillcolor=\"%s\"];\n", colour_of(layer->kind));
}

/* Closes the clusters that `next` is no longer in and opens those that it begins. */
static void change_clusters(FILE *out, struct place now, struct place next)
{
    const bool same_stage = now.stage == next.stage;
    if (now.block >= 0 && !(same_stage && now.block == next.block))
        fputs("  }\n", out);
    if (now.stage >= 0 && !same_stage)
        fputs("  }\n", out);
    if (next.stage >= 0 && !same_stage)
        fprintf(out, "  subgraph cluster_%d {\n  label=\"stage %d\"; style=\"filled\"; color=\"#f7f7f7\";\n",
                next.stage, next.stage);
    if (next.block >= 0 && !(same_stage && now.block == next.block))
        fprintf(out, "  subgraph cluster_%d_%d {\n  label=\"layer%d.%d\"; style=\"rounded\"; color=\"#999999\";\n",
                next.stage, next.block, next.stage, next.block);
}

static void put_edge(FILE *out, int from, int to, const char *attributes)
{
    if (from == RDP_NO_LAYER)
        fprintf(out, "  image -> n%d%s;\n", to, attributes);
    else
        fprintf(out, "  n%d -> n%d%s;\n", from, to, attributes);
}

void rdp_draw_model(const struct rdp_model *model, FILE *out)
{
    struct place now = {-1, -1};
    char number[32];
    fputs("digraph network {\n"
          "  rankdir=TB; labeljust=\"l\"; fontname=\"Helvetica\"; fontsize=12; labelloc=\"t\";\n"
          "  node [shape=box, style=\"filled,rounded\", fontname=\"Helvetica\", fontsize=10, fillcolor=\"#ffffff\"];\n"
          "  edge [color=\"#333333\"];\n",
          out);
    fprintf(out, "  label=\"%d layers, %s parameters\";\n", model->layer_count,
            rdp_format_thousands(number, sizeof number, rdp_model_parameters(model)));
    fputs("  image [label=\"image\\n[3, 32, 32]\", shape=ellipse];\n", out);
    for (int i = 0; i < model->layer_count; i++) {
        const struct place next = place_of(&model->layers[i]);
        change_clusters(out, now, next);
        now = next;
        put_node(out, model, i);
    }
    change_clusters(out, now, (struct place){-1, -1});
    for (int i = 0; i < model->layer_count; i++) {
        put_edge(out, model->layers[i].input, i, "");
        if (model->layers[i].residual != RDP_NO_LAYER)
            put_edge(out, model->layers[i].residual, i, " [color=\"#d55e00\", style=dashed, label=\"+\"]");
    }
    fputs("}\n", out);
}
