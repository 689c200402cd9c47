"""Floors of ``make bench``: they name what is measured; and wide ones that hold on any machine."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import floors, loader, point_ops, training
from benchmarks.plain_loader import CloudFiles, plain_batches

PLAIN = {  # the commonly written forms in torch, which need no further package
    "FPS 32 x 1024 -> 64": "torch loop",
    "FPS 32 x 2048 -> 512": "torch loop",
    "kNN 32 x (64 of 1024), k=32": "torch cdist + topk",
    "ball query 32 x (512 of 2048), k=32, r=0.2": "torch mask + sort",
    "3-NN interpolation, fwd + bwd, 32 x 512 from 256, C=192": "torch cdist + topk",
    "Chamfer L2, fwd + bwd, 1216 x 32 x 32": "torch baddbmm",
}
LEAST = 3.0  # times as fast; 12 and more were measured
LEAST_LOADER = 1.3  # of the plain pipeline without workers; 2.7 was measured


def ratio(ours: Callable[[], Any], other: Callable[[], Any], rounds: int = 5) -> float:
    """How many times as fast, in processor time: other processes do not count in it."""

    def spent(run: Callable[[], Any]) -> float:
        began = time.process_time()
        run()
        return time.process_time() - began

    spent(ours), spent(other)
    return statistics.median(1 / (spent(ours) / spent(other)) for _ in range(rounds))


class Cases(point_ops.Bench):
    """Notes which peers every case has; times some of them, each with the one that is named."""

    def __init__(self, timed: Mapping[str, str]) -> None:
        super().__init__("cpu", 1, time.process_time)
        self.timed = timed
        self.peers: dict[str, set[str]] = {}
        self.ratios: dict[str, float] = {}

    def load(self, name: str) -> Any:
        return object()  # as if every package were there

    def case(self, name: str, ours: Any, others: Any, same: Any) -> None:
        self.peers[name] = set(others)
        if name in self.timed:
            self.ratios[name] = ratio(ours, others[self.timed[name]])


def benched(timed: Mapping[str, str]) -> Cases:
    found = Cases(timed)
    for bench in point_ops.CASES.values():
        bench(found)
    return found


def test_floors_name_what_is_measured() -> None:
    peers = benched({}).peers
    forms = set(product(training.METHODS, training.FORMS))
    for held in floors.FLOORS.values():
        assert {*held.steps, *held.wanted} <= forms
        assert set(held.memory) <= set(training.METHODS)
        assert set(held.loader) <= set(loader.OURS)
        assert all(set(found) <= peers[name] for name, found in held.operators.items())
        assert bool(held.machine) == bool(held.steps or held.memory or held.operators)
    assert set(floors.MOST_OPERATIONS) == set(training.METHODS)


def test_what_is_wrong_is_told_at_the_end() -> None:
    check = floors.Check()
    check.least("speed", 2.0, 2.0)
    check.least("not measured", 0.1, None)
    check.most("memory", 0.8, 0.8)
    check.end()
    check.least("speed", 1.949, 2.0)
    check.most("operations", 2641, 2640)
    with pytest.raises(SystemExit, match=r"^speed: 1\.95, not at least 2\noperations: 2641, not"):
        check.end()


@pytest.fixture
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_operators_are_faster_than_what_is_commonly_written() -> None:
    ratios = benched(PLAIN).ratios
    assert set(ratios) == set(PLAIN)
    assert {name: found for name, found in ratios.items() if found < LEAST} == {}


@pytest.mark.slow
@pytest.mark.usefixtures("one_thread")
def test_batches_come_faster_than_from_a_plain_pipeline(tmp_path: Path) -> None:
    clouds = loader.made(tmp_path / "clouds.h5", 256)
    files = [tmp_path / f"{row}.npy" for row in range(len(clouds))]
    for row, file in enumerate(files):
        np.save(file, clouds.cloud(row))
    plain = CloudFiles(files, clouds.labels.tolist(), loader.STORED, loader.ASKED)
    ours = loader.augmented(loader.loader(clouds, "random", False, 64))
    theirs = plain_batches(plain, 64, 0)
    assert ratio(lambda: next(ours), lambda: next(theirs), rounds=15) > LEAST_LOADER
