"""Simple solids as triangle meshes, and a builder that puts them together to an object.

Every solid is a pair (vertices (V, 3), faces (F, 3)). y is up; lengths are in arbitrary units,
since objects are scaled to the unit sphere afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sa3d.data.mesh import Mesh

Solid = tuple[NDArray[np.float64], NDArray[np.int64]]

_SIDES = 24


def box(centre: ArrayLike, size: ArrayLike) -> Solid:
    """A box of full edge lengths ``size`` around ``centre``."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) / 2.0
    quads = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
    faces = [f for a, b, c, d in quads for f in ((a, b, c), (a, c, d))]
    return corners * np.asarray(size) + np.asarray(centre), np.array(faces)


def revolve(profile: Sequence[tuple[float, float]], sides: int = _SIDES) -> Solid:
    """A surface of revolution about y of a profile of (radius, height) pairs.

    Its ends stay open unless the profile begins or ends at radius 0.
    """
    angles = np.linspace(0.0, 2.0 * np.pi, sides, endpoint=False)
    ring = np.stack((np.cos(angles), np.zeros(sides), np.sin(angles)), axis=1)
    vertices = np.concatenate([ring * radius + (0.0, height, 0.0) for radius, height in profile])
    return vertices, strip(len(profile), sides)


def frustum(
    start: ArrayLike, end: ArrayLike, radius: float, radius_end: float | None = None
) -> Solid:
    """A closed cylinder or cone from ``start`` to ``end``."""
    top = radius if radius_end is None else radius_end
    vertices, faces = revolve([(0.0, 0.0), (radius, 0.0), (top, 1.0), (0.0, 1.0)], sides=16)
    base = np.asarray(start, dtype=float)
    axis = np.asarray(end, dtype=float) - base
    # an orthonormal pair across the axis, whatever its direction
    helper = np.eye(3)[int(np.argmin(np.abs(axis)))]
    u = np.cross(axis, helper)
    u /= np.linalg.norm(u)
    v = np.cross(axis, u) / np.linalg.norm(axis)
    placed = vertices[:, :1] * u + vertices[:, 1:2] * axis + vertices[:, 2:] * v
    return placed + base, faces


def ellipsoid(centre: ArrayLike, radii: ArrayLike) -> Solid:
    """An ellipsoid with semi-axes ``radii``."""
    turn = np.linspace(-np.pi / 2, np.pi / 2, 13)
    vertices, faces = revolve([(max(np.cos(t), 0.0), np.sin(t)) for t in turn], sides=20)
    return vertices * np.asarray(radii) + np.asarray(centre), faces


def tube(path: ArrayLike, radius: float) -> Solid:
    """A round bar of constant radius along a polyline (P, 3), open at its ends.

    Cross-sections are carried along by projection, so the path may bend but not reverse.
    """
    line = np.asarray(path, dtype=float)
    tangent = np.gradient(line, axis=0)
    tangent /= np.linalg.norm(tangent, axis=1, keepdims=True)
    u = np.cross(tangent[0], np.eye(3)[int(np.argmin(np.abs(tangent[0])))])
    angles = np.linspace(0.0, 2.0 * np.pi, 10, endpoint=False)
    rings = []
    for point, direction in zip(line, tangent, strict=True):
        u = u - (u @ direction) * direction
        u /= np.linalg.norm(u)
        v = np.cross(direction, u)
        rings.append(point + radius * (np.cos(angles)[:, None] * u + np.sin(angles)[:, None] * v))
    return np.concatenate(rings), strip(len(line), len(angles))


def plate(outline: ArrayLike, thickness: float) -> Solid:
    """A star-shaped outline (P, 2) of (x, z), extruded ``thickness`` along y around y = 0."""
    flat = np.asarray(outline, dtype=float)
    count = len(flat)
    half = thickness / 2.0
    rings = [np.stack((flat[:, 0], np.full(count, y), flat[:, 1]), axis=1) for y in (-half, half)]
    middle = flat.mean(axis=0)
    centres = [[[middle[0], y, middle[1]]] for y in (-half, half)]
    vertices = np.concatenate([*rings, *centres])
    caps = [
        (2 * count + level, level * count + i, level * count + (i + 1) % count)
        for level in (0, 1)
        for i in range(count)
    ]
    return vertices, np.concatenate((strip(2, count), np.array(caps)))


def turned(solid: Solid, axis: int, degrees: float, about: ArrayLike = (0.0, 0.0, 0.0)) -> Solid:
    """The solid rotated about a line along ``axis`` (0 x, 1 y, 2 z) through ``about``."""
    vertices, faces = solid
    angle = np.deg2rad(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    matrix = np.eye(3)
    matrix[i, i] = matrix[j, j] = cos
    matrix[i, j], matrix[j, i] = -sin, sin
    pivot = np.asarray(about, dtype=float)
    return (vertices - pivot) @ matrix.T + pivot, faces


def moved(solid: Solid, by: ArrayLike) -> Solid:
    """The solid shifted by a vector."""
    return solid[0] + np.asarray(by), solid[1]


def strip(rings: int, sides: int) -> NDArray[np.int64]:
    """Faces joining consecutive rings of ``sides`` vertices each."""
    ring, side = (grid.ravel() for grid in np.indices((rings - 1, sides)))
    low = ring * sides
    here, after = low + side, low + (side + 1) % sides
    return np.concatenate(
        (
            np.stack((here, after, here + sides), axis=1),
            np.stack((after, after + sides, here + sides), axis=1),
        )
    )


class Assembly:
    """Solids with part names, joined to one mesh."""

    def __init__(self) -> None:
        self._solids: list[tuple[str, Solid]] = []

    def add(self, part: str, *solids: Solid) -> None:
        """Append solids that belong to ``part``."""
        self._solids += [(part, solid) for solid in solids]

    def mirrored(self, part: str, solid: Solid, axis: int) -> None:
        """Append a solid and its mirror image across the plane through 0 along ``axis``."""
        vertices, faces = solid
        flip = np.ones(3)
        flip[axis] = -1.0
        self.add(part, solid, (vertices * flip, faces))

    def mesh(self, part_index: dict[str, int]) -> Mesh:
        """All solids as one mesh; ``part_index`` gives the number of each part name."""
        start = 0
        vertices, faces, parts = [], [], []
        for part, (points, triangles) in self._solids:
            vertices.append(points)
            faces.append(triangles + start)
            parts.append(np.full(len(triangles), part_index[part], dtype=np.int64))
            start += len(points)
        return Mesh(np.concatenate(vertices), np.concatenate(faces), np.concatenate(parts))
