// The largest row of every group, channel by channel, and its transpose.
//
// S is the storage type of the rows, T the type in which they are compared, as in norm.h.

template <class S>
using Number = std::conditional_t<
    sizeof(S) == 2, int16_t, std::conditional_t<sizeof(S) == 4, int32_t, int64_t>>;

// The same for U vectors of columns at once: one alone would wait for its own comparisons.
template <int U, class S, class T>
static inline void largest_columns(const S* rows, int64_t k, int64_t c, S* values,
                                   int16_t* index) {
  constexpr int L = Lanes<T>::count;
  typedef int16_t Short __attribute__((vector_size(L * sizeof(int16_t))));
  Vec<T> best[U];
  IVec<T> at[U];
  for (int u = 0; u < U; ++u) {
    best[u] = wides(rows + u * L);
    at[u] = IVec<T>{};
  }
  for (int64_t j = 1; j < k; ++j) {
    const IVec<T> number = isplat<T>(typename Lanes<T>::Index(j));
    for (int u = 0; u < U; ++u) {
      const Vec<T> x = wides(rows + j * c + u * L);
      const IVec<T> wins =
          (IVec<T>)(x > best[u]) | ((IVec<T>)(x != x) & (IVec<T>)(best[u] == best[u]));
      best[u] = wins ? x : best[u];
      at[u] = wins ? number : at[u];
    }
  }
  for (int u = 0; u < U; ++u) {
    narrows<false>(best[u], values + u * L);
    const Short numbers = __builtin_convertvector(at[u], Short);
    __builtin_memcpy(index + u * L, &numbers, sizeof numbers);
  }
}

// values (c) and index (c): the largest of the k rows (k, c) and which it is, the first of equal
// ones; a NaN is larger than any number.
template <class S, class T>
static void largest(const S* rows, int64_t k, int64_t c, S* values, int16_t* index) {
  constexpr int L = Lanes<T>::count;
  int64_t i = 0;
  for (; i + 4 * L <= c; i += 4 * L)
    largest_columns<4, S, T>(rows + i, k, c, values + i, index + i);
  for (; i + L <= c; i += L) largest_columns<1, S, T>(rows + i, k, c, values + i, index + i);
  for (; i < c; ++i) {
    T best = wide(rows + i);
    int16_t at = 0;
    for (int64_t j = 1; j < k; ++j) {
      const T x = wide(rows + j * c + i);
      if (x > best || (x != x && best == best)) {
        best = x;
        at = int16_t(j);
      }
    }
    narrow(best, values + i);
    index[i] = at;
  }
}

// out (k, c): grad (c) in the rows that `index` names, 0 elsewhere. `large`: it will not stay in
// the cache. Values are moved as bits, so that nothing is multiplied.
template <class S>
static void place(const S* grad, const int16_t* index, int64_t k, int64_t c, bool large, S* out) {
  constexpr int L = VECTOR_BYTES / int(sizeof(S));
  typedef Number<S> Bits __attribute__((vector_size(VECTOR_BYTES)));
  typedef int16_t Short __attribute__((vector_size(L * sizeof(int16_t))));
  const bool streams = large && c % L == 0 && reinterpret_cast<uintptr_t>(out) % VECTOR_BYTES == 0;
  for (int64_t j = 0; j < k; ++j, out += c) {
    int64_t i = 0;
    for (; i + L <= c; i += L) {
      Short numbers;
      Bits bits;
      __builtin_memcpy(&numbers, index + i, sizeof numbers);
      __builtin_memcpy(&bits, grad + i, sizeof bits);
      const Bits kept = bits & (__builtin_convertvector(numbers, Bits) == Number<S>(j));
      if (streams)
        stream(reinterpret_cast<float*>(out + i), (Vec<float>)kept);
      else
        __builtin_memcpy(out + i, &kept, sizeof kept);
    }
    for (; i < c; ++i) out[i] = index[i] == j ? grad[i] : S{};
  }
  if (streams) end_stream();
}
