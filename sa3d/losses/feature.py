"""Feature distillation: squared distance between directions of student and teacher features."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def feature_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Squared distance of L2-normalised features, float32: ``2 - 2 cos``, in [0, 4].

    Source: SA3DF's feature term (GM3D code, arXiv 2405.12419); no projection in between.

    Args:
        student: (B, M, C), carries the gradient.
        teacher: (B, M, C), target.

    Returns:
        (B, M).
    """
    ours = functional.normalize(student.float(), dim=-1)
    theirs = functional.normalize(teacher.float(), dim=-1)
    return (ours - theirs).square().sum(-1)
