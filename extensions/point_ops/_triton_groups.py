"""Triton kernels for the GPU: the largest row of every group, channel by channel, and its gradient;
and how kernels over groups of rows share their work.

A program works on some columns of a few groups at once. Each of its lanes goes through the members
of one group, row after row: neighbouring threads read neighbouring columns, what a group shares is
read once, and nothing passes between threads. See :mod:`point_ops._triton_points` for the rest.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,import-untyped"

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from ._triton_points import _on

TILE = 1024  # values of each tensor that a program reads at once: lanes times columns
_BITS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


@triton.jit
def here(c, COLS: tl.constexpr):
    """Which groups a program works on, and its columns. Those of the same groups run together."""
    blocks = tl.cdiv(c, COLS)
    program = tl.program_id(0)
    return program // blocks, (program % blocks) * COLS + tl.arange(0, COLS)


@triton.jit
def load_wide(rows, at, inside, DTYPE: tl.constexpr):
    return tl.load(rows + at, mask=inside, other=0.0).to(DTYPE)


class Lanes:
    """How a kernel over groups of `members` rows of `c` columns is cut into programs.

    Kernels take ``K``, ``LANES`` and ``COLS``: members, groups at once and columns at once.
    """

    def __init__(self, on: Tensor, c: int, members: int, values: int = TILE) -> None:
        """`on`: any tensor on the device of the others; `values`: of a tensor at once."""
        self._on = on
        cols = min(128, max(16, triton.next_power_of_2(c)))
        self.count, self._blocks = values // cols, triton.cdiv(c, cols)
        self._sizes = {"K": members, "LANES": self.count, "COLS": cols, "num_warps": 4}

    def tiles(self, groups: int) -> int:
        """Runs of as many groups as there are lanes."""
        return int(triton.cdiv(groups, self.count))

    def launch(self, kernel: Any, turns: int, *args: Any, **how: Any) -> None:
        """A program for each of `turns` tiles or parts of groups and each block of columns."""
        self.start(kernel, turns * self._blocks, *args, **self._sizes, **how)

    def start(self, kernel: Any, programs: int, *args: Any, **how: Any) -> None:
        """`programs` of any kernel; where there are none, nothing."""
        if programs:
            with _on(self._on):
                kernel[(programs,)](*args, **how)


@triton.jit
def _largest(
    rows, values, index, groups, c, K: tl.constexpr, LANES: tl.constexpr, COLS: tl.constexpr
):
    """values (groups, c) and index (groups, c): a NaN is larger than any number."""
    turn, col = here(c, COLS)
    group = (turn * LANES + tl.arange(0, LANES)).to(tl.int64)[:, None]
    inside = (group < groups) & (col < c)[None, :]
    DTYPE: tl.constexpr = rows.dtype.element_ty
    T: tl.constexpr = tl.float64 if DTYPE.is_fp64() else tl.float32
    best = tl.load(rows + (group * K * c + col[None, :]), mask=inside, other=0.0).to(T)
    at = tl.zeros([LANES, COLS], tl.int32)
    for j in tl.range(1, K, loop_unroll_factor=4):
        x = tl.load(rows + ((group * K + j) * c + col[None, :]), mask=inside, other=0.0).to(T)
        wins = (x > best) | ((x != x) & (best == best))
        best = tl.where(wins, x, best)
        at = tl.where(wins, j, at)
    to = group * c + col[None, :]
    tl.store(values + to, best.to(DTYPE), mask=inside)
    tl.store(index + to, at.to(tl.int16), mask=inside)


@triton.jit
def _place(grad, index, out, groups, c, K: tl.constexpr, LANES: tl.constexpr, COLS: tl.constexpr):
    """out (groups, K, c): grad (groups, c) in the rows that index names, 0 elsewhere. As bits."""
    turn, col = here(c, COLS)
    group = (turn * LANES + tl.arange(0, LANES)).to(tl.int64)[:, None]
    inside = (group < groups) & (col < c)[None, :]
    from_ = group * c + col[None, :]
    at = tl.load(index + from_, mask=inside, other=0)
    flow = tl.load(grad + from_, mask=inside, other=0)
    for j in tl.range(K, loop_unroll_factor=4):
        to = (group * K + j) * c + col[None, :]
        tl.store(out + to, tl.where(at == j, flow, 0), mask=inside)


def group_max(rows: Tensor) -> tuple[Tensor, Tensor]:
    """One launch. Argument and result as the operator."""
    rows = rows.contiguous()
    groups, k, c = rows.shape
    values = rows.new_empty(groups, c)
    index = rows.new_empty((groups, c), dtype=torch.int16)
    use = Lanes(rows, c, k)
    use.launch(_largest, use.tiles(groups), rows, values, index, groups, c)
    return values, index


def group_max_backward(grad: Tensor, index: Tensor, size: int) -> Tensor:
    """One launch that writes every value once. Arguments and result as the operator."""
    groups, c = grad.shape
    out = grad.new_empty(groups, size, c)
    bits, use = _BITS[grad.dtype], Lanes(grad, c, size)
    flow, to = grad.contiguous().view(bits), out.view(bits)
    use.launch(_place, use.tiles(groups), flow, index.contiguous(), to, groups, c)
    return out
