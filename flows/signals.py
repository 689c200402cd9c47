"""Ctrl-C and SIGTERM as a request that the flow reads when it can act on it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class StopRequests:
    """The signals that came since :meth:`listen` was entered.

    Attributes:
        count: how many.
        first: number of the first; 0: none came.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first = 0

    @contextmanager
    def listen(self) -> Iterator[None]:
        """While open, SIGTERM and SIGINT are counted (in the main thread; else nothing changes).

        Replaces Prefect's own handler, which raises in the main thread wherever that is.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def note(self, signum: int) -> None:
        """Count a request that came in another way, as if this signal had."""
        self._note(signum, None)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.count += 1
        self.first = self.first or signum
