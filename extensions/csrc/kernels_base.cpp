// The kernels for the width every processor of the architecture has (SSE2, NEON).
#define VECTOR_BYTES 16
#define KERNEL_SET kernels_base
#define KERNEL_NAME "128-bit"
#include "kernel_set.h"
