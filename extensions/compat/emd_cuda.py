"""Stands in for the compiled module `emd_cuda` on top of point_ops, on CPU and GPU.

As in the extension that the field's repositories carry, the cost sums *squared* distances.
"""

import point_ops
import torch
from point_ops_compat import claim
from torch import Tensor

claim("emd_cuda", __file__)


def approxmatch_forward(xyz1: Tensor, xyz2: Tensor) -> Tensor:
    """xyz1 (B, N, 3), xyz2 (B, M, 3) -> soft matching (B, M, N)."""
    return point_ops.soft_match(xyz1, xyz2)


def matchcost_forward(xyz1: Tensor, xyz2: Tensor, match: Tensor) -> Tensor:
    """Sum of matched amount times squared distance, (B,)."""
    with torch.no_grad():
        return point_ops.match_cost(xyz1, xyz2, match, squared=True)


def matchcost_backward(
    grad_cost: Tensor, xyz1: Tensor, xyz2: Tensor, match: Tensor
) -> list[Tensor]:
    """grad_cost (B,) -> gradients in xyz1 (B, N, 3) and xyz2 (B, M, 3)."""
    with torch.enable_grad():
        one, two = xyz1.detach().requires_grad_(), xyz2.detach().requires_grad_()
        cost = point_ops.match_cost(one, two, match, squared=True)
    return list(torch.autograd.grad(cost, (one, two), grad_cost))
