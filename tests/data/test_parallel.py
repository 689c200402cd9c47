"""The ordered map, and the progress line beside it."""

from __future__ import annotations

import io

import pytest

from sa3d.data import progress
from sa3d.data.parallel import ordered_map
from sa3d.data.progress import Progress


@pytest.mark.parametrize("count", [0, 3, 64, 200])
def test_order_is_kept(count: int) -> None:
    assert list(ordered_map(abs, range(-count, 0))) == list(range(count, 0, -1))


def test_it_does_not_run_far_ahead() -> None:
    taken = []
    results = ordered_map(abs, (taken.append(i) or i for i in range(500)))
    for _ in range(100):
        next(results)
    assert len(taken) < 200
    results.close()


def test_an_error_in_a_worker_comes_back() -> None:
    with pytest.raises(TypeError):
        list(ordered_map(abs, [1] * 100 + ["x"]))


def lines(monkeypatch: pytest.MonkeyPatch, seconds: float, quiet: bool = False) -> str:
    clock = iter(x * seconds for x in range(1000))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))  # each look takes long
    stream = io.StringIO()
    with Progress(10, "clouds", quiet=quiet, stream=stream) as counter:
        for _ in range(10):
            counter.step()
    return stream.getvalue()


def test_progress_speaks_only_of_long_work(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lines(monkeypatch, 0.01) == ""
    assert lines(monkeypatch, 60.0, quiet=True) == ""
    text = lines(monkeypatch, 60.0).splitlines()
    assert text[0] == "clouds  1/10  0.0/s  9 min 00 s left"
    assert text[-1] == "clouds  10/10 in 21 min 00 s"


def test_progress_without_total() -> None:
    counter = Progress(0, "models", stream=io.StringIO())
    counter.done = 5
    assert counter.text(10.0) == "5  0.5/s"
    counter.share = 0.25
    assert counter.text(10.0) == "5  0.5/s  30 s left"
