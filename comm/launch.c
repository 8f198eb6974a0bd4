/*
 * How this process was started and what it may use; see launch.h.
 *
 * Cores. Open MPI binds each rank to one core if there are at most two ranks: two ranks on a 64-core host would compute
 * on two cores and nobody would know why. rdp_launch_threads() therefore divides the cores that the launcher itself may
 * use among the ranks of the host if (and only if) the launcher chose that binding by default: every local rank has one
 * core, the launcher has more than there are ranks, and neither its command line nor its variables say how to bind.
 * Masks that the ranks share (no binding, or binding to a socket) are divided too, so that their threads do not fight
 * for cores. A mask that was given to one rank alone (Slurm's --cpus-per-task, mpirun's PE=) is used as it is.
 */
#include "comm/launch.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "comm/cores.h"
#include "comm/mpi_check.h"

/* What rdp_launch_begin learned and rdp_launch_threads needs; one launch per process, as MPI has it. */
static struct {
    struct rdp_cpus mine;   /* as it is now */
    struct rdp_cpus *local; /* [local_size]: what this host's ranks were given; NULL in commands without MPI */
    char mpi_version[MPI_MAX_LIBRARY_VERSION_STRING];
} facts;

static int environment_integer(const char *name)
{
    const char *text = getenv(name);
    return text != NULL ? atoi(text) : 0;
}

/* A task of an srun step with several tasks that mpirun did not start. (A program started plainly in a batch script has
 * SLURM_NTASKS too, but its step has one task.) */
static bool is_srun_task(void)
{
    return environment_integer("SLURM_STEP_NUM_TASKS") > 1 && getenv("SLURM_PROCID") != NULL &&
           getenv("OMPI_COMM_WORLD_SIZE") == NULL;
}

static bool has_process_manager(void)
{
    return getenv("PMIX_NAMESPACE") != NULL || getenv("PMI_RANK") != NULL || getenv("PMI_FD") != NULL;
}

/* Every one of the N would-be ranks comes here, unaware of the others: Slurm's first task speaks for all. */
static int refuse_srun(void)
{
    if (environment_integer("SLURM_PROCID") != 0)
        return RDP_EUSAGE;
    return rdp_fail(
        RDP_EUSAGE,
        "srun started %d tasks, but MPI sees each of them as a job of one rank: this srun offers no PMIx "
        "that the MPI library understands. Use \"srun --mpi=pmix\" (\"srun --mpi=list\" shows what this Slurm "
        "has), or call mpirun instead of srun in the job script",
        environment_integer("SLURM_STEP_NUM_TASKS"));
}

/* The masks of the local ranks, and from them who shares what. */
static int compare_masks(struct rdp_launch *launch, MPI_Comm local)
{
    struct rdp_cpus all = {{0}};
    void *memory;

    RDP_TRY(rdp_calloc(&memory, (size_t)launch->local_size, sizeof *facts.local,
                       "the affinity masks of this host's ranks"));
    facts.local = memory;
    RDP_MPI(MPI_Allgather(&facts.mine, sizeof facts.mine, MPI_BYTE, facts.local, sizeof facts.mine, MPI_BYTE, local));
    for (int i = 0; i < launch->local_size; i++) {
        if (rdp_cpus_overlap(&all, &facts.local[i]))
            launch->shared_mask = true;
        rdp_cpus_add(&all, &facts.local[i]);
    }
    launch->oversubscribed = rdp_cpus_cores(&all) < launch->local_size;
    return RDP_OK;
}

static int find_ranks(struct rdp_launch *launch)
{
    MPI_Comm local;
    int leader;

    RDP_MPI(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN));
    RDP_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &launch->rank));
    RDP_MPI(MPI_Comm_size(MPI_COMM_WORLD, &launch->size));
    rdp_log_identity(launch->rank, launch->size, launch->host);
    RDP_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, launch->rank, MPI_INFO_NULL, &local));
    RDP_MPI(MPI_Comm_rank(local, &launch->local_rank));
    RDP_MPI(MPI_Comm_size(local, &launch->local_size));
    leader = launch->local_rank == 0;
    RDP_MPI(MPI_Allreduce(&leader, &launch->host_count, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD));
    RDP_TRY(compare_masks(launch, local));
    RDP_MPI(MPI_Comm_free(&local));
    return RDP_OK;
}

static void find_version(struct rdp_launch *launch)
{
    char *text = facts.mpi_version;
    int length = 0;

    if (MPI_Get_library_version(text, &length) != MPI_SUCCESS)
        text[0] = '\0';
    text[strcspn(text, ",\n")] = '\0'; /* "Open MPI v4.1.4, package: ..." */
    launch->mpi_version = text;
}

static void find_host(struct rdp_launch *launch)
{
    if (gethostname(launch->host, sizeof launch->host) != 0)
        strcpy(launch->host, "localhost");
    launch->host[sizeof launch->host - 1] = '\0';
    if (!rdp_cpus_of_process(0, &facts.mine))
        facts.mine.words[0] = 1; /* no affinity on this kernel: one core is the safe guess, --threads says more */
    launch->cores_allowed = rdp_cpus_cores(&facts.mine);
    rdp_cpus_format(&facts.mine, launch->cores, sizeof launch->cores);
}

void rdp_launch_hint(int *rank, int *size)
{
    *rank = (int)environment_integer("OMPI_COMM_WORLD_RANK");
    *size = (int)environment_integer("OMPI_COMM_WORLD_SIZE");
    if (*size < 1) { /* not Open MPI's mpirun: srun, or nothing */
        *rank = (int)environment_integer("SLURM_PROCID");
        *size = (int)environment_integer("SLURM_STEP_NUM_TASKS");
    }
    if (*size < 1) {
        *rank = 0;
        *size = 1;
    }
}

int rdp_launch_begin(struct rdp_launch *launch, int *argc, char ***argv)
{
    int provided = 0;

    memset(launch, 0, sizeof *launch);
    launch->size = launch->local_size = launch->host_count = 1;
    launch->mpi_version = "";
    find_host(launch);
    /* Before MPI_Init: some builds of Open MPI end the process there, with a page of text. */
    if (is_srun_task() && !has_process_manager())
        return refuse_srun();
    RDP_MPI(MPI_Init_thread(argc, argv, MPI_THREAD_FUNNELED, &provided));
    launch->mpi_started = true;
    find_version(launch);
    RDP_TRY(find_ranks(launch));
    if (launch->size == 1 && is_srun_task())
        return refuse_srun();
    if (provided < MPI_THREAD_FUNNELED)
        return rdp_fail(RDP_EUSAGE,
                        "%s was built without thread support; resnet-dp needs MPI_THREAD_FUNNELED: install an MPI "
                        "library built with threads",
                        launch->mpi_version);
    return RDP_OK;
}

/* Whether one core per rank is mpirun's default and not somebody's wish; then the cores that the launcher may use. */
static bool bound_by_default(const struct rdp_launch *launch, struct rdp_cpus *launcher_cpus)
{
    if (getenv("OMPI_COMM_WORLD_SIZE") == NULL)
        return false;
    for (int i = 0; i < launch->local_size; i++)
        if (rdp_cpus_cores(&facts.local[i]) != 1)
            return false;
    pid_t launcher = rdp_launcher_process();
    return launcher != 0 && rdp_cpus_of_process(launcher, launcher_cpus) &&
           rdp_cpus_cores(launcher_cpus) > launch->local_size && !rdp_launcher_was_told_binding(launcher);
}

/* How the mask of this rank is to be divided: among `sharers` local ranks, this one being number `index` of them. */
static void find_sharers(const struct rdp_launch *launch, int *sharers, int *index, bool *same_mask)
{
    const struct rdp_cpus *given = &facts.local[launch->local_rank];

    *sharers = *index = 0;
    *same_mask = true;
    for (int i = 0; i < launch->local_size; i++) {
        if (!rdp_cpus_overlap(&facts.local[i], given))
            continue;
        if (!rdp_cpus_equal(&facts.local[i], given))
            *same_mask = false;
        if (i < launch->local_rank)
            ++*index;
        ++*sharers;
    }
}

/* The CPUs that this rank is to use and how many cores they have; `why` becomes part of the banner's note. */
static int choose_cpus(const struct rdp_launch *launch, int asked, struct rdp_cpus *cpus, char *why, size_t why_size)
{
    struct rdp_cpus whole;
    int sharers, index;
    bool same_mask;

    *cpus = facts.local != NULL ? facts.local[launch->local_rank] : facts.mine;
    why[0] = '\0';
    if (facts.local == NULL)
        return rdp_cpus_cores(cpus);
    if (bound_by_default(launch, &whole)) {
        rdp_cpus_part(&whole, launch->local_rank, launch->local_size, cpus);
        if (asked > rdp_cpus_cores(cpus))
            *cpus = whole;
        snprintf(why, why_size,
                 "mpirun's default binding gave each rank 1 core; widened to this rank's part of the host");
        return rdp_cpus_cores(cpus);
    }
    find_sharers(launch, &sharers, &index, &same_mask);
    int cores = rdp_cpus_cores(cpus);
    if (sharers <= 1)
        return cores;
    if (sharers > cores) {
        snprintf(why, why_size, "oversubscribed: %d ranks share %d core%s", sharers, cores, cores == 1 ? "" : "s");
        return 1;
    }
    if (!same_mask || asked > cores / sharers) {
        snprintf(why, why_size, "%d ranks share %d cores", sharers, cores);
        return cores / sharers;
    }
    rdp_cpus_part(&facts.local[launch->local_rank], index, sharers, cpus);
    snprintf(why, why_size, "%d cores divided among %d ranks", cores, sharers);
    return rdp_cpus_cores(cpus);
}

int rdp_launch_threads(struct rdp_launch *launch, int asked, int *threads, char *note, size_t note_size)
{
    struct rdp_cpus cpus;
    char why[160], limit[96] = "";
    double quota = rdp_cpu_quota();

    if (launch->cores_allowed == 0) /* a command that runs without MPI */
        find_host(launch);
    int cores = choose_cpus(launch, asked, &cpus, why, sizeof why);
    if (!rdp_cpus_equal(&cpus, &facts.mine)) {
        if (!rdp_cpus_apply(&cpus)) {
            cpus = facts.mine;
            cores = rdp_cpus_cores(&cpus);
            snprintf(why, sizeof why, "the kernel refused a wider mask");
        }
        facts.mine = cpus;
        launch->cores_allowed = rdp_cpus_cores(&cpus);
        rdp_cpus_format(&cpus, launch->cores, sizeof launch->cores);
    }
    *threads = asked > 0 ? asked : cores;
    /* More threads than the control group pays for are stopped for most of each period. */
    int paid = quota > 0 ? (int)(quota / launch->local_size) : 0;
    if (paid < 1)
        paid = 1;
    if (asked <= 0 && quota > 0 && *threads > paid) {
        *threads = paid;
        snprintf(limit, sizeof limit, "%sthe control group pays for %.3g cores", why[0] ? "; " : "", quota);
    }
    if (*threads < 1)
        *threads = 1;
    snprintf(note, note_size, "%s%s", why, limit);
    return RDP_OK;
}

int rdp_launch_print(const struct rdp_launch *launch, int threads)
{
    enum { LINE = 640 };
    char line[LINE] = "", *lines = NULL;

    snprintf(line, sizeof line, "rank %d: host %s, local rank %d of %d, cores %s, %d thread%s\n", launch->rank,
             launch->host, launch->local_rank, launch->local_size, launch->cores, threads, threads == 1 ? "" : "s");
    if (!launch->mpi_started) {
        rdp_say("%s", line);
        return RDP_OK;
    }
    if (launch->rank == 0) {
        void *memory;
        RDP_TRY(rdp_calloc(&memory, (size_t)launch->size, LINE, "the list of ranks"));
        lines = memory;
    }
    RDP_MPI(MPI_Gather(line, LINE, MPI_CHAR, lines, LINE, MPI_CHAR, 0, MPI_COMM_WORLD));
    for (int rank = 0; launch->rank == 0 && rank < launch->size; rank++)
        rdp_say("%s", lines + (size_t)rank * LINE);
    free(lines);
    return RDP_OK;
}

void rdp_launch_end(struct rdp_launch *launch)
{
    free(facts.local);
    facts.local = NULL;
    if (launch->mpi_started)
        MPI_Finalize();
    launch->mpi_started = false;
}

void rdp_launch_abort(const struct rdp_launch *launch, int exit_code)
{
    fflush(NULL);
    if (launch->mpi_started && launch->size > 1)
        MPI_Abort(MPI_COMM_WORLD, exit_code);
    if (launch->mpi_started)
        MPI_Finalize();
    exit(exit_code);
}
