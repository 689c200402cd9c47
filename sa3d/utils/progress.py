"""The one progress line, and the one way of writing a duration."""

from __future__ import annotations

import sys
import time
from typing import TextIO

_REDRAW_SECONDS = 0.2
_PLAIN_SECONDS = 10.0


class ProgressLine:
    """Where work stands, redrawn in place on a terminal, else a plain line every 10 s.

    Args:
        label: what is being done.
        quiet: write nothing.
        stream: standard error by default, so that output can be piped.
    """

    def __init__(self, label: str, quiet: bool = False, stream: TextIO | None = None) -> None:
        self.label = label
        self.quiet = quiet
        self.stream = stream or sys.stderr
        self._terminal = self.stream.isatty()
        self._next = 0.0
        self._width = 0

    def show(self, text: str, *, always: bool = False) -> None:
        """Replace the line, unless the last one is too fresh; ``always`` does not wait."""
        now = time.monotonic()
        if self.quiet or (now < self._next and not always):
            return
        self._next = now + (_REDRAW_SECONDS if self._terminal else _PLAIN_SECONDS)
        text = f"{self.label}  {text}"
        if self._terminal:
            self.stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self.stream.write(text + "\n")
        self.stream.flush()

    def close(self) -> None:
        """End the line, so that the shell's prompt begins on its own."""
        if self._terminal and self._width:
            self.stream.write("\n")
            self.stream.flush()
            self._width = 0


def duration(seconds: float) -> str:
    """``4.5 s``, ``45 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    whole = round(seconds)
    if whole < 10:
        return f"{seconds:.1f} s"
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
