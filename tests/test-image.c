/*
 * PNG and JPEG: every kind of pixel becomes RGB, damaged and foreign files are refused, resampling keeps what it must
 * keep. The files are made here with libpng and libjpeg themselves.
 */
#include <png.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h> /* expects setjmp.h and the others before it */

#include <jpeglib.h>

#include "base/status.h"
#include "io/image.h"
#include "support_io.h"

enum { WIDTH = 37, HEIGHT = 23 };

/* Writes rows of the given PNG colour type; `palette` of 4 colours for PNG_COLOR_TYPE_PALETTE. */
static void write_png(const char *path, int type, int depth, int interlace, const uint8_t *rows, size_t row_bytes)
{
    static const png_color palette[4] = {{10, 20, 30}, {200, 0, 0}, {0, 200, 0}, {0, 0, 200}};
    FILE *file = fopen(path, "wb");
    png_structp png = png_create_write_struct(PNG_LIBPNG_VER_STRING, NULL, NULL, NULL);
    png_infop info = png_create_info_struct(png);
    assert_non_null(file);
    png_init_io(png, file);
    png_set_IHDR(png, info, WIDTH, HEIGHT, depth, type, interlace, PNG_COMPRESSION_TYPE_DEFAULT,
                 PNG_FILTER_TYPE_DEFAULT);
    if (type == PNG_COLOR_TYPE_PALETTE)
        png_set_PLTE(png, info, palette, 4);
    png_write_info(png, info);
    png_bytep pointers[HEIGHT];
    for (int y = 0; y < HEIGHT; y++)
        pointers[y] = (png_bytep)rows + (size_t)y * row_bytes;
    png_write_image(png, pointers);
    png_write_end(png, NULL);
    png_destroy_write_struct(&png, &info);
    fclose(file);
}

static uint8_t sample(int y, int x, int c)
{
    return (uint8_t)(7 * x + 11 * y + 80 * c);
}

static void expect_pixel(const struct rdp_image *image, int y, int x, int red, int green, int blue, int tolerance)
{
    const uint8_t *pixel = image->pixels + ((size_t)y * (size_t)image->width + (size_t)x) * 3;
    int wanted[3] = {red, green, blue};
    for (int c = 0; c < 3; c++)
        if (abs(pixel[c] - wanted[c]) > tolerance)
            fail_msg("pixel (%d, %d) channel %d is %d, not %d", y, x, c, pixel[c], wanted[c]);
}

static void read_ok(struct rdp_image *image, const char *path)
{
    int status = rdp_image_read(image, path);
    if (status != RDP_OK)
        fail_msg("%s", rdp_fail_message());
    assert_int_equal(image->width, WIDTH);
    assert_int_equal(image->height, HEIGHT);
}

static void png_rgb(void **state)
{
    uint8_t rows[HEIGHT][WIDTH][3];
    struct rdp_image image;
    (void)state;
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++)
            for (int c = 0; c < 3; c++)
                rows[y][x][c] = sample(y, x, c);
    for (int interlace = 0; interlace < 2; interlace++) {
        write_png(rdp_test_path("rgb.jpg"), PNG_COLOR_TYPE_RGB, 8, interlace, rows[0][0],
                  sizeof rows[0]); /* the name lies */
        read_ok(&image, rdp_test_path("rgb.jpg"));
        assert_memory_equal(image.pixels, rows, sizeof rows);
        rdp_image_free(&image);
    }
    /* our own writer, and back */
    struct rdp_image own = {WIDTH, HEIGHT, rows[0][0]};
    assert_int_equal(rdp_image_write_png(rdp_test_path("own.png"), &own), RDP_OK);
    read_ok(&image, rdp_test_path("own.png"));
    assert_memory_equal(image.pixels, rows, sizeof rows);
    rdp_image_free(&image);
    rdp_test_expect(rdp_image_write_png(rdp_test_path("no/own.png"), &own), RDP_EIO, "No such file");
    own.width = 0;
    rdp_test_expect(rdp_image_write_png(rdp_test_path("own.png"), &own), RDP_EINTERNAL, "cannot be written");
}

static void png_other_kinds(void **state)
{
    uint8_t grey[HEIGHT][WIDTH], palette[HEIGHT][WIDTH], alpha[HEIGHT][WIDTH][4], deep[HEIGHT][WIDTH][3][2];
    uint8_t bits[HEIGHT][(WIDTH + 7) / 8];
    struct rdp_image image;
    (void)state;
    memset(bits, 0xa5, sizeof bits);
    for (int y = 0; y < HEIGHT; y++)
        for (int x = 0; x < WIDTH; x++) {
            grey[y][x] = sample(y, x, 0);
            palette[y][x] = (uint8_t)((x + y) % 4);
            for (int c = 0; c < 3; c++) {
                alpha[y][x][c] = sample(y, x, c);
                deep[y][x][c][0] = sample(y, x, c);
                deep[y][x][c][1] = sample(y, x, c); /* v * 257: the same colour in 16 bits */
            }
            alpha[y][x][3] = x % 2 ? 255 : 0;
        }
    write_png(rdp_test_path("grey.png"), PNG_COLOR_TYPE_GRAY, 8, 0, grey[0], WIDTH);
    read_ok(&image, rdp_test_path("grey.png"));
    for (int x = 0; x < WIDTH; x++)
        expect_pixel(&image, 5, x, grey[5][x], grey[5][x], grey[5][x], 0);
    rdp_image_free(&image);
    write_png(rdp_test_path("bits.png"), PNG_COLOR_TYPE_GRAY, 1, 0, bits[0], sizeof bits[0]);
    read_ok(&image, rdp_test_path("bits.png"));
    for (int x = 0; x < 8; x++)
        expect_pixel(&image, 5, x, 0xa5 >> (7 - x) & 1 ? 255 : 0, 0xa5 >> (7 - x) & 1 ? 255 : 0,
                     0xa5 >> (7 - x) & 1 ? 255 : 0, 0);
    rdp_image_free(&image);
    write_png(rdp_test_path("palette.png"), PNG_COLOR_TYPE_PALETTE, 8, 0, palette[0], WIDTH);
    read_ok(&image, rdp_test_path("palette.png"));
    expect_pixel(&image, 0, 0, 10, 20, 30, 0);
    expect_pixel(&image, 0, 1, 200, 0, 0, 0);
    expect_pixel(&image, 1, 1, 0, 200, 0, 0);
    rdp_image_free(&image);
    write_png(rdp_test_path("alpha.png"), PNG_COLOR_TYPE_RGB_ALPHA, 8, 0, alpha[0][0], sizeof alpha[0]);
    read_ok(&image, rdp_test_path("alpha.png"));
    for (int x = 0; x < WIDTH; x++) /* transparent is white */
        expect_pixel(&image, 7, x, x % 2 ? alpha[7][x][0] : 255, x % 2 ? alpha[7][x][1] : 255,
                     x % 2 ? alpha[7][x][2] : 255, 0);
    rdp_image_free(&image);
    write_png(rdp_test_path("deep.png"), PNG_COLOR_TYPE_RGB, 16, 0, deep[0][0][0], sizeof deep[0]);
    read_ok(&image, rdp_test_path("deep.png"));
    for (int x = 0; x < WIDTH; x++) /* libpng converts by a table; one level of rounding */
        expect_pixel(&image, 9, x, deep[9][x][0][0], deep[9][x][1][0], deep[9][x][2][0], 1);
    rdp_image_free(&image);
}

static void write_jpeg(const char *path, J_COLOR_SPACE space, int components, int progressive)
{
    struct jpeg_compress_struct jpeg;
    struct jpeg_error_mgr errors;
    FILE *file = fopen(path, "wb");
    uint8_t row[WIDTH * 4];
    assert_non_null(file);
    jpeg.err = jpeg_std_error(&errors);
    jpeg_create_compress(&jpeg);
    jpeg_stdio_dest(&jpeg, file);
    jpeg.image_width = WIDTH;
    jpeg.image_height = HEIGHT;
    jpeg.input_components = components;
    jpeg.in_color_space = space;
    jpeg_set_defaults(&jpeg);
    jpeg_set_quality(&jpeg, 100, TRUE);
    if (progressive)
        jpeg_simple_progression(&jpeg);
    jpeg_start_compress(&jpeg, TRUE);
    for (int y = 0; y < HEIGHT; y++) {
        JSAMPROW pointer = row;
        for (int i = 0; i < WIDTH * components; i++)
            row[i] = (uint8_t)(40 * (i % components) + 2 * (i / components) + 3 * y);
        jpeg_write_scanlines(&jpeg, &pointer, 1);
    }
    jpeg_finish_compress(&jpeg);
    jpeg_destroy_compress(&jpeg);
    fclose(file);
}

static void jpeg(void **state)
{
    struct rdp_image image;
    (void)state;
    for (int progressive = 0; progressive < 2; progressive++) {
        write_jpeg(rdp_test_path("rgb.jpg"), JCS_RGB, 3, progressive);
        read_ok(&image, rdp_test_path("rgb.jpg"));
        for (int x = 0; x < WIDTH; x++) /* quality 100 of a smooth picture; colour is subsampled: a few levels */
            expect_pixel(&image, 10, x, 2 * x + 30, 40 + 2 * x + 30, 80 + 2 * x + 30, 6);
        rdp_image_free(&image);
    }
    write_jpeg(rdp_test_path("grey.jpg"), JCS_GRAYSCALE, 1, 0);
    read_ok(&image, rdp_test_path("grey.jpg"));
    expect_pixel(&image, 10, 10, 50, 50, 50, 2);
    rdp_image_free(&image);
    write_jpeg(rdp_test_path("cmyk.jpg"), JCS_CMYK, 4, 0);
    rdp_test_expect(rdp_image_read(&image, rdp_test_path("cmyk.jpg")), RDP_EUSAGE, "CMYK");
    assert_null(image.pixels);
}

static void expect_bad(const char *path, const char *words)
{
    struct rdp_image image;
    rdp_test_expect(rdp_image_read(&image, path), RDP_EUSAGE, words);
    assert_null(image.pixels);
}

static void put_big_endian(uint8_t *bytes, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        bytes[i] = (uint8_t)(number >> (24 - 8 * i));
}

static void damaged(void **state)
{
    static const char *const kinds[3] = {"png", "jpg", "progressive.jpg"};
    const char *path = rdp_test_path("whole"), *bad = rdp_test_path("bad");
    uint8_t rows[HEIGHT][WIDTH][3];
    uint32_t random = 3;
    (void)state;
    for (size_t i = 0; i < sizeof rows; i++)
        ((uint8_t *)rows)[i] = (uint8_t)(rdp_test_random(&random) >> 8);
    for (int kind = 0; kind < 3; kind++) {
        size_t size;
        print_message("%s\n", kinds[kind]);
        if (kind == 0)
            write_png(path, PNG_COLOR_TYPE_RGB, 8, 0, rows[0][0], sizeof rows[0]);
        else
            write_jpeg(path, JCS_RGB, 3, kind == 2);
        uint8_t *bytes = rdp_test_read(path, &size);
        for (int i = 0; i < 200; i++) {
            size_t length = i < 40 ? (size_t)i : i < 60 ? size - (size_t)(i - 39) : rdp_test_random(&random) % size;
            rdp_test_write(bad, bytes, length);
            expect_bad(bad, bad);
        }
        for (int i = 0; i < 400; i++) { /* PNG has checksums everywhere; JPEG has none: there, not to crash is all */
            size_t at = rdp_test_random(&random) % size;
            struct rdp_image image;
            bytes[at] ^= (uint8_t)(1 << i % 8);
            rdp_test_write(bad, bytes, size);
            int status = rdp_image_read(&image, bad);
            if (kind == 0 && status != RDP_EUSAGE)
                fail_msg("a flip of bit %d of byte %zu of the PNG passes", i % 8, at);
            assert_true(status == RDP_OK || status == RDP_EUSAGE);
            rdp_fail_clear();
            rdp_image_free(&image);
            bytes[at] ^= (uint8_t)(1 << i % 8);
        }
        free(bytes);
    }
}

static void foreign(void **state)
{
    uint8_t noise[5000];
    uint32_t random = 8;
    size_t size;
    (void)state;
    expect_bad(rdp_test_path("absent.png"), "No such file");
    expect_bad(rdp_test_path(""), "directory");
    rdp_test_write(rdp_test_path("empty.png"), "", 0);
    expect_bad(rdp_test_path("empty.png"), "neither a PNG nor a JPEG");
    rdp_test_write(rdp_test_path("text.png"), "GIF89a and more", 15);
    expect_bad(rdp_test_path("text.png"), "neither a PNG nor a JPEG");
    for (int i = 0; i < 50; i++) { /* garbage behind a right beginning */
        for (size_t b = 0; b < sizeof noise; b++)
            noise[b] = (uint8_t)(rdp_test_random(&random) >> 8);
        memcpy(noise, i % 2 ? "\x89PNG\r\n\x1a\n" : "\xff\xd8\xff\xe0\x00\x10JFIF", 8);
        rdp_test_write(rdp_test_path("noise"), noise, sizeof noise);
        expect_bad(rdp_test_path("noise"), "noise");
    }
    /* A PNG that claims 8193 pixels in width, with a right checksum. */
    uint8_t row[WIDTH * HEIGHT] = {0};
    write_png(rdp_test_path("wide.png"), PNG_COLOR_TYPE_GRAY, 8, 0, row, WIDTH);
    uint8_t *bytes = rdp_test_read(rdp_test_path("wide.png"), &size);
    put_big_endian(bytes + 16, 8193);
    put_big_endian(bytes + 29, (uint32_t)crc32(0, bytes + 12, 17));
    rdp_test_write(rdp_test_path("wide.png"), bytes, size);
    expect_bad(rdp_test_path("wide.png"), "8193 x 23");
    free(bytes);
}

static void resize(void **state)
{
    uint8_t rows[8][8][3], out[64 * 64 * 3], half[4 * 4 * 3];
    struct rdp_image image = {8, 8, rows[0][0]};
    (void)state;
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++)
            for (int c = 0; c < 3; c++)
                rows[y][x][c] = sample(y * 5, x * 9, c);
    assert_int_equal(rdp_image_resize(&image, 8, 8, out), RDP_OK);
    assert_memory_equal(out, rows, sizeof rows);
    assert_int_equal(rdp_image_resize(&image, 4, 4, half), RDP_OK);
    for (int y = 0; y < 4; y++)
        for (int x = 0; x < 4; x++)
            for (int c = 0; c < 3; c++) {
                int sum = rows[2 * y][2 * x][c] + rows[2 * y + 1][2 * x][c] + rows[2 * y][2 * x + 1][c] +
                          rows[2 * y + 1][2 * x + 1][c];
                assert_in_range(half[(y * 4 + x) * 3 + c], sum / 4, (sum + 3) / 4);
            }
    /* A ramp stays a ramp, whatever the direction; its ends stay within it. */
    for (int y = 0; y < 8; y++)
        for (int x = 0; x < 8; x++)
            memset(rows[y][x], 16 + 32 * x, 3);
    static const int sizes[][2] = {{5, 3}, {16, 16}, {64, 8}, {8, 64}, {3, 50}, {1, 1}};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        int width = sizes[s][0], height = sizes[s][1];
        assert_int_equal(rdp_image_resize(&image, width, height, out), RDP_OK);
        for (int y = 0; y < height; y++)
            for (int x = 0; x < width; x++) {
                double wanted =
                    32 * (x + 0.5) * 8 / width; /* the ramp at the pixel's centre, in units where a pixel is 1 */
                int got = out[(y * width + x) * 3 + 1];
                wanted = wanted < 16 ? 16 : wanted > 240 ? 240 : wanted;
                /* Rounding of weights and result; when shrunk, pixels are steps of 32, not a ramp: up to 2.5 of 8 to 5.
                 */
                double tolerance = width < 8 ? 4 : 1.01;
                if (got < wanted - tolerance || got > wanted + tolerance)
                    fail_msg("%d x %d: column %d is %d, not %g", width, height, x, got, wanted);
            }
    }
    /* Grey stays grey when 3 x 3 is shrunk to 2 x 2, where pixels are split. */
    memset(rows, 77, sizeof rows);
    struct rdp_image small = {3, 3, rows[0][0]};
    assert_int_equal(rdp_image_resize(&small, 2, 2, out), RDP_OK);
    for (int i = 0; i < 12; i++)
        assert_int_equal(out[i], 77);
    rdp_test_expect(rdp_image_resize(&image, 0, 5, out), RDP_EUSAGE, "cannot be scaled");
    rdp_test_expect(rdp_image_resize(&image, 5, 9000, out), RDP_EUSAGE, "cannot be scaled");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(png_rgb), cmocka_unit_test(png_other_kinds), cmocka_unit_test(jpeg),
        cmocka_unit_test(damaged), cmocka_unit_test(foreign),         cmocka_unit_test(resize),
    };
    return cmocka_run_group_tests(tests, rdp_test_directory_make, rdp_test_directory_remove);
}
