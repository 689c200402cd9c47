"""SA3DF: SA3D that also distils the features of a frozen knowledge teacher.

Source: GM3D (arXiv 2405.12419) and its code. The knowledge teacher is a plain pre-trained
backbone of the same shape.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from torch import Tensor, nn

from sa3d.layers.converted import convert
from sa3d.layers.patches import Groups
from sa3d.losses import feature_distance, patch_chamfer
from sa3d.masking.base import Mask, MaskStrategy, take
from sa3d.methods.sa3d.method import SA3D, Reconstruction, Targets
from sa3d.methods.sa3df.settings import SA3DFConfig
from sa3d.methods.settings import MethodConfig
from sa3d.models.backbone import Backbone, Decoded, PointLoss


class SA3DF(SA3D):
    """SA3D with a knowledge teacher.

    Args:
        backbone, strategy, config: see :class:`~sa3d.methods.sa3d.method.SA3D`.
        knowledge_teacher: a trained backbone, which belongs to the method from then on and is
            frozen.

    With a teacher-decoded point term the student's own point head has no part in any loss; it
    is frozen, so that every parameter left trainable gets a gradient in every step.
    """

    teachers = ("teacher.", "knowledge_teacher.")
    config: SA3DFConfig

    def __init__(
        self,
        backbone: Backbone,
        strategy: MaskStrategy,
        config: SA3DFConfig,
        knowledge_teacher: Backbone,
    ) -> None:
        super().__init__(backbone, strategy, config)
        self.knowledge_teacher = knowledge_teacher
        knowledge_teacher.requires_grad_(False)
        if config.precision == "bf16":
            convert(knowledge_teacher, torch.bfloat16)
        self.feature_norm: nn.Module = backbone.feature_norm()
        if self.teacher_decodes:
            backbone.decoder.head.requires_grad_(False)

    @classmethod
    def from_config(
        cls,
        backbone: Backbone,
        strategy: MaskStrategy,
        settings: MethodConfig,
        knowledge_teacher: Backbone | None,
    ) -> Self:
        """See the base class."""
        assert isinstance(settings, SA3DFConfig)
        assert knowledge_teacher is not None
        return cls(backbone, strategy, settings, knowledge_teacher)

    @property
    def teacher_decodes(self) -> bool:
        """See the base class."""
        return self.config.point_term != "ground_truth_grad"

    def train(self, mode: bool = True) -> Self:
        """The knowledge teacher stays in ``eval()``; the EMA teacher sees to itself."""
        super().train(mode)
        self.knowledge_teacher.eval()
        return self

    @torch.no_grad()
    def targets(self, groups: Groups, mask: Mask) -> Targets:
        """See the base class."""
        with self._as_taught(groups):
            known = take(self.knowledge_teacher.encode(groups, None).tokens, mask.order)
            masked, points = mask.masked.shape[1], None
            if self.teacher_decodes:
                centers = take(groups.centers, mask.order)
                points = self.knowledge_teacher.decode_features(known, centers, masked)
        return Targets(known[:, mask.visible.shape[1] :], points)

    def reconstruction(
        self, decoded: Decoded, groups: Groups, mask: Mask, targets: Targets | None
    ) -> Reconstruction:
        """See the base class; the hardness is the sum of feature error and point error."""
        assert targets is not None
        feature = feature_distance(self._features(decoded), targets.features)
        point = self._point_term(decoded, targets.points, groups, mask)
        # the sum is unscaled, as published: the feature term leads the ranking
        hardness = feature + (
            point.per_patch
            if point.valid is None
            else point.per_patch.masked_fill(~point.valid, 0.0)
        )
        # where a patch has no points to rebuild, its feature error alone ranks it
        return Reconstruction(point, hardness, None, feature.mean())

    def feature_weight(self, full: bool) -> float:
        """See the base class."""
        return self.config.feature_weight if full else 1.0

    def _point_term(
        self, decoded: Decoded, target: Tensor | None, groups: Groups, mask: Mask
    ) -> PointLoss:
        """SA3DF's point term, in one of three modes.

        ``teacher_decoded_nograd`` is what the published code computes: it enters the logged
        loss and the hardness, and trains nothing. ``teacher_decoded_grad`` lets its gradient
        reach the student; ``ground_truth_grad`` rebuilds the true points with the student's
        own head, as the method's figure draws it.
        """
        if target is None:
            return self.backbone.point_loss(decoded, groups, mask)
        features = self._features(decoded)
        if self.config.point_term == "teacher_decoded_nograd":
            features = features.detach()
        per_patch = patch_chamfer(self._teacher_decoded(features, groups, mask), target)
        return PointLoss(per_patch.mean(), per_patch)

    def _features(self, decoded: Decoded) -> Tensor:
        """(B, M, C) decoder features of the masked patches, as the knowledge teacher's are."""
        features: Tensor = self.feature_norm(decoded.tokens)
        return features

    def _teacher_decoded(self, features: Tensor, groups: Groups, mask: Mask) -> Tensor:
        """(B, M, P, 3) relative points that the knowledge teacher reads in student features."""
        with self._as_taught(groups):
            centers = take(groups.centers, mask.masked)
            return self.knowledge_teacher.decode_features(features, centers)

    def _as_taught(self, groups: Groups) -> AbstractContextManager[object]:
        """The precision of the knowledge teacher's weights; pictures are made in fp32 otherwise."""
        if self.config.precision == "fp32":
            return nullcontext()
        return torch.autocast(groups.centers.device.type, torch.bfloat16)

    def rebuild(self, groups: Groups, mask: Mask) -> Tensor:
        """By the student's head, or by the knowledge teacher's decoder where that trains it."""
        if not self.teacher_decodes:
            return super().rebuild(groups, mask)
        decoded = self.backbone.decode(self.backbone.encode(groups, mask), groups, mask)
        centers = take(groups.centers, mask.masked)
        features = self._features(decoded)
        return self._teacher_decoded(features, groups, mask) + centers.unsqueeze(2)
