"""The sixteen categories of the ``shapes`` source: one function builds one random object.

Each category draws its proportions anew, and some of its parts are optional, doubled or of
several kinds, so that neighbours overlap: a stool without its ring is nearly a small table, a
mug without handle nearly a vase, a sofa a wide armchair. Lengths are metres by feel, y is up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from sa3d.data.solids import (
    Assembly,
    Solid,
    box,
    ellipsoid,
    frustum,
    moved,
    plate,
    revolve,
    tube,
    turned,
)


@dataclass(frozen=True)
class Category:
    """``parts`` are all the part names ``build`` may use."""

    parts: tuple[str, ...]
    build: Callable[[Assembly, Generator], None]


def _chance(rng: Generator, probability: float) -> bool:
    return bool(rng.random() < probability)


def _legs(out: Assembly, rng: Generator, part: str, w: float, d: float, h: float) -> None:
    """Legs of one of three kinds under a (w, d) rectangle of height h: posts, a central
    column with feet, or two side plates. One in twelve objects has lost a leg."""
    kind = rng.choice(3, p=(0.7, 0.18, 0.12))
    if kind == 0:
        thick = rng.uniform(0.02, 0.05) * max(w, d)
        splay = rng.uniform(0.0, 0.2) * min(w, d)
        corners = [(sx, sz) for sx in (-1, 1) for sz in (-1, 1)]
        if _chance(rng, 1 / 12):
            corners.pop(int(rng.integers(4)))
        round_leg = _chance(rng, 0.5)
        for sx, sz in corners:
            x, z = sx * (w / 2 - thick), sz * (d / 2 - thick)
            if round_leg:
                out.add(part, frustum((x, h, z), (x + sx * splay, 0, z + sz * splay), thick))
            else:
                out.add(part, box((x, h / 2, z), (2 * thick, h, 2 * thick)))
    elif kind == 1:
        reach = rng.uniform(0.3, 0.5) * min(w, d)
        out.add(part, frustum((0, h, 0), (0, 0, 0), rng.uniform(0.04, 0.1) * max(w, d)))
        if _chance(rng, 0.5):
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
    if _chance(rng, round_p):
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
    sides = (-1, 1) if _chance(rng, 0.85) else (int(rng.choice((-1, 1))),)
    solid_arm = _chance(rng, 0.3) or thick > 0.1
    for s in sides:
        x = s * (w / 2 - thick / 2)
        if solid_arm:
            out.add("arm", box((x, y + rise / 2, 0), (thick, rise, d)))
        else:
            out.add("arm", box((x, y + rise, 0), (thick, 0.04, d * 0.9)))
            out.add("arm", box((x, y + rise / 2, d * 0.38), (0.04, rise, 0.04)))


def _chair(out: Assembly, rng: Generator) -> None:
    w, d = rng.uniform(0.4, 0.65), rng.uniform(0.4, 0.6)
    h, thick = rng.uniform(0.35, 0.6), rng.uniform(0.03, 0.1)
    out.add("seat", _slab(rng, w, d, thick, h, 0.2))
    _legs(out, rng, "leg", w, d, h)
    _back(out, rng, w * rng.uniform(0.8, 1.0), -d / 2 + 0.03, h, rng.uniform(0.25, 0.7))
    if _chance(rng, 0.35):
        _arms(out, rng, w, d, h, rng.uniform(0.04, 0.08))


def _stool(out: Assembly, rng: Generator) -> None:
    w = rng.uniform(0.3, 0.5)
    d, h = w * rng.uniform(0.8, 1.15), rng.uniform(0.35, 0.85)
    out.add("seat", _slab(rng, w, d, rng.uniform(0.03, 0.12), h, 0.6))
    _legs(out, rng, "leg", w, d, h)
    if _chance(rng, 0.5):
        turn = np.linspace(0, 2 * np.pi, 25)
        level, radius = h * rng.uniform(0.2, 0.5), min(w, d) * 0.48
        ring = np.stack((np.cos(turn) * radius, np.full(25, level), np.sin(turn) * radius), axis=1)
        out.add("ring", tube(ring, 0.015))
    if _chance(rng, 0.25):
        _back(out, rng, w * 0.9, -d / 2 + 0.03, h, rng.uniform(0.08, 0.2))


def _table(out: Assembly, rng: Generator) -> None:
    w, d = rng.uniform(0.5, 1.7), rng.uniform(0.45, 0.95)
    h, thick = rng.uniform(0.35, 0.95), rng.uniform(0.02, 0.08)
    out.add("top", _slab(rng, w, d, thick, h, 0.3))
    _legs(out, rng, "leg", w * 0.95, d * 0.95, h)
    if _chance(rng, 0.3):
        out.add("shelf", box((0, h * rng.uniform(0.15, 0.5), 0), (w * 0.85, 0.03, d * 0.8)))
    if _chance(rng, 0.3):
        wide, tall = w * rng.uniform(0.25, 0.4), h * rng.uniform(0.2, 0.6)
        sides = (-1, 1) if _chance(rng, 0.3) else (1,)
        for s in sides:
            out.add(
                "drawer", box((s * (w * 0.44 - wide / 2), h - tall / 2, 0), (wide, tall, d * 0.8))
            )


def _bench(out: Assembly, rng: Generator) -> None:
    w, d, h = rng.uniform(0.9, 1.8), rng.uniform(0.3, 0.5), rng.uniform(0.35, 0.5)
    slats = int(rng.integers(1, 5))
    for z in (np.arange(slats) - (slats - 1) / 2) * d / slats:
        out.add("seat", box((0, h, z), (w, 0.04, d / slats * 0.85)))
    _legs(out, rng, "leg", w, d, h)
    if _chance(rng, 0.6):
        _back(out, rng, w, -d / 2, h, rng.uniform(0.25, 0.5))
    if _chance(rng, 0.35):
        _arms(out, rng, w, d, h, 0.05)


def _sofa(out: Assembly, rng: Generator) -> None:
    w, d, h = rng.uniform(0.7, 2.1), rng.uniform(0.65, 0.95), rng.uniform(0.28, 0.45)
    foot = rng.uniform(0.03, 0.14)
    seats = 1 if w < 1.0 else int(rng.integers(1, 4))
    for x in (np.arange(seats) - (seats - 1) / 2) * w / seats:
        out.add("seat", box((x, foot + h / 2, 0.05), (w / seats * 0.97, h, d)))
    tall = rng.uniform(0.25, 0.5)
    out.add("back", turned(box((0, foot + h + tall / 2, -d / 2 + 0.1), (w, tall, 0.18)), 0, -8))
    if _chance(rng, 0.85):
        _arms(out, rng, w + 0.2, d, foot + h * 0.6, rng.uniform(0.11, 0.2))
    for sx in (-1, 1):
        for sz in (-1, 1):
            out.add("foot", box((sx * w * 0.43, foot / 2, sz * d * 0.4), (0.06, foot, 0.06)))


def _bed(out: Assembly, rng: Generator) -> None:
    w, d, h = rng.uniform(0.85, 1.9), rng.uniform(1.85, 2.2), rng.uniform(0.2, 0.45)
    thick = rng.uniform(0.12, 0.28)
    out.add("frame", box((0, h - 0.08, 0), (w + 0.06, 0.12, d + 0.06)))
    out.add("mattress", box((0, h + thick / 2, 0), (w, thick, d)))
    _legs(out, rng, "frame", w, d, h)
    if _chance(rng, 0.85):
        tall = rng.uniform(0.4, 0.95)
        out.add("headboard", box((0, h + tall / 2 - 0.1, -d / 2), (w + 0.06, tall, 0.06)))
    if _chance(rng, 0.35):
        tall = rng.uniform(0.15, 0.5)
        out.add("headboard", box((0, h + tall / 2 - 0.1, d / 2), (w + 0.06, tall, 0.06)))
    pillows = int(rng.integers(0, 3))
    for x in (np.arange(pillows) - (pillows - 1) / 2) * w / max(pillows, 1):
        out.add(
            "pillow", ellipsoid((x, h + thick + 0.06, -d * 0.38), (w / pillows * 0.4, 0.09, 0.22))
        )


def _bookshelf(out: Assembly, rng: Generator) -> None:
    w, d, h = rng.uniform(0.5, 1.3), rng.uniform(0.22, 0.45), rng.uniform(0.8, 2.1)
    thick = 0.03
    for s in (-1, 1):
        out.add("side", box((s * w / 2, h / 2, 0), (thick, h, d)))
    levels = np.linspace(0.05, h, int(rng.integers(3, 7)))
    out.add("shelf", *(box((0, y, 0), (w, thick, d)) for y in levels))
    if _chance(rng, 0.6):
        out.add("back", box((0, h / 2, -d / 2), (w, h, 0.015)))
    fill = rng.uniform(0.0, 0.9)
    gap = levels[1] - levels[0]
    for y in levels[:-1]:
        if _chance(rng, fill):
            wide = w * rng.uniform(0.2, 0.9)
            x = rng.uniform(-1, 1) * (w - wide) / 2
            tall = gap * rng.uniform(0.5, 0.9)
            out.add("books", box((x, y + tall / 2, 0), (wide, tall, d * 0.7)))


def _cabinet(out: Assembly, rng: Generator) -> None:
    w, d, h = rng.uniform(0.45, 1.4), rng.uniform(0.3, 0.6), rng.uniform(0.5, 2.0)
    foot = rng.uniform(0.0, 0.15)
    out.add("body", box((0, foot + h / 2, 0), (w, h, d)))
    doors = int(rng.integers(1, 4))
    drawers = _chance(rng, 0.4)
    for i in range(doors):
        at = (i - (doors - 1) / 2) / doors
        centre = (
            (0, foot + h / 2 + at * h, d / 2 + 0.02)
            if drawers
            else (at * w, foot + h / 2, d / 2 + 0.02)
        )
        size = (w * 0.94, h / doors * 0.9, 0.03) if drawers else (w / doors * 0.92, h * 0.94, 0.03)
        out.add("door", box(centre, size))
        if _chance(rng, 0.85):
            out.add("handle", ellipsoid(np.add(centre, (0.0, 0.0, 0.04)), (0.05, 0.02, 0.03)))
    if foot > 0.05:
        for sx in (-1, 1):
            for sz in (-1, 1):
                out.add("foot", box((sx * w * 0.44, foot / 2, sz * d * 0.4), (0.06, foot, 0.06)))


def _lamp(out: Assembly, rng: Generator) -> None:
    h = rng.uniform(0.35, 1.6)
    wide = rng.uniform(0.12, 0.24)
    hanging = _chance(rng, 0.2)
    if hanging:
        out.add("base", frustum((0, h, 0), (0, h - 0.03, 0), 0.07))
        bottom = 0.0
    else:
        out.add(
            "base",
            frustum(
                (0, 0, 0), (0, rng.uniform(0.02, 0.12), 0), wide * 0.9, wide * rng.uniform(0.3, 0.9)
            ),
        )
        bottom = h
    bend = rng.uniform(0.0, 0.35) * h if _chance(rng, 0.35) else 0.0
    t = np.linspace(0, 1, 12)
    x = bend * t**3
    out.add("pole", tube(np.stack((x, t * h, np.zeros(12)), axis=1), rng.uniform(0.01, 0.03)))
    size = rng.uniform(0.12, 0.3)
    top = (bend if not hanging else 0.0, bottom, 0.0)
    if _chance(rng, 0.9):
        low, high = size * rng.uniform(0.8, 1.2), size * rng.uniform(0.3, 0.9)
        tall = size * rng.uniform(0.7, 1.6)
        profile = [(low, -tall / 2), ((low + high) / 2, 0.0), (high, tall / 2)]
        out.add("shade", moved(revolve(profile), top))
    if _chance(rng, 0.7):
        out.add("bulb", ellipsoid(top, (0.04, 0.06, 0.04)))


def _handle(x: float, low: float, high: float, reach: float, radius: float) -> Solid:
    """A bent bar beside a vessel's wall at distance x, from height low to high."""
    t = np.linspace(0, np.pi, 14)
    path = np.stack(
        (x + np.sin(t) * reach, low + (1 - np.cos(t)) / 2 * (high - low), t * 0), axis=1
    )
    return tube(path, radius)


def _mug(out: Assembly, rng: Generator) -> None:
    r, h = rng.uniform(0.3, 0.48), rng.uniform(0.55, 1.2)
    flare, belly = rng.uniform(0.8, 1.25), rng.uniform(0.9, 1.2)
    wall = 0.92
    out.add("body", revolve([(0, 0), (r, 0), (r * belly, h / 2), (r * flare, h)]))
    out.add(
        "inside",
        revolve([(0, 0.06), (r * wall, 0.06), (r * belly * wall, h / 2), (r * flare * wall, h)]),
    )
    handles = int(rng.choice(3, p=(0.15, 0.7, 0.15)))
    reach, thick = rng.uniform(0.18, 0.32), rng.uniform(0.03, 0.06)
    for i in range(handles):
        bar = _handle(r * 0.95, h * 0.2, h * 0.8, reach, thick)
        out.add("handle", turned(bar, 1, 180.0 * i))
    if _chance(rng, 0.15):
        out.add("lid", revolve([(0, h + 0.1), (r * flare * 0.6, h + 0.06), (r * flare, h)]))


def _vase(out: Assembly, rng: Generator) -> None:
    h = rng.uniform(0.7, 1.6)
    knots = [0.0, 0.3, 0.6, 0.85, 1.0]
    radii = [
        rng.uniform(0.15, 0.35),
        *rng.uniform(0.2, 0.5, 2),
        rng.uniform(0.1, 0.4),
        rng.uniform(0.15, 0.4),
    ]
    t = np.linspace(0, 1, 12)
    profile = [(float(np.interp(s, knots, radii)), float(s * h)) for s in t]
    out.add("body", revolve([(0.0, 0.0), *profile]))
    if _chance(rng, 0.6):
        rim = radii[-1]
        out.add(
            "rim",
            revolve([(rim, h), (rim * rng.uniform(1.05, 1.4), h * 1.03), (rim * 0.9, h * 1.05)]),
        )
    if _chance(rng, 0.5):
        out.add("foot", frustum((0, -0.06, 0), (0, 0.02, 0), radii[0] * 1.15))
    reach, wall = rng.uniform(0.1, 0.25), float(np.interp(0.45, knots, radii))
    for i in range(int(rng.choice(3, p=(0.55, 0.2, 0.25)))):
        out.add("handle", turned(_handle(wall * 0.9, h * 0.4, h * 0.8, reach, 0.03), 1, 180.0 * i))


def _bottle(out: Assembly, rng: Generator) -> None:
    r, h = rng.uniform(0.18, 0.35), rng.uniform(0.6, 1.2)
    neck_r, neck_h = r * rng.uniform(0.25, 0.7), rng.uniform(0.1, 0.5)
    shoulder = rng.uniform(0.05, 0.3)
    waist = rng.uniform(0.85, 1.1)
    out.add("body", revolve([(0, 0), (r, 0), (r * waist, h / 2), (r, h)]))
    out.add("shoulder", revolve([(r, h), (r * 0.8, h + shoulder * 0.6), (neck_r, h + shoulder)]))
    top = h + shoulder + neck_h
    out.add("neck", revolve([(neck_r, h + shoulder), (neck_r * rng.uniform(0.8, 1.1), top)]))
    if _chance(rng, 0.55):
        out.add("cap", frustum((0, top - 0.04, 0), (0, top + 0.06, 0), neck_r * 1.25))
    if _chance(rng, 0.15):
        out.add("handle", _handle(r * 0.9, h * 0.35, h * 0.9, rng.uniform(0.1, 0.2), 0.03))


def _wing(root: float, tip: float, span: float, sweep: float, thick: float) -> Solid:
    """A tapered plate from the body outward along +x, its leading edge swept back (-z)."""
    outline = [(0, root / 2), (span, tip / 2 - sweep), (span, -tip / 2 - sweep), (0, -root / 2)]
    return plate(outline, thick)


def _airplane(out: Assembly, rng: Generator) -> None:
    length, r = rng.uniform(1.5, 2.4), rng.uniform(0.09, 0.17)
    out.add("body", ellipsoid((0, 0, 0), (r, r * rng.uniform(0.9, 1.3), length / 2)))
    span, root = rng.uniform(0.6, 1.3), rng.uniform(0.3, 0.6)
    sweep, y = rng.uniform(-0.1, 0.6), rng.uniform(-0.6, 0.8) * r
    at = (0, y, rng.uniform(-0.1, 0.25))
    wing = turned(
        _wing(root, root * rng.uniform(0.25, 0.9), span, sweep, 0.04), 2, rng.uniform(-3, 9)
    )
    out.mirrored("wing", moved(wing, at), 0)
    if _chance(rng, 0.15):
        out.mirrored("wing", moved(wing, np.add(at, (0, 0.35, 0))), 0)
    tail = _wing(root * 0.6, root * 0.35, span * rng.uniform(0.25, 0.45), 0.1, 0.03)
    rear = -length / 2 + root * 0.4
    fin_h = rng.uniform(0.2, 0.45)
    out.add("tail", moved(turned(tail, 2, 90), (0, 0, rear)))
    out.mirrored("tail", moved(tail, (0, fin_h if _chance(rng, 0.25) else 0.0, rear)), 0)
    engine_r = rng.uniform(0.04, 0.09)
    for i in range(int(rng.integers(0, 3))):
        x = span * (0.3 + 0.28 * i)
        z = at[2] - sweep * x / span + root * 0.25
        out.mirrored(
            "engine", frustum((x, y - 0.07, z - 0.15), (x, y - 0.07, z + 0.15), engine_r), 0
        )


def _rocket(out: Assembly, rng: Generator) -> None:
    h, r = rng.uniform(1.2, 2.2), rng.uniform(0.12, 0.3)
    nose = rng.uniform(0.25, 0.7)
    out.add("body", frustum((0, 0, 0), (0, h, 0), r, r * rng.uniform(0.75, 1.0)))
    out.add("nose", revolve([(r * 0.9, h), (r * 0.65, h + nose * 0.5), (0.0, h + nose)]))
    fins = int(rng.choice((0, 2, 3, 4), p=(0.1, 0.2, 0.35, 0.35)))
    fin = turned(_wing(0.5, 0.25, rng.uniform(0.15, 0.4), rng.uniform(0.05, 0.3), 0.03), 0, -90)
    for i in range(fins):
        out.add("fin", turned(moved(fin, (r * 0.9, 0.3, 0)), 1, 360.0 * i / fins))
    if _chance(rng, 0.8):
        out.add(
            "nozzle", revolve([(r * 0.4, 0.0), (r * rng.uniform(0.5, 0.9), -rng.uniform(0.1, 0.3))])
        )
    if _chance(rng, 0.3):
        for s in (-1, 1):
            x, tall = s * r * 1.7, h * rng.uniform(0.4, 0.7)
            out.add("booster", frustum((x, 0, 0), (x, tall, 0), r * 0.55, r * 0.4))


def _car(out: Assembly, rng: Generator) -> None:
    length, w, h = rng.uniform(1.6, 2.8), rng.uniform(0.8, 1.1), rng.uniform(0.28, 0.5)
    wheel = rng.uniform(0.17, 0.3)
    out.add("body", box((0, wheel + h / 2, 0), (w, h, length)))
    cabin, roof = length * rng.uniform(0.3, 0.8), rng.uniform(0.22, 0.55)
    slope, z = rng.uniform(0.5, 1.0), rng.uniform(-0.12, 0.12) * length
    vertices, faces = box((0, 0, 0), (w * 0.92, roof, cabin))
    vertices[vertices[:, 1] > 0] *= (0.9, 1.0, slope)
    if _chance(rng, 0.9):
        out.add("cabin", moved((vertices, faces), (0, wheel + h + roof / 2, z)))
    axles = [-0.32, 0.32] if _chance(rng, 0.85) else [-0.38, -0.2, 0.32]
    half = np.array((0.08, 0.0, 0.0))
    for axle in axles:
        for s in (-1, 1):
            at = np.array((s * w * 0.44, wheel, axle * length))
            out.add("wheel", frustum(at - half, at + half, wheel))
    if _chance(rng, 0.25):
        out.add("spoiler", box((0, wheel + h + 0.15, -length * 0.46), (w * 0.9, 0.04, 0.18)))
    if _chance(rng, 0.4):
        out.add("bumper", box((0, wheel + 0.08, length * 0.51), (w, 0.12, 0.1)))


def _guitar(out: Assembly, rng: Generator) -> None:
    """Built lying in the xz plane, then stood up on its body."""
    big, small = rng.uniform(0.3, 0.42), rng.uniform(0.2, 0.32)
    thick, waist = rng.uniform(0.06, 0.2), rng.uniform(0.25, 0.45)
    angle = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    circle = np.stack((np.cos(angle), np.sin(angle)), axis=1)
    lobes = [plate(circle * r + (0.0, z), thick) for r, z in ((big, -0.25), (small, waist - 0.15))]
    parts: list[tuple[str, Solid]] = [("body", lobe) for lobe in lobes]
    length = rng.uniform(0.7, 1.1)
    end = waist + length
    parts.append(("neck", box((0, thick / 2, waist + length / 2), (0.08, 0.05, length))))
    wide = rng.uniform(0.12, 0.2)
    parts.append(("head", box((0, thick / 2 - 0.02, end + 0.12), (wide, 0.04, 0.26))))
    for z in end + np.linspace(0.04, 0.2, int(rng.integers(0, 4))):
        parts.append(("peg", frustum((-wide, thick / 2, z), (wide, thick / 2, z), 0.015)))
    if _chance(rng, 0.8):
        parts.append(("bridge", box((0, thick / 2 + 0.02, -0.3), (0.25, 0.04, 0.06))))
    for part, solid in parts:
        out.add(part, turned(solid, 0, -90.0))


CATEGORIES: dict[str, Category] = {
    "airplane": Category(("body", "wing", "tail", "engine"), _airplane),
    "bed": Category(("frame", "mattress", "headboard", "pillow"), _bed),
    "bench": Category(("seat", "leg", "back", "arm"), _bench),
    "bookshelf": Category(("side", "shelf", "back", "books"), _bookshelf),
    "bottle": Category(("body", "shoulder", "neck", "cap", "handle"), _bottle),
    "cabinet": Category(("body", "door", "handle", "foot"), _cabinet),
    "car": Category(("body", "cabin", "wheel", "spoiler", "bumper"), _car),
    "chair": Category(("seat", "leg", "back", "arm"), _chair),
    "guitar": Category(("body", "neck", "head", "peg", "bridge"), _guitar),
    "lamp": Category(("base", "pole", "shade", "bulb"), _lamp),
    "mug": Category(("body", "inside", "handle", "lid"), _mug),
    "rocket": Category(("body", "nose", "fin", "nozzle", "booster"), _rocket),
    "sofa": Category(("seat", "back", "arm", "foot"), _sofa),
    "stool": Category(("seat", "leg", "ring", "back"), _stool),
    "table": Category(("top", "leg", "shelf", "drawer"), _table),
    "vase": Category(("body", "rim", "foot", "handle"), _vase),
}
