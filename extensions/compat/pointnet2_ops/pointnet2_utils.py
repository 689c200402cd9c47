"""The operators of `pointnet2_ops.pointnet2_utils`: same names, arguments, layouts, int32 indices.

Every operator is there twice, as in the original: as a `torch.autograd.Function` with its `apply`
and as a function. Gradients run where the original has them: in the features that are gathered,
grouped or interpolated, not in coordinates nor in the weights of an interpolation.
"""

from typing import Any

import point_ops
import torch
from torch import Tensor, nn
from torch.autograd import Function

ORIGIN = 1e-3  # squared radius around the origin inside which the original never picks a point


class FurthestPointSampling(Function):
    """Farthest points: see :func:`furthest_point_sample`."""

    @staticmethod
    def forward(ctx: Any, xyz: Tensor, npoint: int) -> Tensor:
        """xyz (B, N, 3) -> (B, npoint) int32."""
        if not isinstance(xyz, Tensor) or xyz.dim() != 3 or xyz.shape[1] < 1:
            raise ValueError("xyz: expected a tensor (B, N, 3) with N >= 1")
        count = min(npoint, xyz.shape[1])
        # compared in double precision: the original's bound is no float32
        candidate = xyz.square().sum(-1).double() > ORIGIN
        candidate &= xyz.isfinite().all(-1)
        measured = candidate.clone()
        measured[:, 0] = True  # the start takes part in distances wherever it lies
        # A point that is not finite is never picked: exactly the rule wanted.
        idx = point_ops.farthest_point_sample(
            xyz.masked_fill(~measured.unsqueeze(-1), torch.nan), count
        )
        # Index 0 comes back only when every candidate is at distance 0 from those picked already.
        # The original then finds the first candidate, or index 0 where there is none.
        first = candidate.int().argmax(1, keepdim=True)
        idx = torch.cat((idx[:, :1], torch.where(idx[:, 1:] == 0, first, idx[:, 1:])), 1)
        idx = torch.cat((idx, first.expand(-1, npoint - count)), 1).int()
        ctx.mark_non_differentiable(idx)
        return idx

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None = None) -> tuple[None, None]:
        """No gradient."""
        return None, None


class GatherOperation(Function):
    """Columns by index: see :func:`gather_operation`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, idx: Tensor) -> Tensor:
        """features (B, C, N), idx (B, M) -> (B, C, M)."""
        ctx.save_for_backward(idx)
        ctx.columns = features.shape[2]
        return point_ops.gather(features.transpose(1, 2), idx).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """grad (B, C, M) -> (B, C, N)."""
        (idx,) = ctx.saved_tensors
        return _scattered(grad, idx, ctx.columns), None


class GroupingOperation(Function):
    """Neighbourhoods by index: see :func:`grouping_operation`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, idx: Tensor) -> Tensor:
        """features (B, C, N), idx (B, M, K) -> (B, C, M, K)."""
        ctx.save_for_backward(idx)
        ctx.columns = features.shape[2]
        return point_ops.group(features.transpose(1, 2), idx).permute(0, 3, 1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """grad (B, C, M, K) -> (B, C, N)."""
        (idx,) = ctx.saved_tensors
        return _scattered(grad.flatten(2), idx.flatten(1), ctx.columns), None


class ThreeNN(Function):
    """Three nearest neighbours: see :func:`three_nn`."""

    @staticmethod
    def forward(ctx: Any, unknown: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
        """unknown (B, n, 3), known (B, m, 3) -> distances and int32 indices, both (B, n, 3)."""
        sqdist, idx = point_ops.three_nn(unknown, known)
        distance, idx = sqdist.sqrt(), idx.int()
        ctx.mark_non_differentiable(distance, idx)
        return distance, idx

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[None, None]:
        """No gradient."""
        return None, None


class ThreeInterpolate(Function):
    """Weighted sum of three features: see :func:`three_interpolate`."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, idx: Tensor, weight: Tensor) -> Tensor:
        """features (B, C, m), idx and weight (B, n, 3) -> (B, C, n)."""
        ctx.save_for_backward(idx, weight)
        ctx.columns = features.shape[2]
        rows = point_ops.three_interpolate(features.transpose(1, 2), idx, weight)
        return rows.transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        """grad (B, C, n) -> (B, C, m)."""
        idx, weight = ctx.saved_tensors
        half = grad.dtype in (torch.float16, torch.bfloat16)
        rows = grad.transpose(1, 2).to(torch.float32 if half else grad.dtype)
        # only the shape of the features counts where the weights get no gradient
        features = rows.new_empty((rows.shape[0], ctx.columns, rows.shape[2]))
        found, _ = torch.ops.point_ops.interpolate_backward(
            rows, features, idx.long(), weight.to(rows.dtype), False
        )
        return found.to(grad.dtype).transpose(1, 2), None, None


class BallQuery(Function):
    """Neighbours in a ball: see :func:`ball_query`."""

    @staticmethod
    def forward(ctx: Any, radius: float, nsample: int, xyz: Tensor, new_xyz: Tensor) -> Tensor:
        """xyz (B, N, 3), new_xyz (B, M, 3) -> (B, M, nsample) int32."""
        idx = point_ops.ball_query(new_xyz, xyz, radius, nsample).int()
        ctx.mark_non_differentiable(idx)
        return idx

    @staticmethod
    def backward(ctx: Any, grad: Tensor | None = None) -> tuple[None, None, None, None]:
        """No gradient."""
        return None, None, None, None


def _scattered(grad: Tensor, idx: Tensor, columns: int) -> Tensor:
    """grad (B, C, M) summed into the columns idx (B, M) of a zero (B, C, columns)."""
    rows: Tensor = torch.ops.point_ops.gather_backward(grad.transpose(1, 2), idx.long(), columns)
    return rows.transpose(1, 2)


def furthest_point_sample(xyz: Tensor, npoint: int) -> Tensor:
    """Farthest points, with the original's rule around the origin.

    Args:
        xyz: (B, N, 3).
        npoint: how many.

    Returns:
        (B, npoint) int32. Index 0 comes first. After it a point with x^2 + y^2 + z^2 <= 1e-3 is
        never picked, be it index 0 itself. When all others have been picked, the first index
        outside that ball is repeated, or index 0 where there is none. Of equal distances the lower
        index wins; the original's order there depends on how many threads it starts.

    Raises:
        ValueError: as :func:`point_ops.farthest_point_sample`.
    """
    idx: Tensor = FurthestPointSampling.apply(xyz, npoint)
    return idx


def gather_operation(features: Tensor, idx: Tensor) -> Tensor:
    """features (B, C, N), idx (B, M) -> (B, C, M), differentiable."""
    out: Tensor = GatherOperation.apply(features, idx)
    return out


def grouping_operation(features: Tensor, idx: Tensor) -> Tensor:
    """features (B, C, N), idx (B, M, K) -> (B, C, M, K), differentiable."""
    out: Tensor = GroupingOperation.apply(features, idx)
    return out


def three_nn(unknown: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """unknown (B, n, 3), known (B, m, 3) -> distances (not squared) and int32 indices (B, n, 3)."""
    found: tuple[Tensor, Tensor] = ThreeNN.apply(unknown, known)
    return found


def three_interpolate(features: Tensor, idx: Tensor, weight: Tensor) -> Tensor:
    """features (B, C, m), idx and weight (B, n, 3) -> (B, C, n), differentiable in features."""
    out: Tensor = ThreeInterpolate.apply(features, idx, weight)
    return out


def ball_query(radius: float, nsample: int, xyz: Tensor, new_xyz: Tensor) -> Tensor:
    """xyz (B, N, 3), new_xyz (B, M, 3) -> (B, M, nsample) int32."""
    idx: Tensor = BallQuery.apply(radius, nsample, xyz, new_xyz)
    return idx


class QueryAndGroup(nn.Module):
    """Neighbours in a ball, relative to its centre, with their features."""

    def __init__(self, radius: float, nsample: int, use_xyz: bool = True) -> None:
        super().__init__()
        self.radius, self.nsample, self.use_xyz = radius, nsample, use_xyz

    def forward(self, xyz: Tensor, new_xyz: Tensor, features: Tensor | None = None) -> Tensor:
        """xyz (B, N, 3), new_xyz (B, M, 3), features (B, C, N) -> (B, [3 +] C, M, nsample)."""
        idx = ball_query(self.radius, self.nsample, xyz, new_xyz)
        local = grouping_operation(xyz.transpose(1, 2), idx) - new_xyz.transpose(1, 2)[..., None]
        if features is None:
            if not self.use_xyz:
                raise ValueError("features: expected a tensor when use_xyz is False")
            return local
        grouped = grouping_operation(features, idx)
        return torch.cat([local, grouped], 1) if self.use_xyz else grouped


class GroupAll(nn.Module):
    """The whole cloud as one group."""

    def __init__(self, use_xyz: bool = True) -> None:
        super().__init__()
        self.use_xyz = use_xyz

    def forward(
        self, xyz: Tensor, new_xyz: Tensor | None, features: Tensor | None = None
    ) -> Tensor:
        """xyz (B, N, 3), new_xyz ignored, features (B, C, N) -> (B, [3 +] C, 1, N)."""
        whole = xyz.transpose(1, 2).unsqueeze(2)
        if features is None:
            return whole
        grouped = features.unsqueeze(2)
        return torch.cat([whole, grouped], 1) if self.use_xyz else grouped
