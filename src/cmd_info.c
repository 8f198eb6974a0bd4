/*
 * `resnet-dp info`: what this program is made of and what it finds here: build, libraries, processor, devices, ranks
 * with their cores and threads, and the environment variables that change how it runs. Under mpirun it shows what a
 * training run started in the same way would get.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "base/text.h"
#include "commands.h"
#include "host.h"
#include "io/versions.h"

/* Variables that begin with one of these are shown: what people set. The launchers set many more for themselves, and
 * Slurm's hold credentials (SLURM_JWT). */
static const char *const prefixes[] = {
    "OMP_",           "GOMP_",
    "KMP_",           "DNNL_",
    "ONEDNN_",        "UCX_",
    "OMPI_MCA_btl",   "OMPI_MCA_pml",
    "OMPI_MCA_mtl",   "OMPI_MCA_coll",
    "OMPI_MCA_hwloc", "OMPI_MCA_rmaps",
    "OMPI_MCA_plm",   "OMPI_MCA_mpi_yield",
    "PRTE_MCA_rmaps", "PRTE_MCA_hwloc",
    "PRTE_MCA_plm",   "SLURM_JOB",
    "SLURM_NTASKS",   "SLURM_NNODES",
    "SLURM_CPU",      "SLURM_MPI",
    "SLURM_PROCID",   "SLURM_LOCALID",
    "SLURM_TASKS",    "SLURM_GPUS",
    "MALLOC_",        "GLIBC_TUNABLES",
    "LD_PRELOAD",     "CUDA_VISIBLE_DEVICES",
};

static void say_build(void)
{
    struct rdp_library_version libraries[RDP_IO_LIBRARIES];
    rdp_say("resnet-dp %s (%s), compiled by %s\n\nLibraries\n", RDP_VERSION, RDP_GIT_ID, rdp_build_description());
    rdp_io_versions(libraries);
    rdp_say("  %-14s %s\n  %-14s %s\n", "CUDA", rdp_cuda_versions(), "NCCL", rdp_nccl_version());
    for (int i = 0; i < RDP_IO_LIBRARIES; i++) {
        rdp_say("  %-14s %s", libraries[i].name, libraries[i].running);
        if (strcmp(libraries[i].running, libraries[i].compiled) != 0)
            rdp_say(" (compiled with %s)", libraries[i].compiled);
        rdp_say("\n");
    }
}

static void say_machine(const struct rdp_session *session)
{
    struct rdp_host host;
    char total[32], available[32];
    rdp_host_read(&host);
    rdp_say("\nMachine%s\n", session->launch.host_count > 1 ? " (of rank 0)" : "");
    rdp_say("  %-14s %s\n  %-14s %s\n", "host", session->launch.host, "system", host.kernel);
    rdp_say("  %-14s %s\n  %-14s %s\n", "processor", host.cpu, "instructions", host.instructions);
    if (host.memory_bytes >= 0 && host.available_bytes >= 0)
        rdp_say("  %-14s %s, %s available\n", "memory",
                rdp_format_bytes(total, sizeof total, (double)host.memory_bytes),
                rdp_format_bytes(available, sizeof available, (double)host.available_bytes));
}

static void say_environment(void)
{
    bool any = false;
    for (char **variable = environ; *variable != NULL; variable++)
        for (size_t i = 0; i < sizeof prefixes / sizeof *prefixes; i++)
            if (strncmp(*variable, prefixes[i], strlen(prefixes[i])) == 0) {
                rdp_say("%s  %s\n", any ? "" : "\nEnvironment\n", *variable);
                any = true;
            }
}

/* Of rank 0's host. */
static void say_devices(const struct rdp_session *session)
{
    char why[256] = "";
    const int gpus = rdp_cuda_device_count(why, sizeof why);
    rdp_say("\nDevices\n  %-14s %s\n", "in use", session->device->description);
    for (int i = 0; i < gpus; i++) {
        struct rdp_cuda_identity gpu;
        if (rdp_cuda_device_identify(i, &gpu) != RDP_OK) {
            rdp_fail_clear();
            continue;
        }
        rdp_say("  cuda %-9d %s, compute %d.%d, %.1f GiB, %s\n", i, gpu.name, gpu.major, gpu.minor,
                (double)gpu.memory / (1 << 30), gpu.pci_bus);
    }
    if (gpus == 0)
        rdp_say("  %-14s none: %s\n", "cuda", why);
}

int rdp_cmd_info(const struct rdp_options *options, struct rdp_session *session)
{
    RDP_TRY(rdp_session_open_device(session, options));
    const struct rdp_launch *launch = &session->launch;
    say_build();
    rdp_say("  %-14s %s\n", "MPI", launch->mpi_version == NULL ? "unknown" : launch->mpi_version);
    say_machine(session);
    say_devices(session);
    rdp_say("\nRanks: %d on %d host%s\n", launch->size, launch->host_count, launch->host_count == 1 ? "" : "s");
    RDP_TRY(rdp_launch_print(launch, session->threads));
    if (session->note[0] != '\0')
        rdp_say("  threads: %s\n", session->note);
    if (launch->oversubscribed)
        rdp_say("  more ranks than cores: they will wait for each other\n");
    say_environment();
    return RDP_OK;
}
