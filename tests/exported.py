"""Exported models with random weights: an encoder, a classifier, a segmentation model."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import torch
from tiny import build, clouds, experiment, progress

from sa3d.checkpoints.export import export_model
from sa3d.models import build_classifier, build_segmenter
from sa3d.models.downstream import Classifier, Segmenter

NAMES: Final = ("chair", "lamp", "table")
PARTS: Final = ["seat", "leg", "shade", "top"]
CLASS_PARTS: Final = [[0, 1], [2], [1, 3]]
PREPARED: Final = {"points": 128, "normalisation": "subsample", "stored_points": 256}


def export_encoder(folder: Path, model: dict[str, Any] | None = None, variant: str = "ours") -> Any:
    """A pre-training with random weights, exported; its backbone."""
    config = experiment(model)
    method = build(config, seed=3, variant=variant)
    for seed in range(3):  # moves the statistics of batch norm away from where they start
        method.training_step(clouds(seed=seed), progress())
    method.eval()
    card = {"kind": "pretrain", "model": config.model.model_dump(mode="json"), "seed": 3}
    card["preprocessing"] = PREPARED
    export_model(folder / "model", method.student_state(), card)
    return method.backbone


def export_classifier(
    folder: Path, model: dict[str, Any] | None = None, pooling: str | None = None
) -> Classifier:
    config = experiment(model)
    torch.manual_seed(4)
    pooling = pooling or config.model.poolings[0]
    classifier = build_classifier(config.model, len(NAMES), 0.3, pooling)
    for seed in range(3):
        classifier(clouds(seed=seed).points)
    classifier.eval()
    card = {
        "kind": "classifier",
        "model": config.model.model_dump(mode="json"),
        "preprocessing": PREPARED,
        "settings": {"dropout": 0.3, "pooling": pooling},
        "class_names": list(NAMES),
    }
    export_model(folder / "model", classifier.state_dict(), card)
    return classifier


def export_segmenter(folder: Path, model: dict[str, Any] | None = None) -> Segmenter:
    config = experiment(model or {"depth": 3})
    torch.manual_seed(5)
    segmenter = build_segmenter(config.model, len(PARTS), len(NAMES), 0.3)
    for seed in range(3):
        segmenter(clouds(seed=seed).points, torch.tensor([0, 1, 2, 0]))
    segmenter.eval()
    card = {
        "kind": "segmenter",
        "model": config.model.model_dump(mode="json"),
        "preprocessing": PREPARED,
        "settings": {"dropout": 0.3},
        "class_names": list(NAMES),
        "part_names": PARTS,
        "class_parts": CLASS_PARTS,
    }
    export_model(folder / "model", segmenter.state_dict(), card)
    return segmenter
