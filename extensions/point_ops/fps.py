"""Farthest point sampling: greedy, deterministic, ties by the lower index.

Source: Qi et al., PointNet++ (NeurIPS 2017), section 3.2. Unlike `pointnet2_ops`, no point is
skipped for lying near the origin; the drop-in package keeps that rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from . import _checks
from ._registry import register


def reference(points: Tensor, start: Tensor, lengths: Tensor | None, n_samples: int) -> Tensor:
    """Torch form: coordinates in separate planes, one reused buffer, no host round trips.

    Args:
        points: (B, N, 3).  start: (B,) int64.  lengths: (B,) int64 or None.
    """
    batch, n, _ = points.shape
    picked = torch.empty(batch, n_samples, dtype=torch.int64, device=points.device)
    if batch == 0:
        return picked
    planes = [points[..., axis].contiguous() for axis in range(3)]
    pickable = torch.isfinite(points).all(-1)
    last = start.clamp(0, n - 1).unsqueeze(1)
    if lengths is not None:
        if points.device.type == "cpu" and not bool(((lengths >= 1) & (lengths <= n)).all()):
            raise ValueError(f"lengths: expected values in 1..{n}")
        ends = lengths.clamp(1, n).unsqueeze(1)
        pickable &= torch.arange(n, device=points.device) < ends
        last = torch.minimum(last, ends - 1)
    nearest = torch.full_like(planes[0], torch.inf).masked_fill_(~pickable, -1.0)
    distance, delta = torch.empty_like(nearest), torch.empty_like(nearest)
    for step in range(n_samples):
        picked[:, step] = last[:, 0]
        if step + 1 == n_samples:
            break
        torch.sub(planes[0], planes[0].gather(1, last), out=distance).mul_(distance)
        for plane in planes[1:]:
            torch.sub(plane, plane.gather(1, last), out=delta).mul_(delta)
            distance.add_(delta)
        torch.fmin(nearest, distance, out=nearest)  # fmin: a NaN distance changes nothing
        last = nearest.argmax(1, keepdim=True)
    return picked


def _fake(points: Tensor, start: Tensor, lengths: Tensor | None, n_samples: int) -> Tensor:
    return points.new_empty((points.shape[0], n_samples), dtype=torch.int64)


def _cuda(points: Tensor, start: Tensor, lengths: Tensor | None, n_samples: int) -> Tensor:
    from . import _triton_points as kernels

    if points.shape[1] > kernels.WIDEST:
        return reference(points, start, lengths, n_samples)
    return kernels.fps(points, start, lengths, n_samples)


_op = register(
    "fps",
    "(Tensor points, Tensor start, Tensor? lengths, SymInt n_samples) -> Tensor",
    reference=reference,
    fake=_fake,
    cuda=_cuda,
)


def farthest_point_sample(
    points: Tensor,
    n_samples: int,
    *,
    start: int | Literal["random"] = 0,
    lengths: Tensor | Sequence[int] | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Pick `n_samples` points, each the farthest from those picked before it.

    Args:
        points: (B, N, 3) floating; half precision is computed in float32.
        n_samples: S, between 1 and N.
        start: index of the first pick in every cloud, or ``"random"`` for one draw per cloud.
        lengths: (B,) number of valid points in each cloud of a padded batch. A cloud with fewer
            than S points repeats its index 0 once all are picked (all distances are then zero).
        generator: source of the random start; the default generator of the device without it.

    Returns:
        (B, S) int64 indices. A point with a NaN or infinite coordinate is never picked, except
        as the given start.

    Raises:
        ValueError: a wrong shape, dtype or device, or a number out of range.
    """
    points = _checks.cloud("points", points, "B,N,3", last=3).detach()
    batch, n, _ = points.shape
    n_samples = _checks.count("n_samples", n_samples, n, "the points in a cloud")
    ends: Tensor | None = None
    if lengths is not None:
        if not isinstance(lengths, Tensor):
            each = [_checks.integer("lengths", length) for length in lengths]
            lengths = torch.tensor(each, dtype=torch.int64, device=points.device)
        ends = _checks.indices("lengths", lengths, "B", points, "points")
    if isinstance(start, str) and start == "random":
        draw = torch.rand(batch, generator=generator, device=points.device, dtype=torch.float64)
        limit = torch.full_like(draw, n) if ends is None else ends.double()
        first = (draw * limit).long()
    else:
        number = _checks.integer("start", start)
        if not 0 <= number < n:
            raise ValueError(f"start: expected 0..{n - 1} or 'random', got {number}")
        first = torch.full((batch,), number, dtype=torch.int64, device=points.device)
    out: Tensor = _op(points, first, ends, n_samples)
    return out
