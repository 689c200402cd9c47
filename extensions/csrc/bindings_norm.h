// Batch normalisation of rows as operators. Included by bindings.cpp only.

// Calls f with the kernels, a storage value and an arithmetic value, by the dtype of the rows.
template <class F>
void by_storage(const Tensor& rows, F&& f) {
  const KernelSet& use = kernels();
  switch (rows.scalar_type()) {
    case at::kFloat: return f(use.norm_f32, float{}, float{});
    case at::kDouble: return f(use.norm_f64, double{}, double{});
    case at::kBFloat16: return f(use.norm_bf16, Bfloat16{}, float{});
    default:
      EXPECTS(false, "rows: expected float32, float64 or bfloat16, got ",
              rows.scalar_type());
  }
}

Tensor channels(const Tensor& t, const char* name, const Tensor& rows) {
  const auto type = rows.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  Tensor out = checked(t, name, 1, type);
  EXPECTS(t.size(0) == rows.size(1), name, ": expected ", rows.size(1),
          " channels, got ", t.size(0));
  return out;
}

// Whether an output is larger than the last cache of most processors.
bool large(const Tensor& out) { return out.nbytes() >= size_t(32) << 20; }

bool zero(float value) { return value == 0; }
bool zero(double value) { return value == 0; }
bool zero(Bfloat16 value) { return (value.bits & 0x7fff) == 0; }

// Whether no row of grad (n, c) has a value in this channel.
template <class S>
bool silent(const S* grad, int64_t n, int64_t c, int64_t channel) {
  for (int64_t r = 0; r < n; ++r)
    if (!zero(grad[r * c + channel])) return false;
  return true;
}

// Rows in parts whose bounds depend on their number alone, and not on the threads: sums are then
// the same with any number of threads.
struct Parts {
  int64_t rows, size, count;
  explicit Parts(int64_t n)
      : rows(n), size(std::clamp<int64_t>((n / 128 + 63) / 64 * 64, 256, 8192)),
        count((n + size - 1) / size) {}
  // f(part, first row, number of rows), several at a time.
  template <class F>
  void each(int64_t c, F&& f) const {
    const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, size * c));
    at::parallel_for(0, count, grain, [&](int64_t from, int64_t to) {
      for (int64_t part = from; part < to; ++part)
        f(part, part * size, std::min(size, rows - part * size));
    });
  }
  // The same from the last part to the first: what a pass before it read last is still cached.
  template <class F>
  void each_back(int64_t c, F&& f) const {
    each(c, [&](int64_t turn, int64_t, int64_t) {
      const int64_t part = count - 1 - turn;
      f(part * size, std::min(size, rows - part * size));
    });
  }
};

std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& rows_, const Tensor& weight_,
                                              const Tensor& bias_, double eps) {
  const Tensor rows = checked(rows_, "rows", 2, rows_.scalar_type());
  const Tensor weight = channels(weight_, "weight", rows), bias = channels(bias_, "bias", rows);
  const int64_t n = rows.size(0), c = rows.size(1);
  EXPECTS(n > 0, "rows: expected at least one row, got ", rows.sizes());
  Tensor out = at::empty({n, c}, rows.options());
  Tensor mean = at::empty({c}, weight.options()), variance = at::empty({c}, weight.options());
  by_storage(rows, [&](const auto& use, auto storage, auto zero) {
    using S = decltype(storage);
    using T = decltype(zero);
    const S* x = static_cast<const S*>(rows.const_data_ptr());
    const Parts parts(n);
    std::vector<double> found(size_t(2 * c * parts.count));  // by part: means, squares
    parts.each(c, [&](int64_t part, int64_t first, int64_t count) {
      double* to = found.data() + 2 * c * part;
      use.moments(x + first * c, count, c, to, to + c);
    });
    double *means = found.data(), *squares = means + c;
    for (int64_t part = 1; part < parts.count; ++part) {
      const double* other = found.data() + 2 * c * part;
      const int64_t before = part * parts.size;
      kernels().merge_moments(before, means, squares, std::min(parts.size, n - before), other,
                              other + c, c);
    }
    T *to_mean = mean.mutable_data_ptr<T>(), *to_variance = variance.mutable_data_ptr<T>();
    const T *w = weight.const_data_ptr<T>(), *b = bias.const_data_ptr<T>();
    std::vector<T> scale(c), offset(c);
    for (int64_t i = 0; i < c; ++i) {
      const double inverse = 1 / std::sqrt(squares[i] / double(n) + eps);
      to_mean[i] = T(means[i]);
      to_variance[i] = T(squares[i] / double(n));
      scale[i] = T(w[i] * inverse);
      // the mean as it is subtracted is rounded; what that lost goes here
      offset[i] = T(b[i] - (means[i] - double(to_mean[i])) * inverse * w[i]);
    }
    S* to = static_cast<S*>(out.mutable_data_ptr());
    parts.each_back(c, [&](int64_t first, int64_t count) {
      use.normalise(x + first * c, count, c, to_mean, scale.data(), offset.data(),
                    large(out), to + first * c);
    });
  });
  return {out, mean, variance};
}

std::tuple<Tensor, Tensor, Tensor> batch_norm_backward(const Tensor& grad_, const Tensor& rows_,
                                                       const Tensor& weight_, const Tensor& mean_,
                                                       const Tensor& variance_, double eps) {
  const Tensor rows = checked(rows_, "rows", 2, rows_.scalar_type());
  const Tensor grad = like(grad_, "grad", rows, rows.sizes());
  const Tensor weight = channels(weight_, "weight", rows), mean = channels(mean_, "mean", rows);
  const Tensor variance = channels(variance_, "variance", rows);
  const int64_t n = rows.size(0), c = rows.size(1);
  EXPECTS(n > 0, "rows: expected at least one row, got ", rows.sizes());
  Tensor to_rows = at::empty({n, c}, rows.options());
  Tensor to_weight = at::empty({c}, weight.options()), to_bias = at::empty({c}, weight.options());
  by_storage(rows, [&](const auto& use, auto storage, auto zero) {
    using S = decltype(storage);
    using T = decltype(zero);
    const S* g = static_cast<const S*>(grad.const_data_ptr());
    const S* x = static_cast<const S*>(rows.const_data_ptr());
    const T *m = mean.const_data_ptr<T>(), *v = variance.const_data_ptr<T>();
    const T* w = weight.const_data_ptr<T>();
    const Parts parts(n);
    std::vector<double> found(size_t(2 * c * parts.count));  // by part: sums, products
    parts.each(c, [&](int64_t part, int64_t first, int64_t count) {
      double* to = found.data() + 2 * c * part;
      use.products(g + first * c, x + first * c, count, c, m, to, to + c);
    });
    for (int64_t part = 1; part < parts.count; ++part)
      for (int64_t i = 0; i < 2 * c; ++i) found[i] += found[2 * c * part + i];
    T *to_w = to_weight.mutable_data_ptr<T>(), *to_b = to_bias.mutable_data_ptr<T>();
    std::vector<T> scale(c), offset(c), slope(c);
    std::vector<int64_t> unused;  // channels that are not finite, and that nothing depends on
    for (int64_t i = 0; i < c; ++i) {
      double inverse = 1 / std::sqrt(double(v[i]) + eps);
      if (!std::isfinite(found[c + i] * inverse * w[i]) && silent(g, n, c, i)) {
        unused.push_back(i);
        found[c + i] = inverse = 0;
      }
      to_b[i] = T(found[i]);
      to_w[i] = T(found[c + i] * inverse);
      scale[i] = T(w[i] * inverse);
      offset[i] = T(found[i] / double(n));
      slope[i] = T(found[c + i] * inverse * inverse / double(n));
    }
    S* to = static_cast<S*>(to_rows.mutable_data_ptr());
    parts.each_back(c, [&](int64_t first, int64_t count) {
      use.backward(g + first * c, x + first * c, count, c, m, scale.data(), offset.data(),
                   slope.data(), large(to_rows), to + first * c);
    });
    for (const int64_t channel : unused)
      for (int64_t r = 0; r < n; ++r) to[r * c + channel] = S{};
  });
  return {to_rows, to_weight, to_bias};
}
