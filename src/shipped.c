/* Recipes and sweeps by name; see shipped.h. They are found from where the program lies, so that it can be moved. */
#include "shipped.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/status.h"
#include "base/text.h"

enum { NAMES_MAX = 128 };

/* As seen from the program's directory: installed in bin/, built in build/ or build/NAME/. */
static const char *const places[] = {"../share/resnet-dp", "../jobs", "../../jobs"};

static bool find_directory(const char *kind, char directory[RDP_PATH_MAX])
{
    char program[RDP_PATH_MAX], path[2 * RDP_PATH_MAX];
    const ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length <= 0)
        return false;
    program[length] = '\0';
    *strrchr(program, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof *places; i++) {
        snprintf(path, sizeof path, "%s/%s/%ss", program, places[i], kind);
        char *real = realpath(path, NULL);
        const bool found = real != NULL && strlen(real) < RDP_PATH_MAX;
        if (found)
            memcpy(directory, real, strlen(real) + 1);
        free(real);
        if (found)
            return true;
    }
    return false;
}

/* "" if none is near. The file names of `directory` without their ".ini" are what can be meant. */
static void find_nearest(const char *directory, const char *name, char nearest[256])
{
    char *names[NAMES_MAX];
    size_t count = 0;
    DIR *entries = opendir(directory);
    nearest[0] = '\0';
    if (entries == NULL)
        return;
    for (const struct dirent *entry; count < NAMES_MAX && (entry = readdir(entries)) != NULL;) {
        const char *dot = strrchr(entry->d_name, '.');
        if (dot != NULL && strcmp(dot, ".ini") == 0 &&
            (names[count] = strndup(entry->d_name, (size_t)(dot - entry->d_name))) != NULL)
            count++;
    }
    closedir(entries);
    const char *near = rdp_nearest_name(name, (const char *const *)names, count);
    if (near != NULL)
        snprintf(nearest, 256, "%s", near);
    for (size_t i = 0; i < count; i++)
        free(names[i]);
}

int rdp_shipped_file(const char *kind, const char *name, char path[RDP_PATH_MAX])
{
    char directory[RDP_PATH_MAX], file[2 * RDP_PATH_MAX], nearest[256];
    snprintf(path, RDP_PATH_MAX, "%s", name);
    if (strpbrk(name, "/.") != NULL || access(name, F_OK) == 0 || !find_directory(kind, directory))
        return RDP_OK;
    const int length = snprintf(file, sizeof file, "%s/%s.ini", directory, name);
    if (length < RDP_PATH_MAX && access(file, F_OK) == 0) {
        memcpy(path, file, (size_t)length + 1);
        return RDP_OK;
    }
    find_nearest(directory, name, nearest);
    return rdp_fail(RDP_EUSAGE, "%s: no file here, and no %s of that name in %s%s%s%s", name, kind, directory,
                    nearest[0] != '\0' ? "; did you mean " : "", nearest, nearest[0] != '\0' ? "?" : "");
}
