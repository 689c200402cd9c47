"""The furniture among the categories of the ``shapes`` source: seats, tables, beds, cupboards.

They share legs, backs and arms, so that they resemble each other. Lengths are metres by feel.
"""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from sa3d.data.sources.shapes.solids import (
    Assembly,
    Solid,
    box,
    ellipsoid,
    frustum,
    moved,
    plate,
    tube,
    turned,
)


def chance(rng: Generator, probability: float) -> bool:
    """True with ``probability``."""
    return bool(rng.random() < probability)


def _legs(out: Assembly, rng: Generator, part: str, w: float, d: float, h: float) -> None:
    """Legs of one of three kinds under a (w, d) rectangle of height h: posts, a central
    column with feet, or two side plates. One in twelve objects has lost a leg."""
    kind = rng.choice(3, p=(0.7, 0.18, 0.12))
    if kind == 0:
        thick = rng.uniform(0.02, 0.05) * max(w, d)
        splay = rng.uniform(0.0, 0.2) * min(w, d)
        corners = [(sx, sz) for sx in (-1, 1) for sz in (-1, 1)]
        if chance(rng, 1 / 12):
            corners.pop(int(rng.integers(4)))
        round_leg = chance(rng, 0.5)
        for sx, sz in corners:
            x, z = sx * (w / 2 - thick), sz * (d / 2 - thick)
            if round_leg:
                out.add(part, frustum((x, h, z), (x + sx * splay, 0, z + sz * splay), thick))
            else:
                out.add(part, box((x, h / 2, z), (2 * thick, h, 2 * thick)))
    elif kind == 1:
        reach = rng.uniform(0.3, 0.5) * min(w, d)
        out.add(part, frustum((0, h, 0), (0, 0, 0), rng.uniform(0.04, 0.1) * max(w, d)))
        if chance(rng, 0.5):
            out.add(part, frustum((0, 0, 0), (0, 0.05 * h, 0), reach, reach * 0.9))
        else:
            spokes = int(rng.integers(3, 6))
            for turn in np.arange(spokes) * 2 * np.pi / spokes:
                end = (np.cos(turn) * reach, 0.0, np.sin(turn) * reach)
                out.add(part, frustum((0, 0.12 * h, 0), end, 0.03 * max(w, d)))
    else:
        thick = rng.uniform(0.03, 0.06) * w
        for sx in (-1, 1):
            out.add(part, box((sx * (w / 2 - thick / 2), h / 2, 0), (thick, h, d * 0.9)))


def _slab(rng: Generator, w: float, d: float, thick: float, y: float, round_p: float) -> Solid:
    """A rectangular or elliptic horizontal slab, its middle at height y."""
    if chance(rng, round_p):
        turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
        outline = [(w / 2 * np.cos(t), d / 2 * np.sin(t)) for t in turn]
        return moved(plate(outline, thick), (0, y, 0))
    return box((0, y, 0), (w, thick, d))


def _back(out: Assembly, rng: Generator, w: float, z: float, y: float, h: float) -> None:
    """The back of a seat: panel, bars or a frame of slats, leaning a little."""
    lean = rng.uniform(-2, 18)
    thick = rng.uniform(0.03, 0.06)
    pivot = (0.0, y, z)
    kind = rng.integers(3)
    if kind == 0:
        pieces = [box((0, y + h / 2, z), (w, h, thick))]
    elif kind == 1:
        xs = np.linspace(-w / 2 + thick, w / 2 - thick, int(rng.integers(3, 7)))
        pieces = [box((x, y + h / 2, z), (thick, h, thick)) for x in xs]
        pieces.append(box((0, y + h, z), (w, 0.12 * h, thick)))
    else:
        ys = np.linspace(0.3, 0.95, int(rng.integers(2, 5))) * h + y
        pieces = [box((0, level, z), (w, 0.13 * h, thick)) for level in ys]
        pieces += [box((s * w / 2, y + h / 2, z), (thick, h, thick)) for s in (-1, 1)]
    out.add("back", *(turned(piece, 0, -lean, pivot) for piece in pieces))


def _arms(out: Assembly, rng: Generator, w: float, d: float, y: float, thick: float) -> None:
    """Arm rests on both sides, or on one."""
    rise = rng.uniform(0.15, 0.28)
    sides = (-1, 1) if chance(rng, 0.85) else (int(rng.choice((-1, 1))),)
    solid_arm = chance(rng, 0.3) or thick > 0.1
    for s in sides:
        x = s * (w / 2 - thick / 2)
        if solid_arm:
            out.add("arm", box((x, y + rise / 2, 0), (thick, rise, d)))
        else:
            out.add("arm", box((x, y + rise, 0), (thick, 0.04, d * 0.9)))
            out.add("arm", box((x, y + rise / 2, d * 0.38), (0.04, rise, 0.04)))


def chair(out: Assembly, rng: Generator) -> None:
    """A seat on legs with a back, a third with arms."""
    w, d = rng.uniform(0.4, 0.65), rng.uniform(0.4, 0.6)
    h, thick = rng.uniform(0.35, 0.6), rng.uniform(0.03, 0.1)
    out.add("seat", _slab(rng, w, d, thick, h, 0.2))
    _legs(out, rng, "leg", w, d, h)
    _back(out, rng, w * rng.uniform(0.8, 1.0), -d / 2 + 0.03, h, rng.uniform(0.25, 0.7))
    if chance(rng, 0.35):
        _arms(out, rng, w, d, h, rng.uniform(0.04, 0.08))


def stool(out: Assembly, rng: Generator) -> None:
    """A high, mostly round seat; at times a foot ring or a stub of a back."""
    w = rng.uniform(0.3, 0.5)
    d, h = w * rng.uniform(0.8, 1.15), rng.uniform(0.35, 0.85)
    out.add("seat", _slab(rng, w, d, rng.uniform(0.03, 0.12), h, 0.6))
    _legs(out, rng, "leg", w, d, h)
    if chance(rng, 0.5):
        turn = np.linspace(0, 2 * np.pi, 25)
        level, radius = h * rng.uniform(0.2, 0.5), min(w, d) * 0.48
        ring = np.stack((np.cos(turn) * radius, np.full(25, level), np.sin(turn) * radius), axis=1)
        out.add("ring", tube(ring, 0.015))
    if chance(rng, 0.25):
        _back(out, rng, w * 0.9, -d / 2 + 0.03, h, rng.uniform(0.08, 0.2))


def table(out: Assembly, rng: Generator) -> None:
    """A top on legs; at times a shelf below or one or two drawers."""
    w, d = rng.uniform(0.5, 1.7), rng.uniform(0.45, 0.95)
    h, thick = rng.uniform(0.35, 0.95), rng.uniform(0.02, 0.08)
    out.add("top", _slab(rng, w, d, thick, h, 0.3))
    _legs(out, rng, "leg", w * 0.95, d * 0.95, h)
    if chance(rng, 0.3):
        out.add("shelf", box((0, h * rng.uniform(0.15, 0.5), 0), (w * 0.85, 0.03, d * 0.8)))
    if chance(rng, 0.3):
        wide, tall = w * rng.uniform(0.25, 0.4), h * rng.uniform(0.2, 0.6)
        sides = (-1, 1) if chance(rng, 0.3) else (1,)
        for s in sides:
            out.add(
                "drawer", box((s * (w * 0.44 - wide / 2), h - tall / 2, 0), (wide, tall, d * 0.8))
            )


def bench(out: Assembly, rng: Generator) -> None:
    """A long slatted seat; back and arms optional."""
    w, d, h = rng.uniform(0.9, 1.8), rng.uniform(0.3, 0.5), rng.uniform(0.35, 0.5)
    slats = int(rng.integers(1, 5))
    for z in (np.arange(slats) - (slats - 1) / 2) * d / slats:
        out.add("seat", box((0, h, z), (w, 0.04, d / slats * 0.85)))
    _legs(out, rng, "leg", w, d, h)
    if chance(rng, 0.6):
        _back(out, rng, w, -d / 2, h, rng.uniform(0.25, 0.5))
    if chance(rng, 0.35):
        _arms(out, rng, w, d, h, 0.05)


def sofa(out: Assembly, rng: Generator) -> None:
    """One to three cushions between thick arms, low feet."""
    w, d, h = rng.uniform(0.7, 2.1), rng.uniform(0.65, 0.95), rng.uniform(0.28, 0.45)
    foot = rng.uniform(0.03, 0.14)
    seats = 1 if w < 1.0 else int(rng.integers(1, 4))
    for x in (np.arange(seats) - (seats - 1) / 2) * w / seats:
        out.add("seat", box((x, foot + h / 2, 0.05), (w / seats * 0.97, h, d)))
    tall = rng.uniform(0.25, 0.5)
    out.add("back", turned(box((0, foot + h + tall / 2, -d / 2 + 0.1), (w, tall, 0.18)), 0, -8))
    if chance(rng, 0.85):
        _arms(out, rng, w + 0.2, d, foot + h * 0.6, rng.uniform(0.11, 0.2))
    for sx in (-1, 1):
        for sz in (-1, 1):
            out.add("foot", box((sx * w * 0.43, foot / 2, sz * d * 0.4), (0.06, foot, 0.06)))


def bed(out: Assembly, rng: Generator) -> None:
    """A mattress on a frame; one or two headboards, up to two pillows."""
    w, d, h = rng.uniform(0.85, 1.9), rng.uniform(1.85, 2.2), rng.uniform(0.2, 0.45)
    thick = rng.uniform(0.12, 0.28)
    out.add("frame", box((0, h - 0.08, 0), (w + 0.06, 0.12, d + 0.06)))
    out.add("mattress", box((0, h + thick / 2, 0), (w, thick, d)))
    _legs(out, rng, "frame", w, d, h)
    if chance(rng, 0.85):
        tall = rng.uniform(0.4, 0.95)
        out.add("headboard", box((0, h + tall / 2 - 0.1, -d / 2), (w + 0.06, tall, 0.06)))
    if chance(rng, 0.35):
        tall = rng.uniform(0.15, 0.5)
        out.add("headboard", box((0, h + tall / 2 - 0.1, d / 2), (w + 0.06, tall, 0.06)))
    pillows = int(rng.integers(0, 3))
    for x in (np.arange(pillows) - (pillows - 1) / 2) * w / max(pillows, 1):
        out.add(
            "pillow", ellipsoid((x, h + thick + 0.06, -d * 0.38), (w / pillows * 0.4, 0.09, 0.22))
        )


def bookshelf(out: Assembly, rng: Generator) -> None:
    """Boards between sides, partly filled with books, with or without a back."""
    w, d, h = rng.uniform(0.5, 1.3), rng.uniform(0.22, 0.45), rng.uniform(0.8, 2.1)
    thick = 0.03
    for s in (-1, 1):
        out.add("side", box((s * w / 2, h / 2, 0), (thick, h, d)))
    levels = np.linspace(0.05, h, int(rng.integers(3, 7)))
    out.add("shelf", *(box((0, y, 0), (w, thick, d)) for y in levels))
    if chance(rng, 0.6):
        out.add("back", box((0, h / 2, -d / 2), (w, h, 0.015)))
    fill = rng.uniform(0.0, 0.9)
    gap = levels[1] - levels[0]
    for y in levels[:-1]:
        if chance(rng, fill):
            wide = w * rng.uniform(0.2, 0.9)
            x = rng.uniform(-1, 1) * (w - wide) / 2
            tall = gap * rng.uniform(0.5, 0.9)
            out.add("books", box((x, y + tall / 2, 0), (wide, tall, d * 0.7)))


def cabinet(out: Assembly, rng: Generator) -> None:
    """A box with one to three doors or drawer fronts, most with a handle."""
    w, d, h = rng.uniform(0.45, 1.4), rng.uniform(0.3, 0.6), rng.uniform(0.5, 2.0)
    foot = rng.uniform(0.0, 0.15)
    out.add("body", box((0, foot + h / 2, 0), (w, h, d)))
    doors = int(rng.integers(1, 4))
    drawers = chance(rng, 0.4)
    for i in range(doors):
        at = (i - (doors - 1) / 2) / doors
        centre = (
            (0, foot + h / 2 + at * h, d / 2 + 0.02)
            if drawers
            else (at * w, foot + h / 2, d / 2 + 0.02)
        )
        size = (w * 0.94, h / doors * 0.9, 0.03) if drawers else (w / doors * 0.92, h * 0.94, 0.03)
        out.add("door", box(centre, size))
        if chance(rng, 0.85):
            out.add("handle", ellipsoid(np.add(centre, (0.0, 0.0, 0.04)), (0.05, 0.02, 0.03)))
    if foot > 0.05:
        for sx in (-1, 1):
            for sz in (-1, 1):
                out.add("foot", box((sx * w * 0.44, foot / 2, sz * d * 0.4), (0.06, foot, 0.06)))
