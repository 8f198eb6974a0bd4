/*
 * The few oneDNN calls whose form changed between 2.x and 3.x, in one form. Floor: 2.6. The only file that knows
 * versions.
 */
#ifndef RDP_KERNELS_CPU_DNNL_MAKE_H
#define RDP_KERNELS_CPU_DNNL_MAKE_H

#include <stdbool.h>

#include <dnnl.h>
#include <dnnl_debug.h>

#include "base/status.h"

#if DNNL_VERSION_MAJOR < 2 || (DNNL_VERSION_MAJOR == 2 && DNNL_VERSION_MINOR < 6)
#error "oneDNN 2.6 or newer is needed"
#endif

#if DNNL_VERSION_MAJOR >= 3
typedef const_dnnl_memory_desc_t rdp_const_md;
#else
typedef const dnnl_memory_desc_t *rdp_const_md;
#endif

/* An owned memory descriptor. Zero-initialised is empty; destroy is safe on an empty one. */
struct rdp_md {
    dnnl_memory_desc_t md;
    bool set;
};

/* Checks a oneDNN call: evaluates once, adds the call's text and oneDNN's word for the failure. */
#define RDP_DNN(call) \
    do { \
        dnnl_status_t rdp_dnn_status_ = (call); \
        if (rdp_dnn_status_ != dnnl_success) \
            return rdp_fail(rdp_dnn_status_ == dnnl_out_of_memory ? RDP_ENOMEM : RDP_EDEVICE, \
                            "oneDNN: %s: %s (%s:%d)", #call, dnnl_status2str(rdp_dnn_status_), __FILE__, __LINE__); \
    } while (0)

rdp_const_md rdp_md_view(const struct rdp_md *md);
dnnl_status_t rdp_md_make(struct rdp_md *md, int ndims, const dnnl_dim_t *dims, dnnl_data_type_t type,
                          dnnl_format_tag_t tag);
dnnl_status_t rdp_md_copy(struct rdp_md *md, rdp_const_md from);
void rdp_md_free(struct rdp_md *md);

/* A convolution's three primitive descriptors share one description; x, w, y may say `any`. Scratchpads are the
 * caller's. */
struct rdp_conv_recipe {
    dnnl_alg_kind_t algorithm;
    rdp_const_md x, w, y;
    dnnl_dims_t strides, padding; /* the first two are used */
};
dnnl_status_t rdp_conv_forward_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const struct rdp_conv_recipe *recipe,
                                  bool training);
dnnl_status_t rdp_conv_backward_data_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                                        const struct rdp_conv_recipe *recipe, dnnl_primitive_desc_t hint);
dnnl_status_t rdp_conv_backward_weights_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                                           const struct rdp_conv_recipe *recipe, dnnl_primitive_desc_t hint);

#endif
