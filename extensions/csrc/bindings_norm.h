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
// the same with any number of threads. No bound lies within a group of k rows.
struct Parts {
  int64_t rows, size, count;
  explicit Parts(int64_t n, int64_t k = 1) : rows(n) {
    const int64_t wanted = std::clamp<int64_t>((n / 128 + 63) / 64 * 64, 256, 8192);
    size = (wanted + k - 1) / k * k;
    count = (n + size - 1) / size;
  }
  // f(part, first row, number of rows), several at a time.
  template <class F>
  void each(int64_t c, F&& f) const {
    const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, size * c));
    divide(count, grain, [&](int64_t from, int64_t to) {
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

// f(group), several at a time; `work` is the number of values of one.
template <class F>
void each_group(int64_t groups, int64_t work, F&& f) {
  const int64_t grain = std::max<int64_t>(1, 32768 / std::max<int64_t>(1, work));
  divide(groups, grain, [&](int64_t from, int64_t to) {
    for (int64_t g = from; g < to; ++g) f(g);
  });
}

// The inputs of a normalisation, checked.
struct NormInputs {
  Tensor rows, shared, kept;
  int64_t n, c, k;

  NormInputs(const Tensor& rows_, const std::optional<Tensor>& shared_,
             const std::optional<Tensor>& kept_, int64_t group)
      : rows(checked(rows_, "rows", 2, rows_.scalar_type())),
        n(rows.size(0)), c(rows.size(1)), k(group) {
    EXPECTS(n > 0, "rows: expected at least one row, got ", rows.sizes());
    EXPECTS(k > 0 && n % k == 0, "group: expected a divisor of ", n, " rows, got ", k);
    if (shared_) shared = like(*shared_, "shared", rows, {n / k, c});
    if (kept_) {
      kept = indices(*kept_, "kept", {axis(*kept_, 0)});
      std::vector<bool> seen(n / k);
      for (int64_t m = 0; m < kept.numel(); ++m) {
        const int64_t p = kept.const_data_ptr<int64_t>()[m];
        EXPECTS(0 <= p && p < n / k && !seen[p], "kept: expected different values in 0..",
                n / k - 1, ", got ", p);
        seen[p] = true;
      }
    }
  }
  int64_t outputs() const { return kept.defined() ? kept.numel() * k : n; }
  bool some() const { return kept.defined(); }  // whose numbers may be a null pointer: none
  const int64_t* numbers() const { return some() ? kept.const_data_ptr<int64_t>() : nullptr; }
  template <class S>
  RowsOf<S> of() const {
    return {static_cast<const S*>(rows.const_data_ptr()),
            shared.defined() ? static_cast<const S*>(shared.const_data_ptr()) : nullptr, k, c};
  }
};

std::tuple<Tensor, Tensor, Tensor> norm_relu(const Tensor& rows, const Tensor& weight_,
                                             const Tensor& bias_, double eps,
                                             const std::optional<Tensor>& shared,
                                             const std::optional<Tensor>& kept, int64_t group,
                                             bool relu) {
  const NormInputs in(rows, shared, kept, group);
  const Tensor weight = channels(weight_, "weight", in.rows);
  const Tensor bias = channels(bias_, "bias", in.rows);
  const int64_t n = in.n, c = in.c, k = in.k;
  Tensor out = at::empty({in.outputs(), c}, in.rows.options());
  Tensor mean = at::empty({c}, weight.options()), variance = at::empty({c}, weight.options());
  by_storage(in.rows, [&](const auto& use, auto storage, auto zero) {
    using S = decltype(storage);
    using T = decltype(zero);
    const RowsOf<S> x = in.of<S>();
    const Parts parts(n, k);
    std::vector<double> found(size_t(2 * c * parts.count));  // by part: means, squares
    parts.each(c, [&](int64_t part, int64_t first, int64_t count) {
      double* to = found.data() + 2 * c * part;
      use.moments(x, first, count, to, to + c);
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
    const auto write = [&](int64_t first, int64_t count, S* here) {
      use.normalise(x, first, count, to_mean, scale.data(), offset.data(), relu, large(out), here);
    };
    const int64_t* number = in.numbers();
    if (in.some())
      each_group(in.kept.numel(), k * c,
                 [&](int64_t m) { write(number[m] * k, k, to + m * k * c); });
    else
      parts.each_back(c, [&](int64_t first, int64_t count) { write(first, count, to + first * c); });
  });
  return {out, mean, variance};
}

// With statistics that are given, as in evaluation.
Tensor norm_relu_fixed(const Tensor& rows, const Tensor& weight_, const Tensor& bias_,
                       const Tensor& mean_, const Tensor& variance_, double eps,
                       const std::optional<Tensor>& shared, int64_t group) {
  const NormInputs in(rows, shared, {}, group);
  const Tensor weight = channels(weight_, "weight", in.rows);
  const Tensor bias = channels(bias_, "bias", in.rows);
  const Tensor mean = channels(mean_, "mean", in.rows);
  const Tensor variance = channels(variance_, "variance", in.rows);
  const int64_t c = in.c;
  Tensor out = at::empty({in.n, c}, in.rows.options());
  by_storage(in.rows, [&](const auto& use, auto storage, auto zero) {
    using S = decltype(storage);
    using T = decltype(zero);
    const RowsOf<S> x = in.of<S>();
    std::vector<T> scale(c);
    for (int64_t i = 0; i < c; ++i) {
      const double spread = double(variance.const_data_ptr<T>()[i]) + eps;
      scale[i] = T(weight.const_data_ptr<T>()[i] / std::sqrt(spread));
    }
    S* to = static_cast<S*>(out.mutable_data_ptr());
    Parts(in.n).each(c, [&](int64_t, int64_t first, int64_t count) {
      use.normalise(x, first, count, mean.const_data_ptr<T>(), scale.data(),
                    bias.const_data_ptr<T>(), true, large(out), to + first * c);
    });
  });
  return out;
}

std::tuple<Tensor, Tensor, Tensor, Tensor> norm_relu_backward(
    const Tensor& grad_, const std::optional<Tensor>& out_, const Tensor& rows,
    const Tensor& weight_, const Tensor& mean_, const Tensor& variance_, double eps,
    const std::optional<Tensor>& shared, const std::optional<Tensor>& kept, int64_t group) {
  const NormInputs in(rows, shared, kept, group);
  const int64_t n = in.n, c = in.c, k = in.k;
  const Tensor grad = like(grad_, "grad", in.rows, {in.outputs(), c});
  const Tensor out = out_ ? like(*out_, "out", in.rows, {in.outputs(), c}) : Tensor();
  const Tensor weight = channels(weight_, "weight", in.rows);
  const Tensor mean = channels(mean_, "mean", in.rows);
  const Tensor variance = channels(variance_, "variance", in.rows);
  Tensor to_rows = at::empty({n, c}, in.rows.options());
  Tensor to_shared = at::empty({in.shared.defined() ? n / k : 0, c}, in.rows.options());
  Tensor to_weight = at::empty({c}, weight.options()), to_bias = at::empty({c}, weight.options());
  by_storage(in.rows, [&](const auto& use, auto storage, auto zero) {
    using S = decltype(storage);
    using T = decltype(zero);
    const S* g = static_cast<const S*>(grad.const_data_ptr());
    const S* cut = out.defined() ? static_cast<const S*>(out.const_data_ptr()) : nullptr;
    const RowsOf<S> x = in.of<S>();
    const int64_t* number = in.numbers();
    const T *m = mean.const_data_ptr<T>(), *v = variance.const_data_ptr<T>();
    const T* w = weight.const_data_ptr<T>();
    const auto from = [&](const S* values, int64_t row) {  // of a gradient or an output
      return values ? values + row * c : nullptr;
    };
    const Parts flows(in.outputs(), k);
    std::vector<double> found(size_t(2 * c * std::max<int64_t>(flows.count, 1)));  // sums, products
    flows.each(c, [&](int64_t part, int64_t first, int64_t count) {
      double* to = found.data() + 2 * c * part;
      if (!in.some()) return use.products(from(g, first), from(cut, first), x, first, count, m, to,
                                       to + c);
      for (int64_t row = first; row < first + count; row += k)
        use.products(from(g, row), from(cut, row), x, number[row / k] * k, k, m, to, to + c);
    });
    for (int64_t part = 1; part < flows.count; ++part)
      for (int64_t i = 0; i < 2 * c; ++i) found[i] += found[2 * c * part + i];
    T *to_w = to_weight.mutable_data_ptr<T>(), *to_b = to_bias.mutable_data_ptr<T>();
    std::vector<T> scale(c), offset(c), slope(c);
    std::vector<int64_t> unused;  // channels that are not finite, and that nothing depends on
    for (int64_t i = 0; i < c; ++i) {
      double inverse = 1 / std::sqrt(double(v[i]) + eps);
      if (!std::isfinite(found[c + i] * inverse * w[i]) && silent(g, in.outputs(), c, i)) {
        unused.push_back(i);
        found[i] = found[c + i] = inverse = 0;
      }
      to_b[i] = T(found[i]);
      to_w[i] = T(found[c + i] * inverse);
      scale[i] = T(w[i] * inverse);
      offset[i] = T(found[i] / double(n));
      slope[i] = T(found[c + i] * inverse * inverse / double(n));
    }
    S* to = static_cast<S*>(to_rows.mutable_data_ptr());
    S* sums = static_cast<S*>(to_shared.mutable_data_ptr());
    const auto write = [&](const S* flow, const S* cut_here, int64_t first, int64_t count) {
      use.backward(flow, cut_here, x, first, count, m, scale.data(), offset.data(), slope.data(),
                   large(to_rows), x.shared ? sums + first / k * c : nullptr, to + first * c);
    };
    if (!in.some() && !x.shared) {
      flows.each_back(c, [&](int64_t first, int64_t count) {
        write(from(g, first), from(cut, first), first, count);
      });
    } else {
      std::vector<int64_t> place(n / k, -1);  // of a group among the outputs
      for (int64_t i = 0; i < in.outputs() / k; ++i) place[in.some() ? number[i] : i] = i;
      each_group(n / k, k * c, [&](int64_t p) {
        if (place[p] < 0) return write(nullptr, nullptr, p * k, k);
        write(from(g, place[p] * k), from(cut, place[p] * k), p * k, k);
      });
    }
    for (const int64_t channel : unused) {
      for (int64_t r = 0; r < n; ++r) to[r * c + channel] = S{};
      for (int64_t p = 0; p < to_shared.size(0); ++p) sums[p * c + channel] = S{};
    }
  });
  return {to_rows, to_shared, to_weight, to_bias};
}

std::tuple<Tensor, Tensor, Tensor> batch_norm(const Tensor& rows, const Tensor& weight,
                                              const Tensor& bias, double eps) {
  return norm_relu(rows, weight, bias, eps, {}, {}, 1, false);
}
std::tuple<Tensor, Tensor, Tensor> batch_norm_backward(const Tensor& grad, const Tensor& rows,
                                                       const Tensor& weight, const Tensor& mean,
                                                       const Tensor& variance, double eps) {
  auto [to_rows, _, to_weight, to_bias] =
      norm_relu_backward(grad, {}, rows, weight, mean, variance, eps, {}, {}, 1);
  return {to_rows, to_weight, to_bias};
}
