/*
 * What "the devices agree" means: every operation of the contract (kernels.h) on a device and on the CPU device in f32,
 * from the same inputs, must give the same to within the tolerance of its kind. One list of cases for all devices;
 * support_agreement*.c. Used by test-devices.c and gpu-devices.c.
 */
#ifndef RDP_TEST_SUPPORT_AGREEMENT_H
#define RDP_TEST_SUPPORT_AGREEMENT_H

#include "support_devices.h"

/* How a result came about, which says how far two devices may be apart. The tolerances stand in support_agreement.c. */
enum rdp_agreement {
    RDP_AGREE_EXACT,       /* values that are only moved */
    RDP_AGREE_F32,         /* f32 or f64 from inputs that both devices have exactly */
    RDP_AGREE_SUM,         /* f32 from activations that the device rounded */
    RDP_AGREE_STORED,      /* an activation from exact inputs: rounded once, when stored */
    RDP_AGREE_CHAIN,       /* an activation from activations that the device rounded */
    RDP_AGREE_CONVOLUTION, /* what a convolution gives, in all three directions */
    RDP_AGREE_PIXEL,       /* an augmented pixel: by element, relative */
    RDP_AGREEMENTS
};

/* The results of one case on one device, in the order in which they were made. */
struct rdp_results {
    bool bf16_inputs; /* inputs are exact in bf16, because one of the devices is a bf16 one */
    int count;
    struct {
        const char *name;
        enum rdp_agreement agreement;
        float *values;
        size_t count;
    } result[16];
};
/* A place for `count` f32 that are the next result. */
float *rdp_results_add(struct rdp_results *results, const char *name, enum rdp_agreement agreement, size_t count);
/* `count` f32 in [-scale, scale), a function of `stream`, exact in bf16 where that is asked for; the caller's (free).
 */
float *rdp_results_input(const struct rdp_results *results, size_t count, uint32_t stream, float scale);

/* A case: an operation and its arguments, which only `run` understands. */
enum { RDP_CASE_ARGUMENTS = 10 };
struct rdp_case {
    const char *operation, *arguments_text; /* names of the arguments, for messages */
    void (*run)(struct rdp_device *device, const int *arguments, struct rdp_results *results);
    const int (*arguments)[RDP_CASE_ARGUMENTS];
    int count;
};
extern const struct rdp_case rdp_convolution_cases, rdp_batch_norm_cases; /* support_agreement_layers.c */
extern const struct rdp_case rdp_fused_cases;                             /* support_agreement_fused.c */
extern const struct rdp_case rdp_augment_cases, rdp_pad_cases, rdp_max_pool_cases, rdp_pool_cases, rdp_fc_cases,
    rdp_loss_cases, rdp_flat_cases;                            /* support_agreement_rest.c */
extern const struct rdp_case rdp_dropout_cases, rdp_mix_cases; /* support_agreement_regularise.c */

/* Worst errors by kind, over all that ran. */
struct rdp_agreement_worst {
    double error[RDP_AGREEMENTS];
};
/* Runs all cases of an operation on both devices; ends the test where they do not agree. */
void rdp_agreement_check(const struct rdp_case *cases, struct rdp_device *reference, struct rdp_device *device,
                         struct rdp_agreement_worst *worst);
double rdp_agreement_tolerance(enum rdp_agreement agreement, enum rdp_kernel_precision precision);

#endif
