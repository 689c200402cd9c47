"""Polygons in space to triangles that cover each polygon once."""

from __future__ import annotations

import mapbox_earcut
import numpy as np
from numpy.typing import NDArray

_TOLERANCE = 1e-6
"""Share of a polygon's area that a fan may cover outside it: above what rounded coordinates do
to corners on a straight line, below what a sample of the surface can show."""


def triangulate(
    vertices: NDArray[np.float64], corners: NDArray[np.int64], sizes: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Triangles (F, 3) as vertex numbers, wound as their polygons, and the polygon of each (F,).

    ``vertices`` (V, 3); ``corners`` (C,) holds the vertex numbers of all polygons one after the
    other, ``sizes`` (P,) how many each has. Polygons of fewer than three corners give nothing.

    A polygon becomes the fan of its first corner where that covers it once, as it does a convex
    one; others are cut on the plane of their normal by Newell's rule. Holes joined to the outline
    by a bridge (an edge walked there and back), repeated corners and corners on a straight line
    are taken. An outline that crosses itself encloses nothing definite: it is cut somehow.
    """
    starts = np.cumsum(sizes) - sizes
    counts = np.maximum(sizes - 2, 0)
    polygon = np.repeat(np.arange(len(sizes)), counts)
    second = starts[polygon] + 1 + np.arange(len(polygon)) - (np.cumsum(counts) - counts)[polygon]
    fans = np.stack((corners[starts[polygon]], corners[second], corners[second + 1]), axis=1)
    wrong, normals = _wrong_fans(vertices, fans, counts)
    if len(wrong) == 0:
        return fans, polygon
    pieces, owners = [fans[~np.isin(polygon, wrong)]], [polygon[~np.isin(polygon, wrong)]]
    for number, normal in zip(wrong.tolist(), normals, strict=True):
        outline = corners[starts[number] : starts[number] + sizes[number]]
        pieces.append(outline[_cut(vertices[outline], normal)])
        owners.append(np.full(len(pieces[-1]), number))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    return np.concatenate(pieces)[order], owner[order]


def _wrong_fans(
    vertices: NDArray[np.float64], fans: NDArray[np.int64], counts: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers of the polygons (W,) whose fan does not cover them once, and their normals (W, 3).

    The triangles' vector areas add up to Newell's vector of the polygon, and their signed areas
    to the polygon's. So the fan is right if no triangle is turned against the sum.
    """
    large = np.flatnonzero(counts > 1)  # a triangle is its own fan
    if len(large) == 0:
        return large, np.empty((0, 3))
    rows = np.flatnonzero(np.repeat(counts > 1, counts))
    begins = np.cumsum(counts[large]) - counts[large]
    a, b, c = (vertices[fans[rows, corner]] for corner in range(3))
    crosses = np.cross(b - a, c - a)
    newell = np.add.reduceat(crosses, begins)
    along = np.einsum("ij,ij->i", crosses, np.repeat(newell, counts[large], axis=0))
    lengths = np.linalg.norm(crosses, axis=1)
    length = np.linalg.norm(newell, axis=1)
    turned = np.minimum.reduceat(along, begins) < -_TOLERANCE * length**2
    # a sum of next to nothing has no direction, as of an outline in the shape of an 8
    cancelled = length < _TOLERANCE * np.add.reduceat(lengths, begins)
    for number in np.flatnonzero(cancelled).tolist():
        own = slice(begins[number], begins[number] + counts[large[number]])
        newell[number] = crosses[own][lengths[own].argmax()]
    wrong = turned | cancelled
    return large[wrong], newell[wrong]


def _cut(points: NDArray[np.float64], normal: NDArray[np.float64]) -> NDArray[np.int64]:
    """Triangles (T, 3) of one outline (n, 3) that its ``normal`` looks at, as rows of it."""
    normal = normal / np.linalg.norm(normal)
    across = np.cross(normal, np.eye(3)[np.abs(normal).argmin()])
    plane = np.stack((across, np.cross(normal, across)), axis=1)
    flat = (points - points[0]) @ plane
    ends = np.array([len(flat)], dtype=np.uint32)
    triangles = mapbox_earcut.triangulate_float64(flat, ends).astype(np.int64).reshape(-1, 3)
    a, b, c = (flat[triangles[:, corner]] for corner in range(3))
    doubled = (b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]
    triangles[doubled < 0] = triangles[doubled < 0, ::-1]
    return triangles
