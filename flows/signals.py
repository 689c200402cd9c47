"""Ctrl-C, SIGTERM and a closed terminal as a request that the flow reads when it can act on it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sa3d.utils.stop_signals import stop_signals


class StopRequests:
    """The signals that came since :meth:`listen` was entered.

    Attributes:
        count: how many times the flow was asked. After the first signal only Ctrl-C counts: SIGTERM
            and SIGHUP come together when a terminal is closed or what started the flow dies.
        first: number of the first; 0: none came.
    """

    def __init__(self) -> None:
        self.count = 0
        self.first = 0

    @contextmanager
    def listen(self) -> Iterator[None]:
        """While open, signals that ask to stop are noted; in the main thread alone.

        Replaces Prefect's own handler, which raises in the main thread wherever that is.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._note) for number in stop_signals()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def note(self, signum: int) -> None:
        """Count a request that came in another way, as if this signal had."""
        self._note(signum, None)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        if self.count == 0 or signum == signal.SIGINT:
            self.count += 1
        self.first = self.first or signum
