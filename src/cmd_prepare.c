/*
 * `resnet-dp prepare`: CIFAR-10's official binaries, or a synthetic set, to the data set file.
 *
 * Running it again changes nothing: a file that is whole and holds the same content is left alone. Anything else at
 * that path is replaced, in one step, and that is said. What was written is opened again and verified to the last byte.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "base/status.h"
#include "commands.h"
#include "dataset_table.h"
#include "io/cifar.h"
#include "io/dataset.h"

/* The parser has seen to it that there is exactly one of the two. */
static int make_content(struct rdp_dataset_content *content, const struct rdp_options *options)
{
    if (options->synthetic)
        return rdp_synthetic_make(content, options->synthetic_train, options->synthetic_test, (uint64_t)options->seed);
    return rdp_cifar_read(content, options->from);
}

static bool is_same(const struct rdp_dataset_info *info, const struct rdp_dataset_content *content)
{
    return strcmp(info->source, content->source) == 0 && info->classes == content->classes &&
           info->count[RDP_SPLIT_TRAIN] == content->count[RDP_SPLIT_TRAIN] &&
           info->count[RDP_SPLIT_TEST] == content->count[RDP_SPLIT_TEST] &&
           info->content_crc32c == rdp_content_crc32c(content);
}

/* Looks at what lies at `path`: *keep is true if it is whole and the same. Only a regular file may be replaced. */
static int look_at_old(const char *path, const struct rdp_dataset_content *content, bool *keep)
{
    struct stat info;
    struct rdp_dataset *old;
    *keep = false;
    if (stat(path, &info) != 0)
        return RDP_OK; /* nothing there; if the path is bad, writing says so */
    if (!S_ISREG(info.st_mode))
        return rdp_fail(RDP_EUSAGE, "%s is not a regular file; name a file with --out", path);
    int status = rdp_dataset_open(&old, path);
    if (status == RDP_OK) {
        status = rdp_dataset_verify(old);
        *keep = status == RDP_OK && is_same(rdp_dataset_info(old), content);
        rdp_dataset_close(old);
    }
    if (status == RDP_EUSAGE) { /* the old file's defect is no reason to stop */
        rdp_say("Replacing the old file: %s\n", rdp_fail_message());
        rdp_fail_clear();
        return RDP_OK;
    }
    if (status == RDP_OK && !*keep)
        rdp_say("Replacing %s, which holds another data set.\n", path);
    return status;
}

static int verify_and_print(const char *path)
{
    struct rdp_dataset *dataset;
    RDP_TRY(rdp_dataset_open(&dataset, path));
    int status = rdp_dataset_verify(dataset);
    if (status == RDP_OK)
        status = rdp_dataset_print(dataset, path);
    rdp_dataset_close(dataset);
    return status;
}

int rdp_cmd_prepare(const struct rdp_options *options)
{
    struct rdp_dataset_content content;
    const char *path = options->out;
    bool keep;
    RDP_TRY(make_content(&content, options));
    int status = look_at_old(path, &content, &keep);
    if (status == RDP_OK && !keep)
        status = rdp_dataset_write(path, &content);
    rdp_content_free(&content);
    RDP_TRY(status);
    RDP_TRY(verify_and_print(path));
    rdp_say(keep ? "Verified: it was there already and is left as it is.\n" : "Verified: written and read back.\n");
    return RDP_OK;
}
