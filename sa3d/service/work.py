"""One model, many requests: a bounded number of them, answered one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from sa3d.service.limits import Limits, RefusedError

Result = TypeVar("Result")


class Work:
    """What is being read, waits or is being answered.

    Attributes:
        taken: how many requests that are.
        held: bytes of their bodies.

    Args:
        limits: how many there may be.
    """

    def __init__(self, limits: Limits) -> None:
        self.taken, self.held, self._limits = 0, 0, limits
        # one thread: torch uses the cores of one forward pass by itself
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sa3d-model")

    @property
    def full(self) -> bool:
        """Whether another request would be refused."""
        return self.taken >= self._limits.waiting

    @contextmanager
    def place(self) -> Iterator[Callable[[int], None]]:
        """A place for one request, taken before its body is read. What it gives is told of every
        part of the body, before it is kept: its bytes.

        Raises:
            RefusedError: 503, there is none; or, by what is given, no room for those bytes.
        """
        if self.full:
            why = f"{self.taken} requests are waiting already; try again"
            raise RefusedError(503, why, {"Retry-After": "1"})
        own = 0

        def hold(size: int) -> None:
            nonlocal own
            if self.held + size > self._limits.held:
                why = f"{self.held} bytes of requests are waiting already; try again"
                raise RefusedError(503, why, {"Retry-After": "1", "Connection": "close"})
            self.held += size
            own += size

        self.taken += 1
        try:
            yield hold
        finally:
            self.taken -= 1
            self.held -= own

    async def do(self, job: Callable[[], Result]) -> Result:
        """The result of ``job``, which runs beside the event loop and alone."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    def close(self) -> None:
        """Wait for what is running."""
        self._thread.shutdown()
