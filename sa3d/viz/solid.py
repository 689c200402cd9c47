"""A shape drawn as a solid: its points lit as the surface they lie on, hidden ones left out."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.viz.clouds import DISTANCE
from sa3d.viz.style import Palette

NEIGHBOURS: Final = 12
_LIGHT: Final = np.array([0.30, 0.80, 0.52]) / np.linalg.norm([0.30, 0.80, 0.52])  # y up
_FLIP: Final = 2.2  # radius of the sphere of `facing`, as power of 10; larger ones hide less

Floats = NDArray[np.float64]


def lightness(points: NDArray[Any]) -> Floats:
    """How much light falls on each point (P,), in [0, 1].

    The direction of the surface is that in which the nearest points spread least. It has no sign,
    so that both sides of a surface are lit.
    """
    from scipy.spatial import cKDTree

    place = np.asarray(points, dtype=np.float64)
    near = cKDTree(place).query(place, k=min(NEIGHBOURS, len(place)))[1].reshape(len(place), -1)
    around = place[near] - place[near].mean(axis=1, keepdims=True)
    _, vectors = np.linalg.eigh(np.einsum("pki,pkj->pij", around, around))
    lit: Floats = np.abs(vectors[:, :, 0] @ _LIGHT)
    return lit


def tints(light: Floats, color: str, palette: Palette) -> Floats:
    """Colours (P, 3) of points of a surface of one colour under that light."""
    from matplotlib.colors import to_rgb

    own, paper = np.array(to_rgb(color)), np.array(to_rgb(palette.paper))
    ends = sorted((0.30 * own, own + 0.72 * (paper - own)), key=lambda rgb: float(rgb.sum()))
    dark, bright = ends
    found: Floats = dark + (bright - dark) * light[:, None]
    return found


def facing(projected: Floats) -> NDArray[np.int64]:
    """Which projected points (P, 3) no others hide from the viewer.

    Points are mirrored at a large sphere around the viewer; those on the convex hull of the result
    are visible (Katz, Tal and Basri 2007). Of points that make no solid, as those of a plane, all
    are kept.
    """
    from scipy.spatial import ConvexHull, QhullError

    seen = projected - np.array([0.0, 0.0, DISTANCE])
    far = np.linalg.norm(seen, axis=1, keepdims=True)
    mirrored = seen + 2 * (far.max() * 10**_FLIP - far) * seen / far
    try:
        hull = ConvexHull(np.vstack([mirrored, np.zeros(3)]))
    except QhullError:
        return np.arange(len(projected))
    visible: NDArray[np.int64] = np.sort(hull.vertices[hull.vertices < len(projected)])
    return visible.astype(np.int64)
