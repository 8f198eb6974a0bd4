/*
 * HDF5 for dataset*.c and checkpoint_file.c: failures, files in memory, checked reading, writing; see hdf5.h.
 */
#include "io/hdf5.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/status.h"

/* Before the first call of a visit: no printing, no plug-ins. */
static void setup(void)
{
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
}

/* Keeps the last description of a downward walk: the place where it went wrong, not the calls on the way there. */
static herr_t keep_deepest(unsigned depth, const H5E_error2_t *error, void *data)
{
    (void)depth;
    if (error->desc != NULL)
        snprintf(data, 256, "%s", error->desc);
    return 0;
}

int rdp_h5_fail(int code, const char *call, const char *path)
{
    char reason[256] = "no reason given";
    H5Ewalk2(H5E_DEFAULT, H5E_WALK_DOWNWARD, keep_deepest, reason);
    H5Eclear2(H5E_DEFAULT);
    return rdp_fail(code, "%s: HDF5 says \"%s\" at %.*s%s", path, reason, (int)strcspn(call, "("), call,
                    code == RDP_EUSAGE ? "; the file is damaged or not of this program: make or copy it again" : "");
}

/*
 * Files in memory.
 */

/* While a file is built, the driver owns the block and grows it; at H5Fclose the block stays with the image. */
static void *build_malloc(size_t size, H5FD_file_image_op_t operation, void *data)
{
    (void)operation, (void)data;
    return malloc(size);
}

static void *build_realloc(void *block, size_t size, H5FD_file_image_op_t operation, void *data)
{
    (void)operation, (void)data;
    return realloc(block, size);
}

static herr_t build_free(void *block, H5FD_file_image_op_t operation, void *data)
{
    struct rdp_h5_image *image = data;
    if (operation == H5FD_FILE_IMAGE_OP_FILE_CLOSE && image->bytes == NULL)
        image->bytes = block;
    else
        free(block);
    return 0;
}

/* While an image is read, every "copy" is the image itself. */
static void *read_malloc(size_t size, H5FD_file_image_op_t operation, void *data)
{
    struct rdp_h5_image *image = data;
    (void)operation;
    return size == image->size ? image->bytes : NULL;
}

static void *read_memcpy(void *to, const void *from, size_t size, H5FD_file_image_op_t operation, void *data)
{
    (void)size, (void)operation, (void)data;
    return to == from ? to : NULL;
}

static void *read_realloc(void *block, size_t size, H5FD_file_image_op_t operation, void *data)
{
    (void)block, (void)size, (void)operation, (void)data;
    return NULL; /* a file that is only read does not grow */
}

static herr_t read_free(void *block, H5FD_file_image_op_t operation, void *data)
{
    (void)block, (void)operation, (void)data;
    return 0;
}

/* HDF5 copies the pointer to the image with every property list; the image stays its holder's. */
static void *share_image(void *data)
{
    return data;
}

static herr_t unshare_image(void *data)
{
    (void)data;
    return 0;
}

int rdp_h5_create(struct rdp_h5_image *image, size_t growth, const char *path, hid_t *file)
{
    H5FD_file_image_callbacks_t callbacks = {build_malloc, NULL,          build_realloc, build_free,
                                             share_image,  unshare_image, image};
    int status = RDP_OK;
    herr_t done;
    setup();
    *image = (struct rdp_h5_image){NULL, 0};
    *file = -1;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS), creation = H5Pcreate(H5P_FILE_CREATE);
    RDP_H5(done, H5Pset_attr_phase_change(creation, 65535, 65535), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_obj_track_times(creation, 0), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_fapl_core(access, growth, 0), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_file_image_callbacks(access, &callbacks), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_libver_bounds(access, H5F_LIBVER_V110, H5F_LIBVER_V110), RDP_EIO, path, status, out);
    /* Metadata in blocks of its own would leave gaps that no checksum covers. */
    RDP_H5(done, H5Pset_meta_block_size(access, 0), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_small_data_block_size(access, 0), RDP_EIO, path, status, out);
    RDP_H5(*file, H5Fcreate("in memory", H5F_ACC_TRUNC, creation, access), RDP_EIO, path, status, out);
out:
    H5Pclose(creation);
    H5Pclose(access);
    return status;
}

int rdp_h5_finish(struct rdp_h5_image *image, const char *path, hid_t file)
{
    uint64_t size = 0;
    if (H5Fclose(file) < 0)
        return rdp_h5_fail(RDP_EIO, "H5Fclose", path);
    if (image->bytes == NULL)
        return rdp_fail(RDP_EINTERNAL, "%s: HDF5 closed the file in memory and kept its bytes: an object is still open",
                        path);
    /* The block is padded to whole growth steps; the superblock knows where the file ends. */
    RDP_TRY(rdp_h5_superblock(image->bytes, RDP_H5_SUPERBLOCK_SIZE, "file in memory", path, &size));
    image->size = (size_t)size;
    return RDP_OK;
}

int rdp_h5_open_image(const struct rdp_h5_image *image, const char *path, hid_t *file)
{
    union { /* the callbacks of a read-only image write nothing through this */
        const struct rdp_h5_image *constant;
        void *plain;
    } shared = {image};
    H5FD_file_image_callbacks_t callbacks = {read_malloc, read_memcpy,   read_realloc, read_free,
                                             share_image, unshare_image, shared.plain};
    int status = RDP_OK;
    herr_t done;
    setup();
    *file = -1;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    RDP_H5(done, H5Pset_fapl_core(access, 1 << 20, 0), RDP_EUSAGE, path, status, out);
    RDP_H5(done, H5Pset_file_image_callbacks(access, &callbacks), RDP_EUSAGE, path, status, out);
    RDP_H5(done, H5Pset_file_image(access, image->bytes, image->size), RDP_EUSAGE, path, status, out);
    RDP_H5(*file, H5Fopen("in memory", H5F_ACC_RDONLY, access), RDP_EUSAGE, path, status, out);
out:
    H5Pclose(access);
    return status;
}

int rdp_h5_open_file(const char *path, hid_t *file)
{
    int status = RDP_OK;
    herr_t done;
    setup();
    *file = -1;
    hid_t access = H5Pcreate(H5P_FILE_ACCESS);
    RDP_H5(done, H5Pset_fapl_sec2(access), RDP_EUSAGE, path, status, out);
    RDP_H5(done, H5Pset_file_locking(access, 0, 1), RDP_EUSAGE, path, status, out);
    RDP_H5(*file, H5Fopen(path, H5F_ACC_RDONLY, access), RDP_EUSAGE, path, status, out);
out:
    H5Pclose(access);
    return status;
}

/* HDF5 File Format Specification 3.0, II.A.2: signature, version 2 or 3, sizes of offsets and lengths (8 and 8 here),
 * flags, then the addresses of the base, the extension, the end of the file and the root, then a checksum that H5Fopen
 * verifies. */
int rdp_h5_superblock(const uint8_t *bytes, size_t size, const char *what, const char *path, uint64_t *file_size)
{
    static const uint8_t signature[8] = {0x89, 'H', 'D', 'F', '\r', '\n', 0x1a, '\n'};
    size_t compared = size < sizeof signature ? size : sizeof signature;
    if (size == 0)
        return rdp_fail(RDP_EUSAGE, "%s is empty, not a %s; make or copy it again", path, what);
    if (memcmp(bytes, signature, compared) != 0)
        return rdp_fail(RDP_EUSAGE,
                        "%s is not a %s: it does not begin as an HDF5 file does; name a file that `resnet-dp` made",
                        path, what);
    if (size < RDP_H5_SUPERBLOCK_SIZE)
        return rdp_fail(RDP_EUSAGE, "%s is truncated: it ends after %zu bytes; make or copy the %s again", path, size,
                        what);
    if (bytes[8] != 3 || bytes[9] != 8 || bytes[10] != 8)
        return rdp_fail(RDP_EUSAGE,
                        "%s is not a %s of this program: its HDF5 superblock has version %d, expected 3; "
                        "name a file that `resnet-dp` made",
                        path, what, bytes[8]);
    *file_size = 0;
    for (int i = 7; i >= 0; i--)
        *file_size = *file_size << 8 | bytes[28 + i];
    return RDP_OK;
}

/*
 * Writing.
 */

int rdp_h5_create_group(hid_t parent, const char *name, const char *path, hid_t *group)
{
    int status = RDP_OK;
    herr_t done;
    unsigned ordered = H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED;
    hid_t creation = H5Pcreate(H5P_GROUP_CREATE);
    *group = -1;
    /* Times would make two checkpoints of one state differ. */
    RDP_H5(done, H5Pset_obj_track_times(creation, 0), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_link_creation_order(creation, ordered), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_attr_creation_order(creation, ordered), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_link_phase_change(creation, 65535, 65535), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_attr_phase_change(creation, 65535, 65535), RDP_EIO, path, status, out);
    RDP_H5(*group, H5Gcreate2(parent, name, H5P_DEFAULT, creation, H5P_DEFAULT), RDP_EIO, path, status, out);
out:
    H5Pclose(creation);
    return status;
}

static int write_attribute(hid_t object, const char *name, hid_t type, hid_t space, const void *data, const char *path)
{
    int status = RDP_OK;
    herr_t done;
    hid_t attribute;
    RDP_H5(attribute, H5Acreate2(object, name, type, space, H5P_DEFAULT, H5P_DEFAULT), RDP_EIO, path, status, out);
    done = H5Awrite(attribute, type, data);
    if (done < 0)
        status = rdp_h5_fail(RDP_EIO, "H5Awrite", path);
    H5Aclose(attribute);
out:
    return status;
}

/* A fixed-length UTF-8 string type. Those of variable length live in a heap that no checksum covers. */
static hid_t text_type(size_t width)
{
    hid_t type = H5Tcopy(H5T_C_S1);
    H5Tset_size(type, width);
    H5Tset_cset(type, H5T_CSET_UTF8);
    H5Tset_strpad(type, H5T_STR_NULLPAD);
    return type;
}

int rdp_h5_write_texts(hid_t object, const char *name, const char *values, size_t width, size_t count, const char *path)
{
    hsize_t extent = count;
    hid_t type = text_type(width), space = H5Screate_simple(1, &extent, NULL);
    int status = write_attribute(object, name, type, space, values, path);
    H5Sclose(space);
    H5Tclose(type);
    return status;
}

int rdp_h5_write_text(hid_t object, const char *name, const char *value, const char *path)
{
    size_t length = strlen(value);
    hid_t type = text_type(length > 0 ? length : 1), space = H5Screate(H5S_SCALAR);
    int status = write_attribute(object, name, type, space, value, path);
    H5Sclose(space);
    H5Tclose(type);
    return status;
}

int rdp_h5_write_numbers(hid_t object, const char *name, hid_t type, size_t count, const void *data, const char *path)
{
    hsize_t extent = count;
    hid_t space = count > 0 ? H5Screate_simple(1, &extent, NULL) : H5Screate(H5S_SCALAR);
    int status = write_attribute(object, name, type, space, data, path);
    H5Sclose(space);
    return status;
}

int rdp_h5_write_array(hid_t group, const char *name, hid_t type, int rank, const hsize_t *dims, const hsize_t *chunk,
                       const void *data, const char *path)
{
    int status = RDP_OK;
    herr_t done;
    hid_t array, space = H5Screate_simple(rank, dims, NULL), creation = H5Pcreate(H5P_DATASET_CREATE);
    RDP_H5(done, H5Pset_obj_track_times(creation, 0), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_chunk(creation, rank, chunk), RDP_EIO, path, status, out);
    RDP_H5(done, H5Pset_fletcher32(creation), RDP_EIO, path, status, out);
    RDP_H5(array, H5Dcreate2(group, name, type, space, H5P_DEFAULT, creation, H5P_DEFAULT), RDP_EIO, path, status, out);
    done = H5Dwrite(array, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data);
    if (done < 0)
        status = rdp_h5_fail(RDP_EIO, "H5Dwrite", path);
    if (H5Dclose(array) < 0 && status == RDP_OK)
        status = rdp_h5_fail(RDP_EIO, "H5Dclose", path);
out:
    H5Pclose(creation);
    H5Sclose(space);
    return status;
}

/*
 * Reading.
 */

static int fail_form(const char *path, const char *name, const char *wrong)
{
    return rdp_fail(RDP_EUSAGE, "%s: \"%s\" %s; the file is damaged or not of this program: make or copy it again",
                    path, name, wrong);
}

int rdp_h5_open_group(hid_t parent, const char *name, const char *path, hid_t *group)
{
    *group = -1;
    if (H5Lexists(parent, name, H5P_DEFAULT) <= 0)
        return fail_form(path, name, "is missing");
    *group = H5Gopen2(parent, name, H5P_DEFAULT);
    return *group < 0 ? rdp_h5_fail(RDP_EUSAGE, "H5Gopen2", path) : RDP_OK;
}

struct links {
    size_t hard, other;
};

static herr_t count_link(hid_t group, const char *name, const H5L_info_t *info, void *data)
{
    struct links *links = data;
    (void)group, (void)name;
    if (info->type == H5L_TYPE_HARD)
        links->hard++;
    else
        links->other++;
    return 0;
}

int rdp_h5_check_links(hid_t group, size_t count, const char *path)
{
    struct links links = {0, 0};
    if (H5Literate(group, H5_INDEX_NAME, H5_ITER_NATIVE, NULL, count_link, &links) < 0)
        return rdp_h5_fail(RDP_EUSAGE, "H5Literate", path);
    if (links.other > 0)
        return rdp_fail(RDP_EUSAGE, "%s holds soft or external links, which are not followed; make the file again",
                        path);
    if (links.hard != count)
        return rdp_fail(RDP_EUSAGE, "%s: a group holds %zu objects where %zu are expected; make the file again", path,
                        links.hard, count);
    return RDP_OK;
}

/* Opens an attribute whose extent is a scalar (count 0) or `count` elements of one dimension. */
static int open_attribute(hid_t object, const char *name, size_t count, const char *path, hid_t *attribute)
{
    *attribute = -1;
    if (H5Aexists(object, name) <= 0)
        return fail_form(path, name, "is missing");
    *attribute = H5Aopen(object, name, H5P_DEFAULT);
    if (*attribute < 0)
        return rdp_h5_fail(RDP_EUSAGE, "H5Aopen", path);
    hid_t space = H5Aget_space(*attribute);
    hsize_t extent = 0;
    int rank = H5Sget_simple_extent_ndims(space);
    int fits = H5Sget_simple_extent_type(space) == (count > 0 ? H5S_SIMPLE : H5S_SCALAR) && rank == (count > 0);
    if (fits && rank == 1)
        fits = H5Sget_simple_extent_dims(space, &extent, NULL) == 1 && extent == count;
    H5Sclose(space);
    if (fits)
        return RDP_OK;
    H5Aclose(*attribute);
    return fail_form(path, name, "has another number of elements than expected");
}

int rdp_h5_read_texts(hid_t object, const char *name, char *values, size_t width, size_t count, const char *path)
{
    hid_t attribute;
    int status = RDP_OK;
    RDP_TRY(open_attribute(object, name, count, path, &attribute));
    hid_t stored = H5Aget_type(attribute), wanted = text_type(width);
    H5Tset_strpad(wanted, H5T_STR_NULLTERM);
    if (H5Tget_class(stored) != H5T_STRING || H5Tis_variable_str(stored) != 0 || H5Tget_cset(stored) != H5T_CSET_UTF8)
        status = fail_form(path, name, "is not a fixed-length UTF-8 string");
    else if (H5Tget_size(stored) > (count > 0 ? width : width - 1)) /* a list is stored with its terminators */
        status = fail_form(path, name, "is longer than expected");
    else if (H5Aread(attribute, wanted, values) < 0)
        status = rdp_h5_fail(RDP_EUSAGE, "H5Aread", path);
    H5Tclose(wanted);
    H5Tclose(stored);
    H5Aclose(attribute);
    return status;
}

int rdp_h5_read_text(hid_t object, const char *name, char *value, size_t size, const char *path)
{
    return rdp_h5_read_texts(object, name, value, size, 0, path);
}

int rdp_h5_read_numbers(hid_t object, const char *name, hid_t type, size_t count, void *data, const char *path)
{
    hid_t attribute;
    int status = RDP_OK;
    RDP_TRY(open_attribute(object, name, count, path, &attribute));
    hid_t stored = H5Aget_type(attribute);
    if (H5Tequal(stored, type) <= 0)
        status = fail_form(path, name, "has another number type than expected");
    else if (H5Aread(attribute, type, data) < 0)
        status = rdp_h5_fail(RDP_EUSAGE, "H5Aread", path);
    H5Tclose(stored);
    H5Aclose(attribute);
    return status;
}

/* Layout and filters: chunks of which every one is stored, Fletcher32 and nothing else, all in this file. */
static int check_storage(hid_t array, int rank, const hsize_t *dims, size_t element, const char *name, const char *path)
{
    hsize_t chunk[H5S_MAX_RANK], chunk_bytes = element, chunks = 1;
    unsigned flags, filter_info;
    size_t parameters = 0;
    int status = RDP_OK;
    hid_t creation = H5Dget_create_plist(array);
    if (creation < 0)
        return rdp_h5_fail(RDP_EUSAGE, "H5Dget_create_plist", path);
    if (H5Pget_layout(creation) != H5D_CHUNKED || H5Pget_chunk(creation, rank, chunk) != rank)
        status = fail_form(path, name, "is not stored in chunks");
    else if (H5Pget_external_count(creation) != 0)
        status = fail_form(path, name, "points to data outside the file");
    else if (H5Pget_nfilters(creation) != 1 ||
             H5Pget_filter2(creation, 0, &flags, &parameters, NULL, 0, NULL, &filter_info) != H5Z_FILTER_FLETCHER32)
        status = fail_form(path, name, "has other filters than the Fletcher32 checksum");
    H5Pclose(creation);
    if (status != RDP_OK)
        return status;
    for (int i = 0; i < rank; i++) {
        if (chunk[i] == 0 || chunk[i] > dims[i])
            return fail_form(path, name, "has chunks larger than itself");
        chunk_bytes *= chunk[i]; /* no overflow: at most the bytes of the array, which are bounded */
        chunks *= (dims[i] + chunk[i] - 1) / chunk[i];
    }
    if (H5Dget_storage_size(array) != chunks * (chunk_bytes + 4))
        return fail_form(path, name, "lacks a part of its data");
    return RDP_OK;
}

static int check_extent(hid_t array, int max_rank, size_t element, uint64_t limit, const char *name, const char *path,
                        int *rank, hsize_t *dims)
{
    hsize_t largest[H5S_MAX_RANK], extent[H5S_MAX_RANK];
    uint64_t room = limit / element;
    hid_t space = H5Dget_space(array);
    *rank = H5Sget_simple_extent_dims(space, extent, largest);
    int simple = H5Sget_simple_extent_type(space) == H5S_SIMPLE;
    H5Sclose(space);
    if (!simple || *rank < 1 || *rank > max_rank)
        return fail_form(path, name, "has another number of dimensions than expected");
    for (int i = 0; i < *rank; i++) {
        if (extent[i] == 0 || extent[i] != largest[i])
            return fail_form(path, name, "is empty or extendible");
        if (extent[i] > room)
            return fail_form(path, name, "claims more data than the file can hold");
        room /= extent[i];
        dims[i] = extent[i];
    }
    return RDP_OK;
}

int rdp_h5_open_array(hid_t group, const char *name, hid_t type, int max_rank, uint64_t limit, const char *path,
                      hid_t *array, int *rank, hsize_t *dims)
{
    int status = RDP_OK;
    *array = -1;
    if (H5Lexists(group, name, H5P_DEFAULT) <= 0)
        return fail_form(path, name, "is missing");
    *array = H5Dopen2(group, name, H5P_DEFAULT);
    if (*array < 0)
        return rdp_h5_fail(RDP_EUSAGE, "H5Dopen2", path);
    hid_t stored = H5Dget_type(*array);
    if (H5Tequal(stored, type) <= 0)
        status = fail_form(path, name, "has another number type than expected");
    H5Tclose(stored);
    if (status == RDP_OK)
        status = check_extent(*array, max_rank, H5Tget_size(type), limit, name, path, rank, dims);
    if (status == RDP_OK)
        status = check_storage(*array, *rank, dims, H5Tget_size(type), name, path);
    if (status != RDP_OK) {
        H5Dclose(*array);
        *array = -1;
    }
    return status;
}
