// Sampling, neighbours, Chamfer and matching as operators. Included by bindings.cpp only.

Tensor fps(const Tensor& points_, const Tensor& start_, const std::optional<Tensor>& lengths_,
           int64_t s) {
  const Tensor points = checked(points_, "points", 3, points_.scalar_type());
  const int64_t batch = points.size(0), n = points.size(1);
  EXPECTS(points.size(2) == 3, "points: expected shape (B, N, 3), got ",
          points.sizes());
  EXPECTS(s >= 1 && (n >= 1 || batch == 0), "n_samples: expected at least 1, of N >= 1");
  EXPECTS(n < (int64_t(1) << 31), "points: expected fewer than 2^31 points");
  const Tensor start = indices(start_, "start", {batch});
  Tensor lengths;
  if (lengths_) lengths = indices(*lengths_, "lengths", {batch});
  for (int64_t b = 0; lengths_ && b < batch; ++b) {
    const int64_t length = lengths.const_data_ptr<int64_t>()[b];
    EXPECTS(length >= 1 && length <= n, "lengths: expected values in 1..", n);
  }
  Tensor out = at::empty({batch, s}, points.options().dtype(at::kLong));
  by_dtype(points, "points", [&](auto zero) {
    using T = decltype(zero);
    const T* cloud = points.const_data_ptr<T>();
    const int64_t* first = start.const_data_ptr<int64_t>();
    const int64_t* length = lengths_ ? lengths.const_data_ptr<int64_t>() : nullptr;
    int64_t* picked = out.mutable_data_ptr<int64_t>();
    share(batch, 1, [&](int64_t from, int64_t to) {
      for (int64_t b = from; b < to; ++b) {
        const int64_t valid = length ? length[b] : n;
        const int64_t at = std::min(std::max<int64_t>(first[b], 0), valid - 1);
        table<T>().fps(cloud + b * n * 3, n, valid, at, s, picked + b * s);
      }
    });
  });
  return out;
}

// Planes of every cloud (B, D, stride), padded to whole vectors.
template <class T>
Tensor plane_tensor(const Tensor& points, int64_t& stride) {
  const int64_t batch = points.size(0), n = points.size(1), d = points.size(2);
  stride = (n + 63) / 64 * 64;
  Tensor out = at::empty({batch, d, stride}, points.options());
  const T* from = points.const_data_ptr<T>();
  T* to = out.mutable_data_ptr<T>();
  const int64_t step = stride;
  share(batch, std::max<int64_t>(1, 16384 / (d * n + 1)), [&](int64_t b0, int64_t b1) {
    for (int64_t b = b0; b < b1; ++b)
      table<T>().planes(from + b * n * d, n, d, step, to + b * d * step);
  });
  return out;
}

// Calls f(cloud, first row, last row) over blocks of the rows of every cloud, in parallel.
template <class F>
void over_rows(int64_t batch, int64_t rows, int64_t block, F&& f) {
  const int64_t blocks = (rows + block - 1) / block;
  share(batch * blocks, 1, [&](int64_t from, int64_t to) {
    for (int64_t task = from; task < to; ++task) {
      const int64_t first = task % blocks * block;
      f(task / blocks, first, std::min(rows, first + block));
    }
  });
}

std::tuple<Tensor, Tensor> knn(const Tensor& queries_, const Tensor& points_, int64_t k) {
  const Tensor points = checked(points_, "points", 3, points_.scalar_type());
  const int64_t batch = points.size(0), n = points.size(1), d = points.size(2);
  const int64_t m = queries_.dim() == 3 ? queries_.size(1) : 0;
  const Tensor queries = like(queries_, "queries", points, {batch, m, d});
  EXPECTS(k >= 1 && k <= n, "k: expected 1..", n, ", got ", k);
  EXPECTS(n < (int64_t(1) << 31), "points: expected fewer than 2^31 points");
  Tensor sqdist = at::empty({batch, m, k}, points.options());
  Tensor idx = at::empty({batch, m, k}, points.options().dtype(at::kLong));
  by_dtype(points, "points", [&](auto zero) {
    using T = decltype(zero);
    int64_t stride = 0;
    const Tensor planes = plane_tensor<T>(points, stride);
    const T *q = queries.const_data_ptr<T>(), *p = planes.const_data_ptr<T>();
    T* dist = sqdist.mutable_data_ptr<T>();
    int64_t* at = idx.mutable_data_ptr<int64_t>();
    over_rows(batch, m, 32, [&](int64_t b, int64_t from, int64_t to) {
      const int64_t row = b * m + from;
      table<T>().knn(q + row * d, to - from, p + b * d * stride, n, d, stride, k, dist + row * k,
                     at + row * k);
    });
  });
  return {sqdist, idx};
}

Tensor ball_query(const Tensor& queries_, const Tensor& points_, double radius, int64_t k) {
  const Tensor points = checked(points_, "points", 3, points_.scalar_type());
  const int64_t batch = points.size(0), n = points.size(1);
  const int64_t m = queries_.dim() == 3 ? queries_.size(1) : 0;
  EXPECTS(points.size(2) == 3 && n >= 1, "points: expected shape (B, N >= 1, 3), got ",
          points.sizes());
  const Tensor queries = like(queries_, "queries", points, {batch, m, 3});
  EXPECTS(k >= 1, "k: expected at least 1, got ", k);
  Tensor idx = at::empty({batch, m, k}, points.options().dtype(at::kLong));
  by_dtype(points, "points", [&](auto zero) {
    using T = decltype(zero);
    int64_t stride = 0;
    const Tensor planes = plane_tensor<T>(points, stride);
    const T *q = queries.const_data_ptr<T>(), *p = planes.const_data_ptr<T>();
    const T limit = T(radius) * T(radius);
    int64_t* at = idx.mutable_data_ptr<int64_t>();
    over_rows(batch, m, 32, [&](int64_t b, int64_t from, int64_t to) {
      const int64_t row = b * m + from;
      table<T>().ball(q + row * 3, to - from, p + b * 3 * stride, n, stride, limit, k,
                      at + row * k);
    });
  });
  return idx;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> chamfer(const Tensor& a_, const Tensor& b_) {
  const Tensor a = checked(a_, "a", 3, a_.scalar_type());
  const int64_t batch = a.size(0), n = a.size(1), m = b_.dim() == 3 ? b_.size(1) : 0;
  const Tensor b = like(b_, "b", a, {batch, m, 3});
  EXPECTS(a.size(2) == 3 && n >= 1 && m >= 1,
          "a, b: expected shapes (B, N >= 1, 3) and (B, M >= 1, 3), got ", a.sizes(),
          " and ", b.sizes());
  EXPECTS(n < (int64_t(1) << 31) && m < (int64_t(1) << 31),
          "a, b: expected fewer than 2^31 points");
  const auto longs = a.options().dtype(at::kLong);
  Tensor dist_ab = at::empty({batch, n}, a.options()), idx_ab = at::empty({batch, n}, longs);
  Tensor dist_ba = at::empty({batch, m}, a.options()), idx_ba = at::empty({batch, m}, longs);
  by_dtype(a, "a", [&](auto zero) {
    using T = decltype(zero);
    auto one_way = [&](const Tensor& from, const Tensor& to, Tensor& dist, Tensor& idx) {
      const int64_t rows = from.size(1), others = to.size(1);
      const T *p = from.const_data_ptr<T>(), *q = to.const_data_ptr<T>();
      T* d = dist.mutable_data_ptr<T>();
      int64_t* at = idx.mutable_data_ptr<int64_t>();
      over_rows(batch, rows, 512, [&](int64_t i, int64_t first, int64_t last) {
        const int64_t row = i * rows + first;
        table<T>().nearest(p + row * 3, last - first, q + i * others * 3, others, d + row,
                           at + row);
      });
    };
    if (batch >= at::get_num_threads()) {
      const T *p = a.const_data_ptr<T>(), *q = b.const_data_ptr<T>();
      T *d = dist_ab.mutable_data_ptr<T>(), *e = dist_ba.mutable_data_ptr<T>();
      int64_t *i = idx_ab.mutable_data_ptr<int64_t>(), *j = idx_ba.mutable_data_ptr<int64_t>();
      share(batch, std::max<int64_t>(1, 32768 / (n * m)), [&](int64_t from, int64_t to) {
        for (int64_t c = from; c < to; ++c)
          table<T>().nearest_both(p + c * n * 3, n, q + c * m * 3, m, d + c * n, i + c * n,
                                  e + c * m, j + c * m);
      });
      return;
    }
    one_way(a, b, dist_ab, idx_ab);
    one_way(b, a, dist_ba, idx_ba);
  });
  return {dist_ab, dist_ba, idx_ab, idx_ba};
}

// A gradient of the given shape. That of a mean or a sum is one value expanded: it is passed on as
// that value, whose step is 0, instead of being written out.
Tensor incoming(const Tensor& t, const char* name, const Tensor& other, int64_t batch, int64_t n,
                int64_t& step) {
  step = t.dim() == 2 && t.numel() > 0 && t.stride(0) == 0 && t.stride(1) == 0 ? 0 : 1;
  if (step) return like(t, name, other, {batch, n});
  EXPECTS(t.sizes() == Shape({batch, n}), name, ": expected shape ", Shape({batch, n}),
          ", got ", t.sizes());
  return like(t.as_strided({1, 1}, {1, 1}), name, other, {1, 1});
}

std::tuple<Tensor, Tensor> chamfer_backward(const Tensor& grad_ab_, const Tensor& grad_ba_,
                                            const Tensor& a_, const Tensor& b_,
                                            const Tensor& idx_ab_, const Tensor& idx_ba_,
                                            bool need_a, bool need_b) {
  const Tensor a = checked(a_, "a", 3, a_.scalar_type());
  const int64_t batch = a.size(0), n = a.size(1), m = b_.dim() == 3 ? b_.size(1) : 0;
  EXPECTS(a.size(2) == 3, "a: expected shape (B, N, 3), got ", a.sizes());
  EXPECTS(need_a || need_b, "need_a, need_b: expected one of them at least");
  const Tensor b = like(b_, "b", a, {batch, m, 3});
  int64_t step_ab = 1, step_ba = 1;
  const Tensor grad_ab = incoming(grad_ab_, "grad_ab", a, batch, n, step_ab);
  const Tensor grad_ba = incoming(grad_ba_, "grad_ba", a, batch, m, step_ba);
  const Tensor idx_ab = indices(idx_ab_, "idx_ab", {batch, n});
  const Tensor idx_ba = indices(idx_ba_, "idx_ba", {batch, m});
  Tensor to_a = at::empty({need_a ? batch : 0, n, 3}, a.options());
  Tensor to_b = at::empty({need_b ? batch : 0, m, 3}, a.options());
  std::atomic<bool> ok{true};
  by_dtype(a, "a", [&](auto zero) {
    using T = decltype(zero);
    const T *pa = a.const_data_ptr<T>(), *pb = b.const_data_ptr<T>();
    const T *ga = grad_ab.const_data_ptr<T>(), *gb = grad_ba.const_data_ptr<T>();
    const int64_t *ia = idx_ab.const_data_ptr<int64_t>(), *ib = idx_ba.const_data_ptr<int64_t>();
    T *ta = to_a.mutable_data_ptr<T>(), *tb = to_b.mutable_data_ptr<T>();
    share(batch, std::max<int64_t>(1, 1024 / (n + m + 1)), [&](int64_t from, int64_t to) {
      for (int64_t i = from; i < to; ++i) {
        const int64_t ra = i * n, rb = i * m;
        if (!table<T>().nearest_backward(ga + ra * step_ab, gb + rb * step_ba, step_ab, step_ba,
                                         pa + 3 * ra, n, pb + 3 * rb, m, ia + ra, ib + rb,
                                         need_a ? ta + 3 * ra : nullptr,
                                         need_b ? tb + 3 * rb : nullptr))
          ok = false;
      }
    });
  });
  EXPECTS(ok, "idx_ab, idx_ba: expected indices into the other cloud");
  return {to_a, to_b};
}

Tensor auction(const Tensor& a_, const Tensor& b_, double eps) {
  EXPECTS(a_.dim() == 3 && a_.size(2) == 3, "a: expected shape (B, N, 3), got ",
          a_.sizes());
  const Tensor a = checked(a_.to(at::kFloat), "a", 3, at::kFloat);
  const Tensor b = like(b_.to(at::kFloat), "b", a, a.sizes());
  EXPECTS(eps > 0, "eps: expected a positive number, got ", eps);
  const int64_t batch = a.size(0), n = a.size(1);
  EXPECTS(n < 65536, "a: expected fewer than 65536 points, got ", n);
  const float *pa = a.const_data_ptr<float>(), *pb = b.const_data_ptr<float>();
  for (int64_t i = 0; i < batch * n * 3; ++i)  // 1e18: squares and their sums stay finite
    EXPECTS(std::abs(pa[i]) < 1e18f && std::abs(pb[i]) < 1e18f,
            "a, b: expected finite coordinates");
  Tensor out = at::empty({batch, n}, a.options().dtype(at::kLong));
  int64_t* matched = out.mutable_data_ptr<int64_t>();
  share(batch, 1, [&](int64_t from, int64_t to) {
    for (int64_t i = from; i < to; ++i)
      kernels().auction(pa + i * n * 3, pb + i * n * 3, n, float(eps), matched + i * n);
  });
  return out;
}
