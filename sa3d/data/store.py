"""The one processed layout: an HDF5 file that every source writes and every task reads.

==============  ============  =====================================================
data set        shape, type   meaning
==============  ============  =====================================================
``points``      (S, N, 3) f4  clouds, centred on their centroid, largest radius 1
``labels``      (S,) i8       class index into ``class_names``
``split``       (S,) u1       0 train, 1 test
``group``       (S,) i8       family; shapes of one family are near-duplicates
``ids``         (S,) utf-8    unique name of each shape within its source
``part_labels`` (S, N) u1/u2  part index into ``part_names``; absent without parts
``class_parts`` (C, P) u1     1 where class c may contain part p; absent without parts
==============  ============  =====================================================

``points`` and ``part_labels`` are stored contiguously and unfiltered, so that the reader maps
them into memory by their offset and h5py is out of the way of every batch: measured 12 times
the samples/s of one file a cloud and 20 times those of h5py's own fancy indexing.

Files are written under a temporary name, synced and renamed: a file with the final name is
whole. The bytes depend only on the content (no time stamps), so its md5 identifies it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sa3d.errors import DataError, remake
from sa3d.utils.files import check_space, replacing, write_whole

FORMAT = "sa3d-clouds"
VERSION = 1
TRAIN, TEST = 0, 1

Points = NDArray[np.float32]
Ints = NDArray[np.int64]
Parts = NDArray[np.uint8] | NDArray[np.uint16]

_BLOCK_BYTES = 16 << 20


@dataclass(frozen=True)
class CloudTable:
    """Everything a processed file says about its clouds, except the points.

    ``class_parts[c]`` lists the part indices that class c may contain; it and ``part_labels``
    are given together or not at all.
    """

    ids: Sequence[str]
    labels: Ints
    split: NDArray[np.uint8]
    group: Ints
    class_names: tuple[str, ...]
    source_hash: str
    part_labels: Parts | None = None
    part_names: tuple[str, ...] = ()
    class_parts: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class CloudSet:
    """An opened processed file; ``points`` and ``part_labels`` are read-only memory maps.

    ``digest`` is the sha256 of the content (points, labels, names, split), ``source_hash``
    that of what it was made from.
    """

    points: Points
    labels: Ints
    part_labels: Parts | None
    ids: tuple[str, ...]
    split: NDArray[np.uint8]
    group: Ints
    class_names: tuple[str, ...]
    part_names: tuple[str, ...]
    class_parts: tuple[tuple[int, ...], ...]
    source_hash: str
    digest: str
    path: Path

    @property
    def num_classes(self) -> int:
        """Number of classes, including any without a shape."""
        return len(self.class_names)

    @property
    def num_points(self) -> int:
        """Points stored a cloud."""
        return int(self.points.shape[1])

    def __len__(self) -> int:
        return int(self.points.shape[0])

    def indices(self, split: int) -> Ints:
        """Ascending row indices of ``TRAIN`` or ``TEST``."""
        return np.flatnonzero(self.split == split).astype(np.int64)


# --- writing -----------------------------------------------------------------------------


def check_cloud(points: NDArray[Any], name: str, num_points: int | None = None) -> Points:
    """``points`` (N, 3) as float32 if they are a usable cloud.

    Raises:
        DataError: naming the cloud, for a wrong shape or count, non-finite coordinates or all
            points equal.
    """
    array = np.asarray(points, dtype=np.float32)
    if array.ndim != 2 or array.shape[1] != 3:
        raise DataError(f"cloud '{name}' has shape {array.shape}, expected (points, 3)")
    if num_points is not None and len(array) != num_points:
        raise DataError(
            f"cloud '{name}' has {len(array)} points, expected {num_points}; "
            "sample its surface again or ask for fewer points"
        )
    if not np.isfinite(array).all():
        row = int(np.flatnonzero(~np.isfinite(array).all(axis=1))[0])
        raise DataError(
            f"cloud '{name}' has a non-finite point {array[row].tolist()} in row {row}; "
            "remove the shape or mend its file"
        )
    if len(array) == 0 or (array == array[0]).all():
        raise DataError(
            f"cloud '{name}' is degenerate: its {len(array)} points are all equal; remove the shape"
        )
    return array


def unit_sphere(points: NDArray[Any]) -> Points:
    """Points (N, 3) minus their centroid, over their largest radius (method: unit sphere)."""
    centred = points.astype(np.float64) - points.mean(axis=0, dtype=np.float64)
    radius = float(np.sqrt((centred**2).sum(axis=1).max()))
    scaled: Points = (centred / (radius or 1.0)).astype(np.float32)
    return scaled


def write_clouds(
    path: Path,
    points: Iterable[NDArray[Any]],
    table: CloudTable,
    *,
    num_points: int,
    facts: dict[str, Any] | None = None,
) -> Path:
    """Write a processed file and its summary beside it (``<name>.json``).

    Args:
        path: final ``.h5`` name; its folder is made.
        points: as many (num_points, 3) clouds as the table has ids, in that order; consumed one
            at a time, so a data set need not fit into memory.
        table: everything else.
        num_points: points N of every cloud.
        facts: further entries of the summary (floors, skipped files, ...).

    Raises:
        DataError: a bad cloud (named), a table that contradicts itself. Nothing is left under
            the final name then.
        WriteError: a full disk, no permission; nothing is left either.
    """
    _check_table(table, num_points)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    check_space(path, len(table.ids) * num_points * (12 + 2))
    with replacing(path) as temporary:
        digest = _write_file(temporary, points, table, num_points)
    summary = summarise(path.stem, table, num_points, digest) | (facts or {})
    write_whole(path.with_suffix(".json"), (json.dumps(summary, indent=2) + "\n").encode())
    return path


def summarise(name: str, table: CloudTable, num_points: int, digest: str) -> dict[str, Any]:
    """Counts of a processed file, as written to ``<name>.json``."""
    train, test = table.split == TRAIN, table.split == TEST
    classes = {
        class_name: {
            "train": int((train & (table.labels == label)).sum()),
            "test": int((test & (table.labels == label)).sum()),
            "families": len(np.unique(table.group[table.labels == label])),
        }
        for label, class_name in enumerate(table.class_names)
    }
    return {
        "name": name,
        "shapes": len(table.ids),
        "train": int(train.sum()),
        "test": int(test.sum()),
        "points": num_points,
        "num_classes": len(table.class_names),
        "num_parts": len(table.part_names),
        "families": len(np.unique(table.group)),
        "classes": classes,
        "source_hash": table.source_hash,
        "digest": digest,
    }


def _check_table(table: CloudTable, num_points: int) -> None:
    count = len(table.ids)
    if count == 0:
        raise DataError("no clouds to write: the source gave no usable shape")
    for name in ("labels", "split", "group"):
        if getattr(table, name).shape != (count,):
            raise DataError(f"{name} has shape {getattr(table, name).shape}, expected ({count},)")
    if len(set(table.ids)) != count:
        twice = next(i for i in table.ids if list(table.ids).count(i) > 1)
        raise DataError(f"id '{twice}' occurs more than once; ids must be unique")
    if table.labels.min() < 0 or table.labels.max() >= len(table.class_names):
        raise DataError(
            f"labels run from {table.labels.min()} to {table.labels.max()} but there are "
            f"{len(table.class_names)} class names"
        )
    if not np.isin(table.split, (TRAIN, TEST)).all():
        raise DataError("split holds values other than 0 (train) and 1 (test)")
    if table.part_labels is not None:
        if table.part_labels.shape != (count, num_points):
            raise DataError(
                f"part_labels have shape {table.part_labels.shape}, "
                f"expected ({count}, {num_points})"
            )
        if table.part_labels.max() >= len(table.part_names):
            raise DataError(
                f"part label {table.part_labels.max()} but only {len(table.part_names)} part names"
            )
        if len(table.class_parts) != len(table.class_names):
            raise DataError("class_parts must list the parts of every class")


def _write_file(
    path: Path, points: Iterable[NDArray[Any]], table: CloudTable, num_points: int
) -> str:
    count = len(table.ids)
    digest = hashlib.sha256()
    with h5py.File(path, "w", libver=("v110", "v110")) as file:
        file.attrs["format"] = FORMAT
        file.attrs["version"] = VERSION
        file.attrs["source_hash"] = table.source_hash

        def put(name: str, array: NDArray[Any]) -> None:
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
            file.create_dataset(name, data=array, track_times=False)

        put("labels", table.labels.astype("<i8"))
        put("split", table.split.astype("u1"))
        put("group", table.group.astype("<i8"))
        put("ids", _text(table.ids))
        put("class_names", _text(table.class_names))
        if table.part_labels is not None:
            small = "u1" if len(table.part_names) <= 256 else "<u2"
            put("part_labels", table.part_labels.astype(small))
            put("part_names", _text(table.part_names))
            put("class_parts", _matrix(table.class_parts, len(table.part_names)))
        target = file.create_dataset(
            "points", shape=(count, num_points, 3), dtype="<f4", track_times=False
        )
        row = 0
        for block in _blocks(points, table.ids, num_points):
            target[row : row + len(block)] = block
            digest.update(block.data)
            row += len(block)
        if row != count:
            raise DataError(f"{row} clouds for {count} ids: the source stopped early")
        file.attrs["digest"] = digest.hexdigest()
    return digest.hexdigest()


def _blocks(
    points: Iterable[NDArray[Any]], ids: Sequence[str], num_points: int
) -> Iterator[Points]:
    """Checked clouds, stacked to blocks of a few MiB so that writing costs few calls."""
    size = max(1, _BLOCK_BYTES // (num_points * 12))
    block: list[Points] = []
    for row, cloud in enumerate(points):
        if row >= len(ids):
            raise DataError(f"more clouds than the {len(ids)} ids of the table")
        block.append(check_cloud(cloud, ids[row], num_points))
        if len(block) == size:
            yield np.stack(block).astype("<f4", copy=False)
            block = []
    if block:
        yield np.stack(block).astype("<f4", copy=False)


def _text(values: Sequence[str]) -> NDArray[np.bytes_]:
    """Fixed-length utf-8: HDF5's variable-length strings are neither mappable nor
    byte-deterministic."""
    return np.array([value.encode() for value in values], dtype=np.bytes_)


def _matrix(class_parts: tuple[tuple[int, ...], ...], parts: int) -> NDArray[np.uint8]:
    matrix = np.zeros((len(class_parts), parts), dtype=np.uint8)
    for label, members in enumerate(class_parts):
        matrix[label, list(members)] = 1
    return matrix


# --- reading -----------------------------------------------------------------------------


def open_clouds(path: Path) -> CloudSet:
    """Open a processed file; its points are mapped, not read.

    Raises:
        DataError: missing (with the command that makes it), truncated, foreign, or written by
            another version of the layout.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"no processed data set {path}; make it with {remake(path.stem)}")
    again = f"delete it and make it again with {remake(path.stem)}"
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        reason = "truncated" if "truncated" in str(error) else "not a whole HDF5 file"
        raise DataError(f"{path} is {reason}; {again}") from error
    try:
        with file:
            if file.attrs.get("format") != FORMAT:
                raise DataError(f"{path} is an HDF5 file of another kind, not {FORMAT}; {again}")
            version = int(file.attrs.get("version", 0))
            if version != VERSION:
                raise DataError(
                    f"{path} has layout version {version}, this code reads {VERSION}; {again}"
                )
            return _read(file, path)
    except (KeyError, ValueError, TypeError, OSError, RuntimeError) as error:
        raise DataError(f"{path} is damaged ({error}); {again}") from error


def _read(file: h5py.File, path: Path) -> CloudSet:
    digest = str(file.attrs["digest"])
    parts = "part_labels" in file
    names = [text.decode() for text in file["part_names"][()]] if parts else []
    matrix = file["class_parts"][()] if parts else np.zeros((0, 0), np.uint8)
    clouds = CloudSet(
        points=_mapped(file["points"], path),
        labels=file["labels"][()],
        part_labels=_mapped(file["part_labels"], path) if parts else None,
        ids=tuple(text.decode() for text in file["ids"][()]),
        split=file["split"][()],
        group=file["group"][()],
        class_names=tuple(text.decode() for text in file["class_names"][()]),
        part_names=tuple(names),
        class_parts=tuple(tuple(np.flatnonzero(row).tolist()) for row in matrix),
        source_hash=str(file.attrs["source_hash"]),
        digest=digest,
        path=path,
    )
    count = len(clouds)
    for column in (clouds.labels, clouds.split, clouds.group, clouds.ids):
        if len(column) != count:
            raise ValueError(f"a column has {len(column)} rows, points have {count}")
    return clouds


def _mapped(dataset: h5py.Dataset, path: Path) -> NDArray[Any]:
    offset = dataset.id.get_offset()
    if offset is None:
        raise ValueError(f"{dataset.name} is not stored contiguously")
    if offset + dataset.nbytes > path.stat().st_size:
        raise ValueError(f"{dataset.name} reaches past the end of the file")
    # a plain ndarray view: np.memmap's own indexing costs Python calls for every row
    return np.asarray(
        np.memmap(path, dtype=dataset.dtype, mode="r", offset=offset, shape=dataset.shape)
    )


def content_digest(clouds: CloudSet) -> str:
    """Digest recomputed from the whole content, to compare with ``clouds.digest``."""
    digest = hashlib.sha256()
    with h5py.File(clouds.path, "r") as file:
        names = ["labels", "split", "group", "ids", "class_names"]
        if clouds.part_labels is not None:
            names += ["part_labels", "part_names", "class_parts"]
        for name in names:
            array = file[name][()]
            digest.update(f"{name} {array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
    step = max(1, _BLOCK_BYTES // (clouds.num_points * 12))
    for row in range(0, len(clouds), step):
        digest.update(np.ascontiguousarray(clouds.points[row : row + step]).data)
    return digest.hexdigest()
