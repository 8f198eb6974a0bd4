/*
 * The directory of a run's checkpoints; see checkpoint.h. Which one is newer is said by the numbers in the names, not
 * by file times, which copying and clocks change. Used by rank 0 alone.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "io/checkpoint.h"

struct entry {
    int64_t step, epoch;
    char name[256];
};
struct entries {
    struct entry *items;
    size_t count;
};

int rdp_checkpoint_path(char *path, size_t size, const char *directory, int64_t epoch, int64_t step)
{
    int length = snprintf(path, size, "%s/ckpt-e%04" PRId64 "-s%07" PRId64 ".h5", directory, epoch, step);
    if (length < 0 || (size_t)length >= size)
        return rdp_fail(RDP_EUSAGE,
                        "the path of the checkpoint directory %.60s... is too long; use a shorter --run-dir",
                        directory);
    return RDP_OK;
}

/* One to eighteen digits (so that the value fits), then `end`; *text moves behind that. */
static bool take_number(const char **text, const char *end, int64_t *value)
{
    int digits = 0;
    for (*value = 0; isdigit((unsigned char)**text) && digits < 18; (*text)++, digits++)
        *value = *value * 10 + (**text - '0');
    if (digits == 0 || strncmp(*text, end, strlen(end)) != 0)
        return false;
    *text += strlen(end);
    return true;
}

/* ckpt-e0012-s0004692.h5 */
static bool parse_name(const char *name, struct entry *entry)
{
    const char *text = name;
    if (strlen(name) >= sizeof entry->name || strncmp(name, "ckpt-e", 6) != 0)
        return false;
    text += 6;
    if (!take_number(&text, "-s", &entry->epoch) || !take_number(&text, ".h5", &entry->step) || *text != '\0')
        return false;
    strcpy(entry->name, name);
    return true;
}

/* .<name>.tmp.<pid> of a process that no longer lives, where <name> is a checkpoint's or best.h5. A dead process's
 * number may be in use again; then the file stays until a later visit. */
static bool is_stale(const char *name)
{
    char target[256];
    struct entry entry;
    int64_t process;
    const char *mark = strstr(name, ".tmp.");
    if (name[0] != '.' || mark == NULL || mark == name || (size_t)(mark - name) >= sizeof target)
        return false;
    snprintf(target, sizeof target, "%.*s", (int)(mark - name - 1), name + 1);
    if (strcmp(target, "best.h5") != 0 && !parse_name(target, &entry))
        return false;
    const char *digits = mark + strlen(".tmp.");
    if (!take_number(&digits, "", &process) || *digits != '\0' || process < 1 || process > INT32_MAX)
        return false;
    /* One writer per directory, and it is not writing while it tidies: what bears our own number is an ancestor's. */
    return process == getpid() || (kill((pid_t)process, 0) != 0 && errno == ESRCH);
}

static int newest_first(const void *left, const void *right)
{
    const struct entry *a = left, *b = right;
    if (a->step != b->step)
        return a->step < b->step ? 1 : -1;
    return (a->epoch < b->epoch) - (a->epoch > b->epoch);
}

static int add_entry(struct entries *entries, const struct entry *entry)
{
    if ((entries->count & (entries->count - 1)) == 0) { /* room for the next power of two */
        void *moved = realloc(entries->items, (entries->count ? 2 * entries->count : 1) * sizeof *entry);
        if (moved == NULL)
            return rdp_fail(RDP_ENOMEM, "the list of checkpoints: out of memory");
        entries->items = moved;
    }
    entries->items[entries->count++] = *entry;
    return RDP_OK;
}

static int remove_file(const char *directory, const char *name)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (unlink(path) != 0 && errno != ENOENT)
        return rdp_fail(RDP_EIO, "cannot delete the old checkpoint %s: %s; delete it by hand", path, strerror(errno));
    return RDP_OK;
}

/* Lists ckpt-*.h5, newest first. A missing directory is an empty one. entries->items is the caller's (free). With
 * `tidy`, stale temporary files are deleted on the way. */
static int list_entries(struct entries *entries, const char *directory, bool tidy)
{
    struct dirent *item;
    struct entry entry;
    int status = RDP_OK;
    *entries = (struct entries){NULL, 0};
    DIR *stream = opendir(directory);
    if (stream == NULL)
        return errno == ENOENT
                   ? RDP_OK
                   : rdp_fail(RDP_EUSAGE, "cannot list the checkpoint directory %s: %s", directory, strerror(errno));
    while (status == RDP_OK && (item = readdir(stream)) != NULL) {
        if (parse_name(item->d_name, &entry))
            status = add_entry(entries, &entry);
        else if (tidy && is_stale(item->d_name))
            status = remove_file(directory, item->d_name);
    }
    closedir(stream);
    if (entries->count > 0)
        qsort(entries->items, entries->count, sizeof *entries->items, newest_first);
    return status;
}

int rdp_checkpoint_prune(const char *directory, int keep)
{
    struct entries entries;
    int status = list_entries(&entries, directory, true);
    for (size_t i = (size_t)keep; keep > 0 && i < entries.count && status == RDP_OK; i++)
        status = remove_file(directory, entries.items[i].name);
    free(entries.items);
    return status;
}

int rdp_checkpoint_read_newest(struct rdp_checkpoint **checkpoint, const char *directory, char *path, size_t path_size)
{
    struct entries entries;
    *checkpoint = NULL;
    int status = list_entries(&entries, directory, false);
    size_t tried = 0;
    for (; status == RDP_OK && *checkpoint == NULL && tried < entries.count; tried++) {
        if (snprintf(path, path_size, "%s/%s", directory, entries.items[tried].name) >= (int)path_size) {
            status = rdp_fail(RDP_EUSAGE, "the path of the checkpoint directory %.60s... is too long", directory);
            break;
        }
        int outcome = rdp_checkpoint_read(checkpoint, path);
        if (outcome == RDP_EUSAGE || outcome == RDP_EINTERNAL) { /* this file is bad, an older one may be whole */
            rdp_log_warning("skipped: %s", rdp_fail_message());
            rdp_fail_clear();
        } else {
            status = outcome;
        }
    }
    if (status == RDP_OK && *checkpoint == NULL && entries.count > 0)
        status = rdp_fail(RDP_EUSAGE,
                          "none of the %zu checkpoints in %s can be read; start anew with --resume none, or copy them "
                          "again",
                          entries.count, directory);
    free(entries.items);
    return status;
}

int rdp_checkpoint_newest_step(const char *directory, int64_t *step)
{
    struct entries entries;
    RDP_TRY(list_entries(&entries, directory, false));
    *step = entries.count > 0 ? entries.items[0].step : -1;
    free(entries.items);
    return RDP_OK;
}
