// k nearest neighbours and ball query of a block of queries against the planes of one cloud.

template <class T>
static void planes(const T* cloud, int64_t n, int64_t d, int64_t stride, T* out) {
  for (int64_t a = 0; a < d; ++a) {
    T* plane = out + a * stride;
    for (int64_t i = 0; i < n; ++i) plane[i] = cloud[i * d + a];
    for (int64_t i = n; i < stride; ++i) plane[i] = std::numeric_limits<T>::quiet_NaN();
  }
}

// Squared distances of one query to all planes, NaN as infinity (so the padding is infinite).
template <class T>
static inline void distances(const T* q, const T* planes, int64_t d, int64_t stride, T* out) {
  constexpr int L = Lanes<T>::count;
  const Vec<T> inf = splat<T>(infinity<T>);
  if (d == 3) {
    const Vec<T> qx = splat<T>(q[0]), qy = splat<T>(q[1]), qz = splat<T>(q[2]);
    const T *x = planes, *y = x + stride, *z = y + stride;
    for (int64_t i = 0; i < stride; i += L)
      store(out + i,
            lesser<T>(squared<T>(load(x + i), load(y + i), load(z + i), qx, qy, qz), inf));
    return;
  }
  for (int64_t i = 0; i < stride; i += L) {
    Vec<T> total = splat<T>(0);
    for (int64_t a = 0; a < d; ++a) {
      const Vec<T> delta = load(planes + a * stride + i) - splat<T>(q[a]);
      total += delta * delta;
    }
    store(out + i, lesser<T>(total, inf));
  }
}

// An upper bound of the k-th smallest of `dist`, usually tight: the values are dealt into
// `groups` >= k columns; if k columns have a minimum <= t, then k values are <= t. The smallest
// such t among the column minima is approached by bisection over the bits of the float.
static inline float bound_kth(const float* dist, int64_t stride, int64_t k, int64_t columns,
                              float* minima) {
  constexpr int L = Lanes<float>::count;
  const int64_t groups = columns * L;
  for (int64_t g = 0; g < groups; g += L) {
    Vec<float> low = load(dist + g);
    for (int64_t i = g + groups; i < stride; i += groups)
      low = lesser<float>(load(dist + i), low);
    store(minima + g, low);
  }
  Vec<float> lowest = load(minima), highest = lowest;
  for (int64_t g = L; g < groups; g += L) {
    lowest = lesser<float>(load(minima + g), lowest);
    highest = greater<float>(load(minima + g), highest);
  }
  float low = lowest[0], high = highest[0];
  for (int i = 1; i < L; ++i) {
    low = lowest[i] < low ? lowest[i] : low;
    high = highest[i] > high ? highest[i] : high;
  }
  int32_t from, to;
  std::memcpy(&from, &low, 4);
  std::memcpy(&to, &high, 4);
  for (int round = 0; round < 12 && from < to; ++round) {
    const int32_t mid = from + (to - from) / 2;
    float value;
    std::memcpy(&value, &mid, 4);
    IVec<float> inside = isplat<float>(0);
    for (int64_t g = 0; g < groups; g += L) inside -= load(minima + g) <= splat<float>(value);
    int64_t counted = 0;
    for (int i = 0; i < L; ++i) counted += inside[i];
    if (counted >= k) {
      to = mid;
      if (counted == k) break;
    } else {
      from = mid + 1;
    }
  }
  float limit;
  std::memcpy(&limit, &to, 4);
  return limit;
}

// Puts the k smallest of `keys` (all different) first, ascending.
static inline void sort_keys(uint64_t* keys, int64_t count, int64_t k, uint64_t* spare) {
  typedef uint64_t UVec __attribute__((vector_size(VECTOR_BYTES)));
  constexpr int U = VECTOR_BYTES / 8;
  if (count > 96) {
    if (k < count) std::nth_element(keys, keys + k, keys + count);
    std::sort(keys, keys + k);
    return;
  }
  // Few keys: the rank of each is the number of smaller ones; no branch depends on the data.
  for (int64_t i = count; i % U; ++i) keys[i] = ~uint64_t(0);
  for (int64_t i = 0; i < count; ++i) {
    UVec mine;
    for (int u = 0; u < U; ++u) mine[u] = keys[i];
    UVec smaller{};
    for (int64_t j = 0; j < count; j += U) {
      UVec other;
      std::memcpy(&other, keys + j, sizeof other);
      smaller -= (UVec)(other < mine);
    }
    uint64_t rank = 0;
    for (int u = 0; u < U; ++u) rank += smaller[u];
    spare[rank] = keys[i];
  }
  std::copy(spare, spare + k, keys);
}

static void knn_float(const float* queries, int64_t m, const float* planes, int64_t n, int64_t d,
                      int64_t stride, int64_t k, float* sqdist, int64_t* idx) {
  constexpr int L = Lanes<float>::count;
  std::vector<float> dist(stride);
  std::vector<uint64_t> keys(n + L), spare(n + L);
  const int64_t columns = std::max<int64_t>((2 * k + L - 1) / L, 64 / L);
  const bool bounded = columns * L * 2 <= stride && stride % (columns * L) == 0;
  const int64_t usable = columns * L <= stride ? stride / (columns * L) * (columns * L) : 0;
  (void)bounded;
  std::vector<float> minima(columns * L);
  for (int64_t q = 0; q < m; ++q) {
    distances<float>(queries + q * d, planes, d, stride, dist.data());
    float limit = infinity<float>;
    if (usable >= 2 * columns * L)
      limit = bound_kth(dist.data(), usable, k, columns, minima.data());
    int64_t count = 0, i = 0;
    for (; i + L <= n; i += L)
      count += pack_below(load(&dist[i]), limit, int32_t(i), &keys[count]);
    for (; i < n; ++i) {
      uint32_t bits;
      std::memcpy(&bits, &dist[i], 4);
      if (dist[i] <= limit) keys[count++] = uint64_t(bits) << 32 | uint32_t(i);
    }
    sort_keys(keys.data(), count, k, spare.data());
    for (int64_t j = 0; j < k; ++j) {
      const uint32_t bits = uint32_t(keys[j] >> 32);
      std::memcpy(sqdist + q * k + j, &bits, 4);
      idx[q * k + j] = int64_t(keys[j] & 0xffffffffu);
    }
  }
}

template <class T>
static void knn(const T* queries, int64_t m, const T* planes, int64_t n, int64_t d,
                int64_t stride, int64_t k, T* sqdist, int64_t* idx) {
  if constexpr (std::is_same_v<T, float>) {
    knn_float(queries, m, planes, n, d, stride, k, sqdist, idx);
  } else {
    std::vector<T> dist(stride);
    std::vector<int64_t> order(n);
    for (int64_t q = 0; q < m; ++q) {
      distances<T>(queries + q * d, planes, d, stride, dist.data());
      for (int64_t i = 0; i < n; ++i) order[i] = i;
      std::partial_sort(order.begin(), order.begin() + k, order.end(),
                        [&](int64_t a, int64_t b) {
                          return dist[a] < dist[b] || (dist[a] == dist[b] && a < b);
                        });
      for (int64_t j = 0; j < k; ++j)
        sqdist[q * k + j] = dist[order[j]], idx[q * k + j] = order[j];
    }
  }
}

template <class T>
static void ball(const T* queries, int64_t m, const T* planes, int64_t n, int64_t stride, T limit,
                 int64_t k, int64_t* idx) {
  constexpr int L = Lanes<T>::count;
  const T *x = planes, *y = x + stride, *z = y + stride;
  for (int64_t q = 0; q < m; ++q) {
    const Vec<T> qx = splat<T>(queries[3 * q]), qy = splat<T>(queries[3 * q + 1]),
                 qz = splat<T>(queries[3 * q + 2]);
    int64_t* out = idx + q * k;
    int64_t found = 0;
    for (int64_t i = 0; i < n && found < k; i += L) {
      // The padding is NaN, so its lanes compare false.
      const auto in =
          squared<T>(load(x + i), load(y + i), load(z + i), qx, qy, qz) < splat<T>(limit);
#if VECTOR_BYTES == 64
      unsigned left = sizeof(T) == 4 ? unsigned(_mm512_movepi32_mask((__m512i)in))
                                     : unsigned(_mm512_movepi64_mask((__m512i)in));
      for (; left && found < k; left &= left - 1) out[found++] = i + __builtin_ctz(left);
#elif VECTOR_BYTES == 32
      unsigned left = sizeof(T) == 4 ? unsigned(_mm256_movemask_ps((__m256)in))
                                     : unsigned(_mm256_movemask_pd((__m256d)in));
      for (; left && found < k; left &= left - 1) out[found++] = i + __builtin_ctz(left);
#else
      for (int j = 0; j < L && found < k; ++j)
        if (in[j]) out[found++] = i + j;
#endif
    }
    const int64_t fill = found ? out[0] : 0;
    for (; found < k; ++found) out[found] = fill;
  }
}
