"""The progress bar: silent at first, redrawn on a terminal, a line now and then without one."""

from __future__ import annotations

import io
import os
import pty
import termios
import time
from pathlib import Path

import pytest

from flows.logs import last_line
from sa3d.utils import progress
from sa3d.utils.progress import ProgressBar, duration


@pytest.fixture
def fast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times as fast: speaks after 0.2 s, a line a second, redrawn every 0.02 s."""
    monkeypatch.setattr(progress, "_SILENT_SECONDS", 0.2)
    monkeypatch.setattr(progress, "_LINE_SECONDS", 1.0)
    monkeypatch.setattr(progress, "_REDRAW_SECONDS", 0.02)


def work(bar: ProgressBar, count: int, seconds: float) -> None:
    with bar:
        for number in range(count):
            time.sleep(seconds)
            bar.update(note=f"at {number}")


@pytest.mark.usefixtures("fast")
def test_short_or_quiet_work_shows_nothing() -> None:
    stream = io.StringIO()
    work(ProgressBar("x", 5, "clouds", stream=stream), 5, 0.01)
    work(ProgressBar("x", 50, "clouds", stream=stream, quiet=True), 50, 0.01)
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("fast")
def test_without_a_terminal_there_is_a_line_now_and_then_and_the_last_state(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    with log.open("w") as stream:
        work(ProgressBar("clouds", 150, "clouds", stream=stream), 150, 0.01)
    text = log.read_text()
    assert "\r" not in text
    lines = text.splitlines()
    # 1.5 s: after 0.2 s, after 1.2 s and at the end
    assert len(lines) == 3, lines
    assert all(line.startswith("clouds  ") and " clouds/s, " in line for line in lines)
    first, second, _ = (int(line.split()[1].split("/")[0]) for line in lines)
    assert first < 25
    assert second - first > 50
    assert lines[2].startswith("clouds  150/150  ")
    assert lines[2].endswith(" 00:00 left, at 149")
    assert last_line(log) == lines[2]  # what the flow shows of a child


@pytest.mark.usefixtures("fast")
def test_on_a_terminal_one_line_is_redrawn() -> None:
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 100))
    with os.fdopen(slave, "w") as stream:
        work(ProgressBar("clouds", 40, "clouds", stream=stream), 40, 0.01)
        shown = ""
        while "\n" not in shown:  # a terminal hands out what it has, in pieces
            shown += os.read(master, 65536).decode()
    os.close(master)
    assert shown.count("\n") == 1  # at the end
    assert shown.count("\r") > 5
    assert "40/40" in shown
    assert "100%" in shown


@pytest.mark.usefixtures("fast")
def test_a_total_may_come_later() -> None:
    stream = io.StringIO()
    with ProgressBar("models", None, "models", stream=stream) as bar:
        time.sleep(0.25)
        bar.update()
        bar.expect(2)
        bar.update()
    first, last = stream.getvalue().splitlines()
    assert first.startswith("models  1  ")
    assert first.endswith(" models/s")
    assert last.startswith("models  2/2  ")


@pytest.mark.usefixtures("fast")
def test_what_was_done_before_does_not_count_as_speed() -> None:
    stream = io.StringIO()
    with ProgressBar("x", 1000, "steps", initial=990, stream=stream) as bar:
        time.sleep(0.25)
        bar.update(5)
    line = stream.getvalue().splitlines()[-1]
    assert line.startswith("x  995/1000  ")
    assert float(line.split()[2]) < 25


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (4.44, "4.4 s"),
        (59.4, "59 s"),
        (200, "3 min 20 s"),
        (3599.6, "1 h 00 min"),
        (7500, "2 h 05 min"),
    ],
)
def test_duration(seconds: float, text: str) -> None:
    assert duration(seconds) == text
