// Batch normalisation of rows: moments and sums of columns, and the two row-wise maps.
//
// S is the storage type of the rows, T the type of the arithmetic: (float, float), (double, double)
// and (bfloat16, float). Sums run in T over at most `kBlock` rows and in double beyond, so that
// their error does not grow with the number of rows. Every width of vector gives the same bits.

constexpr int64_t kBlock = 64, kStep = 4;  // rows of a block; rows read at once
constexpr int64_t kFirst = 16;             // rows that give the shift of the others

static inline float wide(const float* from) { return *from; }
static inline double wide(const double* from) { return *from; }
static inline float wide(const Bfloat16* from) {
  const uint32_t bits = uint32_t(from->bits) << 16;
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}
static inline void narrow(float value, float* to) { *to = value; }
static inline void narrow(double value, double* to) { *to = value; }
static inline void narrow(float value, Bfloat16* to) {
  uint32_t bits;
  __builtin_memcpy(&bits, &value, sizeof bits);
  const uint32_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;  // to nearest, ties to even
  to->bits = uint16_t(value == value ? rounded : 0x7fc0);
}

// The same of L values at once.
typedef uint16_t HalfVec __attribute__((vector_size(VECTOR_BYTES / 2)));
typedef uint32_t WordVec __attribute__((vector_size(VECTOR_BYTES)));
static inline Vec<float> wides(const float* from) { return load(from); }
static inline Vec<double> wides(const double* from) { return load(from); }
static inline Vec<float> wides(const Bfloat16* from) {
  HalfVec bits;
  __builtin_memcpy(&bits, from, sizeof bits);
  return (Vec<float>)(__builtin_convertvector(bits, WordVec) << 16);
}

// Stores around the cache, for outputs that would not stay in it: a common store reads the line
// before it writes it. Aligned addresses only.
#if defined(__x86_64__)
static inline void stream(float* to, Vec<float> value) { X86(stream_ps)(to, value); }
static inline void stream(double* to, Vec<double> value) { X86(stream_pd)(to, value); }
static inline void end_stream() { _mm_sfence(); }  // before another thread reads what was streamed
#else
static inline void stream(float* to, Vec<float> value) { store(to, value); }
static inline void stream(double* to, Vec<double> value) { store(to, value); }
static inline void end_stream() {}
#endif
static inline void stream(Bfloat16* to, HalfVec bits) {
#if VECTOR_BYTES == 64
  _mm256_stream_si256((__m256i*)to, (__m256i)bits);
#elif VECTOR_BYTES == 32
  _mm_stream_si128((__m128i*)to, (__m128i)bits);
#else
  __builtin_memcpy(to, &bits, sizeof bits);
#endif
}

template <bool Streams>
static inline void narrows(Vec<float> value, float* to) {
  Streams ? stream(to, value) : store(to, value);
}
template <bool Streams>
static inline void narrows(Vec<double> value, double* to) {
  Streams ? stream(to, value) : store(to, value);
}
template <bool Streams>
static inline void narrows(Vec<float> value, Bfloat16* to) {
  const WordVec bits = (WordVec)value;
  const WordVec rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
  const HalfVec out = __builtin_convertvector(value == value ? rounded : 0x7fc0 - WordVec{},
                                              HalfVec);
  if constexpr (Streams)
    stream(to, out);
  else
    __builtin_memcpy(to, &out, sizeof out);
}

// first[i] += sum of the R rows' (x - shift), second[i] += sum of their squares, for one column or
// a vector of columns. Pairs first: fewer additions to the running sum, and independent ones.
template <int R, class V>
static inline void add_rows(const V (&x)[R], V& first, V& second) {
  if constexpr (R == 4) {
    first += (x[0] + x[1]) + (x[2] + x[3]);
    second += (x[0] * x[0] + x[1] * x[1]) + (x[2] * x[2] + x[3] * x[3]);
  } else {
    static_assert(R == 1);
    first += x[0];
    second += x[0] * x[0];
  }
}
// A row as vectors or values of T; With: what its group shares is added.
template <bool With, class S>
static inline auto wides_of(const S* row, const S* shared, int64_t i) {
  if constexpr (With)
    return wides(row + i) + wides(shared + i);
  else
    return wides(row + i);
}
template <bool With, class S>
static inline auto wide_of(const S* row, const S* shared, int64_t i) {
  if constexpr (With)
    return wide(row + i) + wide(shared + i);
  else
    return wide(row + i);
}

template <bool With, int R, class S, class T>
static inline void moments_step(const RowsOf<S>& x, int64_t row, const T* shift, T* first,
                                T* second) {
  constexpr int L = Lanes<T>::count;
  const S *at[R], *shared[R];
  for (int r = 0; r < R; ++r) {
    at[r] = x.row(row + r);
    shared[r] = With ? x.shared_of(row + r) : nullptr;
  }
  int64_t i = 0;
  for (; i + L <= x.c; i += L) {
    Vec<T> v[R], a = load(first + i), b = load(second + i);
    for (int r = 0; r < R; ++r) v[r] = wides_of<With>(at[r], shared[r], i) - load(shift + i);
    add_rows<R>(v, a, b);
    store(first + i, a);
    store(second + i, b);
  }
  for (; i < x.c; ++i) {
    T v[R];
    for (int r = 0; r < R; ++r) v[r] = wide_of<With>(at[r], shared[r], i) - shift[i];
    add_rows<R>(v, first[i], second[i]);
  }
}

template <bool With, class S, class T>
static inline void add_block(const RowsOf<S>& x, int64_t row, int64_t n, const T* shift, T* first,
                             T* second) {
  const int64_t end = row + n;
  for (; row + kStep <= end; row += kStep)
    moments_step<With, kStep>(x, row, shift, first, second);
  for (; row < end; ++row) moments_step<With, 1>(x, row, shift, first, second);
}
template <class T>
static inline void add_wide(const T* from, int64_t c, double* to) {
  for (int64_t i = 0; i < c; ++i) to[i] += double(from[i]);
}

// Chan, Golub and LeVeque's merge of the moments of `count` rows more into those of `before` rows:
// mean (c), and the sum of squared deviations from it (c).
static inline void merge_moments(int64_t before, double* mean, double* square, int64_t count,
                                 const double* other_mean, const double* other_square, int64_t c) {
  const double share = double(count) / double(before + count);
  const double weight = double(before) * share;
  for (int64_t i = 0; i < c; ++i) {
    const double gap = other_mean[i] - mean[i];
    mean[i] += gap * share;
    square[i] += other_square[i] + gap * gap * weight;
  }
}

// The rows are shifted by the mean of the first ones, which is near enough to that of all for the
// subtraction below: it cancels at most a factor of 1 + n / kFirst, whatever the rows are.
template <bool With, class S, class T>
static void moments_of(const RowsOf<S>& x, int64_t from, int64_t n, double* mean, double* square) {
  const int64_t c = x.c;
  std::vector<T> scratch(3 * c, T(0));
  T *shift = scratch.data(), *first = shift + c, *second = first + c;
  const int64_t some = std::min(kFirst, n);
  add_block<With>(x, from, some, shift, first, second);
  for (int64_t i = 0; i < c; ++i) shift[i] = first[i] / T(some);
  std::fill(mean, mean + c, 0.0);
  std::fill(square, square + c, 0.0);
  for (int64_t row = 0; row < n; row += kBlock) {
    std::fill(first, first + 2 * c, T(0));
    add_block<With>(x, from + row, std::min(kBlock, n - row), shift, first, second);
    add_wide(first, c, mean);
    add_wide(second, c, square);
  }
  for (int64_t i = 0; i < c; ++i) {
    const double off = mean[i] / double(n);
    square[i] = std::max(square[i] - off * mean[i], 0.0);  // a NaN stays one
    mean[i] = double(shift[i]) + off;
  }
}
template <class S, class T>
static void moments(const RowsOf<S>& x, int64_t from, int64_t n, double* mean, double* square) {
  x.shared ? moments_of<true, S, T>(x, from, n, mean, square)
           : moments_of<false, S, T>(x, from, n, mean, square);
}

// What is below 0 becomes 0; a NaN stays one.
template <bool Relu, class T>
static inline Vec<T> positive(Vec<T> value) {
  return Relu ? (value <= Vec<T>{} ? Vec<T>{} : value) : value;
}
template <bool Relu, class T>
static inline T positive_one(T value) {
  return Relu && value <= 0 ? T(0) : value;
}

template <bool Streams, bool With, bool Relu, class S, class T>
static void normalise_rows(const RowsOf<S>& x, int64_t from, int64_t n, const T* mean,
                           const T* scale, const T* offset, S* out) {
  constexpr int L = Lanes<T>::count;
  for (int64_t r = from; r < from + n; ++r, out += x.c) {
    const S *row = x.row(r), *shared = With ? x.shared_of(r) : nullptr;
    int64_t i = 0;
    for (; i + L <= x.c; i += L) {
      const Vec<T> value = wides_of<With>(row, shared, i);
      narrows<Streams>(positive<Relu, T>((value - load(mean + i)) * load(scale + i) +
                                         load(offset + i)),
                       out + i);
    }
    for (; i < x.c; ++i) {
      const T value = wide_of<With>(row, shared, i);
      narrow(positive_one<Relu, T>((value - mean[i]) * scale[i] + offset[i]), out + i);
    }
  }
  if constexpr (Streams) end_stream();
}

// Whether every vector of the rows (n, c) at `out` may be streamed.
template <class S, class T>
static bool aligned(const S* out, int64_t c) {
  constexpr int L = Lanes<T>::count;
  return c % L == 0 && reinterpret_cast<uintptr_t>(out) % (L * sizeof(S)) == 0;
}

// Calls f with each flag as a type, so that the loops are compiled for it.
template <class F>
static inline void by_flags(bool a, bool b, F&& f) {
  using True = std::true_type;
  using False = std::false_type;
  if (a)
    b ? f(True{}, True{}) : f(True{}, False{});
  else
    b ? f(False{}, True{}) : f(False{}, False{});
}

// out = (x - mean) * scale + offset, and 0 instead of what is below where `relu` is set.
template <class S, class T>
static void normalise(const RowsOf<S>& x, int64_t from, int64_t n, const T* mean, const T* scale,
                      const T* offset, bool relu, bool large, S* out) {
  by_flags(x.shared != nullptr, relu, [&](auto with, auto cut) {
    constexpr bool With = decltype(with)::value, Cut = decltype(cut)::value;
    if (large && aligned<S, T>(out, x.c))
      normalise_rows<true, With, Cut>(x, from, n, mean, scale, offset, out);
    else
      normalise_rows<false, With, Cut>(x, from, n, mean, scale, offset, out);
  });
}

template <int R, class V>
static inline void add_products(const V (&g)[R], const V (&x)[R], V& first, V& second) {
  if constexpr (R == 4) {
    first += (g[0] + g[1]) + (g[2] + g[3]);
    second += (g[0] * x[0] + g[1] * x[1]) + (g[2] * x[2] + g[3] * x[3]);
  } else {
    static_assert(R == 1);
    first += g[0];
    second += g[0] * x[0];
  }
}
// A gradient as vectors or values of T; Cut: 0 where the output was cut off at 0.
template <bool Cut, class S>
static inline auto flow_of(const S* grad, const S* out, int64_t i) {
  auto flow = wides(grad + i);
  if constexpr (Cut) flow = wides(out + i) <= decltype(flow){} ? decltype(flow){} : flow;
  return flow;
}
template <bool Cut, class S>
static inline auto flow_one(const S* grad, const S* out, int64_t i) {
  auto flow = wide(grad + i);
  if constexpr (Cut) flow = wide(out + i) <= 0 ? 0 : flow;
  return flow;
}

template <bool With, bool Cut, int R, class S, class T>
static inline void products_step(const S* grad, const S* out, const RowsOf<S>& x, int64_t row,
                                 const T* mean, T* first, T* second) {
  constexpr int L = Lanes<T>::count;
  const int64_t c = x.c;
  const S *at[R], *shared[R], *flow[R], *cut[R];
  for (int r = 0; r < R; ++r) {
    at[r] = x.row(row + r);
    shared[r] = With ? x.shared_of(row + r) : nullptr;
    flow[r] = grad + r * c;
    cut[r] = Cut ? out + r * c : nullptr;
  }
  int64_t i = 0;
  for (; i + L <= c; i += L) {
    Vec<T> g[R], v[R], a = load(first + i), b = load(second + i);
    for (int r = 0; r < R; ++r) {
      g[r] = flow_of<Cut>(flow[r], cut[r], i);
      v[r] = wides_of<With>(at[r], shared[r], i) - load(mean + i);
    }
    add_products<R>(g, v, a, b);
    store(first + i, a);
    store(second + i, b);
  }
  for (; i < c; ++i) {
    T g[R], v[R];
    for (int r = 0; r < R; ++r) {
      g[r] = flow_one<Cut>(flow[r], cut[r], i);
      v[r] = wide_of<With>(at[r], shared[r], i) - mean[i];
    }
    add_products<R>(g, v, first[i], second[i]);
  }
}

// sum (c) += of grad; product (c) += of grad * (x - mean). `out`, where the output was cut off at
// 0, is that output; like `grad` it begins with row `from`.
template <class S, class T>
static void products(const S* grad, const S* out, const RowsOf<S>& x, int64_t from, int64_t n,
                     const T* mean, double* sum, double* product) {
  const int64_t c = x.c;
  std::vector<T> scratch(2 * c);
  T *first = scratch.data(), *second = first + c;
  by_flags(x.shared != nullptr, out != nullptr, [&](auto with, auto cut) {
    constexpr bool With = decltype(with)::value, Cut = decltype(cut)::value;
    for (int64_t row = 0; row < n; row += kBlock) {
      const int64_t end = std::min(row + kBlock, n);
      std::fill(first, first + 2 * c, T(0));
      int64_t r = row;
      for (; r + kStep <= end; r += kStep)
        products_step<With, Cut, kStep>(grad + r * c, Cut ? out + r * c : out, x, from + r, mean,
                                        first, second);
      for (; r < end; ++r)
        products_step<With, Cut, 1>(grad + r * c, Cut ? out + r * c : out, x, from + r, mean,
                                    first, second);
      add_wide(first, c, sum);
      add_wide(second, c, product);
    }
  });
}

// Coefficients of a channel's gradient: (grad - offset - (x - mean) * slope) * scale.
template <bool Streams, bool With, bool Cut, class S, class T>
static void backward_rows(const S* grad, const S* cut, const RowsOf<S>& x, int64_t from, int64_t n,
                          const T* mean, const T* scale, const T* offset, const T* slope, T* total,
                          S* out) {
  constexpr int L = Lanes<T>::count;
  const int64_t c = x.c;
  for (int64_t r = from; r < from + n; ++r, out += c) {
    const S *row = x.row(r), *shared = With ? x.shared_of(r) : nullptr;
    int64_t i = 0;
    for (; i + L <= c; i += L) {
      const Vec<T> v = wides_of<With>(row, shared, i) - load(mean + i);
      const Vec<T> g = grad ? flow_of<Cut>(grad, cut, i) : Vec<T>{};
      const Vec<T> value = (g - load(offset + i) - v * load(slope + i)) * load(scale + i);
      if constexpr (With) store(total + i, load(total + i) + value);
      narrows<Streams>(value, out + i);
    }
    for (; i < c; ++i) {
      const T v = wide_of<With>(row, shared, i) - mean[i];
      const T g = grad ? T(flow_one<Cut>(grad, cut, i)) : T(0);
      const T value = (g - offset[i] - v * slope[i]) * scale[i];
      if constexpr (With) total[i] += value;
      narrow(value, out + i);
    }
    if (grad) grad += c;
    if constexpr (Cut) cut += c;
  }
  if constexpr (Streams) end_stream();
}

// Gradient of rows from `from` on; `grad` null: nothing depends on their outputs. Where a group
// shares something, the rows are one group, and to_shared (c) is the sum of their gradients.
template <class S, class T>
static void normalise_backward(const S* grad, const S* cut, const RowsOf<S>& x, int64_t from,
                               int64_t n, const T* mean, const T* scale, const T* offset,
                               const T* slope, bool large, S* to_shared, S* out) {
  std::vector<T> total(x.shared ? x.c : 0, T(0));
  by_flags(x.shared != nullptr, grad && cut, [&](auto with, auto relu) {
    constexpr bool With = decltype(with)::value, Cut = decltype(relu)::value;
    if (large && aligned<S, T>(out, x.c))
      backward_rows<true, With, Cut>(grad, cut, x, from, n, mean, scale, offset, slope,
                                     total.data(), out);
    else
      backward_rows<false, With, Cut>(grad, cut, x, from, n, mean, scale, offset, slope,
                                      total.data(), out);
  });
  for (size_t i = 0; i < total.size(); ++i) narrow(total[i], to_shared + i);
}
