"""The ``folder`` source: meshes and point clouds of one's own, in a folder a class.

Every file is opened once. Meshes are sampled by area; a cloud keeps its points, or as many of the
farthest as ``points`` says. :mod:`sa3d.data.sources.folder.files` says what a folder may look like,
:mod:`sa3d.data.sources.folder.plan` what becomes of families, copies and splits.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud, CloudTable
from sa3d.data.descriptors import floor_accuracy
from sa3d.data.parallel import ordered_map
from sa3d.data.raw import RawCheck, raw_root
from sa3d.data.sources.folder.files import Listing, list_folder
from sa3d.data.sources.folder.plan import Plan, plan
from sa3d.data.sources.folder.sample import Sampled, Task, sample_file
from sa3d.data.sources.folder.settings import FolderSource
from sa3d.data.store import TEST, TRAIN
from sa3d.data.writing import write_clouds
from sa3d.errors import DataError
from sa3d.utils.files import unwritable
from sa3d.utils.progress import ProgressBar, duration
from sa3d.utils.text import examples

VERSION: Final = 1
"""Raised whenever the clouds of the same files, or which of them are kept, change, so that the
source hash changes."""

GIVEN = "The folder's own: its train, test and validation folders."
MADE = (
    "Made from a seed, class by class, whole families held out: a family is the name without its "
    "numbers, joined with others of the same geometry, or the single file where names only count."
)
ALONE = "Made from a seed; files are families by their names without numbers."

_UNREADABLE_SHARE = 0.02
_NAMED = 20


@dataclass(frozen=True)
class Survey:
    """What was found in a folder and read of it.

    ``read`` and ``unreadable`` are in the order of the files' places, ``plan`` is of ``read``;
    ``least_points`` are those of the smallest cloud of the data set.
    """

    listing: Listing
    read: tuple[Sampled, ...]
    unreadable: tuple[Sampled, ...]
    plan: Plan
    seconds: float
    least_points: int

    def class_clouds(self, split: int) -> tuple[int, ...]:
        """Clouds of a split in each class, in the order of the plan's classes."""
        labels = self.plan.labels[self.plan.split == split]
        return tuple(np.bincount(labels, minlength=len(self.plan.class_names)).tolist())

    def warnings(self) -> list[str]:
        """What the owner of the folder should know, one line each."""
        copies, said = self.plan.copies, list(self.listing.notes)
        total = len(self.read) + len(self.unreadable)
        if self.unreadable:
            said.append(f"{len(self.unreadable)} of {total} files cannot be read")
        classes = {file.class_name for file in self.listing.files}
        lost = sorted(classes - set(self.plan.class_names))
        if lost:
            what = "class is" if len(lost) == 1 else "classes are"
            said.append(
                f"{len(lost)} {what} not in the data set, as no file there can be used: "
                f"{examples(lost)}"
            )
        if copies is not None and copies.merged:
            count = len(copies.merged)
            what = "1 file holds" if count == 1 else f"{count} files hold"
            said.append(
                f"{what} a shape that another file of the class holds too; one of each is kept "
                f"({examples([f'{gone} is a copy of {kept}' for gone, kept in copies.merged], 2)})"
            )
        if copies is not None and copies.ambiguous:
            said.append(
                f"{len(copies.ambiguous)} files of a geometry that is in several classes are left "
                f"out, as {copies.ambiguous[0]}"
            )
        if self.plan.leaks:
            said.append(
                f"{len(self.plan.leaks)} test or validation files are copies of training files, as "
                f"{self.plan.leaks[0]}; they stay, and results on them count too much"
            )
        if self.plan.untested:
            said.append(
                f"{len(self.plan.untested)} "
                f"{'class has' if len(self.plan.untested) == 1 else 'classes have'} no test file: "
                f"{examples(self.plan.untested)}"
            )
        if self.plan.part_note:
            said.append(self.plan.part_note)
        return said


def prepare(source: FolderSource, out: Path, *, quiet: bool = False) -> Path:
    """Read every file below ``source.root`` and write the data set to ``out`` (``.h5``).

    Raises:
        DataError: a folder that no data set can be made of, or too many unreadable files.
        WriteError: a full disk.
    """
    survey = build(source, out, quiet=quiet)
    for line in [] if quiet else survey.warnings():
        print(line, file=sys.stderr)  # noqa: T201
    return out


def check_raw(source: FolderSource) -> RawCheck:
    """What is in the folder; opens no file."""
    root = raw_root(source.root)
    listing = list_folder(root, source.formats)
    kinds = Counter(f".{file.kind}" for file in listing.files)
    facts: dict[str, Any] = {
        "files": len(listing.files),
        "classes": len({file.class_name for file in listing.files}),
        **kinds,
    }
    missing = () if root.is_dir() else listing.problems
    problems = listing.problems if root.is_dir() else ()
    return RawCheck(root, facts, missing, problems, listing.notes)


def inspect(source: FolderSource, *, quiet: bool = False) -> Survey:
    """What :func:`build` would find, without making a cloud or writing anything.

    Raises:
        DataError: the folder cannot be a data set, or no file can be read.
    """
    listing = _listing(source)
    started = time.monotonic()
    seen = list(_sampled(source, listing, quiet, clouds=False))
    return _survey(source, listing, seen, time.monotonic() - started)


def check_unreadable(source: FolderSource, survey: Survey) -> None:
    """That not too many files are unreadable.

    Raises:
        DataError: there are.
    """
    total = len(survey.read) + len(survey.unreadable)
    if len(survey.unreadable) > max(1, _UNREADABLE_SHARE * total):
        raise _too_many(source, survey.unreadable, total)


def build(source: FolderSource, out: Path, *, quiet: bool = False) -> Survey:
    """:func:`prepare`, and what was found on the way."""
    listing = _listing(source)
    started = time.monotonic()
    out.parent.mkdir(parents=True, exist_ok=True)
    # which files stay is known only at the end, so clouds wait on disk; the file has no name and
    # vanishes with the process
    with tempfile.TemporaryFile(dir=out.parent) as file:
        spool = _Spool(file)
        seen = []
        for one in _sampled(source, listing, quiet, clouds=True):
            if one.points is not None:
                try:
                    spool.put(one.points, one.parts)
                except OSError as error:
                    raise unwritable(out, error) from error
            seen.append(replace(one, points=None, parts=None))
        survey = _survey(source, listing, seen, time.monotonic() - started)
        check_unreadable(source, survey)
        _write(source, out, survey, spool)
    if not quiet:
        rate = len(seen) / max(survey.seconds, 1e-9)
        print(  # noqa: T201
            f"{len(seen)} files read in {duration(survey.seconds)}, {rate:.0f} a second",
            file=sys.stderr,
        )
    return survey


class _Spool:
    """Clouds of any sizes with or without labels, one after the other in a file."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._places: list[tuple[int, int, bool]] = []  # offset, points, labelled

    def put(self, points: NDArray[np.float32], parts: NDArray[np.int64] | None) -> None:
        self._places.append((self._file.tell(), len(points), parts is not None))
        self._file.write(np.ascontiguousarray(points, dtype=np.float32).data)
        if parts is not None:
            self._file.write(np.ascontiguousarray(parts, dtype=np.int64).data)
        self._file.flush()  # a full disk is told here

    def get(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.int64] | None]:
        offset, count, labelled = self._places[number]
        self._file.seek(offset)
        points = np.frombuffer(self._file.read(count * 12), dtype=np.float32).reshape(-1, 3)
        parts = np.frombuffer(self._file.read(count * 8), dtype=np.int64) if labelled else None
        return points, parts


def _listing(source: FolderSource) -> Listing:
    listing = list_folder(raw_root(source.root), source.formats)
    if listing.problems:
        raise DataError("; ".join(listing.problems[:3]))
    return listing


def _sampled(
    source: FolderSource, listing: Listing, quiet: bool, *, clouds: bool
) -> Iterator[Sampled]:
    tasks = (Task(file, source, clouds) for file in listing.files)
    with ProgressBar("reading", len(listing.files), "files", quiet=quiet) as bar:
        for one in ordered_map(sample_file, tasks):
            yield one
            bar.update()


def _survey(
    source: FolderSource, listing: Listing, seen: Sequence[Sampled], seconds: float
) -> Survey:
    read = tuple(one for one in seen if not one.reason)
    unreadable = tuple(one for one in seen if one.reason)
    if not read:
        raise _too_many(source, unreadable, len(unreadable))
    sizes = [one.count for one in read if one.kind == "cloud"]
    least = min([source.points, *sizes])
    return Survey(listing, read, unreadable, plan(source, read), seconds, least)


def _too_many(source: FolderSource, unreadable: Sequence[Sampled], total: int) -> DataError:
    first = "; ".join(f"{one.file.place}: {one.reason}" for one in unreadable[:3])
    return DataError(
        f"{source.root}: {len(unreadable)} of {total} files cannot be read ({first}); mend or "
        f"remove them: more than {_UNREADABLE_SHARE:.0%} are not passed over"
    )


def _write(source: FolderSource, out: Path, survey: Survey, spool: _Spool) -> None:
    made, read = survey.plan, survey.read
    values = np.array(made.part_values, dtype=np.int64)
    classes = range(len(made.class_names))
    of_class: list[set[int]] = [set() for _ in classes]
    for row, label in zip(made.rows, made.labels.tolist(), strict=True):
        of_class[label] |= set(np.searchsorted(values, read[row].labels).tolist())

    def clouds() -> Iterator[Cloud]:
        for row in made.rows:
            points, parts = spool.get(row)
            if parts is None or not len(values):
                yield Cloud(points)
            else:
                yield Cloud(points, np.searchsorted(values, parts))

    table = CloudTable(
        ids=[read[row].file.id for row in made.rows],
        labels=made.labels,
        split=made.split,
        family=made.family,
        class_names=made.class_names,
        source_hash=_source_hash(source, read),
        normalisation=source.normalisation,
        part_names=tuple(str(value) for value in made.part_values),
        class_parts=tuple(tuple(sorted(of_class[c])) for c in classes) if len(values) else (),
    )
    write_clouds(out, clouds(), table, facts=_facts(source, survey))


def _facts(source: FolderSource, survey: Survey) -> dict[str, Any]:
    made, read = survey.plan, survey.read
    known = (read[row].descriptor for row in made.rows)
    rows = np.stack([one for one in known if one is not None])
    train, test = (np.flatnonzero(made.split == split) for split in (TRAIN, TEST))
    floor = floor_accuracy(rows, made.labels, train, test)
    given = survey.listing.split_given
    facts = {
        "licence": "Files of your own; their licence is their owner's.",
        "split": GIVEN if given else (MADE if source.merge_copies else ALONE),
        "unreadable": len(survey.unreadable),
        "unreadable_examples": [f"{o.file.place}: {o.reason}" for o in survey.unreadable[:_NAMED]],
        "formats": dict(sorted(Counter(one.file.kind for one in read).items())),
        "copies_across_splits": len(made.leaks),
        "copies_across_splits_examples": list(made.leaks[:_NAMED]),
        "classes_without_test": list(made.untested),
        **(made.copies.facts() if made.copies is not None else {}),
    }
    if len(made.class_names) > 1:
        facts["descriptor_5nn_accuracy"] = round(floor, 4)
    return facts


def _source_hash(source: FolderSource, read: Sequence[Sampled]) -> str:
    """sha256 of what the clouds depend on: settings without the place, and every file."""
    digest = hashlib.sha256(f"folder {VERSION} {source.model_dump_json(exclude={'root'})}".encode())
    for one in read:
        digest.update(f"\n{one.file.place} {one.digest}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()
