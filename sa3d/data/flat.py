"""What stands in a processed file without HDF5 between: names read when asked for, and clouds read
rather than mapped."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, overload

import h5py
import numpy as np
from numpy.typing import NDArray

from sa3d.config.obtain import how_to_replace
from sa3d.errors import DataError, UnreadDataError
from sa3d.utils.files import unread

FLAT = ("points", "normals", "part_labels")


class Names(Sequence[str]):
    """Fixed-length utf-8 of a processed file, decoded when it is asked for.

    A file of a million clouds has a million ids, of which training reads none.

    Raises:
        DataError: on reading one that is no text: the file is damaged.
    """

    def __init__(self, encoded: NDArray[np.bytes_], path: Path) -> None:
        self._encoded, self._path = encoded, path

    def __len__(self) -> int:
        return len(self._encoded)

    @overload
    def __getitem__(self, at: int) -> str: ...

    @overload
    def __getitem__(self, at: slice) -> Names: ...

    def __getitem__(self, at: int | slice) -> str | Names:
        if isinstance(at, slice):
            return Names(self._encoded[at], self._path)
        return self._text(self._encoded[at])

    def __iter__(self) -> Iterator[str]:
        return map(self._text, self._encoded.tolist())

    def __eq__(self, other: object) -> bool:
        """Equal to any sequence of the same texts."""
        if not isinstance(other, Sequence) or isinstance(other, str):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # it is equal to lists, which have none

    def _text(self, encoded: bytes) -> str:
        try:
            return encoded.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{self._path} is damaged ({error}); {how_to_replace(self._path.stem)}"
            ) from error


class FlatFile:
    """The flat arrays of a processed file, for who reads a few rows at a time.

    Pages of a memory map stay with the process that touched them, so that one that goes through a
    large file grows to its size. What is read here is a copy, which goes when it is dropped. It is
    quicker too: the points that are then taken out of it are in the processor's cache.

    Args:
        path: the file; it is open as long as this object lives.
        places: of each array, where it begins in the file.
    """

    def __init__(self, path: Path, places: Mapping[str, int]) -> None:
        self._path, self._places = path, dict(places)
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)

    def rows(self, name: str, like: NDArray[Any], rows: slice) -> NDArray[Any]:
        """Copy of ``rows`` of the array ``name``, of the type and width of ``like``.

        Raises:
            UnreadDataError: the file has become shorter, or its disk does not answer.
        """
        width = like.strides[0]
        size = (rows.stop - rows.start) * width
        try:
            data = os.pread(self._descriptor, size, self._places[name] + rows.start * width)
        except OSError as error:
            raise UnreadDataError(f"{self._path} {unread(error) or error}") from error
        if len(data) != size:
            raise UnreadDataError(f"{self._path} became shorter while it was read; run this again")
        return np.frombuffer(data, like.dtype).reshape(-1, *like.shape[1:])


def place_of(dataset: h5py.Dataset, path: Path) -> int:
    """Where the array begins in the file.

    Raises:
        ValueError: it is not stored in one piece, or the file ends before it does.
    """
    offset = dataset.id.get_offset()
    if offset is None:
        raise ValueError(f"{dataset.name} is not stored contiguously")
    if offset + dataset.nbytes > path.stat().st_size:
        raise ValueError(f"{dataset.name} reaches past the end of the file")
    return int(offset)


def mapped(dataset: h5py.Dataset, path: Path) -> NDArray[Any]:
    """The array as a read-only memory map.

    Raises:
        ValueError: see :func:`place_of`.
    """
    # a plain ndarray view: np.memmap's own indexing costs Python calls for every row
    return np.asarray(
        np.memmap(
            path,
            dtype=dataset.dtype,
            mode="r",
            offset=place_of(dataset, path),
            shape=dataset.shape,
        )
    )
