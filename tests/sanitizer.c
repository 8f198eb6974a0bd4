/*
 * Linked into every program of a sanitizer build (RDP_SANITIZE): which leaks are not ours, and what it takes to tell.
 *
 * MPI libraries and HDF5 keep memory until the process ends. LeakSanitizer can leave a leak out by the library in its
 * stack, but only if that library is still loaded at the end and the stack is whole: so plug-ins stay loaded and stacks
 * are unwound slowly.
 */
int dlclose(void *handle);
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__lsan_default_options(void);
const char *__lsan_default_suppressions(void);

int dlclose(void *handle)
{
    (void)handle;
    return 0;
}

const char *__asan_default_options(void)
{
#ifdef RDP_EMULATION
    /* Threads of emulated kernels have stacks of their own (emulation/block.cpp), whose frames it would keep for ever. */
    return "fast_unwind_on_malloc=0:detect_stack_use_after_return=0";
#else
    return "fast_unwind_on_malloc=0:detect_stack_use_after_return=1";
#endif
}

const char *__ubsan_default_options(void)
{
    return "print_stacktrace=1";
}

const char *__lsan_default_options(void)
{
    return "print_suppressions=0";
}

const char *__lsan_default_suppressions(void)
{
    return "leak:H5FL_\n" /* libhdf5 1.10 keeps an object header each time it rejects damaged metadata */
           "leak:libmpi.so\n"
           "leak:libopen-pal.so\n"
           "leak:libopen-rte.so\n"
           "leak:libpmix.so\n"
           "leak:libprrte.so\n"
           "leak:libhwloc.so\n"
           "leak:libevent\n"
           "leak:libucs\n"
           "leak:libucp\n"
           "leak:libuct\n"
           "leak:libfabric.so\n"
           "leak:libibverbs\n"
           "leak:libOpenCL.so\n"
           "leak:libomp.so\n"
           /* What a query of cuDNN's heuristics takes. Not libcudnn_graph, whose descriptors are ours to free. */
           "leak:libcudnn_heuristic\n"
           "leak:libcudnn_engines\n"
           "leak:libcudnn_cnn\n"
           "leak:libcudnn_ops\n"
           "leak:libcudnn_adv\n"
           "leak:libcublas\n"
           "leak:libnvrtc\n"
           "leak:libnccl.so\n"
           "leak:/mca_\n";
}
