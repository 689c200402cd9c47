"""Patches of patches: three scales of a cloud, and what one mask leaves visible on each.

Source: Point-M2AE (arXiv 2205.14401), sections 3.1 and 3.2. Scales count from 0, the finest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from sa3d.layers.patches import Groups, group_points
from sa3d.masking.base import Mask, take


@dataclass(frozen=True)
class ScaleGroups(Groups):
    """The coarsest scale, and all of them in ``scales``, fine to coarse. The index of each points
    into the patches of the one below, that of the finest into the cloud."""

    scales: tuple[Groups, ...]


def group_scales(points: Tensor, groups: Sequence[int], sizes: Sequence[int]) -> ScaleGroups:
    """Patches of the cloud, then patches of the centres of the scale below.

    Args:
        points: (B, N, 3).
        groups: patches of each scale, fine to coarse.
        sizes: members of a patch of each scale.

    Raises:
        ValueError: fewer points than finest patches or than points of one.
    """
    scales: list[Groups] = []
    for count, size in zip(groups, sizes, strict=True):
        below = scales[-1].centers if scales else points
        scales.append(group_points(below, count, size))
    top = scales[-1]
    return ScaleGroups(top.centers, top.patches, top.index, tuple(scales))


def cloud_members(groups: ScaleGroups) -> Tensor:
    """(B, G, K0 K1 K2) int64: the points of the cloud under each coarsest patch; one that lies in
    several finer patches occurs as often."""
    found = groups.index
    for finer in reversed(groups.scales[:-1]):
        batch, count, size = found.shape
        found = take(finer.index, found.flatten(1)).view(batch, count, size * finer.index.shape[2])
    return found


@torch.no_grad()
def project_mask(groups: ScaleGroups, mask: Mask) -> tuple[Tensor, ...]:
    """What is masked on every scale when ``mask`` hides patches of the coarsest.

    A finer patch is visible where a visible coarser patch has it as a member; the masked share
    of the finer scales therefore differs from cloud to cloud.

    Returns:
        (B, G_i) bool of each scale, fine to coarse; True = masked.
    """
    flags = [mask.flags]
    for coarse, fine in zip(groups.scales[:0:-1], groups.scales[-2::-1], strict=True):
        batch, count = fine.centers.shape[:2]
        visible = (~flags[-1]).unsqueeze(2).expand_as(coarse.index)
        seen = torch.zeros(batch, count, dtype=torch.int32, device=mask.flags.device)
        # counted, not written: the same patch may be a member of visible and of masked ones
        seen.scatter_add_(1, coarse.index.flatten(1), visible.flatten(1).int())
        flags.append(seen == 0)
    return tuple(reversed(flags))


def longest(*flags: Tensor) -> list[int]:
    """The largest number of True in a row of each (B, G_i). Read from the device, which on a GPU
    makes the host wait."""
    widths: list[int] = torch.stack([each.sum(1).max() for each in flags]).tolist()
    return widths


def most_visible(groups: ScaleGroups, mask: Mask) -> list[int]:
    """What :func:`longest` never exceeds on the finer scales, fine to coarse, from shapes alone.

    A visible patch makes no more finer ones visible than it has members. With the published sizes
    the bound of the middle scale is 104 of 256 patches; that of the finest is all 512.
    """
    widths = [mask.visible.shape[1]]
    for coarse, fine in zip(groups.scales[:0:-1], groups.scales[-2::-1], strict=True):
        widths.insert(0, min(fine.index.shape[1], widths[0] * coarse.index.shape[2]))
    return widths[:-1]


class Ragged(NamedTuple):
    """Some patches of each sample, another number in each: padded to the longest row."""

    slots: Tensor  # (B, n) int64; a row's own patches ascending, then others as padding
    valid: Tensor | None  # (B, n) bool, False = padding; None: all rows are as long

    @classmethod
    def of(cls, flags: Tensor, width: int) -> Ragged:
        """The patches flagged True in (B, G) ``flags``, at most ``width`` in each row."""
        order = torch.argsort((~flags).byte(), dim=1, stable=True)[:, :width]
        place = torch.arange(width, device=flags.device)
        return cls(order, place < flags.sum(1, keepdim=True))

    def put(self, values: Tensor, into: Tensor) -> Tensor:
        """``into`` (B, G, C) with ``values`` (B, n, C) at their patches; padding writes nothing."""
        rows = values.to(into.dtype)
        if self.valid is not None:
            rows = torch.where(self.valid.unsqueeze(2), rows, take(into, self.slots))
        return into.scatter(1, self.slots.unsqueeze(2).expand_as(rows), rows)
