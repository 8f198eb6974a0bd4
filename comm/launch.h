/*
 * How this process was started: rank, size, local rank, host, cores, and the launcher traps that would otherwise waste
 * a job (srun without PMIx giving N ranks of size 1; two ranks bound to one core each by mpirun's default). The first
 * thing of a parallel command and the last: rdp_launch_begin() ... rdp_launch_end().
 */
#ifndef RDP_COMM_LAUNCH_H
#define RDP_COMM_LAUNCH_H

#include <stdbool.h>
#include <stddef.h>

struct rdp_launch {
    int rank, size;             /* in MPI_COMM_WORLD */
    int local_rank, local_size; /* among the ranks of this host (MPI_Comm_split_type SHARED) */
    int host_count;             /* hosts in the job */
    char host[256];
    int cores_allowed;       /* cores in this process's affinity mask */
    char cores[256];         /* the mask as "0-3,8" */
    bool oversubscribed;     /* more ranks on this host than cores their masks cover together */
    bool shared_mask;        /* the local ranks' masks overlap: the cores are to be divided among them */
    const char *mpi_version; /* MPI library's own text, one line */
    bool mpi_started;        /* false for commands that run alone without MPI */
};

/* What the launcher's environment says before MPI is started: for messages of commands that run alone. 0 and 1 without
 * one. */
void rdp_launch_hint(int *rank, int *size);
/* Starts MPI (FUNNELED), finds the facts, sets rdp_log_identity. Must be called before the first OpenMP region.
 * RDP_EUSAGE for srun without PMIx (SLURM_NTASKS > 1, world of 1), with the cure in the message. */
int rdp_launch_begin(struct rdp_launch *launch, int *argc, char ***argv);
/* Threads for this rank: `asked` if > 0, else what the mask gives it: all its cores, or its part of a mask that it
 * shares with other local ranks; at least 1. If this rank was given one core only because of mpirun's default binding,
 * the mask of the process is widened here (see launch.c) and the fact is said in `note` (text for the banner). */
int rdp_launch_threads(struct rdp_launch *launch, int asked, int *threads, char *note, size_t note_size);
/* Prints, from rank 0 and in rank order, one line per rank: host, local rank, cores, threads. Collective. */
int rdp_launch_print(const struct rdp_launch *launch, int threads);
/* MPI_Finalize if MPI runs. */
void rdp_launch_end(struct rdp_launch *launch);
/* Ends all ranks: MPI_Abort(exit_code) with several ranks, exit otherwise. Called by main() only. */
void rdp_launch_abort(const struct rdp_launch *launch, int exit_code) __attribute__((noreturn));

#endif
