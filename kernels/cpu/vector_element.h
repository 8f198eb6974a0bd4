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

static inline void RDP_NAME(apply_as)(const void *y_, const void *residual_, void *out_, size_t count,
                                      const float *scale, const float *shift, bool gelu, float slope)
{
    const RDP_ELEMENT *y = y_, *residual = residual_;
    RDP_ELEMENT *out = out_;
    vf a = load_f32(scale), b = load_f32(shift);
    if (residual == NULL) {
        for (size_t i = 0; i < count * RDP_LANES; i += RDP_LANES)
            RDP_STORE(out + i, activate(RDP_LOAD(y + i) * a + b, gelu, slope));
    } else {
        for (size_t i = 0; i < count * RDP_LANES; i += RDP_LANES)
            RDP_STORE(out + i, activate(RDP_LOAD(y + i) * a + b + RDP_LOAD(residual + i), gelu, slope));
    }
}

static void RDP_NAME(apply)(const void *y, const void *residual, void *out, size_t count, const float *scale,
                            const float *shift, struct rdp_vector_activation activation)
{
    if (activation.gelu)
        RDP_NAME(apply_as)(y, residual, out, count, scale, shift, true, 0);
    else
        RDP_NAME(apply_as)(y, residual, out, count, scale, shift, false, activation.slope);
}

static inline void RDP_NAME(reduce_as)(const void *y_, const void *joined_, void *dout_, const void *dout2_,
                                       size_t count, const float *scale, const float *shift, const float *mean,
                                       bool gelu, float slope, float *sum, float *product)
{
    const RDP_ELEMENT *y = y_, *joined = joined_, *dout2 = dout2_;
    RDP_ELEMENT *dout = dout_;
    vf a = load_f32(scale), b = load_f32(shift), m = load_f32(mean), s = {0}, p = {0};
    for (size_t i = 0; i < count * RDP_LANES; i += RDP_LANES) {
        vf value = RDP_LOAD(y + i), d = RDP_LOAD(dout + i);
        if (dout2 != NULL)
            d += RDP_LOAD(dout2 + i);
        vf z = value * a + b;
        if (joined != NULL)
            z = gelu ? z + RDP_LOAD(joined + i) : RDP_LOAD(joined + i);
        d = activate_backward(z, d, gelu, slope);
        RDP_STORE(dout + i, d);
        s += d;
        p += d * (value - m);
    }
    store_f32(sum, s);
    store_f32(product, p);
}

static void RDP_NAME(backward_reduce)(const void *y, const void *joined, void *dout, const void *dout2, size_t count,
                                      const float *scale, const float *shift, const float *mean,
                                      struct rdp_vector_activation activation, float *sum, float *product)
{
    const float slope = activation.slope;
    if (activation.gelu)
        RDP_NAME(reduce_as)(y, joined, dout, dout2, count, scale, shift, mean, true, 0, sum, product);
    else
        RDP_NAME(reduce_as)(y, joined, dout, dout2, count, scale, shift, mean, false, slope, sum, product);
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

static void RDP_NAME(dropout)(const struct rdp_dropout *dropout, uint32_t step, int64_t sample, int block,
                              const void *x_, const void *x2_, void *y_)
{
    const RDP_ELEMENT *x = x_, *x2 = x2_;
    RDP_ELEMENT *y = y_;
    const size_t pixels = (size_t)dropout->shape.height * (size_t)dropout->shape.width;
    const uint32_t threshold = rdp_dropout_threshold(dropout->probability);
    const float scale = rdp_dropout_scale(threshold);
    uint16_t bits[DROPOUT_PIXELS * RDP_LANES];
    for (size_t first = 0; first < pixels; first += DROPOUT_PIXELS) {
        const size_t count = pixels - first < DROPOUT_PIXELS ? pixels - first : DROPOUT_PIXELS;
        for (int part = 0; part < RDP_LANES / RDP_DROPOUT_GROUP; part++) {
            const size_t row = (size_t)(block * (RDP_LANES / RDP_DROPOUT_GROUP) + part);
            dropout_bits(dropout, step, sample, (uint32_t)(row * pixels + first), count,
                         bits + part * RDP_DROPOUT_GROUP);
        }
        for (size_t i = 0; i < count * RDP_LANES; i += RDP_LANES) {
            vh half;
            memcpy(&half, bits + i, sizeof half);
            const vi kept = __builtin_convertvector(half, vi) >= (int32_t)threshold;
            vf value = RDP_LOAD(x + first * RDP_LANES + i);
            if (x2 != NULL)
                value += RDP_LOAD(x2 + first * RDP_LANES + i);
            RDP_STORE(y + first * RDP_LANES + i, (vf)((vi)(value * scale) & kept));
        }
    }
}

static void RDP_NAME(max_pool)(const void *x_, int height, int width, void *y_)
{
    const RDP_ELEMENT *x = x_;
    RDP_ELEMENT *y = y_;
    for (int h = 0; 2 * h < height; h++)
        for (int w = 0; 2 * w < width; w++, y += RDP_LANES) {
            const struct window window = window_at(height, width, h, w);
            vf largest = RDP_LOAD(x + window.pixels[0] * RDP_LANES);
            for (int i = 1; i < 4; i++) {
                const vf next = RDP_LOAD(x + window.pixels[i] * RDP_LANES);
                largest = choose(exceeds(next, largest), next, largest);
            }
            RDP_STORE(y, largest);
        }
}

/* A pixel that stands twice in its window is the largest, if at all, where it stands first: written last. */
static void RDP_NAME(max_pool_backward)(const void *x_, const void *dy_, int height, int width, void *dx_)
{
    const RDP_ELEMENT *x = x_, *dy = dy_;
    RDP_ELEMENT *dx = dx_;
    for (int h = 0; 2 * h < height; h++)
        for (int w = 0; 2 * w < width; w++, dy += RDP_LANES) {
            const struct window window = window_at(height, width, h, w);
            vf largest = RDP_LOAD(x + window.pixels[0] * RDP_LANES), share = RDP_LOAD(dy);
            vi which = {0};
            for (int i = 1; i < 4; i++) {
                const vf next = RDP_LOAD(x + window.pixels[i] * RDP_LANES);
                const vi larger = exceeds(next, largest);
                largest = choose(larger, next, largest);
                which = (which & ~larger) | (larger & i);
            }
            for (int i = 3; i >= 0; i--)
                RDP_STORE(dx + window.pixels[i] * RDP_LANES, (vf)((vi)share & (which == i)));
        }
}

static void RDP_NAME(mix)(void *a_, void *b_, const float *weights)
{
    RDP_ELEMENT *a = a_, *b = b_;
    for (size_t i = 0; i < RDP_MIX_ROW; i += RDP_LANES) {
        const vf w = load_f32(weights + i), left = RDP_LOAD(a + i), right = RDP_LOAD(b + i);
        RDP_STORE(a + i, w * left + (1.0f - w) * right);
        RDP_STORE(b + i, w * right + (1.0f - w) * left);
    }
}
