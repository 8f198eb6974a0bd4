/*
 * Checkpoints: named arrays and named numbers in one HDF5 file, whole or absent.
 *
 * The file is built in memory (HDF5 core driver), a trailer with its length and CRC32C is appended, and rank 0 writes
 * it with temp + fsync + rename + fsync of the directory (durable.h). Reading checks length and CRC32C of the whole
 * before HDF5 parses a byte. Arrays hold plain PyTorch layout (OIHW, row-major), whatever the device uses. Nothing here
 * knows what the arrays mean: src/ decides that.
 */
#ifndef RDP_IO_CHECKPOINT_H
#define RDP_IO_CHECKPOINT_H

#include <stddef.h>
#include <stdint.h>

enum { RDP_CHECKPOINT_NAME_MAX = 128, RDP_CHECKPOINT_DIMS_MAX = 4 };

struct rdp_checkpoint_array {
    char group[32];                     /* "parameters", "state", "exp_avg", ... */
    char name[RDP_CHECKPOINT_NAME_MAX]; /* "layer1.0.conv1.weight" */
    int dims_count;
    int64_t dims[RDP_CHECKPOINT_DIMS_MAX];
    float *data; /* product of dims, aligned to 64 bytes; owned by the checkpoint */
};
struct rdp_checkpoint_number {
    char name[64];
    int is_integer;
    int64_t integer;
    double real;
};
struct rdp_checkpoint_text {
    char name[64];
    char *value; /* owned by the checkpoint */
};
struct rdp_checkpoint {
    struct rdp_checkpoint_array *arrays;
    size_t array_count, array_capacity;
    struct rdp_checkpoint_number *numbers;
    size_t number_count, number_capacity;
    struct rdp_checkpoint_text *texts;
    size_t text_count, text_capacity;
};

int rdp_checkpoint_create(struct rdp_checkpoint **checkpoint);
void rdp_checkpoint_destroy(struct rdp_checkpoint *checkpoint);
/* Appends a zeroed array and returns its storage in *data (owned by the checkpoint), for the caller to fill. 1 to
 * RDP_CHECKPOINT_DIMS_MAX dimensions, none of extent 0; names hold no slash and occur once per group. */
int rdp_checkpoint_add_array(struct rdp_checkpoint *checkpoint, const char *group, const char *name, int dims_count,
                             const int64_t *dims, float **data);
int rdp_checkpoint_add_integer(struct rdp_checkpoint *checkpoint, const char *name, int64_t value);
int rdp_checkpoint_add_real(struct rdp_checkpoint *checkpoint, const char *name, double value);
int rdp_checkpoint_add_text(struct rdp_checkpoint *checkpoint, const char *name, const char *value);
/* NULL if absent. */
const struct rdp_checkpoint_array *rdp_checkpoint_array(const struct rdp_checkpoint *checkpoint, const char *group,
                                                        const char *name);
/* RDP_EUSAGE if absent or of the other kind. */
int rdp_checkpoint_integer(const struct rdp_checkpoint *checkpoint, const char *name, int64_t *value);
int rdp_checkpoint_real(const struct rdp_checkpoint *checkpoint, const char *name, double *value);
const char *rdp_checkpoint_text(const struct rdp_checkpoint *checkpoint, const char *name); /* NULL if absent */

/* RDP_EIO with the step that failed ("write", "fsync", "rename") and the system's reason; the old file stays. */
int rdp_checkpoint_write(const struct rdp_checkpoint *checkpoint, const char *path);
/* RDP_EUSAGE: missing, truncated, damaged, not a checkpoint, newer format. *checkpoint is the caller's. */
int rdp_checkpoint_read(struct rdp_checkpoint **checkpoint, const char *path);
/* Tells a checkpoint from a data set: only the former goes on behind its HDF5 part. RDP_EUSAGE: missing, neither of the
 * two, or too short to tell. Says nothing of the file being whole. */
int rdp_checkpoint_recognise(const char *path, int *is_checkpoint);

/*
 * The directory of a run's checkpoints: ckpt-e0012-s0004692.h5 (epoch, step), best.h5.
 */
/* "DIR/ckpt-eEEEE-sSSSSSSS.h5" into path. */
int rdp_checkpoint_path(char *path, size_t size, const char *directory, int64_t epoch, int64_t step);
/* Deletes all but the newest `keep` ckpt-*.h5 (0 keeps all), never best.h5, and stale temporary files. */
int rdp_checkpoint_prune(const char *directory, int keep);
/* The highest step among ckpt-*.h5 by their names, -1 if there are none. */
int rdp_checkpoint_newest_step(const char *directory, int64_t *step);
/* Newest file that reads without error; the skipped ones are warned about, with the reason. *checkpoint is NULL and
 * RDP_OK is returned if the directory is missing or holds none at all; RDP_EUSAGE if there are some and none is whole.
 */
int rdp_checkpoint_read_newest(struct rdp_checkpoint **checkpoint, const char *directory, char *path, size_t path_size);

#endif
