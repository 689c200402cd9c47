"""One model, many requests: a bounded number of them, answered one after the other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

from sa3d.service.limits import RefusedError

Result = TypeVar("Result")


class Work:
    """What is being read, waits or is being answered.

    Attributes:
        taken: how many requests that are.

    Args:
        limit: how many there may be.
    """

    def __init__(self, limit: int) -> None:
        self.taken, self._limit = 0, limit
        # one thread: torch uses the cores of one forward pass by itself
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sa3d-model")

    @property
    def full(self) -> bool:
        """Whether another request would be refused."""
        return self.taken >= self._limit

    @contextmanager
    def place(self) -> Iterator[None]:
        """A place for one request, taken before its body is read.

        Raises:
            RefusedError: 503, there is none.
        """
        if self.full:
            why = f"{self.taken} requests are waiting already; try again"
            raise RefusedError(503, why, {"Retry-After": "1"})
        self.taken += 1
        try:
            yield
        finally:
            self.taken -= 1

    async def do(self, job: Callable[[], Result]) -> Result:
        """The result of ``job``, which runs beside the event loop and alone."""
        return await asyncio.get_running_loop().run_in_executor(self._thread, job)

    def close(self) -> None:
        """Wait for what is running."""
        self._thread.shutdown()
