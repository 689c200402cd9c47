"""Counting towards a total, with the time left, for work that takes longer than a moment."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Final, TextIO

from sa3d.utils.progress import ProgressLine, duration

RESULT_NEUTRAL: Final = True

_PATIENCE = 2.0


class Progress:
    """Counts steps to ``total``; tells the progress line once 2 s have passed.

    Where the total is not known beforehand, it is 0 and ``share`` (0 to 1) says how far along
    the work is. ``quiet`` prints nothing.
    """

    def __init__(
        self, total: int, what: str, *, quiet: bool = False, stream: TextIO | None = None
    ) -> None:
        self.total = total
        self.done = 0
        self.share: float | None = None
        self._line = ProgressLine(what, quiet, stream)
        self._begin = time.monotonic()
        self._spoke = False

    def step(self, count: int = 1) -> None:
        """``count`` more are done."""
        self.done += count
        elapsed = time.monotonic() - self._begin
        if elapsed >= _PATIENCE:
            self._spoke = True
            self._line.show(self.text(elapsed))

    def text(self, elapsed: float) -> str:
        """``120/6227  58.1/s  1 min 45 s left``."""
        share = self.share if self.share is not None else self.done / max(self.total, 1)
        rate = self.done / max(elapsed, 1e-9)
        left = f"  {duration(elapsed * (1.0 - share) / share)} left" if 0.0 < share <= 1.0 else ""
        return f"{self._count()}  {rate:.1f}/s{left}"

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
        if self._spoke:
            elapsed = time.monotonic() - self._begin
            self._line.show(f"{self._count()} in {duration(elapsed)}", always=True)
        self._line.close()
