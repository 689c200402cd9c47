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
from ._registry import autograd, register

_DTYPES = (torch.bfloat16, torch.float32, torch.float64)


class BatchNorm(NamedTuple):
    """Result of :func:`batch_norm`."""

    out: Tensor  # (N, C), dtype of the rows
    mean: Tensor  # (C) of the rows, dtype of the weight
    variance: Tensor  # (C), biased: the mean squared deviation, dtype of the weight


def _slices(rows: Tensor) -> Iterator[slice]:
    """Slices of the rows that stay in the cache while several operators pass over them."""
    count = max(32, (1 << 18) // max(1, rows.shape[1]))
    return (slice(first, first + count) for first in range(0, rows.shape[0], count))


def _sum(rows: Tensor) -> Tensor:
    """Sum of each column, float64; in the dtype of the rows over 64 of them at a time."""
    whole = rows.shape[0] // 64 * 64
    blocks = rows[:whole].view(-1, 64, rows.shape[1]).sum(1)
    return blocks.sum(0, dtype=torch.float64) + rows[whole:].sum(0)


def _moments(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C) and biased variance (C) of the rows, float64."""
    dtype = torch.promote_types(rows.dtype, torch.float32)
    mean = rows.new_zeros(rows.shape[1], dtype=torch.float64)
    square, before = torch.zeros_like(mean), 0  # of deviations from the mean; rows so far
    for part in _slices(rows):
        some = rows[part].to(dtype)
        count, shift = some.shape[0], some[:16].mean(0)
        gaps = some - shift  # from some mean of theirs: small, so little cancels below
        total, squares = _sum(gaps), _sum(gaps.square())
        gap = shift.double() + total / count - mean
        mean += gap * (count / (before + count))
        square += (squares - total * total / count).clamp_min(0)
        square += gap * gap * (before * count / (before + count))
        before += count
    return mean, square / rows.shape[0]


def reference(
    rows: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Torch form, slice by slice."""
    wide, biased = _moments(rows)
    mean, dtype = wide.to(weight.dtype), weight.dtype
    inverse = (biased + eps).rsqrt()
    scale = (weight * inverse).to(dtype)
    # the mean as it is subtracted is rounded; what that lost goes here
    offset = (bias - (wide - mean) * inverse * weight).to(dtype)
    out = torch.empty_like(rows)
    for part in _slices(rows):
        out[part] = torch.addcmul(offset, rows[part] - mean, scale)
    return out, mean, biased.to(dtype)


def reference_backward(
    grad: Tensor, rows: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients in rows (N, C), weight (C) and bias (C)."""
    grad, dtype = grad.contiguous(), weight.dtype
    inverse = (variance.double() + eps).rsqrt()
    total = torch.zeros_like(inverse)
    product = torch.zeros_like(inverse)
    for part in _slices(rows):
        flow = grad[part].to(dtype)
        total += _sum(flow)
        product += _sum(flow * (rows[part] - mean))
    count = rows.shape[0]
    scale = (weight * inverse).to(dtype)
    offset, slope = (total / count).to(dtype), (product * inverse.square() / count).to(dtype)
    out = torch.empty_like(rows)
    for part in _slices(rows):
        flow = (rows[part] - mean).mul_(slope).neg_().add_(grad[part]).sub_(offset)
        out[part] = flow.mul_(scale)
    return out, (product * inverse).to(dtype), total.to(dtype)


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
)
_op_backward = register(
    "batch_norm_backward",
    "(Tensor grad, Tensor rows, Tensor weight, Tensor mean, Tensor variance, float eps)"
    " -> (Tensor, Tensor, Tensor)",
    reference=reference_backward,
    fake=_fake_backward,
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


def _double_backward(ctx: Any, *flows: Tensor) -> tuple[Tensor | None, ...]:
    # Mean and variance are those of the rows: their part is in the gradient of the rows.
    with torch.enable_grad():
        inputs = [t.detach().requires_grad_() for t in ctx.saved_tensors]
        grad, rows, weight = inputs
        variance, mean = torch.var_mean(rows, 0, correction=0)
        inverse = (variance + ctx.eps).rsqrt()
        unit = (rows - mean) * inverse
        total, product = grad.sum(0), (grad * unit).sum(0)
        count = rows.shape[0]
        to_rows = (grad - total / count - unit * (product / count)) * inverse * weight
        outputs = (to_rows, product, total)
        found = torch.autograd.grad(outputs, inputs, flows)
    return *found, None, None, None


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
        A :class:`BatchNorm`. Its ``out`` is differentiable in rows, weight and bias, and the same
        bits with any number of threads; mean and variance carry no gradient.

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
        wanted = torch.promote_types(rows.dtype, torch.float32)
        if value.dtype != wanted:
            raise ValueError(f"{name}: expected {wanted} for {rows.dtype} rows, got {value.dtype}")
    return BatchNorm(*_op(rows, weight, bias, eps))
