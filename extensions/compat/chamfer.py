"""Stands in for the compiled module `chamfer` on top of point_ops, on CPU and GPU."""

import point_ops
import torch
from point_ops_compat import claim
from torch import Tensor

claim("chamfer", __file__)


def forward(xyz1: Tensor, xyz2: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """xyz1 (B, N, 3), xyz2 (B, M, 3) -> squared distances and int32 indices, both ways."""
    with torch.no_grad():
        found = point_ops.chamfer(xyz1, xyz2)
    return found.sqdist_ab, found.sqdist_ba, found.idx_ab.int(), found.idx_ba.int()


def backward(
    xyz1: Tensor,
    xyz2: Tensor,
    idx1: Tensor,
    idx2: Tensor,
    grad_dist1: Tensor,
    grad_dist2: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients in xyz1 and xyz2 from those in the distances of :func:`forward`."""
    grads: tuple[Tensor, Tensor] = torch.ops.point_ops.chamfer_backward(
        grad_dist1, grad_dist2, xyz1.detach(), xyz2.detach(), idx1.long(), idx2.long()
    )
    return grads
