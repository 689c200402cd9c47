"""Classifiers on a pre-trained encoder, fine-tuned as a whole."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sa3d.models.backbone import Encoder
from sa3d.models.patches import group_points
from sa3d.models.state import LoadReport, load_prefixed
from sa3d.models.transformer import token

if TYPE_CHECKING:
    from sa3d.models.point_mae import PointMAEEncoder


class Classifier(nn.Module, ABC):
    """Points to class logits."""

    encoder: Encoder
    num_layers: int  # depth of layer-wise learning-rate decay: scale decay**(num_layers - id)

    @abstractmethod
    def forward(self, points: Tensor) -> Tensor:
        """(B, N, 3) -> (B, classes) logits."""

    @abstractmethod
    def no_weight_decay(self) -> set[str]:
        """Tokens: parameters that weight decay spares although they are not 1-D."""

    @abstractmethod
    def layer_ids(self) -> dict[str, int]:
        """Layer of every parameter, 0 (input) to :attr:`num_layers` (scale 1)."""

    def load_encoder(self, state: Mapping[str, Tensor]) -> LoadReport:
        """Take the encoder of an exported pre-training state (``backbone.encoder.*``).

        Every tensor of the encoder must be there and nothing else under that name; the rest
        of the classifier starts fresh, the rest of the state is not needed.

        Raises:
            CheckpointError: the encoder is not the one that this state was trained with.
        """
        prefix = "backbone.encoder."
        loaded = tuple(f"encoder.{name}" for name in load_prefixed(self.encoder, state, prefix))
        fresh = tuple(name for name in self.state_dict() if not name.startswith("encoder."))
        return LoadReport(loaded, fresh, tuple(k for k in state if not k.startswith(prefix)))


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

    def layer_ids(self) -> dict[str, int]:
        """Input side 0, block j (0-based) j + 1, LayerNorm and head with the last block.

        The published code leaves patch embedding and positions at scale 1, faster than the
        blocks above them; here they share the class token's scale.
        """
        ids = {}
        for name, _ in self.named_parameters():
            if name.startswith(("cls_token", "cls_pos", "encoder.embed.", "encoder.pos.")):
                ids[name] = 0
            elif name.startswith("encoder.stack.blocks."):
                ids[name] = int(name.split(".")[3]) + 1
            else:
                ids[name] = self.num_layers
        return ids
