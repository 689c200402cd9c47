// Attention of one head of one cloud: softmax(q k' / sqrt(d) + bias) v, and its gradient.
//
// S and T as in norm.h. Rows of q, k and v lie 3 C apart, as the layer that makes them leaves them,
// and rows of the output C: nothing is sorted by heads. A head of a cloud is small (64 tokens of 64
// values are 16 KB), so everything in between stays in the cache.

constexpr int64_t kPad = 16;  // rows of scratch are padded to whole vectors of every width
static inline int64_t padded(int64_t n) { return (n + kPad - 1) / kPad * kPad; }

// e^x to the precision of T for x that is not much larger than 0; 0 where that is below the
// smallest normal number. A NaN stays one.
static inline Vec<float> exponential(Vec<float> x) {
  constexpr float log2e = 1.44269504f, high = 0.693359375f, low = -2.12194440e-4f;  // ln 2 in parts
  constexpr float shift = 12582912;  // 1.5 * 2^23: what is added to it is rounded to an integer
  const Vec<float> t = madd<float>(x, splat(log2e), splat(shift));
  const Vec<float> n = t - shift;
  const Vec<float> r = madd<float>(n, splat(-low), madd<float>(n, splat(-high), x));
  Vec<float> sum = splat(1 / 5040.f);  // Taylor, |r| <= ln 2 / 2: what is left out is below 6e-9
  for (const float c : {1 / 720.f, 1 / 120.f, 1 / 24.f, 1 / 6.f, .5f, 1.f, 1.f})
    sum = madd<float>(sum, r, splat(c));
  const Vec<float> power = (Vec<float>)(((IVec<float>)t << 23) + 0x3f800000);
  return x < -87.3f ? Vec<float>{} : sum * power;
}
static inline Vec<double> exponential(Vec<double> x) {
  for (int i = 0; i < Lanes<double>::count; ++i) x[i] = std::exp(x[i]);
  return x;
}

// Rows and columns of a square of vectors change places: neighbouring rows first swap every other
// column, then rows two apart swap pairs of columns, and so on.
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES 1
#endif
#endif
template <int Step, class V, int... I>
static inline void swap_sides(V& a, V& b, std::integer_sequence<int, I...>) {
#if SHUFFLES
  constexpr int L = sizeof...(I);
  const V first = __builtin_shufflevector(a, b, (I & Step ? L + I - Step : I)...);
  b = __builtin_shufflevector(a, b, (I & Step ? L + I : I + Step)...);
  a = first;
#else
  const V old = a;
  ((a[I] = I & Step ? b[I & ~Step] : old[I]), ...);
  ((b[I] = I & Step ? b[I] : old[I | Step]), ...);
#endif
}
template <int Step, class V, int L>
static inline void turn(V (&rows)[L]) {
  for (int i = 0; i < L; ++i)
    if (!(i & Step))
      swap_sides<Step>(rows[i], rows[i + Step], std::make_integer_sequence<int, L>{});
  if constexpr (2 * Step < L) turn<2 * Step>(rows);
}

// Both sides of products as values of T. A matrix a may be given by its rows (`along`) or, as a
// pile of the rows that a product sums over, turned (`across`); b always is such a pile.
template <class S, class T>
struct Plain {
  using Element = T;
  static constexpr int64_t per = 1;      // values of an element, neighbours along the sum
  static constexpr bool packs = false;  // whether elements differ from the values of a result

  static Vec<T> vector(const T* from) { return load(from); }
  static Vec<T> everywhere(T value) { return splat(value); }
  static Vec<T> add(Vec<T> a, Vec<T> b, Vec<T> c) { return madd<T>(a, b, c); }

  static void along(const S* from, int64_t stride, int64_t n, int64_t d, T* to) {
    constexpr int L = Lanes<T>::count;
    const int64_t width = padded(d);
    for (int64_t i = 0; i < n; ++i, from += stride, to += width) {
      int64_t c = 0;
      for (; c + L <= d; c += L) store(to + c, wides(from + c));
      for (; c < width; ++c) to[c] = c < d ? wide(from + c) : T(0);
    }
  }
  static void across(const S* from, int64_t stride, int64_t n, int64_t d, T* to) {
    along(from, stride, n, d, to);
  }
  // The pile of columns: (d, padded n).
  static void turned(const S* from, int64_t stride, int64_t n, int64_t d, T* to) {
    constexpr int L = Lanes<T>::count;
    const int64_t width = padded(n);
    for (int64_t i = 0; i < width; i += L) {
      int64_t c = 0;
      for (; c + L <= d; c += L) {
        Vec<T> rows[L];
        for (int r = 0; r < L; ++r)
          rows[r] = i + r < n ? wides(from + (i + r) * stride + c) : Vec<T>{};
        turn<1>(rows);
        for (int r = 0; r < L; ++r) store(to + (c + r) * width + i, rows[r]);
      }
      for (; c < d; ++c)
        for (int r = 0; r < L; ++r)
          to[c * width + i + r] = i + r < n ? wide(from + (i + r) * stride + c) : T(0);
    }
  }
};

#if defined(DOTS_BF16)
// Both sides as pairs of bfloat16, whose products the processor adds to a float in one go; d is a
// multiple of kPad.
struct Pairs {
  using Element = uint32_t;
  static constexpr int64_t per = 2;
  static constexpr bool packs = true;

  static WordVec vector(const uint32_t* from) {
    WordVec v;
    __builtin_memcpy(&v, from, sizeof v);
    return v;
  }
  static WordVec everywhere(uint32_t pair) { return pair - WordVec{}; }
  static Vec<float> add(WordVec a, WordVec b, Vec<float> c) {
    return (Vec<float>)_mm512_dpbf16_ps((__m512)c, (__m512bh)a, (__m512bh)b);
  }

  static void along(const Bfloat16* from, int64_t stride, int64_t n, int64_t d, uint32_t* to) {
    for (int64_t i = 0; i < n; ++i, from += stride, to += d / 2)
      for (int64_t c = 0; c < d; c += 16) {
        HalfVec pairs;
        __builtin_memcpy(&pairs, from + c, sizeof pairs);
        __builtin_memcpy(to + c / 2, &pairs, sizeof pairs);
      }
  }
  static void across(const Bfloat16* from, int64_t stride, int64_t n, int64_t d, uint32_t* to) {
    for (int64_t i = 0; i < n; i += 2, from += 2 * stride, to += d)
      for (int64_t c = 0; c < d; c += 16)
        put(halves(from + c), i + 1 < n ? halves(from + stride + c) : WordVec{}, to + c);
  }
  static void turned(const Bfloat16* from, int64_t stride, int64_t n, int64_t d, uint32_t* to) {
    const int64_t width = padded(n);
    for (int64_t i = 0; i < width; i += 16)
      for (int64_t c = 0; c < d / 2; c += 16) {
        const __mmask16 some = d / 2 - c < 16 ? 0xff : 0xffff;
        WordVec rows[16];
        for (int r = 0; r < 16; ++r)
          rows[r] = i + r < n ? (WordVec)_mm512_maskz_loadu_epi32(
                                    some, from + (i + r) * stride + 2 * c)
                              : WordVec{};
        turn<1>(rows);
        for (int r = 0; r < 16 && c + r < d / 2; ++r)
          __builtin_memcpy(to + (c + r) * width + i, &rows[r], sizeof rows[r]);
      }
  }
  // A row of a result as pairs of neighbours.
  static void pack_along(const float* from, int64_t n, uint32_t* to) {
    for (int64_t j = 0; j < n; j += 16) {
      const __m256bh pairs = _mm512_cvtneps_pbh((__m512)load(from + j));
      __builtin_memcpy(to + j / 2, &pairs, sizeof pairs);
    }
  }
  // Two rows of a result, the second of which may be missing, as pairs of the same column.
  static void pack_across(const float* first, const float* second, int64_t n, uint32_t* to) {
    for (int64_t j = 0; j < n; j += 16)
      put(rounded(first + j), second == nullptr ? WordVec{} : rounded(second + j), to + j);
  }

 private:
  static WordVec halves(const Bfloat16* from) {
    HalfVec bits;
    __builtin_memcpy(&bits, from, sizeof bits);
    return __builtin_convertvector(bits, WordVec);
  }
  static WordVec rounded(const float* from) {
    return __builtin_convertvector((HalfVec)_mm512_cvtneps_pbh((__m512)load(from)), WordVec);
  }
  static void put(WordVec lower, WordVec upper, uint32_t* to) {
    const WordVec pairs = lower | upper << 16;
    __builtin_memcpy(to, &pairs, sizeof pairs);
  }
};
#endif

// f(0), ..., f(N - 1) as constants, so that arrays they index are registers from the start.
#define INLINE __attribute__((always_inline))
template <int N, class F>
INLINE static inline void each_of(const F& f) {
  [&]<int... I>(std::integer_sequence<int, I...>) INLINE {
    (f(std::integral_constant<int, I>{}), ...);
  }(std::make_integer_sequence<int, N>{});
}

// c (R, U vectors) = a (R, steps) b (steps, U vectors); a's rows and steps lie as far apart as
// said.
template <class O, int R, int U, class E, class T>
static inline void product_block(const E* a, int64_t a_row, int64_t a_step, const E* b,
                                 int64_t b_row, int64_t steps, T* c, int64_t c_row) {
  constexpr int L = Lanes<T>::count;
  Vec<T> sum[R * U];
  each_of<R * U>([&](auto i) INLINE { sum[i] = Vec<T>{}; });
  for (int64_t k = 0; k < steps; ++k, a += a_step, b += b_row) {
    decltype(O::vector(b)) right[U];
    each_of<U>([&](auto u) INLINE { right[u] = O::vector(b + u * L); });
    each_of<R>([&](auto r) INLINE {
      const auto left = O::everywhere(a[r * a_row]);
      each_of<U>([&](auto u) INLINE {
        sum[r * U + u] = O::add(left, right[u], sum[r * U + u]);
      });
    });
  }
  each_of<R * U>([&](auto i) INLINE { store(c + i / U * c_row + i % U * L, sum[i]); });
}

// As many sums at once as there are registers for.
constexpr int kRows = 6, kWide = VECTOR_BYTES == 64 ? 4 : 2;

template <class O, int R, class E, class T>
static void product_rows(const E* a, int64_t a_row, int64_t a_step, const E* b, int64_t b_row,
                         int64_t columns, int64_t steps, T* c, int64_t c_row) {
  constexpr int L = Lanes<T>::count;
  int64_t j = 0;
  for (; j + kWide * L <= columns; j += kWide * L)
    product_block<O, R, kWide>(a, a_row, a_step, b + j, b_row, steps, c + j, c_row);
  if constexpr (kWide == 4)
    for (; j + 2 * L <= columns; j += 2 * L)
      product_block<O, R, 2>(a, a_row, a_step, b + j, b_row, steps, c + j, c_row);
  for (; j < columns; j += L)
    product_block<O, R, 1>(a, a_row, a_step, b + j, b_row, steps, c + j, c_row);
}

// c (rows, columns) = a (rows, steps) b (steps, columns); at most kRows rows, columns in whole
// vectors, rows of b and c as long as that.
template <class O, class E, class T>
static void product(int64_t rows, const E* a, int64_t a_row, int64_t a_step, const E* b,
                    int64_t columns, int64_t steps, T* c) {
  const auto run = [&](auto count) {
    product_rows<O, count()>(a, a_row, a_step, b, columns, columns, steps, c, columns);
  };
  switch (rows) {
    case 6: return run(std::integral_constant<int, 6>{});
    case 5: return run(std::integral_constant<int, 5>{});
    case 4: return run(std::integral_constant<int, 4>{});
    case 3: return run(std::integral_constant<int, 3>{});
    case 2: return run(std::integral_constant<int, 2>{});
    default: return run(std::integral_constant<int, 1>{});
  }
}

// to (d) = from (d) * factor.
template <class S, class T>
static void narrow_row(const T* from, T factor, int64_t d, S* to) {
  constexpr int L = Lanes<T>::count;
  int64_t c = 0;
  for (; c + L <= d; c += L) narrows<false>(load(from + c) * factor, to + c);
  for (; c < d; ++c) narrow(from[c] * factor, to + c);
}

// Products (n) of a token's q with all k become scores: scaled, with their bias, -inf in the
// padding.
template <class T>
static void to_scores(T* row, int64_t n, T scale, const T* bias) {
  constexpr int L = Lanes<T>::count;
  for (int64_t j = 0; j < padded(n); j += L) store(row + j, load(row + j) * scale);
  if (bias != nullptr)
    for (int64_t j = 0; j < n; ++j) row[j] += bias[j];
  for (int64_t j = n; j < padded(n); ++j) row[j] = -infinity<T>;
}

// The row becomes exp(row - subtrahend); its sum.
template <class T>
static T exponentials(T* row, int64_t width, T subtrahend) {
  constexpr int L = Lanes<T>::count;
  Vec<T> sums{};
  for (int64_t j = 0; j < width; j += L) {
    const Vec<T> e = exponential(load(row + j) - subtrahend);
    store(row + j, e);
    sums += e;
  }
  return sum_of_lanes<T>(sums);
}

// Sum of a * b.
template <class T, class S>
static T dot(const S* a, const S* b, int64_t n) {
  constexpr int L = Lanes<T>::count;
  Vec<T> sums{};
  int64_t i = 0;
  for (; i + L <= n; i += L) sums += wides(a + i) * wides(b + i);
  T sum = sum_of_lanes<T>(sums);
  for (; i < n; ++i) sum += wide(a + i) * wide(b + i);
  return sum;
}

template <class T>
static T largest_of(const T* row, int64_t width) {
  constexpr int L = Lanes<T>::count;
  Vec<T> top = load(row);
  for (int64_t j = L; j < width; j += L) top = greater<T>(load(row + j), top);
  return greatest_lane<T>(top);
}

// Parts of one piece of memory, one after the other, each aligned to 64 bytes.
class Pieces {
 public:
  explicit Pieces(void* from) : next_(static_cast<char*>(from)) {}
  template <class E>
  E* take(int64_t count) {
    E* piece = reinterpret_cast<E*>(next_);
    next_ += (count * int64_t(sizeof(E)) + 63) / 64 * 64;
    return piece;
  }

 private:
  char* next_;
};

// Values of T that the functions below take of their scratch memory, whatever their form.
static int64_t attention_scratch(int64_t n, int64_t d) {
  return padded(n) * (2 * d + 2 * n + 32) + padded(d) * (4 * n + 16) + n + 256;
}

template <class O, class S, class T>
static void attend_as(const HeadOf<S>& head, const BiasOf<T>& bias, T* scratch, S* out, T* sums) {
  using E = typename O::Element;
  const int64_t n = head.n, d = head.d, wide_n = padded(n), wide_d = padded(d);
  const int64_t steps_n = (n + O::per - 1) / O::per, steps_d = (d + O::per - 1) / O::per;
  Pieces pieces(scratch);
  E *keys = pieces.take<E>(steps_d * wide_n), *q = pieces.take<E>(n * wide_d / O::per),
    *v = pieces.take<E>(steps_n * wide_d);
  T *weights = pieces.take<T>(kRows * wide_n), *mixed = pieces.take<T>(kRows * wide_d);
  E* packed = O::packs ? pieces.take<E>(kRows * wide_n / O::per) : nullptr;
  O::turned(head.k, head.stride, n, d, keys);
  O::along(head.q, head.stride, n, d, q);
  O::across(head.v, head.stride, n, d, v);
  const T scale = 1 / std::sqrt(T(d));
  for (int64_t i = 0; i < n; i += kRows) {
    const int64_t rows = std::min<int64_t>(kRows, n - i);
    product<O>(rows, q + i * wide_d / O::per, wide_d / O::per, 1, keys, wide_n, steps_d, weights);
    for (int64_t r = 0; r < rows; ++r) {
      T* row = weights + r * wide_n;
      to_scores(row, n, scale, bias.row(i + r));
      const T most = largest_of(row, wide_n);
      const T sum = exponentials(row, wide_n, most);
      sums[2 * (i + r)] = most;
      sums[2 * (i + r) + 1] = 1 / sum;
      if constexpr (O::packs) O::pack_along(row, wide_n, packed + r * wide_n / O::per);
    }
    if constexpr (O::packs)
      product<O>(rows, packed, wide_n / O::per, 1, v, wide_d, steps_n, mixed);
    else
      product<O>(rows, weights, wide_n, 1, v, wide_d, steps_n, mixed);
    for (int64_t r = 0; r < rows; ++r)
      narrow_row(mixed + r * wide_d, sums[2 * (i + r) + 1], d, out + (i + r) * head.out_stride);
  }
}

// With w the weights that softmax gives, and g the gradient in the output: v gets w' g; the scores
// get s = w * (g v' - sum of g * out); q gets s k, and k gets s' q, both / sqrt(d). The weights are
// computed again, with the largest score and the sum that `attend` left.
template <class O, class S, class T>
static void attend_backward_as(const HeadOf<S>& head, const BiasOf<T>& bias, const S* grad,
                               const S* out, const T* sums, T* scratch, const GradOf<S>& to) {
  using E = typename O::Element;
  constexpr int L = Lanes<T>::count;
  const int64_t n = head.n, d = head.d, wide_n = padded(n), wide_d = padded(d);
  const int64_t steps_n = (n + O::per - 1) / O::per, steps_d = (d + O::per - 1) / O::per;
  const T scale = 1 / std::sqrt(T(d));
  Pieces pieces(scratch);
  const auto along = [&](const S* from, int64_t stride) {
    E* to_rows = pieces.take<E>(n * wide_d / O::per);
    O::along(from, stride, n, d, to_rows);
    return to_rows;
  };
  const auto across = [&](const S* from, int64_t stride) {
    E* pile = pieces.take<E>(steps_n * wide_d);
    O::across(from, stride, n, d, pile);
    return pile;
  };
  const auto turned = [&](const S* from) {
    E* pile = pieces.take<E>(steps_d * wide_n);
    O::turned(from, head.stride, n, d, pile);
    return pile;
  };
  const E *keys = turned(head.k), *values = turned(head.v), *k = across(head.k, head.stride),
          *q = along(head.q, head.stride), *g = along(grad, head.out_stride);
  // in the plain form the rows are the pile as well
  const E* q_pile = O::packs ? across(head.q, head.stride) : q;
  const E* g_pile = O::packs ? across(grad, head.out_stride) : g;
  E *weights = pieces.take<E>(steps_n * wide_n), *slopes = pieces.take<E>(steps_n * wide_n);
  T* result = pieces.take<T>(kRows * wide_d);
  T* some = O::packs ? pieces.take<T>(2 * kRows * wide_n) : nullptr;
  E* packed = O::packs ? pieces.take<E>(kRows * wide_n / O::per) : nullptr;
  // all at once, as their rows are far from each other: they are waited for together
  T* common = pieces.take<T>(n);
  for (int64_t i = 0; i < n; ++i)
    common[i] = dot<T>(grad + i * head.out_stride, out + i * head.out_stride, d);
  for (int64_t i = 0; i < n; i += kRows) {
    const int64_t rows = std::min<int64_t>(kRows, n - i);
    T *w, *s;
    if constexpr (O::packs)
      w = some, s = some + kRows * wide_n;
    else
      w = weights + i * wide_n, s = slopes + i * wide_n;
    product<O>(rows, q + i * wide_d / O::per, wide_d / O::per, 1, keys, wide_n, steps_d, w);
    product<O>(rows, g + i * wide_d / O::per, wide_d / O::per, 1, values, wide_n, steps_d, s);
    for (int64_t r = 0; r < rows; ++r) {
      T *w_row = w + r * wide_n, *s_row = s + r * wide_n;
      to_scores(w_row, n, scale, bias.row(i + r));
      exponentials(w_row, wide_n, sums[2 * (i + r)]);
      for (int64_t j = 0; j < wide_n; j += L) {
        const Vec<T> weight = load(w_row + j) * sums[2 * (i + r) + 1];
        store(w_row + j, weight);
        store(s_row + j, weight * (load(s_row + j) - common[i + r]));
      }
    }
    if constexpr (O::packs) {
      for (int64_t r = 0; r < rows; ++r) {
        O::pack_along(s + r * wide_n, wide_n, packed + r * wide_n / O::per);
        if (r % 2) continue;
        const int64_t at = (i + r) / 2 * wide_n, next = r + 1 < rows ? wide_n : 0;
        const T *w_row = w + r * wide_n, *s_row = s + r * wide_n;
        O::pack_across(w_row, next ? w_row + next : nullptr, wide_n, weights + at);
        O::pack_across(s_row, next ? s_row + next : nullptr, wide_n, slopes + at);
      }
      product<O>(rows, packed, wide_n / O::per, 1, k, wide_d, steps_n, result);
    } else {
      product<O>(rows, s, wide_n, 1, k, wide_d, steps_n, result);
    }
    for (int64_t r = 0; r < rows; ++r)
      narrow_row(result + r * wide_d, scale, d, to.q + (i + r) * head.stride);
  }
  for (int64_t j = 0; j < n; j += kRows) {
    const int64_t rows = std::min<int64_t>(kRows, n - j);
    product<O>(rows, weights + j, 1, wide_n, g_pile, wide_d, steps_n, result);
    for (int64_t r = 0; r < rows; ++r)
      narrow_row(result + r * wide_d, T(1), d, to.v + (j + r) * head.stride);
    product<O>(rows, slopes + j, 1, wide_n, q_pile, wide_d, steps_n, result);
    for (int64_t r = 0; r < rows; ++r)
      narrow_row(result + r * wide_d, scale, d, to.k + (j + r) * head.stride);
  }
}

template <class S, class T>
static void attend(const HeadOf<S>& head, const BiasOf<T>& bias, T* scratch, S* out, T* sums) {
#if defined(DOTS_BF16)
  if constexpr (std::is_same_v<S, Bfloat16>)
    if (head.d % kPad == 0) return attend_as<Pairs>(head, bias, scratch, out, sums);
#endif
  attend_as<Plain<S, T>>(head, bias, scratch, out, sums);
}

template <class S, class T>
static void attend_backward(const HeadOf<S>& head, const BiasOf<T>& bias, const S* grad,
                            const S* out, const T* sums, T* scratch, const GradOf<S>& to) {
#if defined(DOTS_BF16)
  if constexpr (std::is_same_v<S, Bfloat16>)
    if (head.d % kPad == 0)
      return attend_backward_as<Pairs>(head, bias, grad, out, sums, scratch, to);
#endif
  attend_backward_as<Plain<S, T>>(head, bias, grad, out, sums, scratch, to);
}
