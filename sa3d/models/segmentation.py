"""Part segmentation on a pre-trained encoder: every point of a cloud to one of the parts.

Both models are told the category of a cloud. Widths of the heads are those of the published
code, whatever the width of the encoder.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from sa3d.errors import ConfigError
from sa3d.models.downstream import Downstream, plain_layers, scale_layers
from sa3d.models.patches import group_points
from sa3d.models.propagation import FeaturePropagation, RowNorm
from sa3d.models.scales import group_scales

if TYPE_CHECKING:
    from sa3d.models.point_m2ae import PointM2AEEncoder
    from sa3d.models.point_mae import PointMAEEncoder

LABEL = 64  # width of the category's embedding
HIDDEN, LOCAL = 1536, 1024  # of each propagation to the points
PLAIN_HEAD = (512, 256)
SCALE_HEAD = (1024, 512, 256)
TAPS = 3  # depths at which the plain encoder is read


class Segmenter(Downstream):
    """Points and the category of their cloud to part logits."""

    @abstractmethod
    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        """Logits of every part, those of other categories included.

        Args:
            points: (B, N, 3).
            category: (B,) int64.

        Returns:
            (B, N, parts) float32.

        Raises:
            ValueError: a category that the model has not, or fewer points than patches or than
                points of a patch.
        """

    def no_weight_decay(self) -> set[str]:
        """There are no tokens."""
        return set()


class CategoryEmbed(nn.Module):
    """One-hot category -> 64, without bias; BatchNorm over the clouds, LeakyReLU 0.2."""

    def __init__(self, num_categories: int) -> None:
        super().__init__()
        self.lift = nn.Linear(num_categories, LABEL, bias=False)
        self.norm = nn.BatchNorm1d(LABEL)

    def forward(self, category: Tensor) -> Tensor:
        """(B,) int64 -> (B, 64).

        Raises:
            ValueError: a category out of range.
        """
        count = self.lift.in_features
        # an index out of range would kill the process's CUDA context; looking costs one wait
        if bool(((category < 0) | (category >= count)).any()):
            raise ValueError(
                f"categories {sorted(set(category.tolist()))}: this model knows 0 to {count - 1}"
            )
        one_hot = functional.one_hot(category, count).to(self.lift.weight.dtype)
        return functional.leaky_relu(self.norm(self.lift(one_hot)), 0.2)


class PartHead(nn.Module):
    """Features of a point beside those of its whole cloud -> widths -> part logits.

    BatchNorm and ReLU after every layer but the last, dropout after the first.

    Args:
        local: channels of a point.
        whole: channels of a cloud.
        widths: of the layers.
        num_parts: outputs.
        dropout: its rate.
        whole_first: which of the two the weight of the first layer begins with.
    """

    def __init__(
        self,
        local: int,
        whole: int,
        widths: Sequence[int],
        num_parts: int,
        dropout: float,
        whole_first: bool,
    ) -> None:
        super().__init__()
        self.whole_first = whole_first
        self.first = nn.Linear(local + whole, widths[0])
        layers: list[nn.Module] = [RowNorm(widths[0]), nn.ReLU(), nn.Dropout(dropout)]
        for before, after in pairwise(widths):
            layers += [nn.Linear(before, after), RowNorm(after), nn.ReLU()]
        self.rest = nn.Sequential(*layers, nn.Linear(widths[-1], num_parts))

    def forward(self, local: Tensor, whole: Tensor) -> Tensor:
        """(B, N, local) and (B, whole) -> (B, N, parts) float32."""
        leading = whole if self.whole_first else local
        weights = self.first.weight.tensor_split([leading.shape[-1]], dim=1)
        weight_whole, weight_local = weights if self.whole_first else weights[::-1]
        # what is the same at all points of a cloud is multiplied once, as in PatchEmbed
        once = functional.linear(whole, weight_whole, self.first.bias)
        mixed = functional.linear(local, weight_local) + once.unsqueeze(1)
        logits: Tensor = self.rest(mixed)
        return logits.float()


class PlainSegmenter(Segmenter):
    """Point-MAE's: tokens of three depths, all through the encoder's final LayerNorm.

    Source: Point-MAE (arXiv 2203.06604), section 4.2, and its code; no class token. 192 tensors
    and 27 063 730 parameters at full width, for 50 parts of 16 categories.

    Raises:
        ConfigError: an encoder of fewer than three blocks.
    """

    encoder: PointMAEEncoder

    def __init__(
        self,
        encoder: PointMAEEncoder,
        dim: int,
        groups: int,
        group_size: int,
        num_parts: int,
        num_categories: int,
        dropout: float,
    ) -> None:
        super().__init__()
        depth = len(encoder.stack.blocks)
        if depth < TAPS:
            raise ConfigError(
                f"depth={depth}: segmentation reads the encoder at {TAPS} depths; "
                f"use at least {TAPS} blocks"
            )
        self.groups, self.group_size = groups, group_size
        self.num_layers = depth
        self.taps = tuple(depth * part // TAPS for part in range(1, TAPS + 1))  # blocks before
        self.encoder = encoder
        self.category = CategoryEmbed(num_categories)
        features = TAPS * dim
        self.propagate = FeaturePropagation(features, HIDDEN, LOCAL)
        self.head = PartHead(
            LOCAL, 2 * features + LABEL, PLAIN_HEAD, num_parts, dropout, whole_first=False
        )

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        """See the base class."""
        label = self.category(category)
        groups = group_points(points, self.groups, self.group_size)
        tokens = self._tokens(self.encoder.embed(groups.patches), self.encoder.pos(groups.centers))
        local = self.propagate(points, groups.centers, tokens)
        whole = torch.cat([tokens.amax(1), tokens.mean(1), label], dim=1)
        logits: Tensor = self.head(local, whole)
        return logits

    def _tokens(self, x: Tensor, pos: Tensor) -> Tensor:
        """(B, G, 3C): what the three thirds of the blocks end in, normalised, shallow first."""
        found = []
        for number, block in enumerate(self.encoder.stack.blocks, 1):
            x = block(x + pos)
            if number in self.taps:
                found.append(self.encoder.norm(x))
        return torch.cat(found, dim=2)

    def early_layers(self) -> dict[str, int]:
        """See the base class."""
        return plain_layers(self.encoder, "encoder.")


class ScaleSegmenter(Segmenter):
    """Point-M2AE's: every scale carried to the points by its own propagation; tokens attend
    within the radius of their scale.

    Source: Point-M2AE (arXiv 2205.14401), section 3.4, and its code. 308 tensors and 25 474 354
    parameters at full width, for 50 parts of 16 categories.
    """

    encoder: PointM2AEEncoder

    def __init__(
        self,
        encoder: PointM2AEEncoder,
        groups: Sequence[int],
        group_sizes: Sequence[int],
        num_parts: int,
        num_categories: int,
        dropout: float,
    ) -> None:
        super().__init__()
        dims = encoder.trunk.dims
        self.groups, self.group_sizes = tuple(groups), tuple(group_sizes)
        self.num_layers = sum(encoder.trunk.depths)
        self.encoder = encoder
        self.category = CategoryEmbed(num_categories)
        self.propagate = nn.ModuleList(FeaturePropagation(dim, HIDDEN, LOCAL) for dim in dims)
        local = len(dims) * LOCAL
        self.head = PartHead(local, local + LABEL, SCALE_HEAD, num_parts, dropout, whole_first=True)

    def forward(self, points: Tensor, category: Tensor) -> Tensor:
        """See the base class."""
        label = self.category(category)
        groups = group_scales(points, self.groups, self.group_sizes)
        found = []
        for number, tokens in enumerate(self.encoder.trunk(groups, local=True)):
            centers, tokens = groups.scales[number].centers, self.encoder.norms[number](tokens)
            found.append(self.propagate[number](points, centers, tokens))
        local = torch.cat(found, dim=2)
        whole = torch.cat([local.amax(1) + local.mean(1), label], dim=1)
        logits: Tensor = self.head(local, whole)
        return logits

    def early_layers(self) -> dict[str, int]:
        """See the base class."""
        return scale_layers(self.encoder.trunk, "encoder.trunk.")
