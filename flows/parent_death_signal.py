"""Run a command that dies with its parent, also when the parent is killed with SIGKILL.

``python flows/leash.py SIGNAL COMMAND ...``: the kernel is asked to send this process
``SIGNAL`` on the death of its parent, which survives the exec of the command. Imports
nothing of the project: it runs before every child and must cost no time. Systems other
than Linux have no such request; there the command runs without it.
"""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def leashed(command: list[str], signum: int) -> list[str]:
    """The command line that runs ``command`` on a leash held by the calling thread."""
    return [sys.executable, str(Path(__file__).resolve()), str(int(signum)), *command]


def main(arguments: list[str]) -> None:
    """Ask for the signal, then become the command."""
    if sys.platform == "linux":
        parent = os.getppid()
        if ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(arguments[0])) != 0:
            sys.exit("cannot ask the kernel to end this command with its parent")
        if os.getppid() != parent:  # it died before the request was in force
            sys.exit(1)
    os.execvp(arguments[1], arguments[1:])


if __name__ == "__main__":
    main(sys.argv[1:])
