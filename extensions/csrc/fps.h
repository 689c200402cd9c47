// Farthest point sampling of one cloud. Two exact forms: brute force, best while few points are
// picked, and kd leaves whose bounding boxes let most leaves be skipped, best when many are.
// Both pick the largest running minimum, ties by the lower index. NaN and infinite points hold a
// running minimum of -1 and are never picked.

template <class T>
static inline bool finite3(const T* p) {
  return std::isfinite(p[0]) && std::isfinite(p[1]) && std::isfinite(p[2]);
}

// Lowers the running minima of `count` points (a multiple of 2 vectors) by the distance to c and
// returns the largest with its position.
template <class T>
static inline Best<T> lower_minima(const T* x, const T* y, const T* z, T* m, int64_t count,
                                   Vec<T> cx, Vec<T> cy, Vec<T> cz) {
  constexpr int L = Lanes<T>::count;
  using Index = typename Lanes<T>::Index;
  Vec<T> best0 = splat<T>(-2), best1 = best0;
  IVec<T> at0 = isplat<T>(0), at1 = at0;
  for (int64_t i = 0; i < count; i += 2 * L) {
    const Vec<T> d0 = squared<T>(load(x + i), load(y + i), load(z + i), cx, cy, cz);
    const Vec<T> d1 =
        squared<T>(load(x + i + L), load(y + i + L), load(z + i + L), cx, cy, cz);
    const Vec<T> m0 = lesser<T>(d0, load(m + i)), m1 = lesser<T>(d1, load(m + i + L));
    store(m + i, m0);
    store(m + i + L, m1);
    const IVec<T> here = isplat<T>(Index(i));
    const auto up0 = m0 > best0, up1 = m1 > best1;
    best0 = up0 ? m0 : best0;
    best1 = up1 ? m1 : best1;
    at0 = up0 ? here : at0;
    at1 = up1 ? here : at1;
  }
  const IVec<T> lane = lane_numbers<T>();
  at0 += lane;
  at1 += lane + isplat<T>(L);
  const auto second = (best1 > best0) | ((best1 == best0) & (at1 < at0));
  return best_lane<T>(second ? best1 : best0, second ? at1 : at0);
}

template <class T>
static void fps_brute(const T* cloud, int64_t valid, int64_t start, int64_t s, int64_t* out) {
  constexpr int64_t step = 2 * Lanes<T>::count;
  const int64_t padded = (valid + step - 1) / step * step;
  std::vector<T> buffer(4 * padded, T(0));
  T *x = buffer.data(), *y = x + padded, *z = y + padded, *m = z + padded;
  for (int64_t i = 0; i < padded; ++i) m[i] = -1;
  for (int64_t i = 0; i < valid; ++i) {
    const T* p = cloud + 3 * i;
    x[i] = p[0], y[i] = p[1], z[i] = p[2];
    if (finite3(p)) m[i] = infinity<T>;
  }
  int64_t last = start;
  out[0] = last;
  for (int64_t k = 1; k < s; ++k) {
    const Best<T> far = lower_minima<T>(x, y, z, m, padded, splat<T>(x[last]),
                                        splat<T>(y[last]), splat<T>(z[last]));
    out[k] = last = far.index;
  }
}

// kd leaves: points reordered so that each leaf is a run, in ascending order of index.
template <class T>
struct Leaves {
  static constexpr int64_t step = 2 * Lanes<T>::count;
  static constexpr int64_t capacity = 128;  // points a leaf
  using Index = typename Lanes<T>::Index;
  std::vector<T> x, y, z, m;
  std::vector<int32_t> original;
  std::vector<T> low[3], high[3], most;  // a leaf: bounding box, largest running minimum
  std::vector<Index> winner;             // a leaf: original index of the point that holds it
  std::vector<int64_t> first, size;      // a leaf: its run

  void add(const T* cloud, const int32_t* ids, int64_t n, const T* lo, const T* hi) {
    const int64_t padded = (n + step - 1) / step * step;
    first.push_back(int64_t(x.size()));
    size.push_back(padded);
    for (int64_t i = 0; i < padded; ++i) {
      const T* p = cloud + 3 * int64_t(ids[i < n ? i : n - 1]);
      x.push_back(p[0]), y.push_back(p[1]), z.push_back(p[2]);
      m.push_back(i < n ? infinity<T> : T(-1));
      original.push_back(ids[i < n ? i : n - 1]);
    }
    for (int a = 0; a < 3; ++a) low[a].push_back(lo[a]), high[a].push_back(hi[a]);
    most.push_back(infinity<T>);
    winner.push_back(ids[0]);
  }

  // Splits at the mean of the widest axis; both halves keep the order of index, so no sort.
  void build(const T* cloud, int32_t* ids, int32_t* spare, int64_t n) {
    T lo[3], hi[3];
    double sum[3] = {0, 0, 0};
    for (int a = 0; a < 3; ++a) lo[a] = infinity<T>, hi[a] = -infinity<T>;
    for (int64_t i = 0; i < n; ++i) {
      const T* p = cloud + 3 * int64_t(ids[i]);
      for (int a = 0; a < 3; ++a) {
        lo[a] = p[a] < lo[a] ? p[a] : lo[a];
        hi[a] = p[a] > hi[a] ? p[a] : hi[a];
        sum[a] += p[a];
      }
    }
    if (n <= capacity) return add(cloud, ids, n, lo, hi);
    int axis = 0;
    for (int a = 1; a < 3; ++a)
      if (hi[a] - lo[a] > hi[axis] - lo[axis]) axis = a;
    const T cut = T(sum[axis] / double(n));
    int64_t left = 0, right = 0;
    for (int64_t i = 0; i < n; ++i) {
      const int32_t id = ids[i];
      const bool below = cloud[3 * int64_t(id) + axis] < cut;
      ids[left] = id;
      spare[right] = id;
      left += below;
      right += !below;
    }
    std::copy(spare, spare + right, ids + left);
    if (left == 0 || right == 0) left = n / 2;  // equal coordinates: any cut will do
    build(cloud, ids, spare, left);
    build(cloud, ids + left, spare, n - left);
  }

  void finish() {  // pad the per-leaf arrays to whole vectors
    while (most.size() % Lanes<T>::count) {
      for (int a = 0; a < 3; ++a) low[a].push_back(0), high[a].push_back(0);
      most.push_back(-1);
      winner.push_back(std::numeric_limits<Index>::max());
    }
  }

  // Squared distance from c to the box: rounding is monotone, so it never exceeds the computed
  // distance to a point inside, and skipping is exact.
  Vec<T> bound(int64_t leaf, const Vec<T>* c) const {
    Vec<T> total = splat<T>(0);
    for (int a = 0; a < 3; ++a) {
      Vec<T> gap = greater<T>(load(&low[a][leaf]) - c[a], c[a] - load(&high[a][leaf]));
      gap = greater<T>(gap, splat<T>(0));
      total = a ? total + gap * gap : gap * gap;
    }
    return total;
  }
};

template <class T>
static void fps_leaves(const T* cloud, int64_t valid, int64_t start, int64_t s, int64_t* out) {
  constexpr int L = Lanes<T>::count;
  std::vector<int32_t> ids, spare(valid);
  ids.reserve(valid);
  for (int64_t i = 0; i < valid; ++i)
    if (finite3(cloud + 3 * i)) ids.push_back(int32_t(i));
  Leaves<T> tree;
  if (!ids.empty()) tree.build(cloud, ids.data(), spare.data(), int64_t(ids.size()));
  const int64_t leaves = int64_t(tree.first.size());
  tree.finish();
  int64_t last = start;
  out[0] = last;
  for (int64_t k = 1; k < s; ++k) {
    const T* p = cloud + 3 * last;
    const Vec<T> c[3] = {splat<T>(p[0]), splat<T>(p[1]), splat<T>(p[2])};
    Vec<T> top = splat<T>(-1);
    IVec<T> winner = isplat<T>(0);
    for (int64_t g = 0; g < leaves; g += L) {
      Vec<T> most = load(&tree.most[g]);
      unsigned open = less_bits<T>(tree.bound(g, c), most);
      if (open) {
        for (; open; open &= open - 1) {
          const int64_t leaf = g + __builtin_ctz(open), at = tree.first[leaf];
          const Best<T> far = lower_minima<T>(&tree.x[at], &tree.y[at], &tree.z[at],
                                              &tree.m[at], tree.size[leaf], c[0], c[1], c[2]);
          tree.most[leaf] = far.value;
          tree.winner[leaf] = tree.original[at + far.index];
        }
        most = load(&tree.most[g]);
      }
      IVec<T> who;
      std::memcpy(&who, &tree.winner[g], sizeof who);
      const auto wins = (most > top) | ((most == top) & (who < winner));
      top = wins ? most : top;
      winner = wins ? who : winner;
    }
    out[k] = last = best_lane<T>(top, winner).index;
  }
}

template <class T>
static void fps(const T* cloud, int64_t n, int64_t valid, int64_t start, int64_t s,
                int64_t* out) {
  (void)n;
  if (s < 1) return;
  // Measured: leaves pay from a few thousand points and some hundred picks on.
  if (valid >= 1024 && s >= 320) return fps_leaves<T>(cloud, valid, start, s, out);
  fps_brute<T>(cloud, valid, start, s, out);
}
