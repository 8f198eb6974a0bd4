/* What image.c and image_jpeg.c share. Private to io/. */
#ifndef RDP_IO_IMAGE_DECODE_H
#define RDP_IO_IMAGE_DECODE_H

#include <stddef.h>
#include <stdint.h>

#include "io/image.h"

enum { RDP_IMAGE_EXTENT_MAX = 8192 };

/* Checks the extents and allocates image->pixels (the caller's, free). RDP_EUSAGE: too large. */
int rdp_image_allocate(struct rdp_image *image, uint32_t width, uint32_t height, const char *path);
/* Decodes a JPEG file's bytes. On failure image->pixels may be set: the caller frees it. */
int rdp_jpeg_decode(struct rdp_image *image, const uint8_t *bytes, size_t size, const char *path);

#endif
