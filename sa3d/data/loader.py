"""Batches straight from the memory map, in the main process.

No worker processes: gathering 1024 of 8192 mapped points costs less than sending them through
a pipe (measured 14 000 clouds/s in the main process, the training step is far below that).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sa3d.data.store import CloudSet
from sa3d.data.transforms import unit_sphere
from sa3d.errors import DataError

Sampling = Literal["random", "fps", "fps_subset"]

# Stream numbers keep the draws of the order and of the points apart.
_ORDER, _POINTS = 1, 2


class Batch(NamedTuple):
    """``points`` (B, N, 3) float32 in the unit sphere, ``labels`` (B,) int64, ``index`` (B,)
    int64 rows of the :class:`~sa3d.data.store.CloudSet`."""

    points: Tensor
    labels: Tensor
    index: Tensor  # type: ignore[assignment]  # shadows tuple.index, which nobody needs here


class Batches:
    """Batches of some rows of a processed data set, one epoch at a time.

    What a cloud looks like in epoch e depends on (seed, e, row) alone, and the order on
    (seed, e): a run resumed in the middle of an epoch sees the same batches, and W processes
    of batch B see together what one process of batch W * B sees.

    Args:
        clouds: the opened data set.
        indices: rows to draw from.
        batch_size: clouds a batch, in this process.
        points: points N taken of each stored cloud, before it is scaled to the unit sphere.
        seed: seed of order and subsets.
        shuffle: a new order every epoch; else the order of ``indices``.
        drop_last: leave out the last, smaller batch.
        sampling: ``random`` subset without replacement, farthest-point sampling (``fps``, from
            the first point), or ``fps_subset``: a random subset of somewhat more farthest points
            (1200 for 1024), which is what trains a model that is tested on ``fps`` (Point-MAE
            code, its fine-tuning runner).
        rank, world: this process and their number. Ranks get disjoint rows and equally many
            batches; without ``drop_last`` the last ones may differ in size by one, and may be one
            larger than ``batch_size``.

    Raises:
        DataError: more points asked than stored, or too few rows for one batch.
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
        rank: int = 0,
        world: int = 1,
    ) -> None:
        if points > clouds.num_points:
            raise DataError(
                f"{points} points asked but {clouds.path} stores {clouds.num_points} a cloud; "
                f"set data.points to {clouds.num_points} or less"
            )
        if not 0 <= rank < world:
            raise ValueError(f"rank {rank} of {world} processes")
        if sampling not in get_args(Sampling):
            raise ValueError(f"sampling {sampling!r}")
        self.clouds = clouds
        self.indices = np.asarray(indices, dtype=np.int64)
        self.batch_size = batch_size
        self.points = points
        self.seed = seed
        self.shuffle = shuffle
        self.sampling: Sampling = sampling
        self.rank, self.world = rank, world
        self._bounds = _bounds(len(self.indices), batch_size, world, drop_last)
        # The farthest points of a cloud are the same in every epoch, so a subset of them finds
        # them kept: 1200 x 4 bytes a row, 24 MB for 5000 clouds. Plain `fps` is for one pass over
        # the data and keeps nothing.
        self._farthest: dict[int, NDArray[np.int32]] = {}

    def __len__(self) -> int:
        """Batches an epoch; the same on every rank."""
        return len(self._bounds) - 1

    def epoch(self, e: int, start: int = 0) -> Iterator[Batch]:
        """The batches of 0-based epoch ``e`` from number ``start`` on."""
        order = self.indices
        if self.shuffle:
            order = np.random.default_rng((self.seed, _ORDER, e)).permutation(order)
        for low, high in zip(self._bounds[start:-1], self._bounds[start + 1 :], strict=True):
            yield self._batch(np.array_split(order[low:high], self.world)[self.rank], e)

    def _batch(self, rows: NDArray[np.int64], e: int) -> Batch:
        names = rows.tolist()
        points = torch.from_numpy(np.stack([self._cloud(row, e) for row in names]))
        pool = self._pool()
        if pool < points.shape[1]:
            points = _take(points, self._spread(names, points, pool))
        if pool > self.points:
            chosen = [self._draw(pool, row, e) for row in names]
            points = _take(points, torch.from_numpy(np.stack(chosen)))
        return Batch(
            unit_sphere(points),
            torch.from_numpy(self.clouds.labels[rows]),
            torch.from_numpy(rows.copy()),
        )

    def _spread(self, rows: list[int], clouds: Tensor, count: int) -> Tensor:
        """(B, count) farthest points of ``clouds``, which are the whole ones of ``rows``."""
        from point_ops import farthest_point_sample

        if self.sampling == "fps":
            return farthest_point_sample(clouds, count)
        new = [at for at, row in enumerate(rows) if row not in self._farthest]
        if new:
            found = farthest_point_sample(clouds[new], count).numpy().astype(np.int32)
            self._farthest |= zip([rows[at] for at in new], found, strict=True)
        return torch.from_numpy(np.stack([self._farthest[row] for row in rows]))

    def _pool(self) -> int:
        """Points of each cloud that farthest-point sampling leaves."""
        if self.sampling != "fps_subset":
            return self.points
        return min(self.clouds.num_points, self.points * 75 // 64)  # 1024 -> 1200, 2048 -> 2400

    def _cloud(self, row: int, e: int) -> NDArray[np.float32]:
        cloud: NDArray[np.float32] = self.clouds.points[row]
        if self.sampling == "random":
            return cloud.take(self._draw(len(cloud), row, e), axis=0)
        return cloud

    def _draw(self, count: int, row: int, e: int) -> NDArray[np.int64]:
        """``points`` of ``count`` indices, without replacement."""
        # a counter-based generator: seeding it by (epoch, row) costs nothing, so subsets do
        # not depend on batch size, position or number of processes
        bits = np.random.Philox(key=self.seed, counter=[0, _POINTS, e, row])
        return np.random.Generator(bits).choice(count, self.points, replace=False)


def _take(points: Tensor, index: Tensor) -> Tensor:
    return points.gather(1, index.long()[..., None].expand(-1, -1, 3))


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
