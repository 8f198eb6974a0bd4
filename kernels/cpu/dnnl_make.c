/* oneDNN 2.6 ... 3.x in one form; see dnnl_make.h. */
#include "kernels/cpu/dnnl_make.h"

#include <string.h>

static dnnl_status_t make_attr(dnnl_primitive_attr_t *attr)
{
    dnnl_status_t status = dnnl_primitive_attr_create(attr);
    if (status == dnnl_success)
        status = dnnl_primitive_attr_set_scratchpad_mode(*attr, dnnl_scratchpad_mode_user);
    return status;
}

#if DNNL_VERSION_MAJOR >= 3

rdp_const_md rdp_md_view(const struct rdp_md *md)
{
    return md->md;
}

dnnl_status_t rdp_md_make(struct rdp_md *md, int ndims, const dnnl_dim_t *dims, dnnl_data_type_t type,
                          dnnl_format_tag_t tag)
{
    dnnl_status_t status = dnnl_memory_desc_create_with_tag(&md->md, ndims, dims, type, tag);
    md->set = status == dnnl_success;
    return status;
}

dnnl_status_t rdp_md_copy(struct rdp_md *md, rdp_const_md from)
{
    dnnl_status_t status = dnnl_memory_desc_clone(&md->md, from);
    md->set = status == dnnl_success;
    return status;
}

void rdp_md_free(struct rdp_md *md)
{
    if (md->set)
        dnnl_memory_desc_destroy(md->md);
    md->set = false;
}

static const dnnl_dims_t no_dilation = {0, 0};

dnnl_status_t rdp_conv_forward_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const struct rdp_conv_recipe *recipe,
                                  bool training)
{
    dnnl_primitive_attr_t attr;
    dnnl_status_t status = make_attr(&attr);
    if (status != dnnl_success)
        return status;
    status = dnnl_convolution_forward_primitive_desc_create(
        pd, engine, training ? dnnl_forward_training : dnnl_forward_inference, recipe->algorithm, recipe->x, recipe->w,
        NULL, recipe->y, recipe->strides, no_dilation, recipe->padding, recipe->padding, attr);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

dnnl_status_t rdp_conv_backward_data_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                                        const struct rdp_conv_recipe *recipe, dnnl_primitive_desc_t hint)
{
    dnnl_primitive_attr_t attr;
    dnnl_status_t status = make_attr(&attr);
    if (status != dnnl_success)
        return status;
    status = dnnl_convolution_backward_data_primitive_desc_create(pd, engine, recipe->algorithm, recipe->x, recipe->w,
                                                                  recipe->y, recipe->strides, no_dilation,
                                                                  recipe->padding, recipe->padding, hint, attr);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

dnnl_status_t rdp_conv_backward_weights_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                                           const struct rdp_conv_recipe *recipe, dnnl_primitive_desc_t hint)
{
    dnnl_primitive_attr_t attr;
    dnnl_status_t status = make_attr(&attr);
    if (status != dnnl_success)
        return status;
    status = dnnl_convolution_backward_weights_primitive_desc_create(
        pd, engine, recipe->algorithm, recipe->x, recipe->w, NULL, recipe->y, recipe->strides, no_dilation,
        recipe->padding, recipe->padding, hint, attr);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

#else

rdp_const_md rdp_md_view(const struct rdp_md *md)
{
    return &md->md;
}

dnnl_status_t rdp_md_make(struct rdp_md *md, int ndims, const dnnl_dim_t *dims, dnnl_data_type_t type,
                          dnnl_format_tag_t tag)
{
    dnnl_status_t status = dnnl_memory_desc_init_by_tag(&md->md, ndims, dims, type, tag);
    md->set = status == dnnl_success;
    return status;
}

dnnl_status_t rdp_md_copy(struct rdp_md *md, rdp_const_md from)
{
    md->md = *from;
    md->set = true;
    return dnnl_success;
}

void rdp_md_free(struct rdp_md *md)
{
    md->set = false; /* a plain struct: nothing to release */
}

static dnnl_status_t create_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const dnnl_convolution_desc_t *desc,
                               dnnl_primitive_desc_t hint)
{
    dnnl_primitive_attr_t attr;
    dnnl_status_t status = make_attr(&attr);
    if (status != dnnl_success)
        return status;
    status = dnnl_primitive_desc_create(pd, desc, attr, engine, hint);
    dnnl_primitive_attr_destroy(attr);
    return status;
}

dnnl_status_t rdp_conv_forward_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine, const struct rdp_conv_recipe *recipe,
                                  bool training)
{
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = dnnl_convolution_forward_desc_init(
        &desc, training ? dnnl_forward_training : dnnl_forward_inference, recipe->algorithm, recipe->x, recipe->w, NULL,
        recipe->y, recipe->strides, recipe->padding, recipe->padding);
    return status == dnnl_success ? create_pd(pd, engine, &desc, NULL) : status;
}

dnnl_status_t rdp_conv_backward_data_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                                        const struct rdp_conv_recipe *recipe, dnnl_primitive_desc_t hint)
{
    dnnl_convolution_desc_t desc;
    dnnl_status_t status = dnnl_convolution_backward_data_desc_init(
        &desc, recipe->algorithm, recipe->x, recipe->w, recipe->y, recipe->strides, recipe->padding, recipe->padding);
    return status == dnnl_success ? create_pd(pd, engine, &desc, hint) : status;
}

dnnl_status_t rdp_conv_backward_weights_pd(dnnl_primitive_desc_t *pd, dnnl_engine_t engine,
                                           const struct rdp_conv_recipe *recipe, dnnl_primitive_desc_t hint)
{
    dnnl_convolution_desc_t desc;
    dnnl_status_t status =
        dnnl_convolution_backward_weights_desc_init(&desc, recipe->algorithm, recipe->x, recipe->w, NULL, recipe->y,
                                                    recipe->strides, recipe->padding, recipe->padding);
    return status == dnnl_success ? create_pd(pd, engine, &desc, hint) : status;
}

#endif
