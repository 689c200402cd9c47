"""The largest member of every group, channel by channel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _checks
from ._registry import autograd, register, triton

_DTYPES = (torch.bfloat16, torch.float32, torch.float64)
_MOST = torch.iinfo(torch.int16).max


def reference(rows: Tensor) -> tuple[Tensor, Tensor]:
    """rows (P, K, C) -> values (P, C), index (P, C) int16, the first of equal ones."""
    found = rows.max(1)
    return found.values, found.indices.short()


def reference_backward(grad: Tensor, index: Tensor, size: int) -> Tensor:
    """grad (P, C) in the rows that index (P, C) names, of a zero (P, size, C)."""
    out = grad.new_zeros(grad.shape[0], size, grad.shape[1])
    return out.scatter_(1, index.long().unsqueeze(1), grad.unsqueeze(1))


def _fake(rows: Tensor) -> tuple[Tensor, Tensor]:
    shape = (rows.shape[0], rows.shape[2])
    return rows.new_empty(shape), rows.new_empty(shape, dtype=torch.int16)


def _fake_backward(grad: Tensor, index: Tensor, size: int) -> Tensor:
    return grad.new_empty((grad.shape[0], size, grad.shape[1]))


_op = register(
    "group_max",
    "(Tensor rows) -> (Tensor, Tensor)",
    reference=reference,
    fake=_fake,
    cuda=triton("_triton_groups", "group_max"),
)
_op_backward = register(
    "group_max_backward",
    "(Tensor grad, Tensor index, SymInt size) -> Tensor",
    reference=reference_backward,
    fake=_fake_backward,
    cuda=triton("_triton_groups", "group_max_backward"),
)


def _setup(ctx: Any, inputs: tuple[Tensor], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(output[1])
    ctx.mark_non_differentiable(output[1])
    ctx.size = inputs[0].shape[1]
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Any) -> Tensor | None:
    (index,) = ctx.saved_tensors
    return None if grad is None else _op_backward(grad, index, ctx.size)


def _setup_backward(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
    ctx.save_for_backward(inputs[1])


def _double_backward(ctx: Any, flow: Tensor) -> tuple[Tensor, None, None]:
    (index,) = ctx.saved_tensors
    return flow.gather(1, index.long().unsqueeze(1)).squeeze(1), None, None


autograd("group_max", _backward, _setup)
autograd("group_max_backward", _double_backward, _setup_backward)


def group_max(rows: Tensor) -> Tensor:
    """The maximum over each group, channel by channel, as of ``rows.max(1).values``.

    The gradient goes to the first of equal members; a NaN is the maximum of its group.

    Args:
        rows: (P, K, C) bfloat16, float32 or float64: P groups of K members, 1 to 32 767.

    Returns:
        (P, C), differentiable in `rows`.

    Raises:
        ValueError: a wrong shape or dtype.
    """
    rows = _checks.tensor("rows", rows, "P,K,C")
    if rows.dtype not in _DTYPES:
        raise ValueError(f"rows: expected bfloat16, float32 or float64, got {rows.dtype}")
    if not 0 < rows.shape[1] <= _MOST:
        raise ValueError(f"rows: expected groups of 1 to {_MOST} rows, got {tuple(rows.shape)}")
    values: Tensor = _op(rows)[0]
    return values
