// Weighted sums of rows (interpolation), their transposes, and row products.

template <class T>
static bool interpolate(const T* features, int64_t n, int64_t c, const int64_t* idx,
                        const T* weight, int64_t m, int64_t k, T* out) {
  constexpr int L = Lanes<T>::count;
  for (int64_t i = 0; i < m * k; ++i)
    if (idx[i] < 0 || idx[i] >= n) return false;
  for (int64_t q = 0; q < m; ++q) {
    const int64_t* at = idx + q * k;
    const T* w = weight + q * k;
    T* to = out + q * c;
    int64_t i = 0;
    for (; i + L <= c; i += L) {
      Vec<T> total = splat<T>(0);
      for (int64_t j = 0; j < k; ++j) total += splat<T>(w[j]) * load(features + at[j] * c + i);
      store(to + i, total);
    }
    for (; i < c; ++i) {
      T total = 0;
      for (int64_t j = 0; j < k; ++j) total += w[j] * features[at[j] * c + i];
      to[i] = total;
    }
  }
  return true;
}

template <class T>
static bool scatter(const T* grad, const int64_t* idx, const T* weight, int64_t m, int64_t k,
                    int64_t n, int64_t c, int64_t from, int64_t to, T* to_features) {
  constexpr int L = Lanes<T>::count;
  for (int64_t q = 0; q < m; ++q) {
    const T* g = grad + q * c;
    for (int64_t j = 0; j < k; ++j) {
      const int64_t row = idx[q * k + j];
      if (row < 0 || row >= n) return false;
      const T w = weight ? weight[q * k + j] : T(1);
      T* sum = to_features + row * c;
      int64_t i = from;
      if (!std::isfinite(w)) {  // where there is no gradient it adds nothing: 0 * NaN is not 0
        for (; i < to; ++i) sum[i] += g[i] == 0 ? T(0) : w * g[i];
        continue;
      }
      for (; i + L <= to; i += L)
        store(sum + i, load(sum + i) + splat<T>(w) * load(g + i));
      for (; i < to; ++i) sum[i] += w * g[i];
    }
  }
  return true;
}

template <class T>
static bool dots(const T* grad, const T* features, const int64_t* idx, int64_t m, int64_t k,
                 int64_t n, int64_t c, T* to_weight) {
  constexpr int L = Lanes<T>::count;
  for (int64_t q = 0; q < m; ++q) {
    const T* g = grad + q * c;
    for (int64_t j = 0; j < k; ++j) {
      const int64_t row = idx[q * k + j];
      if (row < 0 || row >= n) return false;
      const T* f = features + row * c;
      Vec<T> sums = splat<T>(0);
      int64_t i = 0;
      for (; i + L <= c; i += L) sums += load(g + i) * load(f + i);
      T total = 0;
      for (int lane = 0; lane < L; ++lane) total += sums[lane];
      for (; i < c; ++i) total += g[i] * f[i];
      if (!std::isfinite(total)) {  // maybe from channels without a gradient: 0 * NaN is not 0
        total = 0;
        for (i = 0; i < c; ++i) total += g[i] == 0 ? T(0) : g[i] * f[i];
      }
      to_weight[q * k + j] = total;
    }
  }
  return true;
}
