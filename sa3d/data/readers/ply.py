"""PLY, text and binary, with per-point or per-face labels; parsed by trimesh.

trimesh takes rows that are missing from a text file for rows that were never there, so whether a
file is whole is looked at here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud
from sa3d.data.mesh import Mesh
from sa3d.data.readers import label_rank, unlabelled, whole_numbers
from sa3d.data.readers.meshes import cut, joined, scene_of

_END = b"end_header"
_CORNERS = ("vertex_index", "vertex_indices")


def read_ply(data: bytes) -> Cloud | Mesh:
    """A mesh if there are faces, else a cloud. Labels: an integer property of the faces, or of the
    vertices; a face then has the label of most of its corners."""
    header, body = _divided(data)
    if any(line.split()[:2] == [b"format", b"ascii"] for line in header):
        _check_text(header, body)
    scene = scene_of(data, "ply")
    geometry = next(iter(scene.geometry.values()), None)
    elements = {} if geometry is None else geometry.metadata["_ply_raw"]
    _check_corners(elements.get("face", {}))
    found = joined(scene)
    if isinstance(found, Cloud):
        if elements.get("face", {}).get("length"):
            raise ValueError("its faces cannot be read")
        return Cloud(found.points, _labels(elements, "vertex", len(found.points)))
    outlines = _polygons(elements.get("face", {}))
    if outlines is None:
        of_face = _labels(elements, "face", len(found.faces))
    else:
        faces, polygon = cut(found.vertices, outlines)
        found = Mesh(found.vertices, faces, unlabelled(len(faces)))
        of_face = _labels(elements, "face", len(outlines))
        of_face = None if of_face is None else of_face[polygon]
    if of_face is None:
        of_vertex = _labels(elements, "vertex", len(found.vertices))
        of_face = None if of_vertex is None else _most(of_vertex[found.faces])
    return found if of_face is None else Mesh(found.vertices, found.faces, of_face)


def _divided(data: bytes) -> tuple[list[bytes], bytes]:
    """Lines of the header and what follows it."""
    at = data.find(_END)
    after = data.find(b"\n", at)
    if not data.startswith(b"ply") or at < 0 or after < 0:
        raise ValueError("its header does not end")
    return data[:at].splitlines(), data[after + 1 :]


def _check_text(header: list[bytes], body: bytes) -> None:
    """That a text file has all its rows, and all of the last one."""
    counts: list[int] = []
    widths: list[list[bool]] = []  # of each property of the element: is it a list
    for words in (line.split() for line in header):
        if words[:1] == [b"element"]:
            counts.append(int(words[2]))
            widths.append([])
        elif words[:1] == [b"property"]:
            widths[-1].append(words[1] == b"list")
    rows = body.splitlines()
    if len(rows) < sum(counts):
        raise ValueError(f"it announces {sum(counts)} rows but has {len(rows)}")
    filled = [number for number, count in enumerate(counts) if count]
    if not filled:
        return
    words, at = rows[sum(counts) - 1].split(), 0
    for is_list in widths[filled[-1]]:
        at += 1 + (int(words[at]) if is_list and at < len(words) else 0)
    if len(words) < at:
        raise ValueError("its last row is cut off")


def _check_corners(face: Mapping[str, Any]) -> None:
    """That the faces of a binary file have the number of corners that the first one has, which is
    how all of them were read."""
    data = face.get("data")
    if not isinstance(data, np.ndarray) or data.dtype.names is None:
        return
    for name in data.dtype.names:
        column = data[name]
        if column.dtype.names is not None and (column["f0"] != column["f1"].shape[1]).any():
            raise ValueError("faces of several sizes in a binary file; save it with triangles")


def _polygons(face: Mapping[str, Any]) -> Sequence[NDArray[np.int64]] | None:
    """The corners of every face as they are in the file; None where all are triangles."""
    data: Any = face.get("data", {})
    if isinstance(data, np.ndarray) and data.dtype.names is not None:
        name = next((each for each in _CORNERS if each in data.dtype.names), data.dtype.names[0])
        found = data[name]["f1"]
    else:
        found = next((data[each] for each in _CORNERS if each in data), None)
    if found is None or (isinstance(found, np.ndarray) and found.shape[1:] == (3,)):
        return None
    if max(len(outline) for outline in found) <= 3:
        return None
    return [np.asarray(outline, dtype=np.int64) for outline in found]


def _labels(elements: Mapping[str, Any], of: str, count: int) -> NDArray[np.int64] | None:
    """The label of each row of an element; None where no property says so."""
    element = elements.get(of, {})
    ranked = ((label_rank(name), name) for name in element.get("properties", {}))
    named = sorted((rank, name) for rank, name in ranked if rank is not None)
    if not named:
        return None
    name = named[0][1]
    found = whole_numbers(np.asarray(element["data"][name]), name)
    return found if len(found) == count else None


def _most(corners: NDArray[np.int64]) -> NDArray[np.int64]:
    """(F, 3) labels of corners -> (F,) the one that most have; of three different ones the
    first."""
    first, second, third = corners.T
    most: NDArray[np.int64] = np.where(second == third, second, first)
    return most
