"""What the log of a child says: how far it is, and why it ended."""

from __future__ import annotations

import os
from pathlib import Path

FILE = "log.txt"  # in the run folder; begins with the command
PROGRESS_SECONDS = 30.0  # between lines of a run's page about how far the run is
_TAIL_BYTES = 8192
_MOST_LINES = 4
_OWN = "sa3d: "  # how the command line begins a message to the user


def last_line(log: Path) -> str:
    """The newest line, progress included; empty before the first."""
    found = _lines(log)
    return found[-1].strip() if found else ""


def cause(log: Path) -> str:
    """Why a child failed, as far as its last lines tell: the message of the command line, the
    exception below a traceback, or the last line."""
    lines = _lines(log)
    if not lines:
        return "it wrote nothing"
    begin = len(lines) - 1
    for number, line in enumerate(lines):
        if line.startswith(_OWN):
            begin = number
        elif line.startswith("Traceback "):
            # its own lines are indented; the exception follows, in one line or several
            after = range(number + 1, len(lines))
            begin = next((n for n in after if not lines[n].startswith(" ")), len(lines) - 1)
    return " | ".join(line.strip() for line in lines[begin:][:_MOST_LINES])


def _lines(log: Path) -> list[str]:
    """The last lines since the child was started last; of one that was drawn over, the newest."""
    if not log.is_file():
        return []
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        text = file.read().decode(errors="replace")
    found: list[str] = []
    for line in text.replace("\r", "\n").split("\n"):
        if line.startswith("$ "):
            found = []
        elif line.strip():
            found.append(line.rstrip())
    return found
