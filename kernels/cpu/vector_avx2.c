/* The loops of vector.h for x86-64 with AVX2 and FMA (-mavx2 -mfma). */
#define RDP_LANES 8
#define RDP_SET rdp_vector_avx2
#define RDP_SET_NAME avx2
#include "kernels/cpu/vector_body.h"
