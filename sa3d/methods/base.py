"""What a pre-training method is to the engine, to the tasks and to the pictures."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol, Self

from torch import Tensor, nn

from sa3d.layers.patches import Groups
from sa3d.masking.base import Mask, MaskStrategy, StepContext
from sa3d.methods.settings import MethodConfig
from sa3d.models.backbone import Backbone


class PointBatch(Protocol):
    """A batch, as far as a method reads it."""

    @property
    def points(self) -> Tensor:
        """(B, N, 3) float32."""


class Method(nn.Module, ABC):
    """A student backbone, a mask strategy, and a loss. The engine calls only this."""

    #: prefixes of frozen or averaged copies that are no part of the student
    teachers: tuple[str, ...] = ()

    def __init__(self, backbone: Backbone, strategy: MaskStrategy) -> None:
        super().__init__()
        self.backbone = backbone
        self.strategy = strategy

    @classmethod
    def from_config(
        cls,
        backbone: Backbone,
        strategy: MaskStrategy,
        settings: MethodConfig,
        knowledge_teacher: Backbone | None,
    ) -> Self:
        """The method as its settings describe it; override to read more than the mask."""
        return cls(backbone, strategy)

    @property
    def capturable(self) -> bool:
        """See :mod:`sa3d.engine.graphed`: a :class:`StepContext` has nothing that changes within
        an epoch but its generator, so the backbone decides."""
        return self.backbone.capturable

    @property
    def teacher_decodes(self) -> bool:
        """Whether rebuilt points are decoded by a knowledge teacher instead of the student."""
        return False

    @abstractmethod
    def training_step(self, batch: PointBatch, progress: StepContext) -> dict[str, Tensor]:
        """``"loss"``: scalar with a gradient; the rest detached scalars to log, by metric name."""

    @abstractmethod
    def after_step(self, progress: StepContext) -> None:
        """Called when the optimiser has really stepped."""

    @abstractmethod
    def score(self, groups: Groups) -> Tensor | None:
        """(B, G) complexity of every patch with the whole cloud visible, or None: no scores."""

    @abstractmethod
    def rebuild(self, groups: Groups, mask: Mask) -> Tensor:
        """(B, M, P, 3) points of the masked patches, in the cloud's coordinates."""

    def draw_mask(self, groups: Groups, scores: Tensor | None, progress: StepContext) -> Mask:
        """A mask by the method's strategy."""
        flags = self.strategy(groups.centers, scores, progress)
        return Mask.of(flags, self.strategy.masked)

    def no_weight_decay(self) -> set[str]:
        """Mask tokens: parameters that weight decay spares although they are not 1-D."""
        return {
            name
            for name, parameter in self.named_parameters()
            if parameter.requires_grad and name.rpartition(".")[2] == "mask_token"
        }

    def student_state(self) -> dict[str, Tensor]:
        """The state to export: everything but teachers."""
        return {
            name: value
            for name, value in self.state_dict().items()
            if not name.startswith(self.teachers)
        }
