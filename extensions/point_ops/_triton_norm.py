"""Triton kernels for the GPU: batch normalisation of rows, with what a mini-PointNet needs of it.

Work is shared as :mod:`point_ops._triton_groups` says. Sums run in float32 over at most `STEP` rows
and in float64 beyond. They are cut into parts by the shapes alone, and merged in order instead of
by atomic additions: the same rows give the same bits. Nothing is read back to the host and no shape
depends on a value, so a CUDA graph can hold all of it.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,import-untyped"

from __future__ import annotations

import math
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._triton_groups import TILE, Lanes, here, load_wide

PARTS = 512  # at most as many sums of a channel are merged
STEP = 32  # rows that are summed in float32
FIRST = 8  # rows that give the shift of the others


@triton.jit
def _moments(
    rows, shared, weight, partial, groups, c, span,
    K: tl.constexpr, SHARED: tl.constexpr, FIRST: tl.constexpr, STEP: tl.constexpr,
    LANES: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """partial (parts, 2, c): mean and summed squared deviations of `span` groups each."""
    T: tl.constexpr = weight.dtype.element_ty
    part, col = here(c, COLS)
    lane = tl.arange(0, LANES)
    first = part * span
    end = tl.minimum(first + span, groups)
    known = (col < c)[None, :]
    # Each lane shifts its rows by the mean of its first ones, which is near enough to that of all
    # for the subtraction at the end.
    group = (first + lane).to(tl.int64)[:, None]
    inside = (group < end) & known
    add = tl.zeros([LANES, COLS], T)
    if SHARED:
        add = load_wide(shared, group * c + col[None, :], inside, T)
    shift = tl.zeros([LANES, COLS], T)
    for i in tl.static_range(FIRST):
        shift += load_wide(rows, (group * K + i) * c + col[None, :], inside, T) + add
    shift = shift / FIRST
    total = tl.zeros([LANES, COLS], tl.float64)
    square = tl.zeros([LANES, COLS], tl.float64)
    for base in range(first, end, LANES):
        group = (base + lane).to(tl.int64)[:, None]
        inside = (group < end) & known
        if SHARED:
            add = load_wide(shared, group * c + col[None, :], inside, T)
        for begin in range(0, K, STEP):
            some = tl.zeros([LANES, COLS], T)
            squares = tl.zeros([LANES, COLS], T)
            for j in tl.range(begin, tl.minimum(begin + STEP, K), loop_unroll_factor=4):
                x = load_wide(rows, (group * K + j) * c + col[None, :], inside, T) + add
                x = tl.where(inside, x - shift, 0.0)
                some += x
                squares += x * x
            total += some.to(tl.float64)
            square += squares.to(tl.float64)
    # Moments of the lanes, merged (Chan, Golub and LeVeque).
    count = (K * ((end - first - lane + LANES - 1) // LANES)).to(tl.float64)[:, None]
    off = total / tl.maximum(count, 1.0)
    square = square - off * total
    square = tl.where(square < 0, 0.0, square)  # a NaN stays one
    means = shift.to(tl.float64) + off
    mean = tl.sum(means * count, axis=0) / (K * (end - first))
    gap = means - mean[None, :]
    to = partial + part.to(tl.int64) * 2 * c + col
    tl.store(to, mean, mask=col < c)
    tl.store(to + c, tl.sum(square + count * gap * gap, axis=0), mask=col < c)


@triton.jit
def _settle(
    partial, weight, bias, mean, variance, factors, parts, groups, c, span,
    EPS: tl.constexpr, K: tl.constexpr, BLOCK: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """mean (c) and variance (c) of all parts; factors (2, c): scale and offset of the map."""
    T: tl.constexpr = weight.dtype.element_ty
    col = tl.program_id(0) * COLS + tl.arange(0, COLS)
    known = col < c
    whole = tl.zeros([COLS], tl.float64)
    for base in range(0, parts, BLOCK):
        part = base + tl.arange(0, BLOCK)
        inside = (part < parts)[:, None] & known[None, :]
        count = K * tl.maximum(tl.minimum(span, groups - part * span), 0)
        at = part.to(tl.int64)[:, None] * 2 * c + col[None, :]
        means = tl.load(partial + at, mask=inside, other=0.0)
        whole += tl.sum(means * count[:, None], axis=0)
    rows = groups * K
    whole = whole / rows
    square = tl.zeros([COLS], tl.float64)
    for base in range(0, parts, BLOCK):
        part = base + tl.arange(0, BLOCK)
        inside = (part < parts)[:, None] & known[None, :]
        count = K * tl.maximum(tl.minimum(span, groups - part * span), 0)
        at = part.to(tl.int64)[:, None] * 2 * c + col[None, :]
        gap = tl.load(partial + at, mask=inside, other=0.0) - whole[None, :]
        some = tl.load(partial + at + c, mask=inside, other=0.0) + gap * gap * count[:, None]
        square += tl.sum(some, axis=0)
    square = square / rows
    inverse = 1.0 / tl.sqrt(square + EPS)
    scale = tl.load(weight + col, mask=known, other=0.0).to(tl.float64) * inverse
    narrow = whole.to(T)
    # The mean as it is subtracted is rounded; what that lost goes into the offset.
    offset = tl.load(bias + col, mask=known, other=0.0).to(tl.float64)
    offset -= (whole - narrow.to(tl.float64)) * scale
    tl.store(mean + col, narrow, mask=known)
    tl.store(variance + col, square.to(T), mask=known)
    tl.store(factors + col, scale.to(T), mask=known)
    tl.store(factors + c + col, offset.to(T), mask=known)


@triton.jit
def _normalise(
    rows, shared, kept, mean, variance, weight, bias, factors, out, outputs, groups, c,
    EPS: tl.constexpr, K: tl.constexpr, SHARED: tl.constexpr, KEPT: tl.constexpr,
    FIXED: tl.constexpr, RELU: tl.constexpr, LANES: tl.constexpr, COLS: tl.constexpr,
):  # fmt: skip
    """out: the map of the rows of the groups that are kept; FIXED: by mean, variance, weight and
    bias, else by mean and factors. A group that does not exist gives NaN."""
    T: tl.constexpr = mean.dtype.element_ty
    tile, col = here(c, COLS)
    known = col < c
    place = (tile * LANES + tl.arange(0, LANES)).to(tl.int64)
    wanted = (place < outputs)[:, None] & known[None, :]
    inside = wanted
    group = place
    if KEPT:
        group = tl.load(kept + place, mask=place < outputs, other=0)
        inside = wanted & ((group >= 0) & (group < groups))[:, None]
    if FIXED:
        spread = tl.load(variance + col, mask=known, other=1.0).to(tl.float64) + EPS
        scale = tl.load(weight + col, mask=known, other=0.0).to(tl.float64) / tl.sqrt(spread)
        scale = scale.to(T)
        offset = tl.load(bias + col, mask=known, other=0.0)
    else:
        scale = tl.load(factors + col, mask=known, other=0.0)
        offset = tl.load(factors + c + col, mask=known, other=0.0)
    middle = tl.load(mean + col, mask=known, other=0.0)
    add = tl.zeros([LANES, COLS], T)
    if SHARED:
        add = load_wide(shared, group[:, None] * c + col[None, :], inside, T)
    for j in range(K):
        x = load_wide(rows, (group[:, None] * K + j) * c + col[None, :], inside, T) + add
        y = (x - middle[None, :]) * scale[None, :] + offset[None, :]
        if RELU:
            y = tl.where(y <= 0, 0.0, y)  # a NaN stays one
        if KEPT:
            y = tl.where(inside, y, float("nan"))
        to = (place[:, None] * K + j) * c + col[None, :]
        tl.store(out + to, y.to(out.dtype.element_ty), mask=wanted)


# --- launches ------------------------------------------------------------------------------


class Rows:
    """The rows of a normalisation, and what their groups share and which are kept, where given.

    Args:
        rows, shared, kept, group: as of the operator.
    """

    def __init__(
        self, rows: Tensor, shared: Tensor | None, kept: Tensor | None, group: int
    ) -> None:
        self.rows = rows.contiguous()
        # what a kernel does not read may be any tensor
        self.shared = self.rows if shared is None else shared.contiguous()
        self.kept = self.rows if kept is None else kept.contiguous()
        n, self.c = rows.shape
        # groups that share nothing and are all kept may as well be others
        members = math.gcd(n, STEP) if shared is None and kept is None else group
        self.members, self.groups = members, n // members
        self.outputs = self.groups if kept is None else kept.shape[0]  # groups
        self.flags = {"SHARED": shared is not None, "KEPT": kept is not None}
        self.sums = Lanes(rows, self.c, members)
        # A row is read, and written elsewhere, before the next one is read: so more are at once.
        self.maps = Lanes(rows, self.c, members, 2 * TILE)

    def parts(self, groups: int) -> tuple[int, int]:
        """Parts in which groups are summed, and the number of groups of one."""
        span = max(1, triton.cdiv(self.sums.tiles(groups), PARTS)) * self.sums.count
        return triton.cdiv(groups, span), span

    def by_channel(self, kernel: Any, parts: int, *args: Any, **how: Any) -> None:
        """Launch a program for every 16 columns, over all parts."""
        block = min(256, max(16, triton.next_power_of_2(parts)))
        how |= {"BLOCK": block, "COLS": 16, "num_warps": max(1, block // 32)}
        self.sums.start(kernel, triton.cdiv(self.c, 16), *args, **how)


def norm_relu(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    eps: float,
    shared: Tensor | None,
    kept: Tensor | None,
    group: int,
    relu: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """Three launches. Arguments and result as the operator."""
    x, weight, bias = Rows(rows, shared, kept, group), weight.contiguous(), bias.contiguous()
    c, groups, (parts, span) = x.c, x.groups, x.parts(x.groups)
    out = rows.new_empty(x.outputs * x.members, c)
    mean, variance, factors = weight.new_empty(c), weight.new_empty(c), weight.new_empty(2, c)
    partial = rows.new_empty(parts, 2, c, dtype=torch.float64)
    x.sums.launch(
        _moments, parts, x.rows, x.shared, weight, partial, groups, c, span,
        SHARED=x.flags["SHARED"], FIRST=min(FIRST, x.members), STEP=STEP,
    )  # fmt: skip
    x.by_channel(
        _settle, parts, partial, weight, bias, mean, variance, factors, parts, groups, c, span,
        EPS=eps, K=x.members,
    )  # fmt: skip
    x.maps.launch(
        _normalise, x.maps.tiles(x.outputs), x.rows, x.shared, x.kept, mean, variance, weight,
        bias, factors, out, x.outputs, groups, c, EPS=eps, FIXED=False, RELU=relu, **x.flags,
    )  # fmt: skip
    return out, mean, variance


def norm_relu_fixed(
    rows: Tensor,
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    variance: Tensor,
    eps: float,
    shared: Tensor | None,
    group: int,
) -> Tensor:
    """One launch. Arguments and result as the operator."""
    x, weight, bias = Rows(rows, shared, None, group), weight.contiguous(), bias.contiguous()
    mean, variance, out = mean.contiguous(), variance.contiguous(), torch.empty_like(x.rows)
    x.maps.launch(
        _normalise, x.maps.tiles(x.groups), x.rows, x.shared, x.kept, mean, variance, weight,
        bias, weight, out, x.groups, x.groups, x.c, EPS=eps, FIXED=True, RELU=True, **x.flags,
    )  # fmt: skip
    return out


def batch_norm(
    rows: Tensor, weight: Tensor, bias: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As :func:`norm_relu`, of rows alone and not cut off."""
    return norm_relu(rows, weight, bias, eps, None, None, 1, False)
