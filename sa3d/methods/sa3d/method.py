"""SA3D and SA3DF: masked autoencoding in which a teacher chooses the hard patches.

Source: GM3D (arXiv 2405.12419) and its code. SA3D rebuilds points; SA3DF also distils the
features of a frozen, plain pre-trained backbone, the knowledge teacher.
"""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor, nn

from sa3d.config.experiment import PretrainConfig
from sa3d.losses import absolute_loss, feature_distance, patch_chamfer, ranking_loss
from sa3d.masking import Mask, MaskStrategy, StepContext, take
from sa3d.methods.base import Method, PointBatch
from sa3d.methods.sa3d.ema import EmaTeacher, Scorer
from sa3d.methods.sa3d.gc_predictor import GCPredictor
from sa3d.metrics import names as keys
from sa3d.models.backbone import Backbone, Decoded, Encoded, Groups, PointLoss


class SA3D(Method):
    """Student, GC predictor, EMA teacher, and for SA3DF a knowledge teacher.

    Args:
        backbone: the student.
        strategy: mask strategy; the EMA teacher runs only in epochs in which it needs scores.
        config: losses, weights, GC predictor, EMA.
        knowledge_teacher: a trained backbone for SA3DF, which it then belongs to and freezes.

    With a teacher-decoded point term the student's own point head has no part in any loss; it
    is frozen, so that every parameter left trainable gets a gradient in every step.
    """

    teachers = ("teacher.", "knowledge_teacher.")

    def __init__(
        self,
        backbone: Backbone,
        strategy: MaskStrategy,
        config: PretrainConfig,
        knowledge_teacher: Backbone | None = None,
    ) -> None:
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
        self.knowledge_teacher = knowledge_teacher
        self.feature_norm: nn.Module = nn.Identity()
        if knowledge_teacher is not None:
            knowledge_teacher.requires_grad_(False)
            self.feature_norm = backbone.feature_norm()
        if self._decoded_by_teacher:
            backbone.decoder.head.requires_grad_(False)

    @property
    def _decoded_by_teacher(self) -> bool:
        return self.config.point_term != "ground_truth_grad"

    def _scorer(self) -> Scorer:
        return Scorer(self.backbone.encoder, self.backbone.decoder.pos, self.gc)

    def train(self, mode: bool = True) -> Self:
        """The knowledge teacher stays in ``eval()``; the EMA teacher sees to itself."""
        super().train(mode)
        if self.knowledge_teacher is not None:
            self.knowledge_teacher.eval()
        return self

    def training_step(self, batch: PointBatch, progress: StepContext) -> dict[str, Tensor]:
        """See the base class."""
        groups = self.backbone.group(batch.points)
        needed = self.strategy.needs_scores(progress.epoch, progress.epochs)
        mask = self.draw_mask(groups, self.score(groups) if needed else None, progress)

        encoded = self.backbone.encode(groups, mask)
        decoded = self.backbone.decode(encoded, groups, mask)
        scores = self._masked_scores(encoded, groups, mask)

        logged = {}
        if self.knowledge_teacher is None:
            point = self.backbone.point_loss(decoded, groups, mask)
            hardness, feature_loss = point.per_patch, None
        else:
            with torch.no_grad():
                known = self.knowledge_teacher.encode(groups, None).tokens
            features = self._masked_features(decoded, mask)
            feature = feature_distance(features, take(known, mask.masked))
            point = self._point_term(decoded, known, groups, mask)
            # the sum is unscaled, as published: the feature term leads the ranking
            hardness = feature + (
                point.per_patch
                if point.valid is None
                else point.per_patch.masked_fill(~point.valid, 0.0)
            )
            feature_loss = feature.mean()
            logged[keys.FEATURE] = feature_loss.detach()

        # where a patch has no points to rebuild, its feature error alone ranks it
        valid = point.valid if feature_loss is None else None
        rank = ranking_loss if self.config.gc_loss == "relative" else absolute_loss
        gc_loss = rank(scores, hardness, valid)

        full = progress.epoch >= self.config.switch_epoch
        loss = (self.config.point_weight if full else 1.0) * point.loss
        loss = loss + self.config.gc_weight * gc_loss
        if feature_loss is not None:
            loss = loss + (self.config.feature_weight if full else 1.0) * feature_loss
        logged |= {keys.POINT: point.loss.detach(), keys.GC: gc_loss.detach()}
        return {"loss": loss, **logged, **self._curriculum(progress, loss.device)}

    def _masked_scores(self, encoded: Encoded, groups: Groups, mask: Mask) -> Tensor:
        """(B, M) of the student's own predictor, masked patches ascending."""
        positions = take(self.backbone.decoder_positions(groups), mask.order)
        shared = self.backbone.decoder.mask_token if self.config.shared_mask_token else None
        scores: Tensor = self.gc(encoded.tokens, positions, shared)
        return scores[:, mask.visible.shape[1] :]

    def _point_term(self, decoded: Decoded, known: Tensor, groups: Groups, mask: Mask) -> PointLoss:
        """SA3DF's point term, in one of three modes.

        ``teacher_decoded_nograd`` is what the published code computes: it enters the logged
        loss and the hardness, and trains nothing. ``teacher_decoded_grad`` lets its gradient
        reach the student; ``ground_truth_grad`` rebuilds the true points with the student's
        own head, as the method's figure draws it.
        """
        if not self._decoded_by_teacher:
            return self.backbone.point_loss(decoded, groups, mask)
        assert self.knowledge_teacher is not None
        with torch.no_grad():
            everywhere = self.knowledge_teacher.decode_features(known, groups.centers)
            target = take(everywhere, mask.masked)
        features = self._masked_features(decoded, mask)
        if self.config.point_term == "teacher_decoded_nograd":
            features = features.detach()
        per_patch = patch_chamfer(self._teacher_decoded(features, groups, mask), target)
        return PointLoss(per_patch.mean(), per_patch)

    def _masked_features(self, decoded: Decoded, mask: Mask) -> Tensor:
        """(B, M, C) decoder features of the masked patches, as the knowledge teacher's are."""
        features: Tensor = self.feature_norm(decoded.tokens[:, mask.visible.shape[1] :])
        return features

    def _teacher_decoded(self, features: Tensor, groups: Groups, mask: Mask) -> Tensor:
        """(B, M, P, 3) relative points that the knowledge teacher reads in student features."""
        assert self.knowledge_teacher is not None
        return self.knowledge_teacher.decode_features(features, take(groups.centers, mask.masked))

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
        """By the student's head, or by the knowledge teacher's decoder where that trains it."""
        decoded = self.backbone.decode(self.backbone.encode(groups, mask), groups, mask)
        if not self._decoded_by_teacher:
            return self.backbone.reconstruct(decoded, groups, mask)
        centers = take(groups.centers, mask.masked)
        features = self._masked_features(decoded, mask)
        return self._teacher_decoded(features, groups, mask) + centers.unsqueeze(2)
