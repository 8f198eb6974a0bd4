/*
 * What dataset*.c and checkpoint_file.c share of HDF5: failures in HDF5's own words, files built and opened in memory,
 * attributes and arrays that are checked against what is expected before a byte is allocated for them. Private to io/,
 * and with those the only place that includes the library's header.
 *
 * A file is material from outside: HDF5 never prints by itself, loads no plug-ins, follows no links but hard ones, and
 * reads only objects whose name, type, rank, extent, layout and filters are the ones that this program writes.
 */
#ifndef RDP_IO_HDF5_H
#define RDP_IO_HDF5_H

#ifndef H5_USE_110_API
#define H5_USE_110_API 1 /* versioned calls mean the same with 1.10, 1.12 and 1.14 */
#endif
#include <hdf5.h>
#include <stddef.h>
#include <stdint.h>

/* Jumps to `label` with `status` set when a call failed; the value of the call goes to `value`. Evaluates once. */
#define RDP_H5(value, call, code, path, status, label) \
    do { \
        (value) = (call); \
        if ((value) < 0) { \
            (status) = rdp_h5_fail((code), #call, (path)); \
            goto label; \
        } \
    } while (0)

/* Records "path: call failed: HDF5's reason; what to do" and returns `code`. */
int rdp_h5_fail(int code, const char *call, const char *path);

/*
 * A file image in memory. The core driver's image callbacks hand over the buffer itself, so nothing is copied; and at
 * H5Fclose they give the final bytes, where H5Fget_file_image gives a superblock with a wrong checksum (before
 * HDF5 2.0).
 */
struct rdp_h5_image {
    uint8_t *bytes; /* owned by whoever holds the image; free() */
    size_t size;    /* of the file; the block may be larger */
};
/* Creates an empty file in memory. `growth`: by how many bytes the block grows. `image` must live until H5Fclose, which
 * fills it. */
int rdp_h5_create(struct rdp_h5_image *image, size_t growth, const char *path, hid_t *file);
/* Closes the file: its bytes are in the image. */
int rdp_h5_finish(struct rdp_h5_image *image, const char *path, hid_t file);
/* Opens the bytes read-only. The image must live until the file is closed. */
int rdp_h5_open_image(const struct rdp_h5_image *image, const char *path, hid_t *file);
/* Opens a file on disk read-only, without file locks (many parallel file systems have none). */
int rdp_h5_open_file(const char *path, hid_t *file);
/* Reads the size of the HDF5 file from the first bytes of it. RDP_EUSAGE if they are no superblock of the 1.10 format.
 * `what` names what was expected: "data set". */
enum { RDP_H5_SUPERBLOCK_SIZE = 48 };
int rdp_h5_superblock(const uint8_t *bytes, size_t size, const char *what, const char *path, uint64_t *file_size);

/* Writing. A group keeps its links and attributes in its header (checksummed, in order of creation), however many. */
int rdp_h5_create_group(hid_t parent, const char *name, const char *path, hid_t *group);
int rdp_h5_write_text(hid_t object, const char *name, const char *value, const char *path);
/* `count` fixed-length strings of `width` bytes each. */
int rdp_h5_write_texts(hid_t object, const char *name, const char *values, size_t width, size_t count,
                       const char *path);
/* count 0: a scalar. */
int rdp_h5_write_numbers(hid_t object, const char *name, hid_t type, size_t count, const void *data, const char *path);
/* An array in chunks with Fletcher32; `chunk` as long as dims. */
int rdp_h5_write_array(hid_t group, const char *name, hid_t type, int rank, const hsize_t *dims, const hsize_t *chunk,
                       const void *data, const char *path);

/* Reading: RDP_EUSAGE if absent, or of another type, rank or extent. */
int rdp_h5_open_group(hid_t parent, const char *name, const char *path, hid_t *group);
int rdp_h5_read_text(hid_t object, const char *name, char *value, size_t size, const char *path);
int rdp_h5_read_texts(hid_t object, const char *name, char *values, size_t width, size_t count, const char *path);
int rdp_h5_read_numbers(hid_t object, const char *name, hid_t type, size_t count, void *data, const char *path);
/* Opens an array and checks it: type, rank <= max_rank, chunks, Fletcher32 the only filter, every chunk there, no
 * external or virtual storage, and no more than `limit` bytes. *array is the caller's (H5Dclose). */
int rdp_h5_open_array(hid_t group, const char *name, hid_t type, int max_rank, uint64_t limit, const char *path,
                      hid_t *array, int *rank, hsize_t *dims);
/* RDP_EUSAGE unless the group holds exactly `count` objects, all by hard links. */
int rdp_h5_check_links(hid_t group, size_t count, const char *path);

#endif
