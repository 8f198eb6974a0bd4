/* `resnet-dp draw --out FILE.dot`: the network that the options describe as a drawing for Graphviz. */
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/status.h"
#include "commands.h"
#include "draw.h"
#include "io/durable.h"

enum { CIFAR10_CLASSES = 10 };

int rdp_cmd_draw(const struct rdp_options *options)
{
    struct rdp_model *model;
    char *text = NULL;
    size_t size = 0;
    RDP_TRY(rdp_model_create(&model, options, CIFAR10_CLASSES));
    FILE *out = open_memstream(&text, &size);
    if (out != NULL)
        rdp_draw_model(model, out);
    rdp_model_destroy(model);
    if (out == NULL || fclose(out) != 0) {
        free(text);
        return rdp_fail(RDP_ENOMEM, "%s: out of memory while drawing", options->out);
    }
    struct rdp_bytes piece = {text, size};
    int status = rdp_durable_write(options->out, &piece, 1);
    free(text);
    if (status == RDP_OK)
        rdp_say("%s (`dot -Tsvg %s` makes a picture of it)\n", options->out, options->out);
    return status;
}
