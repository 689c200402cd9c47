// The CPU kernels as torch operators: checks, scratch memory, and threads, as many as torch uses.
// The schemas are declared in Python (point_ops/*.py). One translation unit, because torch's
// headers take most of the time of the build.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/as_strided.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <system_error>
#include <thread>
#include <tuple>
#include <type_traits>
#include <vector>

#include "kernels.h"

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#endif

namespace {
#include "share.h"
#include "bindings_common.h"
#include "bindings_points.h"
#include "bindings_rows.h"
#include "bindings_norm.h"
#include "bindings_groups.h"
#include "bindings_attention.h"
}  // namespace

TORCH_LIBRARY_IMPL(point_ops, CPU, m) {
  m.impl("fps", &fps);
  m.impl("knn", &knn);
  m.impl("ball_query", &ball_query);
  m.impl("chamfer", &chamfer);
  m.impl("chamfer_backward", &chamfer_backward);
  m.impl("auction", &auction);
  m.impl("gather", &gather);
  m.impl("gather_backward", &gather_backward);
  m.impl("interpolate", &interpolate);
  m.impl("interpolate_backward", &interpolate_backward);
  m.impl("batch_norm", &batch_norm);
  m.impl("batch_norm_backward", &batch_norm_backward);
  m.impl("norm_relu", &norm_relu);
  m.impl("norm_relu_backward", &norm_relu_backward);
  m.impl("norm_relu_fixed", &norm_relu_fixed);
  m.impl("group_max", &group_max);
  m.impl("group_max_backward", &group_max_backward);
  m.impl("attention", &attention);
  m.impl("attention_backward", &attention_backward);
}
