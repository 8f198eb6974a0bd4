/* `resnet-dp plot RUN-DIR`: draws the plots of a run again, or of one that was drawn nowhere yet. */
#include "base/log.h"
#include "base/status.h"
#include "commands.h"
#include "options.h"
#include "plot.h"

int rdp_cmd_plot(const struct rdp_options *options)
{
    const char *run_dir = options->arguments[0], *out_dir = options->out[0] == '\0' ? run_dir : options->out;
    RDP_TRY(rdp_plot_run(run_dir, out_dir));
    rdp_say("%s/loss.svg\n%s/accuracy.svg\n%s/learning-rate.svg\n", out_dir, out_dir, out_dir);
    return RDP_OK;
}
