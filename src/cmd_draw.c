/* `resnet-dp draw --out FILE.dot`: the network that the options describe as a drawing for Graphviz. */
#include "base/log.h"
#include "base/status.h"
#include "commands.h"
#include "draw.h"
#include "io/durable.h"

enum { CIFAR10_CLASSES = 10 };

static void draw(FILE *out, const void *model)
{
    rdp_draw_model(model, out);
}

int rdp_cmd_draw(const struct rdp_options *options)
{
    struct rdp_model *model;
    RDP_TRY(rdp_model_create(&model, options, CIFAR10_CLASSES));
    int status = rdp_durable_print(options->out, draw, model);
    rdp_model_destroy(model);
    if (status == RDP_OK)
        rdp_say("%s (`dot -Tsvg %s` makes a picture of it)\n", options->out, options->out);
    return status;
}
