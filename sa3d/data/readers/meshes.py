"""OFF, OBJ, STL and GLB, by trimesh, which is not to pass over what is missing from a file.

Polygons of more than three corners are read here: trimesh makes a fan of each, which covers a
concave one wrongly.

Transforms of a scene are applied. Materials, textures, normals and the names of groups and nodes
are not read: no exporter keeps to what a group means, so parts come from labels alone. Whatever a
file refers to beside itself is not opened.
"""

from __future__ import annotations

import io
import json
import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sa3d.data.cloud_table import Cloud
from sa3d.data.mesh import Mesh
from sa3d.data.polygons import triangulate
from sa3d.data.readers import unlabelled

_RELATIVE = re.compile(rb"^f[ \t][^\n]*(?<![\w.])-\d", re.MULTILINE)
_POLYGON = re.compile(rb"^f(?:[ \t]+[-\d/]+){4}", re.MULTILINE)
_VERTEX = re.compile(rb"^v[ \t]", re.MULTILINE)
_STL_HEADER, _STL_FACE = 84, 50
_STL_BEGINNING = 1000  # of a text file; it has the first facet within that
_STL_PAIRS = (
    (re.compile(rb"^\s*solid\b", re.MULTILINE), re.compile(rb"^\s*endsolid\b", re.MULTILINE)),
    (re.compile(rb"^\s*facet\b", re.MULTILINE), re.compile(rb"^\s*endfacet\b", re.MULTILINE)),
)
_GLB_JSON = 0x4E4F534A
_TRIANGLE_FAN = 6
_COMPRESSIONS = ("KHR_draco_mesh_compression", "EXT_meshopt_compression")


def read_off(data: bytes) -> Cloud | Mesh:
    """Object File Format; also as ModelNet has it, with the counts in the first line."""
    text = data.decode("utf-8", "replace").split("OFF", 1)[-1]
    stripped = (line.partition("#")[0].strip() for line in text.splitlines())
    lines = [line for line in stripped if line]
    counts = lines[0].split()[:2] if lines else []
    if len(counts) < 2:
        raise ValueError("it does not say how many vertices and faces it has")
    vertices, faces = (int(number) for number in counts)
    if min(vertices, faces) < 0 or len(lines) - 1 < vertices + faces:
        raise ValueError(
            f"it announces {vertices} vertices and {faces} faces but has {len(lines) - 1} lines"
        )
    last = lines[vertices + faces].split()
    if faces and len(last) <= int(last[0]):
        raise ValueError("its last face is cut off")
    rows = lines[1 : 1 + vertices + faces]
    return _triangles(rows, vertices, faces) or _off_polygons(rows, vertices) or load(data, "off")


def read_obj(data: bytes) -> Cloud | Mesh:
    """Wavefront OBJ: vertices and faces."""
    relative = _RELATIVE.search(data)
    if relative and _VERTEX.search(data, relative.end()):
        raise ValueError(
            "its faces count vertices backwards from where they stand, which is not read; save it "
            "with absolute numbers"
        )
    joined_lines = data.replace(b"\\\r\n", b" ").replace(b"\\\n", b" ")
    return _obj_polygons(joined_lines) if _POLYGON.search(joined_lines) else load(data, "obj")


def read_stl(data: bytes) -> Cloud | Mesh:
    """STL, binary or text."""
    if b"facet" in data[:_STL_BEGINNING].lower():
        lower = data.lower()
        if any(len(begin.findall(lower)) != len(end.findall(lower)) for begin, end in _STL_PAIRS):
            raise ValueError("a text file with a facet or solid that does not end")
    elif len(data) >= _STL_HEADER:
        faces = int.from_bytes(data[80:_STL_HEADER], "little")
        expected = _STL_HEADER + _STL_FACE * faces
        if len(data) != expected:
            raise ValueError(
                f"it announces {faces} triangles, {expected} bytes, but has {len(data)}"
            )
    return load(data, "stl")


def read_glb(data: bytes) -> Cloud | Mesh:
    """Binary glTF 2.0 that holds its own buffers."""
    _check_glb(data)
    return load(data, "glb")


def load(data: bytes, kind: str) -> Cloud | Mesh:
    """What trimesh makes of a file, as one mesh; as one cloud where there are only points."""
    return joined(scene_of(data, kind))


def scene_of(data: bytes, kind: str) -> Any:
    """trimesh's scene of a file, vertices and faces as they are in it."""
    import trimesh

    return trimesh.load_scene(
        io.BytesIO(data), file_type=kind, process=False, skip_materials=True, fix_texture=False
    )


def joined(scene: Any) -> Cloud | Mesh:
    """All meshes of a scene where its nodes put them, or else all of its points.

    Raises:
        ValueError: neither.
    """
    import trimesh

    vertices, faces, points = [], [], []
    count = 0
    for node in scene.graph.nodes_geometry:
        transform, name = scene.graph[node]
        geometry = scene.geometry[name]
        placed = moved(geometry.vertices, transform)
        if isinstance(geometry, trimesh.Trimesh):
            vertices.append(placed)
            faces.append(np.asarray(geometry.faces, dtype=np.int64).reshape(-1, 3) + count)
            _check_faces(faces[-1] - count, len(placed))
            count += len(placed)
        elif isinstance(geometry, trimesh.PointCloud):
            points.append(placed)
    if vertices:
        every = np.concatenate(faces)
        return Mesh(np.concatenate(vertices), every, unlabelled(len(every)))
    if points:
        return Cloud(np.concatenate(points))
    raise ValueError("no faces and no points in it, or it ends early")


def cut(
    vertices: NDArray[np.float64], outlines: Sequence[Sequence[int]] | Sequence[NDArray[np.int64]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Faces that are polygons of any number of corners as triangles (F, 3), and the polygon that
    each is of (F,).

    Raises:
        ValueError: a polygon names a vertex that is not there, or one that is not finite.
    """
    corners = np.concatenate([np.asarray(outline, dtype=np.int64) for outline in outlines])
    _check_faces(corners, len(vertices))
    if not np.isfinite(vertices[corners]).all():
        raise ValueError("a vertex of a polygon is not finite")
    return triangulate(vertices, corners, np.array([len(outline) for outline in outlines]))


def moved(points: Any, transform: Any) -> NDArray[np.float64]:
    """Points (n, 3) under a 4 x 4 transform of column vectors."""
    matrix = np.asarray(transform, dtype=np.float64)
    found = np.asarray(points, dtype=np.float64)
    if (matrix == np.eye(4)).all():
        return found
    placed: NDArray[np.float64] = found @ matrix[:3, :3].T + matrix[:3, 3]
    return placed


def _triangles(rows: list[str], vertices: int, faces: int) -> Mesh | None:
    """The mesh of an OFF file of bare coordinates and triangles, as most are; None of any other.

    trimesh reads those line by line, which takes most of the time that large data sets need.
    """
    points = np.fromstring(" ".join(rows[:vertices]), sep=" ")
    corners = np.fromstring(" ".join(rows[vertices : vertices + faces]), sep=" ")
    if not faces or len(points) != 3 * vertices or len(corners) != 4 * faces:
        return None
    table = corners.astype(np.int64).reshape(-1, 4)
    if (table.ravel() != corners).any() or (table[:, 0] != 3).any():
        return None
    return Mesh(points.reshape(-1, 3), np.ascontiguousarray(table[:, 1:]), unlabelled(faces))


def _off_polygons(rows: list[str], vertices: int) -> Mesh | None:
    """The mesh of an OFF file with polygons of more than three corners; None of any other."""
    words = [row.split() for row in rows]
    sizes = [int(face[0]) for face in words[vertices:]]
    if max(sizes, default=0) <= 3:
        return None
    points = np.array([row[:3] for row in words[:vertices]], dtype=np.float64)
    outlines = [
        [int(number) for number in face[1 : size + 1]]
        for face, size in zip(words[vertices:], sizes, strict=True)
    ]
    if any(len(outline) != size for outline, size in zip(outlines, sizes, strict=True)):
        raise ValueError("a face has fewer corners than it announces")
    faces, _ = cut(points, outlines)
    return Mesh(points, faces, unlabelled(len(faces)))


def _obj_polygons(data: bytes) -> Mesh:
    points: list[list[float]] = []
    outlines: list[list[int]] = []
    for line in data.split(b"\n"):
        words = line.partition(b"#")[0].split()
        if words[:1] == [b"v"]:
            points.append([float(word) for word in words[1:4]])
        elif words[:1] == [b"f"]:
            numbers = [int(word.partition(b"/")[0]) for word in words[1:]]
            if 0 in numbers:
                raise ValueError("a face names vertex 0; they are counted from 1")
            outlines.append([n - 1 if n > 0 else len(points) + n for n in numbers])
    vertices = np.array(points, dtype=np.float64)
    faces, _ = cut(vertices, outlines)
    return Mesh(vertices, faces, unlabelled(len(faces)))


def _check_faces(faces: NDArray[np.int64], vertices: int) -> None:
    # before numbers of several meshes are put into one row, where a wrong one may fit another's
    if len(faces) and (faces.min() < 0 or faces.max() >= vertices):
        raise ValueError(f"a face names a vertex outside the {vertices} of its mesh")


def _check_glb(data: bytes) -> None:
    """That a GLB file is whole, holds its buffers and needs nothing that trimesh passes over.

    Raises:
        ValueError: it does not. Also for a count that the file cannot hold, for which trimesh
            would take the memory.
    """
    if data[:4] != b"glTF" or len(data) < 20:
        raise ValueError("it does not begin as a GLB file does")
    _, length, chunk, kind = struct.unpack("<IIII", data[4:20])
    if length != len(data) or kind != _GLB_JSON:
        raise ValueError(f"it announces {length} bytes but has {len(data)}")
    tree = json.loads(data[20 : 20 + chunk])
    for buffer in tree.get("buffers", []):
        uri = str(buffer.get("uri", "data:"))
        if not uri.startswith("data:"):
            raise ValueError(
                f"its buffer is another file, '{uri[:60]}', which is not read; save it as one file"
            )
    packed = set(tree.get("extensionsRequired", [])) & set(_COMPRESSIONS)
    if packed:
        raise ValueError(f"it is packed with {packed.pop()}; save it without compression")
    for accessor in tree.get("accessors", []):
        if "sparse" in accessor:
            raise ValueError("it has sparse accessors, which are not read")
        if not 0 <= int(accessor["count"]) <= len(data):
            raise ValueError(f"an accessor announces {accessor['count']} items")
    if _TRIANGLE_FAN in _modes(tree.get("meshes", [])):
        raise ValueError("it has triangle fans, which are not read; save it with triangles")


def _modes(meshes: Iterable[Any]) -> set[int]:
    return {int(each.get("mode", 4)) for mesh in meshes for each in mesh.get("primitives", [])}
