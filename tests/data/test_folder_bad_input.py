"""What is wrong with a folder of one's own is told, and one bad file does not end the rest."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from folder_cases import fill, made, problems, source, write

from sa3d.data.sources.folder.files import list_folder
from sa3d.data.sources.folder.settings import FolderSource
from sa3d.data.sources.folder.source import build, inspect
from sa3d.data.store import TRAIN, open_clouds
from sa3d.errors import DataError


def test_hidden_files_and_those_of_other_formats(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", *(f"chair/{i}.OBJ" for i in range(4)), "mug/a.obj", "mug/b.obj")
    for place in ("chair/._0.OBJ", ".DS_Store", "chair/.hidden.obj", "__MACOSX/chair/x.obj"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(b"not a mesh")
    (root / "mug/a.mtl").write_text("newmtl red")
    (root / "notes.txt").write_text("read me")
    listing = list_folder(root)
    assert [file.place for file in listing.files][:2] == ["chair/0.OBJ", "chair/1.OBJ"]
    assert len(listing.files) == 6
    assert listing.problems == ()
    assert listing.notes == (
        "1 file beside the folders is not read: notes.txt",
        "1 file of other formats is not read: 1 .mtl",
    )
    assert len(made(root, tmp_path)) == 6


def test_what_a_folder_cannot_be(tmp_path: Path) -> None:
    assert "no folder" in problems(tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no file of a known format (.off, .obj" in problems(empty)
    lacking = fill(tmp_path / "a", "chair/a.obj", "chair/b.obj")
    (lacking / "mug").mkdir()
    (lacking / "mug" / "x.blend").write_text("")
    assert "the class folder 'mug' holds no file" in problems(lacking)
    assert "a.obj and chair/a.stl" in problems(fill(tmp_path / "b", "chair/a.obj", "chair/a.stl"))
    assert len(list_folder(tmp_path / "b", ("stl",)).files) == 1
    beside = fill(tmp_path / "c", "train/chair/a.obj", "test/chair/b.obj", "mug/c.obj")
    assert "the folders mug beside test, train" in problems(beside)
    half = fill(tmp_path / "d", "chair/train/a.obj", "chair/test/b.obj", "mug/c.obj")
    assert "in no folder of the split or class: mug/c.obj" in problems(half)
    assert "no files in `test`" in problems(fill(tmp_path / "e", "train/mug/a.obj"))
    only = fill(tmp_path / "f", "train/mug/a.obj", "test/mug/b.obj", "test/chair/c.obj")
    assert "class 'chair' has no file to train on" in problems(only)


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", "chair/a.obj", "chair/b.obj")
    (root / "chair" / "b.obj").rename(os.fsdecode(os.fsencode(root / "chair") + b"/\xff.obj"))
    assert "1 names are not valid UTF-8" in problems(root)


def test_a_circle_of_links(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", "chair/a.obj", "chair/b.obj")
    (root / "chair" / "again").symlink_to(root, target_is_directory=True)
    assert "the link chair/again leads back" in problems(root)
    (root / "chair" / "again").unlink()
    elsewhere = fill(tmp_path / "elsewhere", "c.obj")
    (root / "chair" / "more").symlink_to(elsewhere, target_is_directory=True)
    assert [file.place for file in list_folder(root).files][-1] == "chair/more/c.obj"


def test_unreadable_files_are_named_and_few_of_them_passed_over(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", *(f"chair/{i}.xyz" for i in range(9)))
    write(root / "chair/few.xyz", 50, points=63)
    survey = build(source(root), tmp_path / "own.h5", quiet=True)
    assert [(o.file.place, o.reason) for o in survey.unreadable] == [
        ("chair/few.xyz", "has 63 points; at least 64 are needed")
    ]
    facts = json.loads((tmp_path / "own.json").read_text())
    assert facts["unreadable"] == 1
    assert "chair/few" not in open_clouds(tmp_path / "own.h5").ids
    (root / "chair/same.xyz").write_text("1 2 3\n" * 100)
    (tmp_path / "own.h5").unlink()
    said = problems_of_build(root, tmp_path / "own.h5")
    assert "2 of 11 files cannot be read (chair/few.xyz: has 63 points" in said
    assert not (tmp_path / "own.h5").exists()
    assert len(inspect(source(root), quiet=True).read) == 10


def problems_of_build(root: Path, out: Path) -> str:
    with pytest.raises(DataError) as caught:
        build(source(root), out, quiet=True)
    return str(caught.value)


def test_a_class_of_one_file_is_trained_on_and_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", *(f"chair/{i}.obj" for i in range(5)), "mug/a.obj")
    survey = build(source(root), tmp_path / "own.h5", quiet=True)
    assert survey.plan.untested == ("mug",)
    assert any("no test file: mug" in line for line in survey.warnings())
    assert sum(survey.class_clouds(TRAIN)) == 5


def test_a_class_without_a_readable_file_is_told(tmp_path: Path) -> None:
    root = fill(tmp_path / "raw", *(f"chair/{i}.obj" for i in range(5)), "mug/a.obj")
    (root / "mug/a.obj").write_text("v 0 0 0\n")
    survey = inspect(source(root), quiet=True)
    assert "1 class is not in the data set, as no file there can be used: mug" in survey.warnings()


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="unknown format 'blend'"):
        FolderSource(root="x", formats=("blend",))
    assert FolderSource(root="x", formats=("ply",)).formats == ("ply",)
