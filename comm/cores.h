/* Sets of logical CPUs and the physical cores they belong to; inside comm/ only. Linux: sched_getaffinity, /sys,
 * /proc. */
#ifndef RDP_COMM_CORES_H
#define RDP_COMM_CORES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { RDP_CPU_WORDS = 128 }; /* 8192 logical CPUs: what the kernel can be built for */

struct rdp_cpus {
    uint64_t words[RDP_CPU_WORDS];
};

/* The affinity mask of a process (0: this thread). False if it cannot be read: the process is gone. */
bool rdp_cpus_of_process(pid_t pid, struct rdp_cpus *cpus);
/* Makes it the mask of this thread, and so of every thread that it starts from now on. */
bool rdp_cpus_apply(const struct rdp_cpus *cpus);

bool rdp_cpus_equal(const struct rdp_cpus *a, const struct rdp_cpus *b);
bool rdp_cpus_overlap(const struct rdp_cpus *a, const struct rdp_cpus *b);
void rdp_cpus_add(struct rdp_cpus *to, const struct rdp_cpus *more);

/* Physical cores: logical CPUs that share one count once. */
int rdp_cpus_cores(const struct rdp_cpus *cpus);
/* Part `part` of `parts` of the cores, contiguous and as even as can be, with all the logical CPUs of each core. */
void rdp_cpus_part(const struct rdp_cpus *cpus, int part, int parts, struct rdp_cpus *out);
/* "0-3,8" into text (cut with "..." if it does not fit); returns text. */
char *rdp_cpus_format(const struct rdp_cpus *cpus, char *text, size_t size);

/* The nearest ancestor of this process that is an MPI launcher (mpirun, orted, prted, ...), 0 if none is visible. */
pid_t rdp_launcher_process(void);
/* Whether whoever started the launcher said how ranks are to be bound to cores. */
bool rdp_launcher_was_told_binding(pid_t launcher);
/* The CPU time that this process's control group may use, in cores; 0 if there is no limit. */
double rdp_cpu_quota(void);

#endif
