/* CPU masks, the cores behind them, and what the launcher was told about them; see cores.h. */
#include "comm/cores.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

enum { CPUS = RDP_CPU_WORDS * 64 };

extern char **environ;

static bool has(const struct rdp_cpus *cpus, int cpu)
{
    return cpus->words[cpu / 64] >> (cpu % 64) & 1;
}

static void put(struct rdp_cpus *cpus, int cpu)
{
    cpus->words[cpu / 64] |= (uint64_t)1 << (cpu % 64);
}

bool rdp_cpus_of_process(pid_t pid, struct rdp_cpus *cpus)
{
    memset(cpus, 0, sizeof *cpus);
    return sched_getaffinity(pid, sizeof *cpus, (cpu_set_t *)(void *)cpus) == 0;
}

bool rdp_cpus_apply(const struct rdp_cpus *cpus)
{
    return sched_setaffinity(0, sizeof *cpus, (const cpu_set_t *)(const void *)cpus) == 0;
}

bool rdp_cpus_equal(const struct rdp_cpus *a, const struct rdp_cpus *b)
{
    return memcmp(a, b, sizeof *a) == 0;
}

bool rdp_cpus_overlap(const struct rdp_cpus *a, const struct rdp_cpus *b)
{
    for (int i = 0; i < RDP_CPU_WORDS; i++)
        if (a->words[i] & b->words[i])
            return true;
    return false;
}

void rdp_cpus_add(struct rdp_cpus *to, const struct rdp_cpus *more)
{
    for (int i = 0; i < RDP_CPU_WORDS; i++)
        to->words[i] |= more->words[i];
}

/* The lowest logical CPU of the core that `cpu` belongs to: the core's name here. Without /sys each is its own core. */
static int core_of(int cpu)
{
    char path[96], text[32];
    int core = cpu;

    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return cpu;
    if (fgets(text, sizeof text, file) != NULL)
        core = atoi(text);
    fclose(file);
    return core >= 0 && core < CPUS ? core : cpu;
}

/* The names of the cores that the CPUs belong to, as a set. */
static void cores_of(const struct rdp_cpus *cpus, struct rdp_cpus *cores)
{
    memset(cores, 0, sizeof *cores);
    for (int cpu = 0; cpu < CPUS; cpu++)
        if (has(cpus, cpu))
            put(cores, core_of(cpu));
}

static int count(const struct rdp_cpus *cpus)
{
    int bits = 0;
    for (int i = 0; i < RDP_CPU_WORDS; i++)
        bits += __builtin_popcountll(cpus->words[i]);
    return bits;
}

int rdp_cpus_cores(const struct rdp_cpus *cpus)
{
    struct rdp_cpus cores;
    cores_of(cpus, &cores);
    return count(&cores);
}

void rdp_cpus_part(const struct rdp_cpus *cpus, int part, int parts, struct rdp_cpus *out)
{
    struct rdp_cpus cores, chosen = {{0}};
    int index = 0;

    cores_of(cpus, &cores);
    int total = count(&cores);
    int begin = (int)((int64_t)total * part / parts), end = (int)((int64_t)total * (part + 1) / parts);
    for (int core = 0; core < CPUS; core++) {
        if (!has(&cores, core))
            continue;
        if (index >= begin && index < end)
            put(&chosen, core);
        index++;
    }
    memset(out, 0, sizeof *out);
    for (int cpu = 0; cpu < CPUS; cpu++)
        if (has(cpus, cpu) && has(&chosen, core_of(cpu)))
            put(out, cpu);
}

char *rdp_cpus_format(const struct rdp_cpus *cpus, char *text, size_t size)
{
    size_t used = 0;

    text[0] = '\0';
    for (int cpu = 0; cpu < CPUS; cpu++) {
        char range[32];
        int last = cpu;
        if (!has(cpus, cpu))
            continue;
        while (last + 1 < CPUS && has(cpus, last + 1))
            last++;
        if (last > cpu)
            snprintf(range, sizeof range, "%s%d-%d", used ? "," : "", cpu, last);
        else
            snprintf(range, sizeof range, "%s%d", used ? "," : "", cpu);
        if (used + strlen(range) + sizeof "..." > size) {
            strcpy(text + used, "...");
            break;
        }
        strcpy(text + used, range);
        used += strlen(range);
        cpu = last;
    }
    return text;
}

/* Name and parent of a process; false if it cannot be seen. */
static bool process_facts(pid_t pid, char name[64], pid_t *parent)
{
    char path[64], line[512] = "";

    snprintf(path, sizeof path, "/proc/%ld/stat", (long)pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    char *got = fgets(line, sizeof line, file);
    fclose(file);
    /* "4711 (name) S 4710 ...": the name may hold blanks and parentheses, so its end is the last one. */
    char *open = strchr(line, '('), *close = strrchr(line, ')');
    if (got == NULL || open == NULL || close == NULL || strlen(close) < 5)
        return false;
    snprintf(name, 64, "%.*s", (int)(close - open - 1), open + 1);
    *parent = (pid_t)atol(close + 4);
    return true;
}

pid_t rdp_launcher_process(void)
{
    static const char *const launchers[] = {"mpirun", "mpiexec", "orterun", "orted", "prterun", "prted", "prte"};
    pid_t pid = getppid();
    char name[64];

    /* Wrapper scripts may stand between; a launcher is never far. */
    for (int level = 0; level < 8 && pid > 1; level++) {
        pid_t parent;
        if (!process_facts(pid, name, &parent))
            return 0;
        for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++)
            if (strncmp(name, launchers[i], strlen(launchers[i])) == 0)
                return pid;
        pid = parent;
    }
    return 0;
}

static bool names_cores(const char *mapping)
{
    return strcasestr(mapping, "pe=") != NULL || strcasestr(mapping, "pe-list") != NULL ||
           strcasestr(mapping, "cpu-list") != NULL;
}

/* One "NAME=VALUE" of the environment. Open MPI 4 passes its command line on as OMPI_MCA_..., 5 reads PRTE_MCA_... */
static bool variable_tells_binding(const char *variable)
{
    const char *value = strchr(variable, '=');

    if (value == NULL || (strncmp(variable, "OMPI_MCA_", 9) != 0 && strncmp(variable, "PRTE_MCA_", 9) != 0))
        return false;
    size_t length = (size_t)(value - variable);
    char name[128];
    snprintf(name, sizeof name, "%.*s", (int)length, variable);
    if (strstr(name, "mapping_policy") != NULL)
        return names_cores(value + 1);
    return strstr(name, "binding_policy") != NULL || strstr(name, "cpu_set") != NULL ||
           strstr(name, "cpu_list") != NULL || strstr(name, "cpus_per") != NULL || strstr(name, "rank_file") != NULL ||
           strstr(name, "rankfile") != NULL || strstr(name, "bind_to") != NULL;
}

static bool word_tells_binding(const char *word, const char *next)
{
    static const char *const options[] = {"bind-to",  "bind-to-core",  "bind-to-socket", "bind-to-none", "cpu-set",
                                          "cpu-list", "cpus-per-proc", "cpus-per-rank",  "rankfile",     "rf"};
    const char *name = word + strspn(word, "-");

    if (name == word)
        return false;
    if (strcmp(name, "map-by") == 0)
        return names_cores(next);
    for (size_t i = 0; i < sizeof options / sizeof *options; i++)
        if (strcmp(name, options[i]) == 0)
            return true;
    return false;
}

bool rdp_launcher_was_told_binding(pid_t launcher)
{
    char path[64], line[8192] = "";

    for (char **variable = environ; *variable != NULL; variable++)
        if (variable_tells_binding(*variable))
            return true;
    /* Open MPI 5 does not pass its command line on: read it. */
    snprintf(path, sizeof path, "/proc/%ld/cmdline", (long)launcher);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return false;
    size_t length = fread(line, 1, sizeof line - 2, file);
    fclose(file);
    for (size_t i = 0; i < length; i += strlen(line + i) + 1) {
        const char *word = line + i, *next = word + strlen(word) + 1;
        if (word_tells_binding(word, next))
            return true;
    }
    return false;
}

double rdp_cpu_quota(void)
{
    double quota, period;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");

    if (file == NULL)
        return 0;
    int fields = fscanf(file, "%lf %lf", &quota, &period); /* "max 100000" if there is no limit */
    fclose(file);
    return fields == 2 && quota > 0 && period > 0 ? quota / period : 0;
}
