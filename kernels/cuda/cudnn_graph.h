/*
 * Thin helpers over cuDNN's graph ("backend") API, which knows one kind of object, the descriptor, and one kind of
 * call, "set attribute". A builder owns the descriptors of one graph, one plan or one query, and remembers the first
 * failure: later calls on it do nothing, so that building reads as a list and is checked once at its end. A refusal is
 * no error of the program where candidates are tried, so a builder says nothing by itself; rdp_cudnn_built() makes an
 * error of it. Used by conv_plan.c and conv.c only.
 */
#ifndef RDP_KERNELS_CUDA_CUDNN_GRAPH_H
#define RDP_KERNELS_CUDA_CUDNN_GRAPH_H

#include <cudnn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CUDNN_BUILDER_ITEMS = 80 /* a plan: engine, one choice per knob type (44 in cuDNN 9.19), config, plan */ };

struct cudnn_builder {
    cudnnBackendDescriptor_t items[CUDNN_BUILDER_ITEMS]; /* owned; destroyed in reverse */
    int count;
    cudnnStatus_t status; /* of the first call that failed */
    const char *step;     /* which one it was */
    char words[256];      /* cuDNN's own about it */
};

/* The words for a failed call. Returns RDP_ENOMEM for cuDNN's allocation failures, else RDP_EDEVICE. */
int rdp_cudnn_failed(cudnnStatus_t status, const char *call, const char *file, int line);

#define RDP_CUDNN(call) \
    do { \
        cudnnStatus_t rdp_cudnn_status_ = (call); \
        if (rdp_cudnn_status_ != CUDNN_STATUS_SUCCESS) \
            return rdp_cudnn_failed(rdp_cudnn_status_, #call, __FILE__, __LINE__); \
    } while (0)

/* A new descriptor of the builder's; NULL after a failure. */
cudnnBackendDescriptor_t rdp_cudnn_add(struct cudnn_builder *builder, cudnnBackendDescriptorType_t type);
/* `count` elements of `type` at `values`. */
void rdp_cudnn_set(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                   cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, int64_t count,
                   const void *values);
void rdp_cudnn_set_int64(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                         cudnnBackendAttributeName_t attribute, int64_t value);
void rdp_cudnn_set_bool(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                        cudnnBackendAttributeName_t attribute, bool value);
void rdp_cudnn_set_descriptor(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                              cudnnBackendAttributeName_t attribute, cudnnBackendDescriptor_t value);
/* Reads at most `most` elements; returns how many there are now in `values` (0 after a failure). For attributes that
 * are descriptors `values` holds descriptors made before. */
int64_t rdp_cudnn_get(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor,
                      cudnnBackendAttributeName_t attribute, cudnnBackendAttributeType_t type, int64_t most,
                      void *values);
void rdp_cudnn_finalize(struct cudnn_builder *builder, cudnnBackendDescriptor_t descriptor);

bool rdp_cudnn_ok(const struct cudnn_builder *builder);
/* RDP_OK, or the error for the builder's failure; `what` says what it was building. */
int rdp_cudnn_built(const struct cudnn_builder *builder, const char *what);
/* Destroys everything; the builder is as new. */
void rdp_cudnn_clear(struct cudnn_builder *builder);

#endif
