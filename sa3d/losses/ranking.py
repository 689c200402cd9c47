"""Supervision of the GC predictor: which masked patch is harder to rebuild than which.

Source: "Hard Patches Mining" (arXiv 2304.05919), section 3.2, on which GM3D (arXiv 2405.12419)
builds. All in float32: in half precision, scores tie and small gaps vanish.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def ranking_loss(scores: Tensor, hardness: Tensor, valid: Tensor | None = None) -> Tensor:
    """Relative loss: every ordered pair of a sample must be ranked as its hardness is.

    Mean of ``-log sigmoid(s_hard - s_easy)`` over all ordered pairs (i, j) with different
    hardness, counted over the whole batch. Constant scores give ln 2.

    The published code computes ``-log(sigmoid(gap) + 1e-6)`` instead of a stable form. A pair
    that is ranked the wrong way by a gap g differs by ``log(1 + 1e-6 (1 + e^g))``: less than 1e-5
    up to g of about 2; from g of about 14 on, the published loss and its gradient stop growing,
    while this one stays linear in g.

    Args:
        scores: (B, M) predicted complexity, carries the gradient.
        hardness: (B, M) target, never differentiated.
        valid: (B, M) bool or None; False leaves a patch out of every pair.

    Returns:
        Scalar; 0 where no pair is left.
    """
    scores, hardness = scores.float(), hardness.detach().float()
    gap = scores.unsqueeze(2) - scores.unsqueeze(1)
    order = torch.sign(hardness.unsqueeze(2) - hardness.unsqueeze(1))
    counted = order != 0
    if valid is not None:
        counted = counted & valid.unsqueeze(2) & valid.unsqueeze(1)
    pairs = -functional.logsigmoid(order * gap) * counted
    # clamp instead of a branch: asking the device for the count would stop the host
    return pairs.sum() / counted.sum().clamp_min(1)


def absolute_loss(scores: Tensor, hardness: Tensor, valid: Tensor | None = None) -> Tensor:
    """Absolute variant: mean squared error to the hardness, standardised within each sample.

    Unbiased variance with 1e-6 inside the root, as in the published code.

    Args:
        scores: (B, M) predicted complexity, carries the gradient.
        hardness: (B, M) target, never differentiated.
        valid: (B, M) bool or None; False leaves a patch out.

    Returns:
        Scalar; 0 where nothing is valid.
    """
    scores, hardness = scores.float(), hardness.detach().float()
    weight = torch.ones_like(scores) if valid is None else valid.float()
    count = weight.sum(1, keepdim=True)
    mean = (hardness * weight).sum(1, keepdim=True) / count.clamp_min(1)
    centred = (hardness - mean) * weight
    variance = centred.square().sum(1, keepdim=True) / (count - 1).clamp_min(1)
    error = (scores - centred / (variance + 1e-6).sqrt()).square() * weight
    return error.sum() / weight.sum().clamp_min(1)
