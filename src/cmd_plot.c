/* `resnet-dp plot RUN-DIR`: draws the plots of a run again, or of one that was drawn nowhere yet. */
#include "commands.h"
#include "options.h"
#include "plot.h"

int rdp_cmd_plot(const struct rdp_options *options)
{
    return rdp_plot_run(options->arguments[0], options->out[0] == '\0' ? NULL : options->out, true);
}
