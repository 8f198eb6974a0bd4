/*
 * See conv_statistics.h. Behind each convolution that is timed comes what the step would start there: our kernel's
 * statistics of y, or, where the convolution made the sums, the kernel that takes them over. cuDNN documents one sum per
 * graph and we ask for two, so each candidate's sums are held against those of our kernel over the same y.
 */
#include "kernels/cuda/conv_statistics.h"

#include <math.h>
#include <stdlib.h>

#include "base/memory.h"
#include "base/status.h"
#include "kernels/cuda/cuda.h"

/*
 * Of a channel's standard deviation (and of its variance). A kernel may sum y before it is rounded to bf16: that is 2e-3 of
 * a value, by chance up or down, and so less of a mean. Blocks of values that are lost or counted twice, or sums that begin
 * at what was there before, are off by more.
 */
static const double tolerance = 4e-3;

struct trial {
    struct rdp_device *device;
    struct rdp_bn *bn;     /* synchronised: leaves the sums and no more */
    double *sums, *wanted; /* host [2][channels] */
    float *mean;           /* device [channels] */
};

static int start(void *context, const struct conv_run *run, const struct conv_pointers *pointers)
{
    const struct trial *trial = context;
    if (run->graph.family == PLAN_SUMS)
        return cuda_bn_take_sums(trial->device, trial->bn);
    return cuda_bn_statistics(trial->device, trial->bn, pointers->y, 0, run->graph.problem.batch);
}

static int download(const struct trial *trial, double *to)
{
    return trial->device->ops->download(trial->device, to, trial->bn->sums, trial->bn->sums_count * sizeof *to);
}

static int check(void *context, const struct conv_run *run, const struct conv_pointers *pointers, bool *right)
{
    const struct trial *trial = context;
    const size_t channels = trial->bn->sums_count / 2;
    const double elements = (double)trial->bn->desc.batch * trial->bn->desc.shape.height * trial->bn->desc.shape.width;
    *right = true;
    if (run->graph.family != PLAN_SUMS)
        return RDP_OK;
    RDP_TRY(download(trial, trial->sums));
    RDP_TRY(cuda_bn_statistics(trial->device, trial->bn, pointers->y, 0, run->graph.problem.batch));
    RDP_TRY(download(trial, trial->wanted));
    for (size_t c = 0; c < channels; c++) {
        const double sum = trial->sums[c] - trial->wanted[c], squares = trial->wanted[channels + c];
        *right = *right && fabs(sum) <= tolerance * sqrt(elements * squares) &&
                 fabs(trial->sums[channels + c] - squares) <= tolerance * squares; /* and no NaN */
    }
    return RDP_OK;
}

/* Means about as far from zero as the values are. */
static int make_mean(struct trial *trial, int channels)
{
    const size_t bytes = (size_t)channels * sizeof(float);
    float *host;
    RDP_TRY(trial->device->ops->alloc(trial->device, (void **)&trial->mean, bytes, "a convolution's trial"));
    RDP_TRY(rdp_calloc((void **)&host, (size_t)channels, sizeof *host, "a convolution's trial"));
    for (int c = 0; c < channels; c++)
        host[c] = (float)(c % 5 - 2);
    int status = trial->device->ops->upload(trial->device, trial->mean, host, bytes);
    free(host);
    return status;
}

static int trial_open(struct trial *trial, struct rdp_device *device, const struct conv_problem *problem)
{
    const struct rdp_bn_desc desc = {.shape = {problem->filters, conv_output_extent(problem, problem->height),
                                               conv_output_extent(problem, problem->width)},
                                     .batch = problem->batch,
                                     .synchronised = true,
                                     .training = true};
    *trial = (struct trial){.device = device};
    RDP_TRY(make_mean(trial, problem->filters));
    RDP_TRY(cuda_bn_create(device, &trial->bn, &desc));
    trial->bn->running_mean = trial->mean;
    RDP_TRY(rdp_calloc((void **)&trial->sums, trial->bn->sums_count, sizeof *trial->sums, "a convolution's trial"));
    return rdp_calloc((void **)&trial->wanted, trial->bn->sums_count, sizeof *trial->wanted, "a convolution's trial");
}

static void trial_close(struct trial *trial)
{
    free(trial->sums);
    free(trial->wanted);
    cuda_bn_destroy(trial->device, trial->bn);
    trial->device->ops->free(trial->device, trial->mean);
}

int conv_statistics_tune(struct rdp_device *device, const struct conv_problem *problem, struct conv_run *run)
{
    const struct cuda_state *state = cuda_state(device);
    struct trial trial;
    *run = (struct conv_run){.plan = NULL};
    int status = trial_open(&trial, device, problem);
    if (status == RDP_OK) {
        const struct conv_sequel sequel = {
            .start = start, .check = check, .context = &trial, .mean = trial.mean, .sums = cuda_bn_own_sums(trial.bn)};
        status = conv_tune(state->library, state->stream, problem, &sequel, run);
    }
    trial_close(&trial);
    if (status == RDP_OK && run->plan != NULL && run->graph.family != PLAN_SUMS)
        conv_run_close(run);
    return status;
}
