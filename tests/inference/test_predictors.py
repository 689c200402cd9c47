"""Classifiers and segmentation models by the Python API: any cloud in, classes and parts out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from exported import (
    CLASS_PARTS,
    NAMES,
    PARTS,
    PREPARED,
    export_classifier,
    export_encoder,
    export_segmenter,
)

import sa3d
from sa3d.data.preprocessing import unit_sphere
from sa3d.errors import CheckpointError, DataError, UserError
from sa3d.inference.classes import ClassPredictor
from sa3d.inference.encoder import Encoder
from sa3d.inference.parts import PartPredictor

SEEN = int(PREPARED["points"])


def normal(count: int = SEEN, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, 3)).astype(np.float32)


def classifier(folder: Path) -> ClassPredictor:
    export_classifier(folder)
    found = sa3d.load_model(folder)
    assert isinstance(found, ClassPredictor)
    return found


def segmenter(folder: Path) -> PartPredictor:
    export_segmenter(folder)
    found = sa3d.load_model(str(folder / "model"))
    assert isinstance(found, PartPredictor)
    return found


def test_a_model_is_loaded_as_what_its_card_says(tmp_path: Path) -> None:
    assert isinstance(sa3d.load_model(), Encoder)
    export_encoder(tmp_path / "encoder")
    assert isinstance(sa3d.load_model(tmp_path / "encoder"), Encoder)
    assert classifier(tmp_path / "classifier").class_names == NAMES
    assert segmenter(tmp_path / "segmenter").part_names == tuple(PARTS)


def test_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    export_classifier(tmp_path)
    card = tmp_path / "model" / "model.json"
    card.write_text(json.dumps(json.loads(card.read_text()) | {"kind": "detector"}))
    with pytest.raises(CheckpointError, match="holds a model of kind 'detector'; known are"):
        sa3d.load_model(tmp_path)
    with pytest.raises(CheckpointError, match="no exported model in"):
        sa3d.load_model(tmp_path / "gone")


def test_probabilities_are_those_of_the_classifier(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    trained = export_classifier(tmp_path / "again")
    clouds = np.stack([normal(seed=1), normal(seed=2)]) * 40 + 7
    with torch.inference_mode():
        wanted = trained(unit_sphere(torch.from_numpy(clouds))).softmax(1).numpy()
    found = model.predict(clouds)
    np.testing.assert_allclose(found.probabilities, wanted, atol=1e-5)
    assert found.class_names == NAMES
    assert found.classes == tuple(NAMES[at] for at in wanted.argmax(1))
    assert found.ids == ("0", "1")


def test_files_and_arrays_of_any_size(tmp_path: Path) -> None:
    model = classifier(tmp_path)
    given = [normal(count, count) for count in (2, SEEN - 1, SEEN, 4 * SEEN)]
    np.save(tmp_path / "a.npy", given[1])
    found = model.predict([given[0], tmp_path / "a.npy", *given[2:]])
    assert found.ids == ("0", str(tmp_path / "a.npy"), "2", "3")
    for cloud, row in zip(given, found.probabilities, strict=True):
        np.testing.assert_allclose(model.predict(cloud).probabilities[0], row, atol=1e-4)
        assert row.sum() == pytest.approx(1.0, abs=1e-5)


def test_what_can_be_read_is_predicted_and_the_rest_is_named(tmp_path: Path) -> None:
    given = [normal(), np.zeros((0, 3)), "gone.ply", normal(seed=1)]
    found = classifier(tmp_path / "c").predict_all(given)
    assert (found.ids, found.probabilities.shape) == (("0", "3"), (2, 3))
    assert [failure.id for failure in found.failures] == ["1", "gone.ply"]
    parts = segmenter(tmp_path / "s").predict_all(given, category="chair")
    assert (parts.ids, len(parts.clouds)) == (("0", "3"), 2)
    assert parts.failures == found.failures
    assert sa3d.load_model(tmp_path / "c").predict_all(["gone.ply"]).ids == ()
    with pytest.raises(DataError, match=r"gone\.ply: cannot be opened"):
        sa3d.load_model(tmp_path / "c").predict("gone.ply")
    with pytest.raises(DataError, match="one cloud or more"):
        sa3d.load_model(tmp_path / "c").predict([])


def test_seen_points_have_the_parts_of_the_segmenter(tmp_path: Path) -> None:
    model, trained = segmenter(tmp_path), export_segmenter(tmp_path / "again")
    cloud = normal(seed=3)  # as many points as are seen: every one of them
    ready = unit_sphere(torch.from_numpy(cloud))[None]
    for label, name in enumerate(NAMES):
        with torch.inference_mode():
            logits = trained(ready, torch.tensor([label]))[0].numpy()
        allowed = np.array(CLASS_PARTS[label])
        found = model.predict(cloud, category=name)
        assert (found.category, found.part_names) == (name, tuple(PARTS))
        np.testing.assert_array_equal(
            found.clouds[0].labels, allowed[logits[:, allowed].argmax(axis=1)]
        )


@pytest.mark.parametrize("count", [2, SEEN - 1, SEEN + 1, 20 * SEEN])
def test_every_point_has_the_part_of_the_nearest_seen_one(tmp_path: Path, count: int) -> None:
    model, cloud = segmenter(tmp_path), normal(count, seed=4)
    (found,) = model.predict(cloud * 3 + 100, category="table").clouds
    assert found.labels.shape == (count,)
    np.testing.assert_array_equal(found.points, cloud * 3 + 100)
    _, (seen,) = model.preprocessing.seen([cloud])
    distance = np.linalg.norm(cloud[:, None].astype(float) - cloud[seen][None], axis=2)
    np.testing.assert_array_equal(found.labels, found.labels[seen][distance.argmin(axis=1)])
    assert set(found.labels.tolist()) <= set(CLASS_PARTS[NAMES.index("table")])


def test_the_category_must_be_said_and_known(tmp_path: Path) -> None:
    model = segmenter(tmp_path)
    with pytest.raises(UserError, match=r"knows 3 categories .*: chair, lamp, table"):
        model.predict(normal())
    with pytest.raises(UserError, match=r"category 'tabel' \(did you mean 'table'\?\); it knows"):
        model.predict(normal(), category="tabel")


def test_clouds_are_read_one_batch_after_another(tmp_path: Path) -> None:
    """So that a folder of large clouds need not fit into memory."""
    asked = []

    def given() -> object:
        for at in range(200):
            asked.append(at)
            yield normal(8, at)

    failures: list[object] = []
    each = segmenter(tmp_path).each(given(), failures, category="lamp")  # type: ignore[arg-type]
    assert next(each).id == "0"
    assert len(asked) < 100
