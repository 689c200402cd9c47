"""NumPy's own files. Pickled objects, which could run code, are refused."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from sa3d.data.cloud_table import Cloud
from sa3d.data.readers import label_rank, whole_numbers
from sa3d.data.readers.text import cloud_of_rows

_POINTS = ("points", "point", "xyz", "pos", "positions", "coords", "coordinates", "vertices", "pc")


def read_npy(data: bytes) -> Cloud:
    """One array of 3, 4, 6 or 7 columns, which mean what they mean in a text file."""
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
        cloud = cloud_of_rows(arrays[points])
        ranked = ((label_rank(name), name) for name in arrays.files if name != points)
        for _, name in sorted((rank, name) for rank, name in ranked if rank is not None):
            labels: Any = arrays[name]
            if labels.shape in ((len(cloud.points),), (len(cloud.points), 1)):
                return Cloud(cloud.points, whole_numbers(labels, name))
    return cloud
