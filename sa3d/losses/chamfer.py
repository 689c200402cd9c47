"""Chamfer distance of rebuilt patches: one value a patch, because hardness is ranked by patch."""

from __future__ import annotations

import point_ops
from torch import Tensor


def patch_chamfer(predicted: Tensor, target: Tensor) -> Tensor:
    """Squared Chamfer distance of each patch, float32.

    ``mean_p min_q |p - q|^2 + mean_q min_p |p - q|^2`` (Point-MAE, arXiv 2203.06604,
    equation 4; its mean over patches is that paper's loss).

    Args:
        predicted: (B, M, P, 3).
        target: (B, M, Q, 3); P and Q may differ.

    Returns:
        (B, M), differentiable in both.
    """
    distance: Tensor = point_ops.chamfer_l2(predicted.float(), target.float(), reduction="patch")
    return distance
