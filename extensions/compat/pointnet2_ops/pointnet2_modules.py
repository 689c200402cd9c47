"""The set abstraction and feature propagation modules of `pointnet2_ops.pointnet2_modules`.

Constructor arguments and names in the state dict are the original's, so checkpoints load.
"""

import itertools

import torch
from torch import Tensor, nn

from . import pointnet2_utils as ops


def build_shared_mlp(mlp_spec: list[int], bn: bool = True) -> nn.Sequential:
    """1x1 convolutions with ReLU (and batch norm) between the widths of `mlp_spec`."""
    layers: list[nn.Module] = []
    for narrow, wide in itertools.pairwise(mlp_spec):
        layers.append(nn.Conv2d(narrow, wide, kernel_size=1, bias=not bn))
        if bn:
            layers.append(nn.BatchNorm2d(wide))
        layers.append(nn.ReLU(True))
    return nn.Sequential(*layers)


class _PointnetSAModuleBase(nn.Module):
    """Set abstraction; a subclass says how many centres there are, and what groups and lifts.

    `npoint` is the number of centres, or None for the whole cloud as one group; `groupers` and
    `mlps` are module lists of one length.
    """

    npoint: int | None
    groupers: nn.ModuleList
    mlps: nn.ModuleList

    def __init__(self) -> None:
        super().__init__()
        self.npoint = None
        self.groupers, self.mlps = nn.ModuleList(), nn.ModuleList()

    def forward(self, xyz: Tensor, features: Tensor | None) -> tuple[Tensor | None, Tensor]:
        """xyz (B, N, 3), features (B, C, N) -> centres (B, npoint, 3), (B, sum C', npoint)."""
        centers = None
        if self.npoint is not None:
            idx = ops.furthest_point_sample(xyz, self.npoint)
            centers = ops.gather_operation(xyz.transpose(1, 2), idx).transpose(1, 2).contiguous()
        pooled = [
            mlp(grouper(xyz, centers, features)).amax(-1)
            for grouper, mlp in zip(self.groupers, self.mlps, strict=True)
        ]
        return centers, torch.cat(pooled, 1)


class PointnetSAModuleMSG(_PointnetSAModuleBase):
    """Set abstraction over several radii."""

    def __init__(
        self,
        npoint: int | None,
        radii: list[float],
        nsamples: list[int],
        mlps: list[list[int]],
        bn: bool = True,
        use_xyz: bool = True,
    ) -> None:
        super().__init__()
        if not len(radii) == len(nsamples) == len(mlps):
            raise ValueError("radii, nsamples, mlps: expected lists of one length")
        self.npoint = npoint
        for radius, nsample, widths in zip(radii, nsamples, mlps, strict=True):
            self.groupers.append(
                ops.GroupAll(use_xyz)
                if npoint is None
                else ops.QueryAndGroup(radius, nsample, use_xyz=use_xyz)
            )
            self.mlps.append(build_shared_mlp([widths[0] + 3 * use_xyz, *widths[1:]], bn))


class PointnetSAModule(PointnetSAModuleMSG):
    """Set abstraction over one radius, or over the whole cloud when `npoint` is None."""

    def __init__(
        self,
        mlp: list[int],
        npoint: int | None = None,
        radius: float | None = None,
        nsample: int | None = None,
        bn: bool = True,
        use_xyz: bool = True,
    ) -> None:
        super().__init__(npoint, [radius or 0.0], [nsample or 0], [mlp], bn=bn, use_xyz=use_xyz)


class PointnetFPModule(nn.Module):
    """Feature propagation: interpolation from three neighbours, then a shared MLP."""

    def __init__(self, mlp: list[int], bn: bool = True) -> None:
        super().__init__()
        self.mlp = build_shared_mlp(mlp, bn=bn)

    def forward(
        self,
        unknown: Tensor,
        known: Tensor | None,
        unknow_feats: Tensor | None,
        known_feats: Tensor,
    ) -> Tensor:
        """unknown (B, n, 3), known (B, m, 3), features (B, C1, n) and (B, C2, m) -> (B, C', n)."""
        if known is None:
            carried = known_feats.expand(*known_feats.shape[:2], unknown.shape[1])
        else:
            distance, idx = ops.three_nn(unknown, known)
            weight = 1.0 / (distance + 1e-8)
            weight = weight / weight.sum(2, keepdim=True)
            carried = ops.three_interpolate(known_feats, idx, weight)
        if unknow_feats is not None:
            carried = torch.cat([carried, unknow_feats], 1)
        out: Tensor = self.mlp(carried.unsqueeze(-1)).squeeze(-1)
        return out
