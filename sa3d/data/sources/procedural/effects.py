"""What happens to the surface of a composition: parts that are not seen, and bending."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from sa3d.data.sources.procedural.composing import Composition, random_rotation
from sa3d.data.sources.procedural.solids import Array, Bools
from sa3d.data.sources.procedural.surface import Keep

_CELLS = 28  # of the depth image along a side


def plane_cut(whole: Composition, rng: Generator) -> Keep:
    """Only one side of a plane stays, through 10 to 40 % of the solids' vertices."""
    normal = _direction(rng)
    along = np.concatenate([solid.vertices for solid in whole.solids]) @ normal
    end = np.quantile(along, rng.uniform(0.6, 0.9))

    def keep(points: Array) -> Bools:
        return np.asarray(points @ normal < end)

    return keep


def one_view(whole: Composition, rng: Generator) -> Keep:
    """Only what is seen from one direction stays: the nearest points of a coarse depth image."""
    turn = random_rotation(rng)
    seen = np.concatenate([solid.vertices for solid in whole.solids]) @ turn.T
    low, high = seen.min(0), seen.max(0)
    size = float((high - low).max()) or 1.0
    slack = 2.0 / _CELLS * size

    def keep(points: Array) -> Bools:
        eye = points @ turn.T
        cell = np.clip(((eye[:, :2] - low[:2]) * (_CELLS / size)).astype(np.int64), 0, _CELLS - 1)
        flat = cell[:, 0] * _CELLS + cell[:, 1]
        nearest = np.full(_CELLS * _CELLS, np.inf)
        np.minimum.at(nearest, flat, eye[:, 2])
        return np.asarray(eye[:, 2] < nearest[flat] + slack)

    return keep


def uneven(whole: Composition, rng: Generator) -> Keep:
    """The density falls along a direction, or away from a point, to between 5 and 40 %."""
    vertices = np.concatenate([solid.vertices for solid in whole.solids])
    point = vertices[int(rng.integers(len(vertices)))]
    normal, radial = _direction(rng), bool(rng.random() < 0.5)

    def away(points: Array) -> Array:
        moved = points - point
        far = np.einsum("ij,ij->i", moved, moved)
        return np.asarray(np.sqrt(far) if radial else moved @ normal)

    reach = away(vertices)
    low, span = reach.min(), float(np.ptp(reach)) or 1.0
    fall = np.log(rng.uniform(0.05, 0.4))

    def keep(points: Array) -> Bools:
        return np.asarray(rng.random(len(points)) < np.exp(fall * (away(points) - low) / span))

    return keep


def centred(points: Array) -> Array:
    """In the unit sphere: the centroid at 0, the largest radius 1."""
    moved = points - np.ones(len(points)) @ points / len(points)  # faster than their mean
    return np.asarray(moved / (np.sqrt(np.einsum("ij,ij->i", moved, moved).max()) or 1.0))


def dented(points: Array, rng: Generator) -> Array:
    """One to three dents or bulges, of points in the unit sphere."""
    for _ in range(int(rng.integers(1, 4))):
        at = points[int(rng.integers(len(points)))]
        moved = points - at
        width, depth = rng.uniform(0.12, 0.4), rng.uniform(-0.3, 0.5)
        near = np.exp(np.einsum("ij,ij->i", moved, moved) / -(width * width))
        length = np.sqrt(at @ at) or 1.0
        points = points - (depth * width / length * near)[:, None] * at
    return points


def displaced(points: Array, rng: Generator) -> Array:
    """Smooth noise: a sum of four waves of random direction, of points in the unit sphere."""
    waves = 4
    frequency = rng.normal(0.0, 1.0, (3, waves)) * rng.uniform(1.5, 7.0)
    push = rng.normal(0.0, rng.uniform(0.01, 0.045), (waves, 3))
    phase = rng.uniform(0.0, 2.0 * np.pi, waves)
    moved: Array = points + np.sin(points @ frequency + phase) @ push
    return moved


def deformed(points: Array, rng: Generator) -> Array:
    """Twisted about, tapered along or bent around a random axis, of points in the unit sphere."""
    turn = random_rotation(rng) if rng.random() < 0.4 else np.eye(3)[rng.permutation(3)]
    x, y, z = (points @ turn.T).T
    way = int(rng.integers(3))
    if way == 0:
        angle = rng.uniform(0.4, 2.2) * y
        cos, sin = np.cos(angle), np.sin(angle)
        x, z = cos * x - sin * z, sin * x + cos * z
    elif way == 1:
        factor = 1.0 - rng.uniform(0.3, 0.8) * (y + 1.0) / 2.0
        x, z = x * factor, z * factor
    else:
        bend = rng.uniform(0.4, 1.5)  # radians a unit of length; 1 / bend is the radius
        angle, out = bend * y, 1.0 / bend + x
        x, y = out * np.cos(angle) - 1.0 / bend, out * np.sin(angle)
    back: Array = np.stack((x, y, z), axis=1) @ turn
    return back


def _direction(rng: Generator) -> Array:
    vector = rng.standard_normal(3)
    unit: Array = vector / np.sqrt(vector @ vector)
    return unit
