// Vectors of the width the including file chose (VECTOR_BYTES), through the compiler's vector
// types: one source serves SSE2, AVX2, AVX-512 and NEON. Included by kernels_*.cpp only.
#pragma once

#include <cstdint>
#include <limits>

template <class T>
struct Lanes {
  using Index = std::conditional_t<sizeof(T) == 4, int32_t, int64_t>;
  typedef T Vec __attribute__((vector_size(VECTOR_BYTES)));
  typedef Index IVec __attribute__((vector_size(VECTOR_BYTES)));
  static constexpr int count = VECTOR_BYTES / int(sizeof(T));
};
template <class T>
using Vec = typename Lanes<T>::Vec;
template <class T>
using IVec = typename Lanes<T>::IVec;

template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();

template <class T>
static inline Vec<T> load(const T* from) {
  Vec<T> v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <class T>
static inline void store(T* to, Vec<T> v) {
  __builtin_memcpy(to, &v, sizeof v);
}
template <class T>
static inline Vec<T> splat(T value) {
  Vec<T> v;
  for (int i = 0; i < Lanes<T>::count; ++i) v[i] = value;
  return v;
}
template <class T>
static inline IVec<T> isplat(typename Lanes<T>::Index value) {
  IVec<T> v;
  for (int i = 0; i < Lanes<T>::count; ++i) v[i] = value;
  return v;
}

// a when a < b, else b: a NaN in a yields b.
template <class T>
static inline Vec<T> lesser(Vec<T> a, Vec<T> b) {
  return a < b ? a : b;
}
template <class T>
static inline Vec<T> greater(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}

// Squared distance summed x, y, z in this order and never fused (-ffp-contract=off), so that
// every width, and the torch reference, give the same bits.
template <class T>
static inline Vec<T> squared(Vec<T> x, Vec<T> y, Vec<T> z, Vec<T> cx, Vec<T> cy, Vec<T> cz) {
  const Vec<T> dx = x - cx, dy = y - cy, dz = z - cz;
  return dx * dx + dy * dy + dz * dz;
}

// Largest lane, ties by the smaller entry of `index`.
template <class T>
struct Best {
  T value;
  int64_t index;
};
template <class T>
static inline Best<T> best_lane(Vec<T> value, IVec<T> index) {
  Best<T> best{value[0], index[0]};
  for (int i = 1; i < Lanes<T>::count; ++i) {
    const bool wins =
        value[i] > best.value || (value[i] == best.value && int64_t(index[i]) < best.index);
    best.value = wins ? value[i] : best.value;
    best.index = wins ? int64_t(index[i]) : best.index;
  }
  return best;
}
#if VECTOR_BYTES == 64
template <>
inline Best<float> best_lane<float>(Vec<float> value, IVec<float> index) {
  const float top = _mm512_reduce_max_ps((__m512)value);
  const __mmask16 at = _mm512_cmp_ps_mask((__m512)value, _mm512_set1_ps(top), _CMP_EQ_OQ);
  return {top, _mm512_mask_reduce_min_epi32(at, (__m512i)index)};
}
#endif

// Writes (bits of d) << 32 | index for the lanes with d <= limit; returns how many. d is >= 0,
// so the packed numbers order like (d, index).
static inline int pack_below(Vec<float> d, float limit, int32_t base, uint64_t* out) {
#if VECTOR_BYTES == 64
  const __mmask16 m = _mm512_cmp_ps_mask((__m512)d, _mm512_set1_ps(limit), _CMP_LE_OQ);
  if (!m) return 0;
  const __m512i lane = _mm512_add_epi32(
      _mm512_set1_epi32(base),
      _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  unsigned left = m;
  alignas(64) uint32_t bits[16], index[16];
  _mm512_store_si512(bits, _mm512_castps_si512((__m512)d));
  _mm512_store_si512(index, lane);
  int n = 0;
  for (; left; left &= left - 1) {
    const int i = __builtin_ctz(left);
    out[n++] = uint64_t(bits[i]) << 32 | index[i];
  }
  return n;
#elif VECTOR_BYTES == 32
  const __m256 cmp = _mm256_cmp_ps((__m256)d, _mm256_set1_ps(limit), _CMP_LE_OQ);
  unsigned left = unsigned(_mm256_movemask_ps(cmp));
  int n = 0;
  for (; left; left &= left - 1) {
    const int i = __builtin_ctz(left);
    uint32_t bits;
    const float value = d[i];
    __builtin_memcpy(&bits, &value, 4);
    out[n++] = uint64_t(bits) << 32 | uint32_t(base + i);
  }
  return n;
#else
  int n = 0;
  for (int i = 0; i < Lanes<float>::count; ++i) {
    uint32_t bits;
    const float value = d[i];
    __builtin_memcpy(&bits, &value, 4);
    out[n] = uint64_t(bits) << 32 | uint32_t(base + i);
    n += value <= limit;
  }
  return n;
#endif
}
