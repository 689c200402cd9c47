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
template <int R, class S, class T>
static inline void moments_step(const S* rows, int64_t c, const T* shift, T* first, T* second) {
  constexpr int L = Lanes<T>::count;
  int64_t i = 0;
  for (; i + L <= c; i += L) {
    Vec<T> x[R], a = load(first + i), b = load(second + i);
    for (int r = 0; r < R; ++r) x[r] = wides(rows + r * c + i) - load(shift + i);
    add_rows<R>(x, a, b);
    store(first + i, a);
    store(second + i, b);
  }
  for (; i < c; ++i) {
    T x[R];
    for (int r = 0; r < R; ++r) x[r] = wide(rows + r * c + i) - shift[i];
    add_rows<R>(x, first[i], second[i]);
  }
}

template <class S, class T>
static inline void add_block(const S* rows, int64_t n, int64_t c, const T* shift, T* first,
                             T* second) {
  int64_t r = 0;
  for (; r + kStep <= n; r += kStep) moments_step<kStep>(rows + r * c, c, shift, first, second);
  for (; r < n; ++r) moments_step<1>(rows + r * c, c, shift, first, second);
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
template <class S, class T>
static void moments(const S* rows, int64_t n, int64_t c, double* mean, double* square) {
  std::vector<T> scratch(3 * c, T(0));
  T *shift = scratch.data(), *first = shift + c, *second = first + c;
  const int64_t some = std::min(kFirst, n);
  add_block(rows, some, c, shift, first, second);
  for (int64_t i = 0; i < c; ++i) shift[i] = first[i] / T(some);
  std::fill(mean, mean + c, 0.0);
  std::fill(square, square + c, 0.0);
  for (int64_t row = 0; row < n; row += kBlock) {
    std::fill(first, first + 2 * c, T(0));
    add_block(rows + row * c, std::min(kBlock, n - row), c, shift, first, second);
    add_wide(first, c, mean);
    add_wide(second, c, square);
  }
  for (int64_t i = 0; i < c; ++i) {
    const double off = mean[i] / double(n);
    square[i] = std::max(square[i] - off * mean[i], 0.0);  // a NaN stays one
    mean[i] = double(shift[i]) + off;
  }
}

template <bool Streams, class S, class T>
static void normalise_rows(const S* rows, int64_t n, int64_t c, const T* mean, const T* scale,
                           const T* offset, S* out) {
  constexpr int L = Lanes<T>::count;
  for (int64_t r = 0; r < n; ++r, rows += c, out += c) {
    int64_t i = 0;
    for (; i + L <= c; i += L)
      narrows<Streams>(
          (wides(rows + i) - load(mean + i)) * load(scale + i) + load(offset + i), out + i);
    for (; i < c; ++i) narrow((wide(rows + i) - mean[i]) * scale[i] + offset[i], out + i);
  }
  if constexpr (Streams) end_stream();
}

// Whether every vector of the rows (n, c) at `out` may be streamed.
template <class S, class T>
static bool aligned(const S* out, int64_t c) {
  constexpr int L = Lanes<T>::count;
  return c % L == 0 && reinterpret_cast<uintptr_t>(out) % (L * sizeof(S)) == 0;
}

// out = (x - mean) * scale + offset
template <class S, class T>
static void normalise(const S* rows, int64_t n, int64_t c, const T* mean, const T* scale,
                      const T* offset, bool large, S* out) {
  if (large && aligned<S, T>(out, c))
    normalise_rows<true>(rows, n, c, mean, scale, offset, out);
  else
    normalise_rows<false>(rows, n, c, mean, scale, offset, out);
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
template <int R, class S, class T>
static inline void products_step(const S* grad, const S* rows, int64_t c, const T* mean, T* first,
                                 T* second) {
  constexpr int L = Lanes<T>::count;
  int64_t i = 0;
  for (; i + L <= c; i += L) {
    Vec<T> g[R], x[R], a = load(first + i), b = load(second + i);
    for (int r = 0; r < R; ++r) {
      g[r] = wides(grad + r * c + i);
      x[r] = wides(rows + r * c + i) - load(mean + i);
    }
    add_products<R>(g, x, a, b);
    store(first + i, a);
    store(second + i, b);
  }
  for (; i < c; ++i) {
    T g[R], x[R];
    for (int r = 0; r < R; ++r) {
      g[r] = wide(grad + r * c + i);
      x[r] = wide(rows + r * c + i) - mean[i];
    }
    add_products<R>(g, x, first[i], second[i]);
  }
}

// sum (c) = of grad; product (c) = of grad * (x - mean).
template <class S, class T>
static void products(const S* grad, const S* rows, int64_t n, int64_t c, const T* mean,
                     double* sum, double* product) {
  std::vector<T> scratch(2 * c);
  T *first = scratch.data(), *second = first + c;
  std::fill(sum, sum + c, 0.0);
  std::fill(product, product + c, 0.0);
  for (int64_t row = 0; row < n; row += kBlock) {
    const int64_t count = std::min(kBlock, n - row);
    const S *g = grad + row * c, *x = rows + row * c;
    std::fill(first, first + 2 * c, T(0));
    int64_t r = 0;
    for (; r + kStep <= count; r += kStep)
      products_step<kStep>(g + r * c, x + r * c, c, mean, first, second);
    for (; r < count; ++r) products_step<1>(g + r * c, x + r * c, c, mean, first, second);
    add_wide(first, c, sum);
    add_wide(second, c, product);
  }
}

template <bool Streams, class S, class T>
static void backward_rows(const S* grad, const S* rows, int64_t n, int64_t c, const T* mean,
                          const T* scale, const T* offset, const T* slope, S* out) {
  constexpr int L = Lanes<T>::count;
  for (int64_t r = 0; r < n; ++r, grad += c, rows += c, out += c) {
    int64_t i = 0;
    for (; i + L <= c; i += L) {
      const Vec<T> x = wides(rows + i) - load(mean + i);
      narrows<Streams>(
          (wides(grad + i) - load(offset + i) - x * load(slope + i)) * load(scale + i), out + i);
    }
    for (; i < c; ++i) {
      const T x = wide(rows + i) - mean[i];
      narrow((wide(grad + i) - offset[i] - x * slope[i]) * scale[i], out + i);
    }
  }
  if constexpr (Streams) end_stream();
}

// out = (grad - offset - (x - mean) * slope) * scale
template <class S, class T>
static void normalise_backward(const S* grad, const S* rows, int64_t n, int64_t c, const T* mean,
                               const T* scale, const T* offset, const T* slope, bool large,
                               S* out) {
  if (large && aligned<S, T>(out, c))
    backward_rows<true>(grad, rows, n, c, mean, scale, offset, slope, out);
  else
    backward_rows<false>(grad, rows, n, c, mean, scale, offset, slope, out);
}
