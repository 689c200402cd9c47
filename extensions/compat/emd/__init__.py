"""Stands in for the `emd` package of the field on top of point_ops."""

import point_ops
import torch
from point_ops_compat import claim
from torch import Tensor, nn

claim("emd", __file__)


def earth_mover_distance(xyz1: Tensor, xyz2: Tensor, transpose: bool = True) -> Tensor:
    """Cost of the soft matching: squared distances, summed, one value a cloud.

    Args:
        xyz1: (B, 3, N), or (B, N, 3) with ``transpose=False``; without B, one cloud.
        xyz2: (B, 3, M), or (B, M, 3) with ``transpose=False``.
        transpose: the layout.

    Returns:
        (B,), differentiable.
    """
    xyz1 = xyz1.unsqueeze(0) if xyz1.dim() == 2 else xyz1
    xyz2 = xyz2.unsqueeze(0) if xyz2.dim() == 2 else xyz2
    if transpose:
        xyz1, xyz2 = xyz1.transpose(1, 2), xyz2.transpose(1, 2)
    with torch.no_grad():
        match = point_ops.soft_match(xyz1, xyz2)
    return point_ops.match_cost(xyz1, xyz2, match, squared=True)


class EarthMoverDistance(nn.Module):
    """:func:`earth_mover_distance` of (B, N, 3) clouds as a module."""

    def forward(self, xyz1: Tensor, xyz2: Tensor) -> Tensor:
        """xyz1 (B, N, 3), xyz2 (B, M, 3) -> (B,)."""
        return earth_mover_distance(xyz1, xyz2, transpose=False)
