/* See host.h. */
#include "host.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>

/* As /proc/cpuinfo names them, x86 ("flags") and Arm ("Features"). */
static const char *const instruction_sets[] = {
    "sse4_1", "avx", "avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16",
    "avx512_fp16", "amx_tile", "amx_bf16", "amx_int8", "asimd", "sve", "sve2", "bf16", "svebf16",
};

/* The text after "key : " if the line is of that key, else NULL. */
static const char *value_of(const char *line, const char *key)
{
    const size_t length = strlen(key);
    if (strncmp(line, key, length) != 0 || strchr(" \t:", line[length]) == NULL)
        return NULL;
    const char *colon = strchr(line, ':');
    return colon == NULL ? NULL : colon + 1 + strspn(colon + 1, " \t");
}

static bool has_word(const char *text, const char *word)
{
    const size_t length = strlen(word);
    for (const char *at = strstr(text, word); at != NULL; at = strstr(at + 1, word))
        if ((at == text || at[-1] == ' ') && strchr(" \n", at[length]) != NULL)
            return true;
    return false;
}

static void note_instructions(struct rdp_host *host, const char *flags)
{
    size_t used = 0;
    for (size_t i = 0; i < sizeof instruction_sets / sizeof *instruction_sets && used < sizeof host->instructions; i++)
        if (has_word(flags, instruction_sets[i]))
            used += (size_t)snprintf(host->instructions + used, sizeof host->instructions - used, "%s%s",
                                     used > 0 ? " " : "", instruction_sets[i]);
}

static void read_cpu(struct rdp_host *host)
{
    char line[8192];
    FILE *file = fopen("/proc/cpuinfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        const char *model = value_of(line, "model name"), *flags = value_of(line, "flags");
        if (model != NULL && host->cpu[0] == '\0')
            snprintf(host->cpu, sizeof host->cpu, "%.*s", (int)strcspn(model, "\n"), model);
        if (flags == NULL)
            flags = value_of(line, "Features");
        if (flags != NULL && host->instructions[0] == '\0')
            note_instructions(host, flags);
    }
    if (file != NULL)
        fclose(file);
}

static void read_memory(struct rdp_host *host)
{
    char line[256];
    long long kibibytes;
    FILE *file = fopen("/proc/meminfo", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (sscanf(line, "MemTotal: %lld kB", &kibibytes) == 1)
            host->memory_bytes = (int64_t)kibibytes * 1024;
        if (sscanf(line, "MemAvailable: %lld kB", &kibibytes) == 1)
            host->available_bytes = (int64_t)kibibytes * 1024;
    }
    if (file != NULL)
        fclose(file);
}

void rdp_host_read(struct rdp_host *host)
{
    struct utsname system;
    memset(host, 0, sizeof *host);
    host->memory_bytes = host->available_bytes = -1;
    read_cpu(host);
    read_memory(host);
    if (uname(&system) != 0)
        return;
    snprintf(host->kernel, sizeof host->kernel, "%.60s %.60s %.60s", system.sysname, system.release, system.machine);
    if (host->cpu[0] == '\0')
        snprintf(host->cpu, sizeof host->cpu, "%.60s", system.machine);
}

#if defined(__has_feature)
#define HAS_FEATURE(name) __has_feature(name)
#else
#define HAS_FEATURE(name) 0
#endif

const char *rdp_build_description(void)
{
    return ""
#if defined(__clang__)
           __VERSION__ /* begins with the compiler's name */
#else
           "gcc " __VERSION__
#endif
#if defined(__OPTIMIZE__)
           ", optimised"
#else
           ", not optimised"
#endif
#if defined(__SANITIZE_ADDRESS__) || HAS_FEATURE(address_sanitizer)
           ", sanitizers"
#endif
#if defined(__AVX512F__)
           ", all code for AVX-512"
#elif defined(__AVX2__)
           ", all code for AVX2"
#endif
        ;
}

char *rdp_utc_now(char text[32])
{
    struct tm utc;
    time_t seconds = time(NULL);
    gmtime_r(&seconds, &utc);
    strftime(text, 32, "%Y-%m-%dT%H:%M:%SZ", &utc);
    return text;
}
