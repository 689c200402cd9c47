"""What a processed file is written from, and that it fits together.

Every cloud is checked as it comes, and the table before the first one, so that what
:mod:`sa3d.data.writing` writes can be read without further checks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.data.store import (
    NORMALISATIONS,
    TEST,
    TRAIN,
    VALIDATION,
    Episode,
    Ints,
    Normalisation,
    check_cloud,
)
from sa3d.errors import DataError

SPLITS: Final[Mapping[str, int]] = {"train": TRAIN, "validation": VALIDATION, "test": TEST}
"""The numbers of the splits by name, in the order in which people read them."""


@dataclass(frozen=True)
class Cloud:
    """One cloud to be written.

    Attributes:
        points: (n, 3).
        parts: (n,) index into the table's ``part_names``; every cloud of a file has them or none.
        normals: (n, 3); every cloud of a file has them or none.
    """

    points: NDArray[Any]
    parts: NDArray[Any] | None = None
    normals: NDArray[Any] | None = None


@dataclass(frozen=True)
class CloudTable:
    """Everything a processed file says about its clouds, except what is told point by point.

    ``normalisation`` is that of :class:`~sa3d.data.preprocessing.Preprocessing`.
    ``class_parts[c]`` lists the part indices that class c may contain; it and ``part_names`` are
    given together or not at all.
    """

    ids: Sequence[str]
    labels: Ints
    split: NDArray[np.uint8]
    family: Ints
    class_names: tuple[str, ...]
    source_hash: str
    normalisation: Normalisation
    part_names: tuple[str, ...] = ()
    class_parts: tuple[tuple[int, ...], ...] = ()
    episodes: tuple[Episode, ...] = ()


def check_table(table: CloudTable) -> None:
    """That the table fits together.

    Raises:
        DataError: naming what contradicts what.
    """
    count = len(table.ids)
    if count == 0:
        raise DataError("no clouds to write: the source gave no usable shape")
    for name in ("labels", "split", "family"):
        if getattr(table, name).shape != (count,):
            raise DataError(f"{name} has shape {getattr(table, name).shape}, expected ({count},)")
    for kind, names in (
        ("id", table.ids),
        ("class name", table.class_names),
        ("part name", table.part_names),
        ("episode name", tuple(episode.name for episode in table.episodes)),
    ):
        _check_names(kind, names)
    if table.labels.min() < 0 or table.labels.max() >= len(table.class_names):
        raise DataError(
            f"labels run from {table.labels.min()} to {table.labels.max()} but there are "
            f"{len(table.class_names)} class names"
        )
    if not np.isin(table.split, (TRAIN, TEST, VALIDATION)).all():
        raise DataError("split holds values other than 0 (train), 1 (test) and 2 (validation)")
    if table.normalisation not in NORMALISATIONS:
        raise DataError(
            f"normalisation '{table.normalisation}' is none of {', '.join(NORMALISATIONS)}"
        )
    _check_families(table)
    _check_class_parts(table)
    for episode in table.episodes:
        _check_episode(episode, set(table.ids))


def _check_families(table: CloudTable) -> None:
    """A family is of one class: splits are drawn class by class and keep families whole."""
    pairs = np.unique(np.stack((table.family, table.labels)), axis=1)
    several = np.flatnonzero(np.diff(pairs[0]) == 0)
    if len(several):
        family, label = pairs[:, several[0]]
        other = table.class_names[pairs[1, several[0] + 1]]
        raise DataError(
            f"family {family} has clouds of class '{table.class_names[label]}' and of '{other}'; "
            "a family must be of one class"
        )


def _check_names(kind: str, names: Sequence[str]) -> None:
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise DataError(f"{kind} '{name}' occurs more than once; it must be unique")
    for name in names:
        # fixed-length text ends at its trailing zero bytes; a lone surrogate has no utf-8
        if not name or "\0" in name or name.encode(errors="replace").decode() != name:
            raise DataError(f"{kind} {name!r} is empty or not valid text; rename it")


def _check_class_parts(table: CloudTable) -> None:
    if bool(table.part_names) != bool(table.class_parts):
        raise DataError("part_names and class_parts must be given together")
    if not table.part_names:
        return
    if len(table.class_parts) != len(table.class_names):
        raise DataError("class_parts must list the parts of every class")
    listed = {part for members in table.class_parts for part in members}
    if not listed <= set(range(len(table.part_names))):
        raise DataError(
            f"class_parts name part {max(listed)} but there are {len(table.part_names)} part names"
        )


def _check_episode(episode: Episode, ids: set[str]) -> None:
    what = f"episode '{episode.name}'"
    members = (*episode.train, *episode.test)
    unknown = next((name for name in members if name not in ids), None)
    if unknown is not None:
        raise DataError(f"{what} names the cloud '{unknown}', which is not in the data set")
    if len(set(members)) != len(members):
        twice = Counter(members).most_common(1)[0][0]
        raise DataError(f"{what} names the cloud '{twice}' more than once")
    if (len(episode.train_labels), len(episode.test_labels)) != (
        len(episode.train),
        len(episode.test),
    ):
        raise DataError(f"{what} has not as many labels as clouds")
    trained, tested = set(episode.train_labels), set(episode.test_labels)
    if not trained or trained != set(range(len(trained))) or not tested <= trained:
        raise DataError(
            f"{what} has training labels {sorted(trained)} and test labels "
            f"{sorted(tested)}; they must count from 0 and all be trained on"
        )


def checked_arrays(
    cloud: Cloud, name: str, label: int, table: CloudTable
) -> dict[str, NDArray[Any]]:
    """The flat arrays' share of one cloud, in the types of the file.

    Raises:
        DataError: a cloud that is not whole or does not fit the table; named by ``name``.
    """
    points = check_cloud(cloud.points, name).astype("<f4", copy=False)
    found: dict[str, NDArray[Any]] = {"points": points}
    if cloud.normals is not None:
        normals = np.asarray(cloud.normals, dtype="<f4")
        if normals.shape != points.shape or not np.isfinite(normals).all():
            raise DataError(
                f"cloud '{name}' has normals of shape {normals.shape} for {len(points)} points, "
                "or a non-finite one"
            )
        found["normals"] = normals
    if (cloud.parts is not None) != bool(table.part_names):
        raise DataError(
            f"cloud '{name}' has {'no part labels' if cloud.parts is None else 'part labels'} "
            f"but the table has {len(table.part_names)} part names"
        )
    if cloud.parts is not None:
        parts = np.asarray(cloud.parts)
        if parts.shape != (len(points),):
            raise DataError(
                f"cloud '{name}' has part_labels of shape {parts.shape} for {len(points)} points"
            )
        allowed = table.class_parts[label]
        foreign = np.setdiff1d(parts, allowed)
        if len(foreign):
            raise DataError(
                f"cloud '{name}' has part label {foreign[0]}, but class "
                f"'{table.class_names[label]}' may contain {list(allowed)} of "
                f"{len(table.part_names)} part names"
            )
        found["part_labels"] = parts.astype(part_type(table))
    return found


def part_type(table: CloudTable) -> str:
    """Type of the part labels in the file: the smallest that holds them."""
    return "u1" if len(table.part_names) <= 256 else "<u2"
