/* `resnet-dp bench`: how fast training is here, and why; see bench.h. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "bench.h"
#include "commands.h"

/* A file that cannot be written is told before the measurement, not after it. */
static int check_json(const char *path)
{
    char folder[RDP_PATH_MAX];
    const char *slash = strrchr(path, '/');
    if (path[0] == '\0')
        return RDP_OK;
    /* The part before the last slash; "." without one, "/" if there is nothing before it. */
    snprintf(folder, sizeof folder, "%.*s", slash == NULL || slash == path ? 1 : (int)(slash - path),
             slash == NULL ? "." : path);
    if (access(folder, W_OK | X_OK) != 0)
        return rdp_fail(RDP_EUSAGE, "--json %s: %s: %s; name a file in a directory that exists and may be written",
                        path, folder, strerror(errno));
    return RDP_OK;
}

static int report(const struct rdp_bench *bench, const struct rdp_options *options)
{
    rdp_bench_print(bench);
    if (options->json[0] == '\0')
        return RDP_OK;
    RDP_TRY(rdp_bench_write_json(bench, options->json));
    rdp_say("\nWritten to %s\n", options->json);
    return RDP_OK;
}

int rdp_cmd_bench(const struct rdp_options *options, struct rdp_session *session)
{
    struct rdp_bench bench;
    struct rdp_comm *comm = session->comm;
    RDP_TRY(rdp_comm_agree(comm, comm->rank == 0 ? check_json(options->json) : RDP_OK, "checking --json"));
    int status = rdp_bench_prepare(&bench, options, session);
    if (status == RDP_OK)
        status = rdp_bench_measure(&bench);
    if (status == RDP_OK)
        status = rdp_comm_agree(comm, comm->rank == 0 ? report(&bench, options) : RDP_OK, "writing the results");
    rdp_bench_free(&bench);
    return status;
}
