"""Clouds on their way into a model: read, checked, turned upright, in batches.

One unreadable cloud does not end the rest; it is kept by name with the reason.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud
from sa3d.data.coordinates import unusable_row
from sa3d.data.mesh import Mesh, sample_surface
from sa3d.data.preprocessing import Axis, Preprocessing, unit_sphere_float64, upright
from sa3d.data.readers import read_cloud_or_mesh
from sa3d.data.store import Points, check_cloud
from sa3d.errors import DataError

DENSITY: Final = 4.0
"""Clouds with more than this many times the points of the training clouds, or fewer by this
factor, are warned of: farthest points of a denser or sparser surface lie differently."""

_BATCH: Final = 64  # clouds a forward pass
_BATCH_POINTS: Final = 1 << 22  # most points of a batch before they are reduced, padding included

_log = logging.getLogger(__name__)

Cloudlike = str | Path | NDArray[Any]


class Failure(NamedTuple):
    """A cloud that could not be read, and why."""

    id: str
    reason: str


class Read(NamedTuple):
    """A cloud that could be read.

    Attributes:
        id: the path of a file, the place of an array among what was given.
        given: (n, 3) in the coordinates of the file or array; of a mesh, points of its surface.
        cloud: the same points in float32, upright, for the model's preprocessing.
    """

    id: str
    given: NDArray[Any]
    cloud: Points


class Reading:
    """Reads clouds for one call of a model, and keeps what is to be told of them.

    Attributes:
        failures: what could not be read, so far.

    Args:
        preprocessing: of the model.
        up: the axis of the clouds that points up.
    """

    def __init__(self, preprocessing: Preprocessing, up: Axis) -> None:
        self.failures: list[Failure] = []
        self._preprocessing, self._up = preprocessing, up
        self._read = 0
        self._unusual: list[str] = []

    def batches(self, clouds: Iterable[Cloudlike]) -> Iterator[list[Read]]:
        """Usable clouds, some at a time; at the end, those of an unusual density are warned of,
        in one line."""
        yield from batched(self._usable(clouds))
        if self._unusual:
            _log.warning(
                "%d of %d clouds have a density far from that of training (clouds of %d points), "
                "such as %s: what the model says of them may be of less use",
                len(self._unusual),
                self._read,
                self._preprocessing.usual_points,
                self._unusual[0],
            )

    def _usable(self, clouds: Iterable[Cloudlike]) -> Iterator[Read]:
        usual = self._preprocessing.usual_points
        for place, given in enumerate(clouds):
            # a name that is no text can be no id
            text = str(given if isinstance(given, str | Path) else place)
            name = os.fsencode(text).decode("utf-8", "backslashreplace")
            try:
                points = self._points(given)
                cloud = check_cloud(self._scaled(points), name)
            except DataError as error:
                self.failures.append(Failure(name, str(error)))
                continue
            self._read += 1
            if not usual_density(len(cloud), usual):
                self._unusual.append(f"'{name}' with {len(cloud)}")
            yield Read(name, points, upright(cloud, self._up))

    def _points(self, given: Cloudlike) -> NDArray[Any]:
        """The points of an array or of a file; of a mesh as many points of its surface as a
        training cloud has, the same every time.

        Raises:
            DataError: with the path.
        """
        if not isinstance(given, str | Path):
            return np.asarray(given)
        return points_of(read_cloud_or_mesh(Path(given)), self._preprocessing.usual_points)

    def _scaled(self, points: NDArray[Any]) -> NDArray[Any]:
        """Points in double precision that are far from the origin, as surveyed ones are, would lose
        their shape if they became float32 where they are; a model that has them scaled anyway gets
        them scaled before. What is no cloud stays as it is, to be refused."""
        cloud = points.ndim == 2 and points.shape[1] == 3 and len(points) > 0
        scaled = self._preprocessing.normalisation != "none"
        if not scaled or points.dtype == np.float32 or not cloud:
            return points
        return points if unusable_row(points) is not None else unit_sphere_float64(points)


def usual_density(points: int, usual: int) -> bool:
    """Whether a cloud of so many points is about as dense as those of training."""
    return usual / DENSITY <= points <= usual * DENSITY


def points_of(found: Cloud | Mesh, count: int) -> NDArray[Any]:
    """The points of what a file holds: of a mesh ``count`` of its surface, the same every time."""
    if isinstance(found, Mesh):
        return sample_surface(found, count, np.random.default_rng(0))[0]
    return found.points


def listed(clouds: Cloudlike | Sequence[Cloudlike]) -> list[Cloudlike]:
    """One cloud alone, several, or an array (B, n, 3), as a list of clouds.

    Raises:
        DataError: an array of another shape.
    """
    if isinstance(clouds, str | Path):
        return [clouds]
    if not isinstance(clouds, np.ndarray):
        return list(clouds)
    if clouds.ndim not in (2, 3):
        raise DataError(f"expected clouds (B, n, 3) or (n, 3), got shape {clouds.shape}")
    return list(clouds) if clouds.ndim == 3 else [clouds]


def batched(clouds: Iterable[Read]) -> Iterator[list[Read]]:
    """Batches of some clouds each, few enough that their points fit into memory side by side."""
    batch: list[Read] = []
    largest = 0
    for each in clouds:
        size = max(largest, len(each.cloud))
        if len(batch) == _BATCH or (batch and size * (len(batch) + 1) > _BATCH_POINTS):
            yield batch
            batch, size = [], len(each.cloud)
        batch.append(each)
        largest = size
    if batch:
        yield batch
