"""Batches made by a thread while the training loop works on those before."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor

import torch

from sa3d.data.loader import Batch, Batches

_AHEAD = 2  # batches made before they are asked for


class Ahead:
    """The same batches as ``source``, in the same order; a :class:`~sa3d.engine.types.Source`.

    A thread does: almost all of the work on a batch is done without Python's lock, and nothing has
    to be sent through a pipe, as a process would have to.

    Args:
        source: where they come from. It must not be used by anybody else meanwhile.
        one_core: the thread takes one core alone: for training on the CPU, where further threads
            would be in the way of the step's own.
    """

    def __init__(self, source: Batches, *, one_core: bool) -> None:
        self.source = source
        self.batch_size = source.batch_size
        self._one_core = one_core

    def __len__(self) -> int:
        """Batches an epoch; the same on every rank."""
        return len(self.source)

    def epoch(self, e: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of 0-based epoch ``e`` from number ``start`` on."""
        pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        try:
            if self._one_core:
                pool.submit(torch.set_num_threads, 1).result()
                # torch takes the last number that was set for threads that come later as well
                torch.set_num_threads(torch.get_num_threads())
            batches = self.source.epoch(e, start)
            waiting = deque(pool.submit(next, batches, None) for _ in range(_AHEAD))
            while (batch := waiting.popleft().result()) is not None:
                waiting.append(pool.submit(next, batches, None))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)
