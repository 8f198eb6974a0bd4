/* What the files of the device itself share: device.c, memory.c, recording.c, identify.c. Nobody else includes this. */
#ifndef RDP_KERNELS_CUDA_DEVICE_H
#define RDP_KERNELS_CUDA_DEVICE_H

#include "kernels/cuda/cuda.h"

/* RDP_EINTERNAL, naming the operation, while a recording is being made: it would change or block the recording. */
int cuda_refuse_recording(struct rdp_device *device, const char *operation);

/* memory.c. cuda_alloc, cuda_free and the transfers are the operations of the same names. */
int cuda_alloc(struct rdp_device *device, void **pointer, size_t bytes, const char *what);
void cuda_free(struct rdp_device *device, void *pointer);
size_t cuda_memory_used(struct rdp_device *device);
void cuda_blocks_close(struct rdp_device *device); /* frees what was not: workspaces that recordings knew */
int cuda_upload(struct rdp_device *device, void *to, const void *host_from, size_t bytes);
int cuda_download(struct rdp_device *device, void *host_to, const void *from, size_t bytes);
int cuda_zero(struct rdp_device *device, void *pointer, size_t bytes);
int cuda_copy(struct rdp_device *device, void *to, const void *from, size_t bytes);
int cuda_feed(struct rdp_device *device, void *to, const void *host_from, size_t bytes);
int cuda_feed_open(struct rdp_device *device);   /* fills cuda_state.feed */
void cuda_feed_close(struct rdp_device *device); /* its copies must be done */

/* recording.c */
int cuda_stamp(struct rdp_device *device, int i);
int cuda_stamp_seconds(struct rdp_device *device, int from, int to, double *seconds);
void cuda_stamps_close(struct rdp_device *device);
int cuda_record_begin(struct rdp_device *device);
int cuda_record_end(struct rdp_device *device, struct rdp_recording **recording);
int cuda_replay(struct rdp_device *device, struct rdp_recording *recording);
void cuda_recording_destroy(struct rdp_device *device, struct rdp_recording *recording);

/* identify.c: CUDA's number of the index-th device that this build has code for; -1 if there are fewer. */
int cuda_ordinal(int index);

#endif
