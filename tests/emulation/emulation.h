/*
 * What the files of the emulation share, and what tests may ask of it.
 *
 * The emulation stands in for libcudart, cuDNN's part (kernels/cuda/conv.c) and NCCL, so that the project's CUDA code
 * runs and is checked where there is no GPU: indexing, arithmetic, order of calls. It says nothing about speed. All of
 * it belongs to the one thread that makes the calls, as kernels.h promises.
 *
 * Environment: RDP_EMULATION_DEVICES=N devices (default 1; 0: cudaErrorNoDevice); RDP_EMULATION_MEMORY=N bytes of device
 * memory; nccl.c names its own.
 */
#ifndef RDP_TESTS_EMULATION_EMULATION_H
#define RDP_TESTS_EMULATION_EMULATION_H

#include <stdbool.h>
#include <stddef.h>

#include <cuda_runtime_api.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Puts work on a stream (or into the graph that the stream is being captured into), with a copy of the `bytes` at
 * `argument`. It is called, later, until it returns true; `first` tells a new run (a graph runs it again and again).
 * Device memory may only be touched in there: at all other times it is not accessible.
 */
cudaError_t rdp_emulation_enqueue(cudaStream_t stream, bool (*run)(void *argument, bool first), const void *argument,
                                  size_t bytes);
/* Lets every stream do a little, as a GPU would while the host waits for other ranks. */
void rdp_emulation_progress(void);
/* Ends the program unless the bytes around every allocation are as they were; also called by cudaFree and at exit. */
void rdp_emulation_check_guards(void);
size_t rdp_emulation_graphs(void);      /* graphs that are alive, ready to run or not; for any thread */
size_t rdp_emulation_allocations(void); /* device and pinned memory, streams, events and graphs that are alive */
void rdp_emulation_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));

#ifdef __cplusplus
}
#endif

#endif
