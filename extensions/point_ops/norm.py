"""Batch normalisation of rows whose statistics stay exact however many rows there are.

Source: Ioffe and Szegedy, Batch Normalization (ICML 2015); moments are merged as in Chan, Golub
and LeVeque, Algorithms for Computing the Sample Variance (The American Statistician, 1983).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from . import _checks
from ._registry import autograd, register, triton

_DTYPES = (torch.bfloat16, torch.float32, torch.float64)


def wide(dtype: torch.dtype) -> torch.dtype:
    """The dtype in which rows of ``dtype`` are normalised; that of their weight and bias."""
    return torch.float64 if dtype == torch.float64 else torch.float32


class BatchNorm(NamedTuple):
    """Result of :func:`batch_norm`."""

    out: Tensor  # (N, C), dtype of the rows
    mean: Tensor  # (C) of the rows, dtype of the weight
    variance: Tensor  # (C), biased: the mean squared deviation, dtype of the weight


def _slices(rows: Tensor) -> Iterator[slice]:
    """Slices of the rows, so short that torch's sums in float32, row after row, are exact enough:
    some 1e-7 of a variance, and at worst, where all rows round the same way, 512 / 2**24."""
    return (slice(first, first + 512) for first in range(0, rows.shape[0], 512))


def _moments(rows: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Mean (C) and biased variance (C) of the rows in float64: slices by torch, in `dtype`, and
    their moments merged."""
    mean = rows.new_zeros(rows.shape[1], dtype=torch.float64)
    square, before = torch.zeros_like(mean), 0  # of deviations from the mean; rows so far
    unused = torch.zeros_like(mean, dtype=dtype)  # running statistics: they set the dtype
    for part in _slices(rows):
        count = rows[part].shape[0]
        some, variance = torch.batch_norm_update_stats(rows[part], unused, unused.clone(), 0.0)
        gap = some.double() - mean
        mean += gap * (count / (before + count))
        square += variance.double() * count + gap.square() * (before * count / (before + count))
        before += count
    return mean, square / before


def reference(
    rows: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Torch form: statistics by slices, the map by torch's own batch normalisation."""
    mean, variance = (t.to(weight.dtype) for t in _moments(rows, weight.dtype))
    out = torch.nn.functional.batch_norm(rows, mean, variance, weight, bias, False, 0.0, eps)
    return out, mean, variance


def reference_backward(
    grad: Tensor, rows: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in rows (N, C), weight (C) and bias (C)."""
    grad, dtype = grad.contiguous(), weight.dtype
    inverse = (variance.double() + eps).rsqrt()
    narrow = inverse.to(dtype)
    total, product = torch.zeros_like(inverse), torch.zeros_like(inverse)
    for part in _slices(rows):
        _, to_weight, to_bias = torch.ops.aten.native_batch_norm_backward(
            grad[part], rows[part], weight, None, None, mean, narrow, True, eps, [False, True, True]
        )
        total += to_bias
        product += to_weight
    # (grad - total / N - (x - mean) * inverse * product / N) * scale: torch's map of the rows
    # gives all but grad * scale
    scale = weight * inverse
    factor, offset = (-scale * t / rows.shape[0] for t in (product, total))
    moved = torch.nn.functional.batch_norm(
        rows, mean, variance, factor.to(dtype), offset.to(dtype), False, 0.0, eps
    )
    out = torch.addcmul(moved, grad, scale.to(dtype)).to(rows.dtype)
    product = product.to(dtype)
    if rows.is_cpu and product.isfinite().all() and scale.isfinite().all():
        return out, product, total.to(dtype)
    # A channel on which nothing depends has no gradient even where it is not finite.
    silent = torch.linalg.vector_norm(grad, torch.inf, dim=0) == 0
    return out.masked_fill_(silent, 0), product.masked_fill_(silent, 0), total.to(dtype)


def _fake(rows: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(rows), torch.empty_like(weight), torch.empty_like(weight)


def _fake_backward(
    grad: Tensor, rows: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(rows), torch.empty_like(weight), torch.empty_like(weight)


_op = register(
    "batch_norm",
    "(Tensor rows, Tensor weight, Tensor bias, float eps) -> (Tensor, Tensor, Tensor)",
    reference=reference,
    fake=_fake,
    cuda=triton("_triton_norm", "batch_norm"),
)
_op_backward = register(
    "batch_norm_backward",
    "(Tensor grad, Tensor rows, Tensor weight, Tensor mean, Tensor variance, float eps)"
    " -> (Tensor, Tensor, Tensor)",
    reference=reference_backward,
    fake=_fake_backward,
    cuda=triton("_triton_norm_backward", "batch_norm_backward"),
)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    rows, weight, _, ctx.eps = inputs
    ctx.save_for_backward(rows, weight, *output[1:])
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None
    rows, weight, mean, variance = ctx.saved_tensors
    return *_op_backward(grad, rows, weight, mean, variance, ctx.eps), None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.eps = inputs[5]


def gradients(
    grad: Tensor, rows: Tensor, weight: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in rows, weight and bias by torch's differentiable operators. Mean and variance
    are those of the rows: their part is in the gradient of the rows."""
    variance, mean = torch.var_mean(rows, 0, correction=0)
    inverse = (variance + eps).rsqrt()
    unit = (rows - mean) * inverse
    total, product = grad.sum(0), (grad * unit).sum(0)
    count = rows.shape[0]
    to_rows = (grad - total / count - unit * (product / count)) * inverse * weight
    # Channels whose gradient was set to zero, see `reference_backward`.
    zeroed = (grad == 0).all(0) & ~(mean * inverse * weight).isfinite()
    return to_rows.masked_fill(zeroed, 0), product.masked_fill(zeroed, 0), total


def _double_backward(ctx: Any, *flows: Tensor) -> tuple[Tensor | None, ...]:
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        grad, rows, weight = inputs
        found = torch.autograd.grad(gradients(grad, rows, weight, ctx.eps), inputs, flows)
    zeroed = (grad == 0).all(0) & ~(rows.mean(0) * weight).isfinite()
    return *(t.masked_fill(zeroed, 0) for t in found), None, None, None


autograd("batch_norm", _backward, _setup)
autograd("batch_norm_backward", _double_backward, _setup_backward)


def batch_norm(rows: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> BatchNorm:
    """Rows normalised by the mean and the variance of each channel over all rows.

    ``out = (rows - mean) / sqrt(variance + eps) * weight + bias``, as in training.

    Args:
        rows: (N, C) bfloat16, float32 or float64; N at least 1.
        weight: (C) float64 for float64 rows, else float32.
        bias: (C), dtype of the weight.
        eps: what is added to the variance.

    Returns:
        A :class:`BatchNorm`. Its ``out`` is differentiable in rows, weight and bias; mean and
        variance carry no gradient. The C++ kernels give the same bits with any number of threads.

    Raises:
        ValueError: a wrong shape, dtype or device, or no rows.
    """
    rows = checked(rows, weight, bias)
    return BatchNorm(*_op(rows, weight, bias, eps))


def checked(rows: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """The rows of a normalisation.

    Raises:
        ValueError: a wrong shape, dtype or device, or no rows.
    """
    rows = _checks.tensor("rows", rows, "N,C")
    if rows.dtype not in _DTYPES:
        raise ValueError(f"rows: expected bfloat16, float32 or float64, got {rows.dtype}")
    if rows.shape[0] < 1:
        raise ValueError(f"rows: expected at least one row, got {tuple(rows.shape)}")
    for name, value in (("weight", weight), ("bias", bias)):
        _checks.tensor(name, value, "C", last=rows.shape[1])
        _checks.same_device("rows", rows, name, value)
        wanted = wide(rows.dtype)
        if value.dtype != wanted:
            raise ValueError(f"{name}: expected {wanted} for {rows.dtype} rows, got {value.dtype}")
    return rows
