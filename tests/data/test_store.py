"""The processed layout: what is written is read, and nothing half-written passes for whole."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sa3d.data import store
from sa3d.data.store import CloudTable, content_digest, open_clouds, unit_sphere, write_clouds
from sa3d.errors import DataError, WriteError
from sa3d.utils import files


def table(count: int = 6, points: int = 16, parts: bool = True) -> CloudTable:
    labels = np.arange(count) % 2
    return CloudTable(
        ids=[f"a/{i}-µ" for i in range(count)],
        labels=labels,
        split=(np.arange(count) >= count - 2).astype(np.uint8),
        group=np.arange(count) // 2,
        class_names=("one", "two"),
        source_hash="f00",
        part_labels=np.tile(labels[:, None], (1, points)).astype(np.uint8) if parts else None,
        part_names=("p", "q") if parts else (),
        class_parts=((0,), (1,)) if parts else (),
    )


def clouds(count: int = 6, points: int = 16) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, points, 3)).astype(np.float32)


@pytest.mark.parametrize("parts", [True, False])
def test_round_trip(tmp_path: Path, parts: bool) -> None:
    expected, columns = clouds(), table(parts=parts)
    path = write_clouds(
        tmp_path / "deep" / "set.h5", iter(expected), columns, num_points=16, facts={"extra": 1}
    )
    read = open_clouds(path)
    np.testing.assert_array_equal(read.points, expected)
    np.testing.assert_array_equal(read.labels, columns.labels)
    np.testing.assert_array_equal(read.split, columns.split)
    np.testing.assert_array_equal(read.group, columns.group)
    assert read.ids == tuple(columns.ids)
    assert (read.class_names, read.part_names) == (columns.class_names, columns.part_names)
    assert read.class_parts == columns.class_parts
    assert (read.source_hash, read.num_classes, read.num_points, len(read)) == ("f00", 2, 16, 6)
    if parts:
        np.testing.assert_array_equal(read.part_labels, columns.part_labels)
    else:
        assert read.part_labels is None
    assert read.digest == content_digest(read)
    summary = json.loads(path.with_suffix(".json").read_text())
    assert summary["digest"] == read.digest
    assert (summary["shapes"], summary["train"], summary["test"], summary["families"]) == (
        6,
        4,
        2,
        3,
    )
    assert summary["classes"]["one"] == {"train": 2, "test": 1, "families": 3}
    assert summary["extra"] == 1
    assert sorted(p.name for p in path.parent.iterdir()) == ["set.h5", "set.json"]


def test_points_are_mapped_not_read(tmp_path: Path) -> None:
    read = open_clouds(write_clouds(tmp_path / "s.h5", clouds(), table(), num_points=16))
    assert isinstance(read.points.base, np.memmap)
    assert not read.points.flags.writeable


def test_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    def md5(name: str, points: np.ndarray) -> str:
        path = write_clouds(tmp_path / name / "s.h5", points, table(), num_points=16)
        return hashlib.md5(path.read_bytes()).hexdigest()

    first = md5("a", clouds())
    time.sleep(1.1)  # a time stamp of whole seconds would differ now
    assert md5("b", clouds()) == first
    assert md5("c", clouds() * 2) != first


def test_more_than_256_parts_need_uint16(tmp_path: Path) -> None:
    columns = dataclasses.replace(
        table(),
        part_labels=np.full((6, 16), 299, dtype=np.uint16),
        part_names=tuple(f"p{i}" for i in range(300)),
        class_parts=((299,), (299,)),
    )
    read = open_clouds(write_clouds(tmp_path / "s.h5", clouds(), columns, num_points=16))
    assert read.part_labels is not None
    assert read.part_labels.dtype == np.uint16
    assert read.part_labels.max() == 299


def _spoilt(how: str) -> np.ndarray:
    points = clouds()
    if how == "nan":
        points[3, 2, 1] = np.nan
    if how == "inf":
        points[3, 2, 1] = np.inf
    if how == "equal":
        points[3] = 0.25
    return points


@pytest.mark.parametrize(
    ("how", "says"), [("nan", "non-finite"), ("inf", "non-finite"), ("equal", "degenerate")]
)
def test_bad_cloud_is_named_and_nothing_left(tmp_path: Path, how: str, says: str) -> None:
    with pytest.raises(DataError, match=rf"a/3-µ.*{says}"):
        write_clouds(tmp_path / "s.h5", _spoilt(how), table(), num_points=16)
    assert list(tmp_path.iterdir()) == []


def test_wrong_count_is_named(tmp_path: Path) -> None:
    points = [cloud[: 15 if row == 2 else 16] for row, cloud in enumerate(clouds())]
    with pytest.raises(DataError, match="'a/2-µ' has 15 points, expected 16"):
        write_clouds(tmp_path / "s.h5", points, table(), num_points=16)
    with pytest.raises(DataError, match="shape"):
        write_clouds(tmp_path / "s.h5", clouds()[..., :2], table(), num_points=16)
    assert list(tmp_path.iterdir()) == []


def test_failed_rewrite_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_clouds(tmp_path / "s.h5", clouds(), table(), num_points=16)
    before = path.read_bytes()
    with pytest.raises(DataError):
        write_clouds(path, _spoilt("nan"), table(), num_points=16)
    assert path.read_bytes() == before


@pytest.mark.parametrize("count", [5, 7])
def test_clouds_must_match_ids(tmp_path: Path, count: int) -> None:
    with pytest.raises(DataError, match="6 ids"):
        write_clouds(tmp_path / "s.h5", clouds(count), table(), num_points=16)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ids": ["x"] * 6}, "'x' occurs more than once"),
        ({"labels": np.full(6, 2)}, "2 class names"),
        ({"labels": np.zeros(5, int)}, "labels has shape"),
        ({"split": np.full(6, 2, np.uint8)}, "split"),
        ({"part_labels": np.full((6, 16), 2, np.uint8)}, "2 part names"),
        ({"part_labels": np.zeros((6, 15), np.uint8)}, "part_labels"),
        ({"class_parts": ()}, "class_parts"),
        ({"ids": []}, "no clouds"),
    ],
)
def test_contradicting_table_is_refused(tmp_path: Path, change: dict, says: str) -> None:
    with pytest.raises(DataError, match=says):
        write_clouds(
            tmp_path / "s.h5", clouds(), dataclasses.replace(table(), **change), num_points=16
        )


def test_full_disk_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(1, 1, 100)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WriteError, match="free some space"):
        write_clouds(tmp_path / "s.h5", clouds(), table(), num_points=16)


def test_disk_filling_up_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(WriteError, match="No space left"):
        write_clouds(tmp_path / "s.h5", clouds(), table(), num_points=16)
    assert list(tmp_path.iterdir()) == []


# --- opening -----------------------------------------------------------------------------


def test_missing_file_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dvc repro prepare@kicad"):
        open_clouds(tmp_path / "kicad.h5")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    path = write_clouds(tmp_path / "s.h5", clouds(), table(), num_points=16)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"delete it and make it again"):
        open_clouds(path)


@settings(max_examples=40)
@given(at=st.floats(0.0, 0.999), size=st.integers(1, 40))
def test_overwritten_bytes_never_crash(
    tmp_path_factory: pytest.TempPathFactory, at: float, size: int
) -> None:
    """Damage is told in words, or lies in the content, which the digest finds."""
    path = write_clouds(tmp_path_factory.mktemp("s") / "s.h5", clouds(), table(), num_points=16)
    data = bytearray(path.read_bytes())
    start = int(at * len(data))
    data[start : start + size] = bytes(b ^ 0x5A for b in data[start : start + size])
    path.write_bytes(data)
    try:
        read = open_clouds(path)
    except DataError:
        return
    assert read.points.shape == (6, 16, 3)


def test_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    path.write_text("not HDF5")
    with pytest.raises(DataError, match="not a whole HDF5"):
        open_clouds(path)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(DataError, match="another kind"):
        open_clouds(path)


def test_other_version_and_missing_column(tmp_path: Path) -> None:
    path = write_clouds(tmp_path / "s.h5", clouds(), table(), num_points=16)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = 99
    with pytest.raises(DataError, match="version 99"):
        open_clouds(path)
    with h5py.File(path, "r+") as file:
        file.attrs["version"] = store.VERSION
        del file["labels"]
    with pytest.raises(DataError, match="damaged"):
        open_clouds(path)


def test_changed_content_changes_the_recomputed_digest(tmp_path: Path) -> None:
    path = write_clouds(tmp_path / "s.h5", clouds(), table(), num_points=16)
    with h5py.File(path, "r+") as file:
        file["points"][0, 0, 0] = 7.0
    read = open_clouds(path)
    assert content_digest(read) != read.digest


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 40), st.just(3)),
        elements=st.floats(-1000, 1000, width=32),
    )
)
def test_unit_sphere_centres_and_bounds(points: np.ndarray) -> None:
    scaled = unit_sphere(points)
    radii = np.linalg.norm(scaled.astype(np.float64), axis=1)
    assert np.isfinite(scaled).all()
    np.testing.assert_allclose(scaled.mean(axis=0), 0.0, atol=1e-5)
    assert radii.max() == pytest.approx(1.0, abs=1e-5) or (points == points[0]).all()
