"""Stands in for the `chamfer_dist` package of the field on top of point_ops."""

import point_ops
import torch
from point_ops_compat import claim
from torch import Tensor, nn

claim("chamfer_dist", __file__)


class ChamferFunction:
    """`ChamferFunction.apply(xyz1, xyz2)`: squared distances both ways, differentiable."""

    @staticmethod
    def apply(xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor]:
        """xyz1 (B, N, 3), xyz2 (B, M, 3) -> (B, N), (B, M)."""
        found = point_ops.chamfer(xyz1, xyz2)
        return found.sqdist_ab, found.sqdist_ba


class _Chamfer(nn.Module):
    def __init__(self, ignore_zeros: bool = False) -> None:
        super().__init__()
        self.ignore_zeros = ignore_zeros

    def distances(self, xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor]:
        """Squared distances; a batch of one drops its padding (points whose sum is zero)."""
        if self.ignore_zeros and xyz1.shape[0] == 1:
            xyz1 = xyz1[xyz1.sum(2).ne(0)].unsqueeze(0)
            xyz2 = xyz2[xyz2.sum(2).ne(0)].unsqueeze(0)
        return ChamferFunction.apply(xyz1, xyz2)


class ChamferDistanceL2(_Chamfer):
    """Mean squared distance, both directions summed."""

    def forward(self, xyz1: Tensor, xyz2: Tensor) -> Tensor:
        """xyz1 (B, N, 3), xyz2 (B, M, 3) -> scalar."""
        one, two = self.distances(xyz1, xyz2)
        return one.mean() + two.mean()


class ChamferDistanceL2_split(_Chamfer):  # noqa: N801  (the original's name)
    """Mean squared distance of each direction."""

    def forward(self, xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor]:
        """xyz1 (B, N, 3), xyz2 (B, M, 3) -> two scalars."""
        one, two = self.distances(xyz1, xyz2)
        return one.mean(), two.mean()


class ChamferDistanceL2_unreduced(_Chamfer):  # noqa: N801  (named as its neighbour)
    """Squared distance of every point, both directions added; the clouds have equally many points.

    Its mean is :class:`ChamferDistanceL2`. Code that wants one loss a patch reduces it as it likes.
    """

    def forward(self, xyz1: Tensor, xyz2: Tensor) -> Tensor:
        """xyz1 (B, N, 3), xyz2 (B, N, 3) -> (B, N)."""
        one, two = self.distances(xyz1, xyz2)
        if one.shape != two.shape:
            raise ValueError(f"xyz2: expected {one.shape[1]} points as in xyz1, got {two.shape[1]}")
        return one + two


class ChamferDistanceL1(_Chamfer):
    """Mean distance, averaged over both directions."""

    def forward(self, xyz1: Tensor, xyz2: Tensor) -> Tensor:
        """xyz1 (B, N, 3), xyz2 (B, M, 3) -> scalar."""
        one, two = self.distances(xyz1, xyz2)
        return (torch.sqrt(one).mean() + torch.sqrt(two).mean()) / 2
