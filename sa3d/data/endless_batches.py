"""Batches of an endless data set: made by worker processes, delivered in order.

Making a cloud takes a core a millisecond or two, so that a GPU would wait for one process. Reading
a file needs none of this (:mod:`sa3d.data.loader`).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
import torch

from sa3d.config.endless import EndlessSource, digest_of
from sa3d.data.endless import (
    HELD_OUT,
    Made,
    class_names_of,
    generator_of,
    training_stream,
)
from sa3d.data.loader import Batch
from sa3d.data.parallel import pool
from sa3d.data.preprocessing import Preprocessing
from sa3d.data.store import TEST, CloudSet
from sa3d.errors import DataError
from sa3d.utils import paths

_BATCHES_AHEAD = 2  # of each worker, done or in work


def default_workers(device: str) -> int:
    """Workers where nobody says how many: beside a GPU all cores but two, else one, as a CPU that
    trains has no core to spare and is fed by one."""
    limited = hasattr(os, "sched_getaffinity")  # not on every system
    cores = len(os.sched_getaffinity(0)) if limited else os.cpu_count() or 1
    return max(1, cores - 2) if device == "cuda" else 1


class EndlessBatches:
    """Batches of new clouds, one epoch at a time; a :class:`~sa3d.engine.types.Source`.

    Cloud i of epoch e is number ``e * clouds_per_epoch + i`` of the stream of ``seed``, whatever
    the number of workers: a run resumed in the middle of an epoch sees the same batches, and W
    processes of batch B see together what one process of batch W * B sees.

    A context manager: its workers start with the first batch and end with it.

    Args:
        source: settings of the data set.
        batch_size: clouds a batch, in this process.
        points: points N of each cloud, at most those that it is made with.
        seed: of the run; each has a stream of its own.
        workers: processes; 0: this one makes the clouds itself.
        rank, world: this process and their number.

    Raises:
        DataError: more points than clouds are made with, or an epoch without a whole batch.
    """

    def __init__(
        self,
        source: EndlessSource,
        *,
        batch_size: int,
        points: int,
        seed: int,
        workers: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes")
        check_points(source, points)
        self.batch_size = batch_size
        self._per_epoch = source.clouds_per_epoch
        self._length = self._per_epoch // (batch_size * world)
        if not self._length:
            raise DataError(
                f"clouds_per_epoch={self._per_epoch} gives no batch of {batch_size} x {world}; "
                "use a smaller batch_size"
            )
        self._make = partial(generator_of(source), source, training_stream(seed))
        self._preprocessing = Preprocessing(points, "subsample", source.points)
        self._first, self._step = rank * batch_size, batch_size * world
        self._workers = workers
        self._pool = pool(workers) if workers else None
        self._waiting: deque[tuple[tuple[int, int], Future[Made]]] = deque()

    def __len__(self) -> int:
        """Batches an epoch; the same on every rank. Clouds that fill no batch are left out."""
        return self._length

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waiting.clear()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def epoch(self, e: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of 0-based epoch ``e`` from number ``start`` on."""
        for number in range(start, self._length):
            yield self._batch(e, number)

    def _batch(self, e: int, number: int) -> Batch:
        made = self._made((e, number))
        points = np.ascontiguousarray(made.points[:, : self._preprocessing.points])
        return Batch(
            self._preprocessing.after(torch.from_numpy(points)),
            torch.from_numpy(made.labels),
            torch.tensor(self._numbers(e, number)),
        )

    def _numbers(self, e: int, number: int) -> range:
        first = e * self._per_epoch + number * self._step + self._first
        return range(first, first + self.batch_size)

    def _made(self, at: tuple[int, int]) -> Made:
        if self._pool is None:
            return self._make(self._numbers(*at))
        while self._waiting and self._waiting[0][0] != at:  # an iterator was left half-way
            self._waiting.popleft()[1].cancel()
        behind = self._waiting[-1][0] if self._waiting else None
        try:
            while len(self._waiting) <= _BATCHES_AHEAD * self._workers:
                behind = at if behind is None else self._after(behind)
                self._waiting.append(
                    (behind, self._pool.submit(self._make, self._numbers(*behind)))
                )
            return self._waiting.popleft()[1].result()
        except BrokenProcessPool:
            raise DataError(
                "a worker that makes clouds was ended from outside, perhaps for want of memory; "
                "the same command goes on from the last checkpoint"
            ) from None

    def _after(self, at: tuple[int, int]) -> tuple[int, int]:
        """The batch after this one; workers do not pause at the end of an epoch."""
        e, number = at
        return (e, number + 1) if number + 1 < self._length else (e + 1, 0)


def check_points(source: EndlessSource, points: int) -> None:
    """That clouds have as many points as are asked.

    Raises:
        DataError: they have fewer.
    """
    if points > source.points:
        raise DataError(
            f"{points} points asked but the clouds of {source.source} are made with "
            f"{source.points}; set data.points to {source.points} or less, or the data set's "
            "`points` higher"
        )


def held_out(name: str, source: EndlessSource) -> CloudSet:
    """The clouds of data set ``name`` that no run is trained on, in memory; all are test clouds."""
    count = source.held_out
    made = generator_of(source)(source, HELD_OUT, range(count))
    return CloudSet(
        path=paths.processed(name),
        digest=digest_of(source),
        source_hash=digest_of(source),
        normalisation="subsample",
        ids=tuple(f"held-out/{number:06d}" for number in range(count)),
        labels=made.labels,
        split=np.full(count, TEST, dtype=np.uint8),
        family=np.arange(count),
        class_names=class_names_of(source),
        part_names=(),
        class_parts=(),
        episodes=(),
        offsets=np.arange(count + 1) * source.points,
        flat_points=made.points.reshape(-1, 3),
        flat_normals=None,
        flat_parts=None,
    )
