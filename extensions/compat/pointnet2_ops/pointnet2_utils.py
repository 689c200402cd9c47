"""The operators of `pointnet2_ops.pointnet2_utils`: same arguments, layouts and int32 indices."""

import point_ops
import torch
from torch import Tensor, nn

ORIGIN = 1e-3  # squared radius around the origin inside which the original never picks a point


def furthest_point_sample(xyz: Tensor, npoint: int) -> Tensor:
    """Farthest points, with the original's rule around the origin.

    Args:
        xyz: (B, N, 3).
        npoint: how many.

    Returns:
        (B, npoint) int32. Index 0 comes first; a point with x^2 + y^2 + z^2 <= 1e-3 is never
        picked after it; when no other candidate is left, index 0 is repeated.

    Raises:
        ValueError: as :func:`point_ops.farthest_point_sample`.
    """
    if not isinstance(xyz, Tensor) or xyz.dim() != 3 or xyz.shape[1] < 1:
        raise ValueError("xyz: expected a tensor (B, N, 3) with N >= 1")
    count = min(npoint, xyz.shape[1])
    skip = xyz.detach().square().sum(-1) <= ORIGIN
    skip[:, 0] = False  # the start takes part in distances wherever it lies
    # A point that is not finite is never picked: exactly the rule wanted.
    idx = point_ops.farthest_point_sample(
        xyz.detach().masked_fill(skip.unsqueeze(-1), torch.nan), count
    )
    if count < npoint:
        idx = torch.nn.functional.pad(idx, (0, npoint - count))
    return idx.int()


def gather_operation(features: Tensor, idx: Tensor) -> Tensor:
    """features (B, C, N), idx (B, M) -> (B, C, M), differentiable."""
    return point_ops.gather(features.transpose(1, 2), idx).transpose(1, 2).contiguous()


def grouping_operation(features: Tensor, idx: Tensor) -> Tensor:
    """features (B, C, N), idx (B, M, K) -> (B, C, M, K), differentiable."""
    return point_ops.group(features.transpose(1, 2), idx).permute(0, 3, 1, 2).contiguous()


def three_nn(unknown: Tensor, known: Tensor) -> tuple[Tensor, Tensor]:
    """unknown (B, n, 3), known (B, m, 3) -> distances (not squared) and int32 indices (B, n, 3)."""
    sqdist, idx = point_ops.three_nn(unknown.detach(), known.detach())
    return sqdist.sqrt(), idx.int()


def three_interpolate(features: Tensor, idx: Tensor, weight: Tensor) -> Tensor:
    """features (B, C, m), idx and weight (B, n, 3) -> (B, C, n), differentiable in features."""
    rows = point_ops.three_interpolate(features.transpose(1, 2), idx, weight.detach())
    return rows.transpose(1, 2).contiguous()


def ball_query(radius: float, nsample: int, xyz: Tensor, new_xyz: Tensor) -> Tensor:
    """xyz (B, N, 3), new_xyz (B, M, 3) -> (B, M, nsample) int32."""
    return point_ops.ball_query(new_xyz, xyz, radius, nsample).int()


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
