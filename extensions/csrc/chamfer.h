// Nearest point of another cloud, one way, and its gradient. Lanes are queries: no reduction
// across lanes, and the points of b are broadcast once for a block of four vectors of queries.

template <class T, int V>
static inline void nearest_block(const T* const* q, const T* bx, const T* by, const T* bz,
                                 int64_t m, T* sqdist, typename Lanes<T>::Index* at) {
  constexpr int L = Lanes<T>::count;
  using Index = typename Lanes<T>::Index;
  Vec<T> x[V], y[V], z[V], best[V];
  IVec<T> where[V];
  for (int v = 0; v < V; ++v) {
    x[v] = load(q[0] + v * L), y[v] = load(q[1] + v * L), z[v] = load(q[2] + v * L);
    best[v] = splat<T>(infinity<T>);
    where[v] = isplat<T>(0);
  }
  for (int64_t j = 0; j < m; ++j) {
    const Vec<T> px = splat<T>(bx[j]), py = splat<T>(by[j]), pz = splat<T>(bz[j]);
    const IVec<T> here = isplat<T>(Index(j));
    for (int v = 0; v < V; ++v) {
      const Vec<T> d = squared<T>(x[v], y[v], z[v], px, py, pz);
      const auto closer = d < best[v];  // false for NaN
      best[v] = closer ? d : best[v];
      where[v] = closer ? here : where[v];
    }
  }
  for (int v = 0; v < V; ++v) {
    store(sqdist + v * L, best[v]);
    std::memcpy(at + v * L, &where[v], sizeof where[v]);
  }
}

// Coordinates of `count` points in three planes of `padded` values; the padding is zero.
template <class T>
static inline void split(const T* cloud, int64_t count, int64_t padded, T* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = cloud[3 * i];
    out[padded + i] = cloud[3 * i + 1];
    out[2 * padded + i] = cloud[3 * i + 2];
  }
  for (int a = 0; a < 3; ++a)
    for (int64_t i = count; i < padded; ++i) out[a * padded + i] = 0;
}

template <class T>
static void nearest(const T* a, int64_t n, const T* b, int64_t m, T* sqdist, int64_t* idx) {
  constexpr int L = Lanes<T>::count;
  constexpr int V = 4;
  using Index = typename Lanes<T>::Index;
  T small[3 * 256];
  std::unique_ptr<T[]> large;
  T* other = small;
  if (m > 256) {
    large.reset(new T[3 * m]);
    other = large.get();
  }
  split(b, m, m, other);
  T mine[3 * V * L], dist[V * L];
  Index at[V * L];
  const T* const q[3] = {mine, mine + V * L, mine + 2 * V * L};
  for (int64_t i = 0; i < n; i += V * L) {
    const int64_t count = std::min<int64_t>(V * L, n - i);
    split(a + 3 * i, count, V * L, mine);
    const T *x = other, *y = x + m, *z = y + m;
    if (count <= L)
      nearest_block<T, 1>(q, x, y, z, m, dist, at);
    else if (count <= 2 * L)
      nearest_block<T, 2>(q, x, y, z, m, dist, at);
    else
      nearest_block<T, 4>(q, x, y, z, m, dist, at);
    for (int64_t j = 0; j < count; ++j) sqdist[i + j] = dist[j], idx[i + j] = int64_t(at[j]);
  }
}

template <class T>
static inline T squared1(const T* p, const T* q) {
  const T dx = p[0] - q[0], dy = p[1] - q[1], dz = p[2] - q[2];
  return dx * dx + dy * dy + dz * dz;
}

// Both directions in one pass over the distances, for clouds worth the bookkeeping. Only minima
// are kept in the loop; which point gave one is found afterwards, in the short run where it fell:
// for a point of a, a run of b; for a point of b, a lane and block of a.
template <class T>
static void nearest_both(const T* a, int64_t n, const T* b, int64_t m, T* dist_a, int64_t* idx_a,
                         T* dist_b, int64_t* idx_b) {
  constexpr int L = Lanes<T>::count, V = 4, block = V * L, run = 16;
  using Index = typename Lanes<T>::Index;
  std::vector<T> planes(3 * m), low(m * L, infinity<T>);
  std::vector<Index> from(m * L, 0);
  split(b, m, m, planes.data());
  const T *bx = planes.data(), *by = bx + m, *bz = by + m;
  const Vec<T> inf = splat<T>(infinity<T>);
  for (int64_t first = 0; first < n; first += block) {
    const int64_t count = std::min<int64_t>(block, n - first);
    T mine[3 * block], best_of[block];
    Index run_of[block];
    split(a + 3 * first, count, block, mine);
    for (int64_t i = count; i < block; ++i) mine[i] = std::numeric_limits<T>::quiet_NaN();
    Vec<T> x[V], y[V], z[V], best[V];
    IVec<T> where[V];
    for (int v = 0; v < V; ++v) {
      x[v] = load(mine + v * L), y[v] = load(mine + block + v * L);
      z[v] = load(mine + 2 * block + v * L);
      best[v] = inf, where[v] = isplat<T>(0);
    }
    const IVec<T> number = isplat<T>(Index(first / block));
    for (int64_t start = 0; start < m; start += run) {
      Vec<T> before[V];
      for (int v = 0; v < V; ++v) before[v] = best[v];
      const int64_t stop = std::min<int64_t>(m, start + run);
      for (int64_t j = start; j < stop; ++j) {
        const Vec<T> px = splat<T>(bx[j]), py = splat<T>(by[j]), pz = splat<T>(bz[j]);
        Vec<T> least = inf;
        for (int v = 0; v < V; ++v) {
          const Vec<T> d = squared<T>(x[v], y[v], z[v], px, py, pz);
          best[v] = lesser<T>(d, best[v]);  // a NaN changes neither
          least = lesser<T>(d, least);
        }
        const Vec<T> old = load(&low[j * L]);
        IVec<T> who;
        std::memcpy(&who, &from[j * L], sizeof who);
        const auto closer = least < old;
        store(&low[j * L], closer ? least : old);
        who = closer ? number : who;
        std::memcpy(&from[j * L], &who, sizeof who);
      }
      for (int v = 0; v < V; ++v)
        where[v] = best[v] < before[v] ? isplat<T>(Index(start / run)) : where[v];
    }
    for (int v = 0; v < V; ++v) {
      store(best_of + v * L, best[v]);
      std::memcpy(run_of + v * L, &where[v], sizeof where[v]);
    }
    for (int64_t i = 0; i < count; ++i) {
      int64_t j = int64_t(run_of[i]) * run;
      if (best_of[i] < infinity<T>)
        while (squared1(a + 3 * (first + i), b + 3 * j) != best_of[i]) ++j;
      dist_a[first + i] = best_of[i], idx_a[first + i] = j;
    }
  }
  for (int64_t j = 0; j < m; ++j) {
    const T* lane_low = &low[j * L];
    T value = lane_low[0];
    for (int lane = 1; lane < L; ++lane) value = std::min(value, lane_low[lane]);
    int64_t index = value < infinity<T> ? n : 0;
    for (int lane = 0; lane < L && value < infinity<T>; ++lane) {
      if (lane_low[lane] != value) continue;
      int64_t i = int64_t(from[j * L + lane]) * block + lane;
      while (squared1(a + 3 * i, b + 3 * j) != value) i += L;
      index = std::min(index, i);
    }
    dist_b[j] = value, idx_b[j] = index;
  }
}

template <class T>
static bool nearest_backward(const T* grad, const T* a, int64_t n, const T* b, int64_t m,
                             const int64_t* idx, T* grad_a, T* grad_b) {
  for (int64_t i = 0; i < n; ++i) {
    const int64_t j = idx[i];
    if (j < 0 || j >= m) return false;
    const T g = 2 * grad[i];
    for (int axis = 0; axis < 3; ++axis) {
      const T flow = g * (a[3 * i + axis] - b[3 * j + axis]);
      grad_a[3 * i + axis] += flow;
      grad_b[3 * j + axis] -= flow;
    }
  }
  return true;
}
