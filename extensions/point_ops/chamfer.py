"""Chamfer distance between point clouds: per point, both ways, with gradient; and reductions.

Source: Fan et al., A Point Set Generation Network (CVPR 2017), equation 1.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from . import _checks
from ._registry import autograd, register
from .gather import where_needed
from .knn import chunk, squared_distances

Reduction = Literal["mean", "patch"]


class Chamfer(NamedTuple):
    """Result of :func:`chamfer`."""

    sqdist_ab: Tensor  # (B, N) squared distance of each point of a to the nearest of b
    sqdist_ba: Tensor  # (B, M) squared distance of each point of b to the nearest of a
    idx_ab: Tensor  # (B, N) int64, that nearest point of b
    idx_ba: Tensor  # (B, M) int64, that nearest point of a


def reference(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Torch form: one pass over slices of the distance matrix serves both directions."""
    batch, n, _ = a.shape
    m = b.shape[1]
    dist_ab, idx_ab = a.new_empty(batch, n), a.new_empty((batch, n), dtype=torch.int64)
    dist_ba = a.new_full((batch, m), torch.inf)
    idx_ba = a.new_zeros((batch, m), dtype=torch.int64)
    size = chunk(a.device)
    clouds, rows = max(1, size // (n * m)), max(1, size // m)
    for s in range(0, batch, clouds):
        some = slice(s, s + clouds)
        for r in range(0, n, rows):
            distance = squared_distances(a[some, r : r + rows], b[some])
            dist_ab[some, r : r + rows], idx_ab[some, r : r + rows] = distance.min(2)
            value, index = distance.min(1)
            closer = value < dist_ba[some]
            idx_ba[some] = torch.where(closer, index + r, idx_ba[some])
            dist_ba[some] = torch.where(closer, value, dist_ba[some])
    return dist_ab, dist_ba, idx_ab, idx_ba


def reference_backward(
    grad_ab: Tensor,
    grad_ba: Tensor,
    a: Tensor,
    b: Tensor,
    idx_ab: Tensor,
    idx_ba: Tensor,
    need_a: bool = True,
    need_b: bool = True,
) -> tuple[Tensor, Tensor]:
    """Gradients in a (B, N, 3) and b (B, M, 3): 2 (a - b) along each pair, both ways.

    One that is not needed comes back with an empty batch.
    """
    wide_ab, wide_ba = idx_ab.unsqueeze(-1).expand_as(a), idx_ba.unsqueeze(-1).expand_as(b)
    grad_ab, grad_ba = grad_ab.unsqueeze(-1), grad_ba.unsqueeze(-1)
    flow_ab = 2 * grad_ab * where_needed(grad_ab, a - b.gather(1, wide_ab))
    flow_ba = 2 * grad_ba * where_needed(grad_ba, b - a.gather(1, wide_ba))
    to_a = flow_ab.scatter_add(1, wide_ba, -flow_ba) if need_a else a.new_empty(0, *a.shape[1:])
    to_b = flow_ba.scatter_add(1, wide_ab, -flow_ab) if need_b else b.new_empty(0, *b.shape[1:])
    return to_a, to_b


def _fake(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    like_a, like_b = a.shape[:2], b.shape[:2]
    return (
        a.new_empty(like_a),
        a.new_empty(like_b),
        a.new_empty(like_a, dtype=torch.int64),
        a.new_empty(like_b, dtype=torch.int64),
    )


def _fake_backward(
    grad_ab: Tensor,
    grad_ba: Tensor,
    a: Tensor,
    b: Tensor,
    idx_ab: Tensor,
    idx_ba: Tensor,
    need_a: bool = True,
    need_b: bool = True,
) -> tuple[Tensor, Tensor]:
    to_a = a.new_empty((a.shape[0] if need_a else 0, *a.shape[1:]))
    return to_a, b.new_empty((b.shape[0] if need_b else 0, *b.shape[1:]))


def _cuda(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    from . import _triton_points as kernels

    return kernels.chamfer(a, b)


_op = register(
    "chamfer",
    "(Tensor a, Tensor b) -> (Tensor, Tensor, Tensor, Tensor)",
    reference=reference,
    fake=_fake,
    cuda=_cuda,
)
_op_backward = register(
    "chamfer_backward",
    "(Tensor grad_ab, Tensor grad_ba, Tensor a, Tensor b, Tensor idx_ab, Tensor idx_ba,"
    " bool need_a=True, bool need_b=True) -> (Tensor, Tensor)",
    reference=reference_backward,
    fake=_fake_backward,
)


def _setup(ctx: Any, inputs: tuple[Tensor, Tensor], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs, output[2], output[3])
    ctx.mark_non_differentiable(output[2], output[3])
    ctx.set_materialize_grads(False)  # or both index outputs would get zeros, written out


def _backward(
    ctx: Any, grad_ab: Tensor | None, grad_ba: Tensor | None, *_: Any
) -> tuple[Tensor | None, ...]:
    a, b, idx_ab, idx_ba = ctx.saved_tensors
    if grad_ab is None:
        grad_ab = a.new_zeros(()).expand(idx_ab.shape)
    if grad_ba is None:
        grad_ba = a.new_zeros(()).expand(idx_ba.shape)
    need = ctx.needs_input_grad
    to_a, to_b = _op_backward(grad_ab, grad_ba, a, b, idx_ab, idx_ba, need[0], need[1])
    return (to_a if need[0] else None), (to_b if need[1] else None)


def _setup_backward(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.needed = inputs[6:]


def _double_backward(ctx: Any, to_a: Tensor, to_b: Tensor) -> tuple[Tensor | None, ...]:
    grad_ab, grad_ba, a, b, idx_ab, idx_ba = ctx.saved_tensors
    # An output that was not needed is empty; it depends on nothing, so its flow is zero.
    u = to_a if ctx.needed[0] else torch.zeros_like(a)
    v = to_b if ctx.needed[1] else torch.zeros_like(b)
    wide_ab, wide_ba = idx_ab.unsqueeze(-1).expand_as(a), idx_ba.unsqueeze(-1).expand_as(b)
    delta_ab = where_needed(grad_ab.unsqueeze(-1), a - b.gather(1, wide_ab))
    delta_ba = where_needed(grad_ba.unsqueeze(-1), b - a.gather(1, wide_ba))
    along_ab = 2 * ((u - v.gather(1, wide_ab)) * delta_ab).sum(-1)
    along_ba = 2 * ((v - u.gather(1, wide_ba)) * delta_ba).sum(-1)
    # Linear and symmetric in the clouds: the same operator carries (u, v) to (a, b).
    on_a, on_b = _op_backward(grad_ab, grad_ba, u, v, idx_ab, idx_ba)
    return along_ab, along_ba, on_a, on_b, None, None, None, None


autograd("chamfer", _backward, _setup)
autograd("chamfer_backward", _double_backward, _setup_backward)


def chamfer(a: Tensor, b: Tensor) -> Chamfer:
    """Nearest neighbours both ways.

    Args:
        a: (B, N, 3) floating.
        b: (B, M, 3) floating, same device; the wider dtype of the two is used and half
            precision is computed in float32.

    Returns:
        A :class:`Chamfer`; its distances are squared and differentiable in both clouds. Equal
        distances take the lower index; a NaN distance is infinite.

    Raises:
        ValueError: a wrong shape, dtype or device, or an empty cloud.
    """
    a = _checks.cloud("a", a, "B,N,3", last=3)
    b = _checks.cloud("b", b, "B,M,3", last=3)
    a, b = _checks.pair("a", a, "b", b)
    for name, value in (("a", a), ("b", b)):
        if value.shape[1] < 1:
            raise ValueError(f"{name}: expected at least one point, got {tuple(value.shape)}")
    return Chamfer(*_op(a, b))


def _folded(a: Tensor, b: Tensor, reduction: str) -> tuple[Chamfer, torch.Size]:
    if reduction not in ("mean", "patch"):
        raise ValueError(f"reduction: expected 'mean' or 'patch', got {reduction!r}")
    for name, value in (("a", a), ("b", b)):
        if not isinstance(value, Tensor) or value.dim() < 3 or value.shape[-1] != 3:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ValueError(f"{name}: expected shape (..., N, 3), got {got}")
    if a.shape[:-2] != b.shape[:-2]:
        raise ValueError(
            f"b: expected leading axes {tuple(a.shape[:-2])} as in a, got {tuple(b.shape[:-2])}"
        )
    return chamfer(a.flatten(0, -3), b.flatten(0, -3)), a.shape[:-2]


def chamfer_l2(a: Tensor, b: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Mean squared distance to the nearest point, summed over both directions.

    Args:
        a: (..., N, 3) patches; at least one leading axis, folded into one batch.
        b: (..., M, 3) patches with the same leading axes.
        reduction: ``"mean"`` over all patches, or ``"patch"`` for one value a patch.

    Returns:
        A scalar, or the leading axes ``(...)``.

    Raises:
        ValueError: a wrong shape, dtype, device or reduction.
    """
    found, leading = _folded(a, b, reduction)
    if reduction == "mean":  # all patches have the same size: one mean over everything
        # sum / count, since the gradient of `mean` is written out for every point
        ab, ba = found.sqdist_ab, found.sqdist_ba
        return ab.sum() / ab.numel() + ba.sum() / ba.numel()
    return (found.sqdist_ab.mean(-1) + found.sqdist_ba.mean(-1)).view(leading)


def chamfer_l1(a: Tensor, b: Tensor, reduction: Reduction = "mean") -> Tensor:
    """Mean distance (not squared) to the nearest point, averaged over both directions.

    Arguments, result and errors as :func:`chamfer_l2`. At distance zero the gradient is zero.
    """
    found, leading = _folded(a, b, reduction)
    tiny = torch.finfo(found.sqdist_ab.dtype).tiny  # clamps exact zeros only: sqrt'(0) is infinite
    root_ab = found.sqdist_ab.clamp_min(tiny).sqrt()
    root_ba = found.sqdist_ba.clamp_min(tiny).sqrt()
    if reduction == "mean":
        return (root_ab.mean() + root_ba.mean()) / 2
    return ((root_ab.mean(-1) + root_ba.mean(-1)) / 2).view(leading)
