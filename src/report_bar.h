/* The progress bar as text, and the terminal that it is for; report.c decides when it is drawn. */
#ifndef RDP_REPORT_BAR_H
#define RDP_REPORT_BAR_H

#include <stdint.h>

struct rdp_bar {
    int64_t epoch, epochs, done, total; /* done and total: steps of this epoch */
    double loss, lr, images_per_second, remaining_seconds; /* NAN: not known, left out */
};

enum {
    RDP_BAR_MAX = 512, /* bytes of a line */
    RDP_BAR_PLAIN = 0  /* instead of a width: everything but the bar itself */
};

/* "epoch 3/10 [#####.....] 210/390  loss 1.234  lr 0.0912  418 images/s  4:12 left" in at most `width` columns: the
 * bar takes what the numbers leave, and numbers go, the least important first, where even they do not fit. Returns
 * `line`. */
char *rdp_bar_format(const struct rdp_bar *bar, int width, char line[RDP_BAR_MAX]);

/* Columns of the terminal behind `descriptor`, 0 if it is none or its width is not known. */
int rdp_terminal_columns(int descriptor);

#endif
