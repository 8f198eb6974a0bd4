/* Reading PNG and JPEG files for `predict`, writing PNG. libpng and libjpeg. */
#ifndef RDP_IO_IMAGE_H
#define RDP_IO_IMAGE_H

#include <stdint.h>

/* An 8-bit RGB picture, (height, width, 3), top row first. `pixels` is owned by the caller of read (free). */
struct rdp_image {
    int width, height;
    uint8_t *pixels;
};

/* By content, not by name. Grey, palette, 16-bit and alpha (over white) are converted. At most 8192 x 8192.
 * RDP_EUSAGE with the reason: missing, neither PNG nor JPEG, damaged, too large. */
int rdp_image_read(struct rdp_image *image, const char *path);
void rdp_image_free(struct rdp_image *image);
/* Resamples to width x height by area averaging (down) and bilinear interpolation (up); same size copies. */
int rdp_image_resize(const struct rdp_image *image, int width, int height, uint8_t *pixels);
/* Writes durably (durable.h). */
int rdp_image_write_png(const char *path, const struct rdp_image *image);

#endif
