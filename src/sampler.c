/* The data's way from file to step; see sampler.h. */
#include "sampler.h"

#include <stdlib.h>
#include <string.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/watchdog.h"
#include "kernels/common/random.h"

struct rdp_sampler {
    struct rdp_comm *comm;
    struct rdp_device *device;
    uint64_t seed;
    enum rdp_shuffle shuffle;
    int64_t count, batch, steps; /* training samples over all ranks; global batch; steps per epoch */
    int64_t micro_batch;         /* global: batch / --accumulate */
    int64_t *ids;                /* [count]: data set row of training sample 0 .. count-1 */
    int64_t *order;              /* [count]: the epoch's permutation of training samples */
    int32_t *holder;             /* [count]: rank that holds a training sample */
    int32_t *place;              /* [count]: its row in the holder's shard; known for this rank's own */
    bool dealt;                  /* --shuffle local: the one deal has happened */
    int64_t held, capacity;      /* images in this rank's shard, and room for */
    uint8_t *images, *labels;    /* host: the shard */
    uint8_t *packed;             /* host: what is sent */
    uint8_t *device_images;      /* where the device reads: `images` itself if it can */
    int64_t *rows, *samples;     /* [capacity]: this rank's slices of the epoch, one after another */
    uint8_t *slice_labels;
};

/* Fisher-Yates of 0 .. n-1; the numbers are those of (seed; purpose, a, 0..). */
static void permute(int64_t *order, int64_t n, uint64_t seed, enum rdp_random_purpose purpose, uint32_t a, uint64_t b)
{
    struct rdp_random random = {{0, 0, 0, 0}};
    for (int64_t i = 0; i < n; i++)
        order[i] = i;
    for (int64_t i = n - 1, drawn = 0; i > 0; i--, drawn++) {
        if (drawn % 4 == 0)
            random = rdp_random_at(seed, purpose, a, b << 40 | (uint64_t)drawn / 4);
        int64_t j = rdp_random_below(random.word[drawn % 4], (uint32_t)(i + 1)), swap = order[i];
        order[i] = order[j];
        order[j] = swap;
    }
}

static int64_t validation_images(int64_t count, double fraction)
{
    return (int64_t)((double)count * fraction + 0.5);
}

int rdp_sampler_split(uint64_t seed, int64_t count, double fraction, int64_t **training, int64_t *training_count,
                      int64_t **validation, int64_t *validation_count)
{
    int64_t wanted = validation_images(count, fraction), *order, t = 0, v = 0;
    char *chosen;
    int status;
    *training = *validation = NULL;
    RDP_TRY(rdp_calloc((void **)&order, (size_t)count, sizeof *order, "the validation split"));
    RDP_TRY_GOTO(status, rdp_calloc((void **)&chosen, (size_t)count, 1, "the validation split"), free_order);
    RDP_TRY_GOTO(status,
                 rdp_calloc((void **)training, (size_t)(count - wanted), sizeof **training, "the validation split"),
                 free_chosen);
    if (wanted > 0)
        RDP_TRY_GOTO(status,
                     rdp_calloc((void **)validation, (size_t)wanted, sizeof **validation, "the validation split"),
                     free_chosen);
    permute(order, count, seed, RDP_RANDOM_SPLIT, 0, 0);
    for (int64_t i = 0; i < wanted; i++)
        chosen[order[i]] = 1;
    for (int64_t i = 0; i < count; i++)
        if (chosen[i])
            (*validation)[v++] = i;
        else
            (*training)[t++] = i;
    *training_count = t;
    *validation_count = v;
free_chosen:
    free(chosen);
free_order:
    free(order);
    return status;
}

/* Who takes part in step with position p of an epoch's order. */
static int owner_of(const struct rdp_sampler *sampler, int64_t position)
{
    int64_t used = sampler->steps * sampler->batch, size = sampler->comm->size;
    /* By micro-batch, so that each of them holds the same samples for any number of ranks. */
    if (position < used)
        return (int)(position % sampler->micro_batch / (sampler->micro_batch / size));
    return (int)((position - used) % size); /* sits the epoch out, but somebody must hold it */
}

static int check_sizes(const struct rdp_options *options, int64_t count, int size)
{
    int64_t pieces = (int64_t)size * options->accumulate;
    if (count < size)
        return rdp_fail(RDP_EUSAGE, "%d ranks for %lld training images in %s: every rank needs one; use fewer ranks",
                        size, (long long)count, options->data);
    if (options->batch % pieces != 0)
        return rdp_fail(
            RDP_EUSAGE,
            "--batch %d is not a multiple of %d ranks x %d micro-batches: use --batch %lld or another number of ranks",
            options->batch, size, options->accumulate, (long long)((options->batch + pieces - 1) / pieces * pieces));
    if (options->batch > count)
        return rdp_fail(RDP_EUSAGE, "--batch %d is more than the %lld training images in %s: use a smaller batch",
                        options->batch, (long long)count, options->data);
    return RDP_OK;
}

int rdp_sampler_check(const struct rdp_options *options, int64_t all, int size)
{
    const int64_t count = options->train_images > 0 ? options->train_images : all;
    const int64_t validation = validation_images(count, options->val_fraction);
    if (count > all)
        return rdp_fail(RDP_EUSAGE, "--train-images %lld: %s holds %lld training images; take at most these",
                        (long long)count, options->data, (long long)all);
    if (options->val_fraction > 0 && validation == 0)
        return rdp_fail(RDP_EUSAGE, "--val-fraction %g of %lld training images is none: take a greater one",
                        options->val_fraction, (long long)count);
    if (validation == count)
        return rdp_fail(RDP_EUSAGE, "--val-fraction %g of %lld training images leaves none to train on: take a smaller one",
                        options->val_fraction, (long long)count);
    return check_sizes(options, count - validation, size);
}

static int allocate(struct rdp_sampler *sampler)
{
    size_t count = (size_t)sampler->count, capacity = (size_t)sampler->capacity;
    const char *what = "this rank's shard of the training data";
    RDP_TRY(rdp_calloc((void **)&sampler->ids, count, sizeof *sampler->ids, what));
    RDP_TRY(rdp_calloc((void **)&sampler->order, count, sizeof *sampler->order, what));
    RDP_TRY(rdp_calloc((void **)&sampler->holder, count, sizeof *sampler->holder, what));
    RDP_TRY(rdp_calloc((void **)&sampler->place, count, sizeof *sampler->place, what));
    RDP_TRY(rdp_calloc((void **)&sampler->rows, capacity, sizeof *sampler->rows, what));
    RDP_TRY(rdp_calloc((void **)&sampler->samples, capacity, sizeof *sampler->samples, what));
    RDP_TRY(rdp_calloc((void **)&sampler->slice_labels, capacity, 1, what));
    RDP_TRY(rdp_calloc((void **)&sampler->labels, capacity, 1, what));
    RDP_TRY(rdp_alloc_aligned((void **)&sampler->images, capacity * RDP_IMAGE_BYTES, what));
    if (sampler->comm->size > 1)
        RDP_TRY(rdp_alloc_aligned((void **)&sampler->packed, capacity * RDP_IMAGE_BYTES, what));
    sampler->device_images = sampler->images;
    if (!sampler->device->ops->host_memory)
        RDP_TRY(sampler->device->ops->alloc(sampler->device, (void **)&sampler->device_images,
                                            capacity * RDP_IMAGE_BYTES, what));
    return RDP_OK;
}

/* Reads rows [rank * count / size, ...): contiguous, so that no rank reads what another one needs. */
static int read_shard(struct rdp_sampler *sampler, struct rdp_dataset *dataset)
{
    int size = sampler->comm->size, rank = sampler->comm->rank;
    int64_t begin = sampler->count * rank / size, end = sampler->count * (rank + 1) / size;
    for (int r = 0; r < size; r++)
        for (int64_t i = sampler->count * r / size; i < sampler->count * (r + 1) / size; i++) {
            sampler->holder[i] = r;
            sampler->place[i] = (int32_t)(i - sampler->count * r / size);
        }
    sampler->held = end - begin;
    return rdp_dataset_read_rows(dataset, RDP_SPLIT_TRAIN, sampler->ids + begin, sampler->held, sampler->images,
                                 sampler->labels);
}

static int create(struct rdp_sampler *sampler, const struct rdp_options *options, struct rdp_dataset *dataset,
                  const int64_t *rows)
{
    int size = sampler->comm->size;
    RDP_TRY(check_sizes(options, sampler->count, size));
    sampler->steps = sampler->count / sampler->batch;
    int64_t rest = sampler->count - sampler->steps * sampler->batch;
    sampler->capacity = sampler->steps * (sampler->batch / size) + (rest + size - 1) / size;
    if (sampler->capacity < (sampler->count + size - 1) / size)
        sampler->capacity = (sampler->count + size - 1) / size;
    RDP_TRY(allocate(sampler));
    memcpy(sampler->ids, rows, (size_t)sampler->count * sizeof *rows);
    return read_shard(sampler, dataset);
}

int rdp_sampler_create(struct rdp_sampler **sampler, const struct rdp_options *options, struct rdp_dataset *dataset,
                       const int64_t *rows, int64_t count, struct rdp_comm *comm, struct rdp_device *device)
{
    int status = rdp_calloc((void **)sampler, 1, sizeof **sampler, "the sampler");
    if (status == RDP_OK) {
        **sampler = (struct rdp_sampler){.comm = comm,
                                         .device = device,
                                         .seed = (uint64_t)options->seed,
                                         .shuffle = options->shuffle,
                                         .count = count,
                                         .batch = options->batch,
                                         .micro_batch = options->batch / options->accumulate};
        status = create(*sampler, options, dataset, rows);
    }
    status = rdp_comm_agree(comm, status, "reading the training data");
    if (status != RDP_OK) {
        rdp_sampler_destroy(*sampler);
        *sampler = NULL;
    }
    return status;
}

void rdp_sampler_destroy(struct rdp_sampler *sampler)
{
    if (sampler == NULL)
        return;
    if (sampler->device_images != sampler->images)
        sampler->device->ops->free(sampler->device, sampler->device_images);
    free(sampler->ids);
    free(sampler->order);
    free(sampler->holder);
    free(sampler->place);
    free(sampler->rows);
    free(sampler->samples);
    free(sampler->slice_labels);
    free(sampler->labels);
    free(sampler->images);
    free(sampler->packed);
    free(sampler);
}

int64_t rdp_sampler_steps(const struct rdp_sampler *sampler)
{
    return sampler->steps;
}

/* Counts and offsets, in images, of what goes to (or comes from) each rank; *next is scratch of the same form. */
struct traffic {
    size_t *counts, *offsets, *next;
};

static int traffic_create(struct traffic *traffic, int size)
{
    size_t *block;
    RDP_TRY(rdp_calloc((void **)&block, 3 * (size_t)size, sizeof *block, "the exchange of samples"));
    *traffic = (struct traffic){block, block + size, block + 2 * (size_t)size};
    return RDP_OK;
}

static void traffic_offsets(struct traffic *traffic, int size)
{
    for (int r = 1; r < size; r++)
        traffic->offsets[r] = traffic->offsets[r - 1] + traffic->counts[r - 1];
    memcpy(traffic->next, traffic->offsets, (size_t)size * sizeof *traffic->next);
}

static void traffic_scale(struct traffic *traffic, int size, size_t factor)
{
    for (int r = 0; r < size; r++) {
        traffic->counts[r] *= factor;
        traffic->offsets[r] *= factor;
    }
}

/* Moves every sample to the rank that owns its position in sampler->order. All ranks walk the same order, so each knows
 * what the others send without being told. */
static int deal(struct rdp_sampler *sampler, struct traffic *out, struct traffic *in)
{
    struct rdp_comm *comm = sampler->comm;
    const int me = comm->rank, size = comm->size;
    uint8_t *labels;
    for (int64_t p = 0; p < sampler->count; p++) {
        int from = sampler->holder[sampler->order[p]], to = owner_of(sampler, p);
        out->counts[to] += from == me;
        in->counts[from] += to == me;
    }
    traffic_offsets(out, size);
    traffic_offsets(in, size);
    RDP_TRY(rdp_calloc((void **)&labels, (size_t)sampler->capacity, 1, "the exchange of samples"));
    sampler->held = 0;
    for (int64_t p = 0; p < sampler->count; p++) {
        int64_t sample = sampler->order[p];
        int from = sampler->holder[sample], to = owner_of(sampler, p);
        if (from == me) {
            size_t slot = out->next[to]++;
            memcpy(sampler->packed + slot * RDP_IMAGE_BYTES,
                   sampler->images + (size_t)sampler->place[sample] * RDP_IMAGE_BYTES, RDP_IMAGE_BYTES);
            labels[slot] = sampler->labels[sampler->place[sample]];
        }
        if (to == me) {
            sampler->place[sample] =
                (int32_t)in->next[from]++; /* after its old value was used: from == me comes first */
            sampler->held++;
        }
        sampler->holder[sample] = to;
    }
    int status = comm->ops->exchange(comm, labels, out->counts, out->offsets, sampler->labels, in->counts, in->offsets,
                                     "exchange of labels");
    traffic_scale(out, size, RDP_IMAGE_BYTES);
    traffic_scale(in, size, RDP_IMAGE_BYTES);
    if (status == RDP_OK)
        status = comm->ops->exchange(comm, sampler->packed, out->counts, out->offsets, sampler->images, in->counts,
                                     in->offsets, "exchange of images");
    free(labels);
    return status;
}

static int redeal(struct rdp_sampler *sampler)
{
    struct traffic out, in;
    if (sampler->comm->size == 1)
        return RDP_OK; /* the one rank holds all: an order is enough */
    RDP_TRY(traffic_create(&out, sampler->comm->size));
    int status = traffic_create(&in, sampler->comm->size);
    if (status == RDP_OK) {
        status = deal(sampler, &out, &in);
        free(in.counts);
    }
    free(out.counts);
    return status;
}

/* Lists this rank's samples in the order in which it will use them. */
static void list_slices(struct rdp_sampler *sampler)
{
    int64_t n = 0;
    for (int64_t p = 0; p < sampler->count; p++) {
        int64_t sample = sampler->order[p];
        if (owner_of(sampler, p) != sampler->comm->rank)
            continue;
        sampler->rows[n] = sampler->place[sample];
        sampler->samples[n] = sampler->ids[sample];
        sampler->slice_labels[n++] = sampler->labels[sampler->place[sample]];
    }
}

/* --shuffle local: permutes the list that list_slices made for the one deal, anew for each epoch. */
static int permute_slices(struct rdp_sampler *sampler, int64_t epoch)
{
    int64_t n = sampler->held, *order, *rows, *samples;
    RDP_TRY(rdp_calloc((void **)&order, 3 * (size_t)n, sizeof *order, "the epoch's order"));
    rows = order + n;
    samples = rows + n;
    list_slices(sampler);
    permute(order, n, sampler->seed, RDP_RANDOM_ORDER, (uint32_t)epoch, (uint64_t)sampler->comm->rank + 1);
    memcpy(rows, sampler->rows, (size_t)n * sizeof *rows);
    memcpy(samples, sampler->samples, (size_t)n * sizeof *samples);
    for (int64_t i = 0; i < n; i++) {
        sampler->rows[i] = rows[order[i]];
        sampler->samples[i] = samples[order[i]];
        sampler->slice_labels[i] = sampler->labels[rows[order[i]]];
    }
    free(order);
    return RDP_OK;
}

static int upload(struct rdp_sampler *sampler)
{
    if (sampler->device_images == sampler->images)
        return RDP_OK;
    return sampler->device->ops->upload(sampler->device, sampler->device_images, sampler->images,
                                        (size_t)sampler->held * RDP_IMAGE_BYTES);
}

int rdp_sampler_begin_epoch(struct rdp_sampler *sampler, int64_t epoch)
{
    const bool global = sampler->shuffle == RDP_SHUFFLE_GLOBAL;
    rdp_watchdog_phase("dealing the samples", -1);
    if (global || !sampler->dealt) {
        if (global)
            permute(sampler->order, sampler->count, sampler->seed, RDP_RANDOM_ORDER, (uint32_t)epoch, 0);
        else
            permute(sampler->order, sampler->count, sampler->seed, RDP_RANDOM_DEAL, 0, 0);
        RDP_TRY(redeal(sampler));
        sampler->dealt = true;
        RDP_TRY(upload(sampler));
    }
    if (!global)
        return permute_slices(sampler, epoch);
    list_slices(sampler);
    return RDP_OK;
}

struct rdp_slice rdp_sampler_slice(const struct rdp_sampler *sampler, int64_t step)
{
    int count = (int)(sampler->batch / sampler->comm->size);
    int64_t first = step * count;
    return (struct rdp_slice){sampler->device_images, sampler->rows + first, sampler->samples + first,
                              sampler->slice_labels + first, count};
}
