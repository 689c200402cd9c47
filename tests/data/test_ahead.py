"""Batches by a thread: the same ones, and the thread goes when nobody wants them."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from cloud_sets import set_of

from sa3d.data.ahead import Ahead
from sa3d.data.loader import Batches
from sa3d.errors import UnreadDataError


@pytest.fixture
def source(tmp_path: Path) -> Batches:
    clouds = set_of(tmp_path / "s.h5", [64] * 30)
    return Batches(
        clouds,
        np.arange(30),
        batch_size=4,
        points=32,
        seed=1,
        shuffle=True,
        drop_last=True,
        parts=True,
    )


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


@pytest.mark.parametrize("start", [0, 3, 6, 7])
def test_the_same_batches_in_the_same_order(source: Batches, start: int) -> None:
    ahead = Ahead(source, one_core=True)
    expected, found = list(source.epoch(2, start)), list(ahead.epoch(2, start))
    assert (len(ahead), ahead.batch_size, len(found)) == (7, 4, 7 - start)
    for one, other in zip(expected, found, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert threads() == []


def test_a_loop_that_leaves_half_way_leaves_no_thread(source: Batches) -> None:
    batches = Ahead(source, one_core=True).epoch(0)
    next(batches)
    assert len(threads()) == 1
    batches.close()  # type: ignore[attr-defined]  # of every generator
    assert threads() == []


def test_what_goes_wrong_in_the_thread_is_raised_where_the_batch_is_wanted(source: Batches) -> None:
    batches = Ahead(source, one_core=True).epoch(0)
    with source.clouds.path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(UnreadDataError, match="became shorter"):
        list(batches)
    assert threads() == []


def test_other_threads_keep_their_cores(source: Batches) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        batches = Ahead(source, one_core=True).epoch(0)
        next(batches)
        assert torch.get_num_threads() == 2
        with ThreadPoolExecutor(1) as later:
            assert later.submit(torch.get_num_threads).result() == 2
        assert len(list(batches)) == 6
    finally:
        torch.set_num_threads(before)
