"""Uniformly random masks, the baseline."""

from __future__ import annotations

import torch
from torch import Tensor

from sa3d.masking.base import MaskStrategy, StepContext, largest


class RandomMask(MaskStrategy):
    """Uniform among all masks with M patches (Point-MAE, arXiv 2203.06604, section 3.1)."""

    def __call__(self, centers: Tensor, scores: Tensor | None, progress: StepContext) -> Tensor:
        """See the base class; ``scores`` are not used."""
        keys = torch.rand(centers.shape[:2], generator=progress.generator, device=centers.device)
        return largest(keys, self.masked)
