// Checks and dtype dispatch shared by the operators. Included by bindings.cpp only.

using at::Tensor;
using Shape = at::IntArrayRef;

template <class T>
const Kernels<T>& table() {
  if constexpr (std::is_same_v<T, float>)
    return kernels().f32;
  else
    return kernels().f64;
}

// Calls f with a float or a double, by dtype.
template <class F>
void by_dtype(const Tensor& t, const char* name, F&& f) {
  if (t.scalar_type() == at::kFloat) return f(float{});
  if (t.scalar_type() == at::kDouble) return f(double{});
  TORCH_CHECK_VALUE(false, name, ": expected float32 or float64, got ", t.scalar_type());
}

Tensor checked(const Tensor& t, const char* name, int64_t dims, at::ScalarType type) {
  TORCH_CHECK_VALUE(t.device().is_cpu(), name, ": expected a CPU tensor, got ", t.device());
  TORCH_CHECK_VALUE(t.dim() == dims, name, ": expected ", dims, " axes, got ", t.sizes());
  TORCH_CHECK_VALUE(t.scalar_type() == type, name, ": expected ", type, ", got ",
                    t.scalar_type());
  return t.contiguous();
}
Tensor indices(const Tensor& t, const char* name, Shape shape) {
  Tensor out = checked(t, name, int64_t(shape.size()), at::kLong);
  TORCH_CHECK_VALUE(t.sizes() == shape, name, ": expected shape ", shape, ", got ", t.sizes());
  return out;
}
Tensor like(const Tensor& t, const char* name, const Tensor& other, Shape shape) {
  Tensor out = checked(t, name, int64_t(shape.size()), other.scalar_type());
  TORCH_CHECK_VALUE(t.sizes() == shape, name, ": expected shape ", shape, ", got ", t.sizes());
  return out;
}
