"""The smallest reader of VRML 2.0 / VRML97 text that gets surfaces with material names.

It reads ``IndexedFaceSet`` geometry below any nesting of grouping nodes, with ``DEF``/``USE`` and
transforms, as CAD exporters write it. It refuses, rather than guesses at, what it cannot read:
a truncated file, a bad index, a non-finite coordinate, prototypes. Lines, normals, colours,
textures and primitive solids (``Box``, ...) are passed over.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

MAX_DEPTH = 100
"""Nodes inside nodes; deeper ones are a file that refers to itself."""

# Strings and comments first, so that no bracket inside them counts. A list without nodes in it
# is one token: most of a file is numbers, which numpy reads far faster than this scanner.
_TOKEN = re.compile(
    rb'"(?:[^"\\]|\\.)*"|#[^\n\r]*|\[[^\[\]{}"]*\]|[{}\[\]]|[^\s,\[\]{}"#]+|"', re.DOTALL
)
_SCALAR = re.compile(rb'[-+.\d"]|TRUE$|FALSE$')
_COMMENT = re.compile(rb"#[^\n\r]*")
_IDENTITY = np.eye(4)


class VrmlError(ValueError):
    """A file this reader cannot make a surface of; the message says why."""


@dataclass(frozen=True)
class Surface:
    """Triangles with the name of their material.

    ``vertices`` (V, 3) float64 in the file's units, ``faces`` (F, 3), ``material`` (F,) index
    into ``materials``; an unnamed material is ``""``.
    """

    vertices: NDArray[np.float64]
    faces: NDArray[np.int64]
    material: NDArray[np.int64]
    materials: tuple[str, ...]


@dataclass
class _Node:
    kind: str
    name: str = ""
    fields: dict[str, list[bytes | _Node]] = field(default_factory=dict)

    def child(self, key: str) -> _Node | None:
        values = self.fields.get(key)
        return values[0] if values and isinstance(values[0], _Node) else None

    def children(self, key: str) -> list[_Node]:
        return [value for value in self.fields.get(key, []) if isinstance(value, _Node)]

    def text(self, key: str) -> bytes:
        values = [value for value in self.fields.get(key, []) if isinstance(value, bytes)]
        return values[0] if len(values) == 1 else b" ".join(values)

    def numbers(self, key: str) -> NDArray[np.float64]:
        return _numbers(self.text(key), key)


def read_vrml(text: bytes) -> Surface:
    """All faces of a VRML 2.0 file, polygons cut into fans of triangles.

    Raises:
        VrmlError: not VRML 2.0, truncated or malformed, an index without coordinate, a
            non-finite coordinate, or no face at all.
    """
    if not text.startswith(b"#VRML V2.0"):
        raise VrmlError("does not begin with '#VRML V2.0': empty, binary or another format")
    parser = _Parser(text)
    collected = _Collector(parser.named)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DeprecationWarning)  # how numpy says "not a number"
        for node in parser.scene():
            collected.visit(node, _IDENTITY, 0)
    return collected.surface()


class _Parser:
    """Tokens to nodes, without a schema: a value is a node if a name and ``{`` begin it."""

    def __init__(self, text: bytes) -> None:
        self.tokens = [t for t in _TOKEN.findall(text) if t[:1] != b"#"]
        self.at = 0
        self.named: dict[str, _Node] = {}

    def scene(self) -> Iterator[_Node]:
        while self.at < len(self.tokens):
            if self.tokens[self.at] == b"ROUTE":
                self.at += 4
                continue
            yield self.node(0)

    def take(self) -> bytes:
        if self.at >= len(self.tokens):
            raise VrmlError("ends in the middle of a node: the file is truncated")
        token: bytes = self.tokens[self.at]
        self.at += 1
        return token

    def peek(self) -> bytes:
        return self.tokens[self.at] if self.at < len(self.tokens) else b""

    def node(self, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise VrmlError(f"nodes nest deeper than {MAX_DEPTH}")
        token = self.take()
        if token == b"USE":
            return _Node("USE", _word(self.take()))
        if token == b"NULL":
            return _Node("NULL")
        name = ""
        if token == b"DEF":
            name = _word(self.take())
            token = self.take()
        if token in (b"PROTO", b"EXTERNPROTO"):
            raise VrmlError("uses prototypes (PROTO), which this reader does not know")
        if _SCALAR.match(token):
            raise VrmlError("a number where a node should stand: truncated or malformed")
        node = _Node(_word(token), name)
        if self.take() != b"{":
            raise VrmlError(f"expected '{{' after {node.kind}")
        while (token := self.take()) != b"}":
            if token == b"ROUTE":
                self.at += 3
                continue
            node.fields[_word(token)] = self.value(depth)
        if name:
            self.named[name] = node
        return node

    def value(self, depth: int) -> list[bytes | _Node]:
        """Scalars, one bracketed list, or one or more nodes."""
        token = self.peek()
        if token[:1] == b"[":
            self.at += 1
            if b"USE" in token:  # a list of references alone has no brace in it either
                words = _COMMENT.sub(b"", token[1:-1]).replace(b",", b" ").split()
                return [_Node("USE", _word(name)) for name in words[1::2]]
            if token != b"[":
                return [token[1:-1]]
            values: list[bytes | _Node] = []
            while self.peek() != b"]":
                quoted = self.peek()[:1] == b'"'
                values.append(self.take() if quoted else self.node(depth + 1))
            self.at += 1
            return values
        if not _SCALAR.match(token):
            return [self.node(depth + 1)]
        scalars: list[bytes | _Node] = []
        while _SCALAR.match(self.peek()):
            scalars.append(self.take())
        return scalars


class _Collector:
    """Walks the scene and gathers the triangles of every shape."""

    def __init__(self, named: dict[str, _Node]) -> None:
        self.named = named
        self.index: list[bytes] = []
        self.points: list[bytes] = []
        self.matrices: list[NDArray[np.float64]] = []
        self.material: list[int] = []
        self.materials: dict[str, int] = {}

    def resolve(self, node: _Node) -> _Node:
        if node.kind != "USE":
            return node
        if node.name not in self.named:
            raise VrmlError(f"USE {node.name} without a DEF of that name")
        return self.named[node.name]

    def visit(self, node: _Node, matrix: NDArray[np.float64], depth: int) -> None:
        if depth > MAX_DEPTH:
            raise VrmlError(f"nodes nest deeper than {MAX_DEPTH}: a node contains itself")
        node = self.resolve(node)
        if node.kind == "Shape":
            self.shape(node, matrix)
            return
        if node.kind == "Transform":
            matrix = matrix @ _transform(node)
        below = node.children("children")
        if node.kind in ("Switch", "LOD"):
            choices = node.children("choice") or node.children("level")
            which = int(_vector(node, "whichChoice", (0.0 if node.kind == "LOD" else -1.0,))[0])
            below = choices[which : which + 1] if which >= 0 else []
        for inner in below:
            self.visit(inner, matrix, depth + 1)

    def shape(self, node: _Node, matrix: NDArray[np.float64]) -> None:
        geometry = node.child("geometry")
        if geometry is None:
            return
        geometry = self.resolve(geometry)
        coord = geometry.child("coord")
        if geometry.kind != "IndexedFaceSet" or coord is None:
            return
        index, points = geometry.text("coordIndex"), self.resolve(coord).text("point")
        if not index.strip(b" ,\t\r\n"):
            return
        self.index.append(index)
        self.points.append(points)
        self.matrices.append(matrix)
        self.material.append(
            self.materials.setdefault(self.material_name(node), len(self.materials))
        )

    def material_name(self, shape: _Node) -> str:
        """Name of the shape's material; by USE also where no DEF precedes it."""
        appearance = shape.child("appearance")
        if appearance is None:
            return ""
        material = self.resolve(appearance).child("material")
        return "" if material is None else material.name

    def surface(self) -> Surface:
        """All shapes at once: exporters write one shape a CAD face, tens of thousands a file,
        and numbers are read in two calls instead of two a shape."""
        if not self.index:
            raise VrmlError("has no face (IndexedFaceSet)")
        values, sizes = _split_numbers(self.points, np.inf, "point")
        if not np.isfinite(values).all():
            raise VrmlError("a coordinate is not finite")
        if (sizes % 3).any():
            raise VrmlError(f"{int(sizes[sizes % 3 > 0][0])} coordinates are not whole points")
        counts = sizes // 3
        starts = np.concatenate(([0], np.cumsum(counts)))
        vertices = values.reshape(-1, 3)
        for shape, matrix in enumerate(self.matrices):
            if matrix is not _IDENTITY:
                part = slice(starts[shape], starts[shape + 1])
                vertices[part] = vertices[part] @ matrix[:3, :3].T + matrix[:3, 3]
        index, lengths = _split_numbers(self.index, -2.0, "coordIndex")
        shapes = np.repeat(np.arange(len(lengths)), lengths)
        faces, face_shapes = _triangles(index, shapes, counts)
        if len(faces) == 0:
            raise VrmlError("has no face of three corners or more")
        material = np.asarray(self.material, dtype=np.int64)[face_shapes]
        faces += starts[face_shapes][:, None]
        return Surface(vertices, faces, material, tuple(self.materials))


def _split_numbers(
    texts: list[bytes], mark: float, what: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """All numbers of several lists, and how many each list has. ``mark`` separates them on the
    way and must not occur in them: it is a value no valid list holds."""
    separator = f" {mark:g} ".encode()
    numbers = _numbers(separator.join(texts), what)
    marks = np.flatnonzero(numbers == mark)
    if len(marks) != len(texts) - 1:
        raise VrmlError(
            f"{what} holds {mark:g}: "
            + ("a coordinate is not finite" if what == "point" else "a face index out of range")
        )
    sizes = np.diff(np.concatenate(([-1], marks, [len(numbers)]))) - 1
    return np.delete(numbers, marks), sizes


def _triangles(
    index: NDArray[np.float64], shapes: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Faces (F, 3), numbered within their shape, and the shape of each (F,).

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
    if len(whole) % 4 == 0:
        quads = whole.reshape(-1, 4)
        inside = (shapes[::4] == shapes[3::4]).all()
        if inside and (quads[:, 3] == -1).all() and (quads[:, :3] >= 0).all():
            return quads[:, :3].copy(), shapes[::4]  # triangles only, as exporters mostly write
    ends = (whole == -1) | (np.diff(shapes, append=-1) != 0)
    fans, owners = [], []
    for polygon, owner in _polygons(whole, shapes, np.flatnonzero(ends)):
        corners = polygon[polygon >= 0]
        if len(corners) >= 3:
            first = np.full(len(corners) - 2, corners[0])
            fans.append(np.stack((first, corners[1:-1], corners[2:]), axis=1))
            owners.append(np.full(len(first), owner))
    if not fans:
        return np.empty((0, 3), dtype=np.int64), np.empty(0, dtype=np.int64)
    return np.concatenate(fans), np.concatenate(owners)


def _polygons(
    index: NDArray[np.int64], shapes: NDArray[np.int64], ends: NDArray[np.int64]
) -> Iterator[tuple[NDArray[np.int64], int]]:
    start = 0
    for end in ends.tolist():
        yield index[start : end + 1], int(shapes[start])
        start = end + 1


def _transform(node: _Node) -> NDArray[np.float64]:
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


def _vector(node: _Node, key: str, default: tuple[float, ...]) -> NDArray[np.float64]:
    if key not in node.fields:
        return np.asarray(default)
    values = node.numbers(key)
    if len(values) != len(default):
        raise VrmlError(f"{node.kind}.{key} has {len(values)} numbers, expected {len(default)}")
    return values


def _numbers(text: bytes, what: str) -> NDArray[np.float64]:
    """Numbers separated by blanks and commas."""
    if b"#" in text:
        text = _COMMENT.sub(b"", text)
    text = text.replace(b",", b" ").strip()
    if not text:
        return np.empty(0)
    try:
        return np.fromstring(text, sep=" ")
    except (DeprecationWarning, ValueError) as error:
        raise VrmlError(f"{what} holds something that is not a number") from error


def _word(token: bytes) -> str:
    if token[:1] in (b"{", b"}", b"[", b"]", b'"'):
        raise VrmlError(f"unexpected '{token[:20].decode('latin-1')}': the file is malformed")
    return token.decode("utf-8", "replace")
