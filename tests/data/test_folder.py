"""The `folder` source: layouts, splits, families, copies, labels."""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trimesh
from folder_cases import NUMBERS, fill, made, source, splits, write

from sa3d.data import parallel
from sa3d.data.families import families_of_names, without_numbers
from sa3d.data.raw import RawCheck
from sa3d.data.sources.folder.files import list_folder
from sa3d.data.sources.folder.source import build, check_raw, inspect
from sa3d.data.sources.folder.table import table
from sa3d.data.store import TEST, TRAIN, VALIDATION, open_clouds

KINDS = ("obj", "ply", "stl", "off", "glb", "pcd", "npy", "xyz")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of eight formats."""
    places = [f"{name}/{name}_{i}.{kind}" for name in NUMBERS for i, kind in enumerate(KINDS)]
    return fill(tmp_path_factory.mktemp("mixed"), *places)


def test_class_folders_of_every_format(mixed: Path, tmp_path: Path) -> None:
    clouds = made(mixed, tmp_path)
    assert clouds.class_names == ("chair", "mug")
    assert clouds.ids == tuple(f"{name}/{name}_{i}" for name in NUMBERS for i in range(8))
    assert clouds.labels.tolist() == [0] * 8 + [1] * 8
    sizes = dict(zip(clouds.ids, clouds.sizes.tolist(), strict=True))
    assert [sizes[f"mug/mug_{i}"] for i in range(8)] == [128] * 5 + [100] * 3
    assert clouds.normalisation == "subsample"
    for label in (0, 1):  # 20 % of 8, to the nearest
        assert (clouds.split[clouds.labels == label] == TEST).sum() == 2
    for row in range(len(clouds)):
        radius = np.linalg.norm(clouds.cloud(row), axis=1)
        assert radius.max() == pytest.approx(1.0, abs=1e-5)
    facts = json.loads((tmp_path / "own.json").read_text())
    assert facts["formats"] == dict.fromkeys(sorted(KINDS), 2)
    assert facts["licence"]
    assert facts["split"].startswith("Made from a seed")


def test_the_same_folder_gives_the_same_bytes(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def backwards(function: Any, items: Any) -> Any:
        every = list(items)
        found = {}
        for at in random.Random(0).sample(range(len(every)), len(every)):
            found[at] = function(every[at])
        return (found[at] for at in range(len(every)))

    made(mixed, tmp_path / "a")
    monkeypatch.setattr("sa3d.data.sources.folder.source.ordered_map", backwards)
    made(mixed, tmp_path / "b")
    assert (tmp_path / "a" / "own.h5").read_bytes() == (tmp_path / "b" / "own.h5").read_bytes()


def test_each_file_draws_from_a_generator_of_its_own(mixed: Path, tmp_path: Path) -> None:
    whole = made(mixed, tmp_path / "a")
    part = made(mixed, tmp_path / "b", formats=("obj", "xyz"))
    other = made(mixed, tmp_path / "c", formats=("obj", "xyz"), seed=1)
    for row, name in enumerate(part.ids):
        np.testing.assert_array_equal(part.cloud(row), whole.cloud(whole.ids.index(name)))
    assert not np.array_equal(part.cloud(0), other.cloud(0))
    root = fill(tmp_path / "raw", "box/a.obj")
    write(root / "box/b.obj", 0)  # the same box
    twins = made(root, tmp_path / "d", merge_copies=False)
    assert not np.array_equal(twins.cloud(0), twins.cloud(1))


def test_the_source_hash_tells_files_and_settings_but_not_places(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", "box/a.xyz", "box/b.xyz")
    first = made(root, tmp_path / "a").source_hash
    moved = root.rename(tmp_path / "moved")
    assert made(moved, tmp_path / "b").source_hash == first
    assert made(moved, tmp_path / "c", seed=1).source_hash != first
    write(moved / "box/b.xyz", 9)
    assert made(moved, tmp_path / "d").source_hash != first


@pytest.mark.parametrize(
    "pattern", ["{name}/{split}/{stem}.obj", "{split}/{name}/{stem}.obj"], ids=["inner", "outer"]
)
def test_a_split_that_the_folder_gives(pattern: str, tmp_path: Path) -> None:
    wanted = {"train": TRAIN, "test": TEST, "validation": VALIDATION}
    places = {
        pattern.format(name=name, split=split, stem=f"{split}{i}"): number
        for name in NUMBERS
        for split, number in wanted.items()
        for i in range(2)
    }
    clouds = made(fill(tmp_path / "raw", *places), tmp_path)
    assert clouds.class_names == ("chair", "mug")
    assert splits(clouds) == {place.removesuffix(".obj"): n for place, n in places.items()}
    assert [clouds.class_names[i] for i in clouds.labels] == [
        "mug" if "mug" in name else "chair" for name in clouds.ids
    ]


def test_files_without_classes_are_one_class(tmp_path: Path) -> None:
    clouds = made(fill(tmp_path / "a", *(f"scan{i}.xyz" for i in range(10))), tmp_path / "x")
    assert clouds.class_names == ("all",)
    assert (clouds.split == TEST).sum() == 2
    both = fill(tmp_path / "b", *(f"{s}/{i}.xyz" for s in ("train", "test") for i in range(3)))
    clouds = made(both, tmp_path / "y")
    assert clouds.class_names == ("all",)
    assert clouds.split.tolist() == [TEST] * 3 + [TRAIN] * 3


def test_deeper_folders_belong_to_their_class(tmp_path: Path) -> None:
    places = [f"chair/{i}/models/model.obj" for i in range(6)] + ["mug/a/b.obj", "mug/c/b.obj"]
    clouds = made(fill(tmp_path / "raw", *places), tmp_path)
    assert clouds.class_names == ("chair", "mug")
    assert clouds.ids[0] == "chair/0/models/model"


def test_names_that_show_families_and_names_that_count() -> None:
    assert without_numbers("DIP-14_W7.62mm") == "DIP-#_W#mm"
    assert families_of_names(["chair_0001", "chair_0002", "chair_0003", "stool_1"]) == [
        "chair_0001", "chair_0002", "chair_0003", "stool_1",
    ]  # fmt: skip
    names = [f"{kind}-{pins}" for kind in ("dip", "sop", "qfp", "bga", "lga") for pins in (8, 14)]
    assert families_of_names(names) == [f"{name.split('-')[0]}-#" for name in names]
    assert families_of_names(names, "files") == names
    # too few to choose from
    assert families_of_names(names[:8]) == names[:8]
    assert families_of_names(names[:3], "names") == ["dip-#", "dip-#", "sop-#"]
    assert families_of_names([]) == []


def test_families_are_held_out_whole(tmp_path: Path) -> None:
    places = [f"chip/{kind}-{i}.obj" for kind in "abcde" for i in range(4)]
    clouds = made(fill(tmp_path / "raw", *places), tmp_path)
    tested = {name.split("-")[0] for name, split in splits(clouds).items() if split == TEST}
    trained = {name.split("-")[0] for name, split in splits(clouds).items() if split == TRAIN}
    assert len(tested) == 1
    assert not tested & trained
    apart = made(tmp_path / "raw", tmp_path / "apart", families="files")
    assert len(set(apart.family.tolist())) == 20


def test_copies_are_merged_and_those_of_two_classes_left_out(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", *(f"{name}/{i}x.obj" for name in NUMBERS for i in range(6)))
    mesh = trimesh.load_mesh(root / "chair/0x.obj")
    mesh.apply_transform(trimesh.transformations.rotation_matrix(0.7, [1, 2, 3]))
    mesh.export(root / "chair/turned.stl")
    write(root / "mug/a.npy", 5)
    write(root / "mug/b.npy", 5)
    write(root / "mug/c.npy", 6)
    write(root / "chair/c.npy", 6)
    survey = build(source(root), tmp_path / "own.h5", quiet=True)
    clouds = open_clouds(tmp_path / "own.h5")
    assert survey.plan.copies is not None
    assert survey.plan.copies.merged == [
        ("chair/turned", "chair/0x"),
        ("mug/b", "mug/a"),
    ]
    assert sorted(survey.plan.copies.ambiguous) == [
        "chair/c is like mug/c",
        "mug/c is like chair/c",
    ]
    assert not {"chair/turned", "mug/b", "mug/c", "chair/c"} & set(clouds.ids)
    assert (
        "2 files hold a shape that another file of the class holds too; one of each is kept "
        "(chair/turned is a copy of chair/0x, mug/b is a copy of mug/a)"
    ) in survey.warnings()
    assert table(survey)[0].split("  ")[:3] == ["class", "files", "left out"]
    assert table(survey)[1].split()[:3] == ["chair", "8", "2"]
    kept = made(root, tmp_path / "all", merge_copies=False)
    assert {"chair/turned", "mug/b", "mug/c", "chair/c"} <= set(kept.ids)


def test_copies_across_a_given_split_stay_and_are_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", "train/chair/a.obj", "train/chair/b.obj", "test/chair/c.obj")
    (root / "test/chair/d.obj").write_bytes((root / "train/chair/a.obj").read_bytes())
    survey = build(source(root), tmp_path / "own.h5", quiet=True)
    assert survey.plan.leaks == ("test/chair/d is train/chair/a",)
    assert any("copies of training files" in line for line in survey.warnings())
    assert len(open_clouds(tmp_path / "own.h5")) == 4
    facts = json.loads((tmp_path / "own.json").read_text())
    assert facts["copies_across_splits"] == 1


def labelled(path: Path, labels: list[int], number: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    points = np.random.default_rng(number).normal(size=(len(labels), 3))
    np.savetxt(path, np.c_[points, labels], fmt="%.6f")


def test_part_labels(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    for i in range(4):
        labelled(root / f"chair/{i}.txt", [3, 7] * 50, i)
        labelled(root / f"mug/{i}.txt", [7, 11] * 50, 10 + i)
    clouds = made(root, tmp_path / "a")
    assert clouds.part_names == ("3", "7", "11")
    assert clouds.class_parts == ((0, 1), (1, 2))
    assert clouds.parts(0).tolist() == [0, 1] * 50
    assert made(root, tmp_path / "b", parts=False).part_names == ()
    write(root / "mug/plain.xyz", 77)
    survey = build(source(root), tmp_path / "c.h5", quiet=True)
    assert open_clouds(tmp_path / "c.h5").part_names == ()
    assert any("8 of 9 files have part labels" in line for line in survey.warnings())


def test_labels_of_mesh_faces_come_with_the_points(tmp_path: Path) -> None:
    for i in range(3):
        box = trimesh.creation.box(extents=(1.0, 1.0 + i, 0.5))
        top = box.triangles_center[:, 1] > 0.49 * (1.0 + i)
        box.face_attributes["label"] = np.where(top, 4, 2).astype(np.int32)
        path = tmp_path / "raw" / "box" / f"b{i}.ply"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(box.export(file_type="ply"))
    clouds = made(tmp_path / "raw", tmp_path, normalisation="none")
    assert clouds.part_names == ("2", "4")
    for row in range(3):
        height = (1.0 + int(clouds.ids[row][-1])) / 2
        points, parts = clouds.cloud(row), clouds.parts(row)
        np.testing.assert_array_equal(np.isclose(points[:, 1], height), parts == 1)


@pytest.mark.parametrize(
    ("up", "expected"), [("y", [1, 2, 3]), ("z", [1, 3, -2]), ("x", [-2, 1, 3])]
)
def test_the_axis_that_points_up_becomes_y(up: str, expected: list[int], tmp_path: Path) -> None:
    rows = np.random.default_rng(0).normal(size=(64, 3))
    rows[0] = 1, 2, 3
    for name in ("a", "b"):
        path = tmp_path / "raw" / f"{name}.npy"
        path.parent.mkdir(exist_ok=True)
        np.save(path, rows if name == "a" else rows[::-1] * 2)
    clouds = made(tmp_path / "raw", tmp_path, up=up, normalisation="none")
    turned = clouds.cloud(0).astype(float)
    assert turned[0].tolist() == expected
    # a rotation, no mirror image
    matrix = np.linalg.lstsq(rows, turned, rcond=None)[0]
    assert np.linalg.det(matrix) == pytest.approx(1.0, abs=1e-5)


def test_a_large_cloud_keeps_its_farthest_points(tmp_path: Path) -> None:
    root = tmp_path / "raw"
    rng = np.random.default_rng(0)
    dense = np.r_[rng.normal(0, 0.01, size=(1000, 3)), np.eye(3) * 5]
    for name in ("a", "b"):
        labels = np.r_[np.zeros(1000, int), np.ones(3, int)] if name == "a" else np.zeros(1003, int)
        root.mkdir(exist_ok=True)
        np.savez(root / f"{name}.npz", points=dense * (1 if name == "a" else 2), labels=labels)
    clouds = made(root, tmp_path, points=64, normalisation="none", merge_copies=False)
    assert clouds.num_points == 64
    assert np.sort(clouds.parts(0))[-4:].tolist() == [0, 1, 1, 1]
    assert {tuple(row) for row in clouds.cloud(0).tolist()} >= {(5, 0, 0), (0, 5, 0), (0, 0, 5)}


def test_no_file_is_opened_twice(
    mixed: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_INLINE", 10**6)  # the hook listens in this process only
    made(mixed, tmp_path / "first")
    opened: list[str] = []
    listening = True

    def listen(event: str, arguments: tuple[Any, ...]) -> None:
        if listening and event == "open" and str(arguments[0]).startswith(str(mixed)):
            opened.append(os.path.relpath(str(arguments[0]), mixed))

    sys.addaudithook(listen)
    made(mixed, tmp_path / "second")
    listening = False
    assert sorted(opened) == sorted(file.place for file in list_folder(mixed).files)


def test_the_table_and_the_check(mixed: Path) -> None:
    rows = [line.split("  ") for line in table(inspect(source(mixed), quiet=True))]
    assert len(rows) == 4  # a header, two classes, all
    words = [" ".join(row).split() for row in rows]
    assert words[0] == ["class", "files", "train", "test", "families", "formats", "triangles",
                        "points"]  # fmt: skip
    assert words[1][:5] == ["chair", "8", "6", "2", "8"]
    assert words[3][:5] == ["all", "16", "12", "4", "16"]
    assert words[3][-2:] == ["12", "100"]
    found = check_raw(source(mixed))
    assert isinstance(found, RawCheck)
    assert found.fine
    assert found.facts["files"] == 16
    assert check_raw(source(mixed / "none")).missing


@pytest.mark.slow
def test_several_processes_give_the_bytes_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = [f"{name}/{i}.{kind}" for name in NUMBERS for i in range(60) for kind in ("off",)]
    root = fill(tmp_path / "raw", *places)
    made(root, tmp_path / "several")
    monkeypatch.setattr(parallel, "_INLINE", 10**6)
    made(root, tmp_path / "one")
    one, several = ((tmp_path / name / "own.h5").read_bytes() for name in ("one", "several"))
    assert one == several
