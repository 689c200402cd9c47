"""One child process: its own session, its own log, and a chance to save before it ends."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from flows.parent_death_signal import with_parent_death_signal

GRACE_SECONDS = 25.0  # to finish a step and save; a Prefect worker waits 30 s before SIGKILL
_TAIL_BYTES = 4096
_TAIL_LINES = 6


class ChildFailed(Exception):  # noqa: N818  (a state of the node, shown to the user)
    """A child ended with an error; the text carries its last lines."""


class ChildStopped(Exception):  # noqa: N818
    """A child ended because it was asked to, and has saved where it stood."""


class Children:
    """The running children of a flow, and the one way to end them all."""

    def __init__(self) -> None:
        self.stopped_by = 0  # the signal that asked for it
        self._stopping = threading.Event()
        self._lock = threading.RLock()  # re-entered by a signal handler
        self._running: set[subprocess.Popen[bytes]] = set()

    @property
    def stopping(self) -> bool:
        """Whether everything was asked to stop."""
        return self._stopping.is_set()

    def run(self, command: Sequence[str], *, log: Path, env: Mapping[str, str]) -> None:
        """Run a command to its end, its output appended to ``log``.

        Args:
            command: the words of the command.
            log: made with its folder; begins with the command itself.
            env: added to this process's environment.

        Raises:
            ChildFailed: any exit status that is not zero.
            ChildStopped: it, or the whole flow, was asked to stop.
        """
        if self.stopping:
            raise ChildStopped("not started: the flow was stopped")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            sink.write(f"$ {shlex.join(command)}\n".encode())
            sink.flush()
            process = subprocess.Popen(
                with_parent_death_signal(list(command), signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,  # signals reach it through stop(), not the terminal
            )
        with self._lock:
            self._running.add(process)
            if self.stopping:  # asked between the check above and here
                _signal(process, signal.SIGTERM)
        try:
            code = self._wait(process)
        finally:
            with self._lock:
                self._running.discard(process)
            _signal(process, signal.SIGKILL)  # the rest of its session, and itself on an error
        if code in (143, 130, -signal.SIGTERM, -signal.SIGINT) or (code and self.stopping):
            raise ChildStopped(f"stopped (exit status {code}); see {log}")
        if code != 0:
            raise ChildFailed(f"{_ending(code)}: {last_lines(log)}")

    def stop(self, signum: int) -> None:
        """Ask every child to save and end, and start no more. A second call kills."""
        with self._lock:
            again = self.stopping
            self.stopped_by = self.stopped_by or signum
            self._stopping.set()
            for process in self._running:
                _signal(process, signal.SIGKILL if again else signal.SIGTERM)

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """While open, SIGTERM and SIGINT are :meth:`stop` (in the main thread; else nothing).

        Replaces Prefect's own handler, which would raise in the main thread and leave
        children of other threads behind.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(signum: int, frame: FrameType | None) -> None:
            self.stop(signum)

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _wait(self, process: subprocess.Popen[bytes]) -> int:
        deadline: float | None = None
        while True:
            try:
                return process.wait(0.5)
            except subprocess.TimeoutExpired:
                pass  # still running
            if self.stopping and deadline is None:
                deadline = time.monotonic() + GRACE_SECONDS
            if deadline is not None and time.monotonic() > deadline:
                _signal(process, signal.SIGKILL)


_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def last_lines(log: Path, count: int = _TAIL_LINES) -> str:
    """The end of a log, as one line a line that was drawn over is not repeated in."""
    return " | ".join(_lines(log)[-count:]) or "it wrote nothing"


def last_line(log: Path) -> str:
    """The newest line of a log, progress included; empty before the first."""
    found = [line for line in _lines(log) if not line.startswith("$ ")]
    return found[-1] if found else ""


def _lines(log: Path) -> list[str]:
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    return [line.strip() for line in text.replace("\r", "\n").split("\n") if line.strip()]


def _ending(code: int) -> str:
    if code == -signal.SIGKILL:
        return "killed by SIGKILL (out of memory?)"
    if code < 0:
        return f"killed by {signal.Signals(-code).name}"
    return f"exit status {code}"


def _signal(process: subprocess.Popen[bytes], signum: int) -> None:
    try:
        os.killpg(process.pid, signum)
    except ProcessLookupError:
        return  # it has ended already
