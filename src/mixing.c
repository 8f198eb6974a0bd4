/* The step's draw for mix-up and CutMix; see mixing.h. */
#include "mixing.h"

#include <math.h>

#include "kernels/common/random.h"

enum { SIDE = 32, BOX = 0, GAMMA_X = 1, GAMMA_Y = 2 /* streams of a step's random numbers */ };

/* Random numbers of one stream of one step, one after another: rejection does not know how many it needs. */
struct stream {
    uint64_t seed;
    uint32_t step;
    uint64_t next;
};

static struct stream stream_of(uint64_t seed, int64_t step, int number)
{
    return (struct stream){seed, (uint32_t)step, (uint64_t)number << 32};
}

/* Two numbers in (0, 1), of 53 bits. */
static void draw_two(struct stream *stream, double *u, double *v)
{
    const struct rdp_random random = rdp_random_at(stream->seed, RDP_RANDOM_MIX, stream->step, stream->next++);
    const uint64_t a = (uint64_t)random.word[0] << 32 | random.word[1];
    const uint64_t b = (uint64_t)random.word[2] << 32 | random.word[3];
    *u = ((double)(a >> 11) + 0.5) * 0x1p-53;
    *v = ((double)(b >> 11) + 0.5) * 0x1p-53;
}

/* The logarithm of a Gamma(alpha) variate, which itself may be too small for a double. */
static double log_gamma_variate(struct stream stream, double alpha)
{
    const double shape = alpha < 1 ? alpha + 1 : alpha, d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double u, v, w, boost;
        draw_two(&stream, &u, &v);
        const double normal = sqrt(-2 * log(u)) * cos(2 * acos(-1.0) * v); /* Box & Muller 1958 */
        draw_two(&stream, &w, &boost);
        const double root = 1 + c * normal, cube = root * root * root;
        if (root > 0 && log(w) < 0.5 * normal * normal + d - d * cube + d * log(cube))
            return log(d * cube) + (alpha < 1 ? log(boost) / alpha : 0);
    }
}

double rdp_mixing_beta(uint64_t seed, int64_t step, double alpha)
{
    const double x = log_gamma_variate(stream_of(seed, step, GAMMA_X), alpha);
    const double y = log_gamma_variate(stream_of(seed, step, GAMMA_Y), alpha);
    return 1 / (1 + exp(y - x));
}

static int clamp(int value)
{
    return value < 0 ? 0 : value > SIDE ? SIDE : value;
}

double rdp_mixing_cut(double lambda, int y, int x, int32_t box[4])
{
    const int half = (int)(0.5 * sqrt(1 - lambda) * SIDE);
    box[0] = clamp(y - half);
    box[1] = clamp(x - half);
    box[2] = clamp(y + half);
    box[3] = clamp(x + half);
    return 1 - (double)((box[2] - box[0]) * (box[3] - box[1])) / (SIDE * SIDE);
}

bool rdp_mixing_asked(const struct rdp_options *options)
{
    return options->mixup > 0 || options->cutmix > 0;
}

void rdp_mixing_draw(const struct rdp_options *options, int64_t step, struct rdp_step_values *values)
{
    const uint64_t seed = (uint64_t)options->seed;
    values->mix = values->mix_pixels = 1;
    for (int i = 0; i < 4; i++)
        values->mix_box[i] = 0;
    if (!rdp_mixing_asked(options))
        return;
    const struct rdp_random random = rdp_random_at(seed, RDP_RANDOM_MIX, (uint32_t)step, (uint64_t)BOX << 32);
    const bool cut = options->mixup == 0 || (options->cutmix > 0 && rdp_random_below(random.word[0], 2) == 1);
    const double lambda = rdp_mixing_beta(seed, step, cut ? options->cutmix : options->mixup);
    if (!cut) {
        values->mix = values->mix_pixels = (float)lambda;
        return;
    }
    values->mix = (float)rdp_mixing_cut(lambda, (int)rdp_random_below(random.word[1], SIDE),
                                        (int)rdp_random_below(random.word[2], SIDE), values->mix_box);
}
