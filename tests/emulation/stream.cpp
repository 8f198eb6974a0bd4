/*
 * Streams and events. Nothing runs when it is called: work waits in its stream until somebody waits for it.
 *
 * A stream is a queue of operations. Waiting for one runs that stream's operations and, only where they wait for an
 * event, those of the others: what is not waited for stays undone as long as possible, so that a missing wait shows.
 * Polling does one operation of every stream. An operation may stay unfinished (a collective whose peers are not there)
 * and is then called again.
 */
#include <sched.h>

#include <algorithm>
#include <cstring>

#include "stream.h"

namespace rdp_emulation {
namespace {

constexpr size_t longest_queue = 4096;

std::vector<cudaStream_t> streams;
std::vector<cudaEvent_t> events;
std::vector<std::unique_ptr<CUevent_st>> retired_events; /* destroyed, but queues may hold their address */

bool is_event(cudaEvent_t event)
{
    return std::find(events.begin(), events.end(), event) != events.end();
}

/* The first operation of the queue; whether it is done. */
bool advance(cudaStream_t stream)
{
    if (stream->queue.empty())
        return false;
    bool first = !stream->begun;
    stream->begun = true;
    if (!stream->queue.front()(first))
        return false;
    stream->queue.pop_front();
    stream->begun = false;
    return true;
}

/* Runs until `done`: operations of `stream`, others' only where it cannot go on. */
template <typename Done> void run_until(cudaStream_t stream, Done done)
{
    if (done())
        return;
    device_access access;
    while (!done()) {
        bool moved = advance(stream);
        for (size_t i = 0; !moved && !done() && i < streams.size(); i++)
            moved = streams[i] != stream && advance(streams[i]);
        if (!moved && !done())
            sched_yield();
    }
}

void run_stream(cudaStream_t stream)
{
    run_until(stream, [=] { return stream->queue.empty(); });
}

cudaError_t put_once(cudaStream_t stream, std::function<void()> run)
{
    return put(stream, [=](bool) {
        run();
        return true;
    });
}

} // namespace

const std::vector<cudaStream_t> &all_streams()
{
    return streams;
}

bool is_stream(cudaStream_t stream)
{
    return std::find(streams.begin(), streams.end(), stream) != streams.end();
}

cudaError_t put(cudaStream_t stream, operation run)
{
    if (!is_stream(stream))
        return failed(cudaErrorInvalidResourceHandle);
    if (stream->branch >= 0) {
        capture_operation(stream, std::move(run));
        return cudaSuccess;
    }
    stream->queue.push_back(std::move(run));
    if (stream->queue.size() > longest_queue)
        run_until(stream, [=] { return stream->queue.size() <= longest_queue / 2; });
    return cudaSuccess;
}

void synchronize_all()
{
    for (cudaStream_t stream : streams)
        run_stream(stream);
}

size_t stream_objects()
{
    return streams.size() + events.size() + rdp_emulation_graphs();
}

cudaError_t enqueue(const cudaLaunchConfig_t *config, launch &&what)
{
    size_t threads = size_t{what.block.x} * what.block.y * what.block.z;
    if (threads < 1 || threads > 1024 || what.block.z > 64 || what.grid.x < 1 || what.grid.y < 1 || what.grid.z < 1 ||
        what.grid.y > 65535 || what.grid.z > 65535 || config->dynamicSmemBytes)
        return failed(cudaErrorInvalidConfiguration);
    return put_once(config->stream, [what] { run_grid(what); });
}

} // namespace rdp_emulation

using namespace rdp_emulation;

cudaError_t rdp_emulation_enqueue(cudaStream_t stream, bool (*run)(void *argument, bool first), const void *argument,
                                  size_t bytes)
{
    const char *from = static_cast<const char *>(argument);
    auto copy = std::make_shared<std::vector<char>>(from, from + bytes);
    return put(stream, [=](bool first) { return run(copy->data(), first); });
}

void rdp_emulation_progress(void)
{
    auto idle = [](const CUstream_st *stream) { return stream->queue.empty(); };
    if (std::all_of(streams.begin(), streams.end(), idle))
        return;
    device_access access;
    for (size_t i = 0; i < streams.size(); i++)
        advance(streams[i]);
}

cudaError_t cudaStreamCreateWithPriority(cudaStream_t *stream, unsigned, int)
{
    streams.push_back(*stream = new CUstream_st);
    return cudaSuccess;
}

cudaError_t cudaStreamCreateWithFlags(cudaStream_t *stream, unsigned flags)
{
    return cudaStreamCreateWithPriority(stream, flags, 0);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaStreamDestroy(cudaStream_t stream)
{
    if (!is_stream(stream))
        return failed(cudaErrorInvalidResourceHandle);
    run_stream(stream);
    streams.erase(std::find(streams.begin(), streams.end(), stream));
    delete stream;
    return cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (cudaError_t error = refuse_capture())
        return error;
    if (!is_stream(stream))
        return failed(cudaErrorInvalidResourceHandle);
    run_stream(stream);
    return cudaSuccess;
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (cudaError_t error = refuse_capture())
        return error;
    synchronize_all();
    return cudaSuccess;
}

cudaError_t cudaStreamQuery(cudaStream_t stream)
{
    if (cudaError_t error = refuse_capture())
        return error;
    if (!is_stream(stream))
        return failed(cudaErrorInvalidResourceHandle);
    if (stream->queue.empty())
        return cudaSuccess;
    rdp_emulation_progress();
    return failed(cudaErrorNotReady);
}

cudaError_t cudaEventCreateWithFlags(cudaEvent_t *event, unsigned)
{
    events.push_back(*event = new CUevent_st);
    return cudaSuccess;
}

cudaError_t cudaEventCreate(cudaEvent_t *event)
{
    return cudaEventCreateWithFlags(event, 0);
}

cudaError_t cudaEventDestroy(cudaEvent_t event)
{
    if (!is_event(event))
        return failed(cudaErrorInvalidResourceHandle);
    events.erase(std::find(events.begin(), events.end(), event));
    retired_events.emplace_back(event);
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream)
{
    if (!is_event(event) || !is_stream(stream))
        return failed(cudaErrorInvalidResourceHandle);
    if (stream->branch >= 0) {
        capture_record(stream, event);
        return cudaSuccess;
    }
    event->capture.reset();
    size_t generation = ++event->recorded;
    return put_once(stream, [=] {
        event->completed = generation;
        event->when = std::chrono::steady_clock::now();
    });
}

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned)
{
    if (!is_event(event) || !is_stream(stream))
        return failed(cudaErrorInvalidResourceHandle);
    if (stream->branch >= 0 || is_of_capture(event))
        return capture_wait(stream, event);
    if (event->capture)
        return failed(cudaErrorCapturedEvent);
    size_t generation = event->recorded;
    return put(stream, [=](bool) { return event->completed >= generation; });
}

cudaError_t cudaEventQuery(cudaEvent_t event)
{
    if (cudaError_t error = refuse_capture())
        return error;
    if (!is_event(event))
        return failed(cudaErrorInvalidResourceHandle);
    if (event->capture)
        return failed(cudaErrorCapturedEvent);
    if (event->completed >= event->recorded)
        return cudaSuccess;
    rdp_emulation_progress();
    return failed(cudaErrorNotReady);
}

cudaError_t cudaEventSynchronize(cudaEvent_t event)
{
    if (cudaError_t error = refuse_capture())
        return error;
    if (!is_event(event))
        return failed(cudaErrorInvalidResourceHandle);
    if (event->capture)
        return failed(cudaErrorCapturedEvent);
    for (cudaStream_t stream : streams)
        run_until(stream, [=] { return stream->queue.empty() || event->completed >= event->recorded; });
    return cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    if (!is_event(from) || !is_event(to) || !from->recorded || !to->recorded)
        return failed(cudaErrorInvalidResourceHandle);
    if (from->completed < from->recorded || to->completed < to->recorded)
        return failed(cudaErrorNotReady);
    *milliseconds = std::chrono::duration<float, std::milli>(to->when - from->when).count();
    return cudaSuccess;
}

cudaError_t cudaMemsetAsync(void *to, int value, size_t bytes, cudaStream_t stream)
{
    if (kind_of(to, bytes) != memory::device)
        return failed(cudaErrorInvalidValue);
    return put_once(stream, [=] { memset(to, value, bytes); });
}

/* Pageable host memory is read before the call returns, or written before; pinned memory when its turn comes. */
cudaError_t cudaMemcpyAsync(void *to, const void *from, size_t bytes, cudaMemcpyKind kind, cudaStream_t stream)
{
    memory to_kind = kind_of(to, bytes), from_kind = kind_of(from, bytes);
    bool to_device = to_kind == memory::device, from_device = from_kind == memory::device;
    if ((kind == cudaMemcpyHostToDevice && (!to_device || from_device)) ||
        (kind == cudaMemcpyDeviceToHost && (to_device || !from_device)) ||
        (kind == cudaMemcpyDeviceToDevice && (!to_device || !from_device)) || kind == cudaMemcpyHostToHost)
        return failed(cudaErrorInvalidValue);
    if (from_kind == memory::pageable) {
        auto held = std::make_shared<std::vector<char>>(static_cast<const char *>(from),
                                                        static_cast<const char *>(from) + bytes);
        return put_once(stream, [=] { memcpy(to, held->data(), bytes); });
    }
    if (to_kind == memory::pageable) {
        if (cudaError_t error = refuse_capture())
            return error;
    }
    cudaError_t error = put_once(stream, [=] { memmove(to, from, bytes); });
    return error || to_kind != memory::pageable ? error : cudaStreamSynchronize(stream);
}
