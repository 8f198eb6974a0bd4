/*
 * JPEG through libjpeg; see image.h. libjpeg leaves a failed call by longjmp, so everything that must survive one is in
 * `struct decoder`. It fills missing data with grey and only warns; here such a warning is a failure, for the picture
 * is not what it was.
 */
#include <setjmp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jpeglib.h> /* expects stdio.h before it */

#include <jerror.h> /* expects jpeglib.h before it */

#include "base/status.h"
#include "io/image_decode.h"

struct decoder {
    struct jpeg_error_mgr errors; /* first: libjpeg hands back a pointer to it */
    struct jpeg_decompress_struct jpeg;
    jmp_buf failed;
    char message[JMSG_LENGTH_MAX];
};

static void leave(j_common_ptr jpeg)
{
    struct decoder *decoder = (struct decoder *)jpeg->err;
    jpeg->err->format_message(jpeg, decoder->message);
    longjmp(decoder->failed, 1);
}

static void judge(j_common_ptr jpeg, int level)
{
    /* Cameras leave stray bytes between markers; nothing is lost by them. */
    if (level < 0 && jpeg->err->msg_code != JWRN_EXTRANEOUS_DATA)
        leave(jpeg);
}

static int decode(struct decoder *decoder, struct rdp_image *image, const uint8_t *bytes, size_t size, const char *path)
{
    struct jpeg_decompress_struct *jpeg = &decoder->jpeg;
    jpeg_create_decompress(jpeg);
    jpeg_mem_src(jpeg, bytes, (unsigned long)size);
    jpeg_read_header(jpeg, TRUE);
    if (jpeg->jpeg_color_space == JCS_CMYK || jpeg->jpeg_color_space == JCS_YCCK)
        return rdp_fail(RDP_EUSAGE, "%s is a CMYK picture; convert it to RGB", path);
    RDP_TRY(rdp_image_allocate(image, jpeg->image_width, jpeg->image_height, path));
    jpeg->out_color_space = JCS_RGB;
    jpeg_start_decompress(jpeg);
    while (jpeg->output_scanline < jpeg->output_height) {
        JSAMPROW row = image->pixels + (size_t)jpeg->output_scanline * jpeg->output_width * 3;
        jpeg_read_scanlines(jpeg, &row, 1);
    }
    jpeg_finish_decompress(jpeg); /* reads on to the end marker */
    return RDP_OK;
}

int rdp_jpeg_decode(struct rdp_image *image, const uint8_t *bytes, size_t size, const char *path)
{
    struct decoder decoder;
    int status;
    memset(&decoder, 0, sizeof decoder);
    decoder.jpeg.err = jpeg_std_error(&decoder.errors);
    decoder.errors.error_exit = leave;
    decoder.errors.emit_message = judge;
    if (setjmp(decoder.failed) == 0)
        status = decode(&decoder, image, bytes, size, path);
    else
        status = rdp_fail(RDP_EUSAGE, "%s is a damaged or unreadable JPEG: %s; get the picture again", path,
                          decoder.message);
    jpeg_destroy_decompress(&decoder.jpeg);
    return status;
}
