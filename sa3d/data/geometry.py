"""Whether two meshes are the same geometry, wherever, however turned and at whatever size.

A surface is described by its moments: the means over its area of the products of up to four
coordinates, about its centroid, with the root mean square distance from it as the unit of length,
and the largest distance from it. They are exact integrals over the triangles, so the order of
vertices and faces, repeated vertices and the way in which flat faces are cut into triangles do not
matter, and rounded coordinates change them by no more than the rounding.

Two meshes are compared by the distance of their moments under the best rotation. *Same* geometry
is within :data:`SAME`, the rounding of text files; *alike* is within :data:`ALIKE`, mirror images
included. A mirror image of an asymmetric shape is alike, never the same.

Limits: moments up to order four do not tell a shape from its mirror image where what makes it
chiral shows in higher orders only (a screw thread), and the search for the best rotation, which
begins from the rotations of the cube, is not proven to find it for a shape of nearly equal
principal moments.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sa3d.data.mesh import Mesh

Floats = NDArray[np.float64]

SAME = 3e-5
"""Largest distance of moments of the same geometry. Of KiCad's 6 227 models, 519 pairs are within
1e-6 and 6 more, which differ by rounding or by the cut of faces into triangles, within 1.3e-5; the
next, two radial capacitors of other pin spacing, are 4.3e-5 apart."""

ALIKE = 5e-4
"""Largest distance of moments of shapes that belong to one family whatever their names: a mark or a
pad more. Above, at 9e-4, begin pin sockets of 38 and 40 pins, which must stay apart."""

# quadrature on a triangle, exact to degree 4: Dunavant 1985, table for p = 4
_A, _WEIGHT_A = 0.445948490915965, 0.223381589678011
_B, _WEIGHT_B = 0.091576213509771, 0.109951743655322
_CORNERS = np.array(
    [[1 - 2 * p if i == j else p for j in range(3)] for p in (_A, _B) for i in range(3)]
)
_WEIGHTS = np.repeat((_WEIGHT_A, _WEIGHT_B), 3)
_BLOCK = 2048  # faces at once, so that their products stay in the cache

_PAIRS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
# column of each product x_i x_j of the nine, in the six different ones
_OF_NINE = np.array([_PAIRS.index((min(i, j), max(i, j))) for i in range(3) for j in range(3)])
_TRACE = [0, 4, 8]


class Moments(NamedTuple):
    """Moments of a surface in the frame of its principal axes.

    ``radius``: largest distance from the centroid. ``second`` (3, 3), ``third`` (3, 9) and
    ``fourth`` (9, 9): means of x_i x_j, x_i (x_j x_k) and (x_i x_j) (x_k x_l).
    """

    radius: float
    second: Floats
    third: Floats
    fourth: Floats


class Likeness(NamedTuple):
    """``same`` and ``alike`` (S,): equal numbers for shapes linked by a chain of pairs that are the
    same, or alike. Shapes that are the same are alike, too."""

    same: NDArray[np.int64]
    alike: NDArray[np.int64]


def moments(mesh: Mesh) -> Moments:
    """Moments of a mesh that has some area; faces without area count for nothing."""
    corners = np.ascontiguousarray(mesh.vertices[mesh.faces].transpose(2, 1, 0))  # (3, 3, F)
    doubled = np.cross(
        corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0], axisa=0, axisb=0, axisc=0
    )
    area = np.sqrt((doubled**2).sum(axis=0))
    corners, area = corners[:, :, area > 0.0], area[area > 0.0]
    share = area / area.sum()
    corners -= (corners.mean(axis=1) @ share)[:, None, None]
    corners /= np.sqrt((corners**2).sum(axis=0).max())
    raw = np.zeros((9, 9))
    for start in range(0, len(share), _BLOCK):
        raw += _products(corners[:, :, start : start + _BLOCK], share[start : start + _BLOCK])
    unit = float(np.sqrt(np.trace(raw[:3, :3])))
    second = raw[:3, :3] / unit**2
    third = raw[:3, 3:][:, _OF_NINE] / unit**3
    fourth = raw[3:, 3:][np.ix_(_OF_NINE, _OF_NINE)] / unit**4
    axes = np.linalg.eigh(second)[1].T
    axes[0] *= np.linalg.det(axes)  # a rotation, not a reflection
    return Moments(1.0 / unit, *_turned(axes, second, third, fourth))


def likeness(shapes: Sequence[Moments]) -> Likeness:
    """Which of the shapes are the same and which are alike.

    Compares the pairs that :func:`invariants` cannot tell apart, not all pairs.
    """
    from scipy.cluster.hierarchy import DisjointSet
    from scipy.spatial import cKDTree

    if not shapes:
        return Likeness(np.empty(0, np.int64), np.empty(0, np.int64))
    keys = np.array([invariants(shape) for shape in shapes])
    same, alike = DisjointSet(range(len(shapes))), DisjointSet(range(len(shapes)))
    near = cKDTree(keys).query_pairs(ALIKE, p=np.inf, output_type="ndarray")
    for a, b in near[np.lexsort(near.T[::-1])].tolist():
        bound = float(np.abs(keys[a] - keys[b]).max())
        if same.connected(a, b) or (bound > SAME and alike.connected(a, b)):
            continue
        found = distance(shapes[a], shapes[b])
        if found <= SAME:
            same.merge(a, b)
        if found <= ALIKE or distance(shapes[a], _mirrored(shapes[b])) <= ALIKE:
            alike.merge(a, b)
    return Likeness(_numbers(same.subsets()), _numbers(alike.subsets()))


def invariants(shape: Moments) -> Floats:
    """Numbers (17,) that no rotation or reflection changes, each of which differs between two
    shapes by no more than :func:`distance`: eigenvalues and singular values move by no more than
    the Frobenius norm of the difference of the matrices (Weyl), a sum of three entries by no more
    than the root of 3 times it.
    """
    traces = np.sqrt(3.0)
    contracted = shape.fourth[:, _TRACE].sum(axis=1).reshape(3, 3) / traces
    odd = shape.third[:, _TRACE].sum(axis=1) / traces
    return np.concatenate(
        (
            np.array([shape.radius, float(np.linalg.norm(odd))]),
            np.linalg.eigvalsh(shape.second),
            np.linalg.svd(shape.third, compute_uv=False),
            np.linalg.eigvalsh(contracted),
            np.linalg.eigvalsh(shape.fourth)[3:],  # three of nine are 0: x_i x_j is x_j x_i
        )
    )


def distance(a: Moments, b: Moments) -> float:
    """Root of the sum of squared differences of all moments, under the best rotation of ``b``.

    The search ends at the first rotation that shows the shapes to be the same.
    """
    from scipy.optimize import least_squares
    from scipy.spatial.transform import Rotation

    def difference(vector: Floats) -> Floats:
        turned = _turned(Rotation.from_rotvec(vector).as_matrix(), *b[1:])
        parts = [(x - y).ravel() for x, y in zip(a[1:], turned, strict=True)]
        return np.concatenate([[a.radius - b.radius], *parts])

    least = np.inf
    for start in _starts(a, b):
        found = float(np.linalg.norm(difference(start)))
        if found > SAME:
            refined = least_squares(difference, start, method="lm").x
            found = float(np.linalg.norm(difference(refined)))
        least = min(least, found)
        if least <= SAME:
            break
    return least


def _starts(a: Moments, b: Moments) -> Iterator[Floats]:
    """Rotation vectors to begin the search with, the most promising first.

    One is not enough: of a shape whose top is nearly its bottom, the upside-down one can look
    better than the right one turned by a few degrees, and no small step leads from one to the
    other. Those that put principal axes on others of clearly different moments are left out.
    """
    matrices, vectors = _cube_rotations()
    turned = _turned(matrices, *b[1:])
    squared = [((x - y) ** 2).sum(axis=(1, 2)) for x, y in zip(a[1:], turned, strict=True)]
    # alike shapes can be 45 degrees or more from their common axes only where two principal moments
    # differ by less than twice ALIKE; to swap these axes costs the root of 2 times that
    allowed = (4.0 * ALIKE) ** 2
    for number in np.argsort(sum(squared)):
        if squared[0][number] <= allowed:
            yield vectors[number]


def _products(corners: Floats, share: Floats) -> Floats:
    """Integrals (9, 9) of all products of x, y, z, xx, xy, xz, yy, yz, zz over triangles."""
    points = _CORNERS @ corners  # (3, 6, F)
    values = np.empty((9, *points.shape[1:]))
    values[:3] = points
    for row, (i, j) in enumerate(_PAIRS, start=3):
        np.multiply(points[i], points[j], out=values[row])
    weighted = values * (_WEIGHTS[:, None] * share)
    result: Floats = weighted.reshape(9, -1) @ values.reshape(9, -1).T
    return result


def _turned(
    rotation: Floats, second: Floats, third: Floats, fourth: Floats
) -> tuple[Floats, Floats, Floats]:
    """Moments after ``rotation`` (..., 3, 3) of the points."""
    twice = np.einsum("...ij,...kl->...ikjl", rotation, rotation)
    twice = twice.reshape(*rotation.shape[:-2], 9, 9)
    first, second_factor = np.swapaxes(rotation, -1, -2), np.swapaxes(twice, -1, -2)
    return (
        rotation @ second @ first,
        rotation @ third @ second_factor,
        twice @ fourth @ second_factor,
    )


def _mirrored(shape: Moments) -> Moments:
    """Moments of the point reflection: those of odd order change their sign."""
    return shape._replace(third=-shape.third)


@cache
def _cube_rotations() -> tuple[Floats, Floats]:
    """The 24 rotations of the cube, as matrices (24, 3, 3) and as vectors (24, 3): principal axes
    leave four of them to choose from, or more where principal moments are nearly equal."""
    from scipy.spatial.transform import Rotation

    rotations = Rotation.create_group("O")
    return rotations.as_matrix(), rotations.as_rotvec()


def _numbers(subsets: list[set[int]]) -> NDArray[np.int64]:
    """Number of the subset that each of 0, 1, 2, ... is in."""
    numbers = np.empty(sum(map(len, subsets)), dtype=np.int64)
    for number, members in enumerate(subsets):
        numbers[list(members)] = number
    return numbers
