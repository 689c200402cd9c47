// Chooses the widest kernels the running processor has, once.
#include <cstdlib>
#include <cstring>

#include "kernels.h"

namespace {
const KernelSet& choose() {
#if defined(__x86_64__)
  const char* cap = std::getenv("POINT_OPS_SIMD");  // for tests: at most this
  const auto capped = [&](const char* name) { return cap && std::strcmp(cap, name) == 0; };
  __builtin_cpu_init();
  if (capped("128-bit")) return kernels_base();
  if (!capped("avx2") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl")) {
    if (!capped("avx512") && __builtin_cpu_supports("avx512bf16")) return kernels_avx512_bf16();
    return kernels_avx512();
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("bmi2") &&
      __builtin_cpu_supports("fma"))
    return kernels_avx2();
#endif
  return kernels_base();
}
}  // namespace

const KernelSet& kernels() {
  static const KernelSet& chosen = choose();
  return chosen;
}
