"""Random solids of the ``procedural`` source: their surface as a grid, and which points are inside.

Almost every solid is the product of two plane curves: an *outline* (x, z) that goes once around
the y axis and a *profile* (radius, height): vertex (r, s) of the grid is outline point s, scaled by
the radius of profile point r, at its height. A box is a square times a rectangle's half, a torus a
circle times a circle beside the axis, a superquadric two superellipses (Barr 1981). All four
corners of a cell of the grid lie in one plane, and whether a point is inside follows exactly from
the two curves: the outline tells how far out it is, in radii, and the profile the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from sa3d.data.sources.shapes.solids import strip

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]

_AROUND = 24  # points of a smooth outline
_ALONG = 11  # points of a smooth profile


@dataclass(frozen=True)
class Solid:
    """A grid of vertices in own coordinates, within [-1, 1]^3, and where it lies.

    Attributes:
        grid: (R, S, 3) vertices; the last of the S columns is followed by the first.
        outline: (S, 2), ascending in angle around (0, 0), which sees all of it.
        profile: (R, 2) radius and height. It begins and ends on the axis, or is a loop beside it.
        closed: it has an inside; an open surface has none.
        matrix: (3, 3) from own coordinates to those of the cloud.
        centre: (3,) where the own origin lies in the cloud.
    """

    grid: Array
    outline: Array
    profile: Array
    closed: bool
    matrix: Array
    centre: Array

    @cached_property
    def vertices(self) -> Array:
        """(R * S, 3) in the cloud's coordinates."""
        placed: Array = self.grid.reshape(-1, 3) @ self.matrix.T + self.centre
        return placed

    @property
    def faces(self) -> NDArray[np.int64]:
        """(F, 3) rows of :attr:`vertices`."""
        return _faces(*self.grid.shape[:2])

    @property
    def edges(self) -> NDArray[np.int64]:
        """(E, 2) rows of :attr:`vertices`: some rings and some lines from ring to ring, but none
        across a flat cap."""
        rings, sides = self.grid.shape[:2]
        around, along = _edges(rings, sides)
        wide = self.profile[:, 0] > 0.0
        rising = self.profile[1:, 1] != self.profile[:-1, 1]
        kept = around[wide[around[:, 0] // sides]], along[rising[along[:, 0] // sides]]
        return np.concatenate(kept)

    def moved(self, matrix: Array, shift: Array) -> Solid:
        """This solid after a further affine map of the cloud's space."""
        return replace(self, matrix=matrix @ self.matrix, centre=matrix @ self.centre + shift)

    def inside(self, local: Array) -> Bools:
        """Which of the points (M, 3), in own coordinates, lie inside."""
        radius = gauge(self.outline, local[:, 0], local[:, 2])
        return within_profile(self.profile, radius, local[:, 1])


def gauge(outline: Array, x: Array, z: Array) -> Array:
    """By which factor the outline must be scaled to pass through each point: 1 on the outline."""
    angles = np.arctan2(outline[:, 1], outline[:, 0])
    turned = (np.arctan2(z, x) - angles[0]) % (2.0 * np.pi)
    sector = ((angles - angles[0]) % (2.0 * np.pi)).searchsorted(turned, side="right") - 1
    # p = u a + v b with the sector's corners a and b; u + v is linear in p
    a_x, a_z = outline.T
    following = np.arange(1 - len(outline), 1)
    b_x, b_z = a_x[following], a_z[following]
    area = a_x * b_z - a_z * b_x
    return np.asarray(x * ((b_z - a_z) / area)[sector] + z * ((a_x - b_x) / area)[sector])


def within_profile(profile: Array, radius: Array, height: Array) -> Bools:
    """Which points (radius, height) lie within the profile and the axis: those from which a ray
    away from the axis crosses it an odd number of times."""
    (r, h), (r_next, h_next) = profile[:-1].T, profile[1:].T
    rising = h_next - h
    slope = np.divide(r_next - r, rising, out=np.zeros_like(rising), where=rising != 0.0)
    passes = (h[:, None] > height) != (h_next[:, None] > height)
    beyond = radius < r[:, None] + (height - h[:, None]) * slope[:, None]
    return np.asarray(np.logical_xor.reduce(passes & beyond, axis=0))


def product(outline: Array, profile: Array, *, closed: bool = True) -> Solid:
    """The solid of an outline and a profile, around the origin."""
    grid = np.empty((len(profile), len(outline), 3))
    grid[..., 0] = profile[:, :1] * outline[:, 0]
    grid[..., 1] = profile[:, 1:]
    grid[..., 2] = profile[:, :1] * outline[:, 1]
    return Solid(grid, outline, profile, closed, np.eye(3), np.zeros(3))


# --- outlines ----------------------------------------------------------------------------


@lru_cache(maxsize=64)
def circle(sides: int = _AROUND) -> Array:
    """A regular polygon; of 24 sides, a circle for our purposes."""
    angle = np.arange(sides) * (2.0 * np.pi / sides)
    return _fixed(np.stack((np.cos(angle), np.sin(angle)), axis=1))


@lru_cache(maxsize=1)
def square() -> Array:
    """The square with corners at (+-1, +-1)."""
    return _fixed(np.array([(1.0, 1.0), (-1.0, 1.0), (-1.0, -1.0), (1.0, -1.0)]))


def superellipse(exponent: float) -> Array:
    """|x|^(2/e) + |z|^(2/e) = 1; e = 1 is a circle, towards 0 a square, 2 a rhombus."""
    unit = circle()
    return np.asarray(np.sign(unit) * np.abs(unit) ** exponent)


def _star(rng: Generator) -> Array:
    tips = int(rng.integers(3, 9))
    points = circle(2 * tips).copy()
    points[1::2] *= rng.uniform(0.35, 0.8)
    return points


def _gear(rng: Generator) -> Array:
    teeth = int(rng.integers(5, 11))
    points = circle(4 * teeth).copy()
    points.reshape(teeth, 4, 2)[:, 2:] *= rng.uniform(0.6, 0.9)
    return points


def _wavy(rng: Generator) -> Array:
    angle = np.arange(_AROUND) * (2.0 * np.pi / _AROUND)
    radius = 1.0 + rng.uniform(0.1, 0.4) * np.sin(int(rng.integers(2, 6)) * angle)
    radius += rng.uniform(0.0, 0.2) * np.sin(angle * int(rng.integers(1, 4)) + rng.uniform(0, 6))
    return np.asarray(circle() * (radius / radius.max())[:, None])


def _cross(rng: Generator) -> Array:
    a, b = rng.uniform(0.15, 0.6, 2)
    quarter = np.array([(1.0, a), (b, a), (b, 1.0)])
    return np.concatenate((quarter, quarter[::-1] * (-1, 1), -quarter, quarter[::-1] * (1, -1)))


def _corner(rng: Generator) -> Array:
    """An L of two bars; the origin lies where both meet."""
    a, b = rng.uniform(0.1, 0.4, 2)
    return np.array([(1.0, b), (a, b), (a, 1.0), (-a, 1.0), (-a, -b), (1.0, -b)])


def _tee(rng: Generator) -> Array:
    a, b = rng.uniform(0.1, 0.4, 2)
    outline = [(1, b), (-1, b), (-1, -b), (-a, -b), (-a, -1), (a, -1), (a, -b), (1, -b)]
    return np.array(outline, dtype=float)


_UNUSUAL: tuple[Callable[[Generator], Array], ...] = (_star, _gear, _wavy, _cross, _corner, _tee)


# --- profiles ----------------------------------------------------------------------------


def _curve(*points: tuple[float, float]) -> Array:
    return np.array(points, dtype=float)


FLAT = _curve((0, -1), (1, -1), (1, 1), (0, 1))
"""The profile of prisms and cylinders."""


def superprofile(exponent: float, start: float = -0.5) -> Array:
    """The right half of a superellipse, from the angle ``start`` (in units of pi) upwards."""
    angle = np.linspace(start * np.pi, 0.5 * np.pi, _ALONG)
    cos, sin = np.maximum(np.cos(angle), 0.0), np.sin(angle)
    cos[-1] = 0.0
    if start == -0.5:
        cos[0] = 0.0
    return np.stack((cos**exponent, np.sign(sin) * np.abs(sin) ** exponent), axis=1)


def _tapered(rng: Generator) -> Array:
    top = 0.0 if rng.random() < 0.4 else float(rng.uniform(0.1, 0.8))
    return _curve((0, -1), (1, -1), (top, 1), (0, 1))


def _dome(rng: Generator) -> Array:
    """A half ball with a flat bottom, stretched to the whole height."""
    half = superprofile(rng.uniform(0.6, 1.2), start=0.0)
    half[:, 1] = 2.0 * half[:, 1] - 1.0
    return np.concatenate(([(0.0, -1.0)], half))


def _chamfered(rng: Generator) -> Array:
    c = float(rng.uniform(0.05, 0.4))
    return _curve((0, -1), (1 - c, -1), (1, c - 1), (1, 1 - c), (1 - c, 1), (0, 1))


def _turned(rng: Generator) -> Array:
    """Random radii at ascending heights, as a lathe leaves them."""
    count = int(rng.integers(4, 8))
    radii = rng.uniform(0.2, 1.0, count)
    heights = np.sort(rng.uniform(-1.0, 1.0, count))
    heights[0], heights[-1] = -1.0, 1.0
    if rng.random() < 0.3:  # steps instead of slopes
        radii, heights = np.repeat(radii, 2)[1:-1], np.repeat(heights, 2)[:-2]
        heights[-1] = 1.0
    body = np.stack((radii / radii.max(), heights), axis=1)
    return np.concatenate(([(0.0, body[0, 1])], body, [(0.0, body[-1, 1])]))


def _ring(rng: Generator) -> Array:
    """A loop beside the axis: a torus, or a ring of rectangular section."""
    thick = float(rng.uniform(0.08, 0.45))
    if rng.random() < 0.35:
        inner = 1.0 - 2.0 * thick
        return _curve((inner, -1), (1, -1), (1, 1), (inner, 1), (inner, -1))
    angle = np.linspace(0.0, 2.0 * np.pi, 11)
    loop = np.stack((1.0 - thick + thick * np.cos(angle), np.sin(angle)), axis=1)
    loop[-1] = loop[0]
    return loop


def _sheet(rng: Generator) -> Array:
    hole = 0.0 if rng.random() < 0.7 else float(rng.uniform(0.2, 0.8))
    return _curve((hole, 0), (1, 0))


def _shell(rng: Generator) -> Array:
    """A bowl or an open pipe."""
    if rng.random() < 0.5:
        half = superprofile(rng.uniform(0.5, 1.3), start=0.0)
        half[:, 1] = 2.0 * half[:, 1] - 1.0
        return half
    return _curve((1, -1), (rng.uniform(0.4, 1.0), 1))


# --- the primitives ----------------------------------------------------------------------


def _polygon(rng: Generator) -> Array:
    return circle(int(rng.choice((3, 5, 6, 8))))


def _simple(rng: Generator) -> Array:
    return (square(), circle(), circle(), _polygon(rng))[int(rng.integers(4))]


def _bar(rng: Generator) -> Solid:
    """A round bar, straight to strongly bent in a plane, or rising as a screw; open at its ends."""
    t = np.linspace(-1.0, 1.0, 12)
    heading = rng.uniform(-2.6, 2.6) * t + rng.uniform(-1.0, 1.0) * np.sin(np.pi * t)
    if rng.random() < 0.25:
        heading = rng.uniform(2.6, 5.5) * t
    path = np.cumsum(np.stack((np.cos(heading), np.sin(heading)), axis=1), axis=0)
    path -= (path.max(0) + path.min(0)) / 2
    radius = rng.uniform(0.04, 0.2)
    path *= (1.0 - radius) / np.abs(path).max()
    round_, across = circle(8), np.stack((-np.sin(heading), np.cos(heading)), axis=1)
    grid = np.empty((len(t), len(round_), 3))
    grid[..., [0, 2]] = path[:, None] + radius * round_[None, :, :1] * across[:, None]
    rise = rng.uniform(-0.8, 0.8) if rng.random() < 0.3 else 0.0
    grid[..., 1] = radius * round_[:, 1] + rise * t[:, None]
    straight = np.stack((np.ones_like(t), t), axis=1)  # an open pipe, which is then bent
    return Solid(grid, round_, straight, False, np.eye(3), np.zeros(3))


PRIMITIVES: dict[str, tuple[float, Callable[[Generator], Solid]]] = {
    "box": (0.2, lambda rng: product(square(), FLAT)),
    "cylinder": (0.15, lambda rng: product(circle(), FLAT)),
    "sphere": (0.07, lambda rng: product(circle(), superprofile(1.0))),
    "cone": (0.07, lambda rng: product(_simple(rng), _tapered(rng))),
    "torus": (0.07, lambda rng: product(_simple(rng), _ring(rng))),
    "prism": (0.06, lambda rng: product(_polygon(rng), FLAT)),
    "dome": (0.04, lambda rng: product(_simple(rng), _dome(rng))),
    "superquadric": (
        0.08,
        lambda rng: product(
            superellipse(rng.uniform(0.2, 1.8)), superprofile(rng.uniform(0.2, 1.8))
        ),
    ),
    "extruded": (
        0.09,
        lambda rng: product(
            _UNUSUAL[int(rng.integers(len(_UNUSUAL)))](rng),
            FLAT if rng.random() < 0.7 else _tapered(rng),
        ),
    ),
    "chamfered": (0.04, lambda rng: product(_simple(rng), _chamfered(rng))),
    "turned": (0.06, lambda rng: product(_simple(rng), _turned(rng))),
    # these have no inside
    "sheet": (0.03, lambda rng: product(_simple(rng), _sheet(rng), closed=False)),
    "shell": (0.02, lambda rng: product(_simple(rng), _shell(rng), closed=False)),
    "bar": (0.02, _bar),
}
"""How often each is drawn, and how."""

_OPEN = 3  # the last of them
_MAKERS: Sequence[Callable[[Generator], Solid]] = [make for _, make in PRIMITIVES.values()]
_SHARES = np.cumsum([share for share, _ in PRIMITIVES.values()])


def random_solid(rng: Generator, *, closed: bool = False) -> Solid:
    """One of :data:`PRIMITIVES` with random proportions; with ``closed`` one that has an inside."""
    end = _SHARES[-1 - _OPEN] if closed else _SHARES[-1]
    return _MAKERS[int(np.searchsorted(_SHARES, rng.random() * end, side="right"))](rng)


def _fixed(array: Array) -> Array:
    array.setflags(write=False)  # it is shared
    return array


@lru_cache(maxsize=256)
def _faces(rings: int, sides: int) -> NDArray[np.int64]:
    faces = strip(rings, sides)
    faces.setflags(write=False)
    return faces


@lru_cache(maxsize=256)
def _edges(rings: int, sides: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Edges around every ring, or every second of many; and edges from each ring to the next."""
    ring = np.arange(0, rings, 1 if rings < 9 else 2)
    side = np.arange(sides)
    around = np.stack(
        (ring[:, None] * sides + side, ring[:, None] * sides + (side + 1) % sides), axis=-1
    )
    step = 1 if sides <= 8 else max(1, sides // 6)
    row, column = np.arange(rings - 1)[:, None] * sides, side[::step]
    along = np.stack((row + column, row + sides + column), axis=-1)
    return around.reshape(-1, 2), along.reshape(-1, 2)
