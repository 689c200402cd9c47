"""Self-attention of every head, from the rows that one layer makes of queries, keys and values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import _checks
from ._registry import autograd, register
from .norm import wide

_DTYPES = (torch.bfloat16, torch.float32, torch.float64)


def _by_heads(rows: Tensor, heads: int) -> Tensor:
    """(B, n, heads D) -> (B, heads, n, D), in float32 where it is narrower."""
    return torch.unflatten(rows.to(wide(rows.dtype)), -1, (heads, -1)).transpose(1, 2)


def _parts(qkv: Tensor, heads: int) -> list[Tensor]:
    """q, k and v (B, heads, n, D)."""
    return [_by_heads(part, heads) for part in torch.chunk(qkv, 3, dim=-1)]


def _scores(q: Tensor, k: Tensor, bias: Tensor | None) -> Tensor:
    scores: Tensor = q @ k.transpose(-2, -1) * float(q.shape[-1]) ** -0.5
    return scores if bias is None else scores + bias.unsqueeze(1)


def _joined(heads: Tensor) -> Tensor:
    """(B, heads, n, D) -> (B, n, C)."""
    return heads.transpose(1, 2).flatten(2)


def reference(qkv: Tensor, heads: int, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    """Torch form: the output; and of every token (B, heads, n, 2) its largest score and 1 over
    the sum of the exponentials of what the others are below it."""
    q, k, v = _parts(qkv, heads)
    scores = _scores(q, k, bias)
    most = scores.amax(-1, keepdim=True)
    found = torch.cat([most, 1 / (scores - most).exp().sum(-1, keepdim=True)], dim=-1)
    return _joined(scores.softmax(-1) @ v).to(qkv.dtype), found


def reference_backward(
    grad: Tensor, qkv: Tensor, out: Tensor, sums: Tensor, heads: int, bias: Tensor | None
) -> Tensor:
    """Gradient in qkv."""
    q, k, v = _parts(qkv, heads)
    most, share = sums[..., :1], sums[..., 1:]
    weights = (_scores(q, k, bias) - most).exp() * share
    g, o = _by_heads(grad, heads), _by_heads(out, heads)
    slopes = weights * (g @ v.transpose(-2, -1) - (g * o).sum(-1, keepdim=True))
    scale = float(q.shape[-1]) ** -0.5
    to = slopes @ k * scale, slopes.transpose(-2, -1) @ q * scale, weights.transpose(-2, -1) @ g
    return torch.cat([_joined(part) for part in to], dim=-1).to(qkv.dtype)


def _fake(qkv: Tensor, heads: int, bias: Tensor | None) -> tuple[Tensor, Tensor]:
    batch, n, width = qkv.shape
    sums = qkv.new_empty((batch, heads, n, 2), dtype=wide(qkv.dtype))
    return qkv.new_empty((batch, n, width // 3)), sums


def _fake_backward(
    grad: Tensor, qkv: Tensor, out: Tensor, sums: Tensor, heads: int, bias: Tensor | None
) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


_op = register(
    "attention",
    "(Tensor qkv, SymInt heads, Tensor? bias) -> (Tensor, Tensor)",
    reference=reference,
    fake=_fake,
)
_op_backward = register(
    "attention_backward",
    "(Tensor grad, Tensor qkv, Tensor out, Tensor sums, SymInt heads, Tensor? bias) -> Tensor",
    reference=reference_backward,
    fake=_fake_backward,
)


def _setup(
    ctx: Any, inputs: tuple[Tensor, int, Tensor | None], output: tuple[Tensor, Tensor]
) -> None:
    qkv, ctx.heads, bias = inputs
    ctx.save_for_backward(qkv, *output, bias)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, None, None]:
    if grad is None:
        return None, None, None
    qkv, out, sums, bias = ctx.saved_tensors
    return _op_backward(grad, qkv, out, sums, ctx.heads, bias), None, None


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    grad, qkv, _, _, ctx.heads, bias = inputs
    ctx.save_for_backward(grad, qkv, bias)


def _double_backward(ctx: Any, flow: Tensor) -> tuple[Tensor | None, ...]:
    """By torch, from the torch form; `out` and `sums` come from `qkv`, whose gradient has them."""
    _checks.last_derivative("attention")
    grad, qkv, bias = ctx.saved_tensors
    with torch.enable_grad():
        grad, qkv = grad.detach().requires_grad_(), qkv.detach().requires_grad_()
        out, _ = reference(qkv, ctx.heads, bias)
        (to_qkv,) = torch.autograd.grad(out, qkv, grad, create_graph=True)
        second = torch.autograd.grad(to_qkv, (grad, qkv), flow)
    return *second, None, None, None, None


autograd("attention", _backward, _setup)
autograd("attention_backward", _double_backward, _setup_backward)


def attention(qkv: Tensor, heads: int, bias: Tensor | None = None) -> Tensor:
    """softmax(q k' / sqrt(D) + bias) v of every head, in float32 where the rows are narrower.

    On the CPU queries, keys and values are read where they lie: nothing is sorted by heads, and
    no weight of attention is kept for the backward pass. On a GPU this is the plain torch form;
    `torch.nn.functional.scaled_dot_product_attention` is faster there.

    Args:
        qkv: (B, n, 3 heads D) bfloat16, float32 or float64: queries of all heads, their keys,
            their values.
        heads: heads of attention.
        bias: broadcast to (B, n, n) and added to the scores (row: the token that looks, column:
            the one that it sees); -inf hides a token, and a token that sees none becomes NaN.
            float64 beside float64 rows, else float32; it gets no gradient.

    Returns:
        (B, n, heads D) in the dtype of `qkv`, differentiable in it.

    Raises:
        ValueError: a wrong shape or dtype, or a bias that wants a gradient.
    """
    qkv = _checks.tensor("qkv", qkv, "B,n,3C")
    if qkv.dtype not in _DTYPES:
        raise ValueError(f"qkv: expected bfloat16, float32 or float64, got {qkv.dtype}")
    heads = _checks.count("heads", heads)
    batch, n, width = qkv.shape
    if width == 0 or width % (3 * heads):
        raise ValueError(
            f"qkv: expected 3 times a multiple of {heads} heads as last axis, got {width}"
        )
    if bias is not None:
        _checks.tensor("bias", bias, "B,n,n")
        _checks.same_device("qkv", qkv, "bias", bias)
        if bias.requires_grad:
            raise ValueError("bias: expected a constant, got a tensor that wants a gradient")
        if bias.dtype != wide(qkv.dtype):
            raise ValueError(f"bias: expected {wide(qkv.dtype)}, got {bias.dtype}")
        if any(size not in (1, full) for size, full in zip(bias.shape, (batch, n, n), strict=True)):
            raise ValueError(
                f"bias: expected a shape that is broadcast to {(batch, n, n)}, "
                f"got {tuple(bias.shape)}"
            )
        bias = bias.expand(-1, -1, n)
    out: Tensor = _op(qkv, heads, bias)[0]
    return out
