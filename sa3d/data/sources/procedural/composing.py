"""How solids are put together: which, how large, where, and which of them cut."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.random import Generator

from sa3d.data.sources.procedural.settings import ProceduralSource
from sa3d.data.sources.procedural.solids import Array, Solid, random_solid

Joining = Literal["collage", "union", "intersection", "difference", "wireframe"]
JOININGS: tuple[Joining, ...] = ("collage", "union", "intersection", "difference", "wireframe")

_MOST_COPIES = 7


@dataclass(frozen=True)
class Recipe:
    """What is decided of a cloud before any of its geometry; see the settings for the meaning."""

    joining: Joining
    primitives: int
    repeats: bool
    cut: bool
    partial_view: bool
    density: bool
    dents: bool
    displacement: bool
    deformation: bool
    noise: bool


@dataclass(frozen=True)
class Composition:
    """Solids and how their surfaces become one.

    Attributes:
        solids: all of them; the last ``cutters`` are cut away from the others.
        joining: ``collage``: every surface as it is; ``union``: without what lies inside another
            solid; ``intersection``: of the first two, united with the others; ``difference``:
            union without the cutters; ``wireframe``: edges alone.
        cutters: how many are cut away.
    """

    solids: tuple[Solid, ...]
    joining: Joining
    cutters: int = 0


def draw_recipe(source: ProceduralSource, rng: Generator) -> Recipe:
    """The recipe of a cloud, from the first numbers of its stream."""
    u = rng.random(10)
    ways = (source.union, source.intersection, source.difference, source.wireframe)
    joining = "collage"
    for name, end in zip(JOININGS[1:], np.cumsum(ways), strict=True):
        if u[0] < end:
            joining = name
            break
    count = 1 + int(u[1] * source.primitives)
    return Recipe(
        joining,  # type: ignore[arg-type]  # one of JOININGS
        max(count, 2) if joining == "intersection" or u[2] < source.repeats else count,
        *(
            bool(value < share)
            for value, share in zip(
                u[2:],
                (
                    source.repeats,
                    source.cut,
                    source.partial_view,
                    source.density,
                    source.dents,
                    source.displacement,
                    source.deformation,
                    source.noise,
                ),
                strict=True,
            )
        ),
    )


def compose(recipe: Recipe, rng: Generator) -> Composition:
    """Solids of a recipe. Intersecting solids overlap at least in one point of one's middle."""
    upright = rng.random() < 0.7  # axes of all solids are parallel
    meets = recipe.joining == "intersection"
    solids: list[Solid] = []
    for number in range(recipe.primitives):
        closed = meets and number < 2
        solid = _sized(random_solid(rng, closed=closed), rng, upright, massive=closed)
        if number:
            solid = _within(solids, solid, rng) if closed else _placed(solids, solid, rng)
        solids.append(solid)
    if recipe.repeats:
        repeated = solids[-1]
        if meets:  # the intersecting pair stays one pair
            repeated = _placed(solids, _sized(random_solid(rng), rng, upright), rng)
            solids.append(repeated)
        solids += _copies(repeated, solids[:-1], rng)
    cutters = int(rng.integers(1, 4)) if recipe.joining == "difference" else 0
    bodies = tuple(solids)
    for _ in range(cutters):
        cutter = _sized(random_solid(rng, closed=True), rng, upright, massive=True)
        solids.append(_overlapping(bodies, cutter, rng))
    return Composition(tuple(solids), recipe.joining, cutters)


def random_rotation(rng: Generator) -> Array:
    """A rotation, all equally likely (a unit quaternion of normal numbers; Shoemake 1992)."""
    q = rng.standard_normal(4)
    w, x, y, z = q / np.sqrt(q @ q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _sized(solid: Solid, rng: Generator, upright: bool, *, massive: bool = False) -> Solid:
    """The solid with random proportions and turned; ``massive``: neither flat nor thin."""
    size = np.full(3, np.exp(rng.uniform(np.log(0.25), 0.0)))
    way = rng.random()
    if massive:
        size *= np.exp(rng.uniform(-0.5, 0.5, 3))
    elif way < 0.4:
        size *= np.exp(rng.uniform(-1.2, 0.4, 3))
    elif way < 0.6:  # a plate
        size[int(rng.integers(3))] *= rng.uniform(0.04, 0.25)
    elif way < 0.8:  # a bar
        size *= rng.uniform(0.05, 0.3)
        size[int(rng.integers(3))] *= rng.uniform(4.0, 12.0)
    straight = upright and rng.random() < 0.9
    turn = np.eye(3)[rng.permutation(3)] if straight else random_rotation(rng)
    matrix = turn * size
    if rng.random() < 0.1:
        shear = np.eye(3)
        shear[0, 1:] = rng.uniform(-0.6, 0.6, 2)
        matrix = matrix @ shear
    return solid.moved(matrix, np.zeros(3))


def _placed(solids: list[Solid], solid: Solid, rng: Generator) -> Solid:
    """The solid beside or partly within an earlier one."""
    before = solids[int(rng.integers(len(solids)))]
    way = rng.random()
    if way < 0.4:  # stacked, middles in one line
        axis, side = int(rng.integers(3)), 1.0 if rng.random() < 0.5 else -1.0
        shift = before.centre.copy()
        reach = np.abs(before.vertices[:, axis] - before.centre[axis]).max()
        own = np.abs(solid.vertices[:, axis]).max()
        shift[axis] += side * (reach + own * rng.uniform(0.6, 1.0))
    elif way < 0.85:  # held by a point of its surface
        shift = _at_surface(before, solid, rng, rng.uniform(0.2, 1.0))
    else:
        shift = rng.normal(0.0, 0.6, 3)
    return solid.moved(np.eye(3), shift)


def _at_surface(before: Solid, solid: Solid, rng: Generator, out: float) -> Array:
    """The shift that brings a point of ``solid`` to one of ``before``: with ``out`` 1 a vertex,
    with 0 the middle."""
    anchor = before.vertices[int(rng.integers(len(before.vertices)))]
    own = solid.vertices[int(rng.integers(len(solid.vertices)))]
    shift: Array = anchor - out * own
    return shift


def _overlapping(bodies: tuple[Solid, ...], cutter: Solid, rng: Generator) -> Solid:
    """A cutter around a point of a body's surface."""
    body = bodies[int(rng.integers(len(bodies)))]
    size = np.abs(body.vertices - body.centre).max()
    cutter = cutter.moved(
        np.eye(3) * (size * rng.uniform(0.35, 0.9) / np.abs(cutter.vertices).max()), np.zeros(3)
    )
    return cutter.moved(np.eye(3), _at_surface(body, cutter, rng, rng.uniform(0.0, 0.6)))


def _within(solids: list[Solid], solid: Solid, rng: Generator) -> Solid:
    """The solid around a point near the middle of the first one."""
    first = solids[0]
    scale = np.abs(first.vertices).max() / np.abs(solid.vertices).max() * rng.uniform(0.6, 1.2)
    return solid.moved(np.eye(3) * scale, first.matrix @ rng.uniform(-0.4, 0.4, 3))


def _copies(solid: Solid, others: Sequence[Solid], rng: Generator) -> list[Solid]:
    """Further copies of a solid: in a row along the others, around an axis, or one mirrored."""
    axis, way = int(rng.integers(3)), rng.random()
    if way < 0.45:
        width = 2.0 * np.abs(solid.vertices - solid.centre).max(0)
        extent = np.ptp(np.concatenate([each.vertices for each in others])[:, axis])
        # a sheet has no width across itself
        step = max(width[axis], 0.1 * width.max()) * rng.uniform(1.1, 2.0)
        count = int(np.clip(rng.uniform(0.5, 1.2) * extent / step, 1, _MOST_COPIES))
        first = int(rng.integers(count + 1))  # so many of them lie on the other side
        places = [i for i in range(-first, count - first + 1) if i]
        return [solid.moved(np.eye(3), np.eye(3)[axis] * (step * i)) for i in places]
    if way < 0.75:
        angles = 2.0 * np.pi * np.arange(1, count := int(rng.integers(3, 9))) / count
        return [solid.moved(_turn(axis, angle), np.zeros(3)) for angle in angles]
    flip = np.eye(3)
    flip[axis, axis] = -1.0
    return [solid.moved(flip, np.zeros(3))]


def _turn(axis: int, angle: float) -> Array:
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn = np.eye(3)
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn
