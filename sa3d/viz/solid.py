"""A shape drawn as a solid: its points lit as the surface they lie on, hidden ones left out."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from sa3d.viz.style import Palette

NEIGHBOURS: Final = 12
_LIGHT: Final = np.array([0.30, 0.80, 0.52]) / np.linalg.norm([0.30, 0.80, 0.52])  # y up
_CELL: Final = 0.05  # side of a cell of `facing`, in radii of the shape
_CELL_OF_FEW: Final = 2.5  # of P points: this over the root of P, so that few cells are empty
_STEEPEST: Final = 3.0  # depth that a surface may span in a cell, in sides of it

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

    The view is divided into cells of about the size of a dot. Hidden are the points that lie behind
    the nearest one of their cell by more than a surface that is seen from the side spans within it.
    The nearest point of a cell always stays, so that no part that is seen has a hole.
    """
    cell = max(_CELL, _CELL_OF_FEW / np.sqrt(max(len(projected), 1)))
    places = np.floor(projected[:, :2] / cell).astype(np.int64)
    _, cells = np.unique(places, axis=0, return_inverse=True)
    nearest = np.full(len(projected), -np.inf)
    np.maximum.at(nearest, cells.ravel(), projected[:, 2])
    return np.flatnonzero(projected[:, 2] >= nearest[cells.ravel()] - _STEEPEST * cell)
