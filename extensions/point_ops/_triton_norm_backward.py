"""Triton kernels for the GPU: gradients of :mod:`point_ops._triton_norm`, in the same manner.

Outputs that are not kept have no gradient, and none is made for them: the kernels go from a kept
group to its rows, or from rows to the kept group that they are, if any.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,import-untyped"

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._triton_groups import here, load_wide
from ._triton_norm import STEP, Rows


@triton.jit
def _products(
    grad, out, rows, shared, kept, mean, partial, places, outputs, groups, c, span,
    K: tl.constexpr, SHARED: tl.constexpr, KEPT: tl.constexpr, RELU: tl.constexpr,
    STEP: tl.constexpr, LANES: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """partial (parts, 3, c): of `span` groups of outputs each the sums of grad and of
    grad * (row - mean), and whether any grad is not 0. places (groups): of those kept, which."""
    T: tl.constexpr = mean.dtype.element_ty
    part, col = here(c, COLS)
    lane = tl.arange(0, LANES)
    first = part * span
    end = tl.minimum(first + span, outputs)
    known = (col < c)[None, :]
    middle = tl.load(mean + col, mask=col < c, other=0.0)[None, :]
    total = tl.zeros([LANES, COLS], tl.float64)
    product = tl.zeros([LANES, COLS], tl.float64)
    alive = tl.zeros([LANES, COLS], tl.int32)
    for base in range(first, end, LANES):
        place = (base + lane).to(tl.int64)
        wanted = (place < end)[:, None] & known
        inside = wanted
        group = place
        if KEPT:
            group = tl.load(kept + place, mask=place < end, other=0)
            valid = (group >= 0) & (group < groups)
            inside = wanted & valid[:, None]
            # the programs of other columns write the same
            tl.store(places + group, place, mask=(place < end) & valid)
        add = tl.zeros([LANES, COLS], T)
        if SHARED:
            add = load_wide(shared, group[:, None] * c + col[None, :], inside, T)
        for begin in range(0, K, STEP):
            some = tl.zeros([LANES, COLS], T)
            products = tl.zeros([LANES, COLS], T)
            for j in tl.range(begin, tl.minimum(begin + STEP, K), loop_unroll_factor=4):
                from_ = (place[:, None] * K + j) * c + col[None, :]
                g = load_wide(grad, from_, wanted, T)
                if RELU:
                    g = tl.where(load_wide(out, from_, wanted, T) <= 0, 0.0, g)
                at = (group[:, None] * K + j) * c + col[None, :]
                some += g
                products += g * (load_wide(rows, at, inside, T) + add - middle)
                alive |= (g != 0).to(tl.int32)  # a NaN is not 0
            total += some.to(tl.float64)
            product += products.to(tl.float64)
    to = partial + part.to(tl.int64) * 3 * c + col
    tl.store(to, tl.sum(total, axis=0), mask=col < c)
    tl.store(to + c, tl.sum(product, axis=0), mask=col < c)
    tl.store(to + 2 * c, tl.max(alive, axis=0).to(tl.float64), mask=col < c)


@triton.jit
def _settle_backward(
    partial, weight, variance, to_weight, to_bias, factors, parts, rows, c,
    EPS: tl.constexpr, BLOCK: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """Gradients of weight and bias; factors (4, c) of that of the rows:
    (grad - offset - (row - mean) * slope) * scale where the channel is alive, else 0."""
    T: tl.constexpr = weight.dtype.element_ty
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    known = col < c
    total = tl.zeros([COLS], tl.float64)
    product = tl.zeros([COLS], tl.float64)
    alive = tl.zeros([COLS], tl.float64)
    for base in range(0, parts, BLOCK):
        part = base + tl.arange(0, BLOCK)
        inside = (part < parts)[:, None] & known[None, :]
        at = partial + part.to(tl.int64)[:, None] * 3 * c + col[None, :]
        total += tl.sum(tl.load(at, mask=inside, other=0.0), axis=0)
        product += tl.sum(tl.load(at + c, mask=inside, other=0.0), axis=0)
        alive += tl.sum(tl.load(at + 2 * c, mask=inside, other=0.0), axis=0)
    inverse = 1.0 / tl.sqrt(tl.load(variance + col, mask=known, other=1.0).to(tl.float64) + EPS)
    # A channel on which nothing depends has no gradient even where it is not finite.
    product = tl.where(alive > 0, product * inverse, 0.0)
    tl.store(to_weight + col, product.to(T), mask=known)
    tl.store(to_bias + col, total.to(T), mask=known)
    scale = tl.load(weight + col, mask=known, other=0.0).to(tl.float64) * inverse
    tl.store(factors + col, scale.to(T), mask=known)
    tl.store(factors + c + col, (total / rows).to(T), mask=known)
    tl.store(factors + 2 * c + col, (product * inverse / rows).to(T), mask=known)
    tl.store(factors + 3 * c + col, alive.to(T), mask=known)


@triton.jit
def _backward(
    grad, out, rows, shared, kept, mean, factors, places, to_rows, to_shared, outputs, groups, c,
    K: tl.constexpr, SHARED: tl.constexpr, KEPT: tl.constexpr, RELU: tl.constexpr,
    LANES: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """to_rows, and to_shared: their sums over each group."""
    T: tl.constexpr = mean.dtype.element_ty
    tile, col = here(c, COLS)
    known = col < c
    group = (tile * LANES + tl.arange(0, LANES)).to(tl.int64)
    real = group < groups
    inside = real[:, None] & known[None, :]
    wanted = inside
    place = group
    if KEPT:
        # Only groups that are kept were written to `places`: any other value is one by chance.
        place = tl.load(places + group, mask=real, other=0)
        some = real & (place >= 0) & (place < outputs)
        some &= tl.load(kept + place, mask=some, other=0) == group
        wanted = inside & some[:, None]
    middle = tl.load(mean + col, mask=known, other=0.0)
    scale = tl.load(factors + col, mask=known, other=0.0)
    offset = tl.load(factors + c + col, mask=known, other=0.0)
    slope = tl.load(factors + 2 * c + col, mask=known, other=0.0)
    alive = tl.load(factors + 3 * c + col, mask=known, other=0.0)
    add = tl.zeros([LANES, COLS], T)
    if SHARED:
        add = load_wide(shared, group[:, None] * c + col[None, :], inside, T)
    total = tl.zeros([LANES, COLS], T)
    for j in range(K):
        from_ = (place[:, None] * K + j) * c + col[None, :]
        g = load_wide(grad, from_, wanted, T)
        if RELU:
            g = tl.where(load_wide(out, from_, wanted, T) <= 0, 0.0, g)
        at = (group[:, None] * K + j) * c + col[None, :]
        v = load_wide(rows, at, inside, T) + add - middle[None, :]
        value = (g - offset[None, :] - v * slope[None, :]) * scale[None, :]
        value = tl.where(alive[None, :] > 0, value, 0.0)
        tl.store(to_rows + at, value.to(to_rows.dtype.element_ty), mask=inside)
        total += value
    if SHARED:
        at = group[:, None] * c + col[None, :]
        tl.store(to_shared + at, total.to(to_shared.dtype.element_ty), mask=inside)


def norm_relu_backward(
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
    """Three launches. Arguments and result as the operator."""
    x, grad, weight = Rows(rows, shared, kept, group), grad.contiguous(), weight.contiguous()
    mean, variance = mean.contiguous(), variance.contiguous()
    c, groups, (parts, span) = x.c, x.groups, x.parts(x.outputs)
    to_rows = torch.empty_like(x.rows)
    to_shared = rows.new_empty(0 if shared is None else groups, c)
    to_weight, to_bias = torch.empty_like(weight), torch.empty_like(weight)
    factors = weight.new_empty(4, c)
    partial = rows.new_empty(parts, 3, c, dtype=torch.float64)
    places = rows.new_empty(0 if kept is None else groups, dtype=torch.int64)
    cut = grad if out is None else out.contiguous()
    flags = x.flags | {"RELU": out is not None}
    x.sums.launch(
        _products, parts, grad, cut, x.rows, x.shared, x.kept, mean, partial, places, x.outputs,
        groups, c, span, STEP=STEP, **flags,
    )  # fmt: skip
    x.by_channel(
        _settle_backward, parts, partial, weight, variance, to_weight, to_bias, factors, parts,
        rows.shape[0], c, EPS=eps,
    )  # fmt: skip
    x.maps.launch(
        _backward, x.maps.tiles(groups), grad, cut, x.rows, x.shared, x.kept, mean, factors,
        places, to_rows, to_shared, x.outputs, groups, c, **flags,
    )  # fmt: skip
    return to_rows, to_shared, to_weight, to_bias


def batch_norm_backward(
    grad: Tensor, rows: Tensor, weight: Tensor, mean: Tensor, variance: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`norm_relu_backward`, of that."""
    to_rows, _, to_weight, to_bias = norm_relu_backward(
        grad, None, rows, weight, mean, variance, eps, None, None, 1
    )
    return to_rows, to_weight, to_bias
