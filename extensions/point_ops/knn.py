"""k nearest neighbours, exact: direct differences, ascending, ties by the lower index.

The usual matmul form |q|^2 - 2qp + |p|^2 returns wrong neighbours by cancellation; it is not used.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _checks
from ._registry import autograd, register
from .gather import group, where_needed


def chunk(device: torch.device) -> int:
    """Distances held at once: about a core's cache on the CPU, few launches on a GPU."""
    return 1 << (18 if device.type == "cpu" else 26)


def squared_distances(queries: Tensor, points: Tensor) -> Tensor:
    """(B, M, D), (B, N, D) -> (B, M, N), summed axis by axis; NaN counts as infinity."""
    q, p = queries.mT.contiguous(), points.mT.contiguous()  # rows that vectorise: twice as fast
    total = queries.new_zeros(queries.shape[0], queries.shape[1], points.shape[1])
    for axis in range(q.shape[1]):
        delta = q[:, axis].unsqueeze(2) - p[:, axis].unsqueeze(1)
        total.add_(delta.mul_(delta))
    # Finite coordinates give no NaN, not even where they overflow. On a GPU asking would wait.
    if q.is_cpu and q.isfinite().all() and p.isfinite().all():
        return total
    return total.masked_fill_(total.isnan(), torch.inf)


def _smallest(distance: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k smallest of the last axis, ascending, ties by the lower index."""
    if distance.dtype != torch.float32:
        values, order = torch.sort(distance, dim=-1, stable=True)
        return values[..., :k], order[..., :k]
    # The bits of a non-negative float order like the float: pack (distance, index) in one int64.
    packed = distance.view(torch.int32).to(torch.int64).bitwise_left_shift_(32)
    packed += torch.arange(distance.shape[-1], device=distance.device)
    best = torch.topk(packed, k, dim=-1, largest=False, sorted=True).values
    idx = best & 0xFFFFFFFF
    return distance.gather(-1, idx), idx


def reference(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Torch form, in slices of queries so that the distances stay in cache."""
    batch, m, _ = queries.shape
    n = points.shape[1]
    sqdist = queries.new_empty(batch, m, k)
    idx = torch.empty(batch, m, k, dtype=torch.int64, device=queries.device)
    clouds = max(1, chunk(queries.device) // max(1, m * n))
    rows = max(1, chunk(queries.device) // n)
    for b in range(0, batch, clouds):
        for r in range(0, m, rows):
            part = queries[b : b + clouds, r : r + rows]
            found = _smallest(squared_distances(part, points[b : b + clouds]), k)
            sqdist[b : b + clouds, r : r + rows], idx[b : b + clouds, r : r + rows] = found
    return sqdist, idx


def _fake(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    shape = (queries.shape[0], queries.shape[1], k)
    return queries.new_empty(shape), queries.new_empty(shape, dtype=torch.int64)


def _cuda(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    from . import _triton_points as kernels

    small = points.shape[1] <= kernels.KNN_WIDEST and k <= kernels.KNN_MOST
    if small and points.dtype == torch.float32:
        return kernels.knn(queries, points, k)
    return reference(queries, points, k)


_op = register(
    "knn",
    "(Tensor queries, Tensor points, SymInt k) -> (Tensor, Tensor)",
    reference=reference,
    fake=_fake,
    cuda=_cuda,
)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: tuple[Tensor, Tensor]) -> None:
    queries, points, _ = inputs
    ctx.save_for_backward(queries, points, output[1])
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, grad: Tensor, _: Any) -> tuple[Tensor | None, Tensor | None, None]:
    queries, points, idx = ctx.saved_tensors
    grad = grad.unsqueeze(-1)
    flow = 2 * grad * where_needed(grad, queries.unsqueeze(2) - group(points, idx))
    to_queries = flow.sum(2) if ctx.needs_input_grad[0] else None
    to_points = None
    if ctx.needs_input_grad[1]:
        batch, m, k, d = flow.shape  # `flatten` would not go through vmap
        rows = flow.reshape(batch, m * k, d)
        to_points = -torch.ops.point_ops.gather_backward(rows, idx.flatten(1), points.shape[1])
    return to_queries, to_points, None


autograd("knn", _backward, _setup)


def knn(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k nearest points of every query.

    Args:
        queries: (B, M, D) floating.
        points: (B, N, D) floating, same device; the wider dtype of the two is used and half
            precision is computed in float32.
        k: between 1 and N.

    Returns:
        Squared distances (B, M, k), ascending, differentiable in both clouds; and indices
        (B, M, k) int64. Equal distances come in order of index; a NaN distance is infinite.

    Raises:
        ValueError: a wrong shape, dtype or device, or k out of range.
    """
    queries = _checks.cloud("queries", queries, "B,M,D")
    points = _checks.cloud("points", points, "B,N,D")
    queries, points = _checks.pair("queries", queries, "points", points)
    k = _checks.count("k", k, points.shape[1], "the number of points")
    sqdist, idx = _op(queries, points, k)
    return sqdist, idx
