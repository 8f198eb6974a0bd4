/* The loops of vector.h for x86-64 with AVX-512 F, BW, DQ and VL. */
#define RDP_LANES 16
#define RDP_SET rdp_vector_avx512
#define RDP_SET_NAME avx512
#include "kernels/cpu/vector_body.h"
