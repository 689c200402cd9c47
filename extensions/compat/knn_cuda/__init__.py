"""Stands in for `knn_cuda` (KNN_CUDA) on top of point_ops, on CPU and GPU."""

import point_ops
import torch
from point_ops_compat import claim
from torch import Tensor, nn

claim("knn_cuda", __file__)
__version__ = "0.2+point.ops"


def knn(ref: Tensor, query: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """ref (D, N), query (D, M) -> distances (not squared) and indices (k, M), from zero."""
    sqdist, idx = point_ops.knn(query.t().unsqueeze(0).float(), ref.t().unsqueeze(0).float(), k)
    return sqdist[0].sqrt().t().contiguous(), idx[0].t().contiguous()


class KNN(nn.Module):
    """k nearest neighbours of a batch; no gradient."""

    def __init__(self, k: int, transpose_mode: bool = False) -> None:
        super().__init__()
        self.k = k
        self._t = transpose_mode

    @torch.no_grad()
    def forward(self, ref: Tensor, query: Tensor) -> tuple[Tensor, Tensor]:
        """Neighbours of `query` in `ref`.

        Args:
            ref: (B, N, D) in transpose mode, else (B, D, N).
            query: (B, M, D) in transpose mode, else (B, D, M).

        Returns:
            Distances (not squared) and int64 indices, (B, M, k) in transpose mode, else
            (B, k, M).
        """
        if not self._t:
            ref, query = ref.transpose(1, 2), query.transpose(1, 2)
        sqdist, idx = point_ops.knn(query.float(), ref.float(), self.k)
        if self._t:
            return sqdist.sqrt(), idx
        return sqdist.sqrt().transpose(1, 2).contiguous(), idx.transpose(1, 2).contiguous()
