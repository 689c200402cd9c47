"""A linear classifier on the features of a frozen encoder."""

from __future__ import annotations

from torch import Tensor, nn

from sa3d.models.backbone import Backbone


class LinearClassifier(nn.Module):
    """Points to class logits by one linear layer; the backbone is as it came.

    Args:
        backbone: needs no decoder.
        num_classes: outputs.
    """

    def __init__(self, backbone: Backbone, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.dim, num_classes)

    def forward(self, points: Tensor) -> Tensor:
        """(B, N, 3) -> (B, classes) logits."""
        logits: Tensor = self.head(self.backbone.features(points))
        return logits
