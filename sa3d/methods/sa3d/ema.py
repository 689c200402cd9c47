"""EMA teacher: a slow copy of the student that scores every patch of the whole cloud."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor, nn

from sa3d.layers.converted import Converted
from sa3d.layers.patches import Groups
from sa3d.methods.sa3d.gc_predictor import GCPredictor
from sa3d.methods.sa3d.settings import EmaConfig
from sa3d.models.backbone import Encoder


class Scorer(nn.Module):
    """What scoring needs of a student: encoder, decoder positions, GC predictor.

    The decoder itself is no part of it: the teacher rebuilds nothing.
    """

    def __init__(self, encoder: Encoder, pos: nn.Module, gc: GCPredictor) -> None:
        super().__init__()
        self.encoder, self.pos, self.gc = encoder, pos, gc

    def forward(self, groups: Groups) -> Tensor:
        """(B, G) float32 complexity of every patch, all of them visible, natural order."""
        tokens = self.encoder(groups, None).tokens
        scores: Tensor = self.gc(tokens, self.pos(groups.centers))
        return scores


class EmaTeacher(nn.Module):
    """Exponential moving average of a :class:`Scorer`, always in ``eval()``, never trained.

    Parameters and floating buffers (BatchNorm statistics) are averaged, integer buffers
    copied.
    """

    def __init__(self, student: Scorer, config: EmaConfig) -> None:
        super().__init__()
        self.config = config
        self.average = copy.deepcopy(student)
        self.eval()
        self.requires_grad_(False)
        self._scorer: Converted[Scorer] = Converted(self.average)

    def train(self, mode: bool = True) -> Self:
        """Stays in ``eval()``: scores must not depend on the batch."""
        return super().train(False)

    def decay(self, epoch: int) -> float:
        """Linear from `start` to `end` over `ramp_epochs`, by 0-based epoch (GM3D code)."""
        start, end, ramp = self.config.start, self.config.end, self.config.ramp_epochs
        return start + (end - start) * epoch / ramp if epoch < ramp else end

    @torch.no_grad()
    def update(self, student: Scorer, epoch: int) -> None:
        """Move towards the student; call after every optimiser step."""
        averages, values = [], []
        for average, value in zip(
            self.average.state_dict().values(), student.state_dict().values(), strict=True
        ):
            if average.is_floating_point():
                averages.append(average)
                values.append(value)
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, 1.0 - self.decay(epoch))
        self._scorer.refresh()

    @torch.no_grad()
    def forward(self, groups: Groups) -> Tensor:
        """(B, G) float32 complexity of every patch."""
        scores: Tensor = self._scorer()(groups)
        return scores
