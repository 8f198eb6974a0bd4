/*
 * The network's head in f32 (fully connected layer, softmax cross-entropy) and the loops over flat arrays. The head is
 * 0.01 % of the arithmetic: plain loops in a fixed order, so that threads do not change a bit.
 */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"

int cpu_fc_forward(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                   const float *weight, const float *bias, float *logits)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (int n = 0; n < batch; n++)
        for (int k = 0; k < classes; k++) {
            const float *x = features + (size_t)n * (size_t)channels, *w = weight + (size_t)k * (size_t)channels;
            float sum = 0;
#pragma omp simd reduction(+ : sum)
            for (int c = 0; c < channels; c++)
                sum += x[c] * w[c];
            logits[(size_t)n * (size_t)classes + (size_t)k] = sum + bias[k];
        }
    return RDP_OK;
}

int cpu_fc_backward(struct rdp_device *device, int batch, int channels, int classes, const float *features,
                    const float *weight, const float *dlogits, float *dweight, float *dbias, float *dfeatures)
{
    (void)device;
#pragma omp parallel for schedule(static)
    for (int k = 0; k < classes; k++) {
        float *dw = dweight + (size_t)k * (size_t)channels, sum = 0;
        memset(dw, 0, (size_t)channels * sizeof *dw);
        for (int n = 0; n < batch; n++) {
            float d = dlogits[(size_t)n * (size_t)classes + (size_t)k];
            const float *x = features + (size_t)n * (size_t)channels;
            sum += d;
#pragma omp simd
            for (int c = 0; c < channels; c++)
                dw[c] += d * x[c];
        }
        dbias[k] = sum;
    }
#pragma omp parallel for schedule(static)
    for (int n = 0; n < batch; n++) {
        float *dx = dfeatures + (size_t)n * (size_t)channels;
        memset(dx, 0, (size_t)channels * sizeof *dx);
        for (int k = 0; k < classes; k++) {
            float d = dlogits[(size_t)n * (size_t)classes + (size_t)k];
            const float *w = weight + (size_t)k * (size_t)channels;
#pragma omp simd
            for (int c = 0; c < channels; c++)
                dx[c] += d * w[c];
        }
    }
    return RDP_OK;
}

/* loss = (1 - s) * -log p[label] + s / K * sum_k -log p[k]; d/dlogit[k] = p[k] - (1 - s) [k == label] - s / K. With
 * mixed images -log p[label] is that of the image's own label and its partner's, weighted. */
int cpu_loss(struct rdp_device *device, int batch, int valid, int classes, const float *logits, const uint8_t *labels,
             const struct rdp_step_values *values, float smoothing, float scale, float *dlogits, float *totals)
{
    (void)device;
    const double mix = values == NULL ? 1 : (double)values->mix, certain = 1.0 - (double)smoothing;
    double loss_sum = 0;
    int correct = 0;
    for (int n = 0; n < valid; n++) {
        const float *row = logits + (size_t)n * (size_t)classes;
        int label = labels[n], partner = labels[values == NULL ? n : batch - 1 - n], best = 0;
        double sum = 0, all = 0;
        for (int k = 1; k < classes; k++)
            if (row[k] > row[best])
                best = k;
        for (int k = 0; k < classes; k++)
            sum += exp((double)row[k] - (double)row[best]);
        double log_sum = log(sum) + (double)row[best];
        for (int k = 0; k < classes; k++)
            all += log_sum - (double)row[k];
        loss_sum += certain * (mix * (log_sum - (double)row[label]) + (1 - mix) * (log_sum - (double)row[partner])) +
                    (double)smoothing / classes * all;
        correct += best == label;
        if (dlogits != NULL)
            for (int k = 0; k < classes; k++) {
                double target = (double)smoothing / classes +
                                certain * ((k == label ? mix : 0.0) + (k == partner ? 1 - mix : 0.0));
                dlogits[(size_t)n * (size_t)classes + (size_t)k] =
                    (float)((double)scale * (exp((double)row[k] - log_sum) - target));
            }
    }
    if (dlogits != NULL && valid < batch)
        memset(dlogits + (size_t)valid * (size_t)classes, 0,
               (size_t)(batch - valid) * (size_t)classes * sizeof *dlogits);
    totals[0] += (float)loss_sum;
    totals[1] += (float)correct;
    return RDP_OK;
}

/* Pieces of a flat array that threads take; a multiple of a cache line, so that no two threads write one. */
enum { PIECE = 1 << 14 };

int cpu_add(struct rdp_device *device, float *to, const float *from, size_t count)
{
    const struct cpu_state *cpu = cpu_state(device);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i += PIECE)
        cpu->vectors->flat.add(to + i, from + i, count - i < PIECE ? count - i : PIECE);
    return RDP_OK;
}

/* First block at or after `block` whose decay differs from its, at most `end`. */
static size_t run_end(const uint8_t *decays, size_t block, size_t end)
{
    size_t next = block + 1;
    while (next < end && decays[next] == decays[block])
        next++;
    return next;
}

int cpu_sgd(struct rdp_device *device, const struct rdp_sgd *sgd, const struct rdp_step_values *values,
            const uint8_t *decays, float *parameters, void *copies, const float *gradients, float *momentum,
            size_t count)
{
    const struct cpu_state *cpu = cpu_state(device);
    (void)copies; /* conv_weights makes the forms that this device reads */
#pragma omp parallel for schedule(static)
    for (size_t piece = 0; piece < count; piece += PIECE) {
        const size_t piece_end = count - piece < PIECE ? count : piece + PIECE;
        const size_t end = (piece_end + RDP_DECAY_BLOCK - 1) / RDP_DECAY_BLOCK;
        for (size_t block = piece / RDP_DECAY_BLOCK, next; block < end; block = next) {
            next = run_end(decays, block, end);
            const size_t i = block * RDP_DECAY_BLOCK, stop = next == end ? piece_end : next * RDP_DECAY_BLOCK;
            cpu->vectors->flat.sgd(parameters + i, gradients + i, momentum + i, stop - i, values->lr, sgd->momentum,
                                   decays[block] ? sgd->weight_decay : 0, sgd->nesterov);
        }
    }
    return RDP_OK;
}
