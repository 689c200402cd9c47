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
// x - 0 is x, so this is one broadcast; filling lane by lane would be one a lane.
template <class T>
static inline Vec<T> splat(T value) {
  return value - Vec<T>{};
}
template <class T>
static inline IVec<T> isplat(typename Lanes<T>::Index value) {
  return value - IVec<T>{};
}
template <class T>
static inline IVec<T> lane_numbers() {
  alignas(64) static const typename Lanes<T>::Index numbers[16] = {0, 1, 2,  3,  4,  5,  6,  7,
                                                                   8, 9, 10, 11, 12, 13, 14, 15};
  IVec<T> v;
  __builtin_memcpy(&v, numbers, sizeof v);
  return v;
}

// a when a < b, else b: a NaN in a yields b. x86 has this as one instruction, which the compiler
// does not see behind the comparison.
#if defined(__x86_64__)
#if VECTOR_BYTES == 64
#define X86(name) _mm512_##name
#elif VECTOR_BYTES == 32
#define X86(name) _mm256_##name
#else
#define X86(name) _mm_##name
#endif
template <class T>
static inline Vec<T> lesser(Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)X86(min_ps)(a, b);
  else
    return (Vec<T>)X86(min_pd)(a, b);
}
template <class T>
static inline Vec<T> greater(Vec<T> a, Vec<T> b) {
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)X86(max_ps)(a, b);
  else
    return (Vec<T>)X86(max_pd)(a, b);
}
#else
template <class T>
static inline Vec<T> lesser(Vec<T> a, Vec<T> b) {
  return a < b ? a : b;
}
template <class T>
static inline Vec<T> greater(Vec<T> a, Vec<T> b) {
  return a > b ? a : b;
}
#endif

// a * b + c, in one rounding where the processor has that.
template <class T>
static inline Vec<T> madd(Vec<T> a, Vec<T> b, Vec<T> c) {
#if defined(__x86_64__) && VECTOR_BYTES > 16
  if constexpr (sizeof(T) == 4)
    return (Vec<T>)X86(fmadd_ps)(a, b, c);
  else
    return (Vec<T>)X86(fmadd_pd)(a, b, c);
#else
  return a * b + c;
#endif
}

// The lesser of two squared distances, b never NaN: a NaN in a yields b, as with `lesser`. Bits of
// floats that are not negative order like the floats, those of any NaN come last, and processors
// whose float minimum shares a unit with the additions have the integer one elsewhere.
template <class T>
static inline Vec<T> lesser_square(Vec<T> a, Vec<T> b) {
#if VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm512_min_epu32((__m512i)a, (__m512i)b);
#elif VECTOR_BYTES == 32
  if constexpr (sizeof(T) == 4) return (Vec<T>)_mm256_min_epu32((__m256i)a, (__m256i)b);
#endif
  return lesser<T>(a, b);
}

// Smallest lane; none is NaN.
template <class T>
static inline T least_lane(Vec<T> v) {
#if VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return _mm512_reduce_min_ps((__m512)v);
#endif
  T value = v[0];
  for (int i = 1; i < Lanes<T>::count; ++i) value = std::min<T>(value, v[i]);
  return value;
}

// Largest lane, and the sum of all.
template <class T>
static inline T greatest_lane(Vec<T> v) {
#if VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return _mm512_reduce_max_ps((__m512)v);
#endif
  T value = v[0];
  for (int i = 1; i < Lanes<T>::count; ++i) value = std::max<T>(value, v[i]);
  return value;
}
template <class T>
static inline T sum_of_lanes(Vec<T> v) {
#if VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4) return _mm512_reduce_add_ps((__m512)v);
#endif
  T value = v[0];
  for (int i = 1; i < Lanes<T>::count; ++i) value += v[i];
  return value;
}

// One bit a lane of a comparison's result.
template <class T>
static inline unsigned bits_of(IVec<T> mask) {
#if VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4)
    return _mm512_movepi32_mask((__m512i)mask);
  else
    return _mm512_movepi64_mask((__m512i)mask);
#elif VECTOR_BYTES == 32
  if constexpr (sizeof(T) == 4)
    return unsigned(_mm256_movemask_ps((__m256)mask));
  else
    return unsigned(_mm256_movemask_pd((__m256d)mask));
#else
  unsigned bits = 0;
  for (int i = 0; i < Lanes<T>::count; ++i) bits |= unsigned(mask[i] & 1) << i;
  return bits;
#endif
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

// One bit a lane of a < b, a == b and a <= b. With AVX-512 a comparison has a mask at once, which
// the compiler otherwise spreads over a vector and collects again.
template <class T>
static inline unsigned less_bits(Vec<T> a, Vec<T> b) {
#if VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LT_OQ);
  else
    return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_LT_OQ);
#else
  return bits_of<T>(a < b);
#endif
}
template <class T>
static inline unsigned equal_bits(Vec<T> a, Vec<T> b) {
#if VECTOR_BYTES == 64
  if constexpr (sizeof(T) == 4)
    return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_EQ_OQ);
  else
    return _mm512_cmp_pd_mask((__m512d)a, (__m512d)b, _CMP_EQ_OQ);
#else
  return bits_of<T>(a == b);
#endif
}
static inline unsigned at_most_bits(Vec<float> a, Vec<float> b) {
#if VECTOR_BYTES == 64
  return _mm512_cmp_ps_mask((__m512)a, (__m512)b, _CMP_LE_OQ);
#else
  return bits_of<float>(a <= b);
#endif
}
static inline unsigned at_most_bits(IVec<float> a, IVec<float> b) {
#if VECTOR_BYTES == 64
  return _mm512_cmple_epi32_mask((__m512i)a, (__m512i)b);
#else
  return bits_of<float>(a <= b);
#endif
}
typedef uint64_t UVec __attribute__((vector_size(VECTOR_BYTES)));
static inline unsigned less_bits(UVec a, UVec b) {
#if VECTOR_BYTES == 64
  return _mm512_cmplt_epu64_mask((__m512i)a, (__m512i)b);
#else
  return bits_of<double>((IVec<double>)(a < b));
#endif
}

// Appends the numbers base + lane of the lanes set in `bits`; may write a whole vector.
static inline int append_lanes(unsigned bits, int32_t base, int32_t* out) {
#if VECTOR_BYTES == 64
  const __m512i number = _mm512_add_epi32(_mm512_set1_epi32(base), (__m512i)lane_numbers<float>());
  _mm512_storeu_si512(out, _mm512_maskz_compress_epi32(__mmask16(bits), number));
  return __builtin_popcount(bits);
#else
  int n = 0;
  for (; bits; bits &= bits - 1) out[n++] = base + __builtin_ctz(bits);
  return n;
#endif
}
