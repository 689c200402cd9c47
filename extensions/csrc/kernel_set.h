// Body of kernels_*.cpp: compiles every kernel for one vector width.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <type_traits>
#include <utility>
#include <vector>

#include "kernels.h"
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#if defined(KERNEL_TARGET)
#define KERNEL_STRING(x) #x
#define KERNEL_PRAGMA(x) _Pragma(KERNEL_STRING(x))
#if defined(__clang__)
KERNEL_PRAGMA(clang attribute push(__attribute__((target(KERNEL_TARGET))), apply_to = function))
#else
#pragma GCC push_options
KERNEL_PRAGMA(GCC target KERNEL_TARGET)
#endif
#endif

namespace {
#include "simd.h"
#include "fps.h"
#include "neighbours.h"
#include "chamfer.h"
#include "rows.h"
#include "auction.h"
#include "norm.h"
#include "groups.h"
#include "attention.h"

template <class T>
constexpr Kernels<T> table() {
  return {fps<T>,          planes<T>,           knn<T>,         ball<T>,    nearest<T>,
          nearest_both<T>, nearest_backward<T>, interpolate<T>, scatter<T>, dots<T>};
}
template <class S, class T>
constexpr RowKernels<S, T> norm_table() {
  return {moments<S, T>, normalise<S, T>, products<S, T>, normalise_backward<S, T>,
          largest<S, T>, place<S>};
}
template <class S, class T>
constexpr AttentionKernels<S, T> attention_table() {
  return {attention_scratch, attend<S, T>, attend_backward<S, T>};
}
}  // namespace

const KernelSet& KERNEL_SET() {
  static const KernelSet set{KERNEL_NAME,
                             table<float>(),
                             table<double>(),
                             auction,
                             norm_table<float, float>(),
                             norm_table<double, double>(),
                             norm_table<Bfloat16, float>(),
                             merge_moments,
                             attention_table<float, float>(),
                             attention_table<double, double>(),
                             attention_table<Bfloat16, float>()};
  return set;
}

#if defined(KERNEL_TARGET)
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
