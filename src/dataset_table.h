/* What `prepare` and `inspect` print about a data set. */
#ifndef RDP_DATASET_TABLE_H
#define RDP_DATASET_TABLE_H

#include "io/dataset.h"

/* Counts per class and split, mean, std, size and CRC, on stdout. `path` is where the set lies. */
int rdp_dataset_print(struct rdp_dataset *dataset, const char *path);

#endif
