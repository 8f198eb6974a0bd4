/*
 * Reading and writing pictures; see image.h. Which format a file has is told by its first bytes. Both decoders work on
 * the file's bytes in memory. image_jpeg.c holds the JPEG half, image_resize.c the resampling.
 */
#include "io/image.h"

#include <png.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/durable.h"
#include "io/file.h"
#include "io/image_decode.h"

enum { FILE_LIMIT = 256 << 20 };

void rdp_image_free(struct rdp_image *image)
{
    free(image->pixels);
    *image = (struct rdp_image){0, 0, NULL};
}

int rdp_image_allocate(struct rdp_image *image, uint32_t width, uint32_t height, const char *path)
{
    void *pixels;
    if (width < 1 || height < 1 || width > RDP_IMAGE_EXTENT_MAX || height > RDP_IMAGE_EXTENT_MAX)
        return rdp_fail(RDP_EUSAGE, "%s has %ju x %ju pixels; 1 to %d in each direction are possible: scale it down",
                        path, (uintmax_t)width, (uintmax_t)height, RDP_IMAGE_EXTENT_MAX);
    RDP_TRY(rdp_calloc(&pixels, (size_t)width * height, 3, "a picture"));
    *image = (struct rdp_image){(int)width, (int)height, pixels};
    return RDP_OK;
}

static uint32_t load_big_endian(const uint8_t *bytes)
{
    return (uint32_t)bytes[0] << 24 | (uint32_t)bytes[1] << 16 | (uint32_t)bytes[2] << 8 | bytes[3];
}

/* Walks the chunks (length, type, data, CRC-32 of type and data) to IEND. libpng stops at the last row and would not
 * notice what is missing or damaged behind it. PNG specification, 5.3. */
static int check_png_chunks(const uint8_t *bytes, size_t size, const char *path)
{
    for (size_t at = 8; size - at >= 12;) {
        size_t length = load_big_endian(bytes + at);
        if (length > size - at - 12)
            break;
        if (crc32(0, bytes + at + 4, (uInt)(length + 4)) != load_big_endian(bytes + at + 8 + length))
            return rdp_fail(RDP_EUSAGE, "%s is damaged: the CRC of its %.4s chunk does not hold; get the picture again",
                            path, (const char *)bytes + at + 4);
        if (memcmp(bytes + at + 4, "IEND", 4) == 0)
            return RDP_OK;
        at += length + 12;
    }
    return rdp_fail(RDP_EUSAGE, "%s is truncated: the PNG has no end; get the picture again", path);
}

static int read_png(struct rdp_image *image, const uint8_t *bytes, size_t size, const char *path)
{
    png_image png = {.version = PNG_IMAGE_VERSION};
    const png_color white = {255, 255, 255};
    RDP_TRY(check_png_chunks(bytes, size, path));
    int status = RDP_OK;
    if (png_image_begin_read_from_memory(&png, bytes, size) == 0)
        status = rdp_fail(RDP_EUSAGE, "%s is no readable PNG: %s; get the picture again", path, png.message);
    if (status == RDP_OK)
        status = rdp_image_allocate(image, png.width, png.height, path);
    if (status == RDP_OK) {
        png.format = PNG_FORMAT_RGB;
        png.flags |= PNG_IMAGE_FLAG_16BIT_sRGB; /* 16-bit files are sRGB like all others, not linear light */
        if (png_image_finish_read(&png, &white, image->pixels, 0, NULL) == 0)
            status = rdp_fail(RDP_EUSAGE, "%s is damaged: %s; get the picture again", path, png.message);
    }
    png_image_free(&png);
    return status;
}

int rdp_image_read(struct rdp_image *image, const char *path)
{
    static const uint8_t png_signature[8] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n'};
    static const uint8_t jpeg_signature[3] = {0xff, 0xd8, 0xff};
    uint8_t *bytes;
    size_t size;
    int status;
    *image = (struct rdp_image){0, 0, NULL};
    RDP_TRY(rdp_file_read(path, FILE_LIMIT, &bytes, &size));
    if (size >= 8 && memcmp(bytes, png_signature, 8) == 0)
        status = read_png(image, bytes, size, path);
    else if (size >= 3 && memcmp(bytes, jpeg_signature, 3) == 0)
        status = rdp_jpeg_decode(image, bytes, size, path);
    else
        status = rdp_fail(RDP_EUSAGE, "%s is neither a PNG nor a JPEG file; convert the picture to one of them", path);
    free(bytes);
    if (status != RDP_OK)
        rdp_image_free(image);
    return status;
}

int rdp_image_write_png(const char *path, const struct rdp_image *image)
{
    png_image png = {.version = PNG_IMAGE_VERSION, .format = PNG_FORMAT_RGB};
    void *bytes;
    if (image->width < 1 || image->height < 1 || image->width > RDP_IMAGE_EXTENT_MAX ||
        image->height > RDP_IMAGE_EXTENT_MAX)
        return rdp_fail(RDP_EINTERNAL, "%s: a picture of %d x %d pixels cannot be written", path, image->width,
                        image->height);
    png.width = (png_uint_32)image->width;
    png.height = (png_uint_32)image->height;
    png_alloc_size_t size = PNG_IMAGE_PNG_SIZE_MAX(png);
    RDP_TRY(rdp_calloc(&bytes, size, 1, "a PNG file"));
    int status;
    if (png_image_write_to_memory(&png, bytes, &size, 0, image->pixels, 0, NULL) == 0)
        status = rdp_fail(RDP_EIO, "%s: libpng says: %s", path, png.message);
    else
        status = rdp_durable_write(path, &(struct rdp_bytes){bytes, size}, 1);
    free(bytes);
    return status;
}
