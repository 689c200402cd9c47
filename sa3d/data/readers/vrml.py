"""The smallest reader of VRML 2.0 / VRML97 text that gets surfaces with material names.

It reads ``IndexedFaceSet`` geometry below any nesting of grouping nodes, with ``DEF``/``USE`` and
transforms, as CAD exporters write it; of a ``Switch`` the choice it shows, of an ``LOD`` the finest
level. It refuses, rather than guesses at, what it cannot read: a truncated file, a bad index, a
non-finite number, prototypes, solids without faces (``Box``, ...), other files (``Inline``). Lines,
normals, colours and textures are passed over.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sa3d.data.polygons import triangulate
from sa3d.data.readers.packed import unpacked
from sa3d.data.readers.vrml_nodes import MAX_DEPTH, Node, Parser, VrmlError, to_numbers

__all__ = ["MAX_DEPTH", "Surface", "VrmlError", "read_vrml"]

_IDENTITY = np.eye(4)
_WITHOUT_SURFACE = ("IndexedLineSet", "PointSet", "Text", "NULL")


@dataclass(frozen=True)
class Surface:
    """Triangles with the name of their material.

    ``vertices`` (V, 3) float64 in the file's units, ``faces`` (F, 3), ``material`` (F,) index
    into ``materials``; an unnamed material is ``""``. Corners run anticlockwise as seen from the
    side that the file calls the outside.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    material: NDArray[np.int64]
    materials: tuple[str, ...]


def read_vrml(text: bytes) -> Surface:
    """All faces of a VRML 2.0 file, polygons cut into triangles; gzip may have packed the text.

    Raises:
        VrmlError: not VRML 2.0, truncated or malformed, an index without coordinate, a
            non-finite number, something this reader does not know, or no face at all.
    """
    try:
        text = unpacked(text)
    except ValueError as error:
        raise VrmlError(str(error)) from error
    if not text.startswith(b"#VRML V2.0"):
        raise VrmlError("does not begin with '#VRML V2.0': empty, binary or another format")
    parser = Parser(text)
    collected = _Collector()
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how numpy says "not a number"
        for node in parser.scene():
            collected.visit(node, _IDENTITY, 0)
    return collected.surface()


class _Collector:
    """Walks the scene and gathers the polygons of every shape."""

    def __init__(self) -> None:
        self.index: list[bytes] = []
        self.points: list[bytes] = []
        self.matrices: list[NDArray[np.float64]] = []
        self.clockwise: list[bool] = []
        self.material: list[int] = []
        self.materials: dict[str, int] = {}

    def visit(self, node: Node, matrix: NDArray[np.float64], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise VrmlError(f"nodes nest deeper than {MAX_DEPTH}: a node contains itself")
        _check_defined(node)
        if node.kind == "Shape":
            self.shape(node, matrix)
            return
        if node.kind == "Inline":
            raise VrmlError("shows another file (Inline), which this reader does not follow")
        if node.kind == "Transform":
            matrix = matrix @ _transform(node)
        below = node.children("children")
        if node.kind == "Switch":
            choice = int(_vector(node, "whichChoice", (-1.0,))[0])
            below = node.children("choice")[choice:][:1] if choice >= 0 else []
        elif node.kind == "LOD":
            below = node.children("level")[:1]
        for inner in below:
            self.visit(inner, matrix, depth + 1)

    def shape(self, node: Node, matrix: NDArray[np.float64]) -> None:
        geometry = node.child("geometry")
        if geometry is None:
            return
        _check_defined(geometry)
        if geometry.kind in _WITHOUT_SURFACE:
            return
        if geometry.kind != "IndexedFaceSet":
            raise VrmlError(f"has a {geometry.kind}; this reader knows surfaces of faces alone")
        coord = geometry.child("coord")
        if coord is None:
            return
        _check_defined(coord)
        index, points = geometry.text("coordIndex"), coord.text("point")
        if not index.strip(b" ,\t\r\n"):
            return
        self.index.append(index)
        self.points.append(points)
        self.matrices.append(matrix)
        self.clockwise.append(geometry.text("ccw") == b"FALSE")
        self.material.append(
            self.materials.setdefault(self.material_name(node), len(self.materials))
        )

    def material_name(self, shape: Node) -> str:
        """Name of the shape's material; by USE also where no DEF precedes it."""
        appearance = shape.child("appearance")
        if appearance is None:
            return ""
        _check_defined(appearance)
        material = appearance.child("material")
        return "" if material is None else material.name

    def surface(self) -> Surface:
        """All shapes at once: exporters write one shape a CAD face, tens of thousands a file,
        and numbers are read in two calls instead of two a shape."""
        if not self.index:
            raise VrmlError("has no face (IndexedFaceSet)")
        values, sizes = _split_numbers(self.points, np.inf, "point")
        if (sizes % 3).any():
            raise VrmlError(f"{int(sizes[sizes % 3 > 0][0])} coordinates are not whole points")
        counts = sizes // 3
        starts = np.concatenate(([0], np.cumsum(counts)))
        vertices = values.reshape(-1, 3)
        for shape, matrix in enumerate(self.matrices):
            if matrix is not _IDENTITY:
                part = slice(starts[shape], starts[shape + 1])
                vertices[part] = vertices[part] @ matrix[:3, :3].T + matrix[:3, 3]
        if not np.isfinite(vertices).all():
            raise VrmlError("a coordinate is not finite")
        index, lengths = _split_numbers(self.index, -2.0, "coordIndex")
        shapes = np.repeat(np.arange(len(lengths)), lengths)
        faces, face_shapes = _faces(index, shapes, counts, vertices)
        if len(faces) == 0:
            raise VrmlError("has no face of three corners or more")
        mirrored = np.linalg.det(np.stack(self.matrices)[:, :3, :3]) < 0.0
        inverted = (mirrored != self.clockwise)[face_shapes]
        faces[inverted] = faces[inverted, ::-1]
        material = np.asarray(self.material, dtype=np.int64)[face_shapes]
        return Surface(vertices, faces, material, tuple(self.materials))


def _check_defined(node: Node) -> None:
    if node.kind == "USE":
        raise VrmlError(f"USE {node.name} without a DEF of that name before it")


def _split_numbers(
    texts: list[bytes], mark: float, what: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All numbers of several lists, and how many each list has. ``mark`` separates them on the
    way and must not occur in them: it is a value no valid list holds."""
    separator = f" {mark:g} ".encode()
    numbers = to_numbers(separator.join(texts), what)
    marks = np.flatnonzero(numbers == mark)
    if len(marks) != len(texts) - 1:
        raise VrmlError(
            f"{what} holds {mark:g}: "
            + ("a coordinate is not finite" if what == "point" else "a face index out of range")
        )
    sizes = np.diff(np.concatenate(([-1], marks, [len(numbers)]))) - 1
    return np.delete(numbers, marks), sizes


def _faces(
    index: NDArray[np.float64],
    shapes: NDArray[np.int64],
    counts: NDArray[np.int64],
    vertices: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Triangles (F, 3) as rows of ``vertices`` and the shape of each (F,).

    ``index``: the ``coordIndex`` lists one after the other, in which -1 or the end of the list
    ends each polygon; ``shapes``: the shape each entry is from; ``counts``: its coordinates.
    """
    valid = (index >= -1) & (index < counts[shapes])
    if not valid.all():
        bad = int(np.flatnonzero(~valid)[0])
        raise VrmlError(f"face index {index[bad]:g} outside the {counts[shapes[bad]]} coordinates")
    whole = index.astype(np.int64)
    if not (whole == index).all():
        raise VrmlError("a face index is not a whole number")
    corner = whole >= 0
    rows = (whole + (np.cumsum(counts) - counts)[shapes])[corner]
    if len(whole) % 4 == 0:
        quads = corner.reshape(-1, 4)
        inside = (shapes[::4] == shapes[3::4]).all()
        if inside and not quads[:, 3].any() and quads[:, :3].all():
            return rows.reshape(-1, 3), shapes[::4]  # triangles only, as exporters mostly write
    last = np.flatnonzero(~corner | (np.diff(shapes, append=-1) != 0))
    sizes = np.diff(np.cumsum(corner)[last], prepend=0)
    faces, polygon = triangulate(vertices, rows, sizes)
    return faces, shapes[last][polygon]


def _transform(node: Node) -> NDArray[np.float64]:
    """T C R SR S SR^-1 C^-1, the order VRML97 section 6.52 gives."""
    centre = _vector(node, "center", (0.0, 0.0, 0.0))
    orient = _rotation(_vector(node, "scaleOrientation", (0.0, 0.0, 1.0, 0.0)))
    scale = orient @ np.diag(_vector(node, "scale", (1.0, 1.0, 1.0))) @ orient.T
    linear = _rotation(_vector(node, "rotation", (0.0, 0.0, 1.0, 0.0))) @ scale
    matrix = np.eye(4)
    matrix[:3, :3] = linear
    matrix[:3, 3] = _vector(node, "translation", (0.0, 0.0, 0.0)) + centre - linear @ centre
    return matrix


def _rotation(axis_angle: NDArray[np.float64]) -> NDArray[np.float64]:
    from scipy.spatial.transform import Rotation

    axis, angle = axis_angle[:3], axis_angle[3]
    length = float(np.linalg.norm(axis))
    if length == 0.0:
        return np.eye(3)
    matrix: NDArray[np.float64] = Rotation.from_rotvec(axis / length * angle).as_matrix()
    return matrix


def _vector(node: Node, key: str, default: tuple[float, ...]) -> NDArray[np.float64]:
    if key not in node.fields:
        return np.asarray(default)
    values = node.numbers(key)
    if len(values) != len(default):
        raise VrmlError(f"{node.kind}.{key} has {len(values)} numbers, expected {len(default)}")
    if not np.isfinite(values).all():
        raise VrmlError(f"{node.kind}.{key} is not finite")
    return values
