// The largest row of every group as an operator. Included by bindings.cpp only.

std::tuple<Tensor, Tensor> group_max(const Tensor& rows_) {
  const Tensor rows = checked(rows_, "rows", 3, rows_.scalar_type());
  const int64_t groups = rows.size(0), k = rows.size(1), c = rows.size(2);
  EXPECTS(0 < k && k <= INT16_MAX, "rows: expected groups of 1 to ", int64_t(INT16_MAX),
          " rows, got ", rows.sizes());
  Tensor values = at::empty({groups, c}, rows.options());
  Tensor index = at::empty({groups, c}, rows.options().dtype(at::kShort));
  by_storage(rows, [&](const auto& use, auto storage, auto) {
    using S = decltype(storage);
    const S* from = static_cast<const S*>(rows.const_data_ptr());
    S* to = static_cast<S*>(values.mutable_data_ptr());
    int16_t* at = index.mutable_data_ptr<int16_t>();
    each_group(groups, k * c, [&](int64_t g) {
      use.largest(from + g * k * c, k, c, to + g * c, at + g * c);
    });
  });
  return {values, index};
}

Tensor group_max_backward(const Tensor& grad_, const Tensor& index_, int64_t k) {
  const Tensor grad = checked(grad_, "grad", 2, grad_.scalar_type());
  const Tensor index = checked(index_, "index", 2, at::kShort);
  EXPECTS(index.sizes() == grad.sizes(), "index: expected shape ", grad.sizes(), ", got ",
          index.sizes());
  EXPECTS(0 < k && k <= INT16_MAX, "size: expected 1 to ", int64_t(INT16_MAX), ", got ", k);
  const int64_t groups = grad.size(0), c = grad.size(1);
  Tensor out = at::empty({groups, k, c}, grad.options());
  by_storage(grad, [&](const auto& use, auto storage, auto) {
    using S = decltype(storage);
    const S* from = static_cast<const S*>(grad.const_data_ptr());
    S* to = static_cast<S*>(out.mutable_data_ptr());
    const int16_t* at = index.const_data_ptr<int16_t>();
    each_group(groups, k * c, [&](int64_t g) {
      use.place(from + g * c, at + g * c, k, c, large(out), to + g * k * c);
    });
  });
  return out;
}
