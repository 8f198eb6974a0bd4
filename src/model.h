/*
 * A model is data: a list of layers in an order in which they can be computed, and one parameter table. Initialisation,
 * all-reduce, optimiser, checkpoints and summary walk the table and know no layer types. Names are PyTorch's
 * (torchvision's ResNet: conv1, bn1, layer1.0.conv1, layer2.0.downsample.0, fc).
 */
#ifndef RDP_MODEL_H
#define RDP_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "kernels/kernels.h"
#include "options.h"

enum { RDP_NAME_MAX = 64, RDP_NO_LAYER = -1 };

enum rdp_layer_kind {
    RDP_LAYER_CONV,
    RDP_LAYER_BN,
    RDP_LAYER_PAD,
    RDP_LAYER_DROPOUT,
    RDP_LAYER_MAX_POOL, /* between a convolution and its batch-norm */
    RDP_LAYER_POOL,
    RDP_LAYER_FC
};

struct rdp_layer {
    enum rdp_layer_kind kind;
    char name[RDP_NAME_MAX];
    int input;    /* layer whose output this one reads; RDP_NO_LAYER: the image */
    int residual; /* BN: layer whose output is added before the activation, or RDP_NO_LAYER */
    struct rdp_shape in, out;
    int kernel, stride;                    /* CONV, PAD and MAX_POOL (stride) */
    enum rdp_kernel_activation activation; /* BN */
    float slope;                           /* BN: LeakyReLU's */
    double probability;                    /* DROPOUT */
    int stage;                             /* DROPOUT: of the network, from 0 */
    bool frozen;                           /* the stem's: keep their parameters; nothing goes back into them */
    int first_parameter, parameter_count;  /* rows of the table */
};

enum rdp_parameter_kind { RDP_PARAMETER_TRAINED, RDP_PARAMETER_STATE /* running statistics: saved, not trained */ };

struct rdp_parameter {
    char name[RDP_NAME_MAX];
    enum rdp_parameter_kind kind;
    int layer;
    int dims_count;
    int64_t dims[4]; /* OIHW, (out, in) or (channels) */
    int64_t count;   /* product of dims */
    bool decays;     /* weight decay applies (--decay-bn no exempts BN and biases) */
    bool uniform;    /* initial values: uniform in +-init, else the constant init */
    bool dirac;      /* then filter k, for each input channel k, is 1 at the centre of channel k and 0 elsewhere */
    double init;
};

struct rdp_model {
    struct rdp_layer *layers;
    int layer_count;
    struct rdp_parameter *parameters;
    int parameter_count;
    int classes;
};

/* The network that the options describe, for `classes` classes and 32x32x3 images. Owned by the caller. */
int rdp_model_create(struct rdp_model **model, const struct rdp_options *options, int classes);
void rdp_model_destroy(struct rdp_model *model);
/* Trained parameters, as torch counts them (running statistics are not). */
int64_t rdp_model_parameters(const struct rdp_model *model);
/* Multiply-adds of one image's forward pass through a layer (convolutions and fc; 0 for others). */
int64_t rdp_layer_multiply_adds(const struct rdp_layer *layer);
/* Trained parameters of a layer. */
int64_t rdp_layer_parameters(const struct rdp_model *model, const struct rdp_layer *layer);
/* "Conv2d 3x3 stride 1" and "[64, 32, 32]" (channels, height, width), for people. */
void rdp_layer_describe(const struct rdp_layer *layer, char kind[RDP_NAME_MAX], char shape[RDP_NAME_MAX]);
/* Per-layer table; last line "Total params: 4,977,226". */
void rdp_model_summary(const struct rdp_model *model, FILE *out);

#endif
