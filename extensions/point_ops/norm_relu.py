"""Batch normalisation and ReLU of groups of rows in one pass: what a mini-PointNet needs of it.

See :mod:`point_ops.norm` for the statistics. Beside fewer passes over memory: what all rows of a
group share is added without being spread over them first, and outputs that nobody reads are not
made.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from . import _checks
from . import norm as plain
from ._registry import autograd, register, triton
from .norm import BatchNorm


def _whole(rows: Tensor, shared: Tensor | None, group: int) -> Tensor:
    """Rows with what their groups share; in float32 where they are narrower."""
    if shared is None:
        return rows
    dtype = plain.wide(rows.dtype)
    return rows.to(dtype) + shared.to(dtype).repeat_interleave(group, 0)


def _some(rows: Tensor, kept: Tensor | None, group: int) -> Tensor:
    """The rows of the groups that are kept."""
    if kept is None:
        return rows
    return rows.view(-1, group, rows.shape[1])[kept].flatten(0, 1)


def reference(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    shared: Tensor | None,
    kept: Tensor | None,
    group: int,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Torch form: the parts one after the other."""
    out, mean, variance = plain.reference(_whole(rows, shared, group), weight, bias, eps)
    out = _some(out, kept, group)
    return (out.relu() if relu else out).to(rows.dtype), mean, variance


def reference_backward(
    grad: Tensor,
    out: Tensor | None,
    rows: Tensor,
    weight: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    shared: Tensor | None,
    kept: Tensor | None,
    group: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients in rows, in what groups share, in weight and bias."""
    if out is not None:
        grad = grad.masked_fill(out <= 0, 0)
    whole = _whole(rows, shared, group)
    if kept is not None:
        spread = grad.new_zeros(rows.shape[0] // group, group, rows.shape[1])
        spread[kept] = grad.view(-1, group, rows.shape[1])
        grad = spread.flatten(0, 1)
    to_rows, to_weight, to_bias = plain.reference_backward(
        grad.to(whole.dtype), whole, weight, mean, variance, eps
    )
    empty = to_rows.new_empty(0, rows.shape[1])
    sums = empty if shared is None else to_rows.view(-1, group, rows.shape[1]).sum(1)
    return to_rows.to(rows.dtype), sums.to(rows.dtype), to_weight, to_bias


def _fake(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    shared: Tensor | None,
    kept: Tensor | None,
    group: int,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    count = rows.shape[0] if kept is None else kept.shape[0] * group
    out = rows.new_empty((count, rows.shape[1]))
    return out, torch.empty_like(weight), torch.empty_like(weight)


def _fake_backward(
    grad: Tensor,
    out: Tensor | None,
    rows: Tensor,
    weight: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    shared: Tensor | None,
    kept: Tensor | None,
    group: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    sums = rows.new_empty((0 if shared is None else shared.shape[0], rows.shape[1]))
    return torch.empty_like(rows), sums, torch.empty_like(weight), torch.empty_like(weight)


def reference_fixed(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    shared: Tensor | None,
    group: int,
) -> Tensor:
    """Torch form, with statistics that are given."""
    whole = _whole(rows, shared, group)
    out = functional.batch_norm(whole, mean, variance, weight, bias, False, 0.0, eps)
    return out.relu().to(rows.dtype)


def _fake_fixed(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    shared: Tensor | None,
    group: int,
) -> Tensor:
    return torch.empty_like(rows)


_op_fixed = register(
    "norm_relu_fixed",
    "(Tensor rows, Tensor weight, Tensor bias, Tensor mean, Tensor variance, float eps,"
    " Tensor? shared, SymInt group) -> Tensor",
    reference=reference_fixed,
    fake=_fake_fixed,
    cuda=triton("_triton_norm", "norm_relu_fixed"),
)
_op = register(
    "norm_relu",
    "(Tensor rows, Tensor weight, Tensor bias, float eps, Tensor? shared, Tensor? kept,"
    " SymInt group, bool relu) -> (Tensor, Tensor, Tensor)",
    reference=reference,
    fake=_fake,
    cuda=triton("_triton_norm", "norm_relu"),
)
_op_backward = register(
    "norm_relu_backward",
    "(Tensor grad, Tensor? out, Tensor rows, Tensor weight, Tensor mean, Tensor variance,"
    " float eps, Tensor? shared, Tensor? kept, SymInt group)"
    " -> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference_backward,
    fake=_fake_backward,
    cuda=triton("_triton_norm_backward", "norm_relu_backward"),
)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    rows, weight, _, ctx.eps, shared, kept, ctx.group, relu = inputs
    ctx.save_for_backward(output[0] if relu else None, rows, weight, *output[1:], shared, kept)
    ctx.mark_non_differentiable(*output[1:])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 8
    out, rows, weight, mean, variance, shared, kept = ctx.saved_tensors
    to_rows, to_shared, to_weight, to_bias = _op_backward(
        grad, out, rows, weight, mean, variance, ctx.eps, shared, kept, ctx.group
    )
    sums = None if shared is None else to_shared
    return to_rows, to_weight, to_bias, None, sums, None, None, None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    grad, out, rows, weight, _, _, ctx.eps, shared, kept, ctx.group = inputs
    ctx.save_for_backward(grad, rows, weight, shared, out, kept)


def _double_backward(ctx: Any, *flows: Tensor) -> tuple[Tensor | None, ...]:
    _checks.last_derivative("norm_relu")
    *saved, out, kept = ctx.saved_tensors
    group = ctx.group
    with torch.enable_grad():
        grad, rows, weight = (t.detach().requires_grad_() for t in saved[:3])
        shared = None if saved[3] is None else saved[3].detach().requires_grad_()
        # the gradient of the plain form, written with torch's differentiable operators
        whole = _whole(rows, shared, group)
        flow = grad if out is None else grad.masked_fill(out <= 0, 0)
        if kept is not None:
            empty = flow.new_zeros(rows.shape[0] // group, group, rows.shape[1])
            flow = empty.index_put((kept,), flow.view(-1, group, rows.shape[1])).flatten(0, 1)
        found = plain.gradients(flow, whole, weight, ctx.eps)
        to_rows, product, total = found
        sums = to_rows[:0] if shared is None else to_rows.view(-1, group, rows.shape[1]).sum(1)
        outputs = (to_rows, sums, product, total)
        wanted = [grad, rows, weight, *([] if shared is None else [shared])]
        second = iter(torch.autograd.grad(outputs, wanted, flows))
    to_grad, to_rows, to_weight = (next(second) for _ in range(3))
    to_shared = None if shared is None else next(second)
    return to_grad, None, to_rows, to_weight, None, None, None, to_shared, None, None


def _refuse(ctx: Any, *_: Any) -> None:
    raise NotImplementedError("point_ops.norm_relu with given statistics has no gradient")


autograd("norm_relu_fixed", _refuse, lambda ctx, inputs, output: None)
autograd("norm_relu", _backward, _setup)
autograd("norm_relu_backward", _double_backward, _setup_backward)


def norm_relu(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float = 1e-5,
    *,
    group: int = 1,
    shared: Tensor | None = None,
    kept: Tensor | None = None,
) -> BatchNorm:
    """ReLU of rows normalised by mean and variance of each channel over all of them.

    The same as :func:`point_ops.batch_norm` of ``rows + shared.repeat_interleave(group, 0)``, of
    which the groups ``kept`` are taken and cut off at 0.

    Args:
        rows: (P * K, C) bfloat16, float32 or float64: P groups of K rows.
        weight: (C) float64 for float64 rows, else float32.
        bias: (C), dtype of the weight.
        eps: what is added to the variance.
        group: K.
        shared: (P, C), dtype of the rows: added to all rows of a group.
        kept: (M) int64, different numbers of groups: those whose output is wanted. Statistics are
            of all rows.

    Returns:
        ``out`` (P * K, C) or (M * K, C), differentiable in rows, weight, bias and shared; mean and
        variance (C) of the normalised rows, without gradient. The C++ kernels give the same bits
        with any number of threads.

    Raises:
        ValueError: a wrong shape, dtype or device, no rows, or rows that are no whole groups.
    """
    rows = _checked(rows, weight, bias, group, shared)
    if kept is not None:
        _checks.same_device("rows", rows, "kept", kept)
        if kept.dim() != 1 or kept.dtype != torch.int64:
            raise ValueError(f"kept: expected (M) int64, got {tuple(kept.shape)} {kept.dtype}")
    return BatchNorm(*_op(rows, weight, bias, eps, shared, kept, group, True))


def norm_relu_fixed(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float = 1e-5,
    *,
    group: int = 1,
    shared: Tensor | None = None,
) -> Tensor:
    """As :func:`norm_relu`, with statistics that are given, as in evaluation; without gradient.

    Args:
        rows, weight, bias, eps, group, shared: see there.
        mean: (C), dtype of the weight.
        variance: (C), likewise.

    Returns:
        (P * K, C).

    Raises:
        ValueError: as :func:`norm_relu`.
        NotImplementedError: in a backward pass.
    """
    rows = _checked(rows, weight, bias, group, shared)
    out: Tensor = _op_fixed(rows, weight, bias, mean, variance, eps, shared, group)
    return out


def _checked(
    rows: Tensor, weight: Tensor, bias: Tensor, group: int, shared: Tensor | None
) -> Tensor:
    rows = plain.checked(rows, weight, bias)
    if group < 1 or rows.shape[0] % group:
        raise ValueError(f"group: expected a divisor of {rows.shape[0]} rows, got {group}")
    if shared is not None:
        shared = _checks.tensor("shared", shared, "P,C", last=rows.shape[1])
        _checks.same_device("rows", rows, "shared", shared)
        if shared.dtype != rows.dtype or shared.shape[0] != rows.shape[0] // group:
            wanted = (rows.shape[0] // group, rows.shape[1])
            raise ValueError(
                f"shared: expected {wanted} {rows.dtype}, got {tuple(shared.shape)} {shared.dtype}"
            )
    return rows
