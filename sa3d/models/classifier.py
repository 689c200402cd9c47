"""Classifiers on a pre-trained encoder, fine-tuned as a whole."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sa3d.models.downstream import Downstream, plain_layers, scale_layers
from sa3d.models.patches import group_points
from sa3d.models.scales import group_scales
from sa3d.models.transformer import token

if TYPE_CHECKING:
    from sa3d.models.point_m2ae import ScaleTrunk
    from sa3d.models.point_mae import PointMAEEncoder


class Classifier(Downstream):
    """Points to class logits."""

    @abstractmethod
    def forward(self, points: Tensor) -> Tensor:
        """(B, N, 3) -> (B, classes) logits."""


class ClassificationHead(nn.Sequential):
    """Feature -> 256 -> 256 -> classes, with BatchNorm, ReLU and dropout (Point-MAE code)."""

    def __init__(self, features: int, num_classes: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(features, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(256, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(256, num_classes),
        )


class PlainClassifier(Classifier):
    """Point-MAE's classifier: a class token, and the maximum over patches beside it.

    Source: Point-MAE (arXiv 2203.06604), section 4.2, and its code. 174 tensors at full
    width; 22 099 752 parameters for 40 classes.
    """

    encoder: PointMAEEncoder

    def __init__(
        self,
        encoder: PointMAEEncoder,
        dim: int,
        groups: int,
        group_size: int,
        num_classes: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.groups, self.group_size = groups, group_size
        self.cls_token, self.cls_pos = token(dim), token(dim)
        self.encoder = encoder
        self.head = ClassificationHead(2 * dim, num_classes, dropout)
        self.num_layers = len(encoder.stack.blocks)

    def forward(self, points: Tensor) -> Tensor:
        """See the base class."""
        groups = group_points(points, self.groups, self.group_size)
        tokens = self.encoder.embed(groups.patches)
        pos = self.encoder.pos(groups.centers)
        batch = points.shape[0]
        x = torch.cat([self.cls_token.expand(batch, -1, -1).to(tokens.dtype), tokens], dim=1)
        pos = torch.cat([self.cls_pos.expand(batch, -1, -1).to(pos.dtype), pos], dim=1)
        x = self.encoder.norm(self.encoder.stack(x, pos))
        logits: Tensor = self.head(torch.cat([x[:, 0], x[:, 1:].amax(1)], dim=-1))
        return logits.float()

    def no_weight_decay(self) -> set[str]:
        """See the base class."""
        return {"cls_token", "cls_pos"}

    def early_layers(self) -> dict[str, int]:
        """The class token is input."""
        return {"cls_token": 0, "cls_pos": 0, **plain_layers(self.encoder, "encoder.")}


class ScaleClassifier(Classifier):
    """Point-M2AE's classifier: tokens attend within a radius, mean and maximum of the coarsest.

    Source: Point-M2AE (arXiv 2205.14401), section 3.4, and its code: `sum` is what it has for
    ModelNet40 (12 830 056 parameters for 40 classes), `concat` for ScanObjectNN (12 921 935 for
    15; there the code leaves token 0 out of the maximum, here it counts). 249 tensors.
    """

    encoder: ScaleTrunk
    encoder_weights = "backbone.encoder.trunk."  # the norms of pre-training are left behind

    def __init__(
        self,
        encoder: ScaleTrunk,
        groups: Sequence[int],
        group_sizes: Sequence[int],
        num_classes: int,
        dropout: float,
        pooling: str,
    ) -> None:
        super().__init__()
        self.groups, self.group_sizes = tuple(groups), tuple(group_sizes)
        self.concat = pooling == "concat"
        self.encoder = encoder
        dim = encoder.dims[-1]
        self.norm = nn.LayerNorm(dim)
        self.head = ClassificationHead((2 if self.concat else 1) * dim, num_classes, dropout)
        self.num_layers = sum(encoder.depths)

    def forward(self, points: Tensor) -> Tensor:
        """See the base class."""
        groups = group_scales(points, self.groups, self.group_sizes)
        tokens = self.norm(self.encoder(groups, local=True)[-1])
        mean, largest = tokens.mean(1), tokens.amax(1)
        feature = torch.cat([mean, largest], dim=-1) if self.concat else mean + largest
        logits: Tensor = self.head(feature)
        return logits.float()

    def no_weight_decay(self) -> set[str]:
        """There are no tokens."""
        return set()

    def early_layers(self) -> dict[str, int]:
        """See the base class."""
        return scale_layers(self.encoder, "encoder.")
