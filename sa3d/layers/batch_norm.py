"""BatchNorm over rows, with statistics and gradients that stay exact over many rows."""

from __future__ import annotations

import point_ops
import torch
from torch import Tensor, nn

# Dtypes of (rows, weight) that `point_ops.batch_norm` takes; autocast gives the second.
_EXACT = {
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.float64, torch.float64),
}


class BatchNorm(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` on (rows, C): same parameters, buffers, dtypes and evaluation.

    On the CPU torch sums each channel row after row in float32. Over a million rows its variance
    is off by some 1e-4, more the further the mean lies from zero, and gradients suffer likewise.
    Training on the CPU therefore uses :func:`point_ops.batch_norm`. Evaluation, other devices
    (CUDA merges partial moments, which is exact enough), half-precision weights and float16 rows
    are torch's own.

    Args:
        num_features: C.
    """

    momentum: float  # always set here, where torch also allows None

    def __init__(self, num_features: int) -> None:
        super().__init__(num_features)

    def forward(self, x: Tensor) -> Tensor:
        """(rows, C) -> (rows, C).

        Raises:
            ValueError: another shape; or, in training, fewer than two rows, which have no variance.
        """
        if x.dim() != 2 or x.shape[1] != self.num_features:
            raise ValueError(f"expected shape (rows, {self.num_features}), got {tuple(x.shape)}")
        exact = x.device.type == "cpu" and (x.dtype, self.weight.dtype) in _EXACT
        if not (self.training and exact):
            return super().forward(x)
        count = x.shape[0]
        if count < 2:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got {tuple(x.shape)}"
            )
        found = point_ops.batch_norm(x, self.weight, self.bias, self.eps)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(found.mean, self.momentum)
        self.running_var.lerp_(found.variance * (count / (count - 1)), self.momentum)
        return found.out
