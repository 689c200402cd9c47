// Checks and dtype dispatch shared by the operators. Included by bindings.cpp only.

using at::Tensor;
using Shape = at::IntArrayRef;

// Parts of a message as strings. torch's own checks print them into a stream instead, and a stream
// does not survive a C++ library that is linked statically beside torch's: some builds cut the
// message at its first number, others end the process there.
std::string text(const char* value) { return value; }
std::string text(int64_t value) { return std::to_string(value); }
std::string text(double value) {
  char digits[32];
  std::snprintf(digits, sizeof digits, "%g", value);
  return digits;
}
std::string text(at::ScalarType value) { return c10::toString(value); }
std::string text(const at::Device& value) { return value.str(); }
std::string text(Shape value) {
  std::string out = "(";
  for (size_t i = 0; i < value.size(); ++i) out += (i ? ", " : "") + std::to_string(value[i]);
  return out + ")";
}
template <class... Parts>
std::string message(const Parts&... parts) {
  return (std::string() + ... + text(parts));
}

// A ValueError of the parts after `ok`, unless it holds. All checks of this library are this one.
#define EXPECTS(ok, ...)                                                    \
  do {                                                                      \
    if (!(ok)) C10_THROW_ERROR(ValueError, message(__VA_ARGS__));           \
  } while (false)

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
  EXPECTS(false, name, ": expected float32 or float64, got ", t.scalar_type());
}

Tensor checked(const Tensor& t, const char* name, int64_t dims, at::ScalarType type) {
  EXPECTS(t.device().is_cpu(), name, ": expected a CPU tensor, got ", t.device());
  EXPECTS(t.dim() == dims, name, ": expected ", dims, " axes, got ", t.sizes());
  EXPECTS(t.scalar_type() == type, name, ": expected ", type, ", got ",
          t.scalar_type());
  return t.contiguous();
}
Tensor indices(const Tensor& t, const char* name, Shape shape) {
  Tensor out = checked(t, name, int64_t(shape.size()), at::kLong);
  EXPECTS(t.sizes() == shape, name, ": expected shape ", shape, ", got ", t.sizes());
  return out;
}
Tensor like(const Tensor& t, const char* name, const Tensor& other, Shape shape) {
  Tensor out = checked(t, name, int64_t(shape.size()), other.scalar_type());
  EXPECTS(t.sizes() == shape, name, ": expected shape ", shape, ", got ", t.sizes());
  return out;
}

// f(first, last) for pieces of `size` of the numbers below n, by torch's threads, each of which
// gets one share: for kernels that stand between matrix products, after which those threads wait
// awake for a moment. Threads of `share` would have to take the cores from them.
template <class F>
void divide(int64_t n, int64_t size, const F& f) {
  const int64_t pieces = (n + size - 1) / size;
  at::parallel_for(0, pieces, 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i) f(i * size, std::min(n, (i + 1) * size));
  });
}
