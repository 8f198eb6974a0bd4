/* What the C++ files of the emulation share. */
#ifndef RDP_TESTS_EMULATION_INTERNAL_H
#define RDP_TESTS_EMULATION_INTERNAL_H

#include <cuda_runtime.h>

#include "emulation.h"

namespace rdp_emulation {

/* Remembers an error for cudaGetLastError, and returns it. */
cudaError_t failed(cudaError_t error);

/* While one of these lives, device memory can be touched. */
class device_access {
  public:
    device_access();
    ~device_access();
    device_access(const device_access &) = delete;
};

enum class memory { pageable, pinned, device };
/* What kind of memory [pointer, pointer + bytes) is; ends the program if it reaches over an allocation's end. */
memory kind_of(const void *pointer, size_t bytes);

/* For calls that may not be made while a stream is being captured: spoils the capture and returns its error. */
cudaError_t refuse_capture();
void synchronize_all();
size_t stream_objects(); /* streams, events and graphs that are alive */

} // namespace rdp_emulation

#endif
