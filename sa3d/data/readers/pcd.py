"""PCD of the Point Cloud Library: text, binary and compressed; parsed by pypcd4."""

from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from sa3d.data.cloud_table import Cloud
from sa3d.data.readers import label_rank, whole_numbers
from sa3d.data.readers.packed import check_unpacked

_DATA = b"\nDATA"
_LARGEST_RATIO = 300  # LZF makes at most 264 bytes of 3
_MOST_NUMBERS = 10_000  # of a point; the longest descriptors of the Point Cloud Library have 1 344


def read_pcd(data: bytes) -> Cloud:
    """The points, and the label field if there is one.

    A point whose three coordinates are NaN is PCD's way of saying that a pixel of a depth image
    saw nothing, and is left out.
    """
    from pypcd4.pypcd4 import PointCloud

    _check_length(data)
    cloud = PointCloud.from_fileobj(io.BytesIO(data))  # type: ignore[arg-type]
    rows = np.atleast_1d(cloud.pc_data)
    if len(rows) != cloud.metadata.points:
        raise ValueError(f"it announces {cloud.metadata.points} points but has {len(rows)}")
    points = np.stack([rows[axis] for axis in "xyz"], axis=1).astype(np.float64)
    seen = ~np.isnan(points).all(axis=1)
    ranked = ((label_rank(name), name) for name in cloud.fields)
    named = sorted((rank, name) for rank, name in ranked if rank is not None)
    if not named:
        return Cloud(points[seen])
    return Cloud(points[seen], whole_numbers(rows[named[0][1]], named[0][1])[seen])


def _check_length(data: bytes) -> None:
    """That the file has the bytes that its header announces, before memory is taken for them."""
    from pypcd4.pypcd4 import MetaData

    start = data.find(_DATA)
    end = data.find(b"\n", start + 1)
    if start < 0 or end < 0:
        raise ValueError("its header does not end")
    header: Any = MetaData.parse_header(data[:end].decode("ascii").splitlines())
    numbers = sum(header.count)
    if numbers > _MOST_NUMBERS:
        raise ValueError(f"it announces {numbers} numbers a point")
    body = data[end + 1 :]
    expected = header.points * header.build_dtype().itemsize
    if header.data.value == "ascii":
        if body.count(b"\n") + 1 < header.points:
            raise ValueError(f"it announces {header.points} points but has fewer rows")
        return
    if header.data.value == "binary":
        if len(body) < expected:
            raise ValueError(
                f"it announces {header.points} points, {expected} bytes, but has {len(body)}"
            )
        return
    check_unpacked(expected)
    packed, unpacked = struct.unpack("<II", body[:8])
    if len(body) - 8 < packed or unpacked != expected or unpacked > _LARGEST_RATIO * packed:
        raise ValueError(
            f"it announces {header.points} points, {expected} bytes packed to {packed}, but has "
            f"{max(len(body) - 8, 0)} for {unpacked}"
        )
