/* The run directory; see run_dir.h. */
#include "run_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "io/durable.h"

void rdp_run_dir_path(const struct rdp_options *options, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", options->run_dir, name);
}

void rdp_run_dir_stem(const char *path, char *stem, size_t size)
{
    const char *base = strrchr(path, '/');
    snprintf(stem, size, "%.*s", (int)size - 1, base == NULL ? path : base + 1);
    char *dot = strrchr(stem, '.');
    if (dot != NULL && dot != stem)
        *dot = '\0';
}

/* "runs/basic-2111-20261121-143000" */
static void default_name(struct rdp_options *options)
{
    char stem[101] = "resnet", stamp[32];
    struct tm utc;
    time_t seconds = time(NULL);
    if (options->recipe[0] != '\0')
        rdp_run_dir_stem(options->recipe, stem, sizeof stem);
    gmtime_r(&seconds, &utc);
    strftime(stamp, sizeof stamp, "%Y%m%d-%H%M%S", &utc);
    snprintf(options->run_dir, sizeof options->run_dir, "runs/%s-%s", stem, stamp);
}

/* Holds the directory against a second run. A lock of flock() ends with the process, however it ends. */
static int lock_directory(const struct rdp_options *options, int *lock)
{
    char path[RDP_PATH_MAX + 32], line[64];
    rdp_run_dir_path(options, "run.lock", path, sizeof path);
    *lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (*lock < 0)
        return rdp_fail(RDP_EUSAGE, "%s: cannot create it: %s; choose another --run-dir", path, strerror(errno));
    if (flock(*lock, LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            close(*lock);
            *lock = -1;
            return rdp_fail(RDP_EUSAGE,
                            "%s: another resnet-dp is training into this directory; wait for it or choose another "
                            "--run-dir",
                            options->run_dir);
        }
        rdp_log_warning("%s: this file system has no locks (%s): nothing keeps a second run out of the directory", path,
                        strerror(errno));
    }
    int length = snprintf(line, sizeof line, "%ld\n", (long)getpid());
    if (ftruncate(*lock, 0) != 0 || write(*lock, line, (size_t)length) != length)
        return rdp_fail(RDP_EUSAGE, "%s: cannot write it: %s; choose another --run-dir", path, strerror(errno));
    return RDP_OK;
}

/* --force: what an earlier run left must neither be resumed from nor count among the newest that are kept. */
static int remove_checkpoints(const char *directory)
{
    struct dirent *item;
    int status = RDP_OK;
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return rdp_fail(RDP_EUSAGE, "%s: cannot list it: %s; choose another --run-dir", directory, strerror(errno));
    while (status == RDP_OK && (item = readdir(stream)) != NULL) {
        const char *name = item->d_name;
        bool ours = strcmp(name, "best.h5") == 0 || fnmatch("ckpt-e[0-9]*-s[0-9]*.h5", name, 0) == 0;
        if (ours && unlinkat(dirfd(stream), name, 0) != 0)
            status = rdp_fail(RDP_EUSAGE, "%s/%s: cannot delete this checkpoint of the run that --force replaces: %s",
                              directory, name, strerror(errno));
    }
    closedir(stream);
    return status;
}

/* --force: nor may a result of it lie beside those of the new run, which may not write one of that name. */
static int remove_results(const struct rdp_options *options)
{
    static const char *const names[] = {
        "steps.csv", "summary.json", "classes.csv",       "confusion.csv",  "confusion.svg",
        "loss.svg",  "accuracy.svg", "learning-rate.svg", "loss-steps.svg", "learning-rate-steps.svg"};
    char path[RDP_PATH_MAX + 32];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        rdp_run_dir_path(options, names[i], path, sizeof path);
        if (unlink(path) != 0 && errno != ENOENT)
            return rdp_fail(RDP_EUSAGE, "%s: cannot delete this result of the run that --force replaces: %s", path,
                            strerror(errno));
    }
    return RDP_OK;
}

static int open_directory(const struct rdp_options *options, int *lock)
{
    char path[RDP_PATH_MAX + 32];
    rdp_run_dir_path(options, "metrics.csv", path, sizeof path);
    bool used = access(path, F_OK) == 0, resume = strcmp(options->resume, "none") != 0;
    if (used && !resume && !options->force)
        return rdp_fail(RDP_EUSAGE,
                        "%s: holds a run already; go on with it by --resume auto, replace it by --force, or choose "
                        "another --run-dir",
                        options->run_dir);
    rdp_run_dir_path(options, "checkpoints", path, sizeof path);
    int status = rdp_make_directory(path);
    if (status != RDP_OK)
        return RDP_EUSAGE; /* the message says why; nothing was lost */
    RDP_TRY(lock_directory(options, lock));
    if (!options->force || resume)
        return RDP_OK;
    RDP_TRY(remove_checkpoints(path));
    return remove_results(options);
}

int rdp_run_dir_open(struct rdp_options *options, struct rdp_comm *comm, int *lock)
{
    int status = RDP_OK;
    *lock = -1;
    if (comm->rank == 0) {
        if (options->run_dir[0] == '\0' && strcmp(options->resume, "auto") == 0)
            status = rdp_fail(RDP_EUSAGE, "--resume auto: which run? Name its directory with --run-dir");
        if (status == RDP_OK && options->run_dir[0] == '\0')
            default_name(options);
        if (status == RDP_OK)
            status = open_directory(options, lock);
    }
    RDP_TRY(rdp_comm_agree(comm, status, "opening the run directory"));
    return comm->ops->broadcast(comm, options->run_dir, sizeof options->run_dir, 0, "run directory");
}
