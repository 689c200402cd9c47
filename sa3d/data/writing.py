"""Writing the processed layout of :mod:`sa3d.data.store`, one cloud at a time.

How many points a data set has is known only when its last cloud has come, and a contiguous array
has a fixed size. So clouds first go to unnamed temporary files beside the target, which vanish
with the process, and are copied from there in blocks: twice the disk, and memory stays flat.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sa3d.data.store import (
    BLOCK_BYTES,
    NORMALISATIONS,
    TEST,
    TRAIN,
    VALIDATION,
    ContentDigest,
    Episode,
    Ints,
    Normalisation,
    check_cloud,
)
from sa3d.errors import DataError
from sa3d.utils.files import check_space, replacing, write_whole
from sa3d.utils.layout import FORMAT, VERSION

FLAT = ("points", "normals", "part_labels")


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


def write_clouds(
    path: Path,
    clouds: Iterable[Cloud],
    table: CloudTable,
    *,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write a processed file and its summary beside it (``<name>.json``).

    Args:
        path: final ``.h5`` name; its folder is made.
        clouds: as many as the table has ids, in that order, of any sizes; consumed one at a
            time, so a data set need not fit into memory.
        table: everything else.
        facts: further entries of the summary (floors, skipped files, ...).

    Raises:
        DataError: a bad cloud (named), a table that contradicts itself. Nothing is left under
            the final name then.
        WriteError: a full disk, no permission; nothing is left either.
    """
    _check_table(table)
    path = Path(path)
    with replacing(path) as temporary, contextlib.ExitStack() as files:
        spools = {
            name: files.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in FLAT
        }
        hashes = ContentDigest()
        sizes = _spool(clouds, table, spools, hashes)
        columns = _columns(table, sizes)
        for name, array in columns.items():
            hashes.add(name, array)
        digest = hashes.text(table.normalisation)
        spooled = sum(spool.tell() for spool in spools.values())
        check_space(path, spooled + sum(array.nbytes for array in columns.values()))
        _write_file(temporary, table, columns, spools, digest)
    summary = summarise(path.stem, table, sizes, digest) | dict(facts or {})
    write_whole(path.with_suffix(".json"), (json.dumps(summary, indent=2) + "\n").encode())
    return path


def summarise(name: str, table: CloudTable, sizes: Ints, digest: str) -> dict[str, Any]:
    """Counts of a processed file, as written to ``<name>.json``."""
    masks = {
        "train": table.split == TRAIN,
        "validation": table.split == VALIDATION,
        "test": table.split == TEST,
    }
    classes = {}
    for label, class_name in enumerate(table.class_names):
        own = table.labels == label
        classes[class_name] = {split: int((mask & own).sum()) for split, mask in masks.items()} | {
            "families": len(np.unique(table.family[own]))
        }
    return {
        "name": name,
        "shapes": len(table.ids),
        **{split: int(mask.sum()) for split, mask in masks.items()},
        "least_points": int(sizes.min()),
        "most_points": int(sizes.max()),
        "normalisation": table.normalisation,
        "num_classes": len(table.class_names),
        "num_parts": len(table.part_names),
        "families": len(np.unique(table.family)),
        "episodes": len(table.episodes),
        "classes": classes,
        "source_hash": table.source_hash,
        "digest": digest,
    }


# --- checks ------------------------------------------------------------------------------


def _check_table(table: CloudTable) -> None:
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


def _checked(cloud: Cloud, name: str, label: int, table: CloudTable) -> dict[str, NDArray[Any]]:
    """The flat arrays' share of one cloud, in the types of the file."""
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
        found["part_labels"] = parts.astype(_part_type(table))
    return found


# --- files -------------------------------------------------------------------------------


def _spool(
    clouds: Iterable[Cloud],
    table: CloudTable,
    spools: Mapping[str, IO[bytes]],
    digest: ContentDigest,
) -> Ints:
    """Put every cloud's points, normals and part labels to the files; the clouds' sizes."""
    sizes: list[int] = []
    kinds: set[str] = set()
    for row, cloud in enumerate(clouds):
        if row >= len(table.ids):
            raise DataError(f"more clouds than the {len(table.ids)} ids of the table")
        found = _checked(cloud, table.ids[row], int(table.labels[row]), table)
        if kinds and kinds != set(found):
            raise DataError(
                f"cloud '{table.ids[row]}' has {', '.join(found)}, those before it "
                f"{', '.join(sorted(kinds))}; normals must be there for all clouds or none"
            )
        kinds = set(found)
        for name, array in found.items():
            spools[name].write(np.ascontiguousarray(array).data)
            digest.add(name, array)
        sizes.append(len(found["points"]))
    if len(sizes) != len(table.ids):
        raise DataError(f"{len(sizes)} clouds for {len(table.ids)} ids: the source stopped early")
    return np.array(sizes, dtype=np.int64)


def _write_file(
    path: Path,
    table: CloudTable,
    columns: Mapping[str, NDArray[Any]],
    spools: Mapping[str, IO[bytes]],
    digest: str,
) -> None:
    total = int(columns["offsets"][-1])
    flat: dict[str, tuple[str, tuple[int, ...]]] = {
        "points": ("<f4", (total, 3)),
        "normals": ("<f4", (total, 3)),
        "part_labels": (_part_type(table), (total,)),
    }
    places = {}
    try:
        # aligned, so that mapped arrays are
        with h5py.File(
            path, "w", libver=("v110", "v110"), alignment_threshold=1, alignment_interval=8
        ) as file:
            file.attrs["format"] = FORMAT
            file.attrs["version"] = VERSION
            file.attrs["source_hash"] = table.source_hash
            file.attrs["normalisation"] = table.normalisation
            file.attrs["digest"] = digest
            for name, array in columns.items():
                file.create_dataset(name, data=array, track_times=False)
            for name in FLAT:
                if spools[name].tell():
                    places[name] = _reserve(file, name, *flat[name])
    except RuntimeError as error:  # h5py's, of a file that it cannot close
        raise OSError(str(error)) from error
    # not by h5py: on a full disk HDF5 cannot close its file, and crashes when the process ends
    with path.open("r+b") as out:
        for name, place in places.items():
            out.seek(place)
            spools[name].seek(0)
            shutil.copyfileobj(spools[name], out, BLOCK_BYTES)


def _reserve(file: h5py.File, name: str, kind: str, shape: tuple[int, ...]) -> int:
    """Make a contiguous data set without writing to it; where in the file its bytes belong."""
    how = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    how.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    how.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    how.set_obj_track_times(False)
    made = h5py.h5d.create(
        file.id,
        name.encode(),
        h5py.h5t.py_create(np.dtype(kind), logical=True),
        h5py.h5s.create_simple(shape),
        dcpl=how,
    )
    return int(made.get_offset())


def _columns(table: CloudTable, sizes: Ints) -> dict[str, NDArray[Any]]:
    """Every array but the flat ones."""
    columns: dict[str, NDArray[Any]] = {
        "offsets": np.concatenate(([0], np.cumsum(sizes))).astype("<i8"),
        "labels": table.labels.astype("<i8"),
        "split": table.split.astype("u1"),
        "family": table.family.astype("<i8"),
        "ids": _text(table.ids),
        "class_names": _text(table.class_names),
    }
    if table.part_names:
        matrix = np.zeros((len(table.class_parts), len(table.part_names)), dtype="u1")
        for label, members in enumerate(table.class_parts):
            matrix[label, list(members)] = 1
        columns |= {"part_names": _text(table.part_names), "class_parts": matrix}
    if table.episodes:
        rows = [
            (number, name, label, tested)
            for number, e in enumerate(table.episodes)
            for tested, names, labels in ((0, e.train, e.train_labels), (1, e.test, e.test_labels))
            for name, label in zip(names, labels, strict=True)
        ]
        of, names, labels, tested = zip(*rows, strict=True)
        columns |= {
            "episode_names": _text([episode.name for episode in table.episodes]),
            "episode_members": np.array(of, dtype="<i8"),
            "episode_ids": _text(names),
            "episode_labels": np.array(labels, dtype="<i8"),
            "episode_test": np.array(tested, dtype="u1"),
        }
    return columns


def _part_type(table: CloudTable) -> str:
    return "u1" if len(table.part_names) <= 256 else "<u2"


def _text(values: Sequence[str]) -> NDArray[np.bytes_]:
    """Fixed-length utf-8: HDF5's variable-length strings are neither mappable nor
    byte-deterministic."""
    return np.array([value.encode() for value in values], dtype=np.bytes_)
