/*
 * The loops of vector.h for one element type. Included by vector_body.h with RDP_NAME(x), RDP_ELEMENT, RDP_LOAD(p) and
 * RDP_STORE(p, v) set; `p` points to RDP_LANES elements.
 */

static void RDP_NAME(statistics)(const void *y_, size_t count, const float *shift, float *sum, float *square)
{
    const RDP_ELEMENT *y = y_;
    vf k = load_f32(shift), s0 = {0}, s1 = {0}, q0 = {0}, q1 = {0};
    size_t i = 0;
    for (; i + 2 <= count; i += 2) { /* two chains hide the latency of the additions */
        vf d0 = RDP_LOAD(y + i * RDP_LANES) - k, d1 = RDP_LOAD(y + (i + 1) * RDP_LANES) - k;
        s0 += d0;
        q0 += d0 * d0;
        s1 += d1;
        q1 += d1 * d1;
    }
    for (; i < count; i++) {
        vf d0 = RDP_LOAD(y + i * RDP_LANES) - k;
        s0 += d0;
        q0 += d0 * d0;
    }
    store_f32(sum, s0 + s1);
    store_f32(square, q0 + q1);
}

static void RDP_NAME(apply)(const void *y_, const void *residual_, void *out_, size_t count, const float *scale,
                            const float *shift, float slope)
{
    const RDP_ELEMENT *y = y_, *residual = residual_;
    RDP_ELEMENT *out = out_;
    vf a = load_f32(scale), b = load_f32(shift);
    if (residual == NULL) {
        for (size_t i = 0; i < count * RDP_LANES; i += RDP_LANES)
            RDP_STORE(out + i, activate(RDP_LOAD(y + i) * a + b, slope));
    } else {
        for (size_t i = 0; i < count * RDP_LANES; i += RDP_LANES)
            RDP_STORE(out + i, activate(RDP_LOAD(y + i) * a + b + RDP_LOAD(residual + i), slope));
    }
}

static void RDP_NAME(backward_reduce)(const void *y_, const void *out_, void *dout_, const void *dout2_, size_t count,
                                      const float *scale, const float *shift, const float *mean, float slope,
                                      float *sum, float *product)
{
    const RDP_ELEMENT *y = y_, *out = out_, *dout2 = dout2_;
    RDP_ELEMENT *dout = dout_;
    vf a = load_f32(scale), b = load_f32(shift), m = load_f32(mean), s = {0}, p = {0};
    for (size_t i = 0; i < count * RDP_LANES; i += RDP_LANES) {
        vf value = RDP_LOAD(y + i), d = RDP_LOAD(dout + i);
        if (dout2 != NULL)
            d += RDP_LOAD(dout2 + i);
        d = activate_backward(out != NULL ? RDP_LOAD(out + i) : value * a + b, d, slope);
        RDP_STORE(dout + i, d);
        s += d;
        p += d * (value - m);
    }
    store_f32(sum, s);
    store_f32(product, p);
}

static void RDP_NAME(backward_apply)(const void *y_, const void *dz_, void *dy_, size_t count, const float *a_,
                                     const float *b_, const float *c_)
{
    const RDP_ELEMENT *y = y_, *dz = dz_;
    RDP_ELEMENT *dy = dy_;
    vf a = load_f32(a_), b = load_f32(b_), c = load_f32(c_);
    for (size_t i = 0; i < count * RDP_LANES; i += RDP_LANES)
        RDP_STORE(dy + i, a * RDP_LOAD(dz + i) + (b * RDP_LOAD(y + i) + c));
}
