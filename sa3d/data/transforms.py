"""Point transforms on batches: any device, each sample its own draw, randomness from a given
generator only.

Shapes: ``points`` (B, N, 3) float32. B batch, N points.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

from sa3d import registry

Transform = Callable[[Tensor, Generator], Tensor]


def none(points: Tensor, generator: Generator) -> Tensor:
    """The points as they are."""
    return points


def scale_translate(points: Tensor, generator: Generator) -> Tensor:
    """Scale each axis by U(2/3, 3/2), then shift it by U(-0.2, 0.2) (Point-MAE, GM3D)."""
    scale = _uniform(points, generator, 2.0 / 3.0, 3.0 / 2.0)
    shift = _uniform(points, generator, -0.2, 0.2)
    return points * scale + shift


def scale_translate_small(points: Tensor, generator: Generator) -> Tensor:
    """Scale by U(0.8, 1.25), all axes alike, then shift each axis by U(-0.1, 0.1) (the part
    segmentation of Point-MAE and Point-M2AE)."""
    scale = _uniform(points, generator, 0.8, 1.25)[..., :1]
    shift = _uniform(points, generator, -0.1, 0.1)
    return points * scale + shift


def rotate_y(points: Tensor, generator: Generator) -> Tensor:
    """Turn each cloud about the up axis (y) by U(0, 2 pi) (ReCon's ScanObjectNN setting)."""
    angle = _uniform(points, generator, 0.0, 2.0 * torch.pi)[..., 0, 0]
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    one = torch.ones_like(angle)
    rows = torch.stack((cos, zero, sin, zero, one, zero, -sin, zero, cos), dim=-1)
    return points @ rows.view(-1, 3, 3).transpose(1, 2)


def get(name: str) -> Transform:
    """The transform registered as ``name``.

    Raises:
        ConfigError: naming what is known.
    """
    found: Transform = registry.load(registry.AUGMENTATIONS, "augmentation", name)
    return found


def _uniform(points: Tensor, generator: Generator, low: float, high: float) -> Tensor:
    """U(low, high) of shape (B, 1, 3), drawn on the generator's device."""
    shape = (points.shape[0], 1, 3)
    unit = torch.rand(shape, generator=generator, device=generator.device, dtype=points.dtype)
    return (unit * (high - low) + low).to(points.device)
