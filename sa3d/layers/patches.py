"""Clouds to patches, patches to tokens, centres to position embeddings."""

from __future__ import annotations

from dataclasses import dataclass

import point_ops
import torch
from torch import Tensor, nn
from torch.nn import functional

from sa3d.layers.batch_norm import FUSED, BatchNorm
from sa3d.masking.base import flat_index


@dataclass(frozen=True)
class Groups:
    """One scale of patches: made once a batch, shared by all. A backbone hands out those of the
    scale of the mask; its finer scales hang on a subclass."""

    centers: Tensor  # (B, G, 3) float32
    patches: Tensor  # (B, G, K, 3) float32, relative to their centre
    # (B, G, K) int64, nearest first: into the cloud, or into the patches of the scale below
    index: Tensor


@torch.no_grad()
def group_points(points: Tensor, groups: int, size: int) -> Groups:
    """Patches of the ``size`` nearest points around ``groups`` farthest-point samples.

    Sampling starts at index 0; the centre is a point of its patch, at rank 0; patches are
    moved to their centre and not rescaled (Point-MAE, section 3.1). Float32.

    Args:
        points: (B, N, 3).
        groups: G.
        size: K.

    Raises:
        ValueError: N is smaller than G or K.
    """
    points = points.float()
    centers = point_ops.gather(points, point_ops.farthest_point_sample(points, groups))
    _, index = point_ops.knn(centers, points, size)
    patches = point_ops.group(points, index) - centers.unsqueeze(2)
    return Groups(centers, patches, index)


class PatchEmbed(nn.Module):
    """Mini-PointNet: the members of a patch to one token (Point-MAE, section 3.1).

    I -> W -> W', maximum over the patch, concat [maximum, member] 2W' -> H -> C, maximum. Rows
    are members and layers are Linear: the same arithmetic as kernel-1 convolutions on (B G,
    channels, K), without their transpositions. BatchNorm runs over all B G K members, of masked
    patches too, so that its statistics do not depend on the mask.

    Args:
        inputs: I, channels of a member: 3 for points, else the width of finer tokens.
        lift: (W, W'), widths of the two layers before the first maximum.
        hidden: H.
        dim: C.
    """

    def __init__(self, inputs: int, lift: tuple[int, int], hidden: int, dim: int) -> None:
        super().__init__()
        first, second = lift
        self.point1 = nn.Linear(inputs, first)
        self.norm1 = BatchNorm(first)
        self.point2 = nn.Linear(first, second)
        self.patch1 = nn.Linear(2 * second, hidden)  # of [maximum over the patch, member]
        self.norm2 = BatchNorm(hidden)
        self.patch2 = nn.Linear(hidden, dim)

    @classmethod
    def of_points(cls, dim: int, width: int) -> PatchEmbed:
        """Of points: W, 2W, 4W, then C; W is 128 as published, and less in a narrow model, where
        it would cost most of a step."""
        return cls(3, (width, 2 * width), 4 * width, dim)

    def forward(self, patches: Tensor, visible: Tensor | None = None) -> Tensor:
        """Tokens of all patches, or of the visible ones alone.

        Args:
            patches: (B, G, K, I).
            visible: (B, V) int64 or None; masked patches are left out of the last layer only,
                after the last statistics that they take part in.

        Returns:
            (B, G, C) or (B, V, C).
        """
        batch, groups, size, inputs = patches.shape
        lifted = self.norm1.relu(self.point1(patches.reshape(-1, inputs)))
        point = self.point2(lifted)
        whole = largest(point.view(batch * groups, size, -1))
        # W [g; f] = Wg g + Wf f: g is the same for all members of a patch, so do it once
        weight_whole, weight_point = self.patch1.weight.chunk(2, dim=1)
        hidden = self.norm2.relu(
            functional.linear(point, weight_point),
            group=size,
            shared=functional.linear(whole, weight_whole, self.patch1.bias),
            kept=None if visible is None else flat_index(visible, groups),
        )
        tokens = self.patch2(hidden)
        return largest(tokens.view(-1, size, tokens.shape[1])).view(batch, -1, tokens.shape[1])


def largest(members: Tensor) -> Tensor:
    """The maximum over each group: (P, K, C) -> (P, C)."""
    if members.device.type in FUSED and not torch.compiler.is_exporting():
        return point_ops.group_max(members)
    return members.max(1).values


class PositionMLP(nn.Sequential):
    """Patch centres (B, n, 3) to position embeddings (B, n, C): 3 -> hidden -> GELU -> C."""

    def __init__(self, dim: int, hidden: int = 128) -> None:
        super().__init__(nn.Linear(3, hidden), nn.GELU(), nn.Linear(hidden, dim))
