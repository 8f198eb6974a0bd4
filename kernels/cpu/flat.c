/*
 * The operations over flat f32 arrays: accumulation, optimiser, averages. Threads share pieces whose borders do not
 * depend on how many threads there are, and sums are taken piece by piece, then in order: threads do not change a bit.
 */
#include <string.h>

#include "kernels/common/optimiser.h"
#include "kernels/cpu/cpu.h"

/* Elements that a thread takes at once; a multiple of a cache line, so that no two threads write one. */
enum { PIECE = 1 << 14 };

static size_t piece_count(size_t at, size_t count)
{
    return count - at < PIECE ? count - at : PIECE;
}

int cpu_add(struct rdp_device *device, float *to, const float *from, size_t count)
{
    const struct cpu_state *cpu = cpu_state(device);
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i += PIECE)
        cpu->vectors->flat.add(to + i, from + i, piece_count(i, count));
    return RDP_OK;
}

int cpu_average(struct rdp_device *device, const struct rdp_step_values *values, float *average, const float *array,
                size_t count)
{
    const struct cpu_state *cpu = cpu_state(device);
    const float weight = values->average;
    if (weight == 0)
        return RDP_OK;
#pragma omp parallel for schedule(static)
    for (size_t i = 0; i < count; i += PIECE) {
        if (weight == 1) /* exactly, and whatever the average was */
            memcpy(average + i, array + i, piece_count(i, count) * sizeof *average);
        else
            cpu->vectors->flat.average(average + i, array + i, piece_count(i, count), weight);
    }
    return RDP_OK;
}

int cpu_lookahead(struct rdp_device *device, const struct rdp_step_values *values, float *slow, float *parameters,
                  void *copies, size_t count)
{
    const struct cpu_state *cpu = cpu_state(device);
    (void)copies; /* conv_weights makes the forms that this device reads */
    if (values->lookahead > 0) {
#pragma omp parallel for schedule(static)
        for (size_t i = 0; i < count; i += PIECE)
            cpu->vectors->flat.lookahead(slow + i, parameters + i, piece_count(i, count), values->lookahead);
    }
    return RDP_OK;
}

/* What the passes of one update share. */
struct pass {
    const struct rdp_flat_ops *loops;
    const struct rdp_optimiser *optimiser;
    const struct rdp_step_values *values;
    const struct rdp_update *update;
};

/* What a pass does with a row's piece in a slice. */
typedef void (*piece_function)(const struct pass *pass, int row, size_t slice, struct rdp_update_piece piece);

/* All pieces of rows that are not frozen. */
static void each_piece(const struct pass *pass, piece_function work)
{
    const struct rdp_update *update = pass->update;
    const size_t slices = (update->count + RDP_UPDATE_SLICE - 1) / RDP_UPDATE_SLICE;
#pragma omp parallel for schedule(static)
    for (size_t slice = 0; slice < slices; slice++) {
        const size_t end = (slice + 1) * RDP_UPDATE_SLICE;
        for (int row = update->row_of[slice * (RDP_UPDATE_SLICE / RDP_ROW_BLOCK)];
             row < update->row_count && update->rows[row].offset < end; row++) {
            const struct rdp_update_piece piece = rdp_update_piece_of(update->rows + row, slice);
            if (piece.count > 0 && update->rows[row].lr != 0)
                work(pass, row, slice, piece);
        }
    }
}

static void measure_gradient(const struct pass *pass, int row, size_t slice, struct rdp_update_piece piece)
{
    const struct rdp_optimiser *optimiser = pass->optimiser;
    double *sums = rdp_update_sums_of(pass->update, slice, row);
    const float limit = optimiser->clip_value > 0 ? optimiser->clip_value : INFINITY;
    sums[0] = optimiser->kind == RDP_LARS
                  ? pass->loops->square(pass->update->parameters + piece.begin, piece.count, INFINITY)
                  : 0;
    sums[1] = pass->loops->square(pass->update->gradients + piece.begin, piece.count, limit);
}

static void step_piece(const struct pass *pass, int row, size_t slice, struct rdp_update_piece piece)
{
    const struct rdp_optimiser *optimiser = pass->optimiser;
    const struct rdp_update *update = pass->update;
    const enum rdp_update_rule rule = rdp_update_rule_of(optimiser);
    const float scale = rdp_update_measures(optimiser) ? (float)update->workspace[0] : 1,
                trust = optimiser->kind == RDP_LARS ? (float)*rdp_update_ratio_of(update, row) : 1;
    const struct rdp_update_terms terms =
        rdp_update_terms_of(optimiser, pass->values, update->rows + row, scale, trust);
    float *state[RDP_OPTIMISER_ARRAYS] = {NULL, NULL}, *parameters = update->parameters + piece.begin,
          *gradients = update->gradients + piece.begin;
    for (int i = 0; i < rdp_update_arrays(rule); i++)
        state[i] = update->state[i] + piece.begin;
    pass->loops->update[rule](&terms, parameters, gradients, state[0], state[1], piece.count);
    if (rule == RDP_RULE_LAMB) { /* of what is still in cache */
        double *sums = rdp_update_sums_of(update, slice, row);
        sums[0] = pass->loops->square(parameters, piece.count, INFINITY);
        sums[1] = pass->loops->square(gradients, piece.count, INFINITY);
    }
}

static void lamb_piece(const struct pass *pass, int row, size_t slice, struct rdp_update_piece piece)
{
    const struct rdp_update *update = pass->update;
    const float rate = pass->values->lr * update->rows[row].lr * (float)*rdp_update_ratio_of(update, row);
    const struct rdp_update_terms terms = rdp_update_along(rate);
    (void)slice;
    pass->loops->update[RDP_RULE_GRADIENT](&terms, update->parameters + piece.begin, update->gradients + piece.begin,
                                           NULL, NULL, piece.count);
}

/* Adds up a row's pieces; nothing for a frozen row. */
static void row_sums(const struct rdp_update *update, int row, double sums[2])
{
    const struct rdp_update_row *of = update->rows + row;
    sums[0] = sums[1] = 0;
    for (size_t slice = of->offset / RDP_UPDATE_SLICE; of->lr != 0 && slice * RDP_UPDATE_SLICE < of->offset + of->count;
         slice++)
        for (int i = 0; i < 2; i++)
            sums[i] += rdp_update_sums_of(update, slice, row)[i];
}

static void decide_scale(const struct pass *pass)
{
    const struct rdp_update *update = pass->update;
    double square = 0, sums[2];
    for (int row = 0; row < update->row_count; row++) {
        row_sums(update, row, sums);
        square += sums[1];
    }
    update->workspace[0] = rdp_update_clip_scale(pass->optimiser, square);
}

static void decide_ratios(const struct pass *pass, double scale)
{
    const struct rdp_update *update = pass->update;
    double sums[2];
    for (int row = 0; row < update->row_count; row++) {
        row_sums(update, row, sums);
        *rdp_update_ratio_of(update, row) =
            rdp_update_ratio(pass->optimiser, update->rows + row, scale, sums[0], sums[1]);
    }
}

int cpu_update(struct rdp_device *device, const struct rdp_optimiser *optimiser, const struct rdp_step_values *values,
               const struct rdp_update *update)
{
    const struct pass pass = {&cpu_state(device)->vectors->flat, optimiser, values, update};
    if (rdp_update_measures(optimiser)) {
        each_piece(&pass, measure_gradient);
        decide_scale(&pass);
        if (optimiser->kind == RDP_LARS)
            decide_ratios(&pass, update->workspace[0]);
    }
    each_piece(&pass, step_piece);
    if (optimiser->kind == RDP_LAMB) {
        decide_ratios(&pass, 1);
        each_piece(&pass, lamb_piece);
    }
    return RDP_OK;
}
