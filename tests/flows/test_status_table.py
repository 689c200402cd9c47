"""The table: a line a change without a terminal, a table on one."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from flows.plan import Node
from flows.status_table import MOST_ROWS, StatusTable
from sa3d.config.loading import load_experiment
from sa3d.runs.config import runs_of

RUN = runs_of(load_experiment("demo"))[0]
NODES = [Node("teacher", "pretrain", RUN), Node("svm", "evaluate", RUN, ("teacher",))]


def test_without_a_terminal_every_change_is_a_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    table = StatusTable(NODES, "demo")
    with table.shown():
        table.change("teacher", "queued")  # nothing to tell yet
        table.change("teacher", "queued", where="another process (pid 12) is making this run")
        table.statuses["teacher"].run_dir = tmp_path
        table.change("teacher", "running", where="2 threads")
        (tmp_path / "log.txt").write_text("$ sa3d pretrain\nepoch 3/40  [12 s left]\n")
        table.tick()
        table.change("teacher", "failed", error="exit status 1: [oops]")
        table.change("svm", "skipped", error="needs teacher")
    said = capfd.readouterr().err.splitlines()
    assert said[0] == "teacher: queued: another process (pid 12) is making this run"
    assert said[1] == f"teacher: running (2 threads), log {tmp_path / 'log.txt'}"
    assert said[2] == "  teacher: epoch 3/40  [12 s left]"
    assert said[3].endswith("exit status 1: [oops]")
    assert said[4] == "svm: skipped: needs teacher"
    assert table.fraction == 1.0


def test_quiet_says_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    table = StatusTable(NODES, "demo", quiet=True)
    with table.shown():
        table.change("svm", "running")
        table.tick()
    assert capfd.readouterr() == ("", "")


def test_of_many_nodes_those_where_something_happens_are_drawn_and_the_others_counted() -> None:
    nodes = [Node(f"run{number}", "evaluate", RUN) for number in range(500)]
    table = StatusTable(nodes, "demo", quiet=True)
    for number in range(400):
        table.change(f"run{number}", "reused")
    table.change("run401", "queued")
    table.change("run402", "running", where="2 threads")
    table.change("run499", "failed", error="out of memory")
    drawn = table._table()
    names = list(drawn.columns[0].cells)
    assert len(names) == MOST_ROWS
    assert names[:3] == ["run400", "run401", "run402"]  # in the plan's order
    assert names[-1] == "run499"
    assert "400 reused" in drawn.caption
    assert "97 waiting" in drawn.caption
    assert table.fraction == 401 / 500


ON_A_TERMINAL = """
import sys, time
from pathlib import Path
from flows.status_table import StatusTable
from tests.flows.test_status_table import NODES
table = StatusTable(NODES, "demo")
table.statuses["teacher"].run_dir = Path(sys.argv[1])
with table.shown():
    table.change("teacher", "running", where="2 threads")
    time.sleep(1.2)
    table.change("teacher", "finished")
"""


def test_on_a_terminal_the_table_shows_the_childs_progress(tmp_path: Path) -> None:
    (tmp_path / "log.txt").write_text("epoch 3/40  [12 s left]\n")
    master, slave = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-c", ON_A_TERMINAL, str(tmp_path)],
        stderr=slave,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )
    os.close(slave)
    shown = b""
    while True:
        try:
            chunk = os.read(master, 4096)
        except OSError:  # the other end is closed
            break
        if not chunk:
            break
        shown += chunk
    assert child.wait(30) == 0
    for text in (b"demo", b"epoch 3/40  [12 s left]", b"running", b"finished", b"waiting"):
        assert text in shown
