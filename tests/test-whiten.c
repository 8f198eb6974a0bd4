/*
 * --stem-init whiten: the eigenproblem against its definition, the covariance against plain loops, and what it is for:
 * the filters' outputs on the images' patches have covariance near the identity.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "comm/launch.h"
#include "support_io.h"
#include "support_network.h"
#include "support_reference.h"
#include "whiten.h"

enum { IMAGES = 40, SPAN = 30 };
typedef const double (*matrix_t)[RDP_PATCH];

/* Smooth images, whose neighbouring pixels and colours go together as a photograph's do. */
static uint8_t *make_images(void)
{
    uint8_t *images = malloc((size_t)IMAGES * RDP_IMAGE_BYTES);
    assert_non_null(images);
    for (int n = 0; n < IMAGES; n++)
        for (int i = 0; i < RDP_IMAGE_BYTES; i++) {
            const int c = i % 3, x = i / 3 % 32, y = i / 96;
            const double wave =
                sin(0.3 * x * (1 + n % 3) + n) + cos(0.2 * y * (1 + n % 5)) + 0.2 * c * sin(0.1 * x * y);
            images[n * RDP_IMAGE_BYTES + i] =
                (uint8_t)(128 + 40 * wave + 15 * rdp_test_value(1, (uint64_t)(n * RDP_IMAGE_BYTES + i)));
        }
    return images;
}

/* Value i of the patch at (y, x). */
static double patch_value(const uint8_t *image, int y, int x, int i)
{
    return image[((y + i % 9 / 3) * 32 + x + i % 3) * 3 + i / 9] / 255.0;
}

static void test_covariance(void **unused)
{
    uint8_t *images = make_images();
    double got[RDP_PATCH][RDP_PATCH], mean[RDP_PATCH] = {0}, want[RDP_PATCH][RDP_PATCH] = {{0}};
    const double patches = IMAGES * SPAN * SPAN;
    (void)unused;
    RDP_MUST(rdp_patch_covariance(images, IMAGES, got));
    for (int pass = 0; pass < 2; pass++)
        for (int n = 0; n < IMAGES; n++)
            for (int y = 0; y < SPAN; y++)
                for (int x = 0; x < SPAN; x++) {
                    double value[RDP_PATCH];
                    for (int i = 0; i < RDP_PATCH; i++)
                        value[i] = patch_value(images + n * RDP_IMAGE_BYTES, y, x, i) - mean[i];
                    for (int i = 0; i < RDP_PATCH; i++)
                        for (int j = 0; pass == 1 && j < RDP_PATCH; j++)
                            want[i][j] += value[i] * value[j] / patches;
                    for (int i = 0; pass == 0 && i < RDP_PATCH; i++)
                        want[i][0] += value[i] / patches;
                    if (pass == 0 && n == IMAGES - 1 && y == SPAN - 1 && x == SPAN - 1)
                        for (int i = 0; i < RDP_PATCH; i++) {
                            mean[i] = want[i][0];
                            want[i][0] = 0;
                        }
                }
    for (int i = 0; i < RDP_PATCH; i++)
        for (int j = 0; j < RDP_PATCH; j++)
            assert_true(fabs(got[i][j] - want[i][j]) < 1e-12); /* of values near 0.02 */
    free(images);
}

/* A v = lambda v, V V^T = 1, descending, signs; a spectrum that is known; equal eigenvalues; a diagonal matrix.
 * Rounding in f64 leaves some 1e-15 of the largest eigenvalue. */
static void check_eigen(matrix_t matrix, double values[RDP_PATCH], double vectors[RDP_PATCH][RDP_PATCH])
{
    rdp_eigen(matrix, values, vectors);
    const double size = fmax(fabs(values[0]), fabs(values[RDP_PATCH - 1]));
    for (int k = 0; k < RDP_PATCH; k++) {
        int largest = 0;
        assert_true(k == 0 || values[k] <= values[k - 1]);
        for (int i = 0; i < RDP_PATCH; i++) {
            double product = 0, inner = 0;
            for (int j = 0; j < RDP_PATCH; j++) {
                product += matrix[i][j] * vectors[k][j];
                inner += vectors[i][j] * vectors[k][j];
            }
            assert_true(fabs(product - values[k] * vectors[k][i]) <= 1e-13 * size);
            assert_true(fabs(inner - (i == k)) < 1e-13);
            largest = fabs(vectors[k][i]) > fabs(vectors[k][largest]) ? i : largest;
        }
        assert_true(vectors[k][largest] > 0);
    }
}

static void test_eigen(void **unused)
{
    double matrix[RDP_PATCH][RDP_PATCH], values[RDP_PATCH], vectors[RDP_PATCH][RDP_PATCH], again[RDP_PATCH][RDP_PATCH];
    (void)unused;
    /* The second difference: eigenvalues 2 - 2 cos(pi k / 28), k = 1 .. 27. */
    for (int i = 0; i < RDP_PATCH; i++)
        for (int j = 0; j < RDP_PATCH; j++)
            matrix[i][j] = i == j ? 2 : abs(i - j) == 1 ? -1 : 0;
    check_eigen((matrix_t)matrix, values, vectors);
    for (int k = 0; k < RDP_PATCH; k++)
        assert_true(fabs(values[k] - (2 - 2 * cos(acos(-1.0) * (RDP_PATCH - k) / 28))) < 1e-13);
    /* All ones: 27 once, 0 for the rest. */
    for (int i = 0; i < RDP_PATCH; i++)
        for (int j = 0; j < RDP_PATCH; j++)
            matrix[i][j] = 1;
    check_eigen((matrix_t)matrix, values, vectors);
    assert_true(fabs(values[0] - 27) < 1e-13 && fabs(values[1]) < 1e-13 && fabs(values[26]) < 1e-13);
    for (int i = 0; i < RDP_PATCH; i++)
        for (int j = 0; j < RDP_PATCH; j++)
            matrix[i][j] = i == j ? 1 + (i * 7) % 27 : 0;
    check_eigen((matrix_t)matrix, values, vectors);
    for (int k = 0; k < RDP_PATCH; k++)
        assert_true(values[k] == 27 - k);
    for (int i = 0; i < RDP_PATCH; i++)
        for (int j = 0; j <= i; j++)
            matrix[i][j] = matrix[j][i] = rdp_test_value(2, (uint64_t)(i * RDP_PATCH + j));
    check_eigen((matrix_t)matrix, values, vectors);
    rdp_eigen((matrix_t)matrix, values, again);
    assert_memory_equal(again, vectors, sizeof again);
    memset(matrix, 0, sizeof matrix);
    check_eigen((matrix_t)matrix, values, vectors);
}

/* Covariance of the outputs of the network's first `count` filters over the images' normalised patches, against the
 * identity. With an eigenvalue v an output's variance is v / (v + 5e-4): at least 0.9 for v >= 5e-3. */
static void check_outputs(struct rdp_test_network *test, const uint8_t *images, const float std[3], int count)
{
    float *weights = rdp_test_network_row(test, 0, test->network->parameters);
    double sums[RDP_PATCH] = {0}, products[RDP_PATCH][RDP_PATCH] = {{0}};
    const double patches = IMAGES * SPAN * SPAN;
    for (int n = 0; n < IMAGES; n++)
        for (int y = 0; y < SPAN; y++)
            for (int x = 0; x < SPAN; x++) {
                double out[RDP_PATCH] = {0};
                for (int i = 0; i < RDP_PATCH; i++) {
                    const double value = patch_value(images + n * RDP_IMAGE_BYTES, y, x, i) / (double)std[i / 9];
                    for (int k = 0; k < count; k++)
                        out[k] += (double)weights[k * RDP_PATCH + i] * value;
                }
                for (int k = 0; k < count; k++) {
                    sums[k] += out[k] / patches;
                    for (int m = 0; m <= k; m++)
                        products[k][m] += out[k] * out[m] / patches;
                }
            }
    for (int k = 0; k < count; k++)
        for (int m = 0; m <= k; m++) {
            const double covariance = products[k][m] - sums[k] * sums[m];
            if (!(k == m ? covariance > 0.9 && covariance < 1.001 : fabs(covariance) < 1e-3))
                fail_msg("filters %d and %d: covariance %.4f", k, m, covariance);
        }
    free(weights);
}

static void test_stem(void **unused)
{
    static const int blocks[] = {1, 0}, widths[] = {8, 0}, stems[] = {64, 54, 20, 1};
    static const float std[3] = {0.247f, 0.243f, 0.3f};
    double covariance[RDP_PATCH][RDP_PATCH];
    uint8_t *images = make_images();
    (void)unused;
    RDP_MUST(rdp_patch_covariance(images, IMAGES, covariance));
    for (int s = 0; s < 4; s++) {
        struct rdp_test_setup setup = rdp_test_setup(RDP_BLOCK_BASIC, blocks, stems[s], widths);
        struct rdp_test_network test;
        const int taken = stems[s] / 2 < RDP_PATCH ? stems[s] / 2 : RDP_PATCH;
        assert_true(rdp_test_network_open(&test, &setup));
        float *before = rdp_test_network_row(&test, 0, test.network->parameters);
        RDP_MUST(rdp_whiten_stem(test.network, (matrix_t)covariance, std));
        float *after = rdp_test_network_row(&test, 0, test.network->parameters);
        for (int i = 0; i < taken * RDP_PATCH; i++)
            assert_true(after[i] == -after[taken * RDP_PATCH + i]);
        const size_t set = (size_t)(2 * taken * RDP_PATCH);
        assert_memory_equal(after + set, before + set, ((size_t)(stems[s] * RDP_PATCH) - set) * sizeof *after);
        check_outputs(&test, images, std, taken);
        free(before);
        free(after);
        rdp_test_network_close(&test);
    }
    free(images);
}

/* From a file: of the rows that are given, and no others; few rows are all taken. */
static void test_read(void **unused)
{
    const struct rdp_launch launch = {.size = 1, .local_size = 1, .host_count = 1};
    struct rdp_dataset_content content = {.count = {IMAGES, 1}, .classes = 2, .class_names = {"a", "b"}};
    uint8_t labels[IMAGES] = {0}, *images = make_images(), *half = malloc((size_t)IMAGES / 2 * RDP_IMAGE_BYTES);
    int64_t rows[IMAGES / 2];
    double want[RDP_PATCH][RDP_PATCH], got[RDP_PATCH][RDP_PATCH];
    struct rdp_dataset *dataset;
    struct rdp_comm *comm;
    (void)unused;
    assert_non_null(half);
    for (int i = 0; i < IMAGES / 2; i++) {
        rows[i] = 2 * i + 1;
        memcpy(half + i * RDP_IMAGE_BYTES, images + rows[i] * RDP_IMAGE_BYTES, RDP_IMAGE_BYTES);
    }
    for (int split = 0; split < 2; split++) {
        content.images[split] = images;
        content.labels[split] = labels;
    }
    RDP_MUST(rdp_dataset_write(rdp_test_path("whiten.h5"), &content));
    RDP_MUST(rdp_dataset_open(&dataset, rdp_test_path("whiten.h5")));
    RDP_MUST(rdp_comm_create(&comm, &launch));
    RDP_MUST(rdp_whiten_read(dataset, rows, IMAGES / 2, comm, got));
    RDP_MUST(rdp_patch_covariance(half, IMAGES / 2, want));
    assert_memory_equal(got, want, sizeof got);
    rdp_comm_destroy(comm);
    rdp_dataset_close(dataset);
    free(images);
    free(half);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_covariance),
        cmocka_unit_test(test_eigen),
        cmocka_unit_test(test_stem),
        cmocka_unit_test(test_read),
    };
    return cmocka_run_group_tests(tests, rdp_test_directory_make, rdp_test_directory_remove);
}
