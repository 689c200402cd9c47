"""Children: their status, their last words, their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from flows import supervise
from flows.supervise import ChildFailed, Children, ChildStopped, last_line

SAVES = (
    "import signal, sys, time\n"
    "def save(*_): open(sys.argv[1], 'w').write('saved'); sys.exit(143)\n"
    "signal.signal(signal.SIGTERM, save)\n"
    "print('ready', flush=True); time.sleep(60)\n"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    "print('ready', flush=True); time.sleep(60)\n"
)


def python(code: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", code, *arguments]


def when_ready(log: Path) -> None:
    end = time.monotonic() + 30
    while last_line(log) != "ready":
        assert time.monotonic() < end
        time.sleep(0.05)


def test_output_and_environment_reach_the_log(tmp_path: Path) -> None:
    log = tmp_path / "run" / "log.txt"
    code = "import os, sys; print(os.environ['SHARE']); print('warned', file=sys.stderr)"
    Children().run(python(code), log=log, env={"SHARE": "half"})
    lines = log.read_text().splitlines()
    assert lines[0].startswith("$ ")
    assert sorted(lines[-2:]) == ["half", "warned"]


def test_an_error_carries_the_status_and_the_last_lines(tmp_path: Path) -> None:
    code = "import sys; print('epoch 1'); print('sa3d: no such data', file=sys.stderr); sys.exit(2)"
    with pytest.raises(ChildFailed, match=r"exit status 2: .*sa3d: no such data"):
        Children().run(python(code), log=tmp_path / "log.txt", env={})


def test_a_killed_child_is_a_failure_that_names_memory(tmp_path: Path) -> None:
    code = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    with pytest.raises(ChildFailed, match="killed by SIGKILL"):
        Children().run(python(code), log=tmp_path / "log.txt", env={})


def test_a_stop_reaches_children_in_threads_and_starts_no_more(tmp_path: Path) -> None:
    children, log, saved = Children(), tmp_path / "log.txt", tmp_path / "saved"
    ended: list[BaseException] = []

    def supervised() -> None:
        try:
            children.run(python(SAVES, str(saved)), log=log, env={})
        except ChildStopped as error:
            ended.append(error)

    thread = threading.Thread(target=supervised)
    thread.start()
    when_ready(log)
    with children.on_signals():
        os.kill(os.getpid(), signal.SIGTERM)
        thread.join(30)
    assert children.stopped_by == signal.SIGTERM
    assert saved.read_text() == "saved"
    assert "143" in str(ended[0])
    with pytest.raises(ChildStopped, match="not started"):
        children.run(python("print(1)"), log=log, env={})


def test_a_child_that_ignores_the_stop_is_killed_after_its_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "GRACE_SECONDS", 0.5)
    children, log = Children(), tmp_path / "log.txt"
    threading.Thread(
        target=lambda: (when_ready(log), children.stop(signal.SIGTERM)), daemon=True
    ).start()
    began = time.monotonic()
    with pytest.raises(ChildStopped):
        children.run(python(STUBBORN), log=log, env={})
    assert time.monotonic() - began < 30


def test_a_child_takes_its_own_children_along(tmp_path: Path) -> None:
    code = (
        "import subprocess, sys; child = subprocess.Popen([sys.executable, '-c', "
        "'import time; time.sleep(60)']); print(child.pid)"
    )
    log = tmp_path / "log.txt"
    Children().run(python(code), log=log, env={})
    assert gone(int(last_line(log)))


def test_children_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    log, saved = tmp_path / "log.txt", tmp_path / "saved"
    code = (
        "import sys; from pathlib import Path; from flows.supervise import Children\n"
        f"Children().run([sys.executable, '-c', {SAVES!r}, sys.argv[2]], "
        "log=Path(sys.argv[1]), env={})\n"
    )
    parent = subprocess.Popen(python(code, str(log), str(saved)))
    when_ready(log)
    parent.kill()
    parent.wait()
    end = time.monotonic() + 30
    while not saved.is_file():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_line_that_is_drawn_over_counts_once_it_is_newest(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"$ sa3d pretrain\nbegun\n\repoch 1  10 s left\repoch 2  5 s left ")
    assert last_line(log) == "epoch 2  5 s left"
    assert last_line(tmp_path / "none") == ""


def gone(pid: int, seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        state = Path(f"/proc/{pid}/stat")
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return True
        time.sleep(0.05)
    return False
