"""SA3D: masked autoencoding in which an EMA teacher chooses the hard patches.

Source: GM3D (arXiv 2405.12419) and its code.
"""

from __future__ import annotations

from typing import NamedTuple, Self

import torch
from torch import Tensor

from sa3d.layers.patches import Groups
from sa3d.losses import absolute_loss, ranking_loss
from sa3d.masking.base import Mask, MaskStrategy, StepContext, take
from sa3d.methods.base import Method, PointBatch
from sa3d.methods.sa3d.ema import EmaTeacher, Scorer
from sa3d.methods.sa3d.gc_predictor import GCPredictor
from sa3d.methods.sa3d.settings import SA3DConfig
from sa3d.methods.settings import MethodConfig
from sa3d.metrics import names as keys
from sa3d.models.backbone import Backbone, Decoded, Encoded, PointLoss


class Targets(NamedTuple):
    """What a frozen knowledge teacher gives of a batch; no gradient."""

    features: Tensor  # (B, M, C) of the masked patches
    points: Tensor | None  # (B, M, P, 3) of the masked patches, where the teacher decodes


class Reconstruction(NamedTuple):
    """How well the masked patches were rebuilt."""

    point: PointLoss
    hardness: Tensor  # (B, M): what the GC predictor learns to rank
    valid: Tensor | None  # (B, M) bool, False: no hardness is known; None: all are valid
    feature_loss: Tensor | None = None  # scalar; only where features are distilled


class SA3D(Method):
    """Student, GC predictor and EMA teacher.

    Args:
        backbone: the student.
        strategy: mask strategy; the EMA teacher runs only in epochs in which it needs scores.
        config: losses, weights, GC predictor, EMA.
    """

    teachers: tuple[str, ...] = ("teacher.",)

    def __init__(self, backbone: Backbone, strategy: MaskStrategy, config: SA3DConfig) -> None:
        super().__init__(backbone, strategy)
        self.config = config
        self.gc = GCPredictor(
            backbone.dim,
            config.gc_depth,
            backbone.heads,
            backbone.drop_path,
            own_token=not config.shared_mask_token,
        )
        self.teacher = EmaTeacher(self._scorer(), config.ema)

    @classmethod
    def from_config(
        cls,
        backbone: Backbone,
        strategy: MaskStrategy,
        settings: MethodConfig,
        knowledge_teacher: Backbone | None,
    ) -> Self:
        """See the base class."""
        assert isinstance(settings, SA3DConfig)
        return cls(backbone, strategy, settings)

    def _scorer(self) -> Scorer:
        return Scorer(self.backbone.encoder, self.backbone.decoder.pos, self.gc)

    def training_step(self, batch: PointBatch, progress: StepContext) -> dict[str, Tensor]:
        """See the base class."""
        groups = self.backbone.group(batch.points)
        needed = self.strategy.needs_scores(progress.epoch, progress.epochs)
        mask = self.draw_mask(groups, self.score(groups) if needed else None, progress)
        # before the student: what teachers need in between is free again for what it has to keep
        targets = self.targets(groups, mask)

        encoded = self.backbone.encode(groups, mask)
        decoded = self.backbone.decode(encoded, groups, mask)
        scores = self._masked_scores(encoded, groups, mask)
        found = self.reconstruction(decoded, groups, mask, targets)
        rank = ranking_loss if self.config.gc_loss == "relative" else absolute_loss
        gc_loss = rank(scores, found.hardness, found.valid)

        full = progress.epoch >= self.config.switch_epoch
        loss = (self.config.point_weight if full else 1.0) * found.point.loss
        loss = loss + self.config.gc_weight * gc_loss
        logged = {keys.POINT: found.point.loss.detach(), keys.GC: gc_loss.detach()}
        if found.feature_loss is not None:
            loss = loss + self.feature_weight(full) * found.feature_loss
            logged[keys.FEATURE] = found.feature_loss.detach()
        return {"loss": loss, **logged, **self._curriculum(progress, loss.device)}

    def targets(self, groups: Groups, mask: Mask) -> Targets | None:
        """What a knowledge teacher says; None: the method has none."""
        return None

    def reconstruction(
        self, decoded: Decoded, groups: Groups, mask: Mask, targets: Targets | None
    ) -> Reconstruction:
        """How well masked patches were rebuilt, and how hard each of them was."""
        point = self.backbone.point_loss(decoded, groups, mask)
        return Reconstruction(point, point.per_patch, point.valid)

    def feature_weight(self, full: bool) -> float:
        """Weight of the feature loss; ``full`` from `switch_epoch` on."""
        raise NotImplementedError("SA3D distils no features")

    def _masked_scores(self, encoded: Encoded, groups: Groups, mask: Mask) -> Tensor:
        """(B, M) of the student's own predictor, masked patches ascending."""
        positions = take(self.backbone.decoder_positions(groups), mask.order)
        shared = self.backbone.decoder.mask_token if self.config.shared_mask_token else None
        scores: Tensor = self.gc(encoded.tokens, positions, shared)
        return scores[:, mask.visible.shape[1] :]

    def _curriculum(self, progress: StepContext, device: torch.device) -> dict[str, Tensor]:
        """Curriculum metrics. ``full`` fills on the device: no copy to wait for."""
        hard = self.strategy.hard_budget(progress.epoch, progress.epochs)
        values = {
            keys.HARD: float(hard),
            keys.HARD_SHARE: hard / self.strategy.masked,
            keys.EMA_DECAY: self.teacher.decay(progress.epoch),
        }
        return {key: torch.full((), value, device=device) for key, value in values.items()}

    def after_step(self, progress: StepContext) -> None:
        """EMA update."""
        self.teacher.update(self._scorer(), progress.epoch)

    def score(self, groups: Groups) -> Tensor:
        """The EMA teacher's scores."""
        scores: Tensor = self.teacher(groups)
        return scores

    def rebuild(self, groups: Groups, mask: Mask) -> Tensor:
        """See the base class."""
        decoded = self.backbone.decode(self.backbone.encode(groups, mask), groups, mask)
        return self.backbone.reconstruct(decoded, groups, mask)
