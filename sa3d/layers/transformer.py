"""Transformer stacks in which the position embedding is added before every block."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch
from timm.layers.attention import Attention
from timm.models.vision_transformer import Block
from torch import Tensor, nn

Init = Literal["trunc_normal", "xavier"]


class DeviceAttention(Attention):
    """timm's attention, with the faster of its two forms for the device of the input.

    On the CPU the fused form is a loss at these sizes (64 tokens, heads of 64: explicit
    matrix products take a fifth of its time); on a GPU it wins. The explicit one is our own: it
    sorts queries, keys and values by heads in one copy, where timm's makes three.
    """

    def forward(
        self, x: Tensor, attn_mask: Tensor | None = None, is_causal: bool = False
    ) -> Tensor:
        """(B, n, C) -> (B, n, C)."""
        if x.device.type != "cpu" or is_causal:
            return super().forward(x, attn_mask, is_causal)
        batch, count, _ = x.shape
        heads = self.qkv(x).view(batch, count, 3, self.num_heads, self.head_dim)
        queries, keys, values = heads.permute(2, 0, 3, 1, 4).contiguous().unbind(0)
        weights = (queries @ keys.transpose(-2, -1)).mul_(self.scale)
        if attn_mask is not None:
            weights = weights + attn_mask
        mixed = weights.softmax(-1) @ values
        projected: Tensor = self.proj(mixed.transpose(1, 2).reshape(batch, count, -1))
        return projected


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
        self.blocks = nn.ModuleList(
            Block(
                dim,
                heads,
                drop_path=rate,
                norm_layer=nn.LayerNorm,  # timm's own default has eps 1e-6
                attn_layer=DeviceAttention,
            )
            for rate in rates
        )
        init_weights(self, init)

    def forward(self, x: Tensor, pos: Tensor, attend: Tensor | None = None) -> Tensor:
        """Run the blocks; the result is not normalised.

        Args:
            x, pos: (B, n, C).
            attend: bool, broadcast to (B, n, n): True where a token (row) sees another
                (column); at least one in every row. None: all see all.

        Returns:
            (B, n, C).
        """
        if attend is not None:
            attend = attend.unsqueeze(1)
            if x.device.type == "cpu":  # the explicit form adds; made once for all blocks
                bias = torch.zeros(attend.shape, device=attend.device)
                attend = bias.masked_fill_(~attend, float("-inf"))
        for block in self.blocks:
            x = block(x + pos, attn_mask=attend)
        return x


def token(dim: int) -> nn.Parameter:
    """A learnable token (1, 1, C), truncated normal with s.d. 0.02."""
    value = nn.Parameter(torch.empty(1, 1, dim))
    nn.init.trunc_normal_(value, std=0.02)
    return value
