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

    On a terminal the line is rewritten five times a second, elsewhere (a log, DVC) a new line
    comes every ten seconds. ``quiet`` prints nothing.
    """

    def __init__(
        self, total: int, what: str, *, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self.total, self.what, self.quiet = total, what, quiet
        self.done = 0
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
        rate = self.done / elapsed if elapsed > 0 else 0.0
        left = f"{(self.total - self.done) / rate:.0f} s left" if rate > 0 else "starting"
        return f"{self.what} {self.done}/{self.total}, {rate:.1f}/s, {left}"

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
        self._print(f"{self.what} {self.done}/{self.total} in {elapsed:.1f} s")
        if self._terminal:
            self._stream.write("\n")

    def _print(self, line: str) -> None:
        self._stream.write(f"\r\x1b[K{line}" if self._terminal else f"{line}\n")
        self._stream.flush()
