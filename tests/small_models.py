"""Exported models of every kind and backbone, small and with random weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sa3d.checkpoints.export import export_model
from sa3d.data.preprocessing import Preprocessing
from sa3d.models import build_backbone, build_classifier, build_segmenter
from sa3d.models.point_m2ae.settings import PointM2AEConfig
from sa3d.models.point_mae.settings import PointMAEConfig
from sa3d.models.settings import BackboneConfig

MODELS: dict[str, BackboneConfig] = {
    "point-mae": PointMAEConfig(
        groups=8, group_size=4, embed_width=8, dim=12, depth=3, heads=2, decoder_depth=1
    ),
    "point-m2ae": PointM2AEConfig(
        groups=(16, 8, 4), group_sizes=(4, 3, 2), dims=(8, 12, 16), depths=(1, 1, 1), heads=2,
        embed_width=8,
    ),
}  # fmt: skip
PREPARED = Preprocessing(32, "subsample", 64)
CLASSES, PARTS = ["bar", "cup", "hat"], ["handle", "body"]


def saved(
    folder: Path, kind: str, backbone: str, prepared: Preprocessing = PREPARED
) -> Path:
    """A model with random weights whose statistics are not those of an untouched one."""
    torch.manual_seed(0)
    config = MODELS[backbone]
    card: dict[str, Any] = {"kind": kind, "model": config.model_dump(mode="json")}
    card["preprocessing"] = prepared.to_json()
    if kind == "pretrain":
        module: torch.nn.Module = build_backbone(config)
    elif kind == "classifier":
        module = build_classifier(config, len(CLASSES), 0.5)
        settings = {"dropout": 0.5, "pooling": config.poolings[0]}
        card |= {"class_names": CLASSES, "settings": settings}
    else:
        module = build_segmenter(config, len(PARTS), len(CLASSES), 0.5)
        card |= {
            "class_names": CLASSES,
            "part_names": PARTS,
            "class_parts": [[0], [0, 1], [1]],
            "settings": {"dropout": 0.5},
        }
    for layer in module.modules():
        if isinstance(layer, torch.nn.BatchNorm1d):
            layer.running_mean.normal_()  # type: ignore[union-attr]
            layer.running_var.uniform_(0.5, 2.0)  # type: ignore[union-attr]
    state = module.state_dict()
    if kind == "pretrain":
        state = {f"backbone.{name}": value for name, value in state.items()}
    export_model(folder, state, card)
    return folder
