"""One file to one cloud, in whichever process."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud
from sa3d.data.descriptors import descriptors
from sa3d.data.geometry import Moments, moments
from sa3d.data.mesh import Mesh, sample_surface
from sa3d.data.preprocessing import farthest, unit_sphere_float64, upright
from sa3d.data.readers import read, whole_file
from sa3d.data.sources.folder.files import Found
from sa3d.data.sources.folder.settings import FolderSource
from sa3d.data.store import check_cloud
from sa3d.errors import DataError

LEAST_POINTS: Final = 64
MOST_PARTS: Final = 1024
"""More different labels than that in one file are no parts: instance numbers, intensities."""


class Task(NamedTuple):
    """A file, the settings, and whether its cloud is wanted or only what it holds."""

    file: Found
    source: FolderSource
    clouds: bool


@dataclass(frozen=True)
class Sampled:
    """What a file holds.

    Attributes:
        file: which it is.
        digest: sha256 of its bytes.
        kind: ``mesh`` or ``cloud``.
        count: triangles of a mesh, points of a cloud.
        labels: the different part labels in ascending order; empty where it has none for every
            point.
        shape: moments of a mesh; None of a cloud.
        key: of a cloud, equal for clouds of the same points in whatever order.
        descriptor: for the floor, (51,); None without a cloud.
        points: (n, 3) as it is stored; None where only the facts were asked for, or after it has
            been put away.
        parts: (n,) labels of the points, if it has any.
        reason: why it could not be read; empty if it could, and nothing above counts if not.
    """

    file: Found
    digest: str = ""
    kind: Literal["mesh", "cloud"] = "mesh"
    count: int = 0
    labels: tuple[int, ...] = ()
    shape: Moments | None = None
    key: str = ""
    descriptor: NDArray[np.float32] | None = None
    points: NDArray[np.float32] | None = None
    parts: NDArray[np.int64] | None = None
    reason: str = ""


def sample_file(task: Task) -> Sampled:
    """Read one file once and make its cloud; pure in the file's place, content and the settings."""
    file, source, clouds = task
    try:
        data = whole_file(Path(file.path))
        found = read(data, file.kind)
        digest = hashlib.sha256(data).hexdigest()
        facts = _facts(found)
        if not clouds:
            return Sampled(file, digest, **facts)
        points, parts = _points(found, source, file.place)
        stored = check_cloud(_turned(points, source), file.id)
        descriptor = descriptors(unit_sphere_float64(stored)[None])[0]
    except DataError as error:
        return Sampled(file, reason=str(error))
    kept = parts if facts["labels"] else None
    return Sampled(file, digest, **facts, descriptor=descriptor, points=stored, parts=kept)


def _facts(found: Cloud | Mesh) -> dict[str, Any]:
    if isinstance(found, Mesh):
        shape = moments(found)
        labels = _different(found.parts)
        return {"kind": "mesh", "count": len(found.faces), "labels": labels, "shape": shape}
    count = len(found.points)
    if count < LEAST_POINTS:
        raise DataError(
            f"has {count} {'point' if count == 1 else 'points'}; at least {LEAST_POINTS} are needed"
        )
    labels = _different(found.parts)
    return {"kind": "cloud", "count": count, "labels": labels, "key": _key(found.points)}


def _different(parts: NDArray[Any] | None) -> tuple[int, ...]:
    """The different labels; none at all where some point has none, or there are too many."""
    if parts is None:
        return ()
    values: list[int] = np.unique(parts).tolist()
    return tuple(values) if values[0] >= 0 and len(values) <= MOST_PARTS else ()


def _key(points: NDArray[Any]) -> str:
    rows = np.asarray(points, dtype=np.float32)
    return hashlib.sha256(rows[np.lexsort(rows.T)].tobytes()).hexdigest()


def _points(
    found: Cloud | Mesh, source: FolderSource, place: str
) -> tuple[NDArray[np.float64], NDArray[Any] | None]:
    """Points of the surface, drawn by a generator of the file's own; of a cloud all, or the
    farthest ones."""
    if isinstance(found, Mesh):
        name = hashlib.sha256(place.encode("utf-8", "surrogateescape")).digest()
        rng = np.random.default_rng((source.seed, int.from_bytes(name[:8], "little")))
        return sample_surface(found, source.points, rng)
    points = np.asarray(found.points, dtype=np.float64)
    if len(points) <= source.points:
        return points, found.parts
    index = farthest([unit_sphere_float64(points)], source.points)[0]
    return points[index], None if found.parts is None else found.parts[index]


def _turned(points: NDArray[np.float64], source: FolderSource) -> NDArray[Any]:
    turned = upright(points, source.up)
    return turned if source.normalisation == "none" else unit_sphere_float64(turned)
