"""Transformer stacks in which the position embedding is added before every block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import point_ops
import torch
from torch import Tensor, nn
from torch.nn import functional

Init = Literal["trunc_normal", "xavier"]


class Attention(nn.Module):
    """Self-attention, by our kernel on the CPU and by torch's on a GPU.

    Torch's own form is slow on the CPU at these sizes (64 tokens, heads of 64).

    Args:
        dim: C.
        heads: attention heads; they divide C.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"dim={dim} is no multiple of heads={heads}")
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, attend: Tensor | None = None, last: int | None = None) -> Tensor:
        """(B, n, C) -> (B, n, C), or (B, last, C) of as many tokens at the end.

        Args:
            attend: broadcast to (B, n, n) and added to the scores of attention; elsewhere than
                on the CPU it may be bool: True where a token sees another.
        """
        rows = self.qkv(x)
        if x.is_cpu and rows.dtype != torch.float16 and not torch.compiler.is_exporting():
            mixed = point_ops.attention(rows, self.heads, attend)
        else:
            mixed = fused(rows, self.heads, attend)
        joined: Tensor = self.proj(mixed if last is None else mixed[:, x.shape[1] - last :])
        return joined


def fused(rows: Tensor, heads: int, attend: Tensor | None) -> Tensor:
    """Attention as one kernel of torch; see :func:`point_ops.attention`."""
    parts = torch.unflatten(rows, -1, (3, heads, -1)).permute(2, 0, 3, 1, 4)  # (3, B, heads, n, D)
    q, k, v = parts.unbind(0)
    attend = None if attend is None else attend.unsqueeze(1)
    mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=attend)
    return mixed.transpose(1, 2).flatten(2)


class DropPath(nn.Module):
    """Stochastic depth: in training a branch is left out of some clouds of a batch, and counts
    accordingly more in the others.

    Args:
        rate: share of the clouds that it is left out of.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, C) -> (B, n, C)."""
        if not self.training or self.rate == 0.0:
            return x
        kept = x.new_empty(x.shape[0], 1, 1).bernoulli_(1.0 - self.rate)
        return x * kept.div_(1.0 - self.rate)


class MLP(nn.Module):
    """Two layers with GELU between them; the hidden one is four times as wide."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(4 * dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, n, C) -> (B, n, C)."""
        widened: Tensor = self.fc2(self.act(self.fc1(x)))
        return widened


class Block(nn.Module):
    """Attention, then an MLP, each on normalised tokens and added to what came in.

    The names and the order of its parts are those of timm's block, so that published weights
    fit; timm itself is not used because importing it takes seconds.

    Args:
        dim: C.
        heads: attention heads.
        rate: of stochastic depth, for both branches.
    """

    def __init__(self, dim: int, heads: int, rate: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attn = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = MLP(dim)
        self.drop_path = DropPath(rate)

    def forward(self, x: Tensor, attend: Tensor | None = None, last: int | None = None) -> Tensor:
        """(B, n, C) -> (B, n, C), or (B, last, C); see :class:`Attention`."""
        mixed = self.attn(self.norm1(x), attend, last)
        x = (x if last is None else x[:, x.shape[1] - last :]) + self.drop_path(mixed)
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x


def init_weights(module: nn.Module, how: Init) -> None:
    """Weights of every Linear below ``module``; biases 0.

    ``trunc_normal`` with s.d. 0.02 for encoders, ``xavier`` uniform for decoders, as in the
    Point-MAE code.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            if how == "trunc_normal":
                nn.init.trunc_normal_(layer.weight, std=0.02)
            else:
                nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def drop_rates(largest: float, depth: int) -> list[float]:
    """Stochastic-depth rates of ``depth`` blocks, rising linearly from 0."""
    rates: list[float] = torch.linspace(0.0, largest, depth, device="cpu").tolist()
    return rates


class Stack(nn.Module):
    """Pre-norm blocks; ``x <- block(x + pos)`` for each (Point-MAE code).

    qkv without bias, MLP ratio 4, GELU, LayerNorm eps 1e-5.

    Args:
        dim: C.
        rates: stochastic-depth rate of each block (:func:`drop_rates`).
        heads: attention heads.
        init: see :func:`init_weights`.
    """

    def __init__(self, dim: int, rates: Sequence[float], heads: int, init: Init) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(dim, heads, rate) for rate in rates)
        init_weights(self, init)

    def forward(
        self, x: Tensor, pos: Tensor, attend: Tensor | None = None, last: int | None = None
    ) -> Tensor:
        """Run the blocks; the result is not normalised.

        Args:
            x, pos: (B, n, C).
            attend: bool, broadcast to (B, n, n): True where a token (row) sees another
                (column); at least one in every row. None: all see all.
            last: how many tokens at the end are wanted; the last block sees all and computes
                those alone. None: all.

        Returns:
            (B, n, C) or (B, last, C).
        """
        if attend is not None and x.is_cpu:  # our kernel adds; made once for all blocks
            dtype = torch.float64 if x.dtype == torch.float64 else torch.float32
            bias = torch.zeros(attend.shape, dtype=dtype)
            attend = bias.masked_fill_(~attend, float("-inf"))
        *blocks, top = self.blocks
        for block in blocks:
            x = block(x + pos, attend)
        wanted: Tensor = top(x + pos, attend, last)
        return wanted


def token(dim: int) -> nn.Parameter:
    """A learnable token (1, 1, C), truncated normal with s.d. 0.02."""
    value = nn.Parameter(torch.empty(1, 1, dim))
    nn.init.trunc_normal_(value, std=0.02)
    return value
