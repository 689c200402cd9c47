"""The spool of parsed clouds: what is whole stays, what is half-written is not taken for whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sa3d.data.cloud_table import Cloud
from sa3d.data.spool import Spool, Stamp, spool_for
from sa3d.errors import DataError

STAMP = Stamp(10, 20)


def cloud(number: int, *, normals: bool = False, parts: bool = False) -> Cloud:
    rng = np.random.default_rng(number)
    rows = rng.normal(size=(5 + number, 6)).astype(np.float32)
    labels = rng.integers(0, 9, len(rows)).astype(np.uint8)
    return Cloud(rows[:, :3], labels if parts else None, rows[:, 3:] if normals else None)


def equal(one: Cloud, other: Cloud) -> bool:
    pairs = [(one.points, other.points), (one.normals, other.normals), (one.parts, other.parts)]
    return all((a is None) == (b is None) and (a is None or (a == b).all()) for a, b in pairs)


def filled(folder: Path, count: int = 3) -> None:
    """A spool of ``count`` clouds whose process then vanishes."""
    folder.mkdir(exist_ok=True)
    spool = Spool(folder, "as now")
    for number in range(count):
        spool.add(f"c{number}", STAMP, f"d{number}", cloud(number))
    spool.close()


def keys(folder: Path, made_with: str = "as now") -> list[str]:
    """The clouds that a new spool in the folder goes on from, each of them compared."""
    spool = Spool(folder, made_with)
    found = [f"c{n}" for n in range(9) if spool.has(f"c{n}", STAMP)]
    assert all(equal(spool.cloud(key), cloud(int(key[1:]))) for key in found)
    spool.close()
    return found


@pytest.mark.parametrize("normals", [False, True])
@pytest.mark.parametrize("parts", [False, True])
def test_clouds_come_back_as_they_went(normals: bool, parts: bool, tmp_path: Path) -> None:
    with spool_for(tmp_path / "x.h5", "") as spool:
        clouds = [cloud(n, normals=normals, parts=parts) for n in range(4)]
        for number, each in enumerate(clouds):
            spool.add(str(number), STAMP, "abc", each)
        assert all(equal(spool.cloud(str(n)), clouds[n]) for n in (2, 0, 3, 1))
        assert spool.digest("1") == "abc"
    assert list(tmp_path.iterdir()) == []  # done: nothing is left


def test_after_an_error_the_clouds_stay(tmp_path: Path) -> None:
    def fail() -> None:
        with spool_for(tmp_path / "x.h5", "") as spool:
            spool.add("c1", STAMP, "", cloud(1))
            raise DataError("bad file")

    with pytest.raises(DataError, match="bad file"):
        fail()
    with spool_for(tmp_path / "x.h5", "") as spool:
        assert spool.has("c1", STAMP)
        assert not spool.has("c1", Stamp(11, 20))  # another size
        assert not spool.has("c1", Stamp(10, 21))  # another time
        assert not spool.has("c2", STAMP)


def test_clouds_made_with_other_settings_are_thrown_away(tmp_path: Path) -> None:
    filled(tmp_path)
    assert keys(tmp_path) == ["c0", "c1", "c2"]
    assert keys(tmp_path, "otherwise") == []
    assert keys(tmp_path) == []


def test_every_torn_end_of_the_index_loses_at_most_one_cloud(tmp_path: Path) -> None:
    filled(tmp_path / "whole")
    index = (tmp_path / "whole" / "index.jsonl").read_bytes()
    clouds = (tmp_path / "whole" / "clouds.bin").read_bytes()
    ends = [at for at in range(len(index)) if index[at : at + 1] == b"\n"]
    folder = tmp_path / "torn"
    for length in range(ends[0] + 1, len(index), 5):
        folder.mkdir(exist_ok=True)
        (folder / "index.jsonl").write_bytes(index[:length])
        (folder / "clouds.bin").write_bytes(clouds)
        whole = sum(end < length for end in ends) - 1
        assert keys(folder) == [f"c{n}" for n in range(whole)]
        # and it goes on from there
        spool = Spool(folder, "as now")
        spool.add("c7", STAMP, "", cloud(7))
        spool.close()
        assert keys(folder) == [*(f"c{n}" for n in range(whole)), "c7"]


def test_arrays_that_did_not_reach_the_disk_are_noticed(tmp_path: Path) -> None:
    filled(tmp_path)
    file = tmp_path / "clouds.bin"
    data = file.read_bytes()
    file.write_bytes(data[:-1])  # cut off
    assert keys(tmp_path) == ["c0", "c1"]
    filled(tmp_path / "b")
    file = tmp_path / "b" / "clouds.bin"
    data = file.read_bytes()
    file.write_bytes(data[:70] + bytes(20) + data[90:])  # never written, as after a power cut
    assert keys(tmp_path / "b") == ["c0", "c2"]


def test_a_second_process_is_refused(tmp_path: Path) -> None:
    with (
        spool_for(tmp_path / "x.h5", ""),
        pytest.raises(DataError, match="another process is making"),
        spool_for(tmp_path / "x.h5", ""),
    ):
        pass
