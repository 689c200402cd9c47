"""One contiguous region masked: harder for interpolation than scattered patches."""

from __future__ import annotations

import torch
from torch import Tensor

from sa3d.masking.base import MaskStrategy, StepContext, largest, take


class BlockMask(MaskStrategy):
    """The M patches nearest to a random centre, itself included (Point-MAE, section 4.3)."""

    def __call__(self, centers: Tensor, scores: Tensor | None, progress: StepContext) -> Tensor:
        """See the base class; ``scores`` are not used."""
        batch, groups, _ = centers.shape
        pick = torch.randint(
            groups, (batch, 1), generator=progress.generator, device=centers.device
        )
        distance = (centers - take(centers, pick)).square().sum(-1)
        return largest(-distance, self.masked)
