"""Faces of more than three corners cover the area that they enclose, in every format that has such
faces: a concave one is no fan of its first corner."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from sa3d.data.mesh import Mesh, areas
from sa3d.data.readers import read
from sa3d.errors import DataError

NOTCH = [(3, 2), (2, 2), (2, 1), (1, 1), (1, 2), (0, 2), (0, 0), (3, 0)]  # area 5
ARROW = [(2, 10), (1, 11), (2, 12), (0, 11)]  # area 1
FAR = [(20, 0), (22, 0), (22, 2)]  # area 2
POINTS = [*NOTCH, *ARROW, *FAR]
FACES = [list(range(8)), list(range(8, 12)), list(range(12, 15))]
PLY_HEADER = """ply
format {form} 1.0
element vertex {vertices}
property float x
property float y
property float z
element face {faces}
property list uchar int {name}
{more}end_header
"""


def rows(separator: str = " ", begin: str = "") -> str:
    return "".join(f"{begin}{x}{separator}{y}{separator}0\n" for x, y in POINTS)


def off(faces: list[list[int]], more: str = "") -> bytes:
    said = "".join(f"{len(face)} {' '.join(map(str, face))}{more}\n" for face in faces)
    return f"OFF\n{len(POINTS)} {len(faces)} 0\n{rows()}{said}".encode()


def obj(faces: list[list[int]], end: str = "", from_end: bool = False) -> bytes:
    first = -len(POINTS) if from_end else 1
    said = "".join(f"f {' '.join(f'{n + first}{end}' for n in face)}\n" for face in faces)
    return f"# made by hand\n{rows(begin='v ')}vt 0 0\nvn 0 0 1\n{said}".encode()


def ply(
    faces: list[list[int]], labels: list[int] | None = None, name: str = "vertex_index"
) -> bytes:
    more = "" if labels is None else "property int label\n"
    header = PLY_HEADER.format(
        form="ascii", vertices=len(POINTS), faces=len(faces), name=name, more=more
    )
    said = [f"{len(face)} {' '.join(map(str, face))}" for face in faces]
    if labels is not None:
        said = [f"{row} {label}" for row, label in zip(said, labels, strict=True)]
    return (header + rows() + "\n".join(said) + "\n").encode()


def binary_ply(faces: list[list[int]], name: str) -> bytes:
    """All of one size: of several, a binary file is refused."""
    header = PLY_HEADER.format(
        form="binary_little_endian", vertices=len(POINTS), faces=len(faces), name=name, more=""
    )
    vertices = b"".join(struct.pack("<3f", x, y, 0) for x, y in POINTS)
    said = b"".join(struct.pack(f"<B{len(face)}i", len(face), *face) for face in faces)
    return header.encode() + vertices + said


def mesh(data: bytes, kind: str) -> Mesh:
    found = read(data, kind)
    assert isinstance(found, Mesh)
    return found


@pytest.mark.parametrize(
    ("kind", "data"),
    [
        ("off", off(FACES)),
        ("off", off(FACES, " 255 0 0")),
        ("obj", obj(FACES)),
        ("obj", obj(FACES, "/1/1")),
        ("obj", obj(FACES, "//1")),
        ("obj", obj(FACES, from_end=True)),
        ("obj", obj(FACES).replace(b" 4 5 ", b" 4 \\\n 5 ")),
        ("obj", obj(FACES).replace(b"\n", b" # said\r\n")),
        ("ply", ply(FACES)),
        ("ply", ply(FACES, name="vertex_indices")),
    ],
)
def test_the_area_that_they_enclose(kind: str, data: bytes) -> None:
    found = mesh(data, kind)
    assert areas(found).sum() == pytest.approx(5 + 1 + 2)
    a, b, c = (found.vertices[found.faces[:, corner]] for corner in range(3))
    up = np.cross(b - a, c - a)[:, 2]
    flat = np.array([(*point, 0) for point in NOTCH], dtype=float)
    way = np.cross(flat, np.roll(flat, -1, axis=0)).sum(0)[2]
    of_notch = found.vertices[found.faces].max(axis=(1, 2)) <= 3
    assert (up[of_notch] * way > 0).all()  # wound as the polygon


@pytest.mark.parametrize("name", ["vertex_index", "vertex_indices"])
@pytest.mark.parametrize(("face", "area"), [(FACES[0], 5), (FACES[1], 1)])
def test_a_binary_ply(name: str, face: list[int], area: float) -> None:
    for start in range(len(face)):
        turned = face[start:] + face[:start]
        assert areas(mesh(binary_ply([turned], name), "ply")).sum() == pytest.approx(area)


def test_labels_of_polygons_go_to_their_triangles() -> None:
    found = mesh(ply(FACES, labels=[7, 3, 5]), "ply")
    of = areas(found)
    assert {n: of[found.parts == n].sum() for n in (7, 3, 5)} == pytest.approx({7: 5, 3: 1, 5: 2})


@pytest.mark.parametrize(
    ("kind", "data", "said"),
    [
        ("off", off([[0, 1, 2, 15]]), "a vertex outside the 15"),
        ("off", off([[0, 1, 2, -1]]), "a vertex outside the 15"),
        ("off", off(FACES).replace(b"4 8 9 10 11", b"4 8 9 10"), "fewer corners than it announces"),
        ("obj", obj([[0, 1, 2, 15]]), "a vertex outside the 15"),
        ("obj", obj([[0, 1, 2, -1]]), "vertex 0; they are counted from 1"),
        ("ply", ply([[0, 1, 2, 15]]), "a vertex outside the 15"),
        ("off", off(FACES).replace(b"3 2 0\n", b"nan 2 0\n"), "not finite"),
        ("obj", obj(FACES).replace(b"v 3 2 0\n", b"v inf 2 0\n"), "not finite"),
    ],
)
def test_polygons_of_vertices_that_are_not_there(kind: str, data: bytes, said: str) -> None:
    with pytest.raises(DataError, match=said):
        read(data, kind)
