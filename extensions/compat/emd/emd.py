"""The soft earth mover's distance that the field's repositories carry; distances are squared."""

from typing import Any

import point_ops
import torch
from torch import Tensor, nn
from torch.autograd import Function


class EarthMoverDistanceFunction(Function):
    """`EarthMoverDistanceFunction.apply(xyz1, xyz2)`: cost of the soft matching, one value a cloud.

    The matching counts as constant in the gradient.
    """

    @staticmethod
    def forward(ctx: Any, xyz1: Tensor, xyz2: Tensor) -> Tensor:
        """xyz1 (B, N, 3), xyz2 (B, M, 3) -> (B,)."""
        match = point_ops.soft_match(xyz1, xyz2)
        ctx.save_for_backward(xyz1, xyz2, match)
        return point_ops.match_cost(xyz1, xyz2, match, squared=True)

    @staticmethod
    def backward(ctx: Any, grad_cost: Tensor) -> tuple[Tensor, Tensor]:
        """grad_cost (B,) -> (B, N, 3), (B, M, 3)."""
        xyz1, xyz2, match = ctx.saved_tensors
        with torch.enable_grad():
            one, two = xyz1.detach().requires_grad_(), xyz2.detach().requires_grad_()
            cost = point_ops.match_cost(one, two, match, squared=True)
        to_one, to_two = torch.autograd.grad(cost, (one, two), grad_cost)
        return to_one, to_two


def earth_mover_distance(
    xyz1: Tensor | None = None, xyz2: Tensor | None = None, transpose: bool = True
) -> Any:
    """Cost of the soft matching: squared distances, summed, one value a cloud.

    Under this name some repositories have a function of two clouds and others a module class. With
    clouds this is the former, without any it makes the latter's module.

    Args:
        xyz1: (B, 3, N), or (B, N, 3) with ``transpose=False``; without B, one cloud.
        xyz2: (B, 3, M), or (B, M, 3) with ``transpose=False``.
        transpose: the layout.

    Returns:
        (B,), differentiable; without clouds an :class:`EarthMoverDistanceMean`.

    Raises:
        TypeError: one cloud alone.
    """
    if xyz1 is None and xyz2 is None:
        return EarthMoverDistanceMean()
    if xyz1 is None or xyz2 is None:
        raise TypeError("earth_mover_distance: expected two clouds, or none for the module")
    xyz1 = xyz1.unsqueeze(0) if xyz1.dim() == 2 else xyz1
    xyz2 = xyz2.unsqueeze(0) if xyz2.dim() == 2 else xyz2
    if transpose:
        xyz1, xyz2 = xyz1.transpose(1, 2), xyz2.transpose(1, 2)
    return EarthMoverDistanceFunction.apply(xyz1, xyz2)


class EarthMoverDistance(nn.Module):
    """:func:`earth_mover_distance` of (B, N, 3) clouds as a module."""

    def forward(self, xyz1: Tensor, xyz2: Tensor) -> Tensor:
        """xyz1 (B, N, 3), xyz2 (B, M, 3) -> (B,)."""
        cost: Tensor = EarthMoverDistanceFunction.apply(xyz1, xyz2)
        return cost


class EarthMoverDistanceMean(nn.Module):
    """The cost a point of the first cloud, averaged over clouds, as the field's training loss."""

    def forward(self, xyz1: Tensor, xyz2: Tensor, transpose: bool = False) -> Tensor:
        """xyz1 (B, N, 3), xyz2 (B, M, 3) -> scalar; with ``transpose`` (B, 3, N), (B, 3, M)."""
        cost: Tensor = earth_mover_distance(xyz1, xyz2, transpose)
        return cost.mean() / xyz1.shape[2 if transpose else 1]
