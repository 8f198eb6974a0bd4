/*
 * The loops of vector.h over flat f32 arrays; included by vector_body.h. Plain C that compilers vectorise: a loop per
 * rule, so that what it does is known when it is compiled (sqrtf needs -fno-math-errno for that: CMakeLists.txt).
 */

static void add(float *restrict to, const float *restrict from, size_t count)
{
    for (size_t i = 0; i < count; i++)
        to[i] += from[i];
}

/* FIRST and SECOND: the element's state, or NULL. */
#define RDP_UPDATE_LOOP(name, rule, FIRST, SECOND) \
    static void update_##name(const struct rdp_update_terms *terms, float *restrict parameters, \
                              float *restrict gradients, float *restrict first, float *restrict second, size_t count) \
    { \
        const struct rdp_update_terms t = *terms; /* which the arrays' writes cannot change */ \
        (void)first; \
        (void)second; \
        for (size_t i = 0; i < count; i++) \
            rdp_update_element(rule, &t, parameters + i, gradients + i, FIRST, SECOND); \
    }

RDP_UPDATE_LOOP(gradient, RDP_RULE_GRADIENT, NULL, NULL)
RDP_UPDATE_LOOP(momentum, RDP_RULE_MOMENTUM, first + i, NULL)
RDP_UPDATE_LOOP(square, RDP_RULE_SQUARE, first + i, NULL)
RDP_UPDATE_LOOP(square_momentum, RDP_RULE_SQUARE_MOMENTUM, first + i, second + i)
RDP_UPDATE_LOOP(adam, RDP_RULE_ADAM, first + i, second + i)
RDP_UPDATE_LOOP(adamax, RDP_RULE_ADAMAX, first + i, second + i)
RDP_UPDATE_LOOP(lamb, RDP_RULE_LAMB, first + i, second + i)

static double square(const float *array, size_t count, float limit)
{
    double sum = 0;
#pragma omp simd reduction(+ : sum)
    for (size_t i = 0; i < count; i++) {
        const double value = (double)rdp_update_clip(array[i], limit);
        sum += value * value;
    }
    return sum;
}

static void average(float *restrict to, const float *restrict array, size_t count, float weight)
{
    for (size_t i = 0; i < count; i++)
        to[i] += weight * (array[i] - to[i]);
}

static void lookahead(float *restrict slow, float *restrict parameters, size_t count, float share)
{
    for (size_t i = 0; i < count; i++) {
        slow[i] += share * (parameters[i] - slow[i]);
        parameters[i] = slow[i];
    }
}

#define RDP_FLAT_OPS \
    { \
        .add = add, .square = square, .average = average, .lookahead = lookahead, .update = { \
            [RDP_RULE_GRADIENT] = update_gradient, \
            [RDP_RULE_MOMENTUM] = update_momentum, \
            [RDP_RULE_SQUARE] = update_square, \
            [RDP_RULE_SQUARE_MOMENTUM] = update_square_momentum, \
            [RDP_RULE_ADAM] = update_adam, \
            [RDP_RULE_ADAMAX] = update_adamax, \
            [RDP_RULE_LAMB] = update_lamb \
        } \
    }
