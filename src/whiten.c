/* The stem's filters from the training images; see whiten.h. */
#include "whiten.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"

enum { SIDE = RDP_IMAGE_SIZE, CHANNELS = RDP_IMAGE_CHANNELS, KERNEL = 3, SPAN = SIDE - KERNEL + 1 };

/* The corner of value i of a patch in an image's plane, which the patches run through. */
static int corner(int i)
{
    return i % (KERNEL * KERNEL) / KERNEL * SIDE + i % KERNEL;
}

struct sums {
    int64_t first[RDP_PATCH], second[RDP_PATCH][RDP_PATCH];
};

/* An image's planes, widened for the loops below: 900 x 255^2 fits 32 bits. */
static void add_image(const int32_t planes[CHANNELS][SIDE * SIDE], struct sums *sums)
{
    for (int i = 0; i < RDP_PATCH; i++) {
        const int32_t *a = planes[i / (KERNEL * KERNEL)] + corner(i);
        int32_t first = 0;
        for (int y = 0; y < SPAN; y++)
            for (int x = 0; x < SPAN; x++)
                first += a[y * SIDE + x];
        sums->first[i] += first;
        for (int j = 0; j <= i; j++) {
            const int32_t *b = planes[j / (KERNEL * KERNEL)] + corner(j);
            int32_t second = 0;
            for (int y = 0; y < SPAN; y++)
                for (int x = 0; x < SPAN; x++)
                    second += a[y * SIDE + x] * b[y * SIDE + x];
            sums->second[i][j] += second;
        }
    }
}

int rdp_patch_covariance(const uint8_t *images, int64_t count, double covariance[RDP_PATCH][RDP_PATCH])
{
    struct sums *sums;
    int32_t planes[CHANNELS][SIDE * SIDE];
    const double patches = (double)count * SPAN * SPAN;
    RDP_TRY(rdp_calloc((void **)&sums, 1, sizeof *sums, "sums of patches"));
    for (int64_t n = 0; n < count; n++) {
        for (int i = 0; i < RDP_IMAGE_BYTES; i++)
            planes[i % CHANNELS][i / CHANNELS] = images[n * RDP_IMAGE_BYTES + i];
        add_image(planes, sums);
    }
    for (int i = 0; i < RDP_PATCH; i++)
        for (int j = 0; j <= i; j++) {
            const double means = (double)sums->first[i] / patches * ((double)sums->first[j] / patches);
            covariance[i][j] = covariance[j][i] = ((double)sums->second[i][j] / patches - means) / (255.0 * 255.0);
        }
    free(sums);
    return RDP_OK;
}

static int read_covariance(struct rdp_dataset *dataset, const int64_t *rows, int64_t count,
                           double covariance[RDP_PATCH][RDP_PATCH])
{
    const int64_t wanted = count < RDP_WHITEN_IMAGES ? count : RDP_WHITEN_IMAGES;
    int64_t *spread;
    uint8_t *images = NULL;
    RDP_TRY(rdp_calloc((void **)&spread, (size_t)wanted, sizeof *spread, "rows for the stem's filters"));
    int status = rdp_calloc((void **)&images, (size_t)wanted, RDP_IMAGE_BYTES, "images for the stem's filters");
    for (int64_t i = 0; i < wanted; i++)
        spread[i] = rows[i * count / wanted];
    if (status == RDP_OK)
        status = rdp_dataset_read_rows(dataset, RDP_SPLIT_TRAIN, spread, wanted, images, NULL);
    if (status == RDP_OK)
        status = rdp_patch_covariance(images, wanted, covariance);
    free(spread);
    free(images);
    return status;
}

int rdp_whiten_read(struct rdp_dataset *dataset, const int64_t *rows, int64_t count, struct rdp_comm *comm,
                    double covariance[RDP_PATCH][RDP_PATCH])
{
    const size_t bytes = sizeof(double[RDP_PATCH][RDP_PATCH]);
    int status = comm->rank == 0 ? read_covariance(dataset, rows, count, covariance) : RDP_OK;
    RDP_TRY(rdp_comm_agree(comm, status, "reading images for the stem's filters"));
    return comm->ops->broadcast(comm, covariance, bytes, 0, "the covariance of the images' patches");
}

/* Rotates rows and columns p and q so that matrix[p][q] becomes 0; vectors follow. */
static void rotate(double matrix[RDP_PATCH][RDP_PATCH], double vectors[RDP_PATCH][RDP_PATCH], int p, int q)
{
    const double tau = (matrix[q][q] - matrix[p][p]) / (2 * matrix[p][q]);
    const double t = (tau >= 0 ? 1 : -1) / (fabs(tau) + sqrt(1 + tau * tau));
    const double c = 1 / sqrt(1 + t * t), s = t * c;
    for (int k = 0; k < RDP_PATCH; k++) {
        const double a = matrix[k][p], b = matrix[k][q];
        matrix[k][p] = c * a - s * b;
        matrix[k][q] = s * a + c * b;
    }
    for (int k = 0; k < RDP_PATCH; k++) {
        const double a = matrix[p][k], b = matrix[q][k], u = vectors[p][k], v = vectors[q][k];
        matrix[p][k] = c * a - s * b;
        matrix[q][k] = s * a + c * b;
        vectors[p][k] = c * u - s * v;
        vectors[q][k] = s * u + c * v;
    }
}

static double off_diagonal(const double matrix[RDP_PATCH][RDP_PATCH], double *all)
{
    double off = 0;
    *all = 0;
    for (int i = 0; i < RDP_PATCH; i++)
        for (int j = 0; j < RDP_PATCH; j++) {
            *all += matrix[i][j] * matrix[i][j];
            off += i != j ? matrix[i][j] * matrix[i][j] : 0;
        }
    return off;
}

static void set_sign(double vector[RDP_PATCH])
{
    int largest = 0;
    for (int i = 1; i < RDP_PATCH; i++)
        if (fabs(vector[i]) > fabs(vector[largest]))
            largest = i;
    for (int i = 0; vector[largest] < 0 && i < RDP_PATCH; i++)
        if (i != largest)
            vector[i] = -vector[i];
    vector[largest] = fabs(vector[largest]);
}

void rdp_eigen(const double matrix[RDP_PATCH][RDP_PATCH], double values[RDP_PATCH],
               double vectors[RDP_PATCH][RDP_PATCH])
{
    enum { SWEEPS_MOST = 50 }; /* it converges quadratically: 6 to 10 are enough */
    double work[RDP_PATCH][RDP_PATCH], all, turned[RDP_PATCH][RDP_PATCH] = {{0}};
    memcpy(work, matrix, sizeof work);
    for (int i = 0; i < RDP_PATCH; i++)
        turned[i][i] = 1;
    for (int sweep = 0; sweep < SWEEPS_MOST && off_diagonal((const double(*)[RDP_PATCH])work, &all) > 1e-32 * all;
         sweep++)
        for (int p = 0; p < RDP_PATCH; p++)
            for (int q = p + 1; q < RDP_PATCH; q++)
                if (work[p][q] != 0)
                    rotate(work, turned, p, q);
    bool taken[RDP_PATCH] = {false};
    for (int k = 0; k < RDP_PATCH; k++) { /* descending; of equals the first */
        int best = -1;
        for (int i = 0; i < RDP_PATCH; i++)
            if (!taken[i] && (best < 0 || work[i][i] > work[best][best]))
                best = i;
        taken[best] = true;
        values[k] = work[best][best];
        memcpy(vectors[k], turned[best], sizeof turned[best]);
        set_sign(vectors[k]);
    }
}

/* As the network sees the pixels: their mean does not matter to a covariance. */
static void make_filters(const double covariance[RDP_PATCH][RDP_PATCH], const float std[3],
                         double filters[RDP_PATCH][RDP_PATCH])
{
    const double least = 5e-4; /* Page's: keeps the noise of the smallest eigenvalues small */
    double seen[RDP_PATCH][RDP_PATCH], values[RDP_PATCH];
    for (int i = 0; i < RDP_PATCH; i++)
        for (int j = 0; j < RDP_PATCH; j++)
            seen[i][j] = covariance[i][j] / ((double)std[i / (KERNEL * KERNEL)] * (double)std[j / (KERNEL * KERNEL)]);
    rdp_eigen((const double(*)[RDP_PATCH])seen, values, filters);
    for (int k = 0; k < RDP_PATCH; k++)
        for (int i = 0; i < RDP_PATCH; i++)
            filters[k][i] /= sqrt(fmax(values[k], 0) + least);
}

int rdp_whiten_stem(struct rdp_network *network, const double covariance[RDP_PATCH][RDP_PATCH], const float std[3])
{
    const struct rdp_layer *stem = &network->model->layers[0];
    const int row = stem->first_parameter, half = stem->out.channels / 2;
    const int64_t count = network->model->parameters[row].count;
    double filters[RDP_PATCH][RDP_PATCH];
    float *weights;
    make_filters(covariance, std, filters);
    RDP_TRY(rdp_calloc((void **)&weights, (size_t)count, sizeof *weights, "the stem's filters"));
    int status = rdp_network_take(network, row, network->parameters, weights);
    const int taken = half < RDP_PATCH ? half : RDP_PATCH;
    for (int k = 0; k < taken; k++)
        for (int i = 0; i < RDP_PATCH; i++) {
            weights[k * RDP_PATCH + i] = (float)filters[k][i];
            weights[(taken + k) * RDP_PATCH + i] = -(float)filters[k][i];
        }
    if (status == RDP_OK)
        status = rdp_network_put(network, row, weights, network->parameters);
    free(weights);
    return status == RDP_OK ? rdp_network_weights_changed(network) : status;
}
