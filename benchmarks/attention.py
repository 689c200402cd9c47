"""Attention beside torch's operators, for `benchmarks/point_ops.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import point_ops as po
import torch

from benchmarks.patches import Case


def bench_attention(case: Case, close: Callable[[Any, Any], str]) -> None:
    """64 tokens in 6 heads of 64, as published."""
    shape = (32, 64, 3 * 384)
    for dtype in (torch.bfloat16, torch.float32):
        qkv = torch.randn(shape, generator=torch.Generator().manual_seed(0)).to(dtype)
        qkv.requires_grad_()
        flow = torch.ones(32, 64, 384, dtype=dtype)

        def train(out: torch.Tensor, x: torch.Tensor = qkv, flow: torch.Tensor = flow) -> Any:
            return out.detach().float(), torch.autograd.grad(out, x, flow)[0].float()

        def sorted_by_heads(x: torch.Tensor = qkv) -> Any:
            return x.unflatten(-1, (3, 6, 64)).permute(2, 0, 3, 1, 4).contiguous().unbind(0)

        def products() -> Any:
            q, k, v = sorted_by_heads()
            mixed = ((q @ k.transpose(-2, -1)) * 0.125).softmax(-1) @ v
            return train(mixed.transpose(1, 2).flatten(2))

        def fused() -> Any:
            mixed = torch.nn.functional.scaled_dot_product_attention(*sorted_by_heads())
            return train(mixed.transpose(1, 2).flatten(2))

        def ours(x: torch.Tensor = qkv) -> Any:
            return train(po.attention(x, 6))

        others = {"torch products": products, "torch SDPA": fused}
        kind = str(dtype).removeprefix("torch.")
        case(f"attention, fwd + bwd, 32 x 64, 6 heads of 64, {kind}", ours, others, close)
