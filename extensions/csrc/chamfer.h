// Nearest point of another cloud, one way or both, and its gradient. Lanes are queries: no
// reduction across lanes, and the points of b are broadcast once for a block of vectors of queries.

// Coordinates of `count` points in three planes of `padded` values; the padding is NaN, which is
// nearest to nothing.
template <class T>
static inline void split(const T* cloud, int64_t count, int64_t padded, T* out) {
  for (int64_t i = 0; i < count; ++i) {
    out[i] = cloud[3 * i];
    out[padded + i] = cloud[3 * i + 1];
    out[2 * padded + i] = cloud[3 * i + 2];
  }
  for (int a = 0; a < 3; ++a)
    for (int64_t i = count; i < padded; ++i)
      out[a * padded + i] = std::numeric_limits<T>::quiet_NaN();
}

// `count` queries, at most V vectors, from planes of stride n, against m points from planes of
// stride `other`.
template <class T, int V>
static inline void nearest_block(const T* q, int64_t n, const T* b, int64_t m, int64_t other,
                                 int64_t count, T* sqdist, int64_t* idx) {
  constexpr int L = Lanes<T>::count;
  using Index = typename Lanes<T>::Index;
  Vec<T> x[V], y[V], z[V], best[V];
  IVec<T> where[V], here = isplat<T>(0);
  for (int v = 0; v < V; ++v) {
    x[v] = load(q + v * L), y[v] = load(q + n + v * L), z[v] = load(q + 2 * n + v * L);
    best[v] = splat<T>(infinity<T>);
    where[v] = isplat<T>(0);
  }
  for (int64_t j = 0; j < m; ++j) {
    const Vec<T> px = splat<T>(b[j]), py = splat<T>(b[other + j]), pz = splat<T>(b[2 * other + j]);
    for (int v = 0; v < V; ++v) {
      const Vec<T> d = squared<T>(x[v], y[v], z[v], px, py, pz);
      where[v] = d < best[v] ? here : where[v];
      best[v] = lesser_square<T>(d, best[v]);  // not by the comparison: a shorter chain of waits
    }
    here += 1;
  }
  T dist[V * L];
  Index at[V * L];
  for (int v = 0; v < V; ++v) {
    store(dist + v * L, best[v]);
    std::memcpy(at + v * L, &where[v], sizeof where[v]);
  }
  for (int64_t i = 0; i < count; ++i) sqdist[i] = dist[i], idx[i] = int64_t(at[i]);
}

constexpr int query_vectors = 4;
template <class T>
constexpr int64_t query_block = query_vectors * Lanes<T>::count;

template <class T>
static inline int64_t whole_blocks(int64_t n) {
  return (n + query_block<T> - 1) / query_block<T> * query_block<T>;
}

// Planes of stride n, padded to whole blocks, against planes of stride m.
template <class T>
static inline void nearest_planes(const T* a, int64_t n, int64_t count_a, const T* b, int64_t m,
                                  int64_t count_b, T* sqdist, int64_t* idx) {
  constexpr int L = Lanes<T>::count;
  for (int64_t i = 0; i < count_a; i += query_block<T>) {
    const int64_t count = std::min<int64_t>(query_block<T>, count_a - i);
    auto* block = count <= L       ? nearest_block<T, 1>
                  : count <= 2 * L ? nearest_block<T, 2>
                                   : nearest_block<T, query_vectors>;
    block(a + i, n, b, count_b, m, count, sqdist + i, idx + i);
  }
}

// Room for the planes of two clouds: on the stack when they are patches.
template <class T>
class TwoClouds {
 public:
  TwoClouds(const T* a, int64_t n, const T* b, int64_t m)
      : rows(whole_blocks<T>(n)), columns(whole_blocks<T>(m)) {
    if (rows + columns > small_room) large_.reset(new T[3 * (rows + columns)]);
    first = large_ ? large_.get() : small_;
    second = first + 3 * rows;
    split(a, n, rows, first);
    split(b, m, columns, second);
  }
  const int64_t rows, columns;  // strides
  T *first, *second;

 private:
  static constexpr int64_t small_room = 512;
  T small_[3 * small_room];
  std::unique_ptr<T[]> large_;
};

template <class T>
static void nearest(const T* a, int64_t n, const T* b, int64_t m, T* sqdist, int64_t* idx) {
  const TwoClouds<T> two(a, n, b, m);
  nearest_planes<T>(two.first, two.rows, n, two.second, two.columns, m, sqdist, idx);
}

// Both ways in one pass over the distances, for clouds worth the bookkeeping. Only minima are kept
// in the loop; which point gave one is found afterwards, in the short run where it fell: for a
// point of a, a run of b; for a point of b, a lane and block of a. Tiles of b outside, so that the
// minima kept for them, a vector a point, stay in the first cache.
template <class T>
static void nearest_in_one_pass(const T* a, int64_t n, const T* b, int64_t m, T* dist_a,
                                int64_t* idx_a, T* dist_b, int64_t* idx_b) {
  constexpr int L = Lanes<T>::count, V = query_vectors, block = V * L, run = 16, tile = 64;
  using Index = typename Lanes<T>::Index;
  const TwoClouds<T> two(a, n, b, m);
  const int64_t rows = two.rows;
  const T *bx = two.second, *by = bx + two.columns, *bz = by + two.columns;
  std::vector<T> best_of(rows, infinity<T>);
  std::vector<Index> run_of(rows, 0);
  T low[tile * L];
  Index from[tile * L] = {};
  for (int64_t first = 0; first < m; first += tile) {
    const int64_t last = std::min<int64_t>(m, first + tile);
    std::fill_n(low, tile * L, infinity<T>);
    for (int64_t i = 0; i < rows; i += block) {
      const T* q = two.first + i;
      Vec<T> x[V], y[V], z[V], best[V];
      for (int v = 0; v < V; ++v) {
        x[v] = load(q + v * L), y[v] = load(q + rows + v * L);
        z[v] = load(q + 2 * rows + v * L), best[v] = load(&best_of[i + v * L]);
      }
      const IVec<T> number = isplat<T>(Index(i / block));
      for (int64_t start = first; start < last; start += run) {
        const int64_t stop = std::min<int64_t>(last, start + run);
        for (int64_t j = start; j < stop; ++j) {
          const Vec<T> px = splat<T>(bx[j]), py = splat<T>(by[j]), pz = splat<T>(bz[j]);
          T* const lanes = low + (j - first) * L;
          Vec<T> least = load(lanes);
          for (int v = 0; v < V; ++v) {
            const Vec<T> d = squared<T>(x[v], y[v], z[v], px, py, pz);
            best[v] = lesser_square<T>(d, best[v]);
            least = lesser_square<T>(d, least);
          }
          IVec<T> who;
          std::memcpy(&who, from + (j - first) * L, sizeof who);
          who = least < load(lanes) ? number : who;
          std::memcpy(from + (j - first) * L, &who, sizeof who);
          store(lanes, least);
        }
        for (int v = 0; v < V; ++v) {
          IVec<T> where;
          std::memcpy(&where, &run_of[i + v * L], sizeof where);
          where = best[v] < load(&best_of[i + v * L]) ? isplat<T>(Index(start / run)) : where;
          std::memcpy(&run_of[i + v * L], &where, sizeof where);
          store(&best_of[i + v * L], best[v]);
        }
      }
    }
    for (int64_t j = first; j < last; ++j) {
      const Vec<T> lanes = load(low + (j - first) * L);
      const T value = least_lane<T>(lanes);
      dist_b[j] = value, idx_b[j] = value < infinity<T> ? n : 0;
      if (!(value < infinity<T>)) continue;
      const Vec<T> px = splat<T>(bx[j]), py = splat<T>(by[j]), pz = splat<T>(bz[j]);
      for (unsigned at = equal_bits<T>(lanes, splat<T>(value)); at; at &= at - 1) {
        const int lane = __builtin_ctz(at);
        const int64_t i = int64_t(from[(j - first) * L + lane]) * block;
        unsigned hits = 0;  // without a branch, which would be guessed wrong
        for (int v = 0; v < V; ++v) {
          const T* q = two.first + i + v * L;
          const Vec<T> d = squared<T>(load(q), load(q + rows), load(q + 2 * rows), px, py, pz);
          hits |= (equal_bits<T>(d, splat<T>(value)) >> lane & 1) << v;
        }
        idx_b[j] = std::min(idx_b[j], i + lane + L * __builtin_ctz(hits));
      }
    }
  }
  for (int64_t i = 0; i < n; ++i) {
    const T value = best_of[i];
    int64_t j = int64_t(run_of[i]) * run;
    if (value < infinity<T>) {
      const T* q = two.first + i;
      const Vec<T> x = splat<T>(q[0]), y = splat<T>(q[rows]), z = splat<T>(q[2 * rows]);
      unsigned hit = 0;
      for (;; j += L) {
        const Vec<T> d = squared<T>(load(bx + j), load(by + j), load(bz + j), x, y, z);
        hit = equal_bits<T>(d, splat<T>(value));
        if (hit) break;
      }
      j += __builtin_ctz(hit);
    }
    dist_a[i] = value, idx_a[i] = j;
  }
}

template <class T>
static void nearest_both(const T* a, int64_t n, const T* b, int64_t m, T* dist_a, int64_t* idx_a,
                         T* dist_b, int64_t* idx_b) {
  if (n >= 256 && m >= 256)
    return nearest_in_one_pass<T>(a, n, b, m, dist_a, idx_a, dist_b, idx_b);
  const TwoClouds<T> two(a, n, b, m);
  nearest_planes<T>(two.first, two.rows, n, two.second, two.columns, m, dist_a, idx_a);
  nearest_planes<T>(two.second, two.columns, m, two.first, two.rows, n, dist_b, idx_b);
}

// A point as one vector of four, so that its axes go through one instruction.
template <class T>
struct Four {
  typedef T Row __attribute__((vector_size(4 * sizeof(T))));
  static Row load3(const T* p) { return Row{p[0], p[1], p[2], 0}; }
  static Row load(const T* p) {
    Row row;
    std::memcpy(&row, p, sizeof row);
    return row;
  }
  static void store(T* p, Row row) { std::memcpy(p, &row, sizeof row); }
};

// One way of the gradient: each point of a pulls on its pair, unless its distance has no gradient:
// the pair may then be anything, and 0 * NaN is not 0. The sums are rows of four; those of a are
// written (they are first), or added to, as those of b are; either may be null.
template <class T, bool write_a, bool to_a, bool to_b>
static bool pull(const T* grad, int64_t step, const T* a, int64_t n, const T* b, int64_t m,
                 const int64_t* idx, T* sum_a, T* sum_b) {
  using F = Four<T>;
  for (int64_t i = 0; i < n; ++i) {
    const int64_t j = idx[i];
    if (uint64_t(j) >= uint64_t(m)) return false;
    const T g = grad[i * step];
    const auto flow =
        g == 0 ? typename F::Row{} : 2 * g * (F::load3(a + 3 * i) - F::load3(b + 3 * j));
    T *row_a = sum_a + 4 * i, *row_b = sum_b + 4 * j;
    if constexpr (to_a) F::store(row_a, write_a ? flow : F::load(row_a) + flow);
    if constexpr (to_b) F::store(row_b, F::load(row_b) - flow);
  }
  return true;
}

template <class T, bool need_a, bool need_b>
static bool both_pull(const T* grad_ab, const T* grad_ba, int64_t step_ab, int64_t step_ba,
                      const T* a, int64_t n, const T* b, int64_t m, const int64_t* idx_ab,
                      const int64_t* idx_ba, T* to_a, T* to_b) {
  constexpr int64_t small_room = 512;
  T small[4 * small_room];
  std::unique_ptr<T[]> large;
  if (n + m > small_room) large.reset(new T[4 * (n + m)]);
  T* const sum_a = large ? large.get() : small;
  T* const sum_b = sum_a + 4 * n;
  if (need_b) std::fill_n(sum_b, 4 * m, T(0));
  if (!pull<T, true, need_a, need_b>(grad_ab, step_ab, a, n, b, m, idx_ab, sum_a, sum_b) ||
      !pull<T, false, need_b, need_a>(grad_ba, step_ba, b, m, a, n, idx_ba, sum_b, sum_a))
    return false;
  for (int64_t i = 0; need_a && i < n; ++i) std::copy_n(sum_a + 4 * i, 3, to_a + 3 * i);
  for (int64_t j = 0; need_b && j < m; ++j) std::copy_n(sum_b + 4 * j, 3, to_b + 3 * j);
  return true;
}

template <class T>
static bool nearest_backward(const T* grad_ab, const T* grad_ba, int64_t step_ab, int64_t step_ba,
                             const T* a, int64_t n, const T* b, int64_t m, const int64_t* idx_ab,
                             const int64_t* idx_ba, T* to_a, T* to_b) {
  auto* kernel = to_a ? to_b ? both_pull<T, true, true> : both_pull<T, true, false>
                      : both_pull<T, false, true>;
  return kernel(grad_ab, grad_ba, step_ab, step_ba, a, n, b, m, idx_ab, idx_ba, to_a, to_b);
}
