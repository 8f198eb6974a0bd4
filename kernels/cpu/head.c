/*
 * The network's head in f32 (fully connected layer, softmax cross-entropy). It is 0.01 % of the arithmetic: plain
 * loops in a fixed order, so that threads do not change a bit.
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
                double target =
                    (double)smoothing / classes + certain * ((k == label ? mix : 0.0) + (k == partner ? 1 - mix : 0.0));
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
