"""A map over two processes that keeps the order and never runs far ahead.

Not joblib: its generators take items as fast as the workers finish them, however slowly results
are read, so a large data set would fill the memory; and its workers outlive a killed parent.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from typing import TypeVar

from threadpoolctl import threadpool_limits

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
    with pool(min(WORKERS, os.cpu_count() or 1)) as workers:
        waiting: deque[Future[R]] = deque()
        try:
            for item in itertools.chain(following, rest):
                waiting.append(workers.submit(function, item))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def pool(workers: int) -> ProcessPoolExecutor:
    """Processes of one thread each, started when they first get work. They end with their parent,
    however that ends, and leave signals to it: it may want to finish what it is at."""
    # spawn: forking a process that may hold torch's threads can deadlock
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=context, initializer=_begin)


def _begin() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # numpy may be here already, as the main module is imported first, or come with the first task
    threadpool_limits(1)
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
    _end_with_parent()


def _end_with_parent() -> None:
    """Have this worker end when its parent does: after a SIGKILL it would wait for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # this runs in workers only

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, name="end-with-parent", daemon=True).start()
