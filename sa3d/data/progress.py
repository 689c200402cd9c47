"""One progress line with the time left, for work that takes longer than a moment."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TextIO

_PATIENCE = 2.0
_TERMINAL_EVERY, _LOG_EVERY = 0.2, 10.0


class Progress:
    """Counts steps to ``total``; prints to standard error once 2 s have passed.

    Where the total is not known beforehand, it is 0 and ``share`` (0 to 1) says how far along
    the work is. On a terminal the line is rewritten five times a second; elsewhere (a log, DVC)
    a new line comes every ten seconds. ``quiet`` prints nothing.
    """

    def __init__(
        self, total: int, what: str, *, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self.total, self.what, self.quiet = total, what, quiet
        self.done = 0
        self.share: float | None = None
        self._stream = stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._begin = time.monotonic()
        self._last: float | None = None

    def step(self, count: int = 1) -> None:
        """``count`` more are done."""
        self.done += count
        now = time.monotonic()
        if self.quiet or now - self._begin < _PATIENCE:
            return
        every = _TERMINAL_EVERY if self._terminal else _LOG_EVERY
        if self._last is None or now - self._last >= every:
            self._last = now
            self._print(self.line(now - self._begin))

    def line(self, elapsed: float) -> str:
        """``kicad 120/6227, 58.1/s, 105 s left``."""
        share = self.share if self.share is not None else self.done / max(self.total, 1)
        rate = self.done / max(elapsed, 1e-9)
        left = f", {elapsed * (1.0 - share) / share:.0f} s left" if 0.0 < share <= 1.0 else ""
        return f"{self.what} {self._count()}, {rate:.1f}/s{left}"

    def _count(self) -> str:
        return f"{self.done}/{self.total}" if self.total else str(self.done)

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._last is None:
            return
        elapsed = time.monotonic() - self._begin
        self._print(f"{self.what} {self._count()} in {elapsed:.1f} s")
        if self._terminal:
            self._stream.write("\n")

    def _print(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()
