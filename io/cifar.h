/*
 * CIFAR-10 in its official binary form (data_batch_1..5.bin, test_batch.bin, batches.meta.txt; records of 1 label byte
 * and 3 planes of 32x32 u8) and a synthetic set of the same form. Source of the format:
 * https://www.cs.toronto.edu/~kriz/cifar.html, "Binary version".
 */
#ifndef RDP_IO_CIFAR_H
#define RDP_IO_CIFAR_H

#include <stdint.h>

#include "io/dataset.h"

/* Reads a directory of official binaries (the files in it or in its cifar-10-batches-bin/) or the official
 * cifar-10-binary.tar.gz into content; images become (N,32,32,3). What is allocated hangs on `content`: free with
 * rdp_content_free. RDP_EUSAGE: which file is missing, of the wrong size, holds a label > 9, or a damaged archive. */
int rdp_cifar_read(struct rdp_dataset_content *content, const char *path);
/* Ten classes that a small convolutional network learns to > 90 % within a minute of two cores, and a linear model
 * cannot. A pure function of (train, test, seed). */
int rdp_synthetic_make(struct rdp_dataset_content *content, int64_t train, int64_t test, uint64_t seed);
void rdp_content_free(struct rdp_dataset_content *content);

#endif
