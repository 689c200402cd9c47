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
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from sa3d.data.cloud_table import (
    SPLITS,
    Cloud,
    CloudTable,
    check_table,
    checked_arrays,
    part_type,
)
from sa3d.data.digest import BLOCK_BYTES, ContentDigest
from sa3d.data.flat import FLAT
from sa3d.data.store import Ints
from sa3d.errors import DataError
from sa3d.utils.files import check_space, replacing, write_whole
from sa3d.utils.layout import FORMAT, VERSION


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
    check_table(table)
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
    masks = {name: table.split == number for name, number in SPLITS.items()}
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
        found = checked_arrays(cloud, table.ids[row], int(table.labels[row]), table)
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
        "part_labels": (part_type(table), (total,)),
    }
    places = {}
    try:
        # aligned, so that mapped arrays are
        with h5py.File(
            path, "w", libver=("v110", "v110"), alignment_threshold=1, alignment_interval=8
        ) as file:
            texts = {
                "format": FORMAT,
                "source_hash": table.source_hash,
                "normalisation": table.normalisation,
                "digest": digest,
            }
            file.attrs["version"] = VERSION
            for name, text in texts.items():
                file.attrs[name] = np.bytes_(text.encode())
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


def _text(values: Sequence[str]) -> NDArray[np.bytes_]:
    """Fixed-length utf-8: HDF5's variable-length strings are neither mappable nor
    byte-deterministic, and where their bytes are damaged, HDF5 may read on for ever."""
    return np.array([value.encode() for value in values], dtype=np.bytes_)
