"""Parsed clouds on disk beside the output, so that a killed ``prepare`` goes on where it was.

Two files in a hidden folder: ``clouds.bin`` holds the arrays of one cloud after the other,
``index.jsonl`` a line for each cloud that is whole, after a first line that says what the clouds
were made with. A cloud's line is written after its arrays and carries their checksum, which is
compared when the folder is opened again: what a kill or a full disk left half-written is parsed
again. The folder goes away when the data set is written, and stays when writing it fails.
"""

from __future__ import annotations

import json
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud
from sa3d.errors import DataError
from sa3d.utils.files import unwritable, write_whole

_CLOUDS, _INDEX, _LOCK = "clouds.bin", "index.jsonl", "lock"


class Stamp(NamedTuple):
    """What tells a raw file from a changed one without reading it."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class _Record:
    """A cloud in ``clouds.bin``: points (rows, 3) f4, normals alike, parts (rows,) u1."""

    key: str
    stamp: Stamp
    digest: str
    at: int
    rows: int
    normals: bool
    parts: bool
    crc: int

    @property
    def nbytes(self) -> int:
        return self.rows * (12 + 12 * self.normals + self.parts)


class Spool:
    """Clouds by key; made by :func:`spool_for`."""

    def __init__(self, folder: Path, made_with: str) -> None:
        self._folder = folder
        self._records: dict[str, _Record] = {}
        header = json.dumps({"made_with": made_with})
        lines = _read_lines(folder / _INDEX)
        clouds = folder / _CLOUDS
        if lines[:1] == [header] and clouds.is_file():
            self._records = {each.key: each for each in _whole(clouds, lines[1:])}
        else:
            clouds.unlink(missing_ok=True)
        kept = [header, *(_line(record) for record in self._records.values())]
        write_whole(folder / _INDEX, ("\n".join(kept) + "\n").encode())
        # without buffers: what is written survives a kill of this process
        self._clouds = clouds.open("ab+", buffering=0)
        self._index = (folder / _INDEX).open("ab", buffering=0)
        self._end = clouds.stat().st_size

    def has(self, key: str, stamp: Stamp) -> bool:
        """Whether the cloud is there, made from a raw file that has not changed."""
        record = self._records.get(key)
        return record is not None and record.stamp == stamp

    def add(self, key: str, stamp: Stamp, digest: str, cloud: Cloud) -> None:
        """Put a cloud of float32 points (n, 3) to the disk; ``digest`` is that of its raw bytes.

        Raises:
            WriteError: a full disk; the clouds so far stay for the next attempt.
        """
        arrays = [cloud.points, cloud.normals, cloud.parts]
        kinds = ("<f4", "<f4", "u1")
        block = b"".join(
            np.ascontiguousarray(array, dtype=kind).tobytes()
            for array, kind in zip(arrays, kinds, strict=True)
            if array is not None
        )
        record = _Record(
            key,
            stamp,
            digest,
            self._end,
            len(cloud.points),
            cloud.normals is not None,
            cloud.parts is not None,
            zlib.crc32(block),
        )
        try:
            _write_all(self._clouds, block)
            _write_all(self._index, (_line(record) + "\n").encode())
        except OSError as error:
            raise unwritable(self._folder / _CLOUDS, error) from error
        self._end += len(block)
        self._records[key] = record

    def cloud(self, key: str) -> Cloud:
        """The cloud of ``key``."""
        record = self._records[key]
        self._clouds.seek(record.at)
        block = self._clouds.read(record.nbytes)
        count = 3 * record.rows
        points: NDArray[Any] = np.frombuffer(block, "<f4", count).reshape(-1, 3)
        normals = parts = None
        if record.normals:
            normals = np.frombuffer(block, "<f4", count, 4 * count).reshape(-1, 3)
        if record.parts:
            parts = np.frombuffer(block, "u1", record.rows, record.nbytes - record.rows)
        return Cloud(points, parts, normals)

    def digest(self, key: str) -> str:
        """Digest of what the cloud of ``key`` was made from."""
        return self._records[key].digest

    def close(self) -> None:
        """Close the files; they stay."""
        self._clouds.close()
        self._index.close()


@contextmanager
def spool_for(out: Path, made_with: str) -> Iterator[Spool]:
    """The spool of the processed file ``out``; its folder is removed if the block succeeds.

    Args:
        out: the ``.h5`` file that is being made.
        made_with: all that the clouds depend on beside the raw files; clouds made with something
            else are thrown away.

    Raises:
        DataError: another process is making the same file. WriteError: no permission.
    """
    folder = out.parent / f".{out.name}.spool"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(folder, error) from error
    lock = FileLock(folder / _LOCK, timeout=0, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise DataError(f"another process is making {out}; wait until it has ended") from error
    try:
        spool = Spool(folder, made_with)
        try:
            yield spool
        finally:
            spool.close()
        shutil.rmtree(folder)
    finally:
        lock.release()


def _write_all(file: Any, data: bytes) -> None:
    """An unbuffered file may take a part at a time."""
    left = memoryview(data)
    while left:
        left = left[file.write(left) :]


def _line(record: _Record) -> str:
    key, stamp, *rest = (getattr(record, each.name) for each in fields(record))
    return json.dumps([key, *stamp, *rest])


def _read_lines(path: Path) -> list[str]:
    """The lines of the index that end in a line feed."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8", errors="replace")
    return text.split("\n")[:-1]


def _whole(clouds: Path, lines: list[str]) -> Iterator[_Record]:
    """The records whose arrays are there, as their checksums say."""
    with clouds.open("rb") as file:
        for line in lines:
            try:
                key, size, mtime_ns, *rest = json.loads(line)
                record = _Record(key, Stamp(size, mtime_ns), *rest)
            except (ValueError, TypeError):
                continue  # a torn line: its cloud is parsed again
            file.seek(record.at)
            if zlib.crc32(file.read(record.nbytes)) == record.crc:
                yield record
