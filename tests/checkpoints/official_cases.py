"""Narrow published checkpoints with random weights, and how they are read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import plain_point_m2ae
import plain_point_mae
import torch
from plain_layers import shuffled
from torch import Tensor, nn

from sa3d.checkpoints.convert import Reading

GROUPS, POINTS = 12, 64
ONE = {"dim": 24, "depth": 3, "heads": 3, "size": 8, "width": 8, "groups": GROUPS}
THREE: dict[str, Any] = {
    "dims": (12, 18, 24),
    "depths": (1, 2, 1),
    "heads": 3,
    "groups": (32, 20, GROUPS),
    "sizes": (6, 8, 8),
    "width": 8,
}
# what no tensor shows
SETTINGS = ("model.heads=3", f"model.groups={GROUPS}", f"preprocessing.points={POINTS}")
SIZE = ("model.group_size=8",)
SCALES = ("model.heads=3", f"model.groups=[32,20,{GROUPS}]", f"preprocessing.points={POINTS}")
SIZES = ("model.group_sizes=[6,8,8]",)


@dataclass(frozen=True)
class Case:
    """A kind of published checkpoint.

    Attributes:
        layout: how it must be recognised.
        make: the plain model.
        container: where its code keeps the weights; empty: plain.
        settings: what no tensor shows.
        full: the same at full width, with its number of tensors and parameters.
    """

    layout: str
    make: Callable[[], nn.Module]
    container: str
    settings: tuple[str, ...]
    full: tuple[Callable[[], nn.Module], int, int]


_one, _three = plain_point_mae, plain_point_m2ae
CASES = {
    "point-mae": Case(
        "point-mae/pretrain",
        lambda: _one.PointMAE(decoder_depth=2, **ONE),
        "base_model",
        SETTINGS,
        (_one.PointMAE, 209, 29_006_432),
    ),
    "sa3df": Case(
        "gm3d/pretrain",
        lambda: _one.GM3D(3, decoder_depth=1, **ONE),
        "state_dict",
        SETTINGS,
        (lambda: _one.GM3D(12), 355, 51_077_984),
    ),
    "sa3d": Case(
        "gm3d/pretrain",
        lambda: _one.GM3D(1, decoder_depth=1, **ONE),
        "state_dict",
        SETTINGS,
        (lambda: _one.GM3D(4), 267, 36_891_488),
    ),
    "point-mae-classifier": Case(
        "point-mae/classifier",
        lambda: _one.Classifier(7, **ONE),
        "base_model",
        SETTINGS + SIZE,
        (lambda: _one.Classifier(40), 174, 22_099_752),
    ),
    "gm3d-classifier": Case(
        "gm3d/classifier",
        lambda: _one.Classifier(15, norm="norm_p", **ONE),
        "state_dict",
        SETTINGS + SIZE,
        (lambda: _one.Classifier(15, norm="norm_p"), 174, 22_093_327),
    ),
    "point-mae-segmenter": Case(
        "point-mae/segmenter",
        lambda: _one.Segmenter(**ONE),
        "model_state_dict",
        SETTINGS + SIZE,
        (_one.Segmenter, 192, 27_063_730),
    ),
    "point-m2ae": Case(
        "point-m2ae/pretrain",
        lambda: _three.PointM2AE(decoder_depth=2, **THREE),
        "base_model",
        SCALES,
        (_three.PointM2AE, 293, 15_255_856),
    ),
    "point-m2ae-modelnet": Case(
        "point-m2ae/classifier",
        lambda: _three.Classifier(7, **THREE),
        "base_model",
        SCALES + SIZES,
        (lambda: _three.Classifier(40), 249, 12_830_056),
    ),
    "point-m2ae-scan": Case(
        "point-m2ae/classifier",
        lambda: _three.Classifier(15, scan=True, **THREE),
        "base_model",
        SCALES + SIZES,
        (lambda: _three.Classifier(15, scan=True), 249, 12_921_935),
    ),
    "point-m2ae-segmenter": Case(
        "point-m2ae/segmenter",
        lambda: _three.Segmenter(**THREE),
        "model_state_dict",
        SCALES + SIZES,
        (_three.Segmenter, 308, 25_474_354),
    ),
}


def save(
    path: Path, state: dict[str, Tensor], container: str, prefix: str = "", **more: Any
) -> Path:
    """As the published code does."""
    weights = {prefix + name: value for name, value in state.items()}
    tree = {container: weights, "optimizer": {"state": {}}, "epoch": 300, **more}
    torch.save(tree if container else weights, path)
    return path


def made(case: Case, folder: Path, seed: int = 0) -> tuple[nn.Module, Path]:
    """The plain model with random weights, and its checkpoint."""
    model = shuffled(case.make(), seed)
    return model, save(folder / "published.pth", model.state_dict(), case.container)


def reading(case: Case, **more: Any) -> Reading:
    return Reading(settings=case.settings, **more)
