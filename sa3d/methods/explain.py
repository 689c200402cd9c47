"""What the method sees in a cloud, as tensors: scores, mask, and what it rebuilds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sa3d.masking.base import StepContext
from sa3d.methods.base import Method


@dataclass(frozen=True)
class Explanation:
    """One batch of clouds, explained."""

    scores: Tensor | None  # (B, G) predicted complexity of every patch; None: plain MAE
    mask: Tensor  # (B, G) bool, True = masked
    masked: Tensor  # (B, M) int64, the masked patches, ascending
    centers: Tensor  # (B, G, 3)
    index: Tensor  # (B, G, K) int64, points of each patch as indices into the cloud
    # (B, M, P, 3) predicted points of each masked patch, in the cloud's coordinates; NaN where
    # it has fewer than P
    rebuilt: Tensor


@torch.no_grad()
def explain(method: Method, points: Tensor, progress: StepContext) -> Explanation:
    """Score, mask and rebuild clouds (B, N, 3) in evaluation mode.

    The mask is the strategy's for ``progress.epoch``: give the last epoch to see the mask at
    the end of the curriculum. The method's mode is restored.
    """
    training = method.training
    method.eval()
    try:
        groups = method.backbone.group(points)
        scores = method.score(groups)
        mask = method.draw_mask(groups, scores, progress)
        rebuilt = method.rebuild(groups, mask)
    finally:
        method.train(training)
    return Explanation(
        scores,
        mask.flags,
        mask.masked,
        groups.centers,
        method.backbone.members(groups),
        rebuilt,
    )
