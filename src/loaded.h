/*
 * A trained network taken from a checkpoint, for the commands that use it: eval and predict.
 *
 * The model is the run's. So are precision, convolution algorithm, batch, which weights and which views are
 * evaluated, unless the command line names them: what a run reported is what eval reports again. Device, threads and
 * who evaluates are always this command's own.
 */
#ifndef RDP_LOADED_H
#define RDP_LOADED_H

#include "io/checkpoint.h"
#include "io/dataset.h"
#include "kernels/kernels.h"
#include "model.h"
#include "network.h"
#include "options.h"

struct rdp_loaded {
    struct rdp_checkpoint *checkpoint; /* NULL once the network has its arrays */
    struct rdp_options options;        /* of this command, with the run's values as said above */
    struct rdp_dataset_info info;      /* of the run: class names, mean and std in force; counts are 0 */
    struct rdp_augment normalise;      /* mean and std, no augmentation */
    struct rdp_model *model;
    struct rdp_network *network; /* not for training */
};

/* Reads options->checkpoint. No collective: every rank that calls it reads the file. */
int rdp_loaded_read(struct rdp_loaded *loaded, const struct rdp_options *options);
/* Makes the network for passes of `batch` images and fills it. The device must outlive it. */
int rdp_loaded_network(struct rdp_loaded *loaded, struct rdp_device *device, int batch);
/* "basic-block network 2,1,1,1, 4,977,226 parameters, bf16" and where it comes from, to stdout of rank 0. */
void rdp_loaded_say(const struct rdp_loaded *loaded, const struct rdp_device *device);
void rdp_loaded_free(struct rdp_loaded *loaded);

#endif
