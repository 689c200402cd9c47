"""The one processed layout: an HDF5 file that every source writes and every task reads.

S clouds, T points in all; the points of cloud s are rows ``offsets[s]`` to ``offsets[s + 1]`` of
the flat arrays, so that clouds may differ in size.

===================  ===========  ======================================================
data set             shape, type  meaning
===================  ===========  ======================================================
``offsets``          (S+1,) i8    where each cloud begins in the flat arrays
``labels``           (S,) i8      class index into ``class_names``; in a set for part
                                  segmentation this is the category
``split``            (S,) u1      0 train, 1 test, 2 the data set's own validation split
``family``           (S,) i8      shapes of one family are near-duplicates, all of one class
``ids``              (S,) utf-8   unique name of each shape within its source
``class_names``      (C,) utf-8
``points``           (T, 3) f4    as the source gives them; see *normalisation*
``normals``          (T, 3) f4    absent where the source has none
``part_labels``      (T,) u1/u2   index into ``part_names``; absent without parts
``part_names``       (P,) utf-8   absent without parts
``class_parts``      (C, P) u1    1 where class c may contain part p; absent without parts
``episode_names``    (E,) utf-8   few-shot episodes; this and the next four are absent
                                  without them
``episode_members``  (M,) i8      which episode each of its M clouds belongs to
``episode_ids``      (M,) utf-8   the cloud, by its name in ``ids``
``episode_labels``   (M,) i8      its class within the episode, 0 to way - 1
``episode_test``     (M,) u1      0 the episode is trained on it, 1 tested on it
===================  ===========  ======================================================

Text is of fixed length everywhere, also in the attributes: HDF5 protects what describes a file by
checksums, but not the place where it puts text of variable length, and may read damaged bytes there
for ever.

The attribute ``normalisation`` says how a model is to see these clouds
(:mod:`sa3d.data.preprocessing`): a fact of the data set, not a setting.

The three flat arrays and the ids are stored contiguously and unfiltered: they are read or mapped by
their place in the file, and h5py is out of the way of every batch. Opening reads 25 bytes a cloud.

Files are written whole (:mod:`sa3d.data.writing`). The bytes depend only on the content (no time
stamps), so its md5 identifies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

import h5py
import numpy as np
from numpy.typing import NDArray

from sa3d.config.obtain import how_to_replace, require_processed
from sa3d.data.coordinates import unusable_row
from sa3d.data.flat import FLAT, FlatFile, Names, mapped, place_of
from sa3d.errors import DataError, UnreadDataError
from sa3d.utils.files import unread
from sa3d.utils.layout import FORMAT, VERSION, attribute_text

TRAIN, TEST, VALIDATION = 0, 1, 2

Points = NDArray[np.float32]
Ints = NDArray[np.int64]
PartLabels = NDArray[np.uint8] | NDArray[np.uint16]
Normalisation = Literal["subsample", "cloud", "none"]
NORMALISATIONS: tuple[Normalisation, ...] = get_args(Normalisation)


@dataclass(frozen=True)
class Episode:
    """A few-shot task: train on some clouds, test on others, labels counted from 0.

    Attributes:
        name: unique within the file.
        train, test: ids of clouds of the same file; none is in both.
        train_labels, test_labels: class of each within the episode, 0 to way - 1.
    """

    name: str
    train: tuple[str, ...]
    train_labels: tuple[int, ...]
    test: tuple[str, ...]
    test_labels: tuple[int, ...]


@dataclass(frozen=True)
class EpisodeRows:
    """An :class:`Episode` with its clouds as rows of the :class:`CloudSet`."""

    name: str
    train: Ints
    train_labels: Ints
    test: Ints
    test_labels: Ints

    @property
    def way(self) -> int:
        """Number of classes of the episode."""
        return int(self.train_labels.max()) + 1


@dataclass(frozen=True)
class CloudSet:
    """An opened processed file; the flat arrays are read-only memory maps.

    ``digest`` is the sha256 of the content, ``source_hash`` that of what it was made from.
    ``flat_points`` (T, 3), ``flat_normals`` (T, 3) and ``flat_parts`` (T,) hold all clouds one
    after the other; :meth:`cloud`, :meth:`normals_of` and :meth:`parts` give those of one.
    ``file`` is behind :meth:`read` and :meth:`read_parts`; None: the clouds are in memory.
    """

    path: Path
    digest: str
    source_hash: str
    normalisation: Normalisation
    ids: Sequence[str]
    labels: Ints
    split: NDArray[np.uint8]
    family: Ints
    class_names: tuple[str, ...]
    part_names: tuple[str, ...]
    class_parts: tuple[tuple[int, ...], ...]
    episodes: tuple[EpisodeRows, ...]
    offsets: Ints
    flat_points: Points
    flat_normals: Points | None
    flat_parts: PartLabels | None
    file: FlatFile | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_classes(self) -> int:
        """Number of classes, including any without a shape."""
        return len(self.class_names)

    @property
    def category(self) -> Ints:
        """(S,) category of each cloud: another name of ``labels``, for part segmentation."""
        return self.labels

    @cached_property
    def sizes(self) -> Ints:
        """(S,) number of points of each cloud."""
        return np.diff(self.offsets)

    @property
    def least_points(self) -> int:
        """Points of the smallest cloud."""
        return int(self.sizes.min())

    @property
    def num_points(self) -> int | None:
        """Points of every cloud; None where clouds differ in size."""
        least = self.least_points
        return least if least == self.sizes.max() else None

    def cloud(self, row: int) -> Points:
        """(n, 3) points of one cloud, a view of the file.

        Raises:
            IndexError: no such row.
        """
        return self.flat_points[self._span(row)]

    def normals_of(self, row: int) -> Points:
        """(n, 3) normals of one cloud, a view of the file.

        Raises:
            DataError: the data set has none. IndexError: no such row.
        """
        if self.flat_normals is None:
            raise DataError(f"{self.path} has no normals")
        return self.flat_normals[self._span(row)]

    def parts(self, row: int) -> PartLabels:
        """(n,) part labels of one cloud, a view of the file.

        Raises:
            DataError: the data set has none. IndexError: no such row.
        """
        if self.flat_parts is None:
            raise DataError(f"{self.path} has no part labels; choose a data set that has")
        return self.flat_parts[self._span(row)]

    def read(self, row: int) -> Points:
        """A copy of :meth:`cloud`, for who goes through many: see :class:`FlatFile`.

        Raises:
            IndexError: no such row. UnreadDataError: the file cannot be read any more.
        """
        cloud = self.cloud(row)
        return cloud if self.file is None else self.file.rows("points", cloud, self._span(row))

    def read_parts(self, row: int) -> PartLabels:
        """A copy of :meth:`parts`, as :meth:`read` is of :meth:`cloud`.

        Raises:
            DataError: the data set has none. Else see :meth:`read`.
        """
        parts = self.parts(row)
        return parts if self.file is None else self.file.rows("part_labels", parts, self._span(row))

    def indices(self, split: int) -> Ints:
        """Ascending row indices of ``TRAIN``, ``TEST`` or ``VALIDATION``."""
        return np.flatnonzero(self.split == split).astype(np.int64)

    def episode(self, name: str) -> EpisodeRows:
        """The few-shot episode ``name``.

        Raises:
            DataError: there is none; names some that there are.
        """
        for episode in self.episodes:
            if episode.name == name:
                return episode
        known = ", ".join(episode.name for episode in self.episodes[:8]) or "none at all"
        raise DataError(f"{self.path} has no episode '{name}'; it has {known}")

    def _span(self, row: int) -> slice:
        if row < 0:
            raise IndexError(f"row {row}")
        return slice(self.offsets.item(row), self.offsets.item(row + 1))


def check_cloud(points: NDArray[Any], name: str, num_points: int | None = None) -> Points:
    """``points`` (N, 3) as float32 if they are a usable cloud.

    Raises:
        DataError: naming the cloud, for a wrong shape or count, coordinates that are not finite or
            beyond what :func:`unusable_row` allows, or all points equal.
    """
    with np.errstate(over="ignore"):  # it is refused below
        array = np.asarray(points, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != 3:
        raise DataError(f"cloud '{name}' has shape {array.shape}, expected (points, 3)")
    if num_points is not None and len(array) != num_points:
        raise DataError(
            f"cloud '{name}' has {len(array)} points, expected {num_points}; "
            "sample its surface again or ask for fewer points"
        )
    if (row := unusable_row(array)) is not None:
        given = np.asarray(points, dtype=np.float64)[row]
        what = "point too far away" if np.isfinite(given).all() else "non-finite point"
        raise DataError(
            f"cloud '{name}' has a {what} {given.tolist()} in row {row}; "
            "remove the shape or mend its file"
        )
    if len(array) == 0 or (array == array[0]).all():
        raise DataError(
            f"cloud '{name}' is degenerate: its {len(array)} points are all equal; remove the shape"
        )
    return array


def open_clouds(path: Path) -> CloudSet:
    """Open a processed file; its points are mapped, not read.

    Raises:
        DataError: missing (with the command that makes it), truncated, foreign, or written by
            another version of the layout. AbsentDataError: its raw data is not there at all.
    """
    path, name = Path(path), Path(path).stem
    require_processed(path)
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        if (why := unread(error)) is not None:
            raise UnreadDataError(f"{path} {why}") from error
        reason = "truncated" if "truncated" in str(error) else "not a whole HDF5 file"
        raise DataError(f"{path} is {reason}; {how_to_replace(name)}") from error
    try:
        with file:
            if attribute_text(file.attrs.get("format")) != FORMAT:
                raise DataError(
                    f"{path} is an HDF5 file of another kind, not {FORMAT}; {how_to_replace(name)}"
                )
            version = int(file.attrs.get("version", 0))
            if version != VERSION:
                raise DataError(
                    f"{path} has layout version {version}, this code reads {VERSION}; "
                    f"{how_to_replace(name)}"
                )
            return _read(file, path)
    except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
        if (why := unread(error)) is not None:
            raise UnreadDataError(f"{path} {why}") from error
        raise DataError(f"{path} is damaged ({error}); {how_to_replace(name)}") from error


def _read(file: h5py.File, path: Path) -> CloudSet:
    ids = Names(mapped(file["ids"], path), path)
    has_parts = "part_labels" in file
    matrix = file["class_parts"][()] if has_parts else np.zeros((0, 0), np.uint8)
    normalisation = attribute_text(file.attrs["normalisation"])
    if normalisation not in NORMALISATIONS:
        raise ValueError(f"normalisation {normalisation!r}")
    clouds = CloudSet(
        path=path,
        digest=attribute_text(file.attrs["digest"]),
        source_hash=attribute_text(file.attrs["source_hash"]),
        normalisation=normalisation,
        ids=ids,
        labels=file["labels"][()],
        split=file["split"][()],
        family=file["family"][()],
        class_names=_names(file["class_names"], path),
        part_names=_names(file["part_names"], path) if has_parts else (),
        class_parts=tuple(tuple(np.flatnonzero(row).tolist()) for row in matrix),
        episodes=_episodes(file, path, ids) if "episode_names" in file else (),
        offsets=file["offsets"][()],
        flat_points=mapped(file["points"], path),
        flat_normals=mapped(file["normals"], path) if "normals" in file else None,
        flat_parts=mapped(file["part_labels"], path) if has_parts else None,
        file=FlatFile(path, {name: place_of(file[name], path) for name in FLAT if name in file}),
    )
    _check_shapes(clouds)
    return clouds


def _check_shapes(clouds: CloudSet) -> None:
    """Whatever would let a reader run past an array or read another cloud's points."""
    count = len(clouds)
    for name in ("split", "family", "ids"):
        if len(getattr(clouds, name)) != count:
            raise ValueError(f"{name} has {len(getattr(clouds, name))} rows, labels have {count}")
    offsets, total = clouds.offsets, len(clouds.flat_points)
    if offsets.shape != (count + 1,) or offsets[0] != 0 or offsets[-1] != total:
        raise ValueError(f"offsets do not divide {total} points into {count} clouds")
    if count == 0 or (np.diff(offsets) < 1).any():
        raise ValueError("offsets are not ascending")
    if clouds.flat_points.shape != (total, 3):
        raise ValueError(f"points have shape {clouds.flat_points.shape}")
    if clouds.flat_normals is not None and clouds.flat_normals.shape != (total, 3):
        raise ValueError(f"normals have shape {clouds.flat_normals.shape}")
    if clouds.flat_parts is not None and clouds.flat_parts.shape != (total,):
        raise ValueError(f"part_labels have shape {clouds.flat_parts.shape}")
    if clouds.labels.min() < 0 or clouds.labels.max() >= clouds.num_classes:
        raise ValueError(f"labels are not all within {clouds.num_classes} classes")


def _episodes(file: h5py.File, path: Path, ids: Sequence[str]) -> tuple[EpisodeRows, ...]:
    row_of = {name: row for row, name in enumerate(ids)}
    members, labels = file["episode_members"][()], file["episode_labels"][()]
    tested, named = file["episode_test"][()] == 1, _names(file["episode_ids"], path)
    unknown = next((name for name in named if name not in row_of), None)
    if unknown is not None:
        raise ValueError(f"an episode names the cloud '{unknown}', which is not there")
    rows = np.array([row_of[name] for name in named], dtype=np.int64)
    found = []
    for number, name in enumerate(_names(file["episode_names"], path)):
        train, test = (members == number) & ~tested, (members == number) & tested
        found.append(EpisodeRows(name, rows[train], labels[train], rows[test], labels[test]))
    return tuple(found)


def _names(dataset: h5py.Dataset, path: Path) -> tuple[str, ...]:
    return tuple(Names(dataset[()], path))
