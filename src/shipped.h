/* The recipes and sweeps that come with resnet-dp, by name. */
#ifndef RDP_SHIPPED_H
#define RDP_SHIPPED_H

#include "options.h"

/*
 * Where the file is that the user means by `name`. A name that holds a slash or a dot, or is that of a file in the
 * working directory, is a path and stays as it is. Any other is that of a `kind` ("recipe", "sweep") which lies with
 * the program: below its installation's share/resnet-dp/, or in the jobs/ of the tree in which it was built. RDP_EUSAGE
 * if there is none: the message names the nearest one and the directory.
 */
int rdp_shipped_file(const char *kind, const char *name, char path[RDP_PATH_MAX]);

#endif
