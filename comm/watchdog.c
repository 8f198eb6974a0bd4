/*
 * The watchdog; see watchdog.h. Every rank writes its own entry of a page of POSIX shared memory and reads the others'.
 *
 * The main thread only bumps counters and notes what it is in: it takes no time stamps. The watchdog thread looks at
 * those counters several times per time-out, and publishes what it made of them: when it looked (so that others see
 * that this process runs at all), for how long the main thread has waited for other ranks, for how long it has not
 * moved. These durations add up the intervals between looks, each counted as at most three: after the whole job was
 * suspended and woken up, no rank has waited.
 *
 * A look ends the job when one of these holds ("late" is a wait beyond the time-out)
 *   1. this rank is late, or waits patiently, and a rank of this host has not looked for STALE_MS (or for the time-out,
 *      if that is shorter): it is stopped or gone;
 *   2. the main thread of this rank, or of one that this rank is late waiting for, neither moves nor waits: it hangs;
 *   3. all ranks of this host are late, with some grace: the cause is on another host.
 * One compare-and-swap in the page elects the one rank per host that prints; it ends with exit code 5, upon which the
 * launcher ends the others; should there be no launcher that does, they follow on their own.
 *
 * The page is unlinked as soon as all have mapped it, so nothing of it stays behind whatever happens. Ending never
 * waits for anybody.
 */
#include "comm/watchdog.h"

#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/status.h"
#include "comm/launch.h"
#include "comm/mpi_check.h"

enum {
    TEXT_WORDS = 6,
    TEXT_BYTES = 8 * TEXT_WORDS,
    LOOK_MS = 1000,
    STALE_MS = 10000, /* a process that has not run for so long is called stopped */
    GRACE_MS = 5000,  /* before the cause is looked for on another host: that host reports first */
    FOLLOW_MS = 2000, /* after a report, before the silent ranks end themselves */
    WAIT_NONE = 0,
    WAIT_PROMPT = 1,
    WAIT_PATIENT = 2
};

/* A short text that other processes read while it may be written: torn at worst, never out of bounds. */
struct text {
    _Atomic uint64_t words[TEXT_WORDS];
};

struct entry {
    /* written by the main thread */
    _Alignas(64) _Atomic uint64_t moves; /* bumped by every sign of life */
    _Atomic int waiting;                 /* WAIT_... */
    _Atomic int64_t step;
    struct text phase, what;
    /* written by the watchdog thread; milliseconds */
    _Alignas(64) _Atomic int64_t looked_at; /* CLOCK_MONOTONIC, one clock for all processes of a host */
    _Atomic int64_t waited, idle;           /* how long in this wait; how long not moving and not waiting */
    _Atomic int left;                       /* stopped its watchdog in order */
    _Atomic int rank, pid;
};

struct page {
    _Atomic int reported; /* 0, or 1 + the local rank that speaks for this host */
    struct entry entries[];
};

static struct {
    bool running;
    int64_t timeout; /* ms */
    struct page *page;
    size_t page_bytes;
    int local_rank, local_size, host_count, rank;
    char host[256];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool stop;
} self = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Where the main thread writes: its entry of the page, or this one while there is no watchdog. */
static struct entry unwatched;
static struct entry *own = &unwatched;

static int64_t now_ms(void)
{
    return (int64_t)(rdp_now() * 1000);
}

static void write_text(struct text *text, const char *from)
{
    uint64_t words[TEXT_WORDS] = {0};
    size_t length = strnlen(from, TEXT_BYTES - 1);

    memcpy(words, from, length);
    for (int i = 0; i < TEXT_WORDS; i++)
        atomic_store_explicit(&text->words[i], words[i], memory_order_relaxed);
}

static const char *read_text(struct text *text, char into[TEXT_BYTES])
{
    uint64_t words[TEXT_WORDS];

    for (int i = 0; i < TEXT_WORDS; i++)
        words[i] = atomic_load_explicit(&text->words[i], memory_order_relaxed);
    memcpy(into, words, TEXT_BYTES);
    into[TEXT_BYTES - 1] = '\0';
    return into;
}

/* --- the main thread's side --- */

void rdp_watchdog_tick(void)
{
    /* One writer: a load and a store, no locked instruction. */
    uint64_t moves = atomic_load_explicit(&own->moves, memory_order_relaxed);
    atomic_store_explicit(&own->moves, moves + 1, memory_order_relaxed);
}

void rdp_watchdog_phase(const char *phase, int64_t step)
{
    write_text(&own->phase, phase);
    atomic_store_explicit(&own->step, step, memory_order_relaxed);
    rdp_watchdog_tick();
}

void rdp_watchdog_wait_begin(const char *what, int patient)
{
    write_text(&own->what, what);
    rdp_watchdog_tick();
    atomic_store_explicit(&own->waiting, patient ? WAIT_PATIENT : WAIT_PROMPT, memory_order_release);
}

void rdp_watchdog_wait_end(void)
{
    rdp_watchdog_tick();
    atomic_store_explicit(&own->waiting, WAIT_NONE, memory_order_release);
}

/* --- the watchdog thread's side --- */

/* "backward of step 117" */
static void describe(struct entry *entry, char *text, size_t size)
{
    char phase[TEXT_BYTES];
    int64_t step = atomic_load(&entry->step);

    read_text(&entry->phase, phase);
    if (phase[0] == '\0')
        snprintf(text, size, "set-up");
    else if (step >= 0)
        snprintf(text, size, "%s of step %lld", phase, (long long)step);
    else
        snprintf(text, size, "%s", phase);
}

void rdp_watchdog_describe(char *text, size_t size)
{
    describe(own, text, size);
}

/* Why a process does not run, as far as the kernel tells. */
static const char *cause_of_silence(int pid)
{
    char path[64], line[256] = "";

    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return "the process is gone";
    size_t length = fread(line, 1, sizeof line - 1, file);
    fclose(file);
    line[length] = '\0';
    const char *state = strrchr(line, ')');
    if (state == NULL || strlen(state) < 3)
        return "the process is stopped or its host stalls";
    switch (state[2]) {
    case 'T':
    case 't':
        return "the process is stopped (by SIGSTOP or a debugger)";
    case 'D':
        return "the process is stuck in the kernel (a file system that does not answer?)";
    case 'Z':
    case 'X':
        return "the process has died";
    default:
        return "its host gives it no time, or stalls";
    }
}

/* Only one rank of a host speaks. Straight to the descriptor: the main thread may hold stdio's locks for ever. */
static void report(const char *text)
{
    int nobody = 0;
    char line[2048];

    if (!atomic_compare_exchange_strong(&self.page->reported, &nobody, self.local_rank + 1))
        return;
    int length = snprintf(line, sizeof line, "resnet-dp: error: [rank %d on %s] %s; all ranks end\n", self.rank,
                          self.host, text);
    if (length >= (int)sizeof line)
        length = (int)sizeof line - 1;
    ssize_t written = write(STDERR_FILENO, line, (size_t)length);
    (void)written; /* nobody is left to tell */
    _exit(rdp_status_exit_code(RDP_ECOMM));
}

/* ", this rank waited for 12 s in all-reduce of bucket 1" or nothing. */
static void describe_own_wait(char *text, size_t size)
{
    char what[TEXT_BYTES];

    text[0] = '\0';
    if (atomic_load(&own->waiting) != WAIT_NONE)
        snprintf(text, size, "; this rank waited for it in %s (%.0f s)", read_text(&own->what, what),
                 (double)atomic_load(&own->waited) / 1000);
}

static void report_silent(struct entry *entry, int64_t silence)
{
    char activity[128], wait[128], text[1024];
    int pid = atomic_load(&entry->pid);

    describe(entry, activity, sizeof activity);
    describe_own_wait(wait, sizeof wait);
    snprintf(text, sizeof text, "rank %d (pid %d on %s) has not run for %.0f s: %s; it was in %s%s",
             atomic_load(&entry->rank), pid, self.host, (double)silence / 1000, cause_of_silence(pid), activity, wait);
    report(text);
}

static void report_hanging(struct entry *entry)
{
    char activity[128], wait[128], text[1024];

    describe(entry, activity, sizeof activity);
    describe_own_wait(wait, sizeof wait);
    snprintf(text, sizeof text,
             "rank %d (pid %d on %s) is still in %s after %.0f s without progress%s; if it is only slow, raise "
             "--comm-timeout",
             atomic_load(&entry->rank), atomic_load(&entry->pid), self.host, activity,
             (double)atomic_load(&entry->idle) / 1000, wait);
    report(text);
}

static void report_elsewhere(void)
{
    char what[TEXT_BYTES], activity[128], text[1024];

    describe(own, activity, sizeof activity);
    read_text(&own->what, what);
    if (self.host_count > 1)
        snprintf(text, sizeof text,
                 "waited %.0f s in %s (%s) and so did every rank of this host: none of them is late, a rank on "
                 "another host is; see what that host says, or the network between them",
                 (double)atomic_load(&own->waited) / 1000, what, activity);
    else
        snprintf(text, sizeof text,
                 "waited %.0f s in %s (%s) and so did every other rank: none of them is late; a message was "
                 "lost or the ranks disagree about what comes next",
                 (double)atomic_load(&own->waited) / 1000, what, activity);
    report(text);
}

/* What the last look saw of the own main thread. */
struct observation {
    int64_t at;
    uint64_t moves;
    int64_t waited, idle;
};

static void observe(struct observation *last, int64_t interval)
{
    int64_t now = now_ms(), passed = now - last->at;
    uint64_t moves = atomic_load(&own->moves);
    int waiting = atomic_load(&own->waiting);

    if (passed > 3 * interval)
        passed = 3 * interval;
    if (moves != last->moves)
        last->waited = last->idle = 0;
    else if (waiting != WAIT_NONE)
        last->waited += passed;
    else
        last->idle += passed;
    last->moves = moves;
    last->at = now;
    atomic_store(&own->waited, last->waited);
    atomic_store(&own->idle, last->idle);
    atomic_store(&own->looked_at, now);
}

static void judge(int64_t now)
{
    int64_t timeout = self.timeout, stale = timeout < STALE_MS ? timeout : STALE_MS;
    int waiting = atomic_load(&own->waiting);
    int64_t waited = atomic_load(&own->waited);
    bool late = waiting == WAIT_PROMPT && waited > timeout, all_late = late;

    if (atomic_load(&own->idle) > timeout)
        report_hanging(own);
    if (waiting == WAIT_NONE || (waiting == WAIT_PROMPT && !late))
        return;
    for (int i = 0; i < self.local_size; i++) {
        struct entry *entry = &self.page->entries[i];
        if (i == self.local_rank || atomic_load(&entry->left))
            continue;
        int64_t silence = now - atomic_load(&entry->looked_at);
        if (silence > stale)
            report_silent(entry, silence);
        if (late && atomic_load(&entry->idle) > timeout)
            report_hanging(entry);
        if (atomic_load(&entry->waiting) != WAIT_PROMPT || atomic_load(&entry->waited) <= timeout + GRACE_MS)
            all_late = false;
    }
    if (all_late && waited > timeout + GRACE_MS)
        report_elsewhere();
}

/* Sleeps until the next look; false if the watchdog is to end. */
static bool sleep_until_look(int64_t interval)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += interval / 1000;
    until.tv_nsec += interval % 1000 * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&self.lock);
    while (!self.stop && pthread_cond_timedwait(&self.wake, &self.lock, &until) != ETIMEDOUT)
        ;
    bool go_on = !self.stop;
    pthread_mutex_unlock(&self.lock);
    return go_on;
}

static void *watch(void *unused)
{
    int64_t interval = self.timeout / 4 < LOOK_MS ? self.timeout / 4 : LOOK_MS, report_seen = 0;
    struct observation last = {.at = now_ms()};
    int looks_to_skip = 0;

    (void)unused;
    if (interval < 20)
        interval = 20;
    while (sleep_until_look(interval)) {
        /* This process itself was stopped or starved: the others must have time to look before they are judged. */
        if (now_ms() - last.at > 3 * interval)
            looks_to_skip = 3;
        observe(&last, interval);
        if (atomic_load(&self.page->reported) != 0) {
            if (report_seen == 0)
                report_seen = last.at;
            else if (last.at - report_seen > FOLLOW_MS)
                _exit(rdp_status_exit_code(RDP_ECOMM));
        } else if (looks_to_skip > 0) {
            looks_to_skip--;
        } else {
            judge(last.at);
        }
    }
    return NULL;
}

/* --- start and stop --- */

/* The leader makes the page, the others of the host open it by name. MAP_FAILED comes back as NULL. */
static struct page *map_page(const char *name, size_t bytes, bool create)
{
    int descriptor = shm_open(name, create ? O_RDWR | O_CREAT | O_EXCL : O_RDWR, 0600);
    void *page = MAP_FAILED;

    if (descriptor < 0)
        return NULL;
    /* posix_fallocate rather than ftruncate: a full /dev/shm is an error here and not a SIGBUS later. */
    int error = create ? posix_fallocate(descriptor, 0, (off_t)bytes) : 0;
    if (error == 0)
        page = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    else
        errno = error;
    error = errno;
    close(descriptor);
    errno = error;
    return page == MAP_FAILED ? NULL : page;
}

/* Collective over the host: all have the page, or all get an error. */
static int share_page(const struct rdp_launch *launch, MPI_Comm local)
{
    char name[64];
    int mapped, all_mapped, error;

    self.page_bytes = sizeof(struct page) + (size_t)launch->local_size * sizeof(struct entry);
    snprintf(name, sizeof name, "/resnet-dp-%ld-%llx", (long)getpid(), (unsigned long long)now_ms());
    RDP_MPI(MPI_Bcast(name, sizeof name, MPI_CHAR, 0, local));
    if (launch->local_rank == 0)
        self.page = map_page(name, self.page_bytes, true);
    error = errno;
    RDP_MPI(MPI_Barrier(local));
    if (launch->local_rank != 0) {
        self.page = map_page(name, self.page_bytes, false);
        error = errno;
    }
    mapped = self.page != NULL;
    RDP_MPI(MPI_Allreduce(&mapped, &all_mapped, 1, MPI_INT, MPI_MIN, local));
    if (launch->local_rank == 0)
        shm_unlink(name);
    if (all_mapped)
        return RDP_OK;
    if (mapped)
        munmap(self.page, self.page_bytes);
    self.page = NULL;
    return rdp_fail(RDP_ECOMM,
                    "the ranks of host %s cannot share %zu bytes of /dev/shm for the watchdog: %s; mount /dev/shm "
                    "with some free space, or run with --comm-timeout 0",
                    launch->host, self.page_bytes, mapped ? "another rank failed" : strerror(error));
}

/* The thread takes no signals: handlers run on the main thread. */
static int start_thread(void)
{
    pthread_condattr_t attributes;
    sigset_t all, before;

    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&self.wake, &attributes);
    pthread_condattr_destroy(&attributes);
    self.stop = false;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int error = pthread_create(&self.thread, NULL, watch, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error != 0)
        return rdp_fail(RDP_ECOMM,
                        "the watchdog's thread cannot be started: %s; raise the limit on processes (ulimit -u), or run "
                        "with --comm-timeout 0",
                        strerror(error));
    return RDP_OK;
}

static void leave_page(void)
{
    if (self.page == NULL)
        return;
    /* The main thread goes on ticking into its private entry. */
    atomic_store(&own->left, 1);
    own = &unwatched;
    munmap(self.page, self.page_bytes);
    self.page = NULL;
}

int rdp_watchdog_start(const struct rdp_launch *launch, double timeout_seconds)
{
    MPI_Comm local;

    /* A lone rank has nobody to wait for. */
    if (timeout_seconds <= 0 || launch->size == 1 || self.running)
        return RDP_OK;
    self.timeout = (int64_t)(timeout_seconds * 1000);
    self.local_rank = launch->local_rank;
    self.local_size = launch->local_size;
    self.host_count = launch->host_count;
    self.rank = launch->rank;
    memcpy(self.host, launch->host, sizeof self.host);
    RDP_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, launch->rank, MPI_INFO_NULL, &local));
    int status = share_page(launch, local);
    if (status == RDP_OK) {
        own = &self.page->entries[launch->local_rank];
        atomic_store(&own->rank, launch->rank);
        atomic_store(&own->pid, (int)getpid());
        atomic_store(&own->step, -1);
        atomic_store(&own->looked_at, now_ms());
    }
    /* Nobody may be judged before its entry is filled in. */
    RDP_MPI(MPI_Barrier(local));
    RDP_MPI(MPI_Comm_free(&local));
    RDP_TRY(status);
    status = start_thread();
    if (status != RDP_OK)
        leave_page();
    else
        self.running = true;
    return status;
}

void rdp_watchdog_stop(void)
{
    if (!self.running)
        return;
    pthread_mutex_lock(&self.lock);
    self.stop = true;
    pthread_cond_signal(&self.wake);
    pthread_mutex_unlock(&self.lock);
    pthread_join(self.thread, NULL);
    pthread_cond_destroy(&self.wake);
    leave_page();
    self.running = false;
}
