/* What all devices share; see kernels.h. */
#include "kernels/kernels.h"

void rdp_device_close(struct rdp_device *device)
{
    if (device != NULL)
        device->ops->close(device);
}
