/* The device memory of a planned network: places that tensors share, and the head's arrays. See network_plan.h. */
#include "network_plan.h"

#include <stdlib.h>

#include "base/memory.h"
#include "base/status.h"

/* Gives every tensor a slot; tensors whose lives do not overlap share one. Best fit, else the largest free one grows.
 */
static int allocate_tensors(struct rdp_network *network)
{
    struct rdp_network_plan *plan = network->plan;
    struct slot {
        size_t bytes;
        int busy_until;
    } * slots;
    int *slot_of, status = RDP_OK;
    RDP_TRY(rdp_calloc((void **)&slots, (size_t)plan->tensor_count, sizeof *slots, "the memory plan"));
    RDP_TRY_GOTO(status, rdp_calloc((void **)&slot_of, (size_t)plan->tensor_count, sizeof *slot_of, "the memory plan"),
                 free_slots);
    for (int i = 0; i < plan->tensor_count; i++) { /* tensors were made in the order of their first use */
        const struct rdp_tensor *tensor = &plan->tensors[i];
        size_t bytes = tensor->image_bytes * (size_t)network->config.batch;
        int best = -1;
        for (int s = 0; s < plan->slot_count; s++) {
            if (slots[s].busy_until >= tensor->first)
                continue;
            bool fits = slots[s].bytes >= bytes, best_fits = best >= 0 && slots[best].bytes >= bytes;
            if (best < 0 || (fits && (!best_fits || slots[s].bytes < slots[best].bytes)) ||
                (!fits && !best_fits && slots[s].bytes > slots[best].bytes))
                best = s;
        }
        if (best < 0)
            best = plan->slot_count++;
        if (slots[best].bytes < bytes)
            slots[best].bytes = bytes;
        slots[best].busy_until = tensor->last;
        slot_of[i] = best;
    }
    RDP_TRY_GOTO(status,
                 rdp_calloc((void **)&plan->slots, (size_t)plan->slot_count, sizeof *plan->slots, "the memory plan"),
                 free_slot_of);
    for (int s = 0; s < plan->slot_count; s++) {
        RDP_TRY_GOTO(status,
                     network->device->ops->alloc(network->device, &plan->slots[s], slots[s].bytes, "activations"),
                     free_slot_of);
        network->activation_bytes += slots[s].bytes;
    }
    for (int i = 0; i < plan->tensor_count; i++)
        plan->tensors[i].data = plan->slots[slot_of[i]];
free_slot_of:
    free(slot_of);
free_slots:
    free(slots);
    return status;
}

static int allocate_head(struct rdp_network *network)
{
    struct rdp_network_plan *plan = network->plan;
    struct rdp_device *device = network->device;
    size_t channels = (size_t)network->model->layers[network->model->layer_count - 1].in.channels;
    size_t rows = (size_t)network->config.batch * sizeof(float), classes = (size_t)network->model->classes;
    RDP_TRY(device->ops->alloc(device, (void **)&plan->features, rows * channels, "features"));
    RDP_TRY(device->ops->alloc(device, (void **)&plan->logits, rows * classes, "logits"));
    if (!network->config.training)
        return RDP_OK;
    RDP_TRY(device->ops->alloc(device, (void **)&plan->dfeatures, rows * channels, "gradient of the features"));
    return device->ops->alloc(device, (void **)&plan->dlogits, rows * classes, "gradient of the logits");
}

int rdp_network_memory_create(struct rdp_network *network)
{
    RDP_TRY(allocate_tensors(network));
    return allocate_head(network);
}

void rdp_network_memory_destroy(struct rdp_network *network)
{
    struct rdp_network_plan *plan = network->plan;
    struct rdp_device *device = network->device;
    for (int i = 0; plan->slots != NULL && i < plan->slot_count; i++)
        device->ops->free(device, plan->slots[i]);
    device->ops->free(device, plan->features);
    device->ops->free(device, plan->dfeatures);
    device->ops->free(device, plan->logits);
    device->ops->free(device, plan->dlogits);
    free(plan->slots);
}
