// k nearest neighbours and ball query of a block of queries against the planes of one cloud.

template <class T>
static void planes(const T* cloud, int64_t n, int64_t d, int64_t stride, T* out) {
  for (int64_t a = 0; a < d; ++a) {
    T* plane = out + a * stride;
    for (int64_t i = 0; i < n; ++i) plane[i] = cloud[i * d + a];
    for (int64_t i = n; i < stride; ++i) plane[i] = std::numeric_limits<T>::quiet_NaN();
  }
}

// Squared distances of one query to all planes. The padding, and any NaN, stays NaN.
template <class T>
static inline void distances(const T* q, const T* planes, int64_t d, int64_t stride, T* out) {
  constexpr int L = Lanes<T>::count;
  for (int64_t i = 0; i < stride; i += L) {
    Vec<T> total = splat<T>(0);
    for (int64_t a = 0; a < d; ++a) {
      const Vec<T> delta = load(planes + a * stride + i) - splat<T>(q[a]);
      total += delta * delta;
    }
    store(out + i, total);
  }
}

// The smallest of each of C columns of vectors; NaN is passed over.
template <int C>
static inline void column_minima(const float* dist, int64_t stride, float* minima) {
  constexpr int L = Lanes<float>::count;
  Vec<float> low[C];
  for (int v = 0; v < C; ++v) low[v] = splat<float>(infinity<float>);
  for (int64_t i = 0; i < stride; i += C * L)
    for (int v = 0; v < C; ++v) low[v] = lesser<float>(load(dist + i + v * L), low[v]);
  for (int v = 0; v < C; ++v) store(minima + v * L, low[v]);
}
// The same together with the distances in three dimensions, which spares a pass.
template <int C>
static inline void distances3(const float* q, const float* x, int64_t stride, float* out,
                              float* minima) {
  constexpr int L = Lanes<float>::count;
  const float *y = x + stride, *z = y + stride;
  const Vec<float> qx = splat(q[0]), qy = splat(q[1]), qz = splat(q[2]);
  Vec<float> low[C];
  for (int v = 0; v < C; ++v) low[v] = splat<float>(infinity<float>);
  for (int64_t i = 0; i < stride; i += C * L)
    for (int v = 0; v < C; ++v) {
      const int64_t at = i + v * L;
      const Vec<float> d = squared<float>(load(x + at), load(y + at), load(z + at), qx, qy, qz);
      store(out + at, d);
      low[v] = lesser<float>(d, low[v]);
    }
  for (int v = 0; v < C; ++v) store(minima + v * L, low[v]);
}

// An upper bound of the k-th smallest value, usually tight: if k columns have a minimum <= t,
// then k values are <= t. The smallest such t is approached by bisection over the bits of the
// float, which order like the float since distances are not negative.
template <int G>
static inline float bound_kth(const float* minima, int64_t k) {
  constexpr int L = Lanes<float>::count, C = G / L;
  IVec<float> column[C], low, high;
  std::memcpy(column, minima, sizeof column);
  low = high = column[0];
  for (int v = 1; v < C; ++v) {
    low = column[v] < low ? column[v] : low;
    high = column[v] > high ? column[v] : high;
  }
  int32_t from = low[0], to = high[0];
  for (int i = 1; i < L; ++i) from = std::min(from, low[i]), to = std::max(to, high[i]);
  from = std::max(from, to - (4 << 23));  // at most a factor 16 below: fewer rounds
  for (int round = 0; round < 8 && from < to; ++round) {
    const int32_t mid = from + (to - from) / 2;
    int64_t counted = 0;
    for (int v = 0; v < C; ++v)
      counted += __builtin_popcount(at_most_bits(column[v], isplat<float>(mid)));
    if (counted >= k)
      to = mid;
    else
      from = mid + 1;
  }
  float limit;
  std::memcpy(&limit, &to, 4);
  return limit;
}

static inline uint64_t key_of(float value, int32_t index) {
  uint32_t bits;
  std::memcpy(&bits, &value, 4);
  return uint64_t(bits) << 32 | uint32_t(index);
}

// Sorts few keys, all different: the rank of each is the number of smaller ones, and no branch
// depends on the data. `keys` must have room for one more vector.
static inline void rank_sort(uint64_t* keys, int64_t count, uint64_t* out) {
  constexpr int U = VECTOR_BYTES / 8;
  for (int u = 0; u < U; ++u) keys[count + u] = ~uint64_t(0);
  for (int64_t i = 0; i < count; ++i) {
    const UVec mine = keys[i] - UVec{};
    int64_t rank = 0;
    for (int64_t j = 0; j < count; j += U) {
      UVec other;
      std::memcpy(&other, keys + j, sizeof other);
      rank += __builtin_popcount(less_bits(other, mine));
    }
    out[rank] = keys[i];
  }
}

// k nearest of one query. The keys (distance, index) not above a bound of the k-th distance are
// collected, usually little more than k of them, and sorted.
struct Nearest {
  static constexpr int L = Lanes<float>::count;
  int64_t n, stride, k;
  std::vector<float> dist;
  std::vector<int32_t> found;
  std::vector<uint64_t> keys, sorted;

  Nearest(int64_t n, int64_t stride, int64_t k)
      : n(n), stride(stride), k(k), dist(stride), found(stride + L), keys(n + L), sorted(n + L) {}

  void query(const float* q, const float* planes, int64_t d, float* sqdist, int64_t* idx) {
    alignas(64) float minima[256];
    float limit = infinity<float>;
    if (2 * k <= 64 && stride >= 128) {  // strides are multiples of 64
      if (d == 3) {
        distances3<64 / L>(q, planes, stride, dist.data(), minima);
      } else {
        distances<float>(q, planes, d, stride, dist.data());
        column_minima<64 / L>(dist.data(), stride, minima);
      }
      limit = bound_kth<64>(minima, k);
    } else {
      distances<float>(q, planes, d, stride, dist.data());
      if (2 * k <= 256 && stride >= 512) {
        column_minima<256 / L>(dist.data(), stride / 256 * 256, minima);
        limit = bound_kth<256>(minima, k);
      }
    }
    int64_t count = limit < infinity<float> ? below(limit) : everything();
    uint64_t* best = keys.data();
    if (count <= 128) {
      rank_sort(keys.data(), count, sorted.data());
      best = sorted.data();
    } else {
      if (k < count) std::nth_element(best, best + k, best + count);
      std::sort(best, best + k);
    }
    for (int64_t j = 0; j < k; ++j) {
      const uint32_t bits = uint32_t(best[j] >> 32);
      std::memcpy(sqdist + j, &bits, 4);
      idx[j] = int64_t(best[j] & 0xffffffffu);
    }
  }

  int64_t below(float limit) {  // the padding is NaN and never below
    int64_t count = 0;
    const bool sparse = k <= 8;  // then most blocks are empty and the branch is foreseen
    for (int64_t i = 0; i < stride; i += 64) {
      unsigned hits[64 / L], any = 0;
      for (int v = 0; v < 64 / L; ++v)
        any |= hits[v] = at_most_bits(load(&dist[i + v * L]), splat(limit));
      if (sparse && !any) continue;
      for (int v = 0; v < 64 / L; ++v)
        count += append_lanes(hits[v], int32_t(i + v * L), &found[count]);
    }
    for (int64_t j = 0; j < count; ++j) keys[j] = key_of(dist[found[j]], found[j]);
    return count;
  }
  int64_t everything() {  // a NaN distance counts as infinity
    for (int64_t i = 0; i < n; ++i)
      keys[i] = key_of(dist[i] < infinity<float> ? dist[i] : infinity<float>, int32_t(i));
    return n;
  }
};

template <class T>
static void knn(const T* queries, int64_t m, const T* planes, int64_t n, int64_t d,
                int64_t stride, int64_t k, T* sqdist, int64_t* idx) {
  if constexpr (std::is_same_v<T, float>) {
    Nearest nearest(n, stride, k);
    for (int64_t q = 0; q < m; ++q)
      nearest.query(queries + q * d, planes, d, sqdist + q * k, idx + q * k);
  } else {
    std::vector<T> dist(stride);
    std::vector<int64_t> order(n);
    for (int64_t q = 0; q < m; ++q) {
      distances<T>(queries + q * d, planes, d, stride, dist.data());
      for (int64_t i = 0; i < n; ++i) {
        order[i] = i;
        if (!(dist[i] < infinity<T>)) dist[i] = infinity<T>;
      }
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
  std::vector<int32_t> buffer(std::min(k, n) + 64);
  int32_t* inside = buffer.data();
  for (int64_t q = 0; q < m; ++q) {
    const Vec<T> qx = splat<T>(queries[3 * q]), qy = splat<T>(queries[3 * q + 1]),
                 qz = splat<T>(queries[3 * q + 2]);
    int64_t found = 0;
    // The padding is NaN, so its lanes compare false.
    for (int64_t i = 0; i < stride && found < k; i += L) {
      const Vec<T> d = squared<T>(load(x + i), load(y + i), load(z + i), qx, qy, qz);
      found += append_lanes(less_bits<T>(d, splat<T>(limit)), int32_t(i), inside + found);
    }
    int64_t* out = idx + q * k;
    const int64_t used = std::min(found, k), fill = found ? inside[0] : 0;
    for (int64_t j = 0; j < used; ++j) out[j] = inside[j];
    for (int64_t j = used; j < k; ++j) out[j] = fill;
  }
}
