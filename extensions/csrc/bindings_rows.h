// Gather, group and interpolation as operators. Included by bindings.cpp only.

void three_axes(const Tensor& t, const char* name) {
  EXPECTS(t.dim() == 3, name, ": expected 3 axes, got ", t.sizes());
}
int64_t axis(const Tensor& t, int64_t i) { return t.dim() > i ? t.size(i) : 0; }

Tensor gather(const Tensor& points_, const Tensor& idx_) {
  three_axes(points_, "points");
  const Tensor points = points_.contiguous();
  const int64_t batch = points.size(0), n = points.size(1), c = points.size(2);
  const int64_t m = axis(idx_, 1);
  const Tensor idx = indices(idx_, "idx", {batch, m});
  Tensor out = at::empty({batch, m, c}, points.options());
  const size_t row = size_t(c) * points.element_size();
  const char* from = static_cast<const char*>(points.const_data_ptr());
  char* to = static_cast<char*>(out.mutable_data_ptr());
  const int64_t* at = idx.const_data_ptr<int64_t>();
  std::atomic<bool> ok{true};
  share(batch * m, std::max<int64_t>(1, 32768 / int64_t(row + 1)),
        [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) {
      if (at[i] < 0 || at[i] >= n) {
        ok = false;
        return;
      }
      const char* source = from + (i / m * n + at[i]) * row;
      if (row == 12)
        std::memcpy(to + i * 12, source, 12);  // a float32 point: inlined
      else
        std::memcpy(to + i * row, source, row);
    }
  });
  EXPECTS(ok, "idx: expected values in 0..", n - 1);
  return out;
}

// Splits (cloud, channel block) over the threads: one thread owns each output element.
template <class F>
void over_channels(int64_t batch, int64_t c, F&& f) {
  const int64_t wanted = (at::get_num_threads() + batch - 1) / std::max<int64_t>(batch, 1);
  const int64_t block = std::max<int64_t>(16, (c / std::max<int64_t>(wanted, 1) + 15) / 16 * 16);
  const int64_t blocks = (c + block - 1) / block;
  divide(batch * blocks, 1, [&](int64_t from, int64_t to) {
    for (int64_t task = from; task < to; ++task) {
      const int64_t first = task % blocks * block;
      f(task / blocks, first, std::min(c, first + block));
    }
  });
}

Tensor gather_backward(const Tensor& grad_, const Tensor& idx_, int64_t n) {
  three_axes(grad_, "grad");
  const auto type = grad_.scalar_type();
  const bool half = type == at::kHalf || type == at::kBFloat16;  // sums need float32
  const Tensor grad = (half ? grad_.to(at::kFloat) : grad_).contiguous();
  const int64_t batch = grad.size(0), m = grad.size(1), c = grad.size(2);
  EXPECTS(n >= 0, "n: expected at least 0, got ", n);
  const Tensor idx = indices(idx_, "idx", {batch, m});
  Tensor out = at::zeros({batch, n, c}, grad.options());
  std::atomic<bool> ok{true};
  by_dtype(grad, "grad", [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& use = table<T>();
    const T* g = grad.const_data_ptr<T>();
    T* to_points = out.mutable_data_ptr<T>();
    const int64_t* at = idx.const_data_ptr<int64_t>();
    over_channels(batch, c, [&](int64_t b, int64_t from, int64_t to) {
      if (!use.scatter(g + b * m * c, at + b * m, nullptr, m, 1, n, c, from, to,
                       to_points + b * n * c))
        ok = false;
    });
  });
  EXPECTS(ok, "idx: expected values in 0..", n - 1);
  return half ? out.to(type) : out;
}

Tensor interpolate(const Tensor& features_, const Tensor& idx_, const Tensor& weight_) {
  three_axes(features_, "features");
  const Tensor features = features_.contiguous();
  const int64_t batch = features.size(0), n = features.size(1), c = features.size(2);
  const int64_t m = axis(idx_, 1), k = axis(idx_, 2);
  const Tensor idx = indices(idx_, "idx", {batch, m, k});
  const Tensor weight = like(weight_, "weight", features, {batch, m, k});
  Tensor out = at::empty({batch, m, c}, features.options());
  std::atomic<bool> ok{true};
  by_dtype(features, "features", [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& use = table<T>();
    const T *f = features.const_data_ptr<T>(), *w = weight.const_data_ptr<T>();
    const int64_t* at = idx.const_data_ptr<int64_t>();
    T* to = out.mutable_data_ptr<T>();
    divide(batch * ((m + 63) / 64), 1, [&](int64_t first, int64_t last) {
      const int64_t blocks = (m + 63) / 64;
      for (int64_t task = first; task < last; ++task) {
        const int64_t b = task / blocks, q = task % blocks * 64, row = b * m + q;
        if (!use.interpolate(f + b * n * c, n, c, at + row * k, w + row * k,
                             std::min<int64_t>(64, m - q), k, to + row * c))
          ok = false;
      }
    });
  });
  EXPECTS(ok, "idx: expected values in 0..", n - 1);
  return out;
}

std::tuple<Tensor, Tensor> interpolate_backward(const Tensor& grad_, const Tensor& features_,
                                                const Tensor& idx_, const Tensor& weight_,
                                                bool need_weight) {
  three_axes(features_, "features");
  const Tensor features = features_.contiguous();
  const int64_t batch = features.size(0), n = features.size(1), c = features.size(2);
  const int64_t m = axis(idx_, 1), k = axis(idx_, 2);
  const Tensor idx = indices(idx_, "idx", {batch, m, k});
  const Tensor weight = like(weight_, "weight", features, {batch, m, k});
  const Tensor grad = like(grad_, "grad", features, {batch, m, c});
  Tensor to_features = at::zeros({batch, n, c}, features.options());
  Tensor to_weight = at::empty({need_weight ? batch : 0, m, k}, features.options());
  std::atomic<bool> ok{true};
  by_dtype(features, "features", [&](auto zero) {
    using T = decltype(zero);
    const Kernels<T>& use = table<T>();
    const T *f = features.const_data_ptr<T>(), *w = weight.const_data_ptr<T>();
    const T* g = grad.const_data_ptr<T>();
    const int64_t* at = idx.const_data_ptr<int64_t>();
    T *tf = to_features.mutable_data_ptr<T>(), *tw = to_weight.mutable_data_ptr<T>();
    over_channels(batch, c, [&](int64_t b, int64_t from, int64_t to) {
      if (!use.scatter(g + b * m * c, at + b * m * k, w + b * m * k, m, k, n, c, from, to,
                       tf + b * n * c))
        ok = false;
    });
    if (!need_weight) return;
    divide(batch, 1, [&](int64_t first, int64_t last) {
      for (int64_t b = first; b < last; ++b)
        if (!use.dots(g + b * m * c, f + b * n * c, at + b * m * k, m, k, n, c, tw + b * m * k))
          ok = false;
    });
  });
  EXPECTS(ok, "idx: expected values in 0..", n - 1);
  return {to_features, to_weight};
}
