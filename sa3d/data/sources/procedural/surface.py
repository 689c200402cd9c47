"""Points of a composition: uniform by area on what remains of its solids' surfaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

from sa3d.data.sources.procedural.composing import Composition
from sa3d.data.sources.procedural.solids import Array, Bools, Solid

Keep = Callable[[Array], Bools]
"""Which of the points (M, 3) stay."""

_ROUNDS = 8  # of drawing points, before a surface is given up
_LEAST = 0.02  # share of the drawn points that must remain


def sample(whole: Composition, count: int, keeps: Sequence[Keep], rng: Generator) -> Array | None:
    """``count`` points (count, 3) uniform on what remains, in random order.

    Points are drawn on all surfaces, and those stay that the joining and all of ``keeps`` leave.

    Returns:
        The points; None where next to nothing remains.
    """
    draw = Edges(whole.solids) if whole.joining == "wireframe" else Faces(whole.solids)
    found: list[Array] = []
    have, drawn = 0, 0
    ask = 2 * count if keeps or whole.joining in ("intersection", "difference") else count
    for _ in range(_ROUNDS):
        points, owner = draw(ask, rng)
        stays = remains(whole, points, owner)
        points = points if stays is None else points[stays]
        for keep in keeps:
            points = points[keep(points)]
        found.append(points)
        have, drawn = have + len(points), drawn + ask
        if have >= count:
            return np.concatenate(found)[:count]
        if have < _LEAST * drawn:
            return None
        ask = int(min(8 * count, 1.2 * (count - have) * drawn / have + 64))
    return None


def remains(whole: Composition, points: Array, owner: Array) -> Bools | None:
    """Which points belong to the surface of the joined solids; None: all.

    Args:
        whole: the composition.
        points: (M, 3) on the surfaces of its solids.
        owner: (M,) the solid of each.
    """
    solids, cutters = whole.solids, whole.cutters
    if whole.joining in ("collage", "wireframe") or len(solids) == 1:
        return None
    within = _within(solids, points, owner)
    bodies = len(solids) - cutters
    cut: Bools = owner >= bodies
    if whole.joining == "intersection":
        others = within[2:].any(axis=0)
        both = within[:2].all(axis=0)
        # a point on one of the two remains inside the other
        stays = np.where(owner < 2, within[1 - np.minimum(owner, 1), np.arange(len(owner))], ~both)
        return np.asarray(stays & ~others)
    in_body, in_cutter = within[:bodies].any(axis=0), within[bodies:].any(axis=0)
    return np.asarray(np.where(cut, in_body, ~in_body) & ~in_cutter)


def _within(solids: Sequence[Solid], points: Array, owner: Array) -> Bools:
    """(K, M) whether each point lies inside each solid; a point is not inside its own one."""
    inverse = np.linalg.inv(np.stack([solid.matrix for solid in solids]))
    centres = np.stack([solid.centre for solid in solids])
    shift = inverse @ centres[:, :, None]
    local = inverse @ points.T - shift  # (K, 3, M)
    within = np.zeros((len(solids), len(points)), dtype=bool)
    near = np.abs(local).max(axis=1) < 1.0
    for row, solid in enumerate(solids):
        if solid.closed:
            at = np.flatnonzero(near[row] & (owner != row))
            if len(at):
                within[row, at] = solid.inside(local[row].T[at])
    return within


class Faces:
    """Draws points uniformly by area on all faces of some solids."""

    def __init__(self, solids: Sequence[Solid]) -> None:
        corners = [solid.vertices[solid.faces] for solid in solids]
        self._owner = np.repeat(np.arange(len(solids)), [len(each) for each in corners])
        a, b, c = (np.concatenate([each[:, i] for each in corners]) for i in range(3))
        self._a, self._ab, self._ac = a, b - a, c - a
        cross = _cross(self._ab, self._ac)
        self._ends = np.cumsum(np.sqrt(np.einsum("ij,ij->i", cross, cross)))

    def __call__(self, count: int, rng: Generator) -> tuple[Array, Array]:
        """Points (count, 3) and the solid of each (count,)."""
        u = rng.random((3, count))
        face = np.searchsorted(self._ends, u[0] * self._ends[-1], side="right")
        # the square root rule (Osada et al. 2002, section 3.2)
        root = np.sqrt(u[1])
        b, c = (root * (1.0 - u[2]))[:, None], (root * u[2])[:, None]
        points = self._a.take(face, 0) + b * self._ab.take(face, 0) + c * self._ac.take(face, 0)
        return points, self._owner.take(face)


class Edges:
    """Draws points uniformly by length along the edges of some solids, as thin round wires."""

    def __init__(self, solids: Sequence[Solid]) -> None:
        ends = [solid.vertices[solid.edges] for solid in solids]
        self._owner = np.repeat(np.arange(len(solids)), [len(each) for each in ends])
        pairs = np.concatenate(ends)
        self._a, self._ab = pairs[:, 0], pairs[:, 1] - pairs[:, 0]
        self._ends = np.cumsum(np.sqrt(np.einsum("ij,ij->i", self._ab, self._ab)))
        self._thick = 0.01 * np.abs(pairs - pairs.mean((0, 1))).max()

    def __call__(self, count: int, rng: Generator) -> tuple[Array, Array]:
        """Points (count, 3) and the solid of each (count,)."""
        u = rng.random((2, count))
        edge = np.searchsorted(self._ends, u[0] * self._ends[-1], side="right")
        points = self._a.take(edge, 0) + u[1][:, None] * self._ab.take(edge, 0)
        return points + self._thick * rng.standard_normal((count, 3)), self._owner.take(edge)


def _cross(a: Array, b: Array) -> Array:
    """``np.cross`` of (M, 3) without its overhead."""
    found = np.empty_like(a)
    for i, j, k in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        found[:, i] = a[:, j] * b[:, k] - a[:, k] * b[:, j]
    return found
