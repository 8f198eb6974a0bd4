/* What stream.cpp and graph.cpp share. */
#ifndef RDP_TESTS_EMULATION_STREAM_H
#define RDP_TESTS_EMULATION_STREAM_H

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <vector>

#include "internal.h"

/* Is called until it returns true; `first` tells a new run. */
using operation = std::function<bool(bool first)>;
using clock_type = std::vector<size_t>; /* how many operations of each branch are known to have run */

struct CUstream_st {
    std::deque<operation> queue;
    bool begun = false; /* the operation at the front */
    int branch = -1;    /* of the capture; -1: takes no part */
};

struct CUevent_st {
    size_t recorded = 0, completed = 0;
    std::chrono::steady_clock::time_point when;
    std::shared_ptr<char> capture; /* whose event it is, if it was last recorded in one */
    clock_type known;
};

namespace rdp_emulation {

/* stream.cpp */
const std::vector<cudaStream_t> &all_streams();
bool is_stream(cudaStream_t stream);
cudaError_t put(cudaStream_t stream, operation run);

/* graph.cpp: what is put, recorded and waited for on a stream that takes part in the capture, and a wait of any stream
 * for an event of the capture, by which it comes to take part. */
void capture_operation(cudaStream_t stream, operation run);
void capture_record(cudaStream_t stream, cudaEvent_t event);
cudaError_t capture_wait(cudaStream_t stream, cudaEvent_t event);
bool is_of_capture(cudaEvent_t event);

} // namespace rdp_emulation

#endif
