"""AdamW with the right parameter groups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sa3d.config.optim import OptimConfig


def parameter_groups(
    model: nn.Module,
    weight_decay: float,
    *,
    exempt: set[str] | frozenset[str] = frozenset(),
    layers: Mapping[str, int] | None = None,
    layer_decay: float = 1.0,
) -> list[dict[str, Any]]:
    """Parameters that want a gradient, grouped by weight decay and learning-rate scale.

    Weight decay spares 1-D parameters (biases, norms) and those named in ``exempt``; names are
    exact, because matching the substring "token" would also spare whole embedding matrices.

    Args:
        model: its ``named_parameters`` with ``requires_grad``.
        weight_decay: of the rest.
        exempt: exact names of further parameters without weight decay.
        layers: layer of each parameter, 0 = embedding; the topmost layer keeps the whole
            rate, each one below it ``layer_decay`` times that of the one above. A parameter
            that is not named belongs to the topmost layer.
        layer_decay: 1 = the same rate everywhere.

    Raises:
        ValueError: ``exempt`` or ``layers`` names what the model does not have.
    """
    trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
    known = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    layers = layers or {}
    if unknown := (set(exempt) | set(layers)) - known:
        raise ValueError(f"no parameters named {sorted(unknown)}")
    top = max(layers.values(), default=0)
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for name, parameter in trained.items():
        decay = 0.0 if parameter.ndim <= 1 or name in exempt else weight_decay
        scale = layer_decay ** (top - layers.get(name, top))
        groups.setdefault((decay, scale), []).append(parameter)
    return [
        {"params": members, "weight_decay": decay, "lr_scale": scale}
        for (decay, scale), members in groups.items()
    ]


def adamw(groups: list[dict[str, Any]], settings: OptimConfig) -> torch.optim.AdamW:
    """AdamW over ``groups``, in its fused form (CPU and CUDA have one)."""
    return torch.optim.AdamW(groups, lr=settings.lr, betas=settings.betas, fused=True)


def set_learning_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """``rate`` times each group's ``lr_scale``."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["lr_scale"]


def clip(parameters: list[nn.Parameter], largest: float | None) -> Tensor:
    """Global gradient norm before clipping, 0-dim on the device; clips to ``largest`` if given.

    Nothing is read back, so the device is not waited for.
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=True)
    if largest is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, largest, norm, foreach=True)
    return norm.detach()
