/*
 * `resnet-dp predict`: the most probable classes of PNG and JPEG files, one line per file. Runs alone, without MPI. All
 * files are read before the first is classified, so that a bad one is told before anything is printed.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "commands.h"
#include "io/image.h"
#include "loaded.h"

enum { PASS_MAX = 64 /* images classified at once */ };

struct prediction {
    struct rdp_loaded loaded;
    struct rdp_session session; /* of this process alone */
    int count;                  /* of files */
    int pass;                   /* images per pass of the network */
    uint8_t *pixels;            /* host (count,32,32,3) */
    void *images;               /* device, likewise */
    int64_t *rows;              /* [pass] */
    uint8_t *labels;            /* [pass], all 0: the network computes a loss, which nobody reads */
    float *logits;              /* host (pass, classes) */
};

static int read_image(const char *path, uint8_t *pixels)
{
    struct rdp_image image;
    RDP_TRY(rdp_image_read(&image, path));
    if (image.width != RDP_IMAGE_SIZE || image.height != RDP_IMAGE_SIZE)
        rdp_log_warning("%s: %d x %d pixels, resized to %d x %d; the network knows pictures of that size only", path,
                        image.width, image.height, RDP_IMAGE_SIZE, RDP_IMAGE_SIZE);
    int status = rdp_image_resize(&image, RDP_IMAGE_SIZE, RDP_IMAGE_SIZE, pixels);
    rdp_image_free(&image);
    return status;
}

static int read_images(struct prediction *prediction, const struct rdp_options *options)
{
    prediction->count = options->argument_count;
    prediction->pass = prediction->count < PASS_MAX ? prediction->count : PASS_MAX;
    RDP_TRY(rdp_calloc((void **)&prediction->pixels, (size_t)prediction->count, RDP_IMAGE_BYTES, "the images"));
    for (int i = 0; i < prediction->count; i++)
        RDP_TRY(read_image(options->arguments[i], prediction->pixels + (size_t)i * RDP_IMAGE_BYTES));
    return RDP_OK;
}

static int prepare(struct prediction *prediction, const struct rdp_options *options)
{
    struct rdp_session *session = &prediction->session;
    struct rdp_loaded *loaded = &prediction->loaded;
    const size_t bytes = (size_t)options->argument_count * RDP_IMAGE_BYTES;
    RDP_TRY(rdp_loaded_read(loaded, options));
    RDP_TRY(read_images(prediction, options));
    RDP_TRY(rdp_session_begin(session, false, NULL, NULL));
    RDP_TRY(rdp_comm_create(&session->comm, &session->launch));
    RDP_TRY(rdp_session_lone_device(session, &loaded->options));
    RDP_TRY(rdp_loaded_network(loaded, session->device, prediction->pass));
    const size_t pass = (size_t)prediction->pass;
    RDP_TRY(rdp_calloc((void **)&prediction->rows, pass, sizeof *prediction->rows, "row numbers"));
    RDP_TRY(rdp_calloc((void **)&prediction->labels, pass, sizeof *prediction->labels, "labels"));
    RDP_TRY(rdp_calloc((void **)&prediction->logits, pass * (size_t)loaded->info.classes, sizeof(float), "logits"));
    struct rdp_device *device = session->device;
    RDP_TRY(device->ops->alloc(device, &prediction->images, bytes, "the images"));
    return device->ops->upload(device, prediction->images, prediction->pixels, bytes);
}

/* Prints the classes of greatest probability, softmax(logits), and spends them. */
static void print_top(const char *path, float *logits, const struct rdp_dataset_info *info, int top)
{
    double sum = 0;
    float greatest = -INFINITY;
    for (int i = 0; i < info->classes; i++)
        greatest = fmaxf(greatest, logits[i]);
    for (int i = 0; i < info->classes; i++)
        sum += exp((double)logits[i] - greatest);
    rdp_say("%s:", path);
    for (int place = 0; place < top && place < info->classes; place++) {
        int best = 0;
        for (int i = 1; i < info->classes; i++)
            if (logits[i] > logits[best])
                best = i;
        rdp_say("%s %s %.2f %%", place > 0 ? "," : "", info->class_names[best],
                100 * exp((double)logits[best] - greatest) / sum);
        logits[best] = -INFINITY;
    }
    rdp_say("\n");
}

static int check_logits(const struct prediction *prediction, int count)
{
    for (int i = 0; i < count * prediction->loaded.info.classes; i++)
        if (!isfinite(prediction->logits[i]))
            return rdp_fail(RDP_ENUMERIC,
                            "%s: the network's outputs are not finite numbers: its training had diverged; use an "
                            "earlier checkpoint",
                            prediction->loaded.options.checkpoint);
    return RDP_OK;
}

static int classify(struct prediction *prediction, int first)
{
    const struct rdp_loaded *loaded = &prediction->loaded;
    const int left = prediction->count - first, count = left < prediction->pass ? left : prediction->pass;
    /* Rows beyond the last image repeat it. */
    for (int i = 0; i < prediction->pass; i++)
        prediction->rows[i] = first + (i < count ? i : count - 1);
    const struct rdp_batch batch = {.images = prediction->images,
                                    .rows = prediction->rows,
                                    .samples = prediction->rows,
                                    .labels = prediction->labels,
                                    .count = prediction->pass,
                                    .valid = count,
                                    .augment = loaded->normalise};
    const struct rdp_inputs inputs = {0};
    RDP_TRY(rdp_network_load(loaded->network, &batch, &inputs));
    RDP_TRY(rdp_network_forward(loaded->network, 0, false, 0, NULL, NULL));
    RDP_TRY(rdp_network_logits(loaded->network, prediction->logits));
    RDP_TRY(check_logits(prediction, count));
    for (int i = 0; i < count; i++)
        print_top(loaded->options.arguments[first + i], prediction->logits + (size_t)i * (size_t)loaded->info.classes,
                  &loaded->info, loaded->options.top);
    return RDP_OK;
}

static void release(struct prediction *prediction)
{
    rdp_loaded_free(&prediction->loaded);
    if (prediction->session.device != NULL)
        prediction->session.device->ops->free(prediction->session.device, prediction->images);
    rdp_session_end(&prediction->session);
    free(prediction->pixels);
    free(prediction->rows);
    free(prediction->labels);
    free(prediction->logits);
}

int rdp_cmd_predict(const struct rdp_options *options)
{
    struct prediction prediction = {0};
    int status = prepare(&prediction, options);
    for (int first = 0; status == RDP_OK && first < prediction.count; first += prediction.pass)
        status = classify(&prediction, first);
    release(&prediction);
    return status;
}
