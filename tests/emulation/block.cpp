/*
 * Runs the blocks of a grid, one after the other, every thread of a block as a fiber of its own.
 *
 * A fiber runs until its thread waits (barrier, shuffle) or ends; then the next thread starts, on the same stack if the
 * last one ended, so that kernels without barriers cost a call per thread. When all have been started, barriers and
 * shuffles whose threads are complete are released, until all threads have ended. If nothing can be released, or a
 * thread has ended while others wait at a barrier, the program ends with a message that names kernel and block.
 */
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#ifndef __x86_64__
#include <ucontext.h>
#endif

#include <cuda_runtime.h>

#include "emulation.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace rdp_emulation {

namespace {

constexpr size_t stack_bytes = 128 << 10;
constexpr size_t stack_shift = 21 * 64,
                 stack_shifts = 64 << 10; /* else all stacks end in the same lines of the caches */
constexpr int warp = 32;

enum class waits { nothing, barrier, shuffle, ended };

#ifdef __x86_64__
/* glibc's swapcontext makes a system call each time; this one saves what the ABI wants preserved and no more. */
using context = void *;
extern "C" void rdp_emulation_switch(context *save, context *load);
asm(R"(
    .text
    .globl rdp_emulation_switch
    .type rdp_emulation_switch, @function
rdp_emulation_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq (%rsi), %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size rdp_emulation_switch, . - rdp_emulation_switch
)");

void prepare(context *fiber, char *stack, void (*entry)())
{
    void **top = reinterpret_cast<void **>(stack + stack_bytes);
    top[-1] = nullptr; /* where entry would return to; it never does */
    top[-2] = reinterpret_cast<void *>(entry);
    for (int i = 3; i <= 8; i++)
        top[-i] = nullptr; /* the six registers */
    *fiber = top - 8;
}
#else
using context = ucontext_t;
void rdp_emulation_switch(context *save, context *load)
{
    swapcontext(save, load);
}

void prepare(context *fiber, char *stack, void (*entry)())
{
    getcontext(fiber);
    fiber->uc_stack.ss_sp = stack;
    fiber->uc_stack.ss_size = stack_bytes;
    makecontext(fiber, entry, 0);
}
#endif

struct thread {
    context where;
    char *stack;
    waits state;
    uint64_t value; /* a shuffle's: passed, then received */
    int source;
    unsigned mask;
};

const launch *current_launch;
std::vector<thread> threads;
std::vector<uint3> indices; /* threadIdx of each */
std::vector<char *> free_stacks;
context scheduler;
int thread_count, started, current;
bool backwards;

void set_current(int i)
{
    current = i;
    threadIdx = indices[i];
}

char *take_stack()
{
    if (free_stacks.empty()) {
        void *memory =
            mmap(nullptr, stack_bytes + stack_shifts, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            rdp_emulation_die("no memory for the stack of a thread");
        static size_t stacks;
        return static_cast<char *>(memory) + stacks++ * stack_shift % stack_shifts;
    }
    char *stack = free_stacks.back();
    free_stacks.pop_back();
    return stack;
}

/* A fiber: starts threads until one of them waits; when that one has ended, goes on, or gives its stack back. */
void fiber_main()
{
    char *stack = threads[current].stack;
    for (;;) {
        current_launch->thread();
        threads[current].state = waits::ended;
        if (started == thread_count)
            break;
        int next = backwards ? thread_count - 1 - started : started;
        started++;
        set_current(next);
        threads[next].stack = stack;
    }
    free_stacks.push_back(stack);
    rdp_emulation_switch(&threads[current].where, &scheduler);
}

void wait_as(waits state)
{
    threads[current].state = state;
    rdp_emulation_switch(&threads[current].where, &scheduler);
}

/* The program's symbols hold the names of kernels, which are local; binutils can read them. */
std::string kernel_name(const void *kernel)
{
    uintptr_t base = 0;
    auto find = [](dl_phdr_info *info, size_t, void *at) {
        *static_cast<uintptr_t *>(at) = info->dlpi_addr;
        return 1; /* the first object is the program itself */
    };
    dl_iterate_phdr(find, &base);
    char text[512];
    snprintf(text, sizeof text, "addr2line -C -f -e /proc/%d/exe %#zx 2>&1", static_cast<int>(getpid()),
             reinterpret_cast<uintptr_t>(kernel) - base);
    FILE *lines = popen(text, "r");
    if (!lines || !fgets(text, sizeof text, lines))
        return "unknown";
    pclose(lines);
    return std::string(text, strcspn(text, "\n"));
}

[[noreturn]] void die_in_block(const char *what, int thread)
{
    rdp_emulation_die("%s: thread %d of block (%u, %u, %u) of kernel %s", what, thread, blockIdx.x, blockIdx.y,
                      blockIdx.z, kernel_name(current_launch->kernel).c_str());
}

/* Releases the shuffle that `first` waits for if all lanes of its mask that have not ended are there. */
bool release_shuffle(int first)
{
    int base = first / warp * warp;
    unsigned mask = threads[first].mask, here = 0;
    for (int lane = 0; lane < warp && base + lane < thread_count; lane++) {
        const thread &other = threads[base + lane];
        if (!(mask >> lane & 1) || other.state == waits::ended)
            continue;
        if (other.state != waits::shuffle)
            return false;
        if (other.mask != mask)
            die_in_block("lanes of one shuffle disagree about its mask", base + lane);
        here |= 1u << lane;
    }
    uint64_t received[warp];
    for (int lane = 0; lane < warp; lane++) {
        if (!(here >> lane & 1))
            continue;
        const thread &self = threads[base + lane];
        int source = self.source < 0 || self.source >= warp ? lane : self.source;
        /* What a lane that takes no part would pass is undefined: NaN as f32 and as f64. */
        received[lane] = here >> source & 1 ? threads[base + source].value : ~uint64_t{0};
    }
    for (int lane = 0; lane < warp; lane++) {
        if (here >> lane & 1) {
            threads[base + lane].value = received[lane];
            threads[base + lane].state = waits::nothing;
        }
    }
    return true;
}

/* Returns whether threads remain; at least one of them can then go on. */
bool release()
{
    int at_barrier = 0, ended = 0, ready = 0;
    for (int i = 0; i < thread_count; i++) {
        if (threads[i].state == waits::shuffle && release_shuffle(i))
            ready++;
        at_barrier += threads[i].state == waits::barrier;
        ended += threads[i].state == waits::ended;
        ready += threads[i].state == waits::nothing;
    }
    if (ready || ended == thread_count)
        return ready > 0;
    for (int i = 0; i < thread_count; i++) {
        if (ended && threads[i].state == waits::ended && at_barrier)
            die_in_block("a thread has ended while others wait at a barrier", i);
        if (!ended && at_barrier < thread_count && threads[i].state == waits::shuffle)
            die_in_block("a thread waits at a shuffle for lanes that wait at a barrier", i);
    }
    if (at_barrier < thread_count)
        die_in_block("a thread waits at a shuffle for lanes that do not come", 0);
    for (thread &each : threads)
        each.state = waits::nothing;
    return true;
}

void run_block()
{
    threads.assign(thread_count, thread{});
    started = 0;
    while (started < thread_count) {
        int next = backwards ? thread_count - 1 - started : started;
        started++;
        set_current(next);
        threads[next].stack = take_stack();
        prepare(&threads[next].where, threads[next].stack, fiber_main);
        rdp_emulation_switch(&scheduler, &threads[next].where);
    }
    while (release()) {
        for (int i = 0; i < thread_count; i++) {
            int next = backwards ? thread_count - 1 - i : i;
            if (threads[next].state != waits::nothing)
                continue;
            set_current(next);
            rdp_emulation_switch(&scheduler, &threads[next].where);
        }
    }
}

/* The program's thread-local variables, of which those of kernels are the __shared__ ones. */
class shared_memory {
  public:
#ifdef RDP_EMULATION_ASAN
    void poison()
    {
    }
#else
    shared_memory()
    {
        dl_iterate_phdr(find, this);
        saved.assign(data, data + size);
    }
    ~shared_memory()
    {
        std::copy(saved.begin(), saved.end(), data);
    }
    void poison()
    {
        std::fill(data, data + size, '\xff');
    }

  private:
    static int find(dl_phdr_info *info, size_t, void *self)
    {
        auto *shared = static_cast<shared_memory *>(self);
        for (int i = 0; i < info->dlpi_phnum; i++) {
            if (info->dlpi_phdr[i].p_type == PT_TLS && info->dlpi_tls_data) {
                shared->data = static_cast<char *>(info->dlpi_tls_data);
                shared->size = info->dlpi_phdr[i].p_memsz;
            }
        }
        return 1;
    }
    char *data = nullptr;
    size_t size = 0;
    std::vector<char> saved;
#endif
};

} // namespace

void run_grid(const launch &launch)
{
    shared_memory shared;
    current_launch = &launch;
    blockDim = launch.block;
    gridDim = launch.grid;
    thread_count = static_cast<int>(launch.block.x * launch.block.y * launch.block.z);
    indices.clear();
    for (unsigned z = 0; z < blockDim.z; z++)
        for (unsigned y = 0; y < blockDim.y; y++)
            for (unsigned x = 0; x < blockDim.x; x++)
                indices.push_back({x, y, z});
    for (unsigned z = 0; z < gridDim.z; z++) {
        for (unsigned y = 0; y < gridDim.y; y++) {
            for (unsigned x = 0; x < gridDim.x; x++) {
                blockIdx = {x, y, z};
                backwards = !backwards;
                shared.poison();
                run_block();
            }
        }
    }
}

void barrier()
{
    wait_as(waits::barrier);
}

int lane()
{
    return current % warp;
}

uint64_t shuffle(unsigned mask, uint64_t value, int source)
{
    thread &self = threads[current];
    if (!(mask >> lane() & 1))
        die_in_block("a lane outside the mask of its shuffle", current);
    self.value = value;
    self.source = source;
    self.mask = mask;
    int index = current;
    wait_as(waits::shuffle);
    return threads[index].value;
}

} // namespace rdp_emulation
