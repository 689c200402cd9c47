"""SIGTERM, SIGINT and SIGHUP: finish the step, save, leave."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Final

from sa3d.utils.stop_signals import stop_signals

RESULT_NEUTRAL: Final = True


class Stopped(Exception):  # noqa: N818  (not an error: the user asked for it)
    """Training was asked to stop and has saved where it stood."""

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum

    @property
    def exit_code(self) -> int:
        """143 for SIGTERM, 130 for SIGINT, 129 for SIGHUP, as a shell would report them."""
        return 128 + self.signum


class StopSignals:
    """While open, the first signal that asks to stop is only noted in ``signum``.

    After it a SIGINT acts as before: somebody presses Ctrl-C again. Another SIGTERM or SIGHUP
    changes nothing: the flow sends one and then the kernel, when the flow dies before its child.
    SIGHUP is left alone where it was ignored, as by ``nohup``. Outside the main thread, where
    Python allows no handlers, nothing is noted.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._before: dict[int, signal._HANDLER] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in stop_signals():
                self._before[number] = signal.signal(number, self._note)
        return self

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = self.signum or signum
        if signal.SIGINT in self._before:
            signal.signal(signal.SIGINT, self._before.pop(signal.SIGINT))

    def _put_back(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._put_back()
