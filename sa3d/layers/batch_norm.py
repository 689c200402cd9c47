"""BatchNorm over rows, with statistics and gradients that stay exact over many rows."""

from __future__ import annotations

import point_ops
import torch
from torch import Tensor, nn
from torch.nn import functional

# Dtypes of (rows, weight) that `point_ops.batch_norm` takes; autocast gives the second.
_EXACT = {
    (torch.float32, torch.float32),
    (torch.bfloat16, torch.float32),
    (torch.float64, torch.float64),
}

# Devices on which normalisation, ReLU and maxima of patches have kernels of `point_ops`. Without
# Triton a GPU has the form in torch, which is for comparison and slower than torch's own parts.
FUSED = {"cpu"} | ({"cuda"} if point_ops.backends("cuda")["norm_relu"] == "triton" else set())


class BatchNorm(nn.BatchNorm1d):
    """``nn.BatchNorm1d`` on (rows, C): same parameters, buffers, dtypes and evaluation.

    On the CPU torch sums each channel row after row in float32. Over a million rows its variance
    is off by some 1e-4, more the further the mean lies from zero, and gradients suffer likewise.
    Training on the CPU therefore uses :mod:`point_ops`. Evaluation, other devices
    (CUDA merges partial moments, which is exact enough), half-precision weights and float16 rows
    are torch's own. :meth:`relu` uses :mod:`point_ops` on a GPU too, where it has kernels that take
    fewer passes over memory.

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
        if not (self._exact(x) and x.is_cpu):
            return super().forward(x)
        return self._noted(point_ops.batch_norm(x, self.weight, self.bias, self.eps), len(x))

    def relu(
        self,
        x: Tensor,
        *,
        group: int = 1,
        shared: Tensor | None = None,
        kept: Tensor | None = None,
    ) -> Tensor:
        """What follows a normalisation in a mini-PointNet, with it in one pass where it may be.

        Args:
            x: (P K, C), groups of ``group`` = K rows.
            shared: (P, C) or None, added to every row of its group before.
            kept: (M) int64 or None, different numbers of groups: the others take part in the
                statistics and are left out of the result.

        Returns:
            (P K, C) or (M K, C): ReLU of the normalised rows.

        Raises:
            ValueError: as of :meth:`forward`.
        """
        if self._exact(x):
            found = point_ops.norm_relu(
                x, self.weight, self.bias, self.eps, group=group, shared=shared, kept=kept
            )
            return self._noted(found, len(x))
        here = _known(x, self.weight) and not torch.compiler.is_exporting()
        if here and not self.training and not torch.is_grad_enabled():
            assert self.running_mean is not None
            assert self.running_var is not None
            statistics = self.running_mean, self.running_var
            x = point_ops.norm_relu_fixed(
                x, self.weight, self.bias, *statistics, self.eps, group=group, shared=shared
            )
        else:
            if shared is not None:
                x = (x.view(-1, group, x.shape[1]) + shared.unsqueeze(1)).flatten(0, 1)
            x = functional.relu(super().forward(x))
        if kept is None:
            return x
        # not x[kept], whose gradient sorts the indices
        return x.view(-1, group, x.shape[1]).index_select(0, kept).flatten(0, 1)

    def _exact(self, x: Tensor) -> bool:
        """Whether these rows are for :mod:`point_ops`."""
        if x.dim() != 2 or x.shape[1] != self.num_features:
            raise ValueError(f"expected shape (rows, {self.num_features}), got {tuple(x.shape)}")
        if not (self.training and _known(x, self.weight)):
            return False
        if len(x) < 2:
            raise ValueError(
                f"Expected more than 1 value per channel when training, got {tuple(x.shape)}"
            )
        return True

    def _noted(self, found: point_ops.BatchNorm, count: int) -> Tensor:
        """The output; its statistics of ``count`` rows go into the running ones."""
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        noted = [found.mean, found.variance * (count / (count - 1))]
        torch._foreach_lerp_([self.running_mean, self.running_var], noted, self.momentum)
        return found.out


def _known(x: Tensor, weight: Tensor) -> bool:
    """Whether the kernels take such rows."""
    return x.device.type in FUSED and (x.dtype, weight.dtype) in _EXACT
