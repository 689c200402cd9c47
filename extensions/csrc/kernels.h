// The single-threaded kernels, one table a vector width. Pointers are to contiguous data; sizes
// and indices were checked by the caller (bindings.cpp) unless a comment says otherwise.
#pragma once

#include <cstdint>

template <class T>
struct Kernels {
  // One cloud (n, 3) -> s indices. `valid` points count; `start` < valid.
  void (*fps)(const T* cloud, int64_t n, int64_t valid, int64_t start, int64_t s, int64_t* out);
  // (n, d) -> d planes of `stride` >= n values, padded with NaN.
  void (*planes)(const T* cloud, int64_t n, int64_t d, int64_t stride, T* out);
  // Queries (m, d) against planes -> k nearest, ascending, ties by lower index.
  void (*knn)(const T* queries, int64_t m, const T* planes, int64_t n, int64_t d, int64_t stride,
              int64_t k, T* sqdist, int64_t* idx);
  // Queries (m, 3) against planes -> first k indices with squared distance < limit.
  void (*ball)(const T* queries, int64_t m, const T* planes, int64_t n, int64_t stride, T limit,
               int64_t k, int64_t* idx);
  // For each point of a (n, 3) the nearest of b (m, 3), m >= 1.
  void (*nearest)(const T* a, int64_t n, const T* b, int64_t m, T* sqdist, int64_t* idx);
  // The same both ways at once; n, m >= 1.
  void (*nearest_both)(const T* a, int64_t n, const T* b, int64_t m, T* dist_a, int64_t* idx_a,
                       T* dist_b, int64_t* idx_b);
  // Gradient of `nearest_both` in a and b; one target may be null. A step is 1, or 0 for one
  // value that stands for all. False: index out of range.
  bool (*nearest_backward)(const T* grad_ab, const T* grad_ba, int64_t step_ab, int64_t step_ba,
                           const T* a, int64_t n, const T* b, int64_t m, const int64_t* idx_ab,
                           const int64_t* idx_ba, T* to_a, T* to_b);
  // out (m, c) = sum over k of weight * features (n, c)[idx]. False: index out of range.
  bool (*interpolate)(const T* features, int64_t n, int64_t c, const int64_t* idx,
                      const T* weight, int64_t m, int64_t k, T* out);
  // Channels [from, to) of: to_features (n, c) += weight * grad (m, c) at idx. weight may be
  // null (ones). False: index out of range.
  bool (*scatter)(const T* grad, const int64_t* idx, const T* weight, int64_t m, int64_t k,
                  int64_t n, int64_t c, int64_t from, int64_t to, T* to_features);
  // to_weight (m, k) = grad (m, c) . features (n, c)[idx]. False: index out of range.
  bool (*dots)(const T* grad, const T* features, const int64_t* idx, int64_t m, int64_t k,
               int64_t n, int64_t c, T* to_weight);
};

// Storage of a bfloat16: the upper half of a float32.
struct Bfloat16 {
  uint16_t bits;
};

// Rows (n, c); where groups of k rows share something, it is added to each of them: (n / k, c).
template <class S>
struct RowsOf {
  const S* rows;
  const S* shared;  // or null
  int64_t k, c;
  const S* row(int64_t r) const { return rows + r * c; }
  const S* shared_of(int64_t r) const { return shared + r / k * c; }
};

// Batch normalisation of rows, and maxima of groups of them, stored as S and computed in T; see
// norm.h and groups.h. Each takes the n rows from number `from` on.
template <class S, class T>
struct RowKernels {
  // Mean (c) and sum of squared deviations from it (c).
  void (*moments)(const RowsOf<S>& x, int64_t from, int64_t n, double* mean, double* square);
  // out (n, c) = (x - mean) * scale + offset, cut off at 0 if `relu` says so. `large`: the output
  // will not stay in the cache.
  void (*normalise)(const RowsOf<S>& x, int64_t from, int64_t n, const T* mean, const T* scale,
                    const T* offset, bool relu, bool large, S* out);
  // Adds the sums over the rows of grad (n, c) and of grad * (x - mean). `cut` (n, c): the output,
  // where it was cut off at 0, or null.
  void (*products)(const S* grad, const S* cut, const RowsOf<S>& x, int64_t from, int64_t n,
                   const T* mean, double* sum, double* product);
  // out (n, c) = (grad - offset - (x - mean) * slope) * scale, grad being 0 if it is null; and the
  // sum of it over the rows, which are one group, where groups share something.
  void (*backward)(const S* grad, const S* cut, const RowsOf<S>& x, int64_t from, int64_t n,
                   const T* mean, const T* scale, const T* offset, const T* slope, bool large,
                   S* to_shared, S* out);
  // values (c) and index (c) of the largest of the rows (k, c).
  void (*largest)(const S* rows, int64_t k, int64_t c, S* values, int16_t* index);
  // out (k, c): grad (c) in the rows that `index` names, 0 elsewhere.
  void (*place)(const S* grad, const int16_t* index, int64_t k, int64_t c, bool large, S* out);
};

// q, k and v (n, d) of one head of one cloud; rows of the output lie `out_stride` apart, all others
// `stride`.
template <class S>
struct HeadOf {
  const S *q, *k, *v;
  int64_t n, d, stride, out_stride;
};
template <class S>
struct GradOf {
  S *q, *k, *v;
};

// Added to the scores (n, n) of a cloud: its row 0 if `step` is 0, which is then that of all.
template <class T>
struct BiasOf {
  const T* values;  // or null
  int64_t step;
  const T* row(int64_t i) const { return values == nullptr ? nullptr : values + i * step; }
};

// Attention, stored as S and computed in T; see attention.h. `scratch`
// has as many values as the function of that name says, and is aligned to 64 bytes.
template <class S, class T>
struct AttentionKernels {
  int64_t (*scratch)(int64_t n, int64_t d);
  // out (n, d), and of every token's scores the largest and 1 / the sum of exponentials (n, 2).
  void (*attend)(const HeadOf<S>& head, const BiasOf<T>& bias, T* scratch, S* out, T* sums);
  void (*backward)(const HeadOf<S>& head, const BiasOf<T>& bias, const S* grad, const S* out,
                   const T* sums, T* scratch, const GradOf<S>& to);
};

// Moments of `count` more rows merged into those of `before` rows.
using MergeMoments = void (*)(int64_t before, double* mean, double* square, int64_t count,
                              const double* other_mean, const double* other_square, int64_t c);

// Matching of two clouds (n, 3) within eps of the cheapest mean distance; finite coordinates.
using Auction = void (*)(const float* a, const float* b, int64_t n, float eps, int64_t* out);

struct KernelSet {
  const char* name;
  Kernels<float> f32;
  Kernels<double> f64;
  Auction auction;
  RowKernels<float, float> norm_f32;
  RowKernels<double, double> norm_f64;
  RowKernels<Bfloat16, float> norm_bf16;
  MergeMoments merge_moments;
  AttentionKernels<float, float> attention_f32;
  AttentionKernels<double, double> attention_f64;
  AttentionKernels<Bfloat16, float> attention_bf16;
};

const KernelSet& kernels_base();
#if defined(__x86_64__)
const KernelSet& kernels_avx2();
const KernelSet& kernels_avx512();
const KernelSet& kernels_avx512_bf16();
#endif

// The widest set this processor runs.
const KernelSet& kernels();
