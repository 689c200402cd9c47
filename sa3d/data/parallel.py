"""A map over two processes that keeps the order and never runs far ahead."""

from __future__ import annotations

import itertools
import multiprocessing
import os
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

    The first 64 run here: small inputs do not pay for starting processes. At most 32 items wait
    in memory beyond the one being yielded. ``function`` must be importable by name.
    """
    rest = iter(items)
    yield from map(function, itertools.islice(rest, _INLINE))
    following = next(rest, None)
    if following is None:
        return
    rest = itertools.chain([following], rest)
    workers = min(WORKERS, os.cpu_count() or 1)
    # spawn: forking a process that may hold torch's threads can deadlock
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting: deque[Future[R]] = deque()
        try:
            for item in rest:
                waiting.append(pool.submit(function, item))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
