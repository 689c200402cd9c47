// The kernels for AVX-512 with products of bfloat16; see kernels_avx2.cpp.
#if defined(__x86_64__)
#define VECTOR_BYTES 64
#define KERNEL_SET kernels_avx512_bf16
#define KERNEL_NAME "avx512_bf16"
#define KERNEL_TARGET "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,avx2,fma,bmi,bmi2"
#define DOTS_BF16
#include "kernel_set.h"
#endif
