/* `resnet-dp summary`: the per-layer table of the network that the options describe. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/status.h"
#include "commands.h"
#include "model.h"

enum { CIFAR10_CLASSES = 10 };

int rdp_cmd_summary(const struct rdp_options *options)
{
    struct rdp_model *model;
    RDP_TRY(rdp_model_create(&model, options, CIFAR10_CLASSES));
    rdp_model_summary(model, stdout);
    rdp_model_destroy(model);
    if (fflush(stdout) != 0 || ferror(stdout))
        return rdp_fail(RDP_EIO, "the summary could not be written to standard output: %s", strerror(errno));
    return RDP_OK;
}
