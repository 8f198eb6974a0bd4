/* Which versions of io/'s libraries this program was compiled with and runs with; for `info` and bench's record. */
#ifndef RDP_IO_VERSIONS_H
#define RDP_IO_VERSIONS_H

enum { RDP_IO_LIBRARIES = 3 };

struct rdp_library_version {
    const char *name;                 /* "HDF5"; static */
    char compiled[32], running[32];   /* "1.10.8" */
};

void rdp_io_versions(struct rdp_library_version versions[RDP_IO_LIBRARIES]);

#endif
