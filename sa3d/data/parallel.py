"""A map over two processes that keeps the order and never runs far ahead.

Not joblib: its generators take items as fast as the workers finish them, however slowly results
are read, so a large data set would fill the memory; and its workers outlive a killed parent.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")

WORKERS = 2
_INLINE = 64
_AHEAD = 32


def ordered_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """``function`` of each item, in order.

    The first 64 items are computed here, so that small inputs start no processes. At most 32 items
    are in memory beyond the one being yielded. ``function`` must be importable by name. An
    exception in a worker is raised here.
    """
    rest = iter(items)
    yield from map(function, itertools.islice(rest, _INLINE))
    following = list(itertools.islice(rest, 1))
    if not following:
        return
    workers = min(WORKERS, os.cpu_count() or 1)
    # spawn: forking a process that may hold torch's threads can deadlock
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_end_with_parent) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in itertools.chain(following, rest):
                waiting.append(pool.submit(function, item))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _end_with_parent() -> None:
    """Have this worker end when its parent does: after a SIGKILL it would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers only

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
