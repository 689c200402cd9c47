"""The patch embedding's kernels beside torch's operators, for `benchmarks/point_ops.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import point_ops as po
import torch

Case = Callable[..., None]  # name, our form, other forms by name, how results are compared


def beside(ours: Any, other: Any) -> str:
    """The worst difference, each as a share of the largest value of its tensor."""
    pairs = zip(ours, other, strict=True)
    worst = max(((o - t).abs().max() / t.abs().max()).item() for o, t in pairs)
    return f"to {worst:.0e} of the largest"


def bench_patches(case: Case, device: str = "cuda", clouds: int = 128, width: int = 512) -> None:
    """The element-wise half of a patch embedding in bfloat16, 64 patches of 32 points a cloud."""
    groups, size = 64 * clouds, 32
    draw = torch.Generator(device).manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        values = torch.randn(*shape, generator=draw, device=device)
        return values.bfloat16().requires_grad_()

    rows, shared = normal(groups * size, width), normal(groups, width)
    weight, bias = torch.ones(width, device=device), torch.zeros(width, device=device)
    for tensor in (weight, bias):
        tensor.requires_grad_()
    kept = torch.randperm(groups, generator=draw, device=device)[: groups * 2 // 5]
    leaves = (rows, weight, bias, shared)
    flow = normal(len(kept) * size, width).detach()

    def train(out: torch.Tensor) -> Any:
        return out.detach(), *torch.autograd.grad(out, leaves, flow)

    def fused() -> Any:
        return train(po.norm_relu(rows, weight, bias, group=size, shared=shared, kept=kept).out)

    def apart() -> Any:
        whole = (rows.view(groups, size, width) + shared.unsqueeze(1)).flatten(0, 1)
        out = torch.nn.functional.batch_norm(whole, None, None, weight, bias, True).relu()
        return train(out.view(groups, size, width).index_select(0, kept).flatten(0, 1))

    shape = f"{groups} x {size} x {width}"
    case(f"norm_relu, fwd + bwd, {shape}", fused, {"torch operators": apart}, beside)
    members, gradient = rows.view(groups, size, width), shared.detach()

    def maxima(largest: Callable[[torch.Tensor], torch.Tensor]) -> Any:
        out = largest(members)
        return out.detach(), torch.autograd.grad(out, rows, gradient)[0]

    ours, peer = lambda: maxima(po.group_max), lambda: maxima(lambda x: x.max(1).values)
    case(f"group_max, fwd + bwd, {shape}", ours, {"torch max": peer}, beside)
