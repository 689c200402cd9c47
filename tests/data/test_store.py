"""The processed layout: what is written is read, and nothing damaged passes for whole."""

from __future__ import annotations

import hashlib
import json
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from cloud_sets import SIX, clouds_of, set_of, table_of
from hypothesis import given, settings
from hypothesis import strategies as st

from sa3d.config.loading import source_names
from sa3d.data import store
from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.digest import content_digest
from sa3d.data.store import (
    NORMALISATIONS,
    TEST,
    TRAIN,
    VALIDATION,
    CloudSet,
    Episode,
    open_clouds,
)
from sa3d.data.writing import write_clouds
from sa3d.errors import DataError

EPISODE = Episode("2way", ("a/0-µ", "a/1-µ"), (0, 1), ("a/5-µ", "a/2-µ"), (1, 0))


@pytest.mark.parametrize("parts", [True, False])
@pytest.mark.parametrize("normals", [True, False])
def test_round_trip(tmp_path: Path, parts: bool, normals: bool) -> None:
    expected, columns = clouds_of(SIX, parts=parts, normals=normals), table_of(6, parts=parts)
    path = write_clouds(tmp_path / "deep" / "set.h5", iter(expected), columns, facts={"extra": 1})
    read = open_clouds(path)
    assert_equal(read, expected, columns)
    assert (read.source_hash, read.num_classes, len(read)) == ("f00", 2, 6)
    assert (read.num_points, read.least_points, read.sizes.tolist()) == (None, 5, list(SIX))
    assert read.digest == content_digest(read)
    summary = json.loads(path.with_suffix(".json").read_text())
    assert summary["digest"] == read.digest
    assert (summary["shapes"], summary["train"], summary["test"], summary["families"]) == (
        6,
        4,
        2,
        4,
    )
    assert summary["classes"]["one"] == {"train": 2, "validation": 0, "test": 1, "families": 2}
    assert (summary["least_points"], summary["most_points"], summary["extra"]) == (5, 1024, 1)
    assert sorted(p.name for p in path.parent.iterdir()) == ["set.h5", "set.json"]


def assert_equal(read: CloudSet, expected: list[Cloud], table: CloudTable) -> None:
    """Everything that was given is what is read."""
    for row, cloud in enumerate(expected):
        np.testing.assert_array_equal(read.cloud(row), cloud.points)
        if cloud.parts is not None:
            np.testing.assert_array_equal(read.parts(row), cloud.parts)
        if cloud.normals is not None:
            np.testing.assert_array_equal(read.normals_of(row), cloud.normals)
    assert (read.flat_parts is None) == (expected[0].parts is None)
    assert (read.flat_normals is None) == (expected[0].normals is None)
    for name in ("labels", "split", "family"):
        np.testing.assert_array_equal(getattr(read, name), getattr(table, name))
    assert read.ids == tuple(table.ids)
    assert (read.class_names, read.part_names) == (table.class_names, table.part_names)
    assert read.class_parts == table.class_parts
    assert read.normalisation == table.normalisation


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[Cloud], CloudTable]:
    """Any set: sizes, splits, names in any script, parts and normals or none."""
    sizes = draw(st.lists(st.integers(2, 9), min_size=1, max_size=7))
    names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
    count = len(sizes)
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    classes = draw(st.lists(names, min_size=1, max_size=3, unique=True))
    parts = draw(st.lists(names, max_size=300, unique=True)) if draw(st.booleans()) else []
    normals = draw(st.booleans())
    members = [sorted(set(rng.integers(0, len(parts), 3).tolist())) for _ in classes if parts]
    labels = rng.integers(0, len(classes), count)
    clouds = [
        Cloud(
            rng.normal(size=(size, 3)).astype(np.float32),
            rng.choice(members[label], size) if parts else None,
            rng.normal(size=(size, 3)).astype(np.float32) if normals else None,
        )
        for size, label in zip(sizes, labels, strict=True)
    ]
    table = CloudTable(
        ids=draw(st.lists(names, min_size=count, max_size=count, unique=True)),
        labels=labels,
        split=rng.integers(0, 3, count).astype(np.uint8),
        family=rng.integers(-5, 5, count) * len(classes) + labels,
        class_names=tuple(classes),
        source_hash="0",
        normalisation=draw(st.sampled_from(NORMALISATIONS)),
        part_names=tuple(parts),
        class_parts=tuple(map(tuple, members)),
    )
    return clouds, table


@settings(max_examples=50)
@given(tables())
def test_any_set_comes_back(
    tmp_path_factory: pytest.TempPathFactory, given: tuple[list[Cloud], CloudTable]
) -> None:
    clouds, table = given
    read = open_clouds(write_clouds(tmp_path_factory.mktemp("s") / "s.h5", iter(clouds), table))
    assert_equal(read, clouds, table)
    assert content_digest(read) == read.digest


def test_mapped_arrays_are_what_h5py_reads(tmp_path: Path) -> None:
    read = set_of(tmp_path / "s.h5", SIX, normals=True)
    with h5py.File(read.path) as file:
        for name, mapped in (
            ("points", read.flat_points),
            ("normals", read.flat_normals),
            ("part_labels", read.flat_parts),
        ):
            assert mapped is not None
            np.testing.assert_array_equal(mapped, file[name][()])
            assert mapped.dtype == file[name].dtype
            assert file[name].chunks is None
            assert isinstance(mapped.base, np.memmap), "read, not mapped"
            assert not mapped.flags.writeable
            assert mapped.flags.aligned
        assert file["offsets"][()].tolist() == [0, 16, 21, 1045, 1061, 1068, 1101]
    assert np.shares_memory(read.cloud(3), read.flat_points)


def test_rows_outside_the_set_and_absent_columns(tmp_path: Path) -> None:
    read = set_of(tmp_path / "s.h5", SIX, parts=False)
    for row in (-1, 6):
        with pytest.raises(IndexError):
            read.cloud(row)
    with pytest.raises(DataError, match="no part labels"):
        read.parts(0)
    with pytest.raises(DataError, match="no normals"):
        read.normals_of(0)


def test_one_size_and_category(tmp_path: Path) -> None:
    read = set_of(tmp_path / "s.h5", (9, 9, 9))
    assert read.num_points == read.least_points == 9
    np.testing.assert_array_equal(read.category, read.labels)


def test_three_splits(tmp_path: Path) -> None:
    split = np.array([0, 1, 2, 0, 2, 1], np.uint8)
    read = set_of(tmp_path / "s.h5", SIX, split=split)
    found = [read.indices(kind).tolist() for kind in (TRAIN, TEST, VALIDATION)]
    assert found == [[0, 3], [1, 5], [2, 4]]
    summary = json.loads(read.path.with_suffix(".json").read_text())
    assert (summary["train"], summary["validation"], summary["test"]) == (2, 2, 2)


def test_bytes_depend_on_content_alone(tmp_path: Path) -> None:
    def md5(name: str, sizes: tuple[int, ...], **changes: object) -> str:
        path = set_of(tmp_path / name / "s.h5", sizes, normals=True, **changes).path
        return hashlib.md5(path.read_bytes()).hexdigest()

    first = md5("a", SIX, episodes=(EPISODE,))
    time.sleep(1.1)  # a time stamp of whole seconds would differ now
    assert md5("b", SIX, episodes=(EPISODE,)) == first
    assert md5("c", (*SIX[:-1], 34), episodes=(EPISODE,)) != first


@pytest.mark.parametrize(
    "change",
    [
        {"normalisation": "cloud"},
        {"split": np.array([0, 0, 0, 0, 2, 1], np.uint8)},
        {"family": np.arange(6)},
        {"ids": [f"b{i}" for i in range(6)]},
        {"class_names": ("one", "three")},
        {"class_parts": ((0, 1), (0, 1, 2))},
        {"episodes": (EPISODE,)},
    ],
)
def test_every_column_enters_the_digest(tmp_path: Path, change: dict) -> None:
    before = set_of(tmp_path / "a.h5", SIX).digest
    after = set_of(tmp_path / "b.h5", SIX, **change)
    assert after.digest != before
    assert content_digest(after) == after.digest


def test_more_than_256_parts_need_uint16(tmp_path: Path) -> None:
    table = table_of(
        2,
        part_names=tuple(f"p{i}" for i in range(300)),
        class_parts=((299,), (299,)),
    )
    clouds = [Cloud(cloud.points, np.full(4, 299)) for cloud in clouds_of((4, 4))]
    read = open_clouds(write_clouds(tmp_path / "s.h5", clouds, table))
    assert read.parts(1).dtype == np.uint16
    assert read.parts(1).tolist() == [299] * 4


# --- episodes ----------------------------------------------------------------------------


def test_episodes_come_back_as_rows(tmp_path: Path) -> None:
    second = Episode("1way", ("a/4-µ",), (0,), ("a/3-µ",), (0,))
    read = set_of(tmp_path / "s.h5", SIX, episodes=(EPISODE, second))
    assert [episode.name for episode in read.episodes] == ["2way", "1way"]
    found = read.episode("2way")
    assert (found.train.tolist(), found.train_labels.tolist()) == ([0, 1], [0, 1])
    assert (found.test.tolist(), found.test_labels.tolist()) == ([5, 2], [1, 0])
    assert (found.way, read.episode("1way").way) == (2, 1)
    with pytest.raises(DataError, match="no episode '3way'; it has 2way, 1way"):
        read.episode("3way")


def test_an_episode_with_an_unknown_cloud_is_not_opened(tmp_path: Path) -> None:
    read = set_of(tmp_path / "s.h5", SIX, episodes=(EPISODE,))
    with h5py.File(read.path, "r+") as file:
        file["episode_ids"][1] = b"a/9"
    with pytest.raises(
        DataError, match=r"the cloud 'a/9', which is not there.*replace it by a whole"
    ):
        open_clouds(read.path)


# --- opening -----------------------------------------------------------------------------


def test_missing_file_says_which_command_makes_it(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"dvc repro prepare@kicad"):
        open_clouds(tmp_path / "kicad.h5")


def test_missing_file_that_no_source_makes_says_where_to_put_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scans.h5"
    others = ", ".join(source_names())
    with pytest.raises(DataError) as told:
        open_clouds(path)
    assert str(told.value) == (
        f"no processed data set {path}; params.yaml names no source that makes it (did you mean "
        f"'shapes'?) (but of {others}): put a file of the processed layout there; see "
        "data/README.md"
    )
    monkeypatch.chdir(tmp_path)  # no params.yaml: no source
    monkeypatch.delenv("SA3D_ROOT", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    with pytest.raises(DataError, match="names no source that makes it: put a file"):
        open_clouds(tmp_path / "kicad.h5")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_truncated_file(tmp_path: Path, share: float) -> None:
    path = set_of(tmp_path / "s.h5", SIX).path
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"replace it by a whole file"):
        open_clouds(path)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    place = tmp_path_factory.mktemp("whole") / "s.h5"
    return set_of(place, (16,) * 6, episodes=(EPISODE,)).path.read_bytes()


@settings(max_examples=60)
@given(at=st.floats(0.0, 0.999), size=st.integers(1, 40))
def test_overwritten_bytes_never_crash(
    whole: bytes, tmp_path_factory: pytest.TempPathFactory, at: float, size: int
) -> None:
    """Damage is told in words, or lies in the content, which the digest finds."""
    data, path = bytearray(whole), tmp_path_factory.mktemp("s") / "s.h5"
    start = int(at * len(data))
    data[start : start + size] = bytes(b ^ 0x5A for b in data[start : start + size])
    path.write_bytes(data)
    try:
        read = open_clouds(path)
    except DataError:
        return
    assert all(read.cloud(row).shape[1] == 3 for row in range(len(read)))
    assert read.sizes.sum() == len(read.flat_points)


@pytest.mark.parametrize(
    ("name", "at", "value", "says"),
    [
        ("offsets", 3, 99999, "offsets are not ascending"),
        ("offsets", 0, 1, "offsets do not divide"),
        ("labels", 0, 2, "labels are not all within 2 classes"),
        ("labels", 0, -1, "labels are not all within 2 classes"),
    ],
)
def test_columns_that_would_mislead_a_reader(
    tmp_path: Path, name: str, at: int, value: int, says: str
) -> None:
    path = set_of(tmp_path / "s.h5", SIX).path
    with h5py.File(path, "r+") as file:
        file[name][at] = value
    with pytest.raises(DataError, match=rf"damaged \({says}"):
        open_clouds(path)


def test_foreign_file(tmp_path: Path) -> None:
    path = tmp_path / "s.h5"
    path.write_text("not HDF5")
    with pytest.raises(DataError, match="not a whole HDF5"):
        open_clouds(path)
    with h5py.File(path, "w") as file:
        file["data"] = np.zeros(3)
    with pytest.raises(DataError, match="another kind"):
        open_clouds(path)


def test_the_first_layout_is_refused_with_the_command_that_remakes_it(tmp_path: Path) -> None:
    path = tmp_path / "kicad.h5"
    with h5py.File(path, "w") as file:  # as the first layout was written
        file.attrs["format"], file.attrs["version"] = "sa3d-clouds", 1
        file.attrs["digest"] = file.attrs["source_hash"] = "0"
        file["points"] = np.zeros((2, 8, 3), np.float32)
        file["labels"] = file["group"] = np.zeros(2, np.int64)
        file["split"] = np.zeros(2, np.uint8)
    with pytest.raises(
        DataError, match=r"version 1, this code reads 2; delete it .*sa3d data prepare kicad"
    ):
        open_clouds(path)


def test_missing_column(tmp_path: Path) -> None:
    path = set_of(tmp_path / "s.h5", SIX).path
    with h5py.File(path, "r+") as file:
        assert file.attrs["version"] == store.VERSION
        del file["labels"]
    with pytest.raises(DataError, match="damaged"):
        open_clouds(path)


@pytest.mark.parametrize("name", ["points", "normals", "part_labels"])
def test_changed_content_changes_the_recomputed_digest(tmp_path: Path, name: str) -> None:
    read = set_of(tmp_path / "s.h5", SIX, normals=True)
    with h5py.File(read.path, "r+") as file:
        file[name][100] = 1 - file[name][100]
    read = open_clouds(read.path)
    assert content_digest(read) != read.digest


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("far", [2e18, -1e38, 1e300])
def test_coordinates_that_no_shape_has_are_refused(far: float) -> None:
    points = np.array([[0, 0, 0], [far, 2, 3]])
    with pytest.raises(DataError, match=r"'a' has a point too far away \[.*\] in row 1"):
        store.check_cloud(points, "a")
    points[1, 0] = 1e18
    assert store.check_cloud(points, "a").tolist() == points.astype(np.float32).tolist()
