"""The generated source: deterministic, labelled, varied, and not trivially solved."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest

from sa3d.data.prepare import prepare
from sa3d.data.sources.shapes.categories import CATEGORIES
from sa3d.data.sources.shapes.settings import ShapesSource
from sa3d.data.sources.shapes.source import source_hash
from sa3d.data.store import CloudSet, open_clouds


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> CloudSet:
    out = tmp_path_factory.mktemp("shapes") / "shapes.h5"
    return open_clouds(prepare("shapes", ShapesSource(), out, quiet=True))


def stacked(clouds: CloudSet) -> np.ndarray:
    """(S, N, 3): these clouds have one size."""
    return np.stack([clouds.cloud(row) for row in range(len(clouds))])


def parts_of(clouds: CloudSet, label: int) -> list[np.ndarray]:
    return [clouds.parts(row) for row in np.flatnonzero(clouds.labels == label)]


def test_categories_and_parts() -> None:
    assert len(CATEGORIES) >= 12
    for category in CATEGORIES.values():
        assert 2 <= len(category.parts) <= 6


def test_counts(default: CloudSet) -> None:
    source = ShapesSource()
    counts = np.bincount(default.labels)
    assert (counts == source.shapes_per_class).all()
    assert default.class_names == tuple(CATEGORIES)
    held = np.bincount(default.labels[default.split == 1])
    assert (held == round(source.test_fraction * source.shapes_per_class)).all()
    assert len(np.unique(default.family)) == len(default)


def test_clouds_fill_the_unit_sphere(default: CloudSet) -> None:
    points = stacked(default)
    np.testing.assert_allclose(np.linalg.norm(points, axis=2).max(axis=1), 1.0, atol=1e-5)
    np.testing.assert_allclose(points.mean(axis=1), 0.0, atol=1e-5)


def test_parts_belong_to_their_class_and_all_occur(default: CloudSet) -> None:
    for label, allowed in enumerate(default.class_parts):
        found = np.unique(parts_of(default, label))
        assert set(found.tolist()) == set(allowed)
        names = {default.part_names[part].split("/")[0] for part in allowed}
        assert names == {default.class_names[label]}


def test_objects_vary_in_which_parts_they_have(default: CloudSet) -> None:
    for label in range(default.num_classes):
        kinds = {tuple(np.unique(row)) for row in parts_of(default, label)}
        assert len(kinds) >= 2, f"every {default.class_names[label]} has the same parts"


def test_not_trivial_but_not_noise(default: CloudSet) -> None:
    """5-NN on simple descriptors: the ceiling of how easy the data may be."""
    floor = json.loads(default.path.with_suffix(".json").read_text())["descriptor_5nn_accuracy"]
    assert 0.6 <= floor <= 0.85


def test_licence_and_split_are_told_beside_the_data(default: CloudSet) -> None:
    summary = json.loads(default.path.with_suffix(".json").read_text())
    assert "generated from a seed" in summary["licence"]
    assert "held out as test" in summary["split"]
    assert summary["digest"] == default.digest


def test_same_seed_same_bytes_other_seed_other_clouds(tmp_path: Path) -> None:
    small = ShapesSource(shapes_per_class=5, points=64)
    first = prepare("s", small, tmp_path / "a.h5", quiet=True)
    again = prepare("s", small, tmp_path / "b.h5", quiet=True)
    assert first.read_bytes() == again.read_bytes()
    other = small.model_copy(update={"seed": 1})
    changed = open_clouds(prepare("s", other, tmp_path / "c.h5", quiet=True))
    read = open_clouds(first)
    assert (changed.flat_points != read.flat_points).any()
    assert changed.source_hash != read.source_hash == source_hash(small)


def test_clouds_are_those_of_generator_version_2(tmp_path: Path) -> None:
    """Digests taken when the layout held clouds of one size: what is generated has not changed."""
    small = ShapesSource(shapes_per_class=5, points=64)
    read = open_clouds(prepare("s", small, tmp_path / "a.h5", quiet=True))
    columns = (read.flat_points, read.labels, read.split, read.family, read.flat_parts)
    found = [hashlib.sha256(np.ascontiguousarray(c).tobytes()).hexdigest()[:16] for c in columns]
    assert found == [
        "6ec0fba3fe758086",
        "a412ef0ba47786a0",
        "e0cc1d5824eab5c3",
        "c8160ed519660b7b",
        "9c2dc032bc7bc178",
    ]
    assert (read.num_points, read.normalisation) == (64, "subsample")


def test_more_shapes_leave_the_first_as_they_were(tmp_path: Path) -> None:
    few = open_clouds(
        prepare("s", ShapesSource(shapes_per_class=5, points=64), tmp_path / "a.h5", quiet=True)
    )
    more = open_clouds(
        prepare("s", ShapesSource(shapes_per_class=7, points=64), tmp_path / "b.h5", quiet=True)
    )
    rows = {name: row for row, name in enumerate(more.ids)}
    kept = stacked(more)[[rows[name] for name in few.ids]]
    np.testing.assert_array_equal(stacked(few), kept)


def test_yaw_is_random(default: CloudSet) -> None:
    """Airplanes lie along every heading, not one."""
    planes = stacked(default)[default.labels == default.class_names.index("airplane")]
    headings = []
    for cloud in planes:
        _, vectors = np.linalg.eigh(np.cov(cloud[:, [0, 2]].T))
        headings.append(np.arctan2(vectors[1, 1], vectors[0, 1]) % np.pi)
    assert len(np.unique(np.floor(np.array(headings) / np.pi * 6))) == 6
