// The kernels for AVX2. Only this file's own functions are compiled for it: standard headers come
// before the pragma (kernel_set.h), so nothing they define can leak to a lesser processor.
#if defined(__x86_64__)
#define VECTOR_BYTES 32
#define KERNEL_SET kernels_avx2
#define KERNEL_NAME "avx2"
#define KERNEL_TARGET "avx2,fma,bmi,bmi2"
#include "kernel_set.h"
#endif
