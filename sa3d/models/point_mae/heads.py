"""Point-MAE's models for downstream tasks (arXiv 2203.06604, section 4.2, and its code)."""

from __future__ import annotations

import torch
from torch import Tensor

from sa3d.errors import ConfigError
from sa3d.layers.heads import (
    HIDDEN,
    LABEL,
    LOCAL,
    CategoryEmbed,
    ClassificationHead,
    FeaturePropagation,
    PartHead,
    in_proportion,
)
from sa3d.layers.patches import group_points
from sa3d.layers.transformer import token
from sa3d.models.downstream import Classifier, Segmenter
from sa3d.models.point_mae.backbone import PointMAEEncoder
from sa3d.models.point_mae.settings import PointMAEConfig

PART_WIDTHS = (512, 256)
TAPS = 3  # depths at which segmentation reads the encoder


def encoder_layer_ids(encoder: PointMAEEncoder, prefix: str) -> dict[str, int]:
    """Layer of every encoder parameter for layer-wise learning-rate decay, by ``prefix`` + name.

    Patch embedding and positions are layer 0, block j (0-based) is layer j + 1.

    The published code leaves patch embedding and positions at scale 1, faster than the
    blocks above them; here they share the class token's scale.
    """
    ids = {}
    for name, _ in encoder.named_parameters():
        part = name.split(".")
        if part[0] in ("embed", "pos"):
            ids[prefix + name] = 0
        elif part[0] == "stack":
            ids[prefix + name] = int(part[2]) + 1
    return ids


class PointMAEClassifier(Classifier):
    """Point-MAE's classifier: a class token, and the maximum over patches beside it.

    Source: Point-MAE (arXiv 2203.06604), section 4.2, and its code. 174 tensors at full
    width; 22 099 752 parameters for 40 classes.
    """

    encoder: PointMAEEncoder

    def __init__(
        self,
        config: PointMAEConfig,
        num_classes: int,
        dropout: float,
        pooling: str = "cls_max",
    ) -> None:
        super().__init__()
        dim = config.dim
        self.groups, self.group_size = config.groups, config.group_size
        self.cls_token, self.cls_pos = token(dim), token(dim)
        self.encoder = PointMAEEncoder(config)
        self.head = ClassificationHead(2 * dim, num_classes, dropout)
        self.num_layers = config.depth

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
        return {"cls_token": 0, "cls_pos": 0, **encoder_layer_ids(self.encoder, "encoder.")}


class PointMAESegmenter(Segmenter):
    """Point-MAE's: tokens of three depths, all through the encoder's final LayerNorm.

    Source: Point-MAE (arXiv 2203.06604), section 4.2, and its code; no class token. 192 tensors
    and 27 063 730 parameters at full width, for 50 parts of 16 categories; a narrower encoder gets
    a narrower head.

    Raises:
        ConfigError: an encoder of fewer than three blocks.
    """

    encoder: PointMAEEncoder

    def __init__(
        self,
        config: PointMAEConfig,
        num_parts: int,
        num_categories: int,
        dropout: float,
    ) -> None:
        super().__init__()
        depth = config.depth
        if depth < TAPS:
            raise ConfigError(
                f"depth={depth}: segmentation reads the encoder at {TAPS} depths; "
                f"use at least {TAPS} blocks"
            )
        self.groups, self.group_size = config.groups, config.group_size
        self.num_layers = depth
        self.taps = tuple(depth * part // TAPS for part in range(1, TAPS + 1))  # blocks before
        self.encoder = PointMAEEncoder(config)
        self.category = CategoryEmbed(num_categories)
        features = TAPS * config.dim
        hidden, local, *widths = (
            in_proportion(width, config.dim) for width in (HIDDEN, LOCAL, *PART_WIDTHS)
        )
        self.propagate = FeaturePropagation(features, hidden, local)
        self.head = PartHead(
            local, 2 * features + LABEL, widths, num_parts, dropout, whole_first=False
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
        return encoder_layer_ids(self.encoder, "encoder.")
