"""From raw files to the processed file: parse on all cores, keep on disk, write."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sa3d.config.base import Frozen
from sa3d.data.cloud_table import SPLITS, Cloud, CloudTable
from sa3d.data.descriptors import descriptors, floor_accuracy
from sa3d.data.parallel import ordered_map
from sa3d.data.preprocessing import farthest, unit_sphere_float64
from sa3d.data.raw import About
from sa3d.data.sources.official.files import stamp_of
from sa3d.data.sources.official.survey import RawFile, Survey
from sa3d.data.spool import Spool, Stamp
from sa3d.data.store import TEST, TRAIN, Episode, Normalisation
from sa3d.data.writing import write_clouds
from sa3d.utils.progress import ProgressBar


class Parsed(NamedTuple):
    """A cloud as its file has it, the file's stamp, and the sha256 of the bytes it came from."""

    cloud: Cloud
    stamp: Stamp
    digest: str


@dataclass(frozen=True)
class Placed:
    """A cloud of the spool and its place in the data set."""

    id: str
    label: int
    split: int
    key: str


@dataclass(frozen=True)
class DataSet:
    """All that the processed file says beside its clouds; see :class:`CloudTable`.

    ``made_with`` are the source's settings and the version of its code, ``floor`` asks for the
    accuracy of nearest neighbours on simple descriptors.
    """

    made_with: str
    about: About
    split: str
    class_names: tuple[str, ...]
    normalisation: Normalisation
    part_names: tuple[str, ...] = ()
    class_parts: tuple[tuple[int, ...], ...] = ()
    episodes: tuple[Episode, ...] = ()
    floor: bool = False


def made_with(source: Frozen, version: int) -> str:
    """What clouds depend on beside raw files: settings without the place, and the code."""
    return f"{version} {source.model_dump_json(exclude={'root'})}"


def digest_of(data: bytes) -> str:
    """sha256 of what a cloud was made from."""
    return hashlib.sha256(data).hexdigest()


def fewer(cloud: Cloud, points: int | None) -> Cloud:
    """``points`` farthest points of a larger cloud, from its first point on, in that order."""
    if points is None or len(cloud.points) <= points:
        return cloud
    (chosen,) = farthest([np.ascontiguousarray(cloud.points)], points)
    normals = None if cloud.normals is None else cloud.normals[chosen]
    parts = None if cloud.parts is None else cloud.parts[chosen]
    return Cloud(cloud.points[chosen], parts, normals)


def collect(
    spool: Spool,
    files: Sequence[RawFile],
    parse: Callable[[RawFile], Parsed],
    label: str,
    *,
    points: int | None = None,
    quiet: bool,
) -> list[Placed]:
    """Put the clouds of files with one cloud each to ``spool``, those that are not there yet.

    ``parse`` runs in worker processes; choosing ``points`` of a cloud needs torch and stays here,
    so that torch is in memory once.

    Raises:
        DataError: a bad file; the clouds before it stay in the spool. WriteError: a full disk.
    """
    todo = [
        each
        for each in files
        if (stamp := stamp_of(each.path)) is not None and not spool.has(each.key, stamp)
    ]
    done = len(files) - len(todo)
    if todo and points is not None:
        importlib.import_module("point_ops")  # takes seconds, which say nothing of the time left
    with ProgressBar(label, len(files), "clouds", initial=done, quiet=quiet) as bar:
        for each, parsed in zip(todo, ordered_map(parse, todo), strict=True):
            spool.add(each.key, parsed.stamp, parsed.digest, fewer(parsed.cloud, points))
            bar.update()
    return [Placed(each.id, each.label, each.split, each.key) for each in files]


def write(
    out: Path,
    spool: Spool,
    placed: Sequence[Placed],
    data: DataSet,
    survey: Survey,
    facts: Mapping[str, Any] | None = None,
    *,
    quiet: bool,
) -> Path:
    """Write the clouds ``placed`` to ``out``, in that order, each of a family of its own.

    Raises:
        DataError, WriteError: as :func:`~sa3d.data.writing.write_clouds`.
    """
    labels = np.array([each.label for each in placed], dtype=np.int64)
    split = np.array([each.split for each in placed], dtype=np.uint8)
    table = CloudTable(
        ids=[each.id for each in placed],
        labels=labels,
        split=split,
        family=np.arange(len(placed)),
        class_names=data.class_names,
        source_hash=_source_hash(spool, placed, data),
        normalisation=data.normalisation,
        part_names=data.part_names,
        class_parts=data.class_parts,
        episodes=data.episodes,
    )
    counts = {name: int((split == number).sum()) for name, number in SPLITS.items()}
    stated = {"licence": data.about.licence, "split": data.split, **survey.facts(counts)}
    stated |= facts or {}

    def clouds() -> Iterator[Cloud]:
        rows = []
        with ProgressBar(f"writing {out.name}", len(placed), "clouds", quiet=quiet) as bar:
            for each in placed:
                cloud = spool.cloud(each.key)
                if data.floor:
                    rows.append(descriptors(unit_sphere_float64(cloud.points)[None])[0])
                yield cloud
                bar.update()
        train, test = np.flatnonzero(split == TRAIN), np.flatnonzero(split == TEST)
        if data.floor and len(train) and len(test):
            floor = floor_accuracy(np.stack(rows), labels, train, test)
            stated["descriptor_5nn_accuracy"] = round(floor, 4)

    # the summary is written after the last cloud, when the floor is among the facts
    return write_clouds(out, clouds(), table, facts=stated)


def _source_hash(spool: Spool, placed: Sequence[Placed], data: DataSet) -> str:
    digest = hashlib.sha256(data.made_with.encode())
    for each in placed:
        line = f"\n{each.id} {each.label} {each.split} {spool.digest(each.key)}"
        digest.update(line.encode())
    return digest.hexdigest()
