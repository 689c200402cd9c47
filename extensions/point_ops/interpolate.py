"""Interpolation of features from nearest neighbours, weighted by inverse distance.

Source: Qi et al., PointNet++ (NeurIPS 2017), equation 2.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from . import _checks
from ._registry import autograd, register
from .gather import _check_range, where_needed
from .knn import knn


def _flat(features: Tensor, idx: Tensor) -> tuple[Tensor, Tensor]:
    """Features (B*N, C) and indices (B*M, K) into them."""
    _check_range(idx, features.shape[1])
    offset = torch.arange(features.shape[0], device=idx.device) * features.shape[1]
    return features.reshape(-1, features.shape[2]), (idx + offset[:, None, None]).flatten(0, 1)


def reference(features: Tensor, idx: Tensor, weight: Tensor) -> Tensor:
    """Torch form: one weighted embedding bag a query, nothing of size (B, M, K, C)."""
    batch, m, k = idx.shape
    if batch * m == 0:
        return features.new_empty(batch, m, features.shape[2])
    table, rows = _flat(features, idx)
    out = F.embedding_bag(rows, table, per_sample_weights=weight.reshape(-1, k), mode="sum")
    return out.view(batch, m, features.shape[2])


def reference_backward(
    grad: Tensor, features: Tensor, idx: Tensor, weight: Tensor, need_weight: bool
) -> tuple[Tensor, Tensor]:
    """Gradients of :func:`reference` in `features` and `weight`, one neighbour at a time.

    The second is empty, (0, M, K), unless it is needed.
    """
    _, rows = _flat(features, idx)
    table = features.reshape(-1, features.shape[2])
    flow = grad.reshape(-1, grad.shape[2])
    to_features = torch.zeros_like(table)
    batch, m, k = weight.shape
    to_weight = weight.new_empty(batch if need_weight else 0, m, k)
    for j in range(idx.shape[2]):
        share = where_needed(flow, weight[..., j].reshape(-1, 1).expand_as(flow))
        to_features.index_add_(0, rows[:, j], flow * share)
        if need_weight:
            read = where_needed(flow, table[rows[:, j]])
            to_weight[..., j] = (flow * read).sum(-1).view(batch, m)
    return to_features.view_as(features), to_weight


def _fake(features: Tensor, idx: Tensor, weight: Tensor) -> Tensor:
    return features.new_empty((features.shape[0], idx.shape[1], features.shape[2]))


def _fake_backward(
    grad: Tensor, features: Tensor, idx: Tensor, weight: Tensor, need_weight: bool
) -> tuple[Tensor, Tensor]:
    batch, m, k = weight.shape
    to_weight = weight.new_empty((batch if need_weight else 0, m, k))
    return features.new_empty(features.shape), to_weight


_op = register(
    "interpolate",
    "(Tensor features, Tensor idx, Tensor weight) -> Tensor",
    reference=reference,
    fake=_fake,
)
_op_backward = register(
    "interpolate_backward",
    "(Tensor grad, Tensor features, Tensor idx, Tensor weight, bool need_weight)"
    " -> (Tensor, Tensor)",
    reference=reference_backward,
    fake=_fake_backward,
)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
    features, idx, weight = ctx.saved_tensors
    need = ctx.needs_input_grad
    to_features, to_weight = _op_backward(grad, features, idx, weight, need[2])
    return (to_features if need[0] else None), None, (to_weight if need[2] else None)


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:4])
    ctx.need_weight = inputs[4]


def _double_backward(ctx: Any, to_features: Tensor, to_weight: Tensor) -> tuple[Tensor | None, ...]:
    grad, features, idx, weight = ctx.saved_tensors
    on_grad = _op(to_features, idx, weight)
    on_weight = _op_backward(grad, to_features, idx, weight, True)[1]
    on_features = None
    if ctx.need_weight:  # otherwise that output is empty, and features entered only there
        on_grad = on_grad + _op(features, idx, to_weight)
        on_features = _op_backward(grad, features, idx, to_weight, False)[0]
    return on_grad, on_features, None, on_weight, None


autograd("interpolate", _backward, _setup)
autograd("interpolate_backward", _double_backward, _setup_backward)


def three_nn(queries: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """The three nearest points of every query.

    Args:
        queries: (B, M, D) floating.
        points: (B, N, D) floating, N at least 3.

    Returns:
        Squared distances (B, M, 3), ascending, and indices (B, M, 3) int64.

    Raises:
        ValueError: as :func:`point_ops.knn`.
    """
    return knn(queries, points, 3)


def three_interpolate(features: Tensor, idx: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of the rows of `features` named by `idx`.

    Args:
        features: (B, N, C) floating; half precision is summed in float32.
        idx: (B, M, K) int64 or int32, values in 0..N-1; K is usually 3.
        weight: (B, M, K) floating.

    Returns:
        (B, M, C) in the dtype of `features`, differentiable in `features` and `weight`.

    Raises:
        ValueError: a wrong shape, dtype or device; on the CPU also an index out of range.
    """
    table = _checks.cloud("features", features, "B,N,C")
    idx = _checks.indices("idx", idx, "B,M,K", table, "features")
    weight = _checks.cloud("weight", weight, "B,M,K").to(table.dtype)
    _checks.same_device("features", table, "weight", weight)
    if weight.shape != idx.shape:
        raise ValueError(
            f"weight: expected the shape of idx {tuple(idx.shape)}, got {tuple(weight.shape)}"
        )
    out: Tensor = _op(table, idx, weight)
    return out.to(features.dtype)


def interpolate(
    queries: Tensor, points: Tensor, features: Tensor, *, k: int = 3, eps: float = 1e-8
) -> Tensor:
    """Carry features from `points` to `queries`, weights proportional to 1 / (d^2 + eps).

    Args:
        queries: (B, M, 3) floating.
        points: (B, N, 3) floating.
        features: (B, N, C) floating, the features of `points`.
        k: neighbours a query, between 1 and N.
        eps: added to the squared distance.

    Returns:
        (B, M, C), differentiable in `features` and in both clouds; NaN for a query without a
        finite distance.

    Raises:
        ValueError: as :func:`point_ops.knn` and :func:`three_interpolate`, or features that are
            not one row a point.
    """
    table = _checks.tensor("features", features, "B,N,C")
    cloud = _checks.cloud("points", points, "B,N,D")
    if table.shape[:2] != cloud.shape[:2]:
        expected = f"({', '.join(map(str, cloud.shape[:2]))}, C)"
        raise ValueError(f"features: expected {expected} as in points, got {tuple(table.shape)}")
    sqdist, idx = knn(queries, points, k)
    weight = 1.0 / (sqdist + eps)
    total = weight.sum(-1, keepdim=True)
    # A query without a finite distance has weights 0 / 0. They are written down, not computed: so
    # they have no gradient, which would be NaN and reach the points.
    near = total > 0
    weight = torch.where(near, weight / torch.where(near, total, 1), torch.nan)
    return three_interpolate(features, idx, weight)
