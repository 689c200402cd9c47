"""Waiting for parts of the stack, with a word now and then."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

_FIRST_WORD = 2.0  # seconds
_NEXT_WORD = 10.0
_LOOK_SECONDS = 0.2


def looks(what: Callable[[], str], say: Callable[[str], None]) -> Iterator[float]:
    """Moments to look whether the waiting is over, each with the seconds since the first.

    It never ends by itself: whoever waits leaves the loop.

    Args:
        what: what is waited for, in words; asked each time that it is told.
        say: told.
    """
    begun, next_word = time.monotonic(), _FIRST_WORD
    while True:
        waited = time.monotonic() - begun
        yield waited
        if waited > next_word:
            next_word = waited + _NEXT_WORD
            say(f"waiting for {what()} ({waited:.0f} s)")
        time.sleep(_LOOK_SECONDS)
