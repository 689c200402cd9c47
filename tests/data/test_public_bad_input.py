"""Bad input of public data sets: one clear line each, and nothing left under the final name."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import official_layouts as layouts
import pytest
from damaged_layouts import (
    BED,
    CAR,
    CASES,
    DAT,
    H5,
    KINDS,
    OBJ,
    PKL,
    Damage,
    check_raw,
    edit,
    in_lines,
    tree,
)

from sa3d.config.obtain import absence
from sa3d.data.check import listed as set_listed
from sa3d.data.prepare import prepare, prepare_or_absent, stale
from sa3d.data.presence import is_absent
from sa3d.data.processed_check import processed_check
from sa3d.data.sources.official import files
from sa3d.data.store import open_clouds
from sa3d.errors import DataError

# --- damaged files ------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "damage", "told"), CASES)
def test_bad_input_is_told_in_one_line(
    kind: str, damage: Damage, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = tree(kind, tmp_path / "raw")
    damage(tmp_path / "raw")
    out = tmp_path / "x.h5"
    with pytest.raises(DataError, match=told) as error:
        prepare(kind, source, out, quiet=True)
    assert "\n" not in str(error.value)
    assert not out.exists()
    assert not (tmp_path / "harm").exists()


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_finds_a_whole_tree_fine(kind: str, tmp_path: Path) -> None:
    found = check_raw(tree(kind, tmp_path / "raw"))
    assert found.fine
    assert found.place == tmp_path / "raw"


@pytest.mark.parametrize("kind", KINDS)
def test_the_check_of_nothing_says_what_belongs_where(kind: str, tmp_path: Path) -> None:
    source = tree(kind, tmp_path / "raw").model_copy(update={"root": str(tmp_path / "none")})
    found = check_raw(source)
    assert not found.fine
    [line] = found.missing
    assert str(tmp_path / "none") in line
    with pytest.raises(DataError, match=r"docs/data_sets\.md shows"):
        prepare(kind, source, tmp_path / "x.h5", quiet=True)


@pytest.mark.parametrize("kind", KINDS)
def test_the_list_reads_no_cloud(kind: str, tmp_path: Path) -> None:
    """It would take minutes on large sets; that clouds are damaged is for the check to find."""
    source = tree(kind, tmp_path / "raw")
    a_list = re.compile(r".*(names|_train|_test|category)\.txt|(train|test)\.txt|.*\.json")
    for path in (tmp_path / "raw").rglob("*.*"):
        if not a_list.fullmatch(path.name):
            path.write_bytes(b"damaged")
    row = set_listed("x", source, tmp_path / "x.h5")
    assert (row.raw, row.note) == ("there", "")
    assert check_raw(source).problems


READ_WHOLE = ("hdf5", "scan", "dat", "fewshot")  # by the check too; of the others, a few files


@pytest.mark.parametrize(
    ("kind", "damage", "told"), [case for case in CASES if case[0] in READ_WHOLE]
)
def test_the_check_tells_it_too(kind: str, damage: Damage, told: str, tmp_path: Path) -> None:
    source = tree(kind, tmp_path / "raw")
    damage(tmp_path / "raw")
    found = check_raw(source)
    [line] = (*found.problems, *found.missing)
    assert re.search(told, line)


# --- files that are missing ---------------------------------------------------------------


def test_missing_files_are_counted_and_the_first_ten_named(tmp_path: Path) -> None:
    source = tree("modelnet40", tmp_path / "raw")
    gone = [f"{name}_0001" for name in layouts.MODELNET10] + ["sofa_0002", "toilet_0002"]
    for each in gone:
        (tmp_path / "raw" / each.rpartition("_")[0] / f"{each}.txt").unlink()
    with pytest.raises(DataError, match=r"lacks 12 of 20 files .*--allow-missing") as error:
        prepare("x", source, tmp_path / "x.h5", quiet=True)
    assert str(error.value).count(".txt") == 10
    found = check_raw(source)
    assert not found.fine
    assert found.missing[0].startswith("12 files in")
    clouds = open_clouds(prepare("x", source, tmp_path / "x.h5", quiet=True, allow_missing=True))
    assert len(clouds) == 8
    assert clouds.class_names == layouts.MODELNET10  # labels do not move
    assert not set(clouds.ids) & set(gone)
    facts = json.loads((tmp_path / "x.json").read_text())
    assert facts["missing"] == 12
    assert facts["missing_examples"] == [f"{n}/{n}_0001.txt" for n in layouts.MODELNET10]
    assert "12 of 20 files were missing" in facts["note"]
    assert facts["official_counts"] == {"train": 3991, "test": 908}


@pytest.mark.parametrize(
    ("kind", "name"), [("hdf5", H5), ("fewshot", PKL), ("scan", OBJ), ("dat", DAT), ("part", CAR)]
)
def test_other_sets_go_on_without_a_file_too(kind: str, name: str, tmp_path: Path) -> None:
    source = tree(kind, tmp_path / "raw")
    (tmp_path / "raw" / name).unlink()
    with pytest.raises(DataError, match=f"lacks 1 of .* files .{name}"):
        prepare("x", source, tmp_path / "x.h5", quiet=True)
    prepare("x", source, tmp_path / "x.h5", quiet=True, allow_missing=True)
    assert json.loads((tmp_path / "x.json").read_text())["missing_examples"] == [name]


def test_a_data_set_made_without_some_files_is_not_damaged(tmp_path: Path) -> None:
    source = tree("modelnet40", tmp_path / "raw")
    for each in (tmp_path / "raw" / "bed").iterdir():
        each.unlink()
    out = prepare("x", source, tmp_path / "x.h5", quiet=True, allow_missing=True)
    found = processed_check("x", source, out)
    assert (found.state, found.problems) == ("there", ())
    assert "made without 2 missing files (--allow-missing)" in found.notes
    assert "1 class without a cloud: bed" in found.notes


def test_with_no_file_at_all_nothing_is_made(tmp_path: Path) -> None:
    source = tree("shapenet55", tmp_path / "raw")
    for each in (tmp_path / "raw" / "shapenet_pc").iterdir():
        each.unlink()
    with pytest.raises(DataError, match="none of the 9 files that belong there"):
        prepare("x", source, tmp_path / "x.h5", quiet=True, allow_missing=True)


@pytest.mark.parametrize("variant", ["obj-only", "pb-t50-rs"])
def test_a_variant_of_scanobjectnn_can_be_absent_beside_another(
    variant: str, tmp_path: Path
) -> None:
    source = tree("scan", tmp_path / "raw")
    shutil.rmtree(tmp_path / "raw" / "main_split_nobg")
    for each in (tmp_path / "raw" / "main_split").glob("*_augmentedrot_scale75.h5"):
        each.unlink()
    assert check_raw(source).fine
    other = source.model_copy(update={"variant": variant})
    assert is_absent(check_raw(other))
    prepare_or_absent("x", other, tmp_path / "x.h5", quiet=True)
    assert absence(tmp_path / "x.h5") is not None
    assert stale(other, tmp_path / "x.h5") == ""  # the other variant's files are none of its own


# --- what is no fault but worth knowing ---------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("modelnet40", ("modelnet10_train.txt", BED)),
        ("dat", ("modelnet10_shape_names.txt",)),
        ("shapenet55", ("ShapeNet-55/test.txt",)),
        ("part", ("synsetoffset2category.txt", CAR)),
    ],
)
def test_the_check_notes_windows_line_ends(
    kind: str, names: tuple[str, ...], tmp_path: Path
) -> None:
    source = tree(kind, tmp_path / "raw")
    assert not any("CRLF" in note for note in check_raw(source).notes)
    for name in names:
        path = tmp_path / "raw" / name
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    found = check_raw(source)
    assert found.fine
    [note] = [note for note in found.notes if "CRLF" in note]
    files = "1 file" if len(names) == 1 else f"{len(names)} files"
    assert note.endswith(f"in {files}: {', '.join(Path(name).name for name in names)}.")


@pytest.mark.parametrize("kind", ["modelnet40", "dat"])
@pytest.mark.parametrize("variant", [10, 40])
def test_class_names_in_another_order_are_noted(kind: str, variant: int, tmp_path: Path) -> None:
    source = tree(kind, tmp_path / "raw").model_copy(update={"variant": variant})
    said = "shape_names.txt differs from the published one: class 2 is"
    assert not any(said in note for note in check_raw(source).notes)
    edit(
        tmp_path / "raw" / f"modelnet{variant}_shape_names.txt",
        lambda lines: lines.insert(2, lines.pop(1)),
    )
    found = check_raw(source)
    assert found.fine
    second, third = {10: ("chair", "bed"), 40: ("bed", "bathtub")}[variant]
    assert any(f"{said} {second}, published is {third}." in note for note in found.notes)
    prepare("x", source, tmp_path / "x.h5", quiet=True)
    assert said in json.loads((tmp_path / "x.json").read_text())["note"]


def test_class_names_of_shapenetpart_too(tmp_path: Path) -> None:
    source = tree("part", tmp_path / "raw")
    assert not any("differs" in note for note in check_raw(source).notes)
    in_lines("synsetoffset2category.txt", 1, "Sack 02773838")(tmp_path / "raw")
    assert (
        "synsetoffset2category.txt differs from the published one: class 2 is Sack, published is "
        "Bag."
    ) in check_raw(source).notes


# --- files that move while they are read ----------------------------------------------------


def test_a_file_that_grows_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tree("modelnet40", tmp_path / "raw")
    bed = tmp_path / "raw" / BED
    read = Path.read_bytes

    def grown(path: Path) -> bytes:
        data = read(path)
        if path == bed:
            path.write_bytes(data + data)
        return data

    monkeypatch.setattr(Path, "read_bytes", grown)
    with pytest.raises(DataError, match=r"bed_0001.txt changed while it was read"):
        prepare("x", source, tmp_path / "x.h5", quiet=True)


def test_a_container_that_grows_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"1")

    def grow() -> None:
        with files.unchanging(path):
            path.write_bytes(b"22")

    with pytest.raises(DataError, match="changed while it was read"):
        grow()


def test_two_copies_of_a_data_set_are_refused(tmp_path: Path) -> None:
    source = tree("modelnet40", tmp_path / "raw")
    layouts.write_modelnet40(tmp_path / "raw" / "modelnet40_normal_resampled")
    with pytest.raises(DataError, match=r"both hold modelnet10_shape_names\.txt; keep one"):
        prepare("x", source, tmp_path / "x.h5", quiet=True)
