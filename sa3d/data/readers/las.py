"""LAS, and LAZ, which is LAS compressed: points of airborne and terrestrial laser scans.

Parsed by laspy, unpacked by lazrs. Both trust the numbers of a header, so whether these can be true
is looked at here, before memory is taken for them.
"""

from __future__ import annotations

import io
import struct
from typing import Any, Final

import numpy as np

from sa3d.data.cloud_table import Cloud
from sa3d.data.readers.packed import check_unpacked

_VLR: Final = 54  # bytes of a record's header
_POINTS: Final = 1 << 20  # unpacked at once
_LAYERS: Final = {6: 9, 7: 10, 8: 11, 9: 10, 10: 12}
"""Layers of a packed chunk by point format, without extra bytes."""
_LARGEST_RATIO: Final = 300  # of points to their packed bytes; scans have 4 to 20


def read_las(data: bytes) -> Cloud:
    """The points in double precision, as the file scales and shifts them. Labels: the class of each
    point (ground, building, ...), unless no point was classified."""
    import laspy
    import lazrs

    _check_records(data)
    blocks, classes = [], []
    try:
        with laspy.open(
            io.BytesIO(data), laz_backend=laspy.LazBackend.Lazrs, read_evlrs=False
        ) as reader:
            header = reader.header
            _check_points(data, header)
            if header.are_points_compressed:
                check_unpacked(header.point_count * header.point_format.size)
                _check_packing(data, header)
            for _ in range(0, header.point_count, _POINTS):
                rows: Any = reader.read_points(_POINTS)
                whole = [np.asarray(rows[axis], dtype=np.int32) for axis in "XYZ"]
                blocks.append(np.stack(whole, axis=1) * header.scales + header.offsets)
                classes.append(np.array(rows["classification"], dtype=np.uint8))
    except BaseException as error:
        # what lazrs did not expect is no Exception, so that nothing would stop it on its way up
        if isinstance(error, lazrs.LazrsError) or type(error).__name__ == "PanicException":
            raise ValueError(f"its packed points cannot be unpacked: {error}") from error
        raise
    points = np.concatenate([np.zeros((0, 3)), *blocks])
    if len(points) != header.point_count:
        raise ValueError(f"it announces {header.point_count} points but has {len(points)}")
    if len(points) == 0 or not any(block.any() for block in classes):
        return Cloud(points)
    return Cloud(points, np.concatenate(classes).astype(np.int64))


def _check_records(data: bytes) -> None:
    """That the records before the points can be as many as the header says."""
    if len(data) < 227 or data[:4] != b"LASF":
        raise ValueError("it does not begin with the header of a LAS file")
    start, records = struct.unpack_from("<II", data, 96)
    if start > len(data) or records * _VLR > start:
        raise ValueError(f"it announces {records} records in {start} bytes before its points")


def _check_points(data: bytes, header: Any) -> None:
    """That the points can be as many as the header says."""
    room = len(data) - header.offset_to_point_data
    size = header.point_count * header.point_format.size
    most = room * _LARGEST_RATIO if header.are_points_compressed else room
    if size > most:
        raise ValueError(
            f"it announces {header.point_count} points, {size} bytes, but has {room} for them"
        )


def _check_packing(data: bytes, header: Any) -> None:
    """That packed points are those of the header, and that their chunks, for which lazrs takes
    memory at once, can be as many as the file says."""
    import lazrs

    found = header.vlrs.get("LasZipVlr")
    size, start = header.point_format.size, header.offset_to_point_data
    packing = lazrs.LazVlr(found[0].record_data) if found else None
    if packing is None or packing.item_size() != size:
        raise ValueError(f"it does not say how its points of {size} bytes are packed")
    (place,) = struct.unpack_from("<q", data, start)
    if place == -1:  # of a writer that could not go back: the place stands at the end
        (place,) = struct.unpack_from("<q", data, len(data) - 8)
    if not start < place <= len(data) - 8:
        raise ValueError(f"the table of its packed chunks is at {place}, outside the file")
    _, chunks = struct.unpack_from("<II", data, place)
    if chunks > len(data):
        raise ValueError(f"it announces {chunks} packed chunks in {len(data)} bytes")
    if header.point_format.id in _LAYERS:
        variable = packing.uses_variable_size_chunks()
        _check_layers(data, start + 8, place, header, None if variable else packing.chunk_size())


def _check_layers(data: bytes, start: int, end: int, header: Any, each: int | None) -> None:
    """That every chunk has room for its layers, for which lazrs takes memory at once.

    A chunk of the newer point formats is a point as it is, how many points it has, and the sizes
    of its layers, which follow: some for each kind of field, and one for each extra byte.

    Args:
        data: the file.
        start: of the first chunk. end: of the last one.
        header: of the file.
        each: points of every chunk but the last; None where they differ.
    """
    layers = _LAYERS[header.point_format.id] + header.point_format.num_extra_bytes
    fixed = header.point_format.size + 4 + 4 * layers
    counts = []
    while start < end:
        if start + fixed > end:
            raise ValueError("the last of its packed chunks is cut off")
        count, *sizes = struct.unpack_from(
            f"<{1 + layers}I", data, start + header.point_format.size
        )
        start += fixed + sum(sizes)
        counts.append(count)
    alike = each is None or (set(counts[:-1]) <= {each} and max(counts, default=0) <= each)
    if start != end or not alike or sum(counts) != header.point_count:
        raise ValueError(f"its {len(counts)} packed chunks are damaged")
