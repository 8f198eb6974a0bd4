/* See versions.h. */
#include "io/versions.h"

#include <png.h>
#include <stdio.h>
#include <zlib.h>

#include "io/hdf5.h"

void rdp_io_versions(struct rdp_library_version versions[RDP_IO_LIBRARIES])
{
    unsigned major = 0, minor = 0, release = 0;
    H5get_libversion(&major, &minor, &release);
    versions[0].name = "HDF5";
    snprintf(versions[0].compiled, sizeof versions[0].compiled, "%d.%d.%d", H5_VERS_MAJOR, H5_VERS_MINOR,
             H5_VERS_RELEASE);
    snprintf(versions[0].running, sizeof versions[0].running, "%u.%u.%u", major, minor, release);
    versions[1].name = "libpng";
    snprintf(versions[1].compiled, sizeof versions[1].compiled, "%s", PNG_LIBPNG_VER_STRING);
    snprintf(versions[1].running, sizeof versions[1].running, "%s", png_get_libpng_ver(NULL));
    versions[2].name = "zlib";
    snprintf(versions[2].compiled, sizeof versions[2].compiled, "%s", ZLIB_VERSION);
    snprintf(versions[2].running, sizeof versions[2].running, "%s", zlibVersion());
}
