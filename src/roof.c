/*
 * The roof of a training step; see roof.h.
 *
 * What is counted, in elements E of a layer's output and I of its input, each as large as an activation. Convolution:
 * forward, gradient of the weights, gradient of the data, I + E each; the network's first has no gradient of the data,
 * and reads an image of 8 channels, 3 padded. Batch-norm: statistics E, normalisation 2 E, backward's sums 2 E (the
 * activation's mask is computed again from the convolution's output), backward's normalisation 3 E. Where a block joins,
 * the joined gradient is written besides; if its shortcut is the identity, the residual is read in forward, the mask's
 * source in backward, and the gradient is added to the main path's. A batch-norm on the shortcut has no kernels of its
 * own but for its sums: the join normalises both paths. Augmentation and pools: what they read and write of the
 * activations, and the image's bytes.
 *
 * Left out, as too small: weights, optimiser, the fully connected layer, the time between kernels. Shortcuts by padding
 * count as identities. So the roof is the same at every batch.
 */
#include "roof.h"

#include <math.h>
#include <string.h>

#include "io/dataset.h"

enum { IMAGE_CHANNELS = 8 };

#define TERA 1e12

/* 0.80 of the data sheet's dense operations (Tensor Cores for tf32 and bf16) and 0.90 of its memory bandwidth, about
 * what large matrix products and copies reach; rounded. The names are exact: an "NVIDIA H200 NVL" is another GPU. */
static const struct rdp_gpu_peaks peaks_table[] = {
    /* NVIDIA H200 data sheet, SXM: 67 TFLOP/s fp32, 494 tf32, 989 bf16; 4.8 TB/s. */
    {"NVIDIA H200",
     {[RDP_KERNEL_F32] = 54 * TERA, [RDP_KERNEL_TF32] = 395 * TERA, [RDP_KERNEL_BF16] = 790 * TERA},
     4.3 * TERA},
    /* NVIDIA H100 data sheet, SXM: 67 TFLOP/s fp32, 494 tf32, 989 bf16; 3.35 TB/s. */
    {"NVIDIA H100 80GB HBM3",
     {[RDP_KERNEL_F32] = 54 * TERA, [RDP_KERNEL_TF32] = 395 * TERA, [RDP_KERNEL_BF16] = 790 * TERA},
     3.0 * TERA},
    /* NVIDIA A100 data sheet, 80 GB SXM: 19.5 TFLOP/s fp32, 156 tf32, 312 bf16; 2.039 TB/s. */
    {"NVIDIA A100-SXM4-80GB",
     {[RDP_KERNEL_F32] = 15.6 * TERA, [RDP_KERNEL_TF32] = 125 * TERA, [RDP_KERNEL_BF16] = 250 * TERA},
     1.83 * TERA},
};

const struct rdp_gpu_peaks *rdp_gpu_peaks_of(const char *gpu)
{
    for (size_t i = 0; i < sizeof peaks_table / sizeof *peaks_table; i++)
        if (strcmp(peaks_table[i].gpu, gpu) == 0)
            return &peaks_table[i];
    return NULL;
}

/* What the kernels of one image's step add up to. */
struct sum {
    double operations_per_second, bytes_per_second, element_bytes;
    double operations, bytes, seconds;
};

/* One kernel, `times` over. Those of one layer that only move bytes may be counted as one. */
static void add(struct sum *sum, int times, double operations, double bytes)
{
    sum->operations += times * operations;
    sum->bytes += times * bytes;
    sum->seconds += times * fmax(operations / sum->operations_per_second, bytes / sum->bytes_per_second);
}

static double elements_of(struct rdp_shape shape)
{
    return (double)shape.channels * shape.height * shape.width;
}

static double image_elements(struct rdp_shape image)
{
    return elements_of((struct rdp_shape){IMAGE_CHANNELS, image.height, image.width});
}

/* A batch-norm on a shortcut is the one without an activation: the join has it. */
static int batch_norm_passes(const struct rdp_model *model, const struct rdp_layer *layer)
{
    if (layer->frozen)
        return 1 + 2;
    if (layer->activation == RDP_ACT_NONE)
        return 1 + 1 + 1 + 2; /* statistics; read in the join; backward's sums; backward's normalisation, dz at hand */
    if (layer->residual == RDP_NO_LAYER)
        return 1 + 2 + 2 + 3;
    const struct rdp_layer *residual = &model->layers[layer->residual];
    const bool normalised = residual->kind == RDP_LAYER_BN && residual->activation == RDP_ACT_NONE;
    return 1 + 2 + 2 + 3 + (normalised ? 1 : 1 + 1 + 1 + 1);
}

static void add_layer(struct sum *sum, const struct rdp_model *model, const struct rdp_layer *layer)
{
    const bool of_image = layer->input == RDP_NO_LAYER, into_input = !of_image && !model->layers[layer->input].frozen;
    const double in = of_image ? image_elements(layer->in) : elements_of(layer->in), out = elements_of(layer->out);
    switch (layer->kind) {
    case RDP_LAYER_CONV:
        add(sum, 1 + into_input + !layer->frozen, 2.0 * (double)rdp_layer_multiply_adds(layer),
            (in + out) * sum->element_bytes);
        return;
    case RDP_LAYER_BN:
        add(sum, batch_norm_passes(model, layer), 0, out * sum->element_bytes);
        return;
    case RDP_LAYER_DROPOUT:
        add(sum, 2 + 2, 0, in * sum->element_bytes); /* in place, forward and backward */
        return;
    case RDP_LAYER_MAX_POOL: /* forward in, out; backward both again and the gradient of in */
        add(sum, 1, 0, (3 * in + 2 * out) * sum->element_bytes);
        return;
    case RDP_LAYER_POOL:
        add(sum, 2, 0, in * sum->element_bytes);
        return;
    case RDP_LAYER_PAD:
    case RDP_LAYER_FC:
        return;
    }
}

struct rdp_roof rdp_roof_of_step(const struct rdp_model *model, int batch, enum rdp_kernel_precision precision,
                                 const struct rdp_gpu_peaks *peaks)
{
    struct sum sum = {.operations_per_second = peaks == NULL ? NAN : peaks->operations_per_second[precision],
                      .bytes_per_second = peaks == NULL ? NAN : peaks->bytes_per_second,
                      .element_bytes = precision == RDP_KERNEL_BF16 ? 2 : 4};
    add(&sum, 1, 0, RDP_IMAGE_BYTES + image_elements(model->layers[0].in) * sum.element_bytes);
    for (int i = 0; i < model->layer_count; i++)
        add_layer(&sum, model, &model->layers[i]);
    return (struct rdp_roof){.operations = batch * sum.operations,
                             .bytes = batch * sum.bytes,
                             .seconds = batch * sum.seconds,
                             .images_per_second = 1 / sum.seconds};
}
