"""NumPy's own files. Pickled objects, which could run code, are refused."""

from __future__ import annotations

import io
import math
from typing import IO, Any, Final

import numpy as np

from sa3d.data.cloud_table import Cloud
from sa3d.data.readers import label_rank, whole_numbers
from sa3d.data.readers.packed import MAX_UNPACKED, check_unpacked
from sa3d.data.readers.text import cloud_of_rows

_POINTS = ("points", "point", "xyz", "pos", "positions", "coords", "coordinates", "vertices", "pc")
_LARGEST_RATIO: Final = 100  # of an array to its packed bytes, where that is a large array
_HEADERS: Final = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(data: bytes) -> Cloud:
    """One array of 3, 4, 6 or 7 columns, which mean what they mean in a text file."""
    _check_size(io.BytesIO(data), len(data))
    return cloud_of_rows(np.load(io.BytesIO(data), allow_pickle=False))


def read_npz(data: bytes) -> Cloud:
    """An array named ``points`` (or ``xyz``, ``pos``, ...), or the only one; and the labels in
    another one of as many rows."""
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        named = {name.lower(): name for name in arrays.files}
        points = next((named[name] for name in _POINTS if name in named), None)
        if points is None and len(arrays.files) == 1:
            points = arrays.files[0]
        if points is None:
            raise ValueError(f"none of its arrays ({', '.join(arrays.files)}) is called 'points'")
        cloud = cloud_of_rows(array_of(arrays, points))
        ranked = ((label_rank(name), name) for name in arrays.files if name != points)
        for _, name in sorted((rank, name) for rank, name in ranked if rank is not None):
            labels = array_of(arrays, name)
            if labels.shape in ((len(cloud.points),), (len(cloud.points), 1)):
                return Cloud(cloud.points, whole_numbers(labels, name))
    return cloud


def array_of(arrays: Any, name: str) -> Any:
    """An array of an open .npz file, which is a zip archive.

    Raises:
        ValueError: it claims to be larger than it can be; no memory was taken for it.
        KeyError: there is none of this name.
    """
    member = f"{name}.npy" if f"{name}.npy" in arrays.zip.namelist() else name
    told = arrays.zip.getinfo(member)
    if told.file_size > max(MAX_UNPACKED, _LARGEST_RATIO * told.compress_size):
        raise ValueError(
            f"its array '{name}' is {told.compress_size} bytes that claim to be {told.file_size}"
        )
    check_unpacked(told.file_size)
    with arrays.zip.open(member) as file:
        _check_size(file, told.file_size)
    return arrays[name]


def _check_size(file: IO[bytes], size: int) -> None:
    """That an array can be as large as its header says, before memory is taken for it.

    Raises:
        ValueError: it cannot, or it is no array.
    """
    version = np.lib.format.read_magic(file)
    if version not in _HEADERS:  # the third is for names of fields, which points have not
        raise ValueError(f"an array of format {version}, expected numbers")
    shape, _, dtype = _HEADERS[version](file)
    needed, room = math.prod(shape) * dtype.itemsize, size - file.tell()
    if needed > room and not dtype.hasobject:
        raise ValueError(f"it announces an array {shape} of {dtype}, but has {room} bytes for it")
