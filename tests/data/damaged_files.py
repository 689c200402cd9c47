"""Whole files of every format, small and written in several ways, and damaged ones made of them."""

from __future__ import annotations

import gzip
import io
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Final

HUGE: Final = (0, 1, 255, 65_535, 1_000_000, 2**31 - 1, 2**31, 4_000_000_000, 2**32 - 1, 2**63 - 1)
NUMBERS: Final = (b"-1", b"0", b"4000000000", b"99999999999999999999", b"nan", b"inf", b"1e308",
                  b"1e-320", b"", b"x", b"0x10", b"1_0", b"-0")  # fmt: skip
_NUMBER: Final = re.compile(rb"[-+]?\d+(?:\.\d+)?")


# --- whole files ---------------------------------------------------------------------------


@cache
def wholes(kind: str) -> tuple[bytes, ...]:
    """Whole files of a format, in the ways in which it can be written."""
    found = {
        "off": _meshes, "obj": _meshes, "stl": _stl, "glb": _glb, "ply": _ply, "npy": _npy,
        "npz": _npz, "xyz": _text, "txt": _text, "pcd": _pcd, "wrl": _wrl, "las": _las, "laz": _las,
    }[kind](kind)  # fmt: skip
    return (*found, gzip.compress(found[0], mtime=0))


def _points(count: int = 60) -> object:
    import numpy as np

    return np.round(np.random.default_rng(0).normal(size=(count, 3)), 3)


def _export(shape: object, kind: str, **options: object) -> bytes:
    data = shape.export(file_type=kind, **options)  # type: ignore[attr-defined]
    return data if isinstance(data, bytes) else data.encode()


def _meshes(kind: str) -> tuple[bytes, ...]:
    import trimesh

    square = {
        "off": b"OFF\n4 1 0\n0 0 0\n2 0 0\n2 3 0\n0 3 0\n4 0 1 2 3\n",
        "obj": b"v 0 0 0\nv 2 0 0\nv 2 3 0\nv 0 3 0\nf 1/1 2/2 3/3 4/4\nf -4 -3 -2\n",
    }
    return (_export(trimesh.creation.icosphere(1), kind), square[kind])


def _stl(kind: str) -> tuple[bytes, ...]:
    import trimesh

    box = trimesh.creation.box()
    return (_export(box, "stl"), _export(box, "stl_ascii"))


def _glb(kind: str) -> tuple[bytes, ...]:
    import trimesh

    scene = trimesh.Scene([trimesh.creation.box(), trimesh.creation.icosphere(1)])
    return (_export(scene, "glb"), _export(trimesh.Scene([trimesh.PointCloud(_points())]), "glb"))


def _ply(kind: str) -> tuple[bytes, ...]:
    import numpy as np
    import trimesh

    ball, points = trimesh.creation.icosphere(1), np.asarray(_points())
    head = "ply\nformat {} 1.0\nelement vertex 60\nproperty double x\nproperty double y\n"
    head += "property double z\nproperty int label\nend_header\n"
    rows = np.empty(60, dtype=[("p", "f8", 3), ("label", "i4")])
    rows["p"], rows["label"] = points, np.arange(60) % 3
    big = rows.astype([("p", ">f8", 3), ("label", ">i4")])
    text = "".join(f"{x} {y} {z} {at % 3}\n" for at, (x, y, z) in enumerate(points))
    square = "ply\nformat ascii 1.0\nelement vertex 4\nproperty float x\nproperty float y\n"
    square += "property float z\nelement face 1\nproperty list uchar int vertex_indices\n"
    square += "end_header\n0 0 0\n2 0 0\n2 3 0\n0 3 0\n4 0 1 2 3\n"
    return (
        _export(ball, "ply"),
        _export(ball, "ply", encoding="ascii"),
        head.format("binary_little_endian").encode() + rows.tobytes(),
        head.format("binary_big_endian").encode() + big.tobytes(),
        (head.format("ascii") + text).encode(),
        square.encode(),
    )


def _saved(save: Callable[..., None], *args: object, **named: object) -> bytes:
    buffer = io.BytesIO()
    save(buffer, *args, **named)
    return buffer.getvalue()


def _npy(kind: str) -> tuple[bytes, ...]:
    import numpy as np

    points = np.asarray(_points())
    column = (np.arange(60) % 3)[:, None]
    return (
        _saved(np.save, points.astype(np.float32)),
        _saved(np.save, np.asfortranarray(points.astype(">f8"))),
        _saved(np.save, np.hstack([points, points, column])),
    )


def _npz(kind: str) -> tuple[bytes, ...]:
    import numpy as np

    points, label = np.asarray(_points()), np.arange(60) % 3
    return (
        _saved(np.savez, points=points, label=label),
        _saved(np.savez_compressed, xyz=points.astype(np.float32), seg=label),
    )


def _text(kind: str) -> tuple[bytes, ...]:
    rows = [[float(v) for v in row] for row in _points()]  # type: ignore[attr-defined]
    plain = "\n".join(" ".join(map(str, row)) for row in rows)
    labelled = "\n".join(", ".join(map(str, [*row, at % 3])) for at, row in enumerate(rows))
    return (plain.encode(), ("# x, y, z, label\n" + labelled + "\n").encode())


def _pcd(kind: str) -> tuple[bytes, ...]:
    import numpy as np
    from pypcd4 import Encoding, PointCloud

    table = np.hstack([np.asarray(_points()), (np.arange(60) % 3)[:, None]]).astype(np.float32)
    cloud = PointCloud.from_points(
        table, ("x", "y", "z", "label"), (np.float32,) * 3 + (np.uint32,)
    )
    ways = (Encoding.BINARY, Encoding.ASCII, Encoding.BINARY_COMPRESSED)
    return tuple(_saved(lambda file, way=way: cloud.save(file, way)) for way in ways)


def _wrl(kind: str) -> tuple[bytes, ...]:
    shape = """Shape { appearance Appearance { material DEF M Material { diffuseColor 1 0 0 } }
    geometry IndexedFaceSet { ccw TRUE coordIndex [0,1,2,-1,0,2,3,-1] coord DEF C Coordinate {
    point [0 0 0,2 0 0,2 3 0,0 3 0] } } }"""
    used = """Transform { translation 1 2 3 rotation 0 1 0 1.5 scale 2 2 2 children [
    Shape { geometry IndexedFaceSet { coord USE C coordIndex [0 1 2 3 -1] } },
    Group { children Shape { geometry IndexedFaceSet {
    coord USE C coordIndex [0 1 3 -1] } } } ] }"""
    return (f"#VRML V2.0 utf8\n{shape}\n".encode(), f"#VRML V2.0 utf8\n{shape}\n{used}\n".encode())


def _las(kind: str) -> tuple[bytes, ...]:
    import laspy
    import numpy as np

    found = []
    for version, point_format in (("1.2", 3), ("1.4", 6)):
        header = laspy.LasHeader(point_format=point_format, version=version)
        header.scales, header.offsets = [0.001] * 3, [5e6, 100.0, 3e6]
        las = laspy.LasData(header)
        las.x, las.y, las.z = (np.asarray(_points(300)) + header.offsets).T
        las.classification = np.arange(300) % 3
        found.append(_saved(lambda file, las=las: las.write(file, do_compress=kind == "laz")))
    return tuple(found)


# --- damaged ones --------------------------------------------------------------------------


def mutant(kind: str, number: int) -> bytes:
    """The ``number``-th damaged file of a format."""
    draw = random.Random(f"{kind} {number}")
    files = wholes(kind)
    data = bytearray(draw.choice(files))
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        data = draw.choice(_WAYS)(data, draw, files)
    return bytes(data)


def _span(data: bytearray, draw: random.Random, most: int = 64) -> slice:
    start = draw.randrange(len(data) + 1)
    return slice(start, start + draw.randint(1, most))


def _cut(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    return data[: draw.randrange(len(data) + 1)]


def _flip(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    for _ in range(draw.randint(1, 8) if data else 0):
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
    return data


def _count(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    """A number of 2, 4 or 8 bytes, of either order; more often in the first 400 bytes."""
    size = draw.choice((2, 4, 4, 8))
    value = draw.choice(HUGE) % (1 << 8 * size)
    start = draw.randrange(max(1, min(len(data), draw.choice((400, len(data) + 1)))))
    data[start : start + size] = value.to_bytes(size, draw.choice(("little", "big")))  # type: ignore
    return data


def _word(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    """A number that is written as text; more often one of the first twenty."""
    found = list(_NUMBER.finditer(bytes(data)))
    if found:
        match = draw.choice(draw.choice((found, found[:20])))
        data[match.start() : match.end()] = draw.choice(NUMBERS)
    return data


def _swap(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    """The order of bytes in words of 2, 4 or 8, from somewhere to the end."""
    size, start = draw.choice((2, 4, 8)), draw.randrange(len(data) + 1)
    for at in range(start, len(data) - size + 1, size):
        data[at : at + size] = data[at : at + size][::-1]
    return data


def _delete(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    del data[_span(data, draw)]
    return data


def _insert(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    at = draw.randrange(len(data) + 1)
    data[at:at] = draw.randbytes(draw.randint(1, 64))
    return data


def _repeat(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    span = _span(data, draw, 256)
    data[span.start : span.start] = data[span] * draw.choice((1, 1, 2, 50))
    return data


def _blank(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    span = _span(data, draw)
    data[span] = bytes([draw.choice((0, 255, 10, 32))]) * len(data[span])
    return data


def _splice(data: bytearray, draw: random.Random, files: tuple[bytes, ...]) -> bytearray:
    other = draw.choice(files)
    return data[: draw.randrange(len(data) + 1)] + other[draw.randrange(len(other)) :]


_WAYS: Final = (_cut, _flip, _flip, _count, _count, _word, _word, _swap, _delete, _insert, _repeat,
                _blank, _splice)  # fmt: skip
