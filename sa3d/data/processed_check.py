"""A look at every cloud of a processed file."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sa3d.config.base import Frozen
from sa3d.config.endless import EndlessSource, digest_of
from sa3d.config.obtain import absence, how_to_make, how_to_replace
from sa3d.data.cloud_table import SPLITS
from sa3d.data.digest import content_digest
from sa3d.data.endless import class_names_of
from sa3d.data.prepare import stale, summary_of
from sa3d.data.store import TRAIN, CloudSet, open_clouds
from sa3d.errors import DataError, UnreadDataError
from sa3d.utils.files import unread
from sa3d.utils.progress import ProgressBar
from sa3d.utils.text import examples

State = Literal["there", "stale", "absent", "unreadable", "damaged", "endless"]
_ENDLESS = "made while a model is trained on it, every epoch anew; it needs no file"
_NUMBERS = list(SPLITS.values())


@dataclass(frozen=True)
class ProcessedCheck:
    """What is there of a processed file.

    Attributes:
        path: where it belongs.
        state: ``there``; ``stale``: its settings or raw files have changed since; ``absent``: no
            file, or one that only says that there is no raw data; ``unreadable``: locked or not
            permitted, so that nothing is known; ``damaged``; ``endless``: runs need no file.
        facts: counts and the like, by name.
        problems: what is wrong and what to do, one line each.
        notes: worth knowing and no fault.
    """

    path: Path
    state: State
    facts: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a run may read it."""
        return self.state in ("there", "stale", "endless") and not self.problems


def processed_check(
    name: str, source: Frozen | None, out: Path, *, full: bool = True
) -> ProcessedCheck:
    """Look at the processed file of ``name`` without changing anything.

    Args:
        name: of the data set.
        source: its settings; None: nothing here makes it.
        out: the processed file.
        full: read every cloud, and compare the digest; else only what the file says of itself.
    """
    if isinstance(source, EndlessSource):
        return ProcessedCheck(out, "endless", _endless_facts(source), notes=(_ENDLESS,))
    try:
        there = out.is_file()
    except OSError as error:  # a closed folder
        return ProcessedCheck(out, "unreadable", problems=(f"{out} {unread(error)}",))
    if not there:
        return ProcessedCheck(out, "absent", notes=(f"not there; {how_to_make(name)}",))
    reason, changed = absence(out), "" if source is None else stale(source, out)
    if reason is not None:
        why = f"{changed}; {how_to_make(name)}" if changed else reason
        return ProcessedCheck(out, "stale" if changed else "absent", notes=(why,))
    try:
        clouds = open_clouds(out)
    except UnreadDataError as error:
        return ProcessedCheck(out, "unreadable", problems=(str(error),))
    except DataError as error:
        return ProcessedCheck(out, "damaged", problems=(str(error),))
    problems: list[str] = []
    notes: list[str] = []
    if full and content_digest(clouds) != clouds.digest:
        problems.append(
            f"{out} has changed since it was written (its digest differs); {how_to_replace(name)}"
        )
    if changed:
        notes.append(f"stale: {changed}; {how_to_make(name)}")
    lacking = _lacking(clouds)
    missing = summary_of(out).get("missing")
    if missing:
        notes.append(f"made without {missing} missing files (--allow-missing)")
    # the classes of few-shot episodes are counted by episode
    meant = bool(clouds.episodes or missing)
    problems += _out_of_range(clouds) + ([] if meant else lacking)
    notes += lacking if meant else []
    notes += _unseen(clouds)
    if full:
        found = _Contents(clouds)
        problems += found.problems
        notes += found.notes
    state: State = "damaged" if problems else "stale" if changed else "there"
    return ProcessedCheck(out, state, _facts(clouds), tuple(problems), tuple(notes))


def _endless_facts(source: EndlessSource) -> dict[str, Any]:
    return {
        "clouds an epoch": source.clouds_per_epoch,
        "held out": source.held_out,
        "points": source.points,
        "classes": len(class_names_of(source)),
        "digest": digest_of(source),
    }


def _facts(clouds: CloudSet) -> dict[str, Any]:
    return {
        "bytes": clouds.path.stat().st_size,
        "clouds": len(clouds),
        "least points": clouds.least_points,
        "most points": int(clouds.sizes.max()),
        **{name: len(clouds.indices(split)) for name, split in SPLITS.items()},
        "classes": clouds.num_classes,
        "families": len(set(clouds.family.tolist())),
        "parts": len(clouds.part_names),
        "episodes": len(clouds.episodes),
        "normals": clouds.flat_normals is not None,
        "normalisation": clouds.normalisation,
        "digest": clouds.digest,
        "source hash": clouds.source_hash,
    }


def _out_of_range(clouds: CloudSet) -> list[str]:
    """Values that mean nothing; of labels :func:`~sa3d.data.store.open_clouds` sees to it."""
    found = []
    rows = np.flatnonzero(~np.isin(clouds.split, _NUMBERS))
    strange = [clouds.ids[row] for row in rows.tolist()]
    if strange:
        found.append(f"{_number(strange, 'cloud')} in no known split: {examples(strange)}")
    twice = sorted({name for name in clouds.class_names if clouds.class_names.count(name) > 1})
    if twice:
        found.append(f"class names that stand more than once: {examples(twice)}")
    return found


def _lacking(clouds: CloudSet) -> list[str]:
    """Classes of which there is nothing."""
    counts = np.bincount(clouds.labels, minlength=clouds.num_classes)
    empty = [clouds.class_names[row] for row in np.flatnonzero(counts == 0)]
    said = f"{_number(empty, 'class', 'classes')} without a cloud: {examples(empty)}"
    return [said] if empty else []


def _unseen(clouds: CloudSet) -> list[str]:
    """Classes that are tested and cannot be learnt."""
    counts = np.bincount(clouds.labels, minlength=clouds.num_classes)
    learnt = np.bincount(clouds.labels[clouds.indices(TRAIN)], minlength=clouds.num_classes)
    rows = np.flatnonzero((counts > 0) & (learnt == 0))
    names = [clouds.class_names[row] for row in rows]
    said = f"{_number(names, 'class', 'classes')} without a training cloud: {examples(names)}"
    return [said] if names else []


class _Contents:
    """One pass over all clouds: numbers that are not finite, part labels, exact copies."""

    def __init__(self, clouds: CloudSet) -> None:
        self._clouds = clouds
        broken, foreign = [], []
        same: dict[bytes, list[int]] = defaultdict(list)
        with ProgressBar("checking", len(clouds), "clouds") as bar:
            for row in range(len(clouds)):
                points = clouds.cloud(row)
                if not self._finite(row):
                    broken.append(clouds.ids[row])
                if clouds.flat_parts is not None and not self._own_parts(row):
                    foreign.append(clouds.ids[row])
                same[hashlib.blake2b(points.tobytes(), digest_size=16).digest()].append(row)
                bar.update()
        self.problems = []
        if broken:
            self.problems.append(
                f"{_number(broken, 'cloud')} with numbers that are not finite: {examples(broken)}"
            )
        if foreign:
            self.problems.append(
                f"{_number(foreign, 'cloud')} with parts that their class does not have: "
                f"{examples(foreign)}"
            )
        self.notes = self._copies([rows for rows in same.values() if len(rows) > 1])

    def _finite(self, row: int) -> bool:
        clouds = self._clouds
        whole = bool(np.isfinite(clouds.cloud(row)).all())
        return whole and (
            clouds.flat_normals is None or bool(np.isfinite(clouds.normals_of(row)).all())
        )

    def _own_parts(self, row: int) -> bool:
        clouds = self._clouds
        return set(np.unique(clouds.parts(row)).tolist()) <= set(
            clouds.class_parts[int(clouds.labels[row])]
        )

    def _copies(self, groups: Sequence[list[int]]) -> list[str]:
        """Copies within a split, between splits, and between classes.

        They are in the public sets, too, and nobody may take them out of an official split: so
        they are notes.
        """
        clouds = self._clouds
        within: list[str] = []
        across: list[str] = []
        classes: list[str] = []
        for rows in groups:
            names = " = ".join(clouds.ids[row] for row in rows[:2])
            (across if len({int(clouds.split[row]) for row in rows}) > 1 else within).append(names)
            if len({int(clouds.labels[row]) for row in rows}) > 1:
                classes.append(names)
        told = (
            (within, "within one split"),
            (across, "in more than one split"),
            (classes, "in more than one class"),
        )
        return [
            f"{_number(found, 'cloud')} with exact copies {where}: {examples(found)}"
            for found, where in told
            if found
        ]


def _number(found: Sequence[str], one: str, many: str = "") -> str:
    return f"{len(found)} {one if len(found) == 1 else many or one + 's'}"
