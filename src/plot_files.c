/* Reading tables and writing drawings; see plot_files.h. */
#include "plot_files.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "base/status.h"
#include "io/durable.h"

void rdp_plot_run_name(const char *run_dir, char name[256])
{
    int end = (int)strlen(run_dir);
    while (end > 1 && run_dir[end - 1] == '/')
        end--;
    int start = end;
    while (start > 0 && run_dir[start - 1] != '/')
        start--;
    snprintf(name, 256, "%.*s", end - start, run_dir + start);
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        name[0] = '\0';
}

int rdp_plot_table(const char *path, const char *const *names, int count, struct rdp_csv *table)
{
    RDP_TRY(rdp_csv_read(path, names, count, table));
    const double *key = table->columns[0];
    int status = RDP_OK;
    if (table->rows == 0)
        status = rdp_fail(RDP_EUSAGE, "%s: no %s in it yet; there is nothing to draw", path, names[0]);
    for (size_t row = 0; row < table->rows && status == RDP_OK; row++)
        if (!(key[row] >= 0 && key[row] <= 1e12) || (row > 0 && key[row] < key[row - 1]))
            status = rdp_fail(RDP_EUSAGE, "%s:%zu: the %s is missing, out of range or before the last row's", path,
                              row + 2, names[0]);
    if (status != RDP_OK)
        rdp_csv_free(table);
    return status;
}

int rdp_plot_save(const struct rdp_plot_target *target, const char *name, void (*draw)(FILE *out, const void *what),
                  const void *what)
{
    char path[4096];
    if (snprintf(path, sizeof path, "%s/%s", target->directory, name) >= (int)sizeof path)
        return rdp_fail(RDP_EUSAGE, "%s: the path is too long for %s; choose a shorter one", target->directory, name);
    int status = rdp_durable_print(path, draw, what);
    if (status == RDP_OK && target->say)
        rdp_say("%s\n", path);
    return status;
}
