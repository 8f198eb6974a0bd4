/* The table of a data set; see dataset_table.h. */
#include "dataset_table.h"

#include <inttypes.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/memory.h"
#include "base/status.h"
#include "base/text.h"

static int count_classes(struct rdp_dataset *dataset, enum rdp_split split, int64_t counts[RDP_CLASSES_MAX])
{
    int64_t rows = rdp_dataset_info(dataset)->count[split];
    void *block;
    RDP_TRY(rdp_calloc(&block, (size_t)rows, 1, "the labels"));
    uint8_t *labels = block;
    int status = rdp_dataset_read(dataset, split, 0, rows, NULL, labels);
    for (int64_t i = 0; status == RDP_OK && i < rows; i++)
        counts[labels[i]]++;
    free(block);
    return status;
}

int rdp_dataset_print(struct rdp_dataset *dataset, const char *path)
{
    const struct rdp_dataset_info *info = rdp_dataset_info(dataset);
    int64_t counts[2][RDP_CLASSES_MAX] = {{0}};
    char train[32], test[32], size[32];
    struct stat file;
    for (int split = 0; split < 2; split++)
        RDP_TRY(count_classes(dataset, split ? RDP_SPLIT_TEST : RDP_SPLIT_TRAIN, counts[split]));
    if (stat(path, &file) != 0)
        return rdp_fail(RDP_EUSAGE, "%s disappeared while it was read", path);
    rdp_say("Data set %s\nSource: %s\n\n", path, info->source);
    rdp_say("%-20s %10s %10s\n", "class", "training", "test");
    for (int i = 0; i < info->classes; i++)
        rdp_say("%-20s %10s %10s\n", info->class_names[i],
                rdp_format_thousands(train, sizeof train, counts[RDP_SPLIT_TRAIN][i]),
                rdp_format_thousands(test, sizeof test, counts[RDP_SPLIT_TEST][i]));
    rdp_say("%-20s %10s %10s\n\n", "all", rdp_format_thousands(train, sizeof train, info->count[RDP_SPLIT_TRAIN]),
            rdp_format_thousands(test, sizeof test, info->count[RDP_SPLIT_TEST]));
    rdp_say("%-20s %10s %10s %10s\n", "of pixels 0 to 1", "red", "green", "blue");
    rdp_say("%-20s %10.6f %10.6f %10.6f\n", "mean", (double)info->mean[0], (double)info->mean[1],
            (double)info->mean[2]);
    rdp_say("%-20s %10.6f %10.6f %10.6f\n\n", "standard deviation", (double)info->std[0], (double)info->std[1],
            (double)info->std[2]);
    rdp_say("Size: %s bytes. Content CRC-32C: %08" PRIx32 "\n", rdp_format_thousands(size, sizeof size, file.st_size),
            info->content_crc32c);
    return RDP_OK;
}
