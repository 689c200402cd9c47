"""Progress of long work, and the one way of writing a duration."""

from __future__ import annotations

import sys
from typing import TextIO

from tqdm import tqdm

_SILENT_SECONDS = 2.0  # shorter work shows nothing
_REDRAW_SECONDS = 0.2
_LINE_SECONDS = 10.0
_LINE = "{desc}  {n_fmt}/{total_fmt}  {rate_noinv_fmt}, {remaining} left{postfix}"
_LINE_WITHOUT_TOTAL = "{desc}  {n_fmt}  {rate_noinv_fmt}{postfix}"
_BAR = _LINE.replace("{desc}", "{desc}  {percentage:3.0f}% {bar}")

# every call of update() looks at the clock, so tqdm's watching thread is not needed
tqdm.monitor_interval = 0


class ProgressBar:
    """A tqdm bar on a terminal, else a plain line every 10 s; nothing for the first 2 s.

    Args:
        label: what is being done.
        total: how many there are; None if that is not known.
        unit: what is counted, in the plural.
        initial: how many were done before.
        quiet: show nothing.
        stream: standard error by default, so that output can be piped.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        unit: str,
        *,
        initial: int = 0,
        quiet: bool = False,
        stream: TextIO | None = None,
    ) -> None:
        stream = stream or sys.stderr
        self._terminal = stream.isatty()
        self._bar = tqdm(
            desc=label,
            total=total,
            unit=f" {unit}",
            initial=initial,
            disable=quiet,
            delay=_SILENT_SECONDS,
            file=stream if self._terminal else _Lines(stream),
            mininterval=_REDRAW_SECONDS if self._terminal else _SILENT_SECONDS,
            miniters=1,
            dynamic_ncols=self._terminal,
            bar_format=self._format(total),
        )

    def expect(self, total: int) -> None:
        """Set how many there are."""
        self._bar.total = total
        self._bar.bar_format = self._format(total)

    def update(self, count: int = 1, note: str = "") -> None:
        """Add ``count`` to what is done; ``note`` follows the numbers."""
        self._bar.set_postfix_str(note, refresh=False)
        if self._bar.update(count) and not self._terminal:
            self._bar.mininterval = _LINE_SECONDS

    def close(self) -> None:
        """Show the last state, if any was shown."""
        self._bar.close()

    def _format(self, total: int | None) -> str:
        if total is None:  # tqdm would show 00:00 left
            return _LINE_WITHOUT_TOTAL
        return _BAR if self._terminal else _LINE

    def __enter__(self) -> ProgressBar:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class _Lines:
    """A stream for tqdm that makes a line of each drawing, instead of drawing over the last."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> None:
        """Write what tqdm draws, without its control characters."""
        text = text.strip("\r\n ")
        if text:
            self._stream.write(text + "\n")

    def flush(self) -> None:
        """Flush the stream."""
        self._stream.flush()


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
