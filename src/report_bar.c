/* See report_bar.h. */
#include "report_bar.h"

#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/text.h"

enum { BAR_LEAST = 5, BAR_MOST = 40 };

char *rdp_bar_format(const struct rdp_bar *bar, int width, char line[RDP_BAR_MAX])
{
    enum { LOSS, LR, SPEED, LEFT, PART_COUNT };
    static const int drop_order[] = {LR, SPEED, LOSS, LEFT};
    char counter[64], steps[64], duration[32], parts[PART_COUNT][64] = {{0}}, meter[BAR_MOST + 4] = "";
    snprintf(counter, sizeof counter, "epoch %" PRId64 "/%" PRId64 " ", bar->epoch, bar->epochs);
    snprintf(steps, sizeof steps, "%" PRId64 "/%" PRId64, bar->done, bar->total);
    if (isfinite(bar->loss))
        snprintf(parts[LOSS], sizeof parts[LOSS], "  loss %.4g", bar->loss);
    if (isfinite(bar->lr))
        snprintf(parts[LR], sizeof parts[LR], "  lr %.3g", bar->lr);
    if (isfinite(bar->images_per_second))
        snprintf(parts[SPEED], sizeof parts[SPEED], "  %.0f images/s", bar->images_per_second);
    if (isfinite(bar->remaining_seconds))
        snprintf(parts[LEFT], sizeof parts[LEFT], "  %s left",
                 rdp_format_duration(duration, sizeof duration, bar->remaining_seconds));
    if (width != RDP_BAR_PLAIN) {
        int used = (int)(strlen(counter) + strlen(steps));
        for (int i = 0; i < PART_COUNT; i++)
            used += (int)strlen(parts[i]);
        for (int i = 0; i < PART_COUNT && used > width; i++) {
            used -= (int)strlen(parts[drop_order[i]]);
            parts[drop_order[i]][0] = '\0';
        }
        int cells = width - used - 3; /* brackets and a blank */
        cells = cells > BAR_MOST ? BAR_MOST : cells;
        if (cells >= BAR_LEAST) {
            int full = bar->total > 0 ? (int)((double)cells * (double)bar->done / (double)bar->total) : 0;
            meter[0] = '[';
            for (int i = 0; i < cells; i++)
                meter[1 + i] = i < full ? '#' : '.';
            memcpy(meter + 1 + cells, "] ", 3);
        }
    }
    snprintf(line, RDP_BAR_MAX, "%s%s%s%s%s%s%s", counter, meter, steps, parts[LOSS], parts[LR], parts[SPEED],
             parts[LEFT]);
    if (width != RDP_BAR_PLAIN && (int)strlen(line) > width)
        line[width > 0 ? width : 0] = '\0';
    return line;
}

static int window_columns(int descriptor)
{
    struct winsize size;
    return ioctl(descriptor, TIOCGWINSZ, &size) == 0 ? size.ws_col : 0;
}

int rdp_terminal_columns(int descriptor)
{
    char path[64];
    struct stat status;
    if (!isatty(descriptor))
        return 0;
    int columns = window_columns(descriptor);
    if (columns > 0)
        return columns;
    /*
     * Open MPI gives its children a pseudo-terminal without a size, whether its own output is a terminal or a file.
     * What counts is where the launcher writes: if that is a terminal, it is the one with the size.
     */
    snprintf(path, sizeof path, "/proc/%ld/fd/1", (long)getppid());
    if (stat(path, &status) != 0 || !S_ISCHR(status.st_mode))
        return 0;
    int launcher = open(path, O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (launcher < 0)
        return 0;
    columns = isatty(launcher) ? window_columns(launcher) : 0;
    close(launcher);
    return columns;
}
