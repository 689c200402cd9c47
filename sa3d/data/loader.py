"""Batches of a processed file, made in the process that wants them.

No worker processes: taking 1024 of 8192 points costs less than sending them through a pipe. For
training a thread makes them (:mod:`sa3d.data.ahead`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa3d.data.preprocessing import Preprocessing, farthest
from sa3d.data.store import CloudSet, Ints, Points
from sa3d.errors import DataError

Sampling = Literal["random", "fps", "fps_subset"]

# Stream numbers keep the draws of the order, of the points and of the first point apart.
_ORDER, _POINTS, _START = 1, 2, 3


class Batch(NamedTuple):
    """Some clouds as a model sees them.

    Attributes:
        points: (B, N, 3) float32.
        labels: (B,) int64.
        index: (B,) int64 rows of the :class:`~sa3d.data.store.CloudSet`.
        parts: (B, N) int64 part of each point, where they were asked for.
    """

    points: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here
    parts: Tensor | None = None

    @property
    def category(self) -> Tensor:
        """(B,) category of each cloud: another name of ``labels``, for part segmentation."""
        return self.labels


class Batches:
    """Batches of some rows of a processed data set, one epoch at a time.

    What a cloud looks like in epoch e depends on (seed, e, row) alone, and the order on
    (seed, e): a run resumed in the middle of an epoch sees the same batches, and W processes
    of batch B see together what one process of batch W * B sees.

    Args:
        clouds: the opened data set.
        indices: rows to draw from.
        batch_size: clouds a batch, in this process.
        points: points N taken of each stored cloud.
        seed: seed of order and subsets.
        shuffle: a new order every epoch; else the order of ``indices``.
        drop_last: leave out the last, smaller batch.
        sampling: ``random`` subset without replacement, farthest-point sampling (``fps``, from
            the first point), or ``fps_subset``: a random subset of somewhat more farthest points
            (1200 for 1024), found from a new random point each epoch, which is what trains a
            model that is tested on ``fps`` (Point-MAE code, its fine-tuning runner, which
            shuffles a cloud's points before it samples).
        parts: batches have part labels.
        repeat: a cloud of fewer than N points shows all of them, and some again; else it is
            refused.
        rank, world: this process and their number. Ranks get disjoint rows and equally many
            batches; without ``drop_last`` the last ones may differ in size by one, and may be one
            larger than ``batch_size``.

    Raises:
        DataError: more points asked than a cloud has, part labels asked of a data set without,
            or too few rows for one batch.
    """

    def __init__(
        self,
        clouds: CloudSet,
        indices: NDArray[np.int64],
        *,
        batch_size: int,
        points: int,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        sampling: Sampling = "random",
        parts: bool = False,
        repeat: bool = False,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes")
        if sampling not in get_args(Sampling):
            raise ValueError(f"sampling {sampling!r}")
        self.clouds = clouds
        self.indices = np.asarray(indices, dtype=np.int64)
        self.batch_size = batch_size
        self.preprocessing = Preprocessing.of(clouds, points)
        self.seed = seed
        self.shuffle = shuffle
        self.sampling: Sampling = sampling
        self.parts = parts
        self.rank, self.world = rank, world
        self._bounds = _bounds(len(self.indices), batch_size, world, drop_last)
        if not repeat:
            self._check_sizes()
        if parts:
            clouds.parts(int(self.indices[0]))  # refuses here rather than in the first batch

    def __len__(self) -> int:
        """Batches an epoch; the same on every rank."""
        return len(self._bounds) - 1

    def epoch(self, e: int, start: int = 0) -> Generator[Batch, None, None]:
        """The batches of 0-based epoch ``e`` from number ``start`` on."""
        order = self.indices
        if self.shuffle:
            order = np.random.default_rng((self.seed, _ORDER, e)).permutation(order)
        for low, high in zip(self._bounds[start:-1], self._bounds[start + 1 :], strict=True):
            yield self._batch(np.array_split(order[low:high], self.world)[self.rank], e)

    def _check_sizes(self) -> None:
        sizes, points = self.clouds.sizes[self.indices], self.preprocessing.points
        smallest = int(sizes.argmin())
        if sizes[smallest] < points:
            raise DataError(
                f"{points} points asked but cloud '{self.clouds.ids[self.indices[smallest]]}' of "
                f"{self.clouds.path} has {sizes[smallest]}; set data.points to "
                f"{sizes[smallest]} or less"
            )

    def _batch(self, rows: Ints, e: int) -> Batch:
        names = rows.tolist()
        points, parts = [], []
        for row, (cloud, index) in zip(names, self._chosen(names, e), strict=True):
            points.append(cloud.take(index, axis=0))
            if self.parts:
                parts.append(self.clouds.read_parts(row).take(index))
        return Batch(
            self.preprocessing.after(torch.from_numpy(np.stack(points))),
            torch.from_numpy(self.clouds.labels[rows]),
            torch.from_numpy(rows.copy()),
            torch.from_numpy(np.stack(parts).astype(np.int64)) if self.parts else None,
        )

    def _chosen(self, rows: list[int], e: int) -> Iterator[tuple[Points, Ints]]:
        """Each cloud, and the (N,) points of it that its batch shows."""
        points = self.preprocessing.points
        if self.sampling == "random":
            # one after the other: a cloud is still in the cache when its points are taken
            for row in rows:
                cloud = self._whole(row)
                yield cloud, self._draw(len(cloud), row, e)
            return
        whole = [self._whole(row) for row in rows]
        if self.sampling == "fps":
            chosen = [np.resize(index, points) for index in farthest(whole, points)]
        else:
            starts = [
                int(self._stream(_START, row, e).integers(len(cloud)))
                for row, cloud in zip(rows, whole, strict=True)
            ]
            pools = farthest(whole, pool_size(points), starts)
            chosen = [
                pool[self._draw(len(pool), row, e)] for row, pool in zip(rows, pools, strict=True)
            ]
        yield from zip(whole, chosen, strict=True)

    def _whole(self, row: int) -> Points:
        return self.preprocessing.before(self.clouds.read(row))

    def _draw(self, count: int, row: int, e: int) -> Ints:
        """N of ``count`` indices, none twice; of fewer than N all, and some again."""
        stream, points = self._stream(_POINTS, row, e), self.preprocessing.points
        if count >= points:
            return stream.choice(count, points, replace=False)
        again = stream.integers(count, size=points - count)
        return np.concatenate([stream.permutation(count), again])

    def _stream(self, kind: int, row: int, e: int) -> np.random.Generator:
        # a counter-based generator: seeding it by (epoch, row) costs nothing, so subsets do
        # not depend on batch size, position or number of processes
        return np.random.Generator(np.random.Philox(key=self.seed, counter=[0, kind, e, row]))


def pool_size(points: int) -> int:
    """Farthest points out of which a random subset of ``points`` is drawn: 1024 -> 1200, 2048 ->
    2400 (Point-MAE code)."""
    return points * 75 // 64


def _bounds(count: int, batch_size: int, world: int, drop_last: bool) -> list[int]:
    """Where the global batches (of all ranks together) begin and end in the epoch's order."""
    whole = batch_size * world
    bounds = list(range(0, count - count % whole + 1, whole))
    rest = count - bounds[-1]
    if rest and not drop_last:
        if rest < world and len(bounds) > 1:
            bounds[-1] = count  # too few to give every rank one: the last whole batch takes them
        elif rest < world:
            raise DataError(f"{count} clouds cannot be shared among {world} processes")
        else:
            bounds.append(count)
    if len(bounds) < 2:
        raise DataError(
            f"{count} clouds give no batch of {batch_size} x {world}; use a smaller batch_size"
        )
    return bounds
