"""Ball query: the first k points, in order of index, inside a radius of each query.

Source: Qi et al., PointNet++ (NeurIPS 2017), section 3.2, with the padding of `pointnet2_ops`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from . import _checks
from ._registry import register
from .knn import chunk, squared_distances


def reference(queries: Tensor, points: Tensor, radius: float, k: int) -> Tensor:
    """Torch form: the k smallest indices among those inside, by top-k on int32."""
    batch, m, _ = queries.shape
    n = points.shape[1]
    out = torch.empty(batch, m, k, dtype=torch.int64, device=queries.device)
    order = torch.arange(n, dtype=torch.int32, device=queries.device)
    limit = torch.tensor(radius, dtype=queries.dtype)
    limit = (limit * limit).to(queries.device)
    rows = max(1, chunk(queries.device) // n)
    clouds = max(1, chunk(queries.device) // max(1, m * n))
    for b in range(0, batch, clouds):
        for r in range(0, m, rows):
            inside = (
                squared_distances(queries[b : b + clouds, r : r + rows], points[b : b + clouds])
                < limit
            )
            keys = torch.where(inside, order, n)
            found = torch.topk(keys, min(k, n), dim=-1, largest=False, sorted=True).values
            first = found[..., :1].masked_fill(found[..., :1] == n, 0)
            found = torch.where(found == n, first, found)
            out[b : b + clouds, r : r + rows, : found.shape[-1]] = found
            out[b : b + clouds, r : r + rows, found.shape[-1] :] = first
    return out


def _fake(queries: Tensor, points: Tensor, radius: float, k: int) -> Tensor:
    return queries.new_empty((queries.shape[0], queries.shape[1], k), dtype=torch.int64)


def _cuda(queries: Tensor, points: Tensor, radius: float, k: int) -> Tensor:
    from . import _triton_points as kernels

    return kernels.ball_query(queries, points, radius, k)


_op = register(
    "ball_query",
    "(Tensor queries, Tensor points, float radius, SymInt k) -> Tensor",
    reference=reference,
    fake=_fake,
    cuda=_cuda,
)


def ball_query(queries: Tensor, points: Tensor, radius: float, k: int) -> Tensor:
    """The first k points within `radius` of every query.

    Args:
        queries: (B, M, 3) floating.
        points: (B, N, 3) floating, same device.
        radius: positive; a point counts when its squared distance is below ``radius**2``.
        k: at least 1; may exceed N.

    Returns:
        (B, M, k) int64, ascending; places left over repeat the first index found, or hold 0
        when the ball is empty (the convention of `pointnet2_ops`).

    Raises:
        ValueError: a wrong shape, dtype or device, or a number out of range.
    """
    queries = _checks.cloud("queries", queries, "B,M,3", last=3).detach()
    points = _checks.cloud("points", points, "B,N,3", last=3).detach()
    queries, points = _checks.pair("queries", queries, "points", points)
    if points.shape[1] < 1:
        raise ValueError("points: expected at least one point, got N = 0")
    k = _checks.count("k", k)
    out: Tensor = _op(queries, points, _checks.positive("radius", radius), k)
    return out
