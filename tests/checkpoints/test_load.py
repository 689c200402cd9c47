"""Exported models as modules: the same numbers as what was trained, or one clear refusal."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from exported import (
    CLASS_PARTS,
    NAMES,
    PARTS,
    export_classifier,
    export_encoder,
    export_segmenter,
)
from tiny import PLAIN_MASKS, SCALES, clouds, experiment

from sa3d.checkpoints.card import MODEL_FILE, WEIGHTS_FILE
from sa3d.checkpoints.export import load_pretrained
from sa3d.checkpoints.load import load_classifier, load_encoder, load_segmenter
from sa3d.errors import CheckpointError

MODELS: list[dict[str, Any] | None] = [None, SCALES]
IDS = ["point-mae", "point-m2ae"]


def edit(folder: Path, **changes: Any) -> None:
    """Changes entries of an exported model's card; None: taken out."""
    file = folder / "model" / MODEL_FILE
    tree = json.loads(file.read_text()) | changes
    file.write_text(json.dumps({key: value for key, value in tree.items() if value is not None}))


@pytest.mark.parametrize("model", MODELS, ids=IDS)
@pytest.mark.parametrize("variant", ["ours", PLAIN_MASKS])
def test_an_encoder_gives_the_features_of_the_trained_one(
    tmp_path: Path, model: dict[str, Any] | None, variant: str
) -> None:
    """Whatever else its method trained: GC predictor and teachers are no part of it."""
    backbone = export_encoder(tmp_path, model, variant)
    points = clouds(seed=9).points
    for place in (tmp_path, tmp_path / "model"):
        torch.manual_seed(0)
        loaded, card = load_encoder(place)
        assert not loaded.training
        assert card["seed"] == 3
        with torch.inference_mode():
            assert torch.equal(loaded.features(points), backbone.features(points))


@pytest.mark.parametrize(
    ("model", "pooling"), [(None, "cls_max"), (SCALES, "sum"), (SCALES, "concat")]
)
def test_a_classifier_gives_the_logits_of_the_trained_one(
    tmp_path: Path, model: dict[str, Any] | None, pooling: str
) -> None:
    classifier = export_classifier(tmp_path, model, pooling)
    points = clouds(seed=9).points
    for place in (tmp_path, tmp_path / "model"):
        torch.manual_seed(0)
        loaded, card = load_classifier(place)
        assert not loaded.training
        assert card["class_names"] == list(NAMES)
        with torch.inference_mode():
            logits = loaded(points)
            assert logits.shape == (len(points), len(NAMES))
            assert torch.equal(logits, classifier(points))


@pytest.mark.parametrize("model", MODELS, ids=IDS)
def test_a_segmenter_gives_the_logits_of_the_trained_one(
    tmp_path: Path, model: dict[str, Any] | None
) -> None:
    segmenter = export_segmenter(tmp_path, model)
    points, category = clouds(seed=9).points, torch.tensor([2, 1, 0, 1])
    for place in (tmp_path, tmp_path / "model"):
        torch.manual_seed(0)
        loaded, card = load_segmenter(place)
        assert not loaded.training
        assert (card["part_names"], card["class_parts"]) == (PARTS, CLASS_PARTS)
        with torch.inference_mode():
            logits = loaded(points, category)
            assert logits.shape == (4, points.shape[1], len(PARTS))
            assert torch.equal(logits, segmenter(points, category))


def test_a_model_of_another_kind_is_refused(tmp_path: Path) -> None:
    export_encoder(tmp_path / "encoder")
    export_classifier(tmp_path / "classifier")
    with pytest.raises(CheckpointError, match=r"holds a pretrain, not a classifier; give .*classi"):
        load_classifier(tmp_path / "encoder")
    with pytest.raises(CheckpointError, match=r"holds a classifier, not a pre-trained model; give"):
        load_encoder(tmp_path / "classifier")
    with pytest.raises(CheckpointError, match=r"holds a classifier, not a part segm.*`sa3d segm"):
        load_segmenter(tmp_path / "classifier")


LOADERS = [
    (export_encoder, load_encoder),
    (export_classifier, load_classifier),
    (export_segmenter, load_segmenter),
]
KINDS = ["encoder", "classifier", "segmenter"]


@pytest.mark.parametrize(("export", "load"), LOADERS, ids=KINDS)
def test_what_is_damaged_is_refused(
    tmp_path: Path, export: Callable[[Path], Any], load: Callable[[Path], Any]
) -> None:
    with pytest.raises(CheckpointError, match=r"no exported model in .*; give the run folder of"):
        load(tmp_path)
    export(tmp_path)
    weights = tmp_path / "model" / WEIGHTS_FILE
    whole = weights.read_bytes()
    for spoilt in (whole[:-1], whole[:-1] + bytes([whole[-1] ^ 1]), b""):
        weights.write_bytes(spoilt)
        with pytest.raises(CheckpointError, match="is damaged: its sha256 is not that in model"):
            load(tmp_path)
    weights.write_bytes(whole)
    load(tmp_path)
    (tmp_path / "model" / MODEL_FILE).write_text("{")
    with pytest.raises(CheckpointError, match=r"cannot read .*; export the model again"):
        load(tmp_path)
    (tmp_path / "model" / MODEL_FILE).unlink()
    with pytest.raises(CheckpointError, match="no exported model in"):
        load(tmp_path)


@pytest.mark.parametrize(("export", "load"), LOADERS, ids=KINDS)
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 1}, "has format 1, this version reads 2"),
        ({"format": None}, "has format None"),
        ({"model": None}, "is of a model unknown here: no model"),
        ({"model": {"backbone": "point-net"}}, "unknown here: unknown backbone 'point-net'"),
        ({"model": {"backbone": "point-mae", "scale": 3}}, "is of a model unknown here: Extra"),
        ({"model": 3}, "is of a model unknown here: Input should be"),
        ({"model": {"backbone": "point-mae", "groups": 16}}, "not fit"),
    ],
)
def test_what_this_version_does_not_know_is_refused(
    tmp_path: Path,
    export: Callable[[Path], Any],
    load: Callable[[Path], Any],
    changes: dict[str, Any],
    said: str,
) -> None:
    export(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(CheckpointError) as caught:
        load(tmp_path)
    assert said in str(caught.value)
    assert len(str(caught.value).splitlines()) <= 2


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": None},
        {"class_names": ["a", "b"]},
        {"class_names": 3},
        {"settings": None},
        {"settings": {"pooling": "cls_max"}},
        {"settings": {"dropout": 0.3}},
        {"settings": {"dropout": "much", "pooling": "cls_max"}},
        {"settings": {"dropout": 0.3, "pooling": "middle"}},
    ],
)
def test_a_classifier_with_half_a_description_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    export_classifier(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=r"does not fit its own description"):
        load_classifier(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"class_names": None},
        {"class_names": ["a", "b"]},
        {"part_names": None},
        {"part_names": ["a", "b", "c"]},
        {"class_parts": None},
        {"class_parts": [[0], [1], [9]]},
        {"class_parts": [0, 1, 2]},
        {"settings": {}},
        {"settings": {"dropout": 1.0}},
    ],
)
def test_a_segmenter_with_half_a_description_is_refused(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    export_segmenter(tmp_path)
    edit(tmp_path, **changes)
    with pytest.raises(CheckpointError, match=r"does not fit its own description"):
        load_segmenter(tmp_path)


def test_weights_of_another_model_are_refused_with_what_differs(tmp_path: Path) -> None:
    export_encoder(tmp_path)
    ours = experiment().model
    assert load_pretrained(tmp_path, ours)
    wider = experiment({"dim": 48}).model
    with pytest.raises(CheckpointError, match=r"dim=24 there, dim=48 here\. Set `model` alike"):
        load_pretrained(tmp_path, wider)
    with pytest.raises(CheckpointError, match="backbone=point-mae there, backbone=point-m2ae here"):
        load_pretrained(tmp_path, experiment(SCALES).model)
    regrouped = experiment({"groups": 32, "group_size": 4}).model
    with pytest.raises(CheckpointError, match="group_size=8 there, group_size=4 here; groups=16"):
        load_pretrained(tmp_path, regrouped)
    assert load_pretrained(tmp_path, regrouped, encoder_only=True)
    assert load_pretrained(tmp_path, experiment({"drop_path": 0.3}).model)
