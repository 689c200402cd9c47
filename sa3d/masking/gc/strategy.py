"""Masks of the geometrically hard patches, easy to hard over training: SA3D's own strategy."""

from __future__ import annotations

from typing import Self

import torch
from torch import Tensor

from sa3d.masking.base import MaskStrategy, StepContext, largest
from sa3d.masking.gc.settings import GeometricMaskConfig
from sa3d.masking.settings import MaskConfig


class GeometricMask(MaskStrategy):
    """A growing share of the mask goes to the patches predicted hardest, the rest is random.

    Source: GM3D (arXiv 2405.12419) and its code; the linear curriculum with an end ratio of
    0.5 is what its pre-training log shows.
    """

    def __init__(self, masked: int, end_ratio: float = 0.5, half_schedule: bool = False) -> None:
        super().__init__(masked)
        self.end_ratio = end_ratio
        self.half_schedule = half_schedule

    @classmethod
    def from_config(cls, config: MaskConfig, masked: int) -> Self:
        """See the base class."""
        assert isinstance(config, GeometricMaskConfig)
        return cls(masked, config.end_ratio, config.half_schedule)

    def hard_budget(self, epoch: int, epochs: int) -> int:
        """``floor(M * end_ratio * (epoch + 1) / epochs)``.

        With the half schedule the end ratio is reached after half of the epochs and kept.
        """
        span = epochs / 2 if self.half_schedule else epochs
        share = min((epoch + 1) / span, 1.0)
        # + 1e-9: an exact integer must not fall below itself by a rounding error
        return int(self.masked * self.end_ratio * share + 1e-9)

    def __call__(self, centers: Tensor, scores: Tensor | None, progress: StepContext) -> Tensor:
        """See the base class."""
        keys = torch.rand(centers.shape[:2], generator=progress.generator, device=centers.device)
        hard = self.hard_budget(progress.epoch, progress.epochs)
        if hard:
            assert scores is not None, "the hard part of the mask needs scores"
            # random keys are below 1: a 2 is always among the largest
            keys.scatter_(1, scores.topk(hard, dim=1, sorted=False).indices, 2.0)
        return largest(keys, self.masked)
