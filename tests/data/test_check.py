"""What the check finds in files that are wrong on purpose; what becomes of absent raw data."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Literal

import h5py
import numpy as np
import pytest
from cloud_sets import SIX, clouds_of, set_of, table_of

from sa3d import registry
from sa3d.config.base import Frozen
from sa3d.config.obtain import ABSENT_FILE
from sa3d.data.check import check, listed
from sa3d.data.cloud_table import Cloud
from sa3d.data.prepare import prepare, prepare_or_absent, stale
from sa3d.data.presence import inventory, is_absent
from sa3d.data.raw import About, RawCheck, raw_root
from sa3d.data.store import Episode, open_clouds
from sa3d.data.writing import write_clouds
from sa3d.errors import AbsentDataError, DataError

# --- the content of processed files -------------------------------------------------------


def spoilt(path: Path, name: str, place: Any, value: Any) -> None:
    """Change an array of a processed file, whatever its digest says."""
    with h5py.File(path, "r+") as file:
        file[name][place] = value


def problems(path: Path) -> str:
    found = check("s", None, path)
    assert found.flawed == bool(found.processed.problems)
    assert found.fine is not found.flawed
    return "\n".join(found.processed.problems)


def test_a_sound_file_has_facts_and_nothing_else(tmp_path: Path) -> None:
    clouds = set_of(tmp_path / "s.h5", SIX, normals=True)
    found = check("s", None, clouds.path).processed
    assert (found.state, found.problems, found.notes) == ("there", (), ())
    assert dict(found.facts) == {
        "bytes": clouds.path.stat().st_size,
        "clouds": 6,
        "least points": 5,
        "most points": 1024,
        "train": 4,
        "validation": 0,
        "test": 2,
        "classes": 2,
        "families": 4,
        "parts": 3,
        "episodes": 0,
        "normals": True,
        "normalisation": "subsample",
        "digest": clouds.digest,
        "source hash": "f00",
    }


def test_splits_and_episodes_are_counted(tmp_path: Path) -> None:
    split = np.array([0, 0, 2, 0, 1, 1], np.uint8)
    episode = Episode("2way", ("a/0-µ", "a/1-µ"), (0, 1), ("a/5-µ", "a/2-µ"), (1, 0))
    path = set_of(tmp_path / "s.h5", SIX, split=split, episodes=(episode,)).path
    facts = check("s", None, path).processed.facts
    names = ("train", "validation", "test", "episodes")
    assert [facts[name] for name in names] == [3, 1, 2, 1]


@pytest.mark.parametrize("name", ["points", "normals"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_numbers_that_are_not_finite(tmp_path: Path, name: str, value: float) -> None:
    path = set_of(tmp_path / "s.h5", SIX, normals=True).path
    spoilt(path, name, (17, 1), value)  # a point of the second cloud
    said = problems(path)
    assert "1 cloud with numbers that are not finite: a/1-µ" in said
    assert "its digest differs" in said


def test_labels_out_of_range(tmp_path: Path) -> None:
    path = set_of(tmp_path / "s.h5", SIX).path
    spoilt(path, "labels", 2, 7)
    assert "labels are not all within 2 classes" in problems(path)


def test_an_unknown_split(tmp_path: Path) -> None:
    path = set_of(tmp_path / "s.h5", SIX).path
    spoilt(path, "split", 3, 9)
    assert "1 cloud in no known split: a/3-µ" in problems(path)


def test_parts_of_another_class(tmp_path: Path) -> None:
    path = set_of(tmp_path / "s.h5", SIX).path
    spoilt(path, "part_labels", 0, 2)  # class `one` has parts 0 and 1
    assert "1 cloud with parts that their class does not have: a/0-µ" in problems(path)


def test_classes_without_clouds(tmp_path: Path) -> None:
    names = {"class_names": ("one", "two", "three"), "class_parts": ((0, 1), (1, 2), (0,))}
    path = set_of(tmp_path / "s.h5", SIX, **names).path
    assert problems(path) == "1 class without a cloud: three"
    labels = np.array([0, 0, 0, 0, 1, 1])
    path = set_of(tmp_path / "t.h5", SIX, parts=False, labels=labels, family=np.arange(6)).path
    assert check("t", None, path).processed.notes == ("1 class without a training cloud: two",)


def test_exact_copies_are_counted_with_examples(tmp_path: Path) -> None:
    """Row 1 is a copy of row 0 in another class, 5 of 2 in another split."""
    clouds = clouds_of([9] * 6, parts=False)
    for copy, of in ((1, 0), (5, 2)):
        clouds[copy] = Cloud(clouds[of].points, None, None)
    path = write_clouds(tmp_path / "s.h5", clouds, table_of(6, parts=False))
    found = check("s", None, path)
    assert found.processed.notes == (
        "1 cloud with exact copies within one split: a/0-µ = a/1-µ",
        "1 cloud with exact copies in more than one split: a/2-µ = a/5-µ",
        "2 clouds with exact copies in more than one class: a/0-µ = a/1-µ, a/2-µ = a/5-µ",
    )
    assert found.fine  # the public sets have some, too


def test_long_lists_are_cut_with_a_count(tmp_path: Path) -> None:
    path = set_of(tmp_path / "s.h5", [4] * 12, parts=False).path
    spoilt(path, "points", slice(None), np.nan)
    said = problems(path)
    assert "12 clouds with numbers" in said
    assert said.endswith("a/0-µ, a/1-µ, a/2-µ, a/3-µ, a/4-µ and 7 more")


# --- a source with raw files --------------------------------------------------------------


class FilesSource(Frozen):
    """One cloud of each of two files `one.txt` and `two.txt`."""

    about: ClassVar = About("Two files", "tests", "ours", obtain="Write them.", size="2 lines")

    source: Literal["files"] = "files"
    root: str
    scale: float = 1.0


def check_raw(source: FilesSource) -> RawCheck:
    root = raw_root(source.root)
    missing = [f"no {name} in {root}" for name in NAMES if not (root / name).is_file()]
    empty = [
        f"{name} is empty" for name in NAMES if name not in str(missing) and not texts(root, name)
    ]
    return RawCheck(root, {"clouds": 2 - len(missing)}, tuple(missing), tuple(empty))


def make(source: FilesSource, out: Path, *, quiet: bool) -> Path:
    found = check_raw(source)
    if not found.fine:
        raise DataError((*found.missing, *found.problems)[0])
    root = raw_root(source.root)
    points = [np.loadtxt(root / name, dtype=np.float32) * source.scale for name in NAMES]
    table = table_of(2, parts=False, split=np.array([0, 0], np.uint8))
    return write_clouds(out, [Cloud(each, None, None) for each in points], table)


def texts(root: Path, name: str) -> str:
    return (root / name).read_text()


NAMES = ("one.txt", "two.txt")


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    here = registry.Component(f"{__name__}:make", f"{__name__}:FilesSource")
    monkeypatch.setitem(registry.SOURCES, "files", here)


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a raw data set as it is committed: a README alone."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text(
        "datasets: {set: {source: files, root: raw}}\nexperiments: {}\n"
    )
    folder = tmp_path / "raw"
    folder.mkdir()
    (folder / "README.md").write_text("Files go here.")
    (folder / ".fetch.lock").touch()
    return folder


def put(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(f"0 0 {len(name)}\n1 1 1\n{len(name)} 0 1\n{ord(name[0])} 0 0\n")


SOURCE = FilesSource(root="raw")
OUT = Path("data/processed/set.h5")


def states() -> tuple[str, str]:
    """The same from both commands."""
    found, row = check("set", SOURCE, OUT), listed("set", SOURCE, OUT)
    assert (row.raw, row.processed) == (found.raw_state, found.processed.state)
    return row.raw, row.processed


def test_absent_raw_data_leave_a_file_that_says_so(raw: Path) -> None:
    with pytest.raises(DataError, match="no one"):
        prepare("set", SOURCE, OUT, quiet=True)
    assert not OUT.exists()
    made, said = prepare_or_absent("set", SOURCE, OUT, quiet=True)
    assert said == "no raw data in raw; set is absent, and what needs it is skipped"
    assert (made, OUT.read_bytes()) == (OUT, ABSENT_FILE)
    assert json.loads(OUT.with_suffix(".json").read_text()) == {"absent": "no raw data in raw"}
    with pytest.raises(AbsentDataError, match="no raw data in raw"):
        open_clouds(OUT)
    assert states() == ("absent", "absent")

    put(raw, *NAMES)
    assert states() == ("there", "stale")
    assert prepare_or_absent("set", SOURCE, OUT, quiet=True) == (OUT, "")
    assert len(open_clouds(OUT)) == 2
    assert states() == ("there", "there")
    assert check("set", SOURCE, OUT).fine


@pytest.mark.parametrize("names", [("one.txt",), ("one.txt.part",)])
def test_half_of_the_raw_data_is_an_error(raw: Path, names: tuple[str, ...]) -> None:
    put(raw, *names)
    with pytest.raises(DataError, match=r"no (one|two)\.txt"):
        prepare_or_absent("set", SOURCE, OUT, quiet=True)
    assert not OUT.exists()
    assert states() == ("incomplete", "absent")
    assert check("set", SOURCE, OUT).flawed


def test_an_inventory_counts_what_is_the_data_sets_own(raw: Path, tmp_path: Path) -> None:
    assert inventory(raw) == (0, 0)  # the README and a hidden file alone
    assert inventory(raw / "nowhere") == inventory(None) == (0, 0)
    (raw / "deep" / ".cache").mkdir(parents=True)
    (raw / "deep" / "README.md").write_text("1234")
    (raw / "deep" / ".cache" / "x").write_text("12345678")
    (raw / "deep" / "lost").symlink_to(tmp_path / "nowhere")
    (raw / "deep" / "circle").symlink_to(raw / "deep" / "circle")
    (raw / "up").symlink_to(tmp_path)
    assert inventory(raw) == (4, 4)
    assert inventory(raw / "deep" / "README.md") == (1, 4)


def test_in_a_folder_of_several_sets_one_can_be_absent(raw: Path) -> None:
    """ScanObjectNN's variants lie in one folder."""
    put(raw, "one.txt")
    nothing = RawCheck(raw, missing=("two.txt",), found=0)
    assert is_absent(nothing)
    assert not is_absent(RawCheck(raw, missing=("two.txt",)))
    assert not is_absent(RawCheck(raw, found=0))  # a set without files lacks none
    assert not is_absent(RawCheck(raw, missing=("two.txt",), problems=("bad",), found=0))


def test_an_empty_raw_file_is_a_problem(raw: Path) -> None:
    put(raw, *NAMES)
    (raw / "two.txt").write_text("")
    found = check("set", SOURCE, OUT)
    assert found.raw is not None
    assert found.raw.problems == ("two.txt is empty",)
    assert "two.txt is empty" in listed("set", SOURCE, OUT).note


def test_a_processed_file_outlives_its_raw_data(raw: Path) -> None:
    """It may be all that the user has."""
    put(raw, *NAMES)
    prepare("set", SOURCE, OUT, quiet=True)
    before = OUT.read_bytes()
    for name in NAMES:
        (raw / name).unlink()
    _, said = prepare_or_absent("set", SOURCE, OUT, quiet=True)
    assert said == f"no raw data in raw; {OUT}, which is there, is used as it is"
    assert OUT.read_bytes() == before
    assert states() == ("absent", "there")
    other = FilesSource(root="raw", scale=2.0)
    with pytest.raises(DataError, match="made with other settings"):
        prepare_or_absent("set", other, OUT, quiet=True)
    assert OUT.read_bytes() == before


def test_a_file_is_stale_when_its_settings_or_raw_files_change(raw: Path) -> None:
    put(raw, *NAMES)
    prepare("set", SOURCE, OUT, quiet=True)
    assert stale(SOURCE, OUT) == ""
    assert "settings" in stale(FilesSource(root="raw", scale=2.0), OUT)
    (raw / "one.txt").write_text("0 0 0\n1 1 1\n")
    assert "raw files" in stale(SOURCE, OUT)
    assert states() == ("there", "stale")
    assert check("set", SOURCE, OUT).fine  # runs may go on with it
