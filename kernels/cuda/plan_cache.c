/*
 * See plan_cache.h. The file is text: a line that names the format, then per problem key, family, engine, knobs
 * ("type=value,..." or "-") and microseconds, separated by tabs. Lines of other GPUs and cuDNN versions are kept. The
 * file is replaced by rename, so that a reader sees the old or the new one; writers take turns by a lock on its
 * directory. Where the file system has no locks, two writers at the same moment may lose a line, which is timed again
 * by the next run.
 */
#include "kernels/cuda/plan_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"

static const char HEADER[] = "# resnet-dp convolution plans, format 1: problem, family, engine, knobs, microseconds";

struct plan_cache {
    char *path;
    struct plan_entry *entries;
    size_t count, capacity;
    bool warned;   /* about the file's contents */
    bool readonly; /* no path, or writing failed, or the file is something else: it is left alone */
};

/* A file that was read; `foreign`: it is no plan cache. */
struct lines {
    size_t damaged;
    bool foreign;
};

const char *plan_family_name(enum plan_family family)
{
    static const char *const names[PLAN_FAMILIES] = {"plain", "cast", "sums"};
    return names[family];
}

bool plan_choice_equal(const struct plan_choice *a, const struct plan_choice *b)
{
    if (a->family != b->family || a->engine != b->engine || a->knob_count != b->knob_count)
        return false;
    for (int i = 0; i < a->knob_count; i++)
        if (a->knobs[i].type != b->knobs[i].type || a->knobs[i].value != b->knobs[i].value)
            return false;
    return true;
}

static bool parse_family(const char *text, enum plan_family *family)
{
    for (int i = 0; i < PLAN_FAMILIES; i++)
        if (strcmp(text, plan_family_name(i)) == 0) {
            *family = i;
            return true;
        }
    return false;
}

static bool parse_knobs(char *text, struct plan_choice *choice)
{
    choice->knob_count = 0;
    if (strcmp(text, "-") == 0)
        return true;
    while (text != NULL) {
        char *knob = strsep(&text, ","), *value = strchr(knob, '=');
        int64_t type, number;
        if (value == NULL || choice->knob_count == PLAN_KNOBS)
            return false;
        *value++ = '\0';
        if (!rdp_parse_integer(knob, &type) || !rdp_parse_integer(value, &number) || type < 0 || type > INT_MAX)
            return false;
        if (choice->knob_count > 0 && choice->knobs[choice->knob_count - 1].type >= type)
            return false;
        choice->knobs[choice->knob_count++] = (struct plan_knob){.type = (int)type, .value = number};
    }
    return true;
}

static bool parse_line(char *line, struct plan_entry *entry)
{
    char *fields[5];
    for (int i = 0; i < 5; i++) {
        fields[i] = strsep(&line, "\t");
        if (fields[i] == NULL || fields[i][0] == '\0')
            return false;
    }
    *entry = (struct plan_entry){.microseconds = 0};
    if (line != NULL || strlen(fields[0]) >= sizeof entry->key)
        return false;
    memcpy(entry->key, fields[0], strlen(fields[0]) + 1);
    return parse_family(fields[1], &entry->choice.family) && rdp_parse_integer(fields[2], &entry->choice.engine) &&
           entry->choice.engine >= 0 && parse_knobs(fields[3], &entry->choice) &&
           rdp_parse_real(fields[4], &entry->microseconds) && entry->microseconds >= 0;
}

static struct plan_entry *find(const struct plan_cache *cache, const char *key)
{
    for (size_t i = 0; i < cache->count; i++)
        if (strcmp(cache->entries[i].key, key) == 0)
            return &cache->entries[i];
    return NULL;
}

/* Adds or replaces. */
static int put(struct plan_cache *cache, const struct plan_entry *entry)
{
    struct plan_entry *known = find(cache, entry->key);
    if (known == NULL) {
        if (cache->count == cache->capacity) {
            size_t capacity = cache->capacity == 0 ? 64 : 2 * cache->capacity;
            struct plan_entry *entries = realloc(cache->entries, capacity * sizeof *entries);
            if (entries == NULL)
                return rdp_fail(RDP_ENOMEM, "no memory for %zu convolution plans", capacity);
            cache->entries = entries;
            cache->capacity = capacity;
        }
        known = &cache->entries[cache->count++];
    }
    *known = *entry;
    return RDP_OK;
}

/* The file's plans over those in memory: what other ranks wrote is what counts. */
static int read_lines(struct plan_cache *cache, FILE *file, struct lines *lines)
{
    char *line = NULL;
    size_t size = 0;
    int status = RDP_OK;
    *lines = (struct lines){0};
    for (bool first = true; status == RDP_OK; first = false) {
        ssize_t length = getline(&line, &size, file);
        if (length < 0)
            break;
        bool whole = line[length - 1] == '\n';
        line[strcspn(line, "\n")] = '\0';
        if (first && (!whole || strcmp(line, HEADER) != 0)) {
            lines->foreign = true;
            break;
        }
        struct plan_entry entry;
        if (first)
            continue;
        if (whole && strlen(line) == (size_t)length - 1 && parse_line(line, &entry))
            status = put(cache, &entry);
        else
            lines->damaged++;
    }
    free(line);
    return status;
}

static int read_file(struct plan_cache *cache)
{
    FILE *file = fopen(cache->path, "re");
    if (file == NULL) {
        if (errno != ENOENT && !cache->warned)
            rdp_log_warning("the plan cache %s cannot be read: %s; convolutions are timed anew", cache->path,
                            strerror(errno));
        cache->warned |= errno != ENOENT;
        return RDP_OK;
    }
    struct lines lines;
    int status = read_lines(cache, file, &lines);
    bool failed = ferror(file) != 0;
    fclose(file);
    if (lines.foreign || failed)
        cache->readonly = true;
    if ((lines.foreign || failed) && !cache->warned)
        rdp_log_warning("%s %s; it is left as it is, and convolutions are timed anew. Name another file with "
                        "--plan-cache",
                        cache->path, failed ? "cannot be read" : "is no plan cache of this version of resnet-dp");
    else if (lines.damaged > 0 && !cache->warned)
        rdp_log_warning("the plan cache %s has %zu damaged lines, which are ignored; what they held is timed anew",
                        cache->path, lines.damaged);
    cache->warned |= lines.foreign || failed || lines.damaged > 0;
    return status;
}

/* Writes to `file`; false with errno on failure. */
static bool write_lines(const struct plan_cache *cache, FILE *file)
{
    fprintf(file, "%s\n", HEADER);
    for (size_t i = 0; i < cache->count; i++) {
        const struct plan_entry *entry = &cache->entries[i];
        const struct plan_choice *choice = &entry->choice;
        fprintf(file, "%s\t%s\t%" PRId64 "\t", entry->key, plan_family_name(choice->family), choice->engine);
        for (int k = 0; k < choice->knob_count; k++)
            fprintf(file, "%s%d=%" PRId64, k == 0 ? "" : ",", choice->knobs[k].type, choice->knobs[k].value);
        fprintf(file, "%s\t%.3f\n", choice->knob_count == 0 ? "-" : "", entry->microseconds);
    }
    return fflush(file) == 0 && ferror(file) == 0 && fsync(fileno(file)) == 0;
}

/* Whole or not at all; false with errno on failure. */
static bool replace_file(const struct plan_cache *cache)
{
    char temporary[PATH_MAX];
    if ((size_t)snprintf(temporary, sizeof temporary, "%s.XXXXXX", cache->path) >= sizeof temporary) {
        errno = ENAMETOOLONG;
        return false;
    }
    int descriptor = mkstemp(temporary);
    if (descriptor < 0)
        return false;
    FILE *file = fdopen(descriptor, "w");
    if (file == NULL) {
        int error = errno;
        close(descriptor);
        unlink(temporary);
        errno = error;
        return false;
    }
    /* mkstemp makes files private; plans may be shared with those who can enter the directory. */
    bool done = fchmod(descriptor, 0644) == 0 && write_lines(cache, file);
    int error = errno;
    if (fclose(file) != 0 && done) {
        done = false;
        error = errno;
    }
    if (done && rename(temporary, cache->path) != 0) {
        done = false;
        error = errno;
    }
    if (!done)
        unlink(temporary);
    errno = error;
    return done;
}

/* The directory of the file, open and, where its file system can, locked. A holder needs milliseconds and a lock dies with
 * its process, so that waiting ends; after half a minute it ends anyway. -1 with errno if there is no directory. */
static int lock_directory(const char *path)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    size_t length = slash == NULL ? 1 : slash == path ? 1 : (size_t)(slash - path);
    if (length >= sizeof directory) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(directory, slash == NULL ? "." : path, length);
    directory[length] = '\0';
    int descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (descriptor < 0)
        return -1;
    for (int i = 0; i < 3000 && flock(descriptor, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; i++)
        nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
    return descriptor;
}

int plan_cache_open(struct plan_cache **cache, const char *path)
{
    void *memory;
    RDP_TRY(rdp_calloc(&memory, 1, sizeof **cache, "the plan cache"));
    struct plan_cache *new = memory;
    new->path = strdup(path);
    int status = new->path == NULL ? rdp_fail(RDP_ENOMEM, "no memory for the plan cache") : RDP_OK;
    new->readonly = path[0] == '\0';
    if (status == RDP_OK && !new->readonly)
        status = read_file(new);
    if (status != RDP_OK) {
        plan_cache_close(new);
        return status;
    }
    *cache = new;
    return RDP_OK;
}

void plan_cache_close(struct plan_cache *cache)
{
    if (cache == NULL)
        return;
    free(cache->entries);
    free(cache->path);
    free(cache);
}

const struct plan_entry *plan_cache_find(const struct plan_cache *cache, const char *key)
{
    return find(cache, key);
}

int plan_cache_store(struct plan_cache *cache, struct plan_entry *entry, const struct plan_choice *refused)
{
    if (cache->readonly)
        return put(cache, entry);
    int directory = lock_directory(cache->path);
    int error = directory < 0 ? errno : 0;
    int status = directory < 0 ? RDP_OK : read_file(cache);
    const struct plan_entry *first = find(cache, entry->key);
    if (status == RDP_OK && first != NULL && (refused == NULL || !plan_choice_equal(&first->choice, refused)))
        *entry = *first;
    else if (status == RDP_OK)
        status = put(cache, entry);
    if (status == RDP_OK && directory >= 0 && !cache->readonly && !replace_file(cache))
        error = errno;
    if (directory >= 0)
        close(directory); /* and with it the lock */
    if (error != 0) {
        cache->readonly = true;
        rdp_log_warning("the plan cache %s cannot be written: %s; the next run times its convolutions again. Name a "
                        "file in a directory that exists and can be written with --plan-cache",
                        cache->path, strerror(error));
    }
    return status;
}
