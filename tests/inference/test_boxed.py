"""The encoder that comes with the package, and how such an encoder is made."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import SCALES, build, clouds, experiment, progress

from sa3d.checkpoints.card import MODEL_FILE, WEIGHTS_FILE
from sa3d.checkpoints.export import export_model, load_pretrained
from sa3d.checkpoints.load import load_encoder
from sa3d.checkpoints.pack import half, pack_encoder
from sa3d.errors import CheckpointError
from sa3d.inference.encoder import Encoder
from sa3d.inference.locating import BOXED
from sa3d.models.backbone import Backbone

MODELS: list[dict[str, Any] | None] = [None, SCALES]
RESULT = {
    "spec": {"task": "pretrain", "variant": "ours", "seed": 3, "label": "", "fold": None},
    "data": {"name": "none", "train": 40, "digest": "d", "test": 0, "floor": None},
    "protocol": {"epochs": 1},
    "metrics": {"train/loss": 0.5},
    "seconds": 2.0,
    "device": "cpu",
    "versions": {"torch": "2"},
    "fingerprint": "f",
}


def trained(run: Path, model: dict[str, Any] | None = None) -> Backbone:
    """The run folder of a short pre-training; its backbone."""
    config = experiment(model)
    method = build(config, seed=3, variant="ours")
    for seed in range(3):
        method.training_step(clouds(seed=seed), progress())
    method.eval()
    card = {
        "kind": "pretrain",
        "experiment": "test",
        "spec": RESULT["spec"],
        "fingerprint": "f",
        "model": config.model.model_dump(mode="json"),
        "settings": {},
        "data": {"name": "none"},
        "preprocessing": {"points": 96, "normalisation": "subsample"},
    }
    export_model(run / "model", method.student_state(), card)
    (run / "result.json").write_text(json.dumps(RESULT))
    tags = {"kind": "tags", "at": 0.0, "values": {"code": "c0de"}}
    (run / "journal.jsonl").write_text(json.dumps(tags) + "\n")
    return method.backbone


@pytest.mark.parametrize("model", MODELS, ids=["point-mae", "point-m2ae"])
def test_an_encoder_alone_gives_the_features_of_its_model(
    tmp_path: Path, model: dict[str, Any] | None
) -> None:
    backbone = trained(tmp_path / "run", model)
    packed = pack_encoder(tmp_path / "run", tmp_path / "out")
    assert packed.size == (tmp_path / "out" / WEIGHTS_FILE).stat().st_size
    points = clouds(seed=9).points
    wanted = backbone.features(points)
    found, card = load_encoder(tmp_path / "out")
    assert card["kind"] == "encoder"
    assert {value.dtype for value in found.parameters()} == {torch.float32}
    assert not hasattr(found, "decoder")
    cosine = torch.cosine_similarity(found.features(points), wanted)
    assert cosine.min() > 0.9999
    assert not torch.equal(found.features(points), wanted), "rounding changes the last digits"


def test_half_precision_keeps_vectors_and_refuses_what_it_cannot_hold() -> None:
    state = {
        "backbone.encoder.a.weight": torch.tensor([[1.0, 2.0]]),
        "backbone.encoder.a.bias": torch.tensor([0.1]),
        "backbone.encoder.n.steps": torch.tensor(3),
        "backbone.decoder.b.weight": torch.ones(1, 1),
    }
    found = half(state)
    assert {name: value.dtype for name, value in found.items()} == {
        "backbone.encoder.a.weight": torch.float16,
        "backbone.encoder.a.bias": torch.float32,
        "backbone.encoder.n.steps": torch.int64,
    }
    state["backbone.encoder.a.weight"] = torch.tensor([[1e5]])
    with pytest.raises(CheckpointError, match=r"a\.weight has values that half precision cannot"):
        half(state)


def test_the_card_tells_how_it_was_made_and_what_was_measured(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    teacher, svm = tmp_path / "teacher", tmp_path / "svm"
    for folder, task in ((teacher, "pretrain"), (svm, "svm")):
        folder.mkdir()
        spec = {**RESULT["spec"], "task": task, "variant": "other"}
        result = {**RESULT, "spec": spec, "metrics": {"test/acc": 0.75}}
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "journal.jsonl").write_text("")
    other = tmp_path / "retrieval.json"
    other.write_text(json.dumps({"task": "retrieval", "map": 0.5}))

    pack_encoder(tmp_path / "run", tmp_path / "out", [teacher, svm, other], note="a note")
    card = json.loads((tmp_path / "out" / MODEL_FILE).read_text())
    before = json.loads((tmp_path / "run" / "model" / MODEL_FILE).read_text())
    assert card["weights"]["of"] == before["sha256"] != card["sha256"]
    assert (card["training"]["clouds"], card["training"]["code"]) == (40, "c0de")
    assert [each["variant"] for each in card["teachers"]] == ["other"]
    assert card["measured"][0]["metrics"] == {"test/acc": 0.75}
    assert card["measured"][1] == {"task": "retrieval", "map": 0.5}
    assert card["note"] == "a note"

    first = (tmp_path / "out" / WEIGHTS_FILE).read_bytes()
    pack_encoder(tmp_path / "run", tmp_path / "again")
    assert (tmp_path / "again" / WEIGHTS_FILE).read_bytes() == first


def test_evidence_that_cannot_be_read_is_named_and_nothing_is_written(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    (tmp_path / "gone").mkdir()
    with pytest.raises(CheckpointError, match=r"cannot read .*gone/result\.json"):
        pack_encoder(tmp_path / "run", tmp_path / "out", [tmp_path / "gone"])
    assert not (tmp_path / "out").exists()


def test_downstream_tasks_take_an_encoder_alone_and_a_teacher_does_not(tmp_path: Path) -> None:
    trained(tmp_path / "run")
    pack_encoder(tmp_path / "run", tmp_path / "out")
    config = experiment()
    assert load_pretrained(tmp_path / "out", config.model, encoder_only=True)
    with pytest.raises(CheckpointError, match="holds a encoder, not a pre-trained model"):
        load_pretrained(tmp_path / "out", config.model)


# --- the one that is shipped ---------------------------------------------------------------


def test_the_encoder_in_the_box_is_small_whole_and_says_what_it_is() -> None:
    weights = (BOXED / WEIGHTS_FILE).read_bytes()
    assert len(weights) < 8_000_000
    card = json.loads((BOXED / MODEL_FILE).read_text())
    assert hashlib.sha256(weights).hexdigest() == card["sha256"]
    assert (card["kind"], card["data"]["name"]) == ("encoder", "procedural")
    drawn = card["settings"]["epochs"] * card["data"]["endless"]["clouds_per_epoch"]
    assert card["training"]["clouds"] == drawn
    measured = {(each["task"], each["data"]["name"]) for each in card["measured"]}
    assert {("svm", "kicad"), ("svm", "shapes"), ("retrieval", "kicad")} <= measured


def test_a_damaged_box_is_refused(tmp_path: Path) -> None:
    for name in (MODEL_FILE, WEIGHTS_FILE):
        data = bytearray((BOXED / name).read_bytes())
        if name == WEIGHTS_FILE:
            data[len(data) // 2] ^= 1
        (tmp_path / name).write_bytes(data)
    with pytest.raises(CheckpointError, match="is damaged: its sha256 is not that in"):
        Encoder(tmp_path)


def test_the_encoder_in_the_box_tells_shapes_apart() -> None:
    """What it was trained for, on solids that are drawn here: the nearest is of the same kind."""
    rng = np.random.default_rng(0)

    def ball() -> np.ndarray:
        points = rng.normal(size=(1024, 3))
        return points / np.linalg.norm(points, axis=1, keepdims=True)

    def plate() -> np.ndarray:
        return rng.uniform(-1, 1, size=(1024, 3)) * (1, 0.02, 1)

    def rod() -> np.ndarray:
        return rng.uniform(-1, 1, size=(1024, 3)) * (0.05, 1, 0.05)

    features = Encoder(BOXED).embed([make() for make in (ball, plate, rod) for _ in range(3)])
    rows = features - features.mean(axis=0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    similar = rows @ rows.T - 2 * np.eye(9)
    assert (similar.argmax(axis=1) // 3).tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
