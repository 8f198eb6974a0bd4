/* Which GPU a rank takes; see device_choice.h. */
#include "comm/device_choice.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/memory.h"
#include "base/status.h"
#include "comm/comm.h"
#include "comm/launch.h"

int rdp_device_choose(const struct rdp_launch *launch, int visible_count, int *index)
{
    *index = 0;
    if (visible_count < 1)
        return rdp_fail(RDP_EUSAGE,
                        "local rank %d of host %s sees no CUDA device; ask the batch system for GPUs and see "
                        "CUDA_VISIBLE_DEVICES and nvidia-smi on that host, or use --device cpu",
                        launch->local_rank, launch->host);
    *index = launch->local_rank % visible_count;
    return RDP_OK;
}

static bool same_gpu(const struct rdp_device_place *a, const struct rdp_device_place *b)
{
    if (a->pci_bus[0] == '\0' || strcasecmp(a->pci_bus, b->pci_bus) != 0)
        return false;
    if (a->machine[0] != '\0' && b->machine[0] != '\0')
        return strcmp(a->machine, b->machine) == 0;
    return strcmp(a->host, b->host) == 0;
}

bool rdp_device_find_sharing(const struct rdp_device_place *places, int count, char *text, size_t size)
{
    int first = -1, second = -1, sharers = 0;
    size_t used;

    if (size > 0)
        text[0] = '\0';
    for (int rank = 1; rank < count; rank++)
        for (int other = 0; other < rank; other++) {
            if (!same_gpu(&places[other], &places[rank]))
                continue;
            if (sharers++ == 0) {
                first = other;
                second = rank;
            }
            break; /* counted once, with the first rank that has this GPU */
        }
    if (sharers == 0)
        return false;
    snprintf(text, size, "ranks %d and %d on host %s both drive GPU %s", first, second, places[second].host,
             places[second].pci_bus);
    used = strlen(text);
    if (sharers > 1)
        snprintf(text + used, size - used, "; %d more rank%s so", sharers - 1, sharers == 2 ? " does" : "s do");
    return true;
}

/* Host names may repeat (every container is "localhost"), boot ids do not; containers of one machine share it. */
static void read_machine(char *machine, size_t size)
{
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

    machine[0] = '\0';
    if (file == NULL)
        return;
    if (fgets(machine, (int)size, file) == NULL)
        machine[0] = '\0';
    fclose(file);
    machine[strcspn(machine, "\n")] = '\0';
}

struct answer {
    int shared;
    char text[512];
};

int rdp_device_sharing(struct rdp_comm *comm, const struct rdp_launch *launch, const char *pci_bus, bool *shared,
                       char *text, size_t size)
{
    static const char what[] = "comparison of the ranks' devices";
    struct rdp_device_place mine = {{0}, {0}, {0}};
    struct answer answer = {0, ""};
    void *all = NULL;
    int status = RDP_OK;

    *shared = false;
    snprintf(mine.host, sizeof mine.host, "%s", launch->host);
    snprintf(mine.pci_bus, sizeof mine.pci_bus, "%s", pci_bus);
    read_machine(mine.machine, sizeof mine.machine);
    if (comm->rank == 0)
        status = rdp_calloc(&all, (size_t)comm->size, sizeof mine, what);
    RDP_TRY(rdp_comm_agree(comm, status, what));
    status = comm->ops->gather(comm, &mine, sizeof mine, all, 0, what);
    if (status == RDP_OK && comm->rank == 0)
        answer.shared = rdp_device_find_sharing(all, comm->size, answer.text, sizeof answer.text);
    free(all);
    RDP_TRY(status);
    RDP_TRY(comm->ops->broadcast(comm, &answer, sizeof answer, 0, what));
    *shared = answer.shared != 0;
    snprintf(text, size, "%s", answer.text);
    return RDP_OK;
}
