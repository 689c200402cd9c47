"""Writing a set: bad clouds and tables are named, nothing half-written stays, memory stays flat."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cloud_sets import SIX, clouds_of, table_of

from sa3d.data.cloud_table import Cloud
from sa3d.data.store import Episode, open_clouds
from sa3d.data.writing import write_clouds
from sa3d.errors import DataError, WriteError
from sa3d.utils import files


def spoilt(how: str) -> list[Cloud]:
    """The six clouds, the fourth of them bad."""
    clouds = clouds_of(SIX, normals=True)
    cloud = clouds[3]
    points, parts, normals = cloud.points, cloud.parts, cloud.normals
    assert parts is not None
    assert normals is not None
    if how in ("nan", "inf"):
        points[2, 1] = float(how)
    clouds[3] = {
        "equal": Cloud(np.full((16, 3), 0.25), parts, normals),
        "flat": Cloud(points[:, :2], parts, normals),
        "empty": Cloud(points[:0], parts[:0], normals[:0]),
        "short parts": Cloud(points, parts[:-1], normals),
        "foreign part": Cloud(points, np.where(np.arange(16) == 9, 0, parts), normals),
        "short normals": Cloud(points, parts, normals[:-1]),
        "nan normals": Cloud(points, parts, np.full((16, 3), np.nan)),
        "no parts": Cloud(points, None, normals),
        "no normals": Cloud(points, parts),
    }.get(how, cloud)
    return clouds


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("nan", "non-finite"),
        ("inf", "non-finite"),
        ("equal", "degenerate"),
        ("empty", "degenerate"),
        ("flat", r"\(16, 2\)"),
        ("short parts", r"part_labels of shape \(15,\) for 16 points"),
        ("foreign part", r"part label 0, but class 'two' may contain \[1, 2\] of 3 part names"),
        ("short normals", r"normals of shape \(15, 3\) for 16 points"),
        ("nan normals", "non-finite"),
        ("no parts", "no part labels but the table has 3 part names"),
        ("no normals", "for all clouds or none"),
    ],
)
def test_bad_cloud_is_named_and_nothing_left(tmp_path: Path, how: str, says: str) -> None:
    with pytest.raises(DataError, match=rf"a/3-µ.*{says}"):
        write_clouds(tmp_path / "s.h5", spoilt(how), table_of(6))
    assert list(tmp_path.iterdir()) == []


def test_part_labels_need_part_names(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="part labels but the table has 0 part names"):
        write_clouds(tmp_path / "s.h5", clouds_of(SIX), table_of(6, parts=False))


def test_failed_rewrite_keeps_the_old_file(tmp_path: Path) -> None:
    path = write_clouds(tmp_path / "s.h5", clouds_of(SIX), table_of(6))
    before = path.read_bytes()
    with pytest.raises(DataError):
        write_clouds(path, spoilt("nan"), table_of(6))
    assert path.read_bytes() == before


@pytest.mark.parametrize("count", [5, 7])
def test_clouds_must_match_ids(tmp_path: Path, count: int) -> None:
    with pytest.raises(DataError, match="6 ids"):
        write_clouds(tmp_path / "s.h5", clouds_of((9,) * count), table_of(6))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"ids": ["x"] * 6}, "'x' occurs more than once"),
        ({"ids": ["", *"abcde"]}, "id '' is empty or not valid text"),
        ({"ids": ["a\0", *"bcdef"]}, "not valid text"),
        ({"ids": ["\udc80", *"bcdef"]}, "not valid text"),
        ({"class_names": ("one", "one")}, "class name 'one' occurs more than once"),
        ({"labels": np.full(6, 2)}, "2 class names"),
        ({"labels": np.zeros(5, int)}, "labels has shape"),
        ({"split": np.full(6, 3, np.uint8)}, "split"),
        ({"family": np.zeros(7, int)}, "family has shape"),
        (
            {"family": np.array([9, 0, 1, 2, 3, 9])},
            "family 9 has clouds of class 'one' and of 'two'",
        ),
        ({"normalisation": "sphere"}, "'sphere' is none of subsample, cloud, none"),
        ({"class_parts": ()}, "given together"),
        ({"part_names": ()}, "given together"),
        ({"class_parts": ((0,),)}, "every class"),
        ({"class_parts": ((0,), (3,))}, "name part 3 but there are 3"),
        ({"ids": []}, "no clouds"),
    ],
)
def test_contradicting_table_is_refused(tmp_path: Path, change: dict, says: str) -> None:
    with pytest.raises(DataError, match=says):
        write_clouds(tmp_path / "s.h5", clouds_of(SIX), dataclasses.replace(table_of(6), **change))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"test": ("a/9",)}, "'e' names the cloud 'a/9', which is not in the data set"),
        ({"test": ("a/0-µ",)}, "'e' names the cloud 'a/0-µ' more than once"),
        ({"test_labels": (0, 1)}, "not as many labels as clouds"),
        ({"train_labels": (0, 2)}, r"training labels \[0, 2\]"),
        ({"test_labels": (2,)}, r"test labels \[2\]"),
        ({"train": (), "train_labels": ()}, r"training labels \[\]"),
    ],
)
def test_contradicting_episode_is_refused(tmp_path: Path, change: dict, says: str) -> None:
    episode = Episode("e", ("a/0-µ", "a/1-µ"), (0, 1), ("a/2-µ",), (1,))
    spoilt = dataclasses.replace(episode, **change)
    with pytest.raises(DataError, match=says):
        write_clouds(tmp_path / "s.h5", clouds_of(SIX), table_of(6, episodes=(spoilt,)))


def test_full_disk_is_a_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil._ntuple_diskusage(1, 1, 100)
    monkeypatch.setattr(files.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(WriteError, match="free some space"):
        write_clouds(tmp_path / "s.h5", clouds_of(SIX), table_of(6))
    assert list(tmp_path.iterdir()) == []


def test_disk_filling_up_while_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "sync", full)
    with pytest.raises(WriteError, match="No space left"):
        write_clouds(tmp_path / "s.h5", clouds_of(SIX), table_of(6))
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_really_fills_up(tmp_path: Path) -> None:
    """The system refuses to let a file grow: spools and file are gone, and it is a message."""
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from cloud_sets import clouds_of, table_of\n"
        "from sa3d.data.writing import write_clouds\n"
        "from sa3d.errors import WriteError\n"
        "clouds = clouds_of((4000,) * 6)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))\n"
        "try: write_clouds(Path(sys.argv[1]) / 's.h5', clouds, table_of(6))\n"
        "except WriteError as error: print('refused:', error)\n"
    )
    for limit in (100_000, 300_000):  # while spooling, while writing the file itself
        done = run(code, str(tmp_path), str(limit))
        assert done.startswith("refused: cannot write"), done
        assert list(tmp_path.iterdir()) == []


def test_memory_stays_flat(tmp_path: Path) -> None:
    """192 MiB of clouds of unknown number of points, written within a few blocks of memory."""
    code = (
        "import resource, sys; from pathlib import Path; import numpy as np\n"
        "from cloud_sets import table_of\n"
        "from sa3d.data.cloud_table import Cloud\n"
        "from sa3d.data.writing import write_clouds\n"
        "count, size = 256, 1 << 16\n"
        "base = np.random.default_rng(0).normal(size=(size, 3)).astype(np.float32)\n"
        "clouds = (Cloud(base[: size - row]) for row in range(count))\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "write_clouds(Path(sys.argv[1]) / 's.h5', clouds, table_of(count, parts=False))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    grown = int(run(code, str(tmp_path))) << 10
    read = open_clouds(tmp_path / "s.h5")
    assert read.flat_points.nbytes > 190 << 20
    assert read.cloud(255).shape == ((1 << 16) - 255, 3)
    assert grown < 80 << 20, f"{grown >> 20} MiB"


def run(code: str, *arguments: str) -> str:
    """What a process of its own prints, with this folder's modules at hand."""
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}\n{code}", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
