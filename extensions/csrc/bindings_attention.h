// Attention as an operator. Included by bindings.cpp only.

// Calls f with the kernels, a storage value and an arithmetic value, by the dtype of q, k and v.
template <class F>
void by_precision(const Tensor& qkv, F&& f) {
  const KernelSet& use = kernels();
  switch (qkv.scalar_type()) {
    case at::kFloat: return f(use.attention_f32, float{}, float{});
    case at::kDouble: return f(use.attention_f64, double{}, double{});
    case at::kBFloat16: return f(use.attention_bf16, Bfloat16{}, float{});
    default:
      EXPECTS(false, "qkv: expected float32, float64 or bfloat16, got ", qkv.scalar_type());
  }
}

// Memory for one thread, aligned for the widest vectors.
template <class T>
class Scratch {
 public:
  explicit Scratch(int64_t values) : bytes_(new char[size_t(values) * sizeof(T) + 64]) {}
  T* get() {
    const auto at = reinterpret_cast<uintptr_t>(bytes_.get());
    return reinterpret_cast<T*>((at + 63) / 64 * 64);
  }

 private:
  std::unique_ptr<char[]> bytes_;
};

// The inputs of attention, checked.
struct AttentionInputs {
  Tensor qkv, bias;
  int64_t batch, n, c, heads, d;

  AttentionInputs(const Tensor& qkv_, int64_t heads_, const std::optional<Tensor>& bias_)
      : qkv(checked(qkv_, "qkv", 3, qkv_.scalar_type())),
        batch(qkv.size(0)), n(qkv.size(1)), c(qkv.size(2) / 3), heads(heads_) {
    EXPECTS(heads > 0 && c > 0 && qkv.size(2) == 3 * c && c % heads == 0,
            "qkv: expected 3 times a multiple of ", heads, " heads as last axis, got ",
            qkv.sizes());
    d = c / heads;
    if (!bias_) return;
    bias = checked(*bias_, "bias", 3, sums_type());
    EXPECTS((bias.size(0) == 1 || bias.size(0) == batch) &&
                (bias.size(1) == 1 || bias.size(1) == n) && bias.size(2) == n,
            "bias: expected shape (1 or ", batch, ", 1 or ", n, ", ", n, "), got ", bias.sizes());
  }

  at::ScalarType sums_type() const {
    return qkv.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  }

  template <class S>
  HeadOf<S> head(int64_t item) const {
    const S* q = static_cast<const S*>(qkv.const_data_ptr()) + start(item);
    return {q, q + c, q + 2 * c, n, d, 3 * c, c};
  }
  // Where a head of a cloud begins in q, k and v, and in the output.
  int64_t start(int64_t item) const { return item / heads * n * 3 * c + item % heads * d; }
  int64_t out_start(int64_t item) const { return item / heads * n * c + item % heads * d; }

  template <class T>
  BiasOf<T> bias_of(int64_t item) const {
    if (!bias.defined()) return {nullptr, 0};
    const int64_t cloud = bias.size(0) == 1 ? 0 : item / heads;
    return {bias.const_data_ptr<T>() + cloud * bias.size(1) * n, bias.size(1) == 1 ? 0 : n};
  }
  // f(first item, last item) of the heads of all clouds, several at a time.
  template <class F>
  void each(F&& f) const {
    share(batch * heads, std::max<int64_t>(1, 32768 / std::max<int64_t>(1, n * (n + d))), f);
  }
};

std::tuple<Tensor, Tensor> attention(const Tensor& qkv, int64_t heads,
                                     const std::optional<Tensor>& bias) {
  const AttentionInputs in(qkv, heads, bias);
  Tensor out = at::empty({in.batch, in.n, in.c}, in.qkv.options());
  Tensor sums = at::empty({in.batch, heads, in.n, 2}, in.qkv.options().dtype(in.sums_type()));
  by_precision(in.qkv, [&](const auto& use, auto storage, auto value) {
    using S = decltype(storage);
    using T = decltype(value);
    S* to = static_cast<S*>(out.mutable_data_ptr());
    T* found = sums.mutable_data_ptr<T>();
    in.each([&](int64_t first, int64_t last) {
      Scratch<T> scratch(use.scratch(in.n, in.d));
      for (int64_t item = first; item < last; ++item)
        use.attend(in.head<S>(item), in.bias_of<T>(item), scratch.get(),
                   to + in.out_start(item), found + 2 * item * in.n);
    });
  });
  return {out, sums};
}

Tensor attention_backward(const Tensor& grad_, const Tensor& qkv, const Tensor& out_,
                          const Tensor& sums_, int64_t heads,
                          const std::optional<Tensor>& bias) {
  const AttentionInputs in(qkv, heads, bias);
  const Tensor grad = like(grad_, "grad", in.qkv, {in.batch, in.n, in.c});
  const Tensor out = like(out_, "out", in.qkv, {in.batch, in.n, in.c});
  const Tensor sums = checked(sums_, "sums", 4, in.sums_type());
  const int64_t shape[] = {in.batch, heads, in.n, 2};
  EXPECTS(sums.sizes() == Shape(shape), "sums: expected shape ", Shape(shape), ", got ",
          sums.sizes());
  Tensor to_qkv = at::empty_like(in.qkv);
  by_precision(in.qkv, [&](const auto& use, auto storage, auto value) {
    using S = decltype(storage);
    using T = decltype(value);
    const S* from = static_cast<const S*>(grad.const_data_ptr());
    const S* was = static_cast<const S*>(out.const_data_ptr());
    const T* found = sums.const_data_ptr<T>();
    S* to = static_cast<S*>(to_qkv.mutable_data_ptr());
    in.each([&](int64_t first, int64_t last) {
      Scratch<T> scratch(use.scratch(in.n, in.d));
      for (int64_t item = first; item < last; ++item) {
        S* q = to + in.start(item);
        use.backward(in.head<S>(item), in.bias_of<T>(item), from + in.out_start(item),
                     was + in.out_start(item), found + 2 * item * in.n, scratch.get(),
                     {q, q + in.c, q + 2 * in.c});
      }
    });
  });
  return to_qkv;
}
