"""Plain masked autoencoder: rebuild the points of masked patches (Point-MAE's objective)."""

from __future__ import annotations

from torch import Tensor

from sa3d.layers.patches import Groups
from sa3d.masking.base import Mask, StepContext
from sa3d.methods.base import Method, PointBatch
from sa3d.metrics import names as keys


class MAE(Method):
    """The baseline, and the knowledge teacher of SA3DF once trained."""

    def training_step(self, batch: PointBatch, progress: StepContext) -> dict[str, Tensor]:
        """See the base class."""
        groups = self.backbone.group(batch.points)
        mask = self.draw_mask(groups, None, progress)
        decoded = self.backbone.decode(self.backbone.encode(groups, mask), groups, mask)
        loss = self.backbone.point_loss(decoded, groups, mask).loss
        return {"loss": loss, keys.POINT: loss.detach()}

    def after_step(self, progress: StepContext) -> None:
        """Nothing follows a step."""

    def score(self, groups: Groups) -> None:
        """A plain masked autoencoder has no scores."""
        return None

    def rebuild(self, groups: Groups, mask: Mask) -> Tensor:
        """See the base class."""
        decoded = self.backbone.decode(self.backbone.encode(groups, mask), groups, mask)
        return self.backbone.reconstruct(decoded, groups, mask)
