"""Features carried from coarse centres to finer ones (PointNet++, arXiv 1706.02413)."""

from __future__ import annotations

import point_ops
import torch
from torch import Tensor, nn
from torch.nn import functional

from sa3d.layers.batch_norm import BatchNorm


class RowNorm(BatchNorm):
    """BatchNorm over all rows: (B, n, C) -> (B, n, C)."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise every channel over B n rows."""
        return super().forward(x.flatten(0, 1)).view_as(x)

    def rectified(self, x: Tensor, shared: Tensor | None = None) -> Tensor:
        """ReLU of the normalised rows of ``x``, to which ``shared`` (B, C) is added before: in one
        pass over them where :meth:`BatchNorm.relu` has one."""
        return self.relu(x.flatten(0, 1), group=x.shape[1], shared=shared).view_as(x)


class Propagation(nn.Module):
    """Point-M2AE's token propagation: coarse tokens, interpolated from the three nearest with
    weights 1 / d^2, beside the skip connection.

    Concat -> C, then one residual unit C -> C -> C; BatchNorm after every layer, GELU.
    """

    def __init__(self, skip: int, coarse: int, dim: int) -> None:
        super().__init__()
        self.fuse = nn.Linear(skip + coarse, dim)
        self.fuse_norm = RowNorm(dim)
        self.unit1 = nn.Linear(dim, dim)
        self.unit1_norm = RowNorm(dim)
        self.unit2 = nn.Linear(dim, dim)
        self.unit2_norm = RowNorm(dim)

    def forward(self, finer: Tensor, skip: Tensor, coarse: Tensor, tokens: Tensor) -> Tensor:
        """(B, n, dim) at the centres ``finer`` (B, n, 3).

        Args:
            finer: (B, n, 3).
            skip: (B, n, skip).
            coarse: (B, m, 3).
            tokens: (B, m, coarse).
        """
        carried = point_ops.interpolate(finer, coarse, tokens, k=min(3, coarse.shape[1]))
        both = torch.cat([skip, carried.to(skip.dtype)], dim=2)
        x = functional.gelu(self.fuse_norm(self.fuse(both)))
        hidden = functional.gelu(self.unit1_norm(self.unit1(x)))
        return functional.gelu(self.unit2_norm(self.unit2(hidden)) + x)
