// Chooses the widest kernels the running processor has, once.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace {
const KernelSet& choose() {
#if defined(__x86_64__)
  const char* cap = std::getenv("POINT_OPS_SIMD");  // for tests: "128-bit" or "avx2" at most
  const bool base_only = cap && std::strcmp(cap, "128-bit") == 0;
  const bool avx2_only = cap && std::strcmp(cap, "avx2") == 0;
  __builtin_cpu_init();
  if (base_only) return kernels_base();
  if (!avx2_only && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return kernels_avx512();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2")) return kernels_avx2();
#endif
  return kernels_base();
}
}  // namespace

const KernelSet& kernels() {
  static const KernelSet& chosen = choose();
  return chosen;
}
