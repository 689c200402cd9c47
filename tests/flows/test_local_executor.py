"""Children of the local executor: their status, their last words, their end; and other processes
that want the same."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from filelock import FileLock

from flows import logs, resources
from flows.executors import child as children
from flows.executors.base import Event, Job
from flows.executors.local import LocalExecutor
from flows.resources import Resources
from sa3d.config.loading import load_experiment
from sa3d.runs.config import choose
from sa3d.runs.fingerprint import locate

ROOT = Path(__file__).parents[2]
MAKES = """
import json, os, sys
out = sys.argv[1]
with open(out + "/made", "a") as file: file.write("made ")
with open(out + "/result.tmp", "w") as file: json.dump({"fingerprint": "f", "metrics": {}}, file)
os.replace(out + "/result.tmp", out + "/result.json")
print("done")
"""
WAITS = """
import os, sys, time
while not os.path.exists(sys.argv[1] + "/go"): time.sleep(0.02)
"""
SAVES = """
import signal, sys, time
def save(*_): open(sys.argv[1] + "/saved", "w").write("saved"); sys.exit(143)
signal.signal(signal.SIGTERM, save)
print("ready", flush=True); time.sleep(60)
"""
STUBBORN = """
import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("ready", flush=True); time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores that no other process of this machine claims."""
    (tmp_path / "locks").mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "locks"))
    monkeypatch.setattr(resources, "_usable_cores", lambda: [0, 1])
    monkeypatch.setattr(resources, "_available_memory", lambda: 64 << 30)


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    with contextlib.closing(LocalExecutor(Resources("cpu", width=6))) as opened:
        yield opened


def job(folder: Path, code: str, *, whole: bool = False, priority: int = 0, **env: str) -> Job:
    """A job named like its folder whose child is a few lines of Python."""
    words = [sys.executable, "-c", code, str(folder)]
    return Job(folder.name, words, folder, "f", priority=priority, whole=whole, env=env)


def events_until(
    executor: LocalExecutor, true: Callable[[list[Event]], bool], seconds: float = 30.0
) -> list[Event]:
    found: list[Event] = []
    end = time.monotonic() + seconds
    while not true(found):
        assert time.monotonic() < end, f"waited in vain after {found}"
        found += executor.poll(0.05)
    return found


def over(count: int) -> Callable[[list[Event]], bool]:
    """That so many jobs have ended."""
    return lambda events: sum(event.kind not in ("waiting", "started") for event in events) == count


def pairs(events: list[Event]) -> list[tuple[str, str]]:
    return [(event.name, event.kind) for event in events]


def test_output_environment_and_share_reach_the_child(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    code = "import os, sys; print(os.environ['SHARE'], os.environ['OMP_NUM_THREADS'])\n"
    code += "print(*sys.argv[2:], file=sys.stderr)"
    executor.submit(job(tmp_path / "run", code, SHARE="half"))
    begun, ended = events_until(executor, over(1))
    assert begun == Event("run", "started", "1 thread")
    assert (ended.name, ended.kind) == ("run", "finished")
    lines = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert lines[0].startswith("$ ")
    assert sorted(lines[-2:]) == ["--threads 1 --device cpu", "half 1"]


def test_a_failure_tells_the_cause_then_the_status_and_the_log_and_no_command(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    code = "import sys; print('epoch 1'); print('sa3d: no such data', file=sys.stderr); sys.exit(2)"
    executor.submit(job(tmp_path / "run", code))
    ended = events_until(executor, over(1))[-1]
    assert ended.kind == "failed"
    assert ended.text == f"sa3d: no such data (exit status 2; log: {tmp_path / 'run' / 'log.txt'})"
    executor.submit(job(tmp_path / "bug", "print('epoch 1')\nraise ValueError('seven is not six')"))
    ended = events_until(executor, over(1))[-1]
    assert ended.text.startswith("ValueError: seven is not six (exit status 1; log: ")


def test_kernels_installed_anew_after_a_run_was_planned_end_it_before_it_begins(
    tiny: Path, tmp_path: Path, executor: LocalExecutor
) -> None:
    planned = locate(choose(load_experiment("tiny"), "svm", variant="scratch"))
    found = importlib.util.find_spec("point_ops")
    assert found is not None
    assert found.origin is not None
    anew = shutil.copytree(Path(found.origin).parent, tmp_path / "anew" / "point_ops")
    with (anew / "__init__.py").open("a") as source:
        source.write("CHANGED = 1\n")
    words = [sys.executable, "-m", "sa3d", "svm", "-e", "tiny", "--variant", "scratch"]
    words += ["--out", str(planned.folder)]
    env = {"PYTHONPATH": os.pathsep.join((str(anew.parent), str(ROOT)))}
    executor.submit(Job("svm", words, planned.folder, planned.fingerprint, env=env))
    ended = events_until(executor, over(1))[-1]
    assert ended.kind == "failed"
    assert f"the flow planned run {planned.fingerprint}, but its command found run " in ended.text
    assert "point_ops was changed after the flow began" in ended.text
    assert "; start the flow again: it keeps the results that still hold (exit" in ended.text
    left = {each.name for each in planned.folder.iterdir()}
    assert left == {logs.FILE, ".lock", ".flow.lock"}, "no settings, journal or checkpoint"


KILLED = "import os, signal; print({!r}, end='', flush=True); os.kill(os.getpid(), signal.SIGKILL)"


def test_of_a_killed_child_the_signal_is_said_first_and_no_command(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    executor.submit(job(tmp_path / "run", KILLED.format("epoch 3")))
    ended = events_until(executor, over(1))[-1]
    assert ended.kind == "failed"
    log = tmp_path / "run" / "log.txt"
    assert ended.text == f"killed by SIGKILL, out of memory? (last line: epoch 3; log: {log})"
    executor.submit(job(tmp_path / "silent", KILLED.format("")))
    ended = events_until(executor, over(1))[-1]
    log = tmp_path / "silent" / "log.txt"
    assert ended.text == f"killed by SIGKILL, out of memory? (log: {log})"


def test_a_child_that_takes_too_long_saves_and_has_failed(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    overdue = replace(job(tmp_path / "run", SAVES), hours=1.5 / 3600)
    executor.submit(overdue)
    ended = events_until(executor, over(1))[-1]
    assert ended.kind == "failed"
    assert ended.text.startswith("stopped after 0.000416667 h, the longest that a run may take; ")
    assert (tmp_path / "run" / "saved").read_text() == "saved"


def test_a_child_that_ends_in_time_is_not_stopped(tmp_path: Path, executor: LocalExecutor) -> None:
    executor.submit(replace(job(tmp_path / "run", MAKES), hours=1.0))
    assert pairs(events_until(executor, over(1)))[-1] == ("run", "finished")


def test_a_child_that_cannot_start_or_read_fails_alone(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    (tmp_path / "file").write_text("")
    executor.submit(job(tmp_path / "file" / "run", MAKES))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "result.json").write_text("{")
    executor.submit(job(broken, MAKES))
    executor.submit(job(tmp_path / "good", MAKES))
    ended = {event.name: event for event in events_until(executor, over(3))}
    assert ended["run"].kind == ended["broken"].kind == "failed"
    assert "cannot write" in ended["run"].text
    assert "cannot read result.json of this run: it is cut short; delete it" in ended["broken"].text
    assert str(broken / "result.json") in ended["broken"].text
    assert ended["good"].kind == "finished"


def test_what_is_finished_is_reused(tmp_path: Path, executor: LocalExecutor) -> None:
    executor.submit(job(tmp_path / "run", MAKES))
    events_until(executor, over(1))
    executor.submit(job(tmp_path / "run", MAKES))
    assert pairs(events_until(executor, over(1))) == [("run", "reused")]
    assert (tmp_path / "run" / "made").read_text() == "made "


def test_priority_not_the_order_of_submission_decides_what_starts(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    executor.submit(job(tmp_path / "later", MAKES, priority=2))
    executor.submit(job(tmp_path / "first", MAKES, priority=1, whole=True))
    found = pairs(events_until(executor, over(2)))
    assert [name for name, kind in found if kind == "started"] == ["first", "later"]
    assert found.index(("first", "finished")) < found.index(("later", "started"))


def test_what_ended_is_told_before_more_is_started(tmp_path: Path, executor: LocalExecutor) -> None:
    """Its end may make something of more importance possible."""
    executor.submit(job(tmp_path / "teacher", MAKES, whole=True))
    executor.submit(job(tmp_path / "small", MAKES, priority=2))
    assert pairs(events_until(executor, over(1))) == [
        ("teacher", "started"),
        ("teacher", "finished"),
    ]
    executor.submit(job(tmp_path / "student", MAKES, priority=1, whole=True))
    assert pairs(events_until(executor, over(2)))[0] == ("student", "started")


def test_a_stop_lets_children_save_and_starts_no_more(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    executor.submit(job(tmp_path / "run", SAVES, whole=True))
    executor.submit(job(tmp_path / "later", MAKES))
    events_until(executor, lambda _: logs.last_line(tmp_path / "run" / "log.txt") == "ready")
    executor.stop()
    found = {event.name: event for event in events_until(executor, over(2))}
    assert found["run"].kind == found["later"].kind == "stopped"
    assert "143" in found["run"].text
    assert "not started" in found["later"].text
    assert (tmp_path / "run" / "saved").read_text() == "saved"
    assert not (tmp_path / "later" / "made").exists()
    assert Resources("cpu", width=2).allocate(whole=True) is not None


@pytest.mark.parametrize("twice", [False, True])
def test_a_child_that_ignores_the_stop_is_killed(
    tmp_path: Path, executor: LocalExecutor, monkeypatch: pytest.MonkeyPatch, twice: bool
) -> None:
    """After its grace, or at once by a second stop."""
    monkeypatch.setattr(children, "GRACE_SECONDS", 300.0 if twice else 0.3)
    executor.submit(job(tmp_path / "run", STUBBORN))
    events_until(executor, lambda _: logs.last_line(tmp_path / "run" / "log.txt") == "ready")
    executor.stop()
    if twice:
        executor.stop()
    assert pairs(events_until(executor, over(1), seconds=20)) == [("run", "stopped")]


def test_closing_leaves_nothing_running(tmp_path: Path) -> None:
    opened = LocalExecutor(Resources("cpu", width=6))
    opened.submit(job(tmp_path / "run", SAVES))
    opened.submit(job(tmp_path / "later", MAKES, whole=True))
    events_until(opened, lambda _: logs.last_line(tmp_path / "run" / "log.txt") == "ready")
    opened.close()
    assert (tmp_path / "run" / "saved").read_text() == "saved"
    assert Resources("cpu", width=2).allocate(whole=True) is not None


def test_a_child_takes_its_own_children_along(tmp_path: Path, executor: LocalExecutor) -> None:
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)']); print(child.pid)"
    )
    executor.submit(job(tmp_path / "run", code))
    events_until(executor, over(1))
    assert gone(int(logs.last_line(tmp_path / "run" / "log.txt")))


OTHER = """
import sys, tempfile
from pathlib import Path
tempfile.tempdir = sys.argv[1]
from flows import resources
from flows.executors.local import LocalExecutor
from tests_flows import job
resources._usable_cores = lambda: [0, 1]
executor = LocalExecutor(resources.Resources("cpu", 6))
executor.submit(job(Path(sys.argv[2]), Path(sys.argv[3]).read_text()))
while True:
    for event in executor.poll(1.0):
        print(event.kind, flush=True)
"""


@contextlib.contextmanager
def another_flow(tmp_path: Path, folder: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """A second process whose executor makes the run in ``folder``."""
    (tmp_path / "code.py").write_text(code)
    (tmp_path / "tests_flows.py").write_text(Path(__file__).read_text())
    arguments = [str(tmp_path / "locks"), str(folder), str(tmp_path / "code.py")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(tmp_path)])}
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, *arguments], stdout=subprocess.PIPE, text=True, env=env
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def test_a_run_that_another_flow_makes_is_waited_for_without_a_core_and_reused(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    folder = tmp_path / "run"
    with another_flow(tmp_path, folder, WAITS + MAKES) as other:
        executor.submit(job(folder, WAITS + MAKES))
        executor.submit(job(tmp_path / "small", MAKES, priority=1))
        # one of the two cores is the other flow's; the wait holds none, so there is one for `small`
        found = events_until(executor, over(1))
        assert found[0] == Event(
            "run", "waiting", f"another process (pid {other.pid}) is making this run"
        )
        assert pairs(found[1:]) == [("small", "started"), ("small", "finished")]
        (folder / "go").write_text("")
        assert pairs(events_until(executor, over(1))) == [("run", "reused")]
        assert (folder / "made").read_text() == "made "


def test_a_run_whose_flow_is_killed_is_made_by_who_waited(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    folder = tmp_path / "run"
    with another_flow(tmp_path, folder, SAVES) as other:
        executor.submit(job(folder, MAKES))
        found = events_until(executor, lambda events: bool(events))
        assert pairs(found) == [("run", "waiting")]
        wait_for(lambda: logs.last_line(folder / "log.txt") == "ready")
        other.kill()
        assert pairs(events_until(executor, over(1))) == [("run", "started"), ("run", "finished")]
        # and the child of the killed flow was asked to save
        wait_for((folder / "saved").is_file)


def test_a_command_that_makes_the_run_without_a_flow_is_waited_for_too(
    tmp_path: Path, executor: LocalExecutor
) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with FileLock(folder / ".lock"):
        (folder / ".lock").write_text('{"pid": 12}')
        executor.submit(job(folder, MAKES))
        found = events_until(executor, lambda events: bool(events))
        assert found == [Event("run", "waiting", "another process (pid 12) is making this run")]
        assert executor.poll(0.3) == []
    assert pairs(events_until(executor, over(1))) == [("run", "started"), ("run", "finished")]


def test_of_a_line_that_is_drawn_over_the_newest_counts(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"$ sa3d pretrain\nbegun\n\repoch 1  10 s left\repoch 2  5 s left ")
    assert logs.last_line(log) == "epoch 2  5 s left"
    assert logs.last_line(tmp_path / "none") == ""
    assert logs.cause(tmp_path / "none") == "it wrote nothing"


def test_the_cause_is_of_the_last_start_and_may_have_several_lines(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_text(
        "$ sa3d svm\nsa3d: an old message\n$ sa3d svm\nepoch 1\n"
        "Traceback (most recent call last):\n  File 'x', line 3\n    f()\n"
        "RuntimeError: sizes differ:\n    got 3\n  wanted 4\n"
    )
    assert logs.cause(log) == "RuntimeError: sizes differ: | got 3 | wanted 4"
    log.write_text("$ sa3d svm\nsa3d: no data set x\nmake it with y\n")
    assert logs.cause(log) == "sa3d: no data set x | make it with y"
    log.write_text("$ sa3d svm\nepoch 1\nepoch 2\n")
    assert logs.cause(log) == "epoch 2"


def wait_for(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
