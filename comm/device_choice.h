/*
 * Which GPU a rank takes, and whether another rank has the same. Plain facts in, plain facts out: nothing here calls
 * CUDA (kernels.h finds the devices and their names).
 */
#ifndef RDP_COMM_DEVICE_CHOICE_H
#define RDP_COMM_DEVICE_CHOICE_H

#include <stdbool.h>
#include <stddef.h>

struct rdp_comm;
struct rdp_launch;

/* The device among `visible_count` visible ones that this rank takes: its local rank, modulo their number. One visible
 * device per task (Slurm's --gpus-per-task) gives 0; more local ranks than devices share. RDP_EUSAGE without any. */
int rdp_device_choose(const struct rdp_launch *launch, int visible_count, int *index);

/* Where a rank computes. */
struct rdp_device_place {
    char host[256];
    char machine[64]; /* tells machines apart even if they bear the same name: the kernel's boot id, "" if unknown */
    char pci_bus[32]; /* "0000:1b:00.0"; "" for a CPU */
};

/* Whether two of the `count` ranks' places are the same GPU, and then which and what in `text`: "ranks 0 and 2 on host a
 * both drive GPU 0000:1b:00.0", and how many more ranks share one. "" in `text` if none. */
bool rdp_device_find_sharing(const struct rdp_device_place *places, int count, char *text, size_t size);
/* The same for the places that the ranks have now. Collective, agreed; every rank gets the same answer. */
int rdp_device_sharing(struct rdp_comm *comm, const struct rdp_launch *launch, const char *pci_bus, bool *shared,
                       char *text, size_t size);

#endif
