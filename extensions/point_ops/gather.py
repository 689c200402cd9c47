"""Gather rows of a cloud by index, and group them into neighbourhoods; both with gradient."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _checks
from ._registry import autograd, register


def _check_range(idx: Tensor, n: int) -> None:
    if idx.device.type == "cpu" and idx.numel():
        low, high = torch.aminmax(idx)
        if int(low) < 0 or int(high) >= n:
            raise ValueError(f"idx: expected values in 0..{n - 1}, got {int(low)}..{int(high)}")


def where_needed(grad: Tensor, factor: Tensor) -> Tensor:
    """`factor`, with zeros where it is not finite and `grad`, by which it is multiplied, is zero.

    What the loss does not depend on has no gradient, whatever it is: 0 * NaN would be NaN.
    """
    return factor.masked_fill((grad == 0) & ~factor.isfinite(), 0)


def reference(points: Tensor, idx: Tensor) -> Tensor:
    """points (B, N, C), idx (B, M) int64 -> (B, M, C)."""
    _check_range(idx, points.shape[1])
    return points.gather(1, idx.unsqueeze(-1).expand(-1, -1, points.shape[-1]))


def reference_backward(grad: Tensor, idx: Tensor, n: int) -> Tensor:
    """grad (B, M, C) summed into the rows idx (B, M) of a zero (B, n, C)."""
    _check_range(idx, n)
    wide = idx.unsqueeze(-1).expand_as(grad)
    half = grad.dtype in (torch.float16, torch.bfloat16)  # sums of many rows need float32
    source = grad.float() if half else grad
    shape = (grad.shape[0], n, grad.shape[2])
    return source.new_zeros(shape).scatter_add_(1, wide, source).to(grad.dtype)


def _fake(points: Tensor, idx: Tensor) -> Tensor:
    return points.new_empty((points.shape[0], idx.shape[1], points.shape[2]))


def _fake_backward(grad: Tensor, idx: Tensor, n: int) -> Tensor:
    return grad.new_empty((grad.shape[0], n, grad.shape[2]))


_op = register("gather", "(Tensor points, Tensor idx) -> Tensor", reference=reference, fake=_fake)
_op_backward = register(
    "gather_backward",
    "(Tensor grad, Tensor idx, SymInt n) -> Tensor",
    reference=reference_backward,
    fake=_fake_backward,
)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    points, idx = inputs
    ctx.save_for_backward(idx)
    ctx.n = points.shape[1]


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None]:
    (idx,) = ctx.saved_tensors
    return (_op_backward(grad, idx, ctx.n) if ctx.needs_input_grad[0] else None), None


def _setup_backward(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _double_backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
    (idx,) = ctx.saved_tensors
    return _op(grad, idx), None, None


autograd("gather", _backward, _setup)
autograd("gather_backward", _double_backward, _setup_backward)


def gather(points: Tensor, idx: Tensor) -> Tensor:
    """Rows of each cloud by index.

    Args:
        points: (B, N, C), any dtype.
        idx: (B, M) int64 or int32, values in 0..N-1.

    Returns:
        (B, M, C), differentiable in `points`.

    Raises:
        ValueError: a wrong shape, dtype or device; on the CPU also an index out of range.
    """
    points = _checks.tensor("points", points, "B,N,C")
    out: Tensor = _op(points, _checks.indices("idx", idx, "B,M", points, "points"))
    return out


def group(features: Tensor, idx: Tensor) -> Tensor:
    """Neighbourhoods of each cloud by index.

    Args:
        features: (B, N, C), any dtype.
        idx: (B, M, K) int64 or int32, values in 0..N-1.

    Returns:
        (B, M, K, C), differentiable in `features`.

    Raises:
        ValueError: a wrong shape, dtype or device; on the CPU also an index out of range.
    """
    features = _checks.tensor("features", features, "B,N,C")
    idx = _checks.indices("idx", idx, "B,M,K", features, "features")
    batch, m, k = idx.shape
    out: Tensor = _op(features, idx.reshape(batch, m * k))
    return out.view(batch, m, k, features.shape[2])
