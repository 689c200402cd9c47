"""Run a command that dies with its parent, also when the parent is killed with SIGKILL.

``python flows/parent_death_signal.py SIGTERM COMMAND ...`` asks the Linux kernel to send this
process that signal when the thread that started it dies (``prctl(PR_SET_PDEATHSIG)``), then becomes
the command, for which the request stays in force. Other systems have no such request; there the
command runs without it. Nothing of the project is imported, because this runs before every child
process and should start fast.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def with_parent_death_signal(command: list[str], signum: signal.Signals) -> list[str]:
    """The command line under which ``command`` gets ``signum`` when the calling thread dies."""
    return [sys.executable, str(Path(__file__).resolve()), signum.name, *command]


def main(arguments: list[str]) -> None:
    """Ask for the signal, then become the command."""
    if sys.platform == "linux":
        parent = os.getppid()
        if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.Signals[arguments[0]])) != 0:
            sys.exit("cannot ask the kernel to end this command with its parent")
        if os.getppid() != parent:  # it died before the request was in force
            sys.exit(1)
    os.execvp(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
