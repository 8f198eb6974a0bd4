/*
 * `resnet-dp sweep`: trains one case after the other, each as `resnet-dp train` would into a directory of its own, and
 * keeps the table of what came out. Device and reducer are opened and closed per case; all ranks run the same cases.
 */
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "base/text.h"
#include "commands.h"
#include "signals.h"
#include "sweep.h"

/* Rank 0: the table as it stands, on disk. */
static int write_table(const struct rdp_sweep *sweep, struct rdp_comm *comm)
{
    return rdp_comm_agree(comm, comm->rank == 0 ? rdp_sweep_write(sweep) : RDP_OK, "writing the sweep's table");
}

static bool has_ended(const struct rdp_sweep_case *one)
{
    return one->state == RDP_CASE_DONE || one->state == RDP_CASE_DIVERGED;
}

/* Where a case stands, from rank 0's file system, on all ranks; and whether it can be run at all. */
static int look(struct rdp_sweep_case *one, bool force, struct rdp_comm *comm)
{
    int status = comm->rank == 0 ? rdp_sweep_look(one, force) : RDP_OK;
    if (comm->rank == 0 && status == RDP_OK && !has_ended(one))
        status = rdp_sweep_check_data(one, comm->size);
    RDP_TRY(rdp_comm_agree(comm, status, "looking at a case's run directory"));
    RDP_TRY(comm->ops->broadcast(comm, &one->state, sizeof one->state, 0, "a case's state"));
    return comm->ops->broadcast(comm, &one->anew, sizeof one->anew, 0, "a case's state");
}

/* Whether any rank was told to stop; between cases, where no step asks. */
static int ask_stop(struct rdp_comm *comm, bool *stop)
{
    int64_t received = rdp_signals_stop() != 0;
    RDP_TRY(comm->ops->allreduce_i64(comm, &received, 1, RDP_MAX, "whether to stop"));
    *stop = received != 0;
    return RDP_OK;
}

/* A case that diverges is a result like others. RDP_ESTOPPED: told to stop. */
static int run_case(struct rdp_sweep_case *one, struct rdp_session *session)
{
    struct rdp_options *options = &one->options;
    strcpy(options->resume, one->anew ? "none" : "auto");
    options->force = one->anew;
    int status = rdp_cmd_train(options, session);
    if (status != RDP_OK && status != RDP_ENUMERIC && status != RDP_ESTOPPED)
        return status; /* perhaps of this rank alone: main() knows what to do, and nothing here may wait for others */
    rdp_session_close_device(session);
    RDP_TRY(look(one, false, session->comm));
    return status == RDP_ENUMERIC ? RDP_OK : status;
}

static int run_cases(struct rdp_sweep *sweep, struct rdp_session *session)
{
    for (size_t i = 0; i < sweep->count; i++) {
        struct rdp_sweep_case *one = &sweep->cases[i];
        bool stop = false;
        if (has_ended(one)) {
            rdp_say("Case %zu of %zu, %s: is there already, in %s\n", i + 1, sweep->count, one->name,
                    one->options.run_dir);
            continue;
        }
        RDP_TRY(ask_stop(session->comm, &stop));
        if (stop)
            return RDP_ESTOPPED;
        rdp_say("\n=== Case %zu of %zu: %s ===\n\n", i + 1, sweep->count, one->name);
        int status = run_case(one, session);
        if (status != RDP_OK && status != RDP_ESTOPPED)
            rdp_say("\nThe sweep ends in its case %zu of %zu, %s.\n", i + 1, sweep->count, one->name);
        RDP_TRY(status);
        RDP_TRY(write_table(sweep, session->comm));
        if (one->state == RDP_CASE_DIVERGED)
            rdp_say("\nThe case %s has diverged; the sweep goes on.\n", one->name);
    }
    return RDP_OK;
}

static int say_table(const struct rdp_sweep *sweep, struct rdp_comm *comm)
{
    char *text = NULL;
    int status = comm->rank == 0 ? rdp_sweep_text(sweep, &text) : RDP_OK;
    RDP_TRY(rdp_comm_agree(comm, status, "printing the sweep's table"));
    if (text != NULL)
        rdp_say("\n%s\nTable: %s/sweep.txt, sweep.csv, sweep.svg%s\n", text, sweep->directory,
                sweep->seeded ? ", sweep.seeds.csv" : "");
    free(text);
    return RDP_OK;
}

static int run(struct rdp_sweep *sweep, bool force, struct rdp_session *session)
{
    rdp_say("Sweep       %s: %zu case%s into %s\n", sweep->title, sweep->count, sweep->count == 1 ? "" : "s",
            sweep->directory);
    /* All of them before the first is trained: what is wrong with the last shall not be found out after days. */
    for (size_t i = 0; i < sweep->count; i++)
        RDP_TRY(look(&sweep->cases[i], force, session->comm));
    int status = run_cases(sweep, session);
    if (status != RDP_OK && status != RDP_ESTOPPED)
        return status;
    RDP_TRY(write_table(sweep, session->comm));
    RDP_TRY(say_table(sweep, session->comm));
    if (status == RDP_ESTOPPED)
        rdp_say("The sweep was stopped; the same command goes on with it.\n");
    return status;
}

int rdp_cmd_sweep(const struct rdp_options *options, struct rdp_session *session)
{
    struct rdp_sweep *sweep = NULL;
    rdp_signals_catch();
    int status = rdp_comm_agree(session->comm, rdp_sweep_make(&sweep, options), "reading the sweep");
    if (status == RDP_OK)
        status = run(sweep, options->force, session);
    rdp_sweep_destroy(sweep);
    return status;
}
