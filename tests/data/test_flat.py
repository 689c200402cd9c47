"""What a processed file's size must not cost: opening it, and memory while going through it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cloud_sets import clouds_of, set_of, table_of

from sa3d.data.cloud_table import Cloud
from sa3d.data.flat import Names
from sa3d.data.loader import Batches
from sa3d.data.store import CloudSet, open_clouds
from sa3d.data.writing import write_clouds
from sa3d.errors import DataError, UnreadDataError

linux = pytest.mark.skipif(not Path("/proc/self/io").is_file(), reason="counts are Linux's")


def many(path: Path, count: int, stored: int = 2) -> Path:
    cloud = np.random.default_rng(0).normal(size=(stored, 3)).astype(np.float32)
    table = table_of(count, parts=False)
    return write_clouds(path, (Cloud(cloud + np.float32(row)) for row in range(count)), table)


def proc(file: str, name: str) -> int:
    lines = dict(line.split(":") for line in Path("/proc/self", file).read_text().splitlines())
    return int(lines[name].split()[0])


def cost_of_opening(path: Path, count: Callable[[], int]) -> int:
    open_clouds(path)  # what is done once in a process is done
    before = count()
    clouds = open_clouds(path)
    cost = count() - before
    assert len(clouds.ids) == len(clouds)
    return cost


@linux
def test_opening_reads_a_few_bytes_a_cloud_and_makes_no_object_for_each(tmp_path: Path) -> None:
    small, large = many(tmp_path / "small.h5", 50), many(tmp_path / "large.h5", 5050)
    reads = [cost_of_opening(path, lambda: proc("io", "rchar")) for path in (small, large)]
    # labels, families, offsets: 8 bytes each; the split: 1
    assert 25 * 5000 <= reads[1] - reads[0] < 30 * 5000
    blocks = [cost_of_opening(path, sys.getallocatedblocks) for path in (small, large)]
    assert abs(blocks[1] - blocks[0]) < 500  # an id each would be 5000 more


@linux
def test_going_through_a_file_does_not_keep_its_pages(tmp_path: Path) -> None:
    clouds = open_clouds(many(tmp_path / "s.h5", 600, 8192))  # 56 MiB
    batches = Batches(
        clouds,
        np.arange(600),
        batch_size=8,
        points=64,
        seed=0,
        shuffle=True,
        drop_last=True,
    )
    next(batches.epoch(0))
    before = proc("status", "RssFile")
    assert sum(len(batch.points) for batch in batches.epoch(1)) == 600
    assert proc("status", "RssFile") - before < 10 << 10  # KiB
    for row in range(600):
        clouds.cloud(row).sum()
    assert proc("status", "RssFile") - before > 40 << 10, "as mapped clouds do"


@pytest.mark.parametrize("in_memory", [False, True])
def test_what_is_read_is_what_is_mapped(tmp_path: Path, in_memory: bool) -> None:
    clouds = set_of(tmp_path / "s.h5", [5, 1024, 16, 7])
    read = replace(clouds, file=None) if in_memory else clouds
    for row, given in enumerate(clouds_of([5, 1024, 16, 7])):
        np.testing.assert_array_equal(read.read(row), given.points)
        np.testing.assert_array_equal(read.read_parts(row), clouds.parts(row))
        assert read.read(row).dtype == np.float32
        assert read.read_parts(row).dtype == clouds.parts(row).dtype
    for row in (-1, 4):
        with pytest.raises(IndexError):
            read.read(row)


def test_parts_of_a_set_without_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no part labels"):
        set_of(tmp_path / "s.h5", [5, 5], parts=False).read_parts(0)


def test_an_open_file_is_read_on_though_another_takes_its_name(tmp_path: Path) -> None:
    clouds = set_of(tmp_path / "s.h5", [5, 6])
    first = clouds.read(1).copy()
    many(tmp_path / "s.h5", 2, 6)
    np.testing.assert_array_equal(clouds.read(1), first)


def test_a_file_that_becomes_shorter_is_refused(tmp_path: Path) -> None:
    clouds: CloudSet = set_of(tmp_path / "s.h5", [5000, 6])
    with clouds.path.open("r+b") as file:
        file.truncate(2000)
    with pytest.raises(UnreadDataError, match="became shorter"):
        clouds.read(0)


def test_names_are_a_sequence_of_text(tmp_path: Path) -> None:
    texts = ["a", "µ/é", "longest of all", ""]
    names = Names(np.array([text.encode() for text in texts], np.bytes_), tmp_path / "s.h5")
    assert (list(names), len(names)) == (texts, 4)
    assert (names[1], names[-1], list(names[1:3])) == ("µ/é", "", texts[1:3])
    assert (names == texts, names == tuple(texts), names == texts[:3]) == (True, True, False)
    assert names != "a"
    assert ("µ/é" in names, names.index("longest of all")) == (True, 2)


def test_a_name_that_is_no_text_says_which_file_is_damaged(tmp_path: Path) -> None:
    names = Names(np.array([b"fine", b"\xff\xfe"]), tmp_path / "mine.h5")
    assert names[0] == "fine"
    for read in (lambda: names[1], lambda: list(names)):
        with pytest.raises(DataError, match=r"mine\.h5 is damaged"):
            read()
