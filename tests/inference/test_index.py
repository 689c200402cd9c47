"""An index of shapes: what is found, what is read again, what is refused."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import trimesh

import sa3d
from sa3d.errors import CheckpointError, DataError, WriteError
from sa3d.inference import index as index_file
from sa3d.inference.index import KEPT, NAME, Index, kept, open_index, save_index
from sa3d.inference.indexing import build_index
from sa3d.inference.locating import BOXED
from sa3d.inference.neighbours import SAME, Shapes, Space, duplicates, search


def solids(folder: Path) -> Path:
    """Five boxes, five balls and five rods, of different sizes and proportions."""
    folder.mkdir()
    for at in range(5):
        trimesh.creation.box((1, 1 + 0.15 * at, 1.1)).export(folder / f"box{at}.stl")
        ball = trimesh.creation.icosphere(3, radius=1 + at)
        ball.apply_scale((1, 1 + 0.15 * at, 1))
        ball.export(folder / f"ball{at}.ply")
        trimesh.creation.cylinder(0.1 + 0.06 * at, 3).export(folder / f"rod{at}.off")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = solids(tmp_path_factory.mktemp("made") / "parts")
    build_index(folder)
    return folder


@pytest.fixture
def parts(made: Path, tmp_path: Path) -> Path:
    """A copy of its own of the folder and its index; the files have their times of change."""
    return Path(shutil.copytree(made, tmp_path / "parts"))


def names(index: Index) -> list[str]:
    return [path.name for path in index.paths]


def test_three_lines(parts: Path) -> None:
    index = sa3d.build_index(parts)
    nearest = index.nearest(parts / "rod2.off", top=4)
    assert {near.path.name for near in nearest} == {f"rod{at}.off" for at in (0, 1, 3, 4)}
    assert [near.rank for near in nearest] == [1, 2, 3, 4]
    similarities = [near.similarity for near in nearest]
    assert similarities == sorted(similarities, reverse=True)
    assert all(-1 <= value <= 1 for value in similarities)


def test_a_query_from_elsewhere_finds_its_copy(parts: Path, tmp_path: Path) -> None:
    index = open_index(parts / NAME)
    for name in ("box1.stl", "ball3.ply"):
        copy = shutil.copy(parts / name, tmp_path / f"copy-{name}")
        first = index.nearest(copy)[0]
        assert first.path == parts / name
        assert first.similarity == pytest.approx(1, abs=1e-4)


def test_neighbours_are_those_of_all_distances(parts: Path) -> None:
    index = open_index(parts / NAME)
    rows = (index.features - index.features.mean(0)) / index.features.std(0)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    for query in range(len(index)):
        similarity = rows @ rows[query]
        similarity[query] = -2
        wanted = np.argsort(-similarity, kind="stable")[:6]
        found = index.nearest(index.paths[query], top=6)
        assert [near.row for near in found] == wanted.tolist()
        np.testing.assert_allclose([n.similarity for n in found], similarity[wanted], atol=1e-4)


def test_more_neighbours_than_there_are(parts: Path) -> None:
    index = open_index(parts / NAME)
    assert len(index.nearest(parts / "box0.stl", top=100)) == len(index) - 1


def test_few_shapes_are_compared_as_they_are() -> None:
    features = np.random.default_rng(0).normal(3, 2, size=(9, 4)).astype(np.float32)
    np.testing.assert_array_equal(Space(features).of(features), features)
    more = np.vstack([features, features[:1]])
    np.testing.assert_allclose(Space(more).of(more).mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(Space(more).of(more).std(0), 1, rtol=1e-5)


def test_a_feature_that_never_changes_is_harmless() -> None:
    features = np.ones((12, 3), dtype=np.float32)
    features[:, 0] = np.arange(12)
    assert np.isfinite(Space(features).of(features)).all()


def test_only_what_changed_is_read(parts: Path) -> None:
    before = open_index(parts / NAME)
    (parts / "box0.stl").unlink()
    trimesh.creation.icosphere(2).export(parts / "box1.stl")
    (parts / "deep").mkdir()
    trimesh.creation.cone(1, 2).export(parts / "deep" / "cone.stl")
    read: list[str] = []

    def watch(files: object) -> object:
        for file in files:
            read.append(file.name)
            yield file

    after = build_index(parts, watch=watch)
    assert sorted(read) == ["box1.stl", "cone.stl"]
    assert (after.change.new, after.change.changed, after.change.gone) == (1, 1, 1)
    assert sorted(names(after)) == sorted({*names(before), "cone.stl"} - {"box0.stl"})
    anew = build_index(parts, parts.parent / "anew.npz")
    np.testing.assert_allclose(after.features, anew.features, atol=1e-4)
    np.testing.assert_array_equal(after.points, anew.points)
    assert after.paths == anew.paths


def test_nothing_changed_writes_nothing(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index_file, "load_encoder", None)  # not even loaded
    stamp = (parts / NAME).stat().st_mtime_ns
    assert not build_index(parts).change.any
    assert (parts / NAME).stat().st_mtime_ns == stamp


def test_another_axis_or_encoder_reads_all_again(parts: Path) -> None:
    turned = build_index(parts, up="z")
    assert turned.change.anew == "it was made with y up"
    assert turned.change.changed == len(turned)
    assert build_index(parts).up == "z", "once said, it stays"
    old = open_index(parts / NAME)
    save_index(parts / NAME, Index(**{**vars(old), "digest": "0" * 64}))
    with pytest.raises(CheckpointError, match="was made by another encoder"):
        search(open_index(parts / NAME), [parts / "box0.stl"])
    found = build_index(parts)
    assert found.change.anew == "it was made by another encoder"
    np.testing.assert_allclose(found.features, turned.features, atol=1e-4)


def test_a_named_encoder_is_remembered(parts: Path, tmp_path: Path) -> None:
    own = tmp_path / "own"
    shutil.copytree(BOXED, own)
    index = build_index(parts, tmp_path / "a.npz", model=own)
    assert index.model == str(own)
    assert open_index(tmp_path / "a.npz").model == str(own)
    shutil.rmtree(own)
    with pytest.raises(CheckpointError, match="no exported model in"):
        index.nearest(parts / "box0.stl")


def test_an_index_moves_with_its_files(parts: Path, tmp_path: Path) -> None:
    moved = parts.rename(tmp_path / "elsewhere")
    assert not build_index(moved).change.any
    assert open_index(moved / NAME).paths[0].parent == moved


def test_what_cannot_be_read_is_named(parts: Path) -> None:
    (parts / "bad.ply").write_text("not a ply")
    np.save(parts / "equal.npy", np.ones((50, 3)))
    found = build_index([parts, parts / "gone.stl"], parts / NAME)
    assert len(found) == 15
    assert sorted(Path(failure.id).name for failure in found.change.failures) == [
        "bad.ply", "equal.npy", "gone.stl",
    ]  # fmt: skip
    assert not found.change.any


def test_what_could_not_be_read_is_told_again_without_reading(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (parts / "bad.ply").write_text("not a ply")
    np.save(parts / "equal.npy", np.ones((50, 3)))
    (parts / "locked.ply").symlink_to(parts / "gone.ply")
    first = build_index(parts).change.failures
    assert len(first) == 3
    (parts / "locked.ply").unlink()
    with monkeypatch.context() as patch:
        patch.setattr(index_file, "load_encoder", None)  # not even loaded
        assert build_index(parts).change.failures == first[:2]
        monkeypatch.chdir(parts)
        told = [failure.reason for failure in build_index(".").change.failures]
        assert told[0].startswith("bad.ply: not a whole .ply file")
        assert "'equal.npy' is degenerate" in told[1]
    trimesh.creation.box().export(parts / "bad.ply")
    assert len(build_index(parts)) == 16
    monkeypatch.setattr(index_file, "__version__", "another")
    read: list[Path] = []
    build_index(parts, watch=lambda files: read.extend(files) or files)
    assert read == [parts / "equal.npy"], "another version may be able to read it"


def test_nothing_to_index(tmp_path: Path) -> None:
    (tmp_path / "a.ply").write_text("not a ply")
    with pytest.raises(DataError, match=r"a\.ply: not a whole .*; no index was written$"):
        build_index(tmp_path)
    assert not (tmp_path / NAME).exists()
    with pytest.raises(DataError, match="say --out"):
        build_index([tmp_path / "a.ply"])


@pytest.mark.parametrize("cut", [0, 1, 100, 5000, -1])
def test_a_cut_index_is_refused(parts: Path, tmp_path: Path, cut: int) -> None:
    data = (parts / NAME).read_bytes()
    for name in ("cut.npz", NAME):
        (tmp_path / name).write_bytes(data[:cut])
        known = name == NAME or cut not in (0, 1)
        said = "is a damaged index of shapes; delete it" if known else "is no index of shapes"
        with pytest.raises(DataError, match=f"{name} {said}"):
            open_index(tmp_path / name)


def test_an_array_of_an_index_that_claims_to_be_huge(parts: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(parts / NAME) as old, zipfile.ZipFile(tmp_path / "a.npz", "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name == "features.npy":
                data = data.replace(b"(15, 192), }" + b" " * 11, b"(1000000000000, 192), }")
                assert b"1000000000000" in data
            new.writestr(name, data)
    with pytest.raises(DataError, match=r"a\.npz is a damaged index"):
        open_index(tmp_path / "a.npz")


def test_an_index_with_changed_bytes_is_refused(parts: Path, tmp_path: Path) -> None:
    data = bytearray((parts / NAME).read_bytes())
    index = open_index(parts / NAME)
    at = data.find(index.features.tobytes())
    assert at > 0
    data[at + 100] ^= 1
    (tmp_path / "bent.npz").write_bytes(data)
    with pytest.raises(DataError, match="damaged"):
        open_index(tmp_path / "bent.npz")


def test_what_is_no_index(tmp_path: Path) -> None:
    np.savez(tmp_path / "features.npz", ids=np.array(["a"]), features=np.ones((1, 192)))
    (tmp_path / "text.npz").write_text("hello")
    (tmp_path / "box.stl").write_bytes(trimesh.creation.box().export(file_type="stl"))
    for name in ("features.npz", "text.npz", "box.stl"):
        with pytest.raises(DataError, match=f"{name} is no index of shapes") as refused:
            open_index(tmp_path / name)
        assert "delete" not in str(refused.value)
        assert "pickle" not in str(refused.value)
    np.savez(tmp_path / "object.npz", sa3d_index=np.array([{}], dtype=object))
    with pytest.raises(DataError, match=r"object\.npz is a damaged index of shapes"):
        open_index(tmp_path / "object.npz")
    with pytest.raises(DataError, match=r"no folder and no index .*none"):
        open_index(tmp_path / "none.npz")


@pytest.mark.parametrize("change", [
    {"features": np.full((15, 192), np.nan, np.float32)},
    {"features": np.ones((14, 192), np.float32)},
    {"points": np.ones((15, 8), np.int16)},
    {"stamps": np.ones((3, 2), np.int64)},
])  # fmt: skip
def test_arrays_that_do_not_fit_are_refused(
    parts: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    save_index(tmp_path / "odd.npz", Index(**{**vars(open_index(parts / NAME)), **change}))
    with pytest.raises(DataError, match="is a damaged index of shapes"):
        open_index(tmp_path / "odd.npz")


def test_a_full_disk_leaves_the_old_index(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (parts / NAME).read_bytes()
    (parts / "box0.stl").unlink()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(WriteError, match="No space left"):
            build_index(parts)
    assert (parts / NAME).read_bytes() == before


def test_kept_points_have_one_frame() -> None:
    rng = np.random.default_rng(0)
    clouds = rng.normal(size=(3, KEPT + 50, 3)).astype(np.float32)
    np.testing.assert_allclose(kept(clouds * 7 + 2), kept(clouds), atol=2)
    found = kept(clouds).astype(np.float64) / 32767
    np.testing.assert_allclose(np.linalg.norm(found, axis=2).max(1), 1, atol=1e-4)
    np.testing.assert_allclose(found.max(1) + found.min(1), 0, atol=1e-4)


def test_duplicates(parts: Path) -> None:
    shutil.copy(parts / "rod0.off", parts / "again.off")
    mesh = trimesh.load(parts / "box2.stl")
    mesh.subdivide().subdivide().apply_scale(25.4).export(parts / "inches.ply")
    index = build_index(parts)
    found = [{path.name for path in group.paths} for group in duplicates(index)]
    assert {"rod0.off", "again.off"} in found
    assert {"box2.stl", "inches.ply"} in found, "other triangles, other points, other size"
    assert all(index.paths[row] == path for group in index.duplicates()
               for path, row in zip(group.paths, group.rows, strict=True))  # fmt: skip


def test_other_proportions_are_no_duplicates() -> None:
    def box(seed: int, *sides: float) -> np.ndarray:
        mesh = trimesh.creation.box(sides)
        return trimesh.sample.sample_surface(mesh, KEPT, seed=seed)[0]

    made = [box(0, 1, 1, 2), box(1, 2, 2, 4), box(2, 1, 1.1, 2)]
    clouds = kept(np.stack(made).astype(np.float32))
    shapes = Shapes(Index((), np.zeros((3, 2), np.int64), np.zeros((3, 1), np.float32), clouds,
                          None, ""))  # fmt: skip
    assert shapes.same(0, 1)
    assert not shapes.same(0, 2)
    assert shapes.apart(0, 1) <= SAME


def test_a_small_cloud_repeats_its_points(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        np.save(tmp_path / f"{name}.npy", np.random.default_rng(seed).normal(size=(20, 3)))
    found = build_index(tmp_path).duplicates()
    assert [[path.name for path in group.paths] for group in found] == [["a.npy", "b.npy"]]
