/*
 * Captures and graphs. A capture keeps the operations of each stream that takes part, in a "branch" of the graph, with its
 * waits for other branches. A launched graph runs its branches first to last and last to first by turns, as far as their
 * waits allow.
 */
#include <algorithm>
#include <atomic>

#include "stream.h"

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

namespace rdp_emulation {
namespace {

std::atomic<size_t> graphs;         /* another thread asks for it: see rdp_emulation_graphs */
CUgraph_st *capture;                /* there is at most one */
std::shared_ptr<char> capture_name; /* tells its events from those of earlier ones */

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

/* The node at the end of a stream's branch, after which the stream knows of it. */
void add_node(cudaStream_t stream, branch::node node)
{
    branch &to = capture_branch(stream);
    merge(to.known, node.after);
    to.nodes.push_back(std::move(node));
    to.known.resize(std::max(to.known.size(), capture->branches.size()));
    to.known[static_cast<size_t>(stream->branch)] = to.nodes.size();
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
    for (cudaStream_t stream : all_streams())
        stream->branch = -1;
    capture = nullptr;
    capture_name.reset();
}

} // namespace

void capture_operation(cudaStream_t stream, operation run)
{
    add_node(stream, {std::move(run), {}});
}

void capture_record(cudaStream_t stream, cudaEvent_t event)
{
    event->capture = capture_name;
    event->known = capture_branch(stream).known;
}

bool is_of_capture(cudaEvent_t event)
{
    return capture && event->capture == capture_name;
}

cudaError_t capture_wait(cudaStream_t stream, cudaEvent_t event)
{
    if (!is_of_capture(event)) {
        if (!event->recorded && !event->capture)
            return cudaSuccess;
        capture->spoilt = true; /* a capture cannot depend on work outside it */
        return failed(cudaErrorStreamCaptureIsolation);
    }
    if (stream->branch < 0) {
        stream->branch = static_cast<int>(capture->branches.size());
        capture->branches.emplace_back();
    }
    add_node(stream, {nullptr, event->known});
    return cudaSuccess;
}

cudaError_t refuse_capture()
{
    if (!capture || capture->relaxed)
        return cudaSuccess;
    capture->spoilt = true;
    return failed(cudaErrorStreamCaptureUnsupported);
}

} // namespace rdp_emulation

using namespace rdp_emulation;

size_t rdp_emulation_graphs(void)
{
    return graphs;
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
