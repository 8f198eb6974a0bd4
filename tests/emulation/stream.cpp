/*
 * Streams, events and graphs. Nothing runs when it is called: work waits in its stream until somebody waits for it.
 *
 * A stream is a queue of operations. Waiting for one runs that stream's operations and, only where they wait for an
 * event, those of the others: what is not waited for stays undone as long as possible, so that a missing wait shows.
 * Polling does one operation of every stream. An operation may stay unfinished (a collective whose peers are not there)
 * and is then called again.
 *
 * A capture keeps the operations of each stream that takes part, in a "branch" of the graph, with its waits for other
 * branches. A launched graph runs its branches first to last and last to first by turns, as far as their waits allow.
 */
#include <sched.h>

#include <chrono>
#include <cstring>
#include <deque>
#include <memory>
#include <vector>

#include <cuda_runtime.h>

#include "internal.h"

using operation = std::function<bool(bool first)>;
using clock_type = std::vector<size_t>; /* how many operations of each branch are known to have run */

struct branch {
    struct node {
        operation run;
        clock_type after; /* waits until these have run */
    };
    std::vector<node> nodes;
    clock_type known;
};

struct CUgraph_st {
    std::vector<branch> branches; /* the origin's first */
    CUstream_st *origin = nullptr;
    bool spoilt = false, relaxed = false;
};

struct CUgraphExec_st {
    std::shared_ptr<const std::vector<branch>> branches;
    bool backwards = false;
};

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
namespace {

constexpr size_t longest_queue = 4096;

std::vector<CUstream_st *> streams;
std::vector<cudaEvent_t> events;
std::vector<std::unique_ptr<CUevent_st>> retired_events; /* destroyed, but queues may hold their address */
size_t graphs;
CUgraph_st *capture;                /* there is at most one */
std::shared_ptr<char> capture_name; /* tells its events from those of earlier ones */

bool is_stream(cudaStream_t stream)
{
    return std::find(streams.begin(), streams.end(), stream) != streams.end();
}

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

branch &capture_branch(cudaStream_t stream)
{
    return capture->branches[static_cast<size_t>(stream->branch)];
}

void merge(clock_type &known, const clock_type &more)
{
    known.resize(std::max(known.size(), more.size()));
    for (size_t i = 0; i < more.size(); i++)
        known[i] = std::max(known[i], more[i]);
}

cudaError_t put(cudaStream_t stream, operation run)
{
    if (!is_stream(stream))
        return failed(cudaErrorInvalidResourceHandle);
    if (stream->branch >= 0) {
        branch &to = capture_branch(stream);
        to.nodes.push_back({std::move(run), {}});
        to.known.resize(std::max(to.known.size(), capture->branches.size()));
        to.known[static_cast<size_t>(stream->branch)] = to.nodes.size();
        return cudaSuccess;
    }
    stream->queue.push_back(std::move(run));
    if (stream->queue.size() > longest_queue)
        run_until(stream, [=] { return stream->queue.size() <= longest_queue / 2; });
    return cudaSuccess;
}

cudaError_t put_once(cudaStream_t stream, std::function<void()> run)
{
    return put(stream, [=](bool) {
        run();
        return true;
    });
}

/* One run of a graph: how far each branch is, and whether it is in the middle of an operation. */
struct graph_run {
    std::shared_ptr<const std::vector<branch>> branches;
    clock_type position;
    std::vector<char> begun;
};

bool may_run(const graph_run &run, const branch::node &node)
{
    for (size_t other = 0; other < node.after.size(); other++) {
        if (run.position[other] < node.after[other])
            return false;
    }
    return true;
}

/* As far as waits and unfinished operations allow; whether that was to the end. */
bool run_branches(graph_run &run, bool backwards)
{
    size_t count = run.branches->size(), ended;
    bool moved;
    do {
        ended = 0;
        moved = false;
        for (size_t turn = 0; turn < count; turn++) {
            size_t i = backwards ? count - 1 - turn : turn;
            const std::vector<branch::node> &nodes = (*run.branches)[i].nodes;
            while (run.position[i] < nodes.size() && may_run(run, nodes[run.position[i]])) {
                const operation &operation = nodes[run.position[i]].run;
                bool first = !run.begun[i];
                run.begun[i] = 1;
                if (operation && !operation(first))
                    break;
                run.begun[i] = 0;
                run.position[i]++;
                moved = true;
            }
            ended += run.position[i] == nodes.size();
        }
    } while (moved && ended < count);
    return ended == count;
}

void end_capture()
{
    for (cudaStream_t stream : streams)
        stream->branch = -1;
    capture = nullptr;
    capture_name.reset();
}

} // namespace

cudaError_t refuse_capture()
{
    if (!capture || capture->relaxed)
        return cudaSuccess;
    capture->spoilt = true;
    return failed(cudaErrorStreamCaptureUnsupported);
}

void synchronize_all()
{
    for (cudaStream_t stream : streams)
        run_stream(stream);
}

size_t stream_objects()
{
    return streams.size() + events.size() + graphs;
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
        event->capture = capture_name;
        event->known = capture_branch(stream).known;
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
    bool captured = capture && event->capture == capture_name;
    if (stream->branch >= 0 && !captured && event->recorded) {
        capture->spoilt = true; /* a capture cannot depend on work outside it */
        return failed(cudaErrorStreamCaptureIsolation);
    }
    if (captured) {
        if (stream->branch < 0) {
            stream->branch = static_cast<int>(capture->branches.size());
            capture->branches.emplace_back();
        }
        branch &to = capture_branch(stream);
        to.nodes.push_back({nullptr, event->known});
        merge(to.known, event->known);
        to.known.resize(std::max(to.known.size(), capture->branches.size()));
        to.known[static_cast<size_t>(stream->branch)] = to.nodes.size();
        return cudaSuccess;
    }
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

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, cudaStreamCaptureMode mode)
{
    if (!is_stream(stream))
        return failed(cudaErrorInvalidResourceHandle);
    if (capture)
        return failed(cudaErrorIllegalState);
    capture = new CUgraph_st;
    graphs++;
    capture_name = std::make_shared<char>();
    capture->origin = stream;
    capture->relaxed = mode == cudaStreamCaptureModeRelaxed;
    capture->branches.emplace_back();
    stream->branch = 0;
    return cudaSuccess;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, cudaStreamCaptureStatus *status)
{
    *status = stream->branch < 0 ? cudaStreamCaptureStatusNone
              : capture->spoilt  ? cudaStreamCaptureStatusInvalidated
                                 : cudaStreamCaptureStatusActive;
    return cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    *graph = nullptr;
    if (!capture || capture->origin != stream)
        return failed(cudaErrorIllegalState);
    CUgraph_st *made = capture;
    end_capture();
    cudaError_t error = made->spoilt ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
    const clock_type &known = made->branches[0].known;
    for (size_t i = 1; !error && i < made->branches.size(); i++) {
        if (i >= known.size() || known[i] < made->branches[i].nodes.size())
            error = cudaErrorStreamCaptureUnjoined;
    }
    if (error) {
        cudaGraphDestroy(made);
        return failed(error);
    }
    *graph = made;
    return cudaSuccess;
}

cudaError_t cudaGraphInstantiate(cudaGraphExec_t *exec, cudaGraph_t graph, unsigned long long)
{
    *exec = new CUgraphExec_st{std::make_shared<const std::vector<branch>>(graph->branches)};
    graphs++;
    return cudaSuccess;
}

cudaError_t cudaGraphUpload(cudaGraphExec_t, cudaStream_t)
{
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t exec, cudaStream_t stream)
{
    auto run = std::make_shared<graph_run>();
    bool backwards = exec->backwards = !exec->backwards;
    run->branches = exec->branches;
    run->position.assign(exec->branches->size(), 0);
    run->begun.assign(exec->branches->size(), 0);
    return put(stream, [=](bool) { return run_branches(*run, backwards); });
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    graphs--;
    delete graph;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t exec)
{
    graphs--;
    delete exec;
    return cudaSuccess;
}
