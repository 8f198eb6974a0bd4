/*
 * --stem-init whiten: the filters of the 3x3 stem are the eigenvectors of the covariance of the training images' 3x3
 * patches, each divided by the square root of its eigenvalue, so that what they give has equal variance and is
 * uncorrelated (Page 2019, "How to train your ResNet" part 8; Jordan 2024, arXiv 2404.00498, section 3.1). They come in
 * both signs, because ReLU keeps one of them.
 *
 * The covariance is that of whole training images without augmentation, taken from the data set file: it does not
 * depend on the number of ranks. cmd_train.c reads it with the data and sets the filters of a new run.
 */
#ifndef RDP_WHITEN_H
#define RDP_WHITEN_H

#include <stdint.h>

#include "comm/comm.h"
#include "io/dataset.h"
#include "network.h"

enum {
    RDP_PATCH = 27,          /* values of a 3x3 patch: (channel, y, x), as a filter's weights */
    RDP_WHITEN_IMAGES = 5000 /* looked at, at most */
};

/* Covariance of the patches' values / 255 over all 30 x 30 patches of images u8 (count,32,32,3). Sums are of integers,
 * so exact. RDP_ENOMEM. */
int rdp_patch_covariance(const uint8_t *images, int64_t count, double covariance[RDP_PATCH][RDP_PATCH]);
/* That of the data set's training rows `rows` (ascending, `count`), or of RDP_WHITEN_IMAGES of them, evenly spread.
 * Rank 0 reads, all get the same bits. Agreed. */
int rdp_whiten_read(struct rdp_dataset *dataset, const int64_t *rows, int64_t count, struct rdp_comm *comm,
                    double covariance[RDP_PATCH][RDP_PATCH]);

/* Eigenvalues of a symmetric matrix, descending, and its eigenvectors (rows, of length 1; the component that is largest
 * in magnitude, the first of equals, is positive). By Jacobi's rotations: Golub & Van Loan, "Matrix Computations",
 * section 8.5. */
void rdp_eigen(const double matrix[RDP_PATCH][RDP_PATCH], double values[RDP_PATCH],
               double vectors[RDP_PATCH][RDP_PATCH]);

/* Sets the first 2 x min(27, width / 2) filters of the network's first convolution, which sees pixels / 255 with their
 * mean subtracted and divided by `std`; the others stay. */
int rdp_whiten_stem(struct rdp_network *network, const double covariance[RDP_PATCH][RDP_PATCH], const float std[3]);

#endif
