"""Which of the files that were read stay, and where each goes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sa3d.data.duplicates import Distinct, distinct
from sa3d.data.families import families_of_names
from sa3d.data.geometry import Likeness, likeness
from sa3d.data.sources.folder.sample import MOST_PARTS, Sampled
from sa3d.data.sources.folder.settings import FolderSource
from sa3d.data.split import hold_out
from sa3d.data.store import TRAIN
from sa3d.errors import DataError


@dataclass(frozen=True)
class Plan:
    """A data set to be written.

    Attributes:
        rows: which of the files that could be read stay.
        class_names: in alphabetical order.
        labels, family, split: of each row.
        part_values: the labels in the files that are its parts, ascending; empty: it has none.
        copies: what became of files of the same geometry; None where nothing was done about them.
        leaks: one line a test or validation file whose geometry is in another split as well.
        untested: classes of a single family, which is all in training.
        part_note: why labels that are there are no parts; empty where there is nothing to say.
    """

    rows: tuple[int, ...]
    class_names: tuple[str, ...]
    labels: NDArray[np.int64]
    family: NDArray[np.int64]
    split: NDArray[np.uint8]
    part_values: tuple[int, ...]
    copies: Distinct | None
    leaks: tuple[str, ...]
    untested: tuple[str, ...]
    part_note: str


def plan(source: FolderSource, read: Sequence[Sampled]) -> Plan:
    """Decide, of files that could all be read.

    A split that the folder gives is kept file by file, and copies across it are told. Where it is
    made here, copies are merged first (:mod:`sa3d.data.duplicates`) and whole families held out.

    Raises:
        DataError: no file is left.
    """
    ids = [one.file.id for one in read]
    classes = [one.file.class_name for one in read]
    families = _families(source, read)
    found = _likeness(read)
    given = any(one.file.split is not None for one in read)
    rows, copies = list(range(len(read))), None
    if source.merge_copies and not given:
        copies = distinct(found, ids, classes, families, np.ones(len(read), dtype=bool))
        rows, families = copies.rows.tolist(), copies.families
    if not rows:
        raise DataError(
            f"{source.root}: every geometry is in several classes, so that no label is right"
        )
    names = tuple(sorted({classes[row] for row in rows}))
    labels = np.array([names.index(classes[row]) for row in rows], dtype=np.int64)
    family = np.unique(families, return_inverse=True)[1].astype(np.int64)
    if given:
        split = np.array([read[row].file.split for row in rows], dtype=np.uint8)
    else:
        rng = np.random.default_rng(source.seed)
        split = hold_out(labels, family, source.test_fraction, rng).astype(np.uint8)
    values, note = _parts(source, [read[row] for row in rows])
    return Plan(
        rows=tuple(rows),
        class_names=names,
        labels=labels,
        family=family,
        split=split,
        part_values=values,
        copies=copies,
        leaks=tuple(_leaks(found.same[rows], split, [ids[row] for row in rows])),
        untested=tuple(
            name for label, name in enumerate(names) if (split[labels == label] == TRAIN).all()
        ),
        part_note=note,
    )


def _families(source: FolderSource, read: Sequence[Sampled]) -> list[str]:
    """``class/family`` of every file."""
    of_class: dict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(read):
        of_class[one.file.class_name].append(row)
    found = [""] * len(read)
    for name, rows in of_class.items():
        names = [read[row].file.name for row in rows]
        for row, family in zip(rows, families_of_names(names, source.families), strict=True):
            found[row] = f"{name}/{family}"
    return found


def _likeness(read: Sequence[Sampled]) -> Likeness:
    """Meshes by their surfaces; clouds are alike only where their points are the same."""
    same = np.empty(len(read), dtype=np.int64)
    alike = np.empty(len(read), dtype=np.int64)
    meshes = [row for row, one in enumerate(read) if one.shape is not None]
    shapes = [one.shape for one in read if one.shape is not None]
    surfaces = likeness(shapes)
    same[meshes], alike[meshes] = surfaces.same, surfaces.alike
    number = len(meshes)
    of_key: dict[str, int] = {}
    for row, one in enumerate(read):
        if one.shape is None:
            same[row] = alike[row] = of_key.setdefault(one.key, number + len(of_key))
    return Likeness(same, alike)


def _leaks(same: NDArray[np.int64], split: NDArray[np.uint8], ids: Sequence[str]) -> list[str]:
    trained: dict[int, int] = {}
    for row in np.flatnonzero(split == TRAIN).tolist():
        trained.setdefault(int(same[row]), row)
    held = np.flatnonzero(split != TRAIN).tolist()
    return [
        f"{ids[row]} is {ids[trained[int(same[row])]]}" for row in held if int(same[row]) in trained
    ]


def _parts(source: FolderSource, kept: Sequence[Sampled]) -> tuple[tuple[int, ...], str]:
    labelled = [one for one in kept if one.labels]
    if not source.parts or not labelled:
        return (), ""
    if len(labelled) < len(kept):
        return (), (
            f"{len(labelled)} of {len(kept)} files have part labels, which are used only where all "
            f"have: {next(one.file.place for one in kept if not one.labels)} has none for every "
            "point"
        )
    values = sorted({value for one in labelled for value in one.labels})
    if len(values) > MOST_PARTS:
        return (), f"the labels have {len(values)} different values, too many for parts"
    return tuple(values), ""
