/* The loops of vector.h for every processor. */
#define RDP_LANES 8
#define RDP_SET rdp_vector_generic
#define RDP_SET_NAME generic
#include "kernels/cpu/vector_body.h"
