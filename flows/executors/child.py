"""One child process: its own session, its own log, and a chance to save before it ends."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows import logs
from flows.parent_death_signal import with_parent_death_signal
from sa3d.utils.paths import shown

GRACE_SECONDS = 25.0  # to finish a step and save; a Prefect worker waits 30 s before SIGKILL
# how a child ends that was asked to
_ASKED = (143, 130, 129, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)


class Child:
    """A running command. It also ends with the thread that started it, asked by SIGTERM.

    Attributes:
        log: what it prints.
        overdue: whether it was asked to stop because it took too long.

    Args:
        command: its words.
        log: file that its output is appended to, after the command itself.
        env: added to this process's environment.
        hours: it is asked to stop after so many; None: it may run for ever.

    Raises:
        OSError: the log cannot be written, or the command not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        env: Mapping[str, str],
        hours: float | None = None,
    ) -> None:
        self.log = log
        self.overdue = False
        self._latest = None if hours is None else time.monotonic() + 3600 * hours
        self._deadline: float | None = None
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as sink:
            sink.write(f"$ {shlex.join(command)}\n".encode())
            sink.flush()
            self._process = subprocess.Popen(
                with_parent_death_signal(list(command), signal.SIGTERM),
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=subprocess.STDOUT,
                env={**os.environ, **env},
                start_new_session=True,  # signals reach it through stop(), not the terminal
            )

    def poll(self) -> int | None:
        """Its exit status, negative for a signal; None while it runs.

        One that was asked to stop is killed once its time to save is over. What it started and
        left behind is killed with it.
        """
        code = self._process.poll()
        if code is not None:
            self._signal(signal.SIGKILL)  # the rest of its session
        elif self._deadline is not None and time.monotonic() > self._deadline:
            self.kill()
        elif self._latest is not None and time.monotonic() > self._latest and not self.stopping:
            self.overdue = True
            self.stop()
        return code

    def stop(self) -> None:
        """Ask it to save and end."""
        if self._deadline is None:
            self._deadline = time.monotonic() + GRACE_SECONDS
            self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it now."""
        self._signal(signal.SIGKILL)

    @property
    def stopping(self) -> bool:
        """Whether it was asked to stop."""
        return self._deadline is not None

    def _signal(self, signum: int) -> None:
        with contextlib.suppress(ProcessLookupError):  # it and its session have ended
            os.killpg(self._process.pid, signum)


def was_stopped(code: int) -> bool:
    """Whether an exit status is that of a child which was asked to end, by whomever."""
    return code in _ASKED


def failure(code: int, log: Path) -> str:
    """A message for a child that failed: the cause first, and where to read on.

    A child that a signal killed had no time to say anything of it: its last line is no cause.
    """
    if code < 0:
        last = logs.last_line(log)
        said = f"last line: {last}; " if last else ""
        return f"{_killed(-code)} ({said}log: {shown(log)})"
    return f"{logs.cause(log)} (exit status {code}; log: {shown(log)})"


def too_long(hours: float, log: Path) -> str:
    """A message for a child that was stopped because it took too long."""
    return (
        f"stopped after {hours:g} h, the longest that a run may take; the same command goes on "
        f"from its checkpoint (log: {shown(log)})"
    )


def _killed(signum: int) -> str:
    if signum == signal.SIGKILL:
        return "killed by SIGKILL, out of memory?"
    return f"killed by {signal.Signals(signum).name}"
