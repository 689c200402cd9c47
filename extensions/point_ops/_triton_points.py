"""Triton kernels for the GPU: sampling, neighbours, ball query, nearest point.

Imported at the first call with a CUDA tensor, since importing triton takes time. Distances are
summed x, y, z without fused multiply-add, as on the CPU, so that ties fall alike. Grids have one
axis: CUDA allows 2^31 - 1 blocks on the first one, and 65 535 on the others. Every kernel runs on
the CPU under ``TRITON_INTERPRET=1``; the tests execute them so.
"""
# mypy: disable-error-code="no-untyped-def,untyped-decorator,no-untyped-call,import-untyped"

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
import triton
import triton.language as tl
from torch import Tensor

WIDEST = 16384  # points of a cloud that one program holds in registers
KNN_WIDEST, KNN_MOST = 4096, 64


def _on(tensor: Tensor) -> AbstractContextManager[object]:
    """Launches must happen on the device of the tensors; the interpreter has none."""
    return torch.cuda.device(tensor.device) if tensor.is_cuda else nullcontext()


def _warps(block: int) -> int:
    return max(1, min(16, block // 256))


@triton.jit
def _fps(points, start, lengths, out, n, s, HAS_LENGTHS: tl.constexpr, BLOCK: tl.constexpr):
    b = tl.program_id(0).to(tl.int64)
    at = tl.arange(0, BLOCK)
    valid = n
    if HAS_LENGTHS:
        valid = tl.minimum(tl.maximum(tl.load(lengths + b), 1), n).to(tl.int32)
    cloud = points + b * n * 3
    inside = at < valid
    x = tl.load(cloud + at * 3, mask=inside, other=0.0)
    y = tl.load(cloud + at * 3 + 1, mask=inside, other=0.0)
    z = tl.load(cloud + at * 3 + 2, mask=inside, other=0.0)
    limit = float("inf")
    finite = (tl.abs(x) < limit) & (tl.abs(y) < limit) & (tl.abs(z) < limit)
    nearest = tl.where(inside & finite, limit, -1.0).to(x.dtype)
    last = tl.minimum(tl.maximum(tl.load(start + b), 0), valid - 1).to(tl.int32)
    for i in range(s):
        tl.store(out + b * s + i, last.to(tl.int64))
        dx = x - tl.load(cloud + last * 3)
        dy = y - tl.load(cloud + last * 3 + 1)
        dz = z - tl.load(cloud + last * 3 + 2)
        d = dx * dx + dy * dy + dz * dz
        nearest = tl.where(d < nearest, d, nearest)  # false for NaN
        last = tl.argmax(nearest, axis=0, tie_break_left=True).to(tl.int32)


@triton.jit
def _knn(queries, points, sqdist, idx, m, n, d, k, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    b = row // m
    at = tl.arange(0, BLOCK)
    inside = at < n
    total = tl.zeros([BLOCK], dtype=tl.float32)
    for axis in range(d):
        p = tl.load(points + (b * n + at) * d + axis, mask=inside, other=0.0)
        delta = p - tl.load(queries + row * d + axis)
        total += delta * delta
    limit = float("inf")
    total = tl.where(total < limit, total, limit)
    # The bits of a non-negative float order like the float: one integer holds (distance, index).
    key = (total.to(tl.int32, bitcast=True).to(tl.int64) << 32) | at.to(tl.int64)
    used = tl.full([BLOCK], 0x7FFFFFFFFFFFFFFF, dtype=tl.int64)
    key = tl.where(inside, key, used)
    for j in range(k):
        best = tl.min(key, axis=0)
        tl.store(idx + row * k + j, best & 0xFFFFFFFF)
        tl.store(sqdist + row * k + j, (best >> 32).to(tl.int32).to(tl.float32, bitcast=True))
        key = tl.where(key == best, used, key)


@triton.jit
def _ball(queries, points, out, m, n, k, limit, TILE: tl.constexpr, FILL: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    cloud = points + (row // m) * n * 3
    qx = tl.load(queries + row * 3)
    qy = tl.load(queries + row * 3 + 1)
    qz = tl.load(queries + row * 3 + 2)
    radius = tl.load(limit)
    count = 0
    first = n
    for base in range(0, n, TILE):
        at = base + tl.arange(0, TILE)
        ok = at < n
        dx = qx - tl.load(cloud + at * 3, mask=ok, other=0.0)
        dy = qy - tl.load(cloud + at * 3 + 1, mask=ok, other=0.0)
        dz = qz - tl.load(cloud + at * 3 + 2, mask=ok, other=0.0)
        inside = (dx * dx + dy * dy + dz * dz < radius) & ok
        place = count + tl.cumsum(inside.to(tl.int32), axis=0) - 1
        tl.store(out + row * k + place, at.to(tl.int64), mask=inside & (place < k))
        count += tl.sum(inside.to(tl.int32), axis=0)
        first = tl.minimum(first, tl.min(tl.where(inside, at, n), axis=0))
    first = tl.where(first == n, 0, first)
    for base in range(0, k, FILL):
        place = base + tl.arange(0, FILL)
        padding = tl.zeros([FILL], dtype=tl.int64) + first
        tl.store(out + row * k + place, padding, mask=(place >= count) & (place < k))


@triton.jit
def _nearest(a, b, sqdist, idx, n, m, ROWS: tl.constexpr, TILE: tl.constexpr):
    blocks = tl.cdiv(n, ROWS)  # programs of a cloud
    program = tl.program_id(0)
    cloud = (program // blocks).to(tl.int64)
    row = (program % blocks) * ROWS + tl.arange(0, ROWS)
    mine = row < n
    one = a + (cloud * n + row) * 3
    other = b + cloud * m * 3
    x = tl.load(one, mask=mine, other=0.0)[:, None]
    y = tl.load(one + 1, mask=mine, other=0.0)[:, None]
    z = tl.load(one + 2, mask=mine, other=0.0)[:, None]
    limit = float("inf")
    best = tl.full([ROWS], limit, dtype=x.dtype)
    at = tl.zeros([ROWS], dtype=tl.int32)
    for base in range(0, m, TILE):
        column = base + tl.arange(0, TILE)
        ok = column < m
        dx = x - tl.load(other + column * 3, mask=ok, other=0.0)[None, :]
        dy = y - tl.load(other + column * 3 + 1, mask=ok, other=0.0)[None, :]
        dz = z - tl.load(other + column * 3 + 2, mask=ok, other=0.0)[None, :]
        d = dx * dx + dy * dy + dz * dz
        d = tl.where((d < limit) & ok[None, :], d, limit)
        value, where = tl.min(d, axis=1, return_indices=True, return_indices_tie_break_left=True)
        closer = value < best
        at = tl.where(closer, (base + where).to(tl.int32), at)
        best = tl.where(closer, value, best)
    tl.store(sqdist + cloud * n + row, best, mask=mine)
    tl.store(idx + cloud * n + row, at.to(tl.int64), mask=mine)


def fps(points: Tensor, start: Tensor, lengths: Tensor | None, n_samples: int) -> Tensor:
    """One program a cloud; for clouds of at most `WIDEST` points. Arguments as the operator."""
    points = points.contiguous()
    batch, n, _ = points.shape
    out = torch.empty(batch, n_samples, dtype=torch.int64, device=points.device)
    if batch == 0:
        return out
    block = max(16, triton.next_power_of_2(n))
    ends = start if lengths is None else lengths
    with _on(points):
        _fps[(batch,)](
            points, start.contiguous(), ends.contiguous(), out, n, n_samples,
            HAS_LENGTHS=lengths is not None, BLOCK=block, num_warps=_warps(block),
            enable_fp_fusion=False,
        )  # fmt: skip
    return out


def knn(queries: Tensor, points: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """One program a query; float32, at most `KNN_WIDEST` points and `KNN_MOST` neighbours."""
    queries, points = queries.contiguous(), points.contiguous()
    batch, m, d = queries.shape
    n = points.shape[1]
    sqdist = queries.new_empty(batch, m, k)
    idx = queries.new_empty((batch, m, k), dtype=torch.int64)
    if batch * m:
        block = max(16, triton.next_power_of_2(n))
        with _on(points):
            _knn[(batch * m,)](
                queries, points, sqdist, idx, m, n, d, k,
                BLOCK=block, num_warps=min(8, _warps(block)), enable_fp_fusion=False,
            )  # fmt: skip
    return sqdist, idx


def ball_query(queries: Tensor, points: Tensor, radius: float, k: int) -> Tensor:
    """One program a query, over tiles of the points. Arguments as the operator."""
    queries, points = queries.contiguous(), points.contiguous()
    batch, m, _ = queries.shape
    n = points.shape[1]
    out = torch.empty(batch, m, k, dtype=torch.int64, device=points.device)
    limit = torch.tensor(radius, dtype=queries.dtype)
    limit = (limit * limit).to(queries.device)
    if batch * m:
        tile = min(1024, max(16, triton.next_power_of_2(n)))
        with _on(points):
            _ball[(batch * m,)](
                queries, points, out, m, n, k, limit,
                TILE=tile, FILL=64, num_warps=_warps(tile), enable_fp_fusion=False,
            )  # fmt: skip
    return out


def nearest(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """For each point of a (B, N, 3) the nearest of b (B, M, 3): squared distance and index."""
    a, b = a.contiguous(), b.contiguous()
    batch, n, _ = a.shape
    m = b.shape[1]
    sqdist = a.new_empty(batch, n)
    idx = a.new_empty((batch, n), dtype=torch.int64)
    if batch:
        rows, tile = (32, 32) if n <= 64 else (64, 64)
        with _on(a):
            _nearest[(batch * triton.cdiv(n, rows),)](
                a, b, sqdist, idx, n, m,
                ROWS=rows, TILE=tile, num_warps=4, enable_fp_fusion=False,
            )  # fmt: skip
    return sqdist, idx


def chamfer(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Both directions. Arguments and result as the operator."""
    dist_ab, idx_ab = nearest(a, b)
    dist_ba, idx_ba = nearest(b, a)
    return dist_ab, dist_ba, idx_ab, idx_ba
