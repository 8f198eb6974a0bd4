/* See cudnn_graph.h. */
#include "kernels/cuda/cudnn_graph.h"

#include <stdio.h>
#include <string.h>

#include "base/status.h"

static void last_words(char *words, size_t size)
{
    words[0] = '\0';
    cudnnGetLastErrorString(words, size);
    words[size - 1] = '\0';
    for (size_t end = strlen(words); end > 0 && (words[end - 1] == '\n' || words[end - 1] == ' '); end--)
        words[end - 1] = '\0';
}

static int fail(cudnnStatus_t status, const char *words, const char *call, const char *where)
{
    bool memory = status == CUDNN_STATUS_INTERNAL_ERROR_HOST_ALLOCATION_FAILED ||
                  status == CUDNN_STATUS_INTERNAL_ERROR_DEVICE_ALLOCATION_FAILED;
    size_t version = cudnnGetVersion();
    return rdp_fail(memory ? RDP_ENOMEM : RDP_EDEVICE, "cuDNN %zu.%zu.%zu failed in %s (%s): %s%s%s. %s",
                    version / 10000, version / 100 % 100, version % 100, call, where, cudnnGetErrorString(status),
                    words[0] != '\0' ? ": " : "", words,
                    memory ? "Use a smaller batch, or a device with more free memory"
                           : "CUDNN_LOGLEVEL_DBG=2 in the environment makes cuDNN say more; --device cpu trains "
                             "without it");
}

int rdp_cudnn_failed(cudnnStatus_t status, const char *call, const char *file, int line)
{
    char words[256], where[256];
    last_words(words, sizeof words);
    const char *slash = strrchr(file, '/');
    snprintf(where, sizeof where, "%s:%d", slash != NULL ? slash + 1 : file, line);
    return fail(status, words, call, where);
}

static void note(struct cudnn_builder *builder, cudnnStatus_t status, const char *step)
{
    if (status == CUDNN_STATUS_SUCCESS)
        return;
    builder->status = status;
    builder->step = step;
    last_words(builder->words, sizeof builder->words);
}

cudnnBackendDescriptor_t rdp_cudnn_add(struct cudnn_builder *builder, cudnnBackendDescriptorType_t type)
{
    if (!rdp_cudnn_ok(builder))
        return NULL;
    if (builder->count == CUDNN_BUILDER_ITEMS) {
        builder->status = CUDNN_STATUS_BAD_PARAM_OUT_OF_BOUND;
        builder->step = "CUDNN_BUILDER_ITEMS";
        return NULL;
    }
    cudnnBackendDescriptor_t descriptor = NULL;
    note(builder, cudnnBackendCreateDescriptor(type, &descriptor), "cudnnBackendCreateDescriptor");
    if (!rdp_cudnn_ok(builder))
        return NULL;
    builder->items[builder->count++] = descriptor;
    return descriptor;
}

void rdp_cudnn_set(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                   cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, int64_t count,
                   const void *values)
{
    if (rdp_cudnn_ok(builder))
        note(builder, cudnnBackendSetAttribute(descriptor, attribute, type, count, values), "cudnnBackendSetAttribute");
}

void rdp_cudnn_set_int64(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                         cudnnBackendAttributeName_t attribute, int64_t value)
{
    rdp_cudnn_set(builder, descriptor, attribute, CUDNN_TYPE_INT64, 1, &value);
}

void rdp_cudnn_set_bool(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                        cudnnBackendAttributeName_t attribute, bool value)
{
    rdp_cudnn_set(builder, descriptor, attribute, CUDNN_TYPE_BOOLEAN, 1, &value);
}

void rdp_cudnn_set_descriptor(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                              cudnnBackendAttributeName_t attribute, cudnnBackendDescriptor_t value)
{
    rdp_cudnn_set(builder, descriptor, attribute, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &value);
}

int64_t rdp_cudnn_get(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                      cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, int64_t most,
                      void *values)
{
    int64_t count = 0;
    if (!rdp_cudnn_ok(builder))
        return 0;
    note(builder, cudnnBackendGetAttribute(descriptor, attribute, type, most, &count, values),
         "cudnnBackendGetAttribute");
    if (!rdp_cudnn_ok(builder))
        return 0;
    return count < most ? count : most;
}

void rdp_cudnn_finalize(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor)
{
    if (rdp_cudnn_ok(builder))
        note(builder, cudnnBackendFinalize(descriptor), "cudnnBackendFinalize");
}

bool rdp_cudnn_ok(const struct cudnn_builder *builder)
{
    return builder->status == CUDNN_STATUS_SUCCESS;
}

int rdp_cudnn_built(const struct cudnn_builder *builder, const char *what)
{
    return rdp_cudnn_ok(builder) ? RDP_OK : fail(builder->status, builder->words, builder->step, what);
}

void rdp_cudnn_clear(struct cudnn_builder *builder)
{
    while (builder->count > 0)
        cudnnBackendDestroyDescriptor(builder->items[--builder->count]);
    *builder = (struct cudnn_builder){.status = CUDNN_STATUS_SUCCESS};
}
