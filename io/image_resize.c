/*
 * Resampling; see image.h. Each direction by itself: an output pixel is a weighted sum of a run of input pixels. When
 * an axis shrinks, the weights are how much of each input pixel the output pixel covers; when it grows, they are those
 * of linear interpolation between pixel centres (as OpenCV's INTER_AREA and INTER_LINEAR).
 */
#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/status.h"
#include "io/image_decode.h"

/* The runs of one axis. */
struct axis {
    int *first, *count; /* [to]: inputs first .. first + count - 1 */
    float *weights;     /* [to][stride], each row of sum 1 */
    int stride;
};

static void free_axis(struct axis *axis)
{
    free(axis->first);
    free(axis->count);
    free(axis->weights);
}

static void shrink_run(struct axis *axis, int from, int to, int out)
{
    double scale = (double)from / to, begin = out * scale, end = (out + 1) * scale;
    float *weights = axis->weights + (size_t)out * (size_t)axis->stride;
    axis->first[out] = (int)begin;
    for (int in = (int)begin; in < from && in < end && axis->count[out] < axis->stride; in++) {
        double covered = fmin(end, in + 1) - fmax(begin, in);
        weights[axis->count[out]++] = (float)(covered / scale);
    }
}

static void grow_run(struct axis *axis, int from, int to, int out)
{
    double centre = (out + 0.5) * from / to - 0.5;
    float *weights = axis->weights + (size_t)out * (size_t)axis->stride;
    int below = (int)floor(centre);
    if (below < 0 || below >= from - 1) { /* beyond the outermost centres: the edge pixel */
        axis->first[out] = below < 0 ? 0 : from - 1;
        axis->count[out] = 1;
        weights[0] = 1;
        return;
    }
    axis->first[out] = below;
    axis->count[out] = 2;
    weights[1] = (float)(centre - below);
    weights[0] = 1 - weights[1];
}

static int make_axis(struct axis *axis, int from, int to)
{
    void *first = NULL, *count = NULL, *weights = NULL;
    axis->stride = from > to ? from / to + 2 : 2;
    int status = rdp_calloc(&first, (size_t)to, sizeof(int), "resampling");
    if (status == RDP_OK)
        status = rdp_calloc(&count, (size_t)to, sizeof(int), "resampling");
    if (status == RDP_OK)
        status = rdp_calloc(&weights, (size_t)to * (size_t)axis->stride, sizeof(float), "resampling");
    axis->first = first;
    axis->count = count;
    axis->weights = weights;
    for (int out = 0; status == RDP_OK && out < to; out++) {
        if (from > to)
            shrink_run(axis, from, to, out);
        else
            grow_run(axis, from, to, out);
    }
    return status;
}

/* One output row from the input: first down the columns of the run, then along the row. */
static void resize_row(const struct rdp_image *image, const struct axis *across, const struct axis *down, int width,
                       int y, float *column_sums, uint8_t *row)
{
    for (int x = 0; x < image->width * 3; x++) {
        float sum = 0;
        for (int i = 0; i < down->count[y]; i++)
            sum += down->weights[(size_t)y * (size_t)down->stride + (size_t)i] *
                   image->pixels[(size_t)(down->first[y] + i) * (size_t)image->width * 3 + (size_t)x];
        column_sums[x] = sum;
    }
    for (int x = 0; x < width; x++)
        for (int c = 0; c < 3; c++) {
            float sum = 0;
            for (int i = 0; i < across->count[x]; i++)
                sum += across->weights[(size_t)x * (size_t)across->stride + (size_t)i] *
                       column_sums[(across->first[x] + i) * 3 + c];
            row[x * 3 + c] = (uint8_t)fminf(fmaxf(sum + 0.5f, 0), 255);
        }
}

int rdp_image_resize(const struct rdp_image *image, int width, int height, uint8_t *pixels)
{
    struct axis across = {0}, down = {0};
    void *sums = NULL;
    if (width < 1 || height < 1 || width > RDP_IMAGE_EXTENT_MAX || height > RDP_IMAGE_EXTENT_MAX)
        return rdp_fail(RDP_EUSAGE, "a picture cannot be scaled to %d x %d pixels; 1 to %d are possible", width, height,
                        RDP_IMAGE_EXTENT_MAX);
    int status = make_axis(&across, image->width, width);
    if (status == RDP_OK)
        status = make_axis(&down, image->height, height);
    if (status == RDP_OK)
        status = rdp_calloc(&sums, (size_t)image->width * 3, sizeof(float), "resampling");
    for (int y = 0; status == RDP_OK && y < height; y++)
        resize_row(image, &across, &down, width, y, sums, pixels + (size_t)y * (size_t)width * 3);
    free(sums);
    free_axis(&down);
    free_axis(&across);
    return status;
}
